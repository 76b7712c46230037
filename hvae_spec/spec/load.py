"""YAML text -> validated experiment. Every mistake is reported at once, as file:line:column with the offending line.

How many images there are is asked of a function that the caller passes: `hvae_spec.reading` passes the one that looks
at the files.
"""

import copy
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hvae_spec import extensions
from hvae_spec.errors import Place, Problem, SpecError, UserError, as_machine_error, shorten
from hvae_spec.spec.base import LARGEST_COUNT, Loc
from hvae_spec.spec.characters import at_look_alike
from hvae_spec.spec.check import check
from hvae_spec.spec.consistency import CountImages
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.fields import choice_at, choices_with_settings
from hvae_spec.spec.grid import Cell, Member, gives_nothing, parse_path
from hvae_spec.spec.merging import drop_other_forms, twice
from hvae_spec.spec.messages import problems_of
from hvae_spec.spec.yaml import Node, parse, read_text

CHOICES = choices_with_settings(Experiment)
WHOLE = {*CHOICES, ("grid", "variants"), ("grid", "axes")}
"""Mappings that a spec built on another replaces whole; all others merge key by key."""
MAX_BASES = 20
EXTENSIONS = "extensions"
OF_THE_FILE = ("base", "grids", EXTENSIONS)
"""Keys that name other files, which no profile and no override sets."""


@dataclass(frozen=True)
class GridReading:
    """A grid that has been read: the experiment and its resolved cells."""

    experiment: Experiment
    cells: list[Cell]

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    @cached_property
    def members(self) -> list[Member]:
        """Every member of the grid, in the order depth, variant, axes, seed."""
        return [member for cell in self.cells for member in cell.members]


@dataclass(frozen=True)
class Reading:
    """A spec file that has been read: its grid, or the grids that it names (see `hvae_spec.spec.grids`)."""

    name: str
    grids: tuple[GridReading, ...]
    """In the order of the file; most files have one."""

    @property
    def experiment(self) -> Experiment:
        """The experiment of a file with one grid.

        Raises:
            UserError: the file names several grids.

        """
        if len(self.grids) > 1:
            names = ", ".join(grid.name for grid in self.grids)
            raise UserError(
                f"{self.name}: names several grids ({names}), each with a spec of its own: read their files"
            )
        return self.grids[0].experiment

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of every grid. Cells of different grids may have members in common."""
        return [cell for grid in self.grids for cell in grid.cells]

    @cached_property
    def members(self) -> list[Member]:
        """Every member, grid by grid, in the order depth, variant, axes, seed. One that several grids have is here
        once, with the labels of the first of them.
        """
        if len(self.grids) == 1:
            return self.grids[0].members
        union: dict[str, Member] = {}
        for grid in self.grids:
            for member in grid.members:
                union.setdefault(member.digests.evaluation, member)
        return list(union.values())


def reads(
    text: str,
    source: str,
    overrides: Sequence[str] = (),
    profile: str | None = None,
    *,
    count_images: CountImages,
) -> Reading:
    """The grid of a spec that is given as text (without `base` and `grids`).

    Args:
        text: the spec.
        source: what places call it.
        overrides: `dotted.path=value` strings, the value in YAML.
        profile: one of the spec's `profiles`, applied before the overrides.
        count_images: counts the images that a member's data set has.

    Raises:
        SpecError: with every problem of the text.

    """
    tree, problems = parse(text, source)
    if isinstance(tree.value, dict) and "grids" in tree.value:
        message = "`grids` works in a file only"
        raise SpecError([*problems, Problem("invalid", tree.keys["grids"], message, "the whole spec of one grid")])
    if isinstance(tree.value, dict) and tree.value.pop("base", None) is not None:
        problems.append(Problem("invalid", tree.keys["base"], "`base` works in a file only", "the whole spec"))
    _anchor_extensions(tree, Path())
    with_overrides(tree, overrides, profile, problems)
    return validate(tree, problems, count_images=count_images)


def parse_file(path: Path, problems: list[Problem]) -> Node:
    """The tree of a file as it stands, without what it builds on. Its problems are added to `problems`.

    Raises:
        SpecError: it cannot be read.

    """
    tree, found = parse(read_text(path), str(path))
    problems += [*found, *twice(tree)]
    _anchor(tree, path.parent)
    _anchor_extensions(tree, path.parent)
    return tree


def with_overrides(tree: Node, overrides: Sequence[str], profile: str | None, problems: list[Problem]) -> None:
    """Apply a profile to the tree of a spec, and then overrides. Their problems are added to `problems`.

    Raises:
        SpecError: the profile cannot be applied.

    """
    if isinstance(tree.value, dict):
        if profile is not None:
            _apply_profile(tree, profile, problems)
        for text in overrides:
            try:
                _override(tree, text, problems)
            except SpecError as error:
                problems += error.problems


def with_bases(tree: Node, path: Path, problems: list[Problem], above: tuple[Path, ...] = ()) -> Node:
    """The tree of the file at a path merged over that of the file it builds on.

    Raises:
        SpecError: there is no such file, or it cannot be built on.

    """
    base = tree.value.pop("base", None) if isinstance(tree.value, dict) else None
    if base is None:
        return tree
    if base.place in _told(problems):
        raise SpecError(problems)
    try:
        target = named_file(path, base, "`base`")
    except SpecError as error:
        raise SpecError([*problems, *error.problems]) from None
    if len(above) >= MAX_BASES or target.resolve() in {other.resolve() for other in (*above, path)}:
        place, message = base.place, f"{base.value} builds on itself, or on too many others"
        raise SpecError([*problems, Problem("inconsistent", place, message, "a base that ends somewhere")])
    below = parse_file(target, problems)
    if isinstance(below.value, dict) and "grids" in below.value:
        message = f"{base.value} names several grids, and none of its own"
        raise SpecError([*problems, Problem("invalid", base.place, message, "the spec of one grid")])
    return _merge(with_bases(below, target, problems, (*above, path)), tree, ())


def named_file(path: Path, node: Node, what: str, content: str = "a YAML spec") -> Path:
    """The file that a value of the spec at `path` names, relative to that spec.

    Args:
        path: the spec.
        node: the value.
        what: what messages call it.
        content: what the file holds.

    Raises:
        SpecError: it is no name of a file, or there is none of that name.
        MachineError: the system does not let it be seen.

    """

    def fail(message: str, expected: str) -> SpecError:
        return SpecError([Problem("invalid", node.place, message, expected)])

    if not isinstance(node.value, str) or not node.value:
        raise fail(f"{what} must be a file name", "a path relative to this file")
    target = path.parent / os.path.expanduser(node.value)
    try:
        is_folder = stat.S_ISDIR(target.resolve().stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:
        machine = as_machine_error(target, error)
        raise machine or fail(f"no such file: {target}", _file_remedy(node.value)) from None
    if is_folder:
        raise fail(f"a folder, not a file: {target}", content)
    return target


def _file_remedy(written: str) -> str:
    """What is expected in place of the name of a spec that is not there."""
    if "://" in written:
        return "a file on this machine; addresses are not followed"
    if "$" in written or re.search("%[A-Za-z_]+%", written):
        return "a path without variables of the shell, which are not replaced here"
    if "\\" in written:
        return "a path with / between folders"
    if written.startswith("~") and os.path.expanduser(written) == written:
        return (
            f"a path relative to this file, or in the home folder of a user ({written.partition('/')[0]} has none here)"
        )
    return "a path relative to this file, or an absolute one"


def _anchor(node: Node, folder: Path, key: str = "") -> None:
    """Take the file of a user's own images from the folder of the spec that names it, not from the working folder."""
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            _anchor(child, folder, str(name))
    elif isinstance(node.value, list):
        for child in node.value:
            _anchor(child, folder, key)
    elif (key == "file" or key.endswith("own.file")) and isinstance(node.value, str) and node.value:
        node.value = os.path.join(folder, os.path.expanduser(node.value))


def _anchor_extensions(tree: Node, folder: Path) -> None:
    """Take extensions from the folder of the spec that names them, too."""
    named = tree.child(EXTENSIONS)
    for node in named.value if named is not None and isinstance(named.value, list) else ():
        if isinstance(node.value, str) and node.value:
            node.value = os.path.join(folder, os.path.expanduser(node.value))


def _run_extensions(tree: Node) -> None:
    """Run the files that a spec names under `extensions`, so that their parts are there when the rest is validated.

    Raises:
        SpecError: there is no such file, it cannot be read as a Python file, or something goes wrong in it.

    """
    named = tree.child(EXTENSIONS)
    if named is None or named.value is None:
        return
    if not isinstance(named.value, list):
        message = f"{EXTENSIONS}: a list is needed"
        raise SpecError([Problem("invalid", named.place, message, "[my_parts.py], files relative to this one")])
    found, problems = [], []
    for node in named.value:
        try:
            target = named_file(Path(), node, "an extension", "a Python file")
            found.append(extensions.read(target))
        except SpecError as error:
            problems += error.problems
        except OSError as error:
            machine = as_machine_error(node.value, error)
            if machine is not None:
                raise machine from None
            message = f"{node.value}: cannot be read ({error.strerror})"
            problems.append(Problem("invalid", node.place, message, "a Python file"))
    if problems:
        raise SpecError(problems)
    named.value = [Node(str(one.path), node.place) for one, node in zip(found, named.value, strict=True)]
    extensions.run(found)


def _merge(base: Node, child: Node, path: Loc) -> Node:
    """The child's values over the base's. A null in the child drops what the base has there, and its extensions come
    after those of the base.
    """
    if path == (EXTENSIONS,) and isinstance(base.value, list) and isinstance(child.value, list):
        there = [node.value for node in base.value]
        return Node([*base.value, *(node for node in child.value if node.value not in there)], child.place)
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)) or path in WHOLE:
        return child
    merged = Node(dict(base.value), child.place, dict(base.keys))
    drop_other_forms(merged, path, child.value)
    for key, value in child.value.items():
        merged.value[key] = _merge(merged.value[key], value, (*path, key)) if key in merged.value else value
    merged.keys.update(child.keys)
    return merged


def _apply_profile(tree: Node, name: str, problems: list[Problem]) -> None:
    """Set what a profile of the spec says, and add its name to the experiment's.

    Raises:
        SpecError: there is no such profile, or it is not a mapping.

    """
    profiles = tree.value.get("profiles")
    there = profiles.value if profiles is not None and isinstance(profiles.value, dict) else {}
    settings = there.get(name)
    if settings is None or not isinstance(settings.value, dict):
        choices = "one of " + ", ".join(map(str, there)) if there else "no --profile: the spec has none"
        place = Place(f"--profile {shorten(repr(name), 100)}", 1, 1, name)
        raise SpecError([*problems, Problem("invalid", place, f"the spec has no profile {name!r}", choices)])
    given = [path for path, value in settings.value.items() if isinstance(path, str) and value.value is not None]
    for path, value in settings.value.items():
        place = settings.keys[path]

        def fail(message: str, expected: str, place: Place = place) -> SpecError:
            return SpecError([*problems, Problem("invalid", place, message, expected)])

        words = path.split(".") if isinstance(path, str) else [""]
        if "" in words or words[0] in (*OF_THE_FILE, "profiles"):
            raise fail("a profile's keys are dotted paths into the spec", "path.to.field: value")
        if value.value is not None or not gives_nothing(path, given):
            _set(tree, path, value, place, fail)
    if isinstance(tree.value.get("name"), Node) and isinstance(tree.value["name"].value, str):
        tree.value["name"] = Node(f"{tree.value['name'].value}-{name}", tree.value["name"].place)


def _override(tree: Node, text: str, problems: list[Problem]) -> None:
    """Set one `dotted.path=value` in the tree. The path's existence is checked with everything else, on validation."""
    source = f"--set {shorten(repr(text), 100)}"
    dotted, equals, value_text = text.partition("=")
    place = Place(source, 1, 1, text)

    def fail(message: str, expected: str) -> SpecError:
        return SpecError([Problem("invalid", place, message, expected)])

    path = dotted.strip()
    if not equals or not path or not path.isprintable() or "" in path.split("."):
        message = f"an override without a {'path' if equals else 'value'}"
        raise SpecError([at_look_alike(Problem("invalid", place, message, "path.to.field=value"), dotted)])
    if (whole := path.partition(".")[0]) in OF_THE_FILE:
        raise fail(f"`{whole}` cannot be overridden", "a field of the spec")
    value, found = parse(" " * (len(dotted) + 1) + value_text, source, shown=text)
    problems += found
    _set(tree, path, value, place, fail)


def _set(tree: Node, path: str, value: Node, place: Place, fail: Callable[[str, str], SpecError]) -> None:
    """Set a dotted path of the tree. `fail` makes the error for a list that has no such entry."""
    node, rest = tree, path
    done: Loc = ()
    while True:
        key = _next_key(node, done, rest)
        rest = rest[len(key) + 1 :]
        if isinstance(node.value, list):
            index = parse_path(key)[0]
            if not isinstance(index, int) or index >= len(node.value):
                there = ".".join(map(str, done))
                raise fail(f"no entry {key!r} in the list {there}", f"an index from 0 to {len(node.value) - 1}")
            if not rest:
                node.value[index] = value
                return
            node, done = node.value[index], (*done, index)
            if not isinstance(node.value, dict | list):
                node.value, node.place = {}, place
            continue
        drop_other_forms(node, done, [key])
        done = (*done, key)
        if not rest:
            node.value[key], node.keys[key] = value, place
            return
        child = node.value.get(key)
        chosen = choice_at(Experiment, done)
        is_other_choice = chosen is not None and child is not None and _next_key(child, done, rest) not in child.value
        if child is None or not isinstance(child.value, dict | list) or is_other_choice:
            node.value[key] = Node({}, place)
            node.keys[key] = place
        node = node.value[key]


def _next_key(node: Node, path: Loc, rest: str) -> str:
    """The first key of a dotted path. Keys may hold dots themselves: an axis over values and a setting of a variant or
    a level are whole dotted paths, and the name of a variant or a level is the longest one that is there.
    """
    is_level = path[:2] == ("grid", "axes") and len(path) == 4
    if is_level or (path[:2] == ("grid", "variants") and len(path) == 3):
        return rest
    keys = node.value if isinstance(node.value, dict) else ()
    if path == ("grid", "axes"):
        # An axis with named levels has levels within; one over values is a whole dotted path.
        name = rest.partition(".")[0]
        return name if name in keys and isinstance(node.value[name].value, dict) else rest
    there = [key for key in keys if rest == key or rest.startswith(key + ".")]
    return max(there, key=len) if there else rest.partition(".")[0]


def validate(tree: Node, found: Sequence[Problem] = (), *, count_images: CountImages) -> Reading:
    """The experiment of a located tree, with every problem that its types, its grid and its consistency show.

    Args:
        tree: the spec.
        found: problems of the text, known already; nothing more is said of their places and of those they spoil.
        count_images: counts the images that a member's data set has.

    Raises:
        SpecError: with all problems.

    """
    problems = list(found)
    if not isinstance(tree.value, dict) or not tree.value:
        message = "a spec is a mapping" if tree.value else "an empty spec"
        problem = Problem("invalid", tree.place, message, "name, data, model, training and what else is needed")
        text = tree.value if isinstance(tree.value, str) else ""
        _add(problems, [at_look_alike(problem, text)])
        raise SpecError(problems)
    problems += twice(tree)
    if tree.child(EXTENSIONS) is not None:
        if problems:
            raise SpecError(problems)
        _run_extensions(tree)
    plain = tree.plain()
    if _lists_files(plain.get("grid")):
        # All else that such a file lacks follows from this.
        message, expected = "grid: a list of files", "a mapping; files with a grid each are listed under `grids`"
        raise SpecError([*problems, Problem("invalid", tree.keys["grid"], message, expected, "grids")])
    experiment: Experiment | None
    faulty: list[Loc] = []
    try:
        experiment = Experiment.model_validate(plain)
    except ValidationError as error:
        _add(problems, problems_of(error, tree))
        faulty = [details["loc"] for details in error.errors()]
        experiment = _without_faults(plain, error)
    cells: list[Cell] = []
    if experiment is not None:
        cells, more = check(experiment, tree, count_images, faulty)
        _add(problems, more)
    if problems or experiment is None:
        raise SpecError(problems)
    return Reading(experiment.name, (GridReading(experiment, cells),))


def _lists_files(value: Any) -> bool:
    """Whether a value is a list of YAML files, or the name of one."""
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name.endswith((".yaml", ".yml")) for name in names)


def _add(problems: list[Problem], more: list[Problem]) -> None:
    """Add the problems whose places have none yet: what follows from a mistake is not one of its own."""
    places = _told(problems)
    problems += [problem for problem in more if problem.place not in places]


def _told(problems: list[Problem]) -> set[Place]:
    """The places of which enough is said."""
    return {place for problem in problems for place in (problem.place, *problem.spoils)}


_LAYER: dict[str, Any] = {"units": 1, "mlp": [1]}
_STAND_INS: dict[Loc, Any] = {
    ("name",): "x",
    ("data",): {"dataset": "mnist"},
    ("data", "dataset"): "mnist",
    ("model",): {"layers": [_LAYER] * 10},
    ("model", "layers"): [_LAYER] * 10,
    ("model", "layers", "units"): 1,
    ("model", "layers", "mlp"): [1],
    ("training",): {"epochs": LARGEST_COUNT},
    ("training", "epochs"): LARGEST_COUNT,
}
"""What stands in for a faulty value that a spec cannot be without: it contradicts as little as it can."""

_ENTRIES: dict[Loc, Any] = {("model", "layers"): _LAYER, ("grid", "exclude"): {}}
"""What stands in for a faulty entry of a list."""


def _without_faults(plain: dict[str, Any], error: ValidationError) -> Experiment | None:
    """The experiment less its faulty values, so that the rest can still be checked; None if that cannot be."""
    rest = copy.deepcopy(plain)
    for _ in range(5):
        for details in error.errors():
            _replace_fault(rest, details["loc"])
        try:
            return Experiment.model_validate(rest)
        except ValidationError as again:
            error = again
    return None


def _replace_fault(tree: dict[str, Any], path: Loc) -> None:
    """Replace the value at a path by its stand-in, or leave it out; most entries spoil their list."""
    ends = (size for size in range(1, len(path)) if choice_at(Experiment, path[:size]) is not None)
    path = path[: next(ends, len(path))]
    if len(path) > 1 and path[-1] == "[key]":
        path = path[:-1]
    while path and isinstance(path[-1], int) and path[:-1] not in _ENTRIES:
        path = path[:-1]
    node: Any = tree
    for key in path[:-1]:
        try:
            if node[key] is None:
                node[key] = {}
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return
    if not path or not isinstance(node, dict | list):
        return
    if isinstance(node, list):
        node[int(path[-1])] = copy.deepcopy(_ENTRIES[path[:-1]])
        return
    stand_in = _STAND_INS.get(tuple(key for key in path if isinstance(key, str)))
    node.pop(path[-1], None)
    if stand_in is not None:
        node[path[-1]] = copy.deepcopy(stand_in)

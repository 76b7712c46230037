"""From an experiment to its cells: depths x variants x axes, each a resolved spec."""

import copy
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_origin

from hvae_spec.errors import Place
from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.base import Loc
from hvae_spec.spec.experiment import (
    BESIDE_MEMBERS,
    ContentHashes,
    Digests,
    Experiment,
    MemberSpec,
    content_hashes,
)
from hvae_spec.spec.fields import OPEN, Path, choice_at, fields, names_of, sections, short_forms
from hvae_spec.spec.labels import plain_levels

SECTIONS = ("data", "model", "objective", "training", "evaluation")
TRIAL = "trial"
"""The label of the point of a search."""
SEARCH = "search"
"""The variant that the points of a search are of where the grid has no variants."""
LONGEST_NAME = 160
"""Characters of a name that, with what follows it, is a file name on any system."""


class UnknownPathError(KeyError):
    """A dotted path that leads to no field of the spec. `known` holds the keys where it goes wrong, at `position`."""

    def __init__(self, path: str, position: int, known: list[str]) -> None:
        super().__init__(path)
        self.path, self.position, self.known = path, position, known


@dataclass(frozen=True)
class Cell:
    """One variant at one depth on one data set, with its place on every axis; seeds are its replicates."""

    variant: str
    depth: int
    axes: dict[str, Any]
    """Its value on every axis over values, and the name of its level on every other one."""
    member: MemberSpec = field(repr=False)
    """The resolved spec of the cell's first seed."""
    seeds: tuple[int, ...]
    levels: dict[str, Any]
    """`axes` as labels: numbers, flags and texts, see `hvae_spec.spec.labels.plain_levels`."""
    first_phase_at: Place | None = field(default=None, compare=False, repr=False)
    """Where in the file its first phase stands, if it has one and was read from a file."""

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.member.data.name

    @cached_property
    def members(self) -> list["Member"]:
        """The cell's members, one per seed."""
        return [self._member(seed) for seed in self.seeds]

    def _member(self, seed: int) -> "Member":
        digests = self.hashes.digests(seed)
        labels = {"dataset": self.dataset, "depth": self.depth, "variant": self.variant, "seed": seed, **self.factors}
        folder = f"{self.name}-s{seed}-{digests.training[:12]}"
        return Member(self.member.model_copy(update={"seed": seed}), digests, labels, folder, self.first_phase_at)

    @property
    def factors(self) -> dict[str, Any]:
        """Its labels on the axes but for that over data sets, which is the label `dataset`."""
        return {axis: level for axis, level in self.levels.items() if axis != "data.dataset"}

    @cached_property
    def hashes(self) -> ContentHashes:
        """What the digests of the cell's members have in common."""
        return content_hashes(self.member)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the cell's members have in common; see `MemberSpec.content`."""
        return self.member.content

    @cached_property
    def name(self) -> str:
        """What the names of its members' records begin with: `mnist-L5-prob-ladder-bn-wu`."""
        words = [self.dataset, f"L{self.depth}", slug(self.variant)]
        words += [slug(f"{axis.rsplit('.', 1)[-1]}-{level}") for axis, level in self.factors.items()]
        return shorten_slug("-".join(filter(None, words)))


@dataclass(frozen=True, slots=True)
class Member:
    """One (cell, seed): the resolved spec together with what the grid calls it and where its record is."""

    spec: MemberSpec
    """All that is needed to train and evaluate it."""
    digests: Digests
    """Of `spec`."""
    labels: dict[str, Any]
    """What tables and figures call this member: dataset, depth, variant, seed, and its place on every further axis."""
    folder: str
    """Name of the record's folder, readable and unique for its training: `mnist-L5-prob-ladder-bn-wu-s0-<digest>`."""
    first_phase_at: Place | None = field(default=None, compare=False, repr=False)
    """See `Cell.first_phase_at`."""

    @property
    def seed(self) -> int:
        """The replicate."""
        return self.spec.seed


def shorten_slug(text: str, most: int = LONGEST_NAME) -> str:
    """The first words of a slug, so many that it has at most `most` characters. A word that is longer by itself is cut.

    Examples:
        >>> shorten_slug("mnist-wide-layers", 12)
        'mnist-wide'

    """
    if len(text) <= most:
        return text
    head, dash, _ = text[: most + 1].rpartition("-")
    return (head if dash else text[:most]).strip("-.")


def slug(text: str, most: int = 60) -> str:
    """`text` in lower case, all but letters, digits and decimal points replaced by dashes; safe in a file name.

    Examples:
        >>> slug("mnist, lr 3e-4, Prob. ladder+BN")
        'mnist-lr-3e-4-prob-ladder-bn'

    """
    words = re.sub(r"((?<!\d)\.|\.(?!\d)|[^a-z0-9.])+", "-", text.lower()).strip("-.")
    return shorten_slug(words, most)


def parse_path(path: str) -> Loc:
    """`model.layers.0.units` -> ("model", "layers", 0, "units")."""
    return tuple(int(part) if re.fullmatch("0|[1-9][0-9]{0,8}", part) else part for part in path.split("."))


@kept_until_a_choice_joins
def _forms() -> dict[Path, dict[Path, Any]]:
    """The forms of every field in several (`ShortFor`) and their defaults, by the path of the long one."""
    defaults = {item.path: item.default for item in fields(MemberSpec)}
    found: dict[Path, dict[Path, Any]] = {}
    for short, (long, _) in short_forms(MemberSpec).items():
        found.setdefault(long, {long: defaults[long]})[short] = defaults[short]
    return found


def form_of(path: Loc) -> tuple[Path, Path] | None:
    """The form of a field in several forms that a path names or leads into, and the field's long form; None of a field
    in one form.

    Args:
        path: from the root of a spec or of any part of a file. Keys that are dotted paths themselves, as those of
            variants, levels and profiles, are looked through.

    Examples:
        >>> form_of(("grid", "variants", "A", "model.batch_norm"))
        (('grid', 'variants', 'A', 'model', 'batch_norm'), ('grid', 'variants', 'A', 'model', 'norm'))

    """
    parts = tuple(part for key in path for part in str(key).split("."))
    for long, forms in _forms().items():
        for own in forms:
            for start in range(len(parts) - len(own) + 1):
                if parts[start : start + len(own)] == own:
                    return parts[: start + len(own)], (*parts[:start], *long)
    return None


def value_at(tree: Any, path: str) -> Any:
    """The value at a dotted path of a member's tree; None if there is none. The long form of a field in two forms has
    there also what is given in the short form.
    """
    node, parts = tree, parse_path(path)
    for part in parts:
        is_index = isinstance(node, list) and isinstance(part, int) and part < len(node)
        node = node[part] if is_index or (isinstance(node, dict) and part in node) else None
    for short, (long, values) in short_forms(MemberSpec).items():
        if node is None and parts == long and values:
            node = values.get(value_at(tree, ".".join(short)))
    return node


def set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set `path` in a full spec tree (every field present) to `value`. A section on the way that is not there, as it is
    null or another alternative of a choice, is there then, with the defaults of its fields: one that must be given is
    missing. Of a field in several forms the others are null then; if `value` is null in the place of a form, all of
    them have their defaults.

    Raises:
        UnknownPathError: the path names no field within a section.

    """
    parts = parse_path(path)
    known = _known(tree, parts)
    for position, part in enumerate(parts):
        if str(part) not in known[position]:
            raise UnknownPathError(path, position, known[position])
    if len(parts) == 1:
        raise UnknownPathError(path, 1, _keys(tree[str(parts[0])]))
    node: Any = tree
    for position, part in enumerate(parts[:-1], start=1):
        key: Any = part if isinstance(node, list) else str(part)
        if _is_absent(node.get(key) if isinstance(node, dict) else node[key], parts[:position], parts[position]):
            node[key] = _section(parts[:position])
        node = node[key]
    last: Any = parts[-1] if isinstance(node, list) else str(parts[-1])
    node[last] = copy.deepcopy(value)
    own, long = form_of(parts) or ((), ())
    is_nothing = value is None and parts == own
    for form, default in _forms().get(long, {}).items():
        if is_nothing or form != own:
            _replace(tree, form, default if is_nothing else None)


def gives_nothing(path: str, others: Iterable[str]) -> bool:
    """Whether null at a path is that of one form of a field beside a value of another form in the same layer of a spec,
    which says what the field is.

    Args:
        path: the dotted path that is set to null.
        others: the dotted paths that the layer sets to a value.

    """
    form = form_of(parse_path(path))
    if form is None or form[0] != parse_path(path):
        return False
    found = (form_of(parse_path(other)) for other in others)
    return any(other is not None and other[1] == form[1] and other[0] != form[0] for other in found)


@kept_until_a_choice_joins
def _lists() -> frozenset[Path]:
    """The fields that hold lists, of sections or of numbers."""
    return frozenset(item.path for item in fields(MemberSpec) if get_origin(item.infos[-1].annotation) is tuple)


def _known(tree: Any, parts: Loc) -> list[list[str]]:
    """The keys that there may be at every part of a path: those of the section there, or of what stands there."""
    found, node = [list(SECTIONS)], tree
    for position, part in enumerate(parts[:-1], start=1):
        is_index = isinstance(node, list) and isinstance(part, int) and part < len(node)
        node = node[part] if is_index else node.get(str(part)) if isinstance(node, dict) else None
        names = names_of(parts[:position])
        is_list = names in _lists() and isinstance(parts[position - 1], str)
        found.append(_keys(node) if is_list else list(sections(MemberSpec).get(names, ())) or _keys(node))
    return found


def _is_absent(node: Any, path: Loc, key: str | int) -> bool:
    """Whether a section must be made for a key of it to be set: it has no value or a plain one, or is another
    alternative of a choice than this one.
    """
    return not isinstance(node, dict | list) or (choice_at(MemberSpec, path) is not None and key not in node)


def _section(path: Loc) -> dict[str, Any]:
    """A section with the defaults of its fields, less those that must be given."""
    defaults = sections(MemberSpec)[names_of(path)].items()
    return {key: copy.deepcopy(default) for key, default in defaults if default is not OPEN}


def _replace(tree: dict[str, Any], path: Loc, value: Any) -> Any:
    """Put a value at a path of a tree, and return it."""
    *above, key = path
    node: Any = tree
    for part in above:
        node = node[part]
    node[key] = value
    return value


def _copy(tree: Any) -> Any:
    """A copy of a tree of plain dictionaries and lists, many times faster than `copy.deepcopy`."""
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def _keys(node: Any) -> list[str]:
    if isinstance(node, dict):
        return list(node)
    return [str(index) for index in range(len(node))] if isinstance(node, list) else []


@dataclass(frozen=True)
class Combination:
    """A cell before it is validated: its labels and the spec tree that they resolve to."""

    variant: str | None
    depth: int
    axes: dict[str, Any]
    tree: dict[str, Any]
    overrides: tuple[tuple[Loc, Loc], ...]
    """(path in the resolved tree, path in the file whose value went there), in order of application."""
    layers: int
    """Layers of the model before `depth` cut it."""
    levels: dict[str, Any]
    """See `Cell.levels`."""
    unknown: tuple[tuple[Loc, UnknownPathError], ...] = ()
    """Settings that could not be applied, as what they set is not there beside the others: (path in the file, why)."""
    twice: tuple[tuple[Loc, str, str], ...] = ()
    """Settings that give another form of a field that one before them gives, though neither is of a later layer: (path
    in the file, its dotted path, that of the one before). A variant is a later layer than a level."""

    @property
    def labels(self) -> dict[str, Any]:
        """What an entry of `grid.exclude` can name."""
        variant = {} if self.variant is None else {"variant": self.variant}
        return {**variant, "depth": self.depth, **self.axes}


def combinations(experiment: Experiment) -> Iterator[Combination]:
    """Every cell of the grid before exclusion and validation.

    The named levels of axes apply first, then the variant, then the axes over the values of one field; `depth` cuts
    the model that they make.
    """
    grid = experiment.grid
    base = experiment.model_dump(mode="json", exclude=set(BESIDE_MEMBERS))
    names: list[str | None] = list(grid.variants) or [None]
    points = search_points(experiment)
    places = {axis: list(levels) for axis, levels in {**grid.axes, **({TRIAL: points} if points else {})}.items()}
    level_axes, value_axes = grid.level_axes, grid.value_axes
    plain = {axis: plain_levels(levels) for axis, levels in places.items()}
    for depth, name in itertools.product(grid.depth or (None,), names):
        variant = [] if name is None else list(_settings(("grid", "variants", name), grid.variants[name]))
        for chosen in itertools.product(*(range(len(levels)) for levels in places.values())):
            place = dict(zip(places, chosen, strict=True))
            axes = {axis: places[axis][index] for axis, index in place.items()}
            settings = [
                *(
                    setting
                    for axis, levels in level_axes.items()
                    for setting in _settings(("grid", "axes", axis, axes[axis]), levels[axes[axis]])
                ),
                *variant,
                *((axis, axes[axis], ("grid", "axes", axis, place[axis])) for axis in value_axes),
                *_point(points.get(axes.get(TRIAL, ""), {})),
            ]
            tree = _copy(base)
            given = [(path, source) for path, value, source in settings if value is not None]
            twice = tuple(_twice(given))
            overrides: list[tuple[Loc, Loc]] = []
            unknown: list[tuple[Loc, UnknownPathError]] = []
            for path, value, source in settings:
                beside = (other for other, place in given if not _is_later(source, place))
                if value is None and gives_nothing(path, beside):
                    continue
                try:
                    set_path(tree, path, value)
                    overrides.append((parse_path(path), source))
                except UnknownPathError as error:
                    unknown.append((source, error))
            layers = tree["model"]["layers"]
            count = len(layers) if isinstance(layers, list) else 0
            if depth is not None and count:
                _cut(tree, depth, count)
            levels = {axis: plain[axis][index] for axis, index in place.items()}
            yield Combination(name, depth or count, axes, tree, tuple(overrides), count, levels, tuple(unknown), twice)


def _twice(given: Sequence[tuple[str, Loc]]) -> Iterator[tuple[Loc, str, str]]:
    """See `Combination.twice`. Given are the settings with a value, in order: dotted path, and path in the file."""
    in_forms = [(path, source, form) for path, source in given if (form := form_of(parse_path(path))) is not None]
    for (before, first, one), (path, source, two) in itertools.combinations(in_forms, 2):
        if not _is_later(source, first) and one[1] == two[1] and one[0] != two[0]:
            yield source, path, before


def _is_later(source: Loc, other: Loc) -> bool:
    """Whether a setting of a cell is of a later layer than another one: of a variant, and the other of a level."""
    return source[:2] == ("grid", "variants") and other[:2] == ("grid", "axes") and isinstance(other[-1], str)


def _cut(tree: dict[str, Any], depth: int, count: int) -> None:
    """Keep the lowest layers of a model of `count`, and their weights where every layer has its own."""
    tree["model"]["layers"] = tree["model"]["layers"][:depth]
    for section in (tree["objective"], tree["training"].get("first_phase")):
        beta = section.get("beta") if isinstance(section, dict) else None
        if isinstance(beta, list | tuple) and len(beta) == count:
            section["beta"] = beta[:depth]


def search_points(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The points of a spec's search by their names, `01`, `02`, ...; empty where it has none."""
    if experiment.search is None:
        return {}
    points = experiment.search.points()
    width = len(str(len(points)))
    return {f"{number:0{width}d}": point for number, point in enumerate(points, start=1)}


def _point(values: dict[str, Any]) -> Iterator[tuple[str, Any, Loc]]:
    """The settings of a point: path, value, and path in the file of what it was drawn from."""
    return ((path, value, ("search", "space", path)) for path, value in values.items())


def _settings(section: Loc, settings: dict[str, Any]) -> Iterator[tuple[str, Any, Loc]]:
    """The settings of a section of the grid: path, value, and path in the file."""
    return ((path, value, (*section, path)) for path, value in settings.items())


def count_cells(experiment: Experiment) -> int:
    """Number of the grid's cells before exclusion."""
    grid, trials = experiment.grid, 1 if experiment.search is None else experiment.search.trials
    sizes = (len(grid.depth or (0,)), len(grid.variants) or 1, *map(len, grid.axes.values()), trials)
    return math.prod(sizes)


def is_excluded(experiment: Experiment, combination: Combination) -> bool:
    """Whether an entry of `grid.exclude` names this cell."""
    labels = combination.labels
    return any(matches(entry, labels) for entry in experiment.grid.exclude)


def matches(entry: dict[str, Any], labels: dict[str, Any]) -> bool:
    """Whether every label that `entry` names has the value that it names."""
    return bool(entry) and all(key in labels and same(labels[key], value) for key, value in entry.items())


def same(first: Any, second: Any) -> bool:
    """Whether two plain values are the same one. A flag is no number, though Python takes `true` for 1."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def resolve(experiment: Experiment, combination: Combination) -> Cell:
    """The cell of a combination.

    Raises:
        UnknownPathError, pydantic.ValidationError: its overrides do not make a valid spec.

    """
    member = MemberSpec.model_validate({**combination.tree, "seed": experiment.grid.first_seeds[0]})
    for _, error in combination.unknown:
        raise error
    depth = member.model.depth
    # The points of a search may differ in what a variant is named after; all depths have the name of the greatest.
    unnamed = member.label_at(max(experiment.grid.depth or (depth,))) if experiment.search is None else SEARCH
    variant = combination.variant if combination.variant is not None else unnamed
    return Cell(variant, depth, combination.axes, member, experiment.grid.first_seeds, combination.levels)


def cells(experiment: Experiment) -> list[Cell]:
    """The grid's cells, excluded ones left out, in the order depth, variant, axes.

    Raises:
        UnknownPathError, pydantic.ValidationError: a variant or an axis makes no valid spec. `hvae_spec.spec.load.load`
            finds these while reading, with their place in the file.

    """
    return [resolve(experiment, item) for item in combinations(experiment) if not is_excluded(experiment, item)]


def members(experiment: Experiment) -> list[Member]:
    """Every member of the grid: its cells times its seeds, those of the first stage where there are two."""
    return [member for cell in cells(experiment) for member in cell.members]

"""YAML text -> validated experiment. Every mistake is reported at once, as file:line:column with the offending line."""

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from hvae_spec.errors import Place, Problem, SpecError
from hvae_spec.located import Located, parse, read_text
from hvae_spec.schema import grid as grids
from hvae_spec.schema.experiment import Experiment
from hvae_spec.schema.grid import Cell, Combination, Path
from hvae_spec.schema.sense import grid_problems, member_problems, same_model

WHOLE = {("model", "nonlinearity"), ("training", "optimizer"), ("grid", "variants"), ("grid", "axes")}
"""Mappings that a spec built on another replaces whole; all others merge key by key."""
MAX_BASES = 20


@dataclass(frozen=True)
class Reading:
    """A spec file that has been read: the experiment and its resolved cells."""

    experiment: Experiment
    cells: list[Cell]

    @property
    def members(self) -> list[grids.GridMember]:
        """Every member of the grid, in the order depth, variant, axes, seed."""
        return [member for cell in self.cells for member in cell.members]


def load(path: str | FilePath, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a spec file.

    Args:
        path: the YAML file.
        overrides: `dotted.path=value` strings, the value in YAML, as `--set` takes them.

    Raises:
        SpecError: with every problem of the file, its bases and the overrides.

    """
    return read(path, overrides).experiment


def read(path: str | FilePath, overrides: Sequence[str] = ()) -> Reading:
    """The experiment of a spec file together with the resolved cells of its grid. See `load`."""
    tree = _with_bases(FilePath(path), ())
    for text in overrides:
        _override(tree, text)
    return validate(tree)


def loads(text: str, source: str = "<text>") -> Experiment:
    """The experiment of a spec given as text (without `base`). Raises SpecError."""
    return validate(parse(text, source)).experiment


def _with_bases(path: FilePath, above: tuple[FilePath, ...]) -> Located:
    tree = parse(read_text(path), str(path))
    base = tree.value.pop("base", None) if isinstance(tree.value, dict) else None
    if base is None:
        return tree
    if not isinstance(base.value, str):
        raise SpecError([Problem("invalid", base.place, "`base` must be a file name", "a path relative to this file")])
    target = path.parent / base.value
    if target.resolve() in {other.resolve() for other in (*above, path)} or len(above) >= MAX_BASES:
        raise SpecError([Problem("nonsense", base.place, f"{base.value} builds on itself", "a base without a loop")])
    if not target.is_file():
        raise SpecError([Problem("invalid", base.place, f"no such file: {target}", "a path relative to this file")])
    return _merge(_with_bases(target, (*above, path)), tree, ())


def _merge(base: Located, child: Located, path: Path) -> Located:
    if not (isinstance(base.value, dict) and isinstance(child.value, dict)) or path in WHOLE:
        return child
    values, keys = dict(base.value), {**base.keys, **child.keys}
    for key, value in child.value.items():
        values[key] = _merge(values[key], value, (*path, key)) if key in values else value
    return Located(values, child.place, keys)


def _override(tree: Located, text: str) -> None:
    """Set one `dotted.path=value` in the tree. The path's existence is checked with everything else, on validation."""
    source = f"--set {text!r}"
    dotted, equals, value_text = text.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        place = Place(source, 1, 1, text)
        raise SpecError([Problem("invalid", place, "an override without a value", "path.to.field=value")])
    value = parse(" " * (len(text) - len(value_text)) + value_text, source, shown=text)
    place = Place(source, 1, 1, text)
    node, rest = tree, dotted
    path: Path = ()
    while True:
        if isinstance(node.value, list):
            key, _, rest = rest.partition(".")
            if not key.isdigit() or int(key) >= len(node.value):
                expected = f"an index from 0 to {len(node.value) - 1}"
                raise SpecError([Problem("invalid", place, f"no entry {key!r} in the list of {dotted}", expected)])
            if not rest:
                node.value[int(key)] = value
                return
            node = node.value[int(key)]
            continue
        if not isinstance(node.value, dict):
            node.value, node.keys = {}, {}
        key = _next_key(node, path, rest)
        path, rest = (*path, key), rest[len(key) + 1 :]
        if not rest:
            node.value[key], node.keys[key] = value, place
            return
        if key not in node.value or not isinstance(node.value[key].value, dict | list):
            node.value[key], node.keys[key] = Located({}, place), place
        node = node.value[key]


def _next_key(node: Located, path: Path, rest: str) -> str:
    """The first key of a dotted path. Keys may hold dots themselves: an axis or a variant's setting is a whole dotted
    path, and a variant's name is the longest one that is there.
    """
    if path == ("grid", "axes") or (path[:2] == ("grid", "variants") and len(path) == 3):
        return rest
    there = [key for key in node.value if rest == key or rest.startswith(key + ".")]
    return max(there, key=len) if there else rest.partition(".")[0]


def validate(tree: Located) -> Reading:
    """The experiment of a located tree, with every problem that types, the grid and good sense can find.

    Raises:
        SpecError: with all problems.

    """
    if not isinstance(tree.value, dict):
        expected = "name, data, model, objective, training, evaluation and grid"
        raise SpecError([Problem("invalid", tree.place, "a spec is a mapping", expected)])
    plain = tree.plain()
    try:
        experiment = Experiment.model_validate(plain)
        problems: list[Problem] = []
    except ValidationError as error:
        problems = [_invalid(details, tree) for details in error.errors() if not _is_echo(details)]
        pruned = _prune(plain, error)
        if pruned is None:
            raise SpecError(problems) from None
        experiment = pruned
    cells, found = _check_grid(experiment, tree)
    problems += [problem for problem in found if problem.place not in {other.place for other in problems}]
    if problems:
        raise SpecError(problems)
    return Reading(experiment, cells)


_STAND_INS: dict[str, Any] = {"name": "x", "dataset": "mnist", "units": 1, "mlp": [1], "epochs": 10**9}
"""Values that let the rest of a faulty file be checked: each contradicts as little as it can."""


def _prune(plain: Any, error: ValidationError) -> Experiment | None:
    """The experiment with its faulty values left out, so that the rest can still be checked; None if that cannot be."""
    rest = copy.deepcopy(plain)
    for _ in range(5):
        for details in error.errors():
            path = _without_tags(details["loc"])
            if details["type"] == "missing" and path[-1] not in (*_STAND_INS, "layers"):
                path = path[:-1]
            # A faulty entry spoils its list, and a faulty layer the layers.
            path = path[:2] if path[:2] == ("model", "layers") else path
            while path and isinstance(path[-1], int):
                path = path[:-1]
            if not path:
                return None
            node = rest
            for key in path[:-1]:
                node = node.get(key) if isinstance(node, dict) else node[key] if isinstance(node, list) else None
            if isinstance(node, dict):
                old = node.pop(path[-1], None)
                if path == ("model", "layers"):
                    node["layers"] = [{"units": 1, "mlp": [1]}] * (len(old) if isinstance(old, list) else 1)
                elif path[-1] in _STAND_INS:
                    node[path[-1]] = _STAND_INS[str(path[-1])]
        try:
            return Experiment.model_validate(rest)
        except ValidationError as again:
            error = again
    return None


def _without_tags(path: Path) -> Path:
    """A pydantic location without the name of the alternative that follows `nonlinearity`."""
    if "nonlinearity" in path[:-1]:
        place = path.index("nonlinearity")
        return (*path[: place + 1], *path[place + 2 :])
    return path


def _check_grid(experiment: Experiment, tree: Located) -> tuple[list[Cell], list[Problem]]:
    problems = [
        Problem("nonsense", _locate(tree, nonsense.path), nonsense.message, nonsense.remedy)
        for nonsense in grid_problems(experiment)
    ]
    unknown, experiment = _unknown_paths(experiment, tree)
    problems += unknown
    cells: list[Cell] = []
    labels: list[dict[str, Any]] = []
    for item in grids.combinations(experiment):
        labels.append({"variant": item.variant, "depth": item.depth, **item.axes})
        if grids.is_excluded(experiment, item):
            continue
        try:
            cell = grids.resolve(experiment, item)
        except ValidationError as error:
            problems += [_invalid(details, tree, item) for details in error.errors() if not _is_echo(details)]
            continue
        where = f" (variant {item.variant!r} at depth {item.depth})" if item.variant is not None else ""
        problems += [
            Problem("nonsense", _locate(tree, nonsense.path, item), nonsense.message + where, nonsense.remedy)
            for nonsense in member_problems(cell.member)
        ]
        cells.append(cell)
    problems += _exclusion_problems(experiment, tree, labels)
    if not problems:
        problems = _same_model_problems(cells, tree)
    if not cells and not problems:
        place = _locate(tree, ("grid", "exclude"))
        problems.append(Problem("nonsense", place, "the grid is empty: every cell is excluded", "at least one cell"))
    return cells, _first_of_each(problems)


def _first_of_each(problems: list[Problem]) -> list[Problem]:
    """One problem a place and remedy: a mistake in the common part shows in many cells, and is told once."""
    return list({(problem.place, problem.expected): problem for problem in reversed(problems)}.values())


def _unknown_paths(experiment: Experiment, tree: Located) -> tuple[list[Problem], Experiment]:
    """Variants and axes that name no field of the spec, and the experiment without them."""
    full = experiment.model_dump(mode="json", exclude={"name", "grid"})
    places = [(path, ("grid", "variants", name)) for name, paths in experiment.grid.variants.items() for path in paths]
    places += [(path, ("grid", "axes")) for path in experiment.grid.axes]
    problems: list[Problem] = []
    unknown: set[str] = set()
    for path, parent in places:
        try:
            grids.set_path(copy.deepcopy(full), path, None)
        except grids.UnknownPath as error:
            node = _walk(tree, parent)
            place = node.keys.get(path, node.place)
            close = _suggest_path(path)
            expected = f"a path in the spec ({', '.join(error.known)} here)" if error.known else "a path in the spec"
            problems.append(Problem("invalid", place, f"{path!r} is not a field of the spec", expected, close))
            unknown.add(path)
    if not unknown:
        return [], experiment
    grid = experiment.grid
    variants = {
        name: {path: value for path, value in paths.items() if path not in unknown}
        for name, paths in grid.variants.items()
    }
    axes = {path: values for path, values in grid.axes.items() if path not in unknown}
    return problems, experiment.model_copy(
        update={"grid": grid.model_copy(update={"variants": variants, "axes": axes})}
    )


def _exclusion_problems(experiment: Experiment, tree: Located, labels: list[dict[str, Any]]) -> list[Problem]:
    """Entries of `grid.exclude` that name no cell. An entry inherited from elsewhere than the lists it filters (from a
    base, or from the file under a `--set`) may name cells that those lists no longer have.
    """
    problems = []
    sources = {_locate(tree, ("grid", part)).source for part in ("depth", "variants", "axes")}
    for index, entry in enumerate(experiment.grid.exclude):
        place = _locate(tree, ("grid", "exclude", index))
        strict = sources == {place.source} or place.source.startswith("--set")
        if strict and not any(grids.matches(entry, cell) for cell in labels):
            wrong = [key for key, value in entry.items() if not any(cell.get(key) == value for cell in labels)]
            key = wrong[0] if wrong else next(iter(entry), "")
            known = list(dict.fromkeys(str(cell[key]) for cell in labels if key in cell))
            names = list(labels[0]) if labels else []
            node = _walk(tree, ("grid", "exclude", index, key))
            what = f"one of {', '.join(known)}" if known else f"the keys {', '.join(names)}"
            close = _closest(str(entry.get(key)), known) if known else _closest(key, names)
            problems.append(Problem("nonsense", node.place, f"the excluded cell {entry} does not exist", what, close))
    return problems


def _same_model_problems(cells: list[Cell], tree: Located) -> list[Problem]:
    problems = []
    for first, second in same_model(cells):
        if first.variant != second.variant:
            place = _key_place(tree, ("grid", "variants", second.variant))
            message = (
                f"variants {first.variant!r} and {second.variant!r} resolve to the same model at depth {second.depth}"
            )
        else:
            place = _locate(tree, ("grid", "axes"))
            message = f"two cells of variant {second.variant!r} at depth {second.depth} resolve to the same model"
        problems.append(Problem("nonsense", place, message, "settings that differ, or one of them in grid.exclude"))
    return problems


def _is_echo(details: Any) -> bool:
    """Whether pydantic calls a list too short only because its entries are faulty, which is told already."""
    return bool(details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"])


def _invalid(details: Any, tree: Located, item: Combination | None = None) -> Problem:
    """A pydantic error as a problem with its place."""
    path = _without_tags(details["loc"])
    kind, value, context = details["type"], details.get("input"), details.get("ctx", {})
    name = ".".join(str(part) for part in path) or "the spec"
    place = _locate(tree, path, item)
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1])
        key = str(path[-1])
        close = _closest(key, known) or _elsewhere(key)
        parent = ".".join(str(part) for part in path[:-1])
        where = f" in {parent}" if parent else ""
        message, expected = f"unknown key {key!r}{where}", f"one of {', '.join(known)}"
        return Problem("invalid", _key_place(tree, path, item), message, expected, close)
    if kind == "missing":
        return Problem("invalid", place, f"{name} is missing", f"{path[-1]}: {_describe(path)}")
    if kind in ("literal_error", "enum"):
        options = [option.strip("'\" ") for option in context["expected"].replace(" or ", ", ").split(", ")]
        close = _closest(str(value), options)
        return Problem(
            "invalid", place, f"{name}: {_show(value)} is not a choice", f"one of {', '.join(options)}", close
        )
    expected = _EXPECTED.get(kind, "").format(**context) or details["msg"].removeprefix("Input should be ").lower()
    hint = ""
    if kind == "bool_type" and isinstance(value, str):
        hint = {"no": "false", "off": "false", "n": "false", "yes": "true", "on": "true", "y": "true"}.get(
            value.lower(), ""
        )
    if kind in ("int_type", "float_type") and isinstance(value, str):
        hint = value.replace("_", "").replace(",", "") if value.replace("_", "").replace(",", "").isdigit() else ""
    return Problem("invalid", place, f"{name}: {_show(value)} will not do", expected, hint)


_EXPECTED = {
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number of at most {le}",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
    "too_short": "at least {min_length} entry",
    "too_long": "at most {max_length} entries",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
    "string_too_short": "some text",
}


def _show(value: Any) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return (
        f"the text {value!r}"
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )


def _closest(word: str, known: list[str]) -> str:
    lowered = {option.lower(): option for option in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else ""


@cache
def _schema() -> dict[str, Any]:
    return Experiment.model_json_schema()


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    """Properties of a JSON Schema node, seen through references and alternatives."""
    if "$ref" in node:
        return _properties(_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    found = dict(node.get("properties", {}))
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        found.update(_properties(option))
    return found


def _items(node: dict[str, Any]) -> dict[str, Any]:
    options = [node, *node.get("anyOf", ())]
    return next((option["items"] for option in options if "items" in option), {})


def _node_at(path: Path) -> dict[str, Any]:
    node = _schema()
    for key in path:
        properties = _properties(node)
        if isinstance(key, int):
            node = _items(node)
        elif key in properties:
            node = properties[key]
    return node


def _known_keys(path: Path) -> list[str]:
    return list(_properties(_node_at(path)))


def _describe(path: Path) -> str:
    return " ".join(str(_node_at(path).get("description", "a value")).split()).rstrip(".")


@cache
def _all_paths() -> dict[str, str]:
    """Every field's dotted path, by the path and by its last word."""
    found: dict[str, str] = {}

    def visit(node: dict[str, Any], path: str) -> None:
        for key, child in _properties(node).items():
            dotted = f"{path}.{key}" if path else key
            found[dotted] = dotted
            found.setdefault(key, dotted)
            visit(child, dotted)

    visit(_schema(), "")
    return found


def _elsewhere(key: str) -> str:
    """Where a key that is unknown here belongs: its full path."""
    return _all_paths().get(key, "")


def _suggest_path(path: str) -> str:
    paths = [full for full in dict.fromkeys(_all_paths().values()) if "." in full and not full.startswith("grid")]
    return _closest(path, paths) or _elsewhere(path.rsplit(".", 1)[-1])


def _walk(tree: Located, path: Path) -> Located:
    """The value at a path, or the nearest one above it."""
    node = tree
    for key in path:
        node = node.child(key) or node
    return node


def _origin(path: Path, item: Combination | None) -> Path:
    """Where in the file the value at a path of a resolved cell was written."""
    for target, source in reversed(item.overrides if item else ()):
        size = min(len(target), len(path))
        if target[:size] == path[:size]:
            return (*source, *path[len(target) :])
    return path


def _locate(tree: Located, path: Path, item: Combination | None = None) -> Place:
    return _walk(tree, _origin(path, item)).place


def _key_place(tree: Located, path: Path, item: Combination | None = None) -> Place:
    """The place of the key at the end of a path."""
    origin = _origin(path, item)
    parent = _walk(tree, origin[:-1])
    return parent.keys.get(str(origin[-1]), parent.place)

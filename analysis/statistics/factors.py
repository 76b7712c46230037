"""What a grid varies: its factors, found from the resolved specs of its cells.

Two cells of one depth differ *alone* in a field if their results depend on nothing else that differs. Whether they
depend on a field is asked of the spec itself: with the field's value from the other cell, is it the same content (see
`hvae_spec.spec.experiment.MemberSpec.content_of_results`)? So no field counts that nothing in a cell reads: a ladder of
one layer is a VAE, and samples need no ramp where there is one. A choice is one field, whatever the settings below it:
between `adam` and another optimizer, the learning rate of `adam` is none. A field of the layers is one over all layers.

A field in two forms, as `model.batch_norm` and `model.norm`, is one: by the name of the long form where a cell has
that, or the spec asks for it, and else by that of the short one.

Every field in which two cells differ alone is a factor, and so is an axis whose values set several fields at once, by
the name of the axis. Depth is no factor, but a place: a depth cuts the layers, and effects are looked at depth by
depth, or over all of them.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from analysis import reader
from analysis.columns import FACTORS, at, default_value
from analysis.frames import Frames
from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import Factor as PaperFactor
from hvae_spec.spec.fields import Path, SpecField, choices_with_settings, fields, paths_affecting, short_forms
from hvae_spec.spec.grid import SECTIONS, parse_path
from hvae_spec.spec.labels import GRID, layers_text, level_label
from hvae_spec.spec.report import ReportSpec

NAMES = {
    "model.batch_norm": "batch normalization",
    "model.norm": "normalization",
    "objective.warm_up": "warm-up",
    "model.inference": "inference model",
}
"""What the paper's factors are called, in the order in which they come to a model."""
LAYERS: Path = ("model", "layers")
"""The one list of sections whose fields are fields over all layers: the depth cuts it."""
SET = "set"
"""The level of a section that may be null, where it is not."""


@dataclass(frozen=True)
class Cell:
    """A variant at one depth and one place on the further axes."""

    labels: Mapping[str, Any]
    """`depth`, every further axis, and `variant`."""
    members: pd.DataFrame = field(repr=False)
    """Its rows of `Frames.members`."""
    tree: Mapping[str, Any] | None = field(repr=False)
    """Its resolved spec; None where that is not known, or where the cell holds several specs."""
    long: frozenset[str] = frozenset()
    """The dotted paths of the fields in two forms that are called by their long form."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The values of its fields by dotted path; see `_flat`."""
        found = dict(_flat(self.tree)) if self.tree else {}
        for short, name, values in _forms():
            if name in self.long and found:
                own = found.pop(short)
                if found[name] is None:
                    found[name] = values.get(own) if values else None if own is None else short.rpartition(".")[2]
                elif values:
                    # As one value with all that is set in it.
                    found = {key: value for key, value in found.items() if not key.startswith(f"{name}.")}
                    found[name] = at(self.tree, name)
        return found


@dataclass(frozen=True)
class Factor:
    """What some cells differ in alone."""

    name: str
    """The dotted path of a field, or the name of an axis."""
    words: str
    """What tables call it: `learning rate`."""
    levels: tuple[Any, ...]
    """The values that it has, the reference first."""

    @property
    def reference(self) -> Any:
        """The level that the others are compared with."""
        return self.levels[0]


@dataclass(frozen=True)
class Pair:
    """Two cells that differ in one factor alone, by their indices, and their levels of it."""

    reference: int
    other: int
    levels: tuple[Any, Any]


@dataclass(frozen=True)
class Design:
    """The cells of a grid on one data set, its factors, and the pairs that differ in one of them alone."""

    place: Mapping[str, Any]
    """`dataset`, and of several grids `grid`."""
    axes: Mapping[str, str]
    """The further axes, see `Frames.axes`."""
    cells: tuple[Cell, ...]
    """By depth, then in the order of the axes' values and of the variants."""
    factors: tuple[Factor, ...]
    """The paper's first, then in the order of the spec."""
    pairs: Mapping[str, tuple[Pair, ...]]
    """By the name of the factor, each both ways round."""
    nested: frozenset[str]
    """Names of factors of which one has a meaning at some levels of the other alone, as the settings of a choice: their
    places do not match, so that they are not averaged over."""
    report: ReportSpec
    """What the report of this grid is to say."""
    foretold: Mapping[str, Sequence[Any]]
    """Those of its contrasts that were planned before the grid had a result."""

    def between(self, name: str, reference: Any, level: Any) -> list[Pair]:
        """The pairs from one level of a factor to another, in the order of the cells."""
        wished = _text(reference), _text(level)
        return [pair for pair in self.pairs.get(name, ()) if tuple(map(_text, pair.levels)) == wished]

    def named(self, name: str, wished: Sequence[Any]) -> list[tuple[int, int]]:
        """The pairs of cells of one of the report's contrasts: at two levels of a factor, or of two variants, which may
        differ in anything. Empty where the grid does not have them on this data set.
        """
        factor = next((item for item in self.factors if item.name == name), None)
        if factor is not None:
            found = [next(iter(_meant(wish, factor.levels)), ...) for wish in wished]
            if ... in found:
                return []
            pairs = [(pair.reference, pair.other) for pair in self.between(name, *found)]
            # A level of a choice is its name alone, and one of a section that it is there: cells may differ in more.
            return [
                pair
                for pair in pairs
                if all(_is_set(self.cells[cell], name, wish) for cell, wish in zip(pair, wished, strict=True))
            ]
        places: list[dict[str, int]] = [{}, {}]
        for index, cell in enumerate(self.cells):
            variant = str(cell.labels["variant"])
            for own, wish in zip(places, map(str, wished), strict=True):
                # The values of axes that are factors of the paper follow the variant's name.
                if variant == wish or variant.startswith(f"{wish}, "):
                    own[_text({**cell.labels, "variant": variant.removeprefix(wish)})] = index
        return [(first, places[1][place]) for place, first in places[0].items() if place in places[1]]

    def in_words(self, *cells: int) -> str:
        """What some cells have in common: `VAE+BN, L = 3, lr 1e-3`."""
        labels = self.common(*cells)
        parts = [str(labels["variant"])] if "variant" in labels else []
        parts += [f"L = {labels['depth']}"] if "depth" in labels and self.varies_in_depth else []
        rest = (name for name in labels if name not in ("variant", "depth"))
        among = list(self.axes.values())
        return ", ".join([*parts, *(level_label(self.axes[name], labels[name], among) for name in rest)])

    @cached_property
    def varies_in_depth(self) -> bool:
        """Whether the grid has several depths."""
        return len({cell.labels["depth"] for cell in self.cells}) > 1

    def common(self, *cells: int) -> dict[str, Any]:
        """The labels that some cells have in common."""
        first, *others = (self.cells[cell].labels for cell in cells)
        return {name: value for name, value in first.items() if all(own[name] == value for own in others)}


def designs(frames: Frames) -> Iterator[Design]:
    """What a grid varies, on each data set, and of several grids in each.

    Args:
        frames: a grid, or any part of it. Axes that are factors of the paper make variants, as for
            `analysis.statistics.paired_effects`.

    """
    frames = frames.as_variants(FACTORS)
    apart = [name for name in frames.factors if name == GRID]
    grids = {grid.name: grid for grid in frames.grids}
    for place, members in frames.planned.members.groupby(["dataset", *apart], sort=False, dropna=False):
        own = dict(zip(["dataset", *apart], place, strict=True))
        yield _design(own, members, frames.varied, grids.get(str(own.get(GRID)), frames))


def words(name: str) -> str:
    """What tables call a factor: `learning rate`, `units of z_1`; the name of an axis stays as it is.

    Examples:
        >>> words("training.optimizer.adam.lr"), words("model.layers.0.units"), words("width")
        ('learning rate', 'units of z_1', 'width')
        >>> words("model.layers.1.flow"), words("model.layers.flow"), words("model.layers.0.mlp_down")
        ('flow of z_2', 'flows of single layers', 'hidden widths of the generative mapping of z_1')

    """
    if name in NAMES:
        return NAMES[name]
    path = parse_path(name)
    item = _fields().get(".".join(part for part in path if isinstance(part, str)))
    layers = [f" of z_{part + 1}" for part in path if isinstance(part, int)]
    if item is None:
        return name
    return item.words_of_one + "".join(layers) if layers else item.words


@kept_until_a_choice_joins
def _fields() -> dict[str, SpecField]:
    return {item.dotted: item for item in fields(MemberSpec)}


@kept_until_a_choice_joins
def _forms() -> list[tuple[str, str, Mapping[Any, Any]]]:
    """The fields in two forms: the dotted paths of the short and the long one, and see `ShortFor.values`."""
    return [(".".join(short), ".".join(long), values) for short, (long, values) in short_forms(MemberSpec).items()]


def _in_long_form(cells: Sequence[Cell], asked: Collection[str]) -> list[Cell]:
    """The cells with the fields called by their long form of which a cell has that, or that are asked for by it."""
    trees = [cell.tree for cell in cells if cell.tree]
    long = frozenset(name for _, name, _ in _forms() if name in asked or any(at(tree, name) for tree in trees))
    return [replace(cell, long=long) for cell in cells]


def _design(place: dict[str, Any], members: pd.DataFrame, axes: Sequence[str], frames: Frames) -> Design:
    asked = {*frames.report.reference, *frames.report.contrasts}
    cells = _in_long_form(_cells(members, axes, frames.specs), asked)
    count = len(cells)
    differ: dict[str, NDArray[np.bool_]] = {}
    for depth in dict.fromkeys(cell.labels["depth"] for cell in cells):
        block = [index for index, cell in enumerate(cells) if cell.labels["depth"] == depth]
        for name, found in _differences([cells[index] for index in block]).items():
            whole = differ.setdefault(name, np.zeros((count, count), dtype=bool))
            whole[np.ix_(block, block)] = found
    paths = {column: frames.axes.get(column, column) for column in axes}
    by_name = {path: column for column, path in paths.items() if _set_by_axis(path, column, cells, differ)}
    total = sum((matrix.astype(int) for matrix in differ.values()), np.zeros((count, count), dtype=int))
    alone = total == 1
    known = np.array([cell.tree is not None for cell in cells])
    alone &= known[:, None] & known
    factors, pairs = [], {}
    for name in (*(name for name in NAMES if name in differ), *(name for name in differ if name not in NAMES)):
        of_factor = differ[name] & alone
        if of_factor.any():
            levels = [cell.labels[by_name[name]] for cell in cells] if name in by_name else _levels(name, cells)
            used = [levels[index] for index in np.flatnonzero(of_factor.any(axis=0))]
            factors.append(Factor(name, words(name), _reference_first(name, used, frames)))
            places = np.argwhere(of_factor).tolist()
            pairs[name] = tuple(Pair(one, two, (levels[one], levels[two])) for one, two in places)
    # What an axis of several fields sets, it sets at each of its values.
    nested = frozenset(_nested(cells, {name: own for name, own in pairs.items() if name not in by_name}))
    return Design(place, frames.axes, tuple(cells), tuple(factors), pairs, nested, frames.report, frames.foretold)


def _cells(members: pd.DataFrame, axes: Sequence[str], specs: Mapping[str, dict[str, Any]]) -> list[Cell]:
    keys = ["depth", *axes, "variant"]
    # By depth; then in the order of the axes' values and of the variants.
    order = {axis: {value: place for place, value in enumerate(members[axis].drop_duplicates())} for axis in axes}
    found = []
    for place, own in members.groupby(keys, sort=False, dropna=False, observed=True):
        labels = dict(zip(keys, place, strict=True))
        found.append((labels, own, _known([specs[digest] for digest in own["digest"] if digest in specs])))
    categories = list(members["variant"].cat.categories)
    found.sort(
        key=lambda item: (
            item[0]["depth"],
            *(order[axis].get(item[0][axis], 0) for axis in axes),
            categories.index(item[0]["variant"]),
        )
    )
    known = [(labels, trees[0]) for labels, _, trees in found if len(trees) == 1]
    return [
        Cell(labels, own, trees[0] if len(trees) == 1 else None if trees else _of_another_depth(labels, known))
        for labels, own, trees in found
    ]


def _known(specs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different specs of a cell's members, in full: one, but where records of several are called the same."""
    found: dict[str, dict[str, Any]] = {}
    for spec in specs:
        whole = _whole(_text({**spec, "seed": 0}))
        tree = json.loads(whole)
        found.setdefault(_content(whole) or whole, tree)
    return list(found.values())


def _of_another_depth(
    labels: Mapping[str, Any], known: Sequence[tuple[Mapping[str, Any], dict[str, Any]]]
) -> dict[str, Any] | None:
    """The spec of a cell that has not begun, from the same cell at another depth; None if there is none.

    A single layer does not show what a cell of more is, because there a ladder is a VAE.
    """
    depth = labels["depth"]
    for other, tree in known:
        if other["depth"] > 1 and {**other, "depth": depth} == labels:
            layers = tree["model"]["layers"]
            deeper = next((one["model"]["layers"] for at, one in known if at["depth"] >= depth), layers)
            layers = [*layers[:depth], *deeper[len(layers) : depth]]
            return {**tree, "model": {**tree["model"], "layers": layers}}
    return None


def _flat(tree: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[str, Any]]:
    """The fields of a spec tree by dotted path: of a choice its name, and then its settings; of a section that may be
    null whether it is there, and then what is in it; of a field of the layers the list over the layers. Less the seed
    and what affects no number of a result.
    """
    for key, value in tree.items():
        path = (*above, key)
        name = ".".join(path)
        if path == ("seed",) or path in paths_affecting(MemberSpec, "nothing"):
            continue
        if path == LAYERS:
            yield from ((f"{name}.{own}", [layer[own] for layer in value]) for own in value[0])
        elif isinstance(value, dict) and value:
            yield name, next(iter(value)) if path in choices_with_settings(MemberSpec) else SET
            yield from _flat(value, path)
        else:
            yield name, value


def _with(tree: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A tree with another value at a path as of `_flat`."""
    *above, last = name.split(".")
    changed: dict[str, Any] = json.loads(_text(tree))
    node: Any = changed
    for part in above:
        node = node[part]
    if tuple(above) == LAYERS:
        for layer, own in zip(node, value, strict=True):
            layer[last] = own
    elif any(name == long for _, long, _ in _forms()):
        node.update(value)
    else:
        node[last] = value
    return changed


def _raw(tree: Mapping[str, Any], name: str) -> Any:
    """What stands at a path as of `_flat`: of a choice or a section all of it, of a long form the short one too."""
    *above, last = name.split(".")
    if tuple(above) == LAYERS:
        return [layer[last] for layer in at(tree, ".".join(LAYERS))]
    forms = [form for short, long, _ in _forms() if long == name for form in (short, long)]
    return {form.rpartition(".")[2]: at(tree, form) for form in forms} if forms else at(tree, name)


def _differences(cells: Sequence[Cell]) -> dict[str, NDArray[np.bool_]]:
    """In what cells of one depth differ: for every field that varies a matrix [cells, cells]."""
    found: dict[str, NDArray[np.bool_]] = {}
    names = dict.fromkeys(name for cell in cells for name in cell.settings)
    for name in names:
        values = [_text(cell.settings[name]) if name in cell.settings else None for cell in cells]
        different = list(dict.fromkeys(value for value in values if value is not None))
        if len(different) < 2:
            continue
        examples = {value: _raw(cell.tree, name) for cell, value in zip(cells, values, strict=True) if cell.tree}
        codes = np.array([different.index(value) if value is not None else len(different) for value in values])
        # Whether a cell is another one with a value; where a cell has no such field, nothing is compared.
        is_other = np.zeros((len(cells), len(different) + 1), dtype=bool)
        for place, (cell, own) in enumerate(zip(cells, values, strict=True)):
            if cell.tree is not None and own is not None:
                is_other[place, :-1] = [v != own and _is_other(cell.tree, name, examples[v]) for v in different]
        across = is_other[:, codes]
        found[name] = across & across.T
    return found


def _is_other(tree: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a spec with another value of a field is another member."""
    if _is_of_layers(name) and len(value) != len(tree["model"]["layers"]):
        return True
    content = _content(_text(_with(tree, name, value)))
    return content is None or content != _content(_text(tree))


def _set_by_axis(axis: str, column: str, cells: Sequence[Cell], differ: dict[str, NDArray[np.bool_]]) -> bool:
    """Make one factor of an axis, unless all that its values set is the field that it is named after.

    Cells at two values of it then differ in the axis, and in a field that it sets only where they also differ in it at
    one and the same value.

    Args:
        axis: its path or name.
        column: what its label is called.
        cells: the cells of a grid.
        differ: in what they differ; what the axis sets is put together under its path or name.

    Returns:
        Whether it is one.

    """
    depths = np.array([cell.labels["depth"] for cell in cells])
    apart = {column} if _has_depth_of_its_own(cells) else {column, "depth"}
    if axis.partition(".")[0] in SECTIONS and axis != ".".join(LAYERS):
        apart = {column}
    values = [_text(cell.labels[column]) for cell in cells]
    rests = [_text([value for name, value in cell.labels.items() if name not in apart]) for cell in cells]
    places = {place: index for index, place in enumerate(zip(rests, values, strict=True))}
    # Of a pair of cells, the second at the first one's value of the axis; -1 where there is no such cell.
    elsewhere = np.array([[places.get((rest, value), -1) for rest in rests] for value in values])
    own = np.arange(len(cells))
    moves = elsewhere != own
    only = moves & (elsewhere == own[:, None])
    is_deeper = only & (depths[:, None] != depths)
    sets = [name for name, matrix in differ.items() if (matrix & only).any()]
    if not is_deeper.any() and sets in ([], [axis]):
        return False
    for name in sets:
        at_first = np.where(elsewhere >= 0, differ[name][own[:, None], elsewhere], False)
        differ[name] = np.where(moves, at_first | at_first.T, differ[name])
    differ[axis] = (moves & (depths[:, None] == depths)) | is_deeper
    return True


def _has_depth_of_its_own(cells: Sequence[Cell]) -> bool:
    """Whether the grid varies the depth by itself, and not through what else sets the layers."""
    return len({_text({**cell.labels, "depth": None}) for cell in cells}) < len(cells)


def _levels(name: str, cells: Sequence[Cell]) -> list[Any]:
    """The values of a field in some cells. Of a field of the layers, those at the greatest depth of the same cell: the
    others have less of the same.
    """
    if not _is_of_layers(name):
        return [cell.settings.get(name) for cell in cells]
    rests = [_text({**cell.labels, "depth": None}) for cell in cells]
    # Cells come by depth, so that the deepest is the last.
    deepest = {rest: cell.settings.get(name) for rest, cell in zip(rests, cells, strict=True) if cell.tree}
    return [deepest.get(rest) for rest in rests]


def _is_of_layers(name: str) -> bool:
    return name.startswith(".".join(LAYERS) + ".")


def _reference_first(name: str, levels: Sequence[Any], frames: Frames) -> tuple[Any, ...]:
    """The levels of a factor, each once: the reference first, then in the order of the grid.

    The reference is what `report.reference` of the spec names; of the paper's factors what the paper compares with,
    the default; else the first.
    """
    found = list({_text(level): level for level in levels}.values())
    item = _fields().get(name)
    wished = [frames.report.reference[name]] if name in frames.report.reference else []
    if item is not None and item.fact(PaperFactor) is not None:
        wished += [item.default, default_value(item)]
    first = next((level for wish in wished for level in _meant(wish, found)), found[0])
    return (first, *(level for level in found if level is not first))


def _meant(wish: Any, levels: Sequence[Any]) -> list[Any]:
    """The levels that a spec names by a value: those that are it, or else those of which it says the name."""
    exact = [level for level in levels if _text(reader.plain_level(wish)) == _text(reader.plain_level(level))]
    return exact or [level for level in levels if is_level(wish, level)]


def is_level(wish: Any, level: Any) -> bool:
    """Whether a level is the one that a spec names; of a choice the name is enough."""
    if isinstance(wish, dict) and level == SET:
        return True
    if isinstance(wish, dict) and len(wish) == 1 and isinstance(level, str):
        wish = next(iter(wish))
    return _text(reader.plain_level(wish)) == _text(reader.plain_level(level)) or (
        not isinstance(wish, bool | dict | list)
        and not isinstance(level, bool | dict | list)
        and (wish == level or str(wish) == str(level))
    )


def _is_set(cell: Cell, name: str, wish: Any) -> bool:
    """Whether a field of a cell has all that a level states of it; true of a level that is a name or a number."""
    if not isinstance(wish, dict) or cell.tree is None or any(name == long for _, long, _ in _forms()):
        return True
    return _states(at(cell.tree, name), wish)


def _states(value: Any, wish: Any) -> bool:
    """Whether a value of a spec has all that is stated of it."""
    if isinstance(wish, dict) and isinstance(value, dict):
        return all(key in value and _states(value[key], own) for key, own in wish.items())
    # A choice with its default settings may be kept by its name.
    return (isinstance(wish, dict) and [value] == list(wish)) or is_level(wish, value)


def _nested(cells: Sequence[Cell], pairs: Mapping[str, Sequence[Pair]]) -> Iterator[str]:
    """Names of factors that are nested in one another: cells that differ in one alone have different values of the
    other, as nothing in one of them reads it.
    """
    for outer, own in pairs.items():
        for pair in own:
            one, two = cells[pair.reference].settings, cells[pair.other].settings
            for inner in pairs:
                if inner != outer and (inner in one) + (inner in two) and one.get(inner, ...) != two.get(inner, ...):
                    yield from (outer, inner)


def text_of_level(value: Any) -> Any:
    """A level as one entry of a column: a list over the layers as the columns of members have it."""
    return layers_text(value) if isinstance(value, list) else reader.plain_level(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


@lru_cache(maxsize=1 << 14)
def _whole(text: str) -> str:
    """A spec, as JSON, with all defaults of today; as it is where it is no valid spec."""
    try:
        # In the order of the spec, in which factors come.
        return json.dumps(MemberSpec.model_validate(json.loads(text)).model_dump(mode="json"))
    except ValidationError:
        return text


@lru_cache(maxsize=1 << 16)
def _content(text: str) -> str | None:
    """What of a spec, as JSON, its results depend on, as JSON; None where it is no valid spec."""
    try:
        return _text(MemberSpec.model_validate(json.loads(text)).content_of_results)
    except ValidationError:
        return None

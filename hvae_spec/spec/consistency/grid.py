"""Contradictions within a grid, and between it and the model of a cell."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from hvae_spec.errors import shorten
from hvae_spec.spec.base import Loc
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.consistency.search import search_problems
from hvae_spec.spec.equivalence import plainest
from hvae_spec.spec.experiment import AXIS_NAME, Experiment, content_hashes
from hvae_spec.spec.grid import Cell, Combination, count_cells, same
from hvae_spec.spec.labels import GRID, LABELS

MAX_CELLS = 10_000
MAX_MEMBERS = 100_000


def grid_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within the grid that can be seen before cells are resolved."""
    grid = experiment.grid
    yield from _repeated(("grid", "depth"), grid.depth or (), "depth")
    yield from _repeated(("grid", "seeds"), grid.first_seeds, "seed")
    yield from _stages_problems(experiment)
    yield from search_problems(experiment)
    for axis, values in grid.value_axes.items():
        yield from _repeated(("grid", "axes", axis), values, "value")
    for axis, levels in grid.level_axes.items():
        yield from _axis_name_problems(axis)
        yield from _alike(("grid", "axes", axis), {name: _as_seen(name) for name in levels}, "look alike")
    yield from _alike(("grid", "variants"), {name: _as_seen(name) for name in grid.variants}, "look alike")
    profiles = {name: name.lower() for name in experiment.profiles}
    yield from _alike(("profiles",), profiles, "would share a results folder where case does not count")
    count, size = count_cells(experiment), count_cells(experiment) * grid.most_seeds
    if count > MAX_CELLS or size > MAX_MEMBERS:
        yield Inconsistency(
            ("grid",),
            f"the grid has {count:,} cells and {size:,} members",
            f"at most {MAX_CELLS:,} cells and {MAX_MEMBERS:,} members in one file",
            stops=True,
        )


def _stages_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within two stages of seeds, and between them and the grid."""
    grid, stages = experiment.grid, experiment.grid.stages
    if stages is None:
        return
    if stages.at_most < stages.first:
        yield Inconsistency(
            ("grid", "seeds", "at_most"),
            f"at most {stages.at_most} seeds are fewer than the {stages.first} of the first stage",
            f"at_most: {stages.first} or more, or a smaller `from`",
        )
    count = count_cells(experiment) // len(grid.depth or (0,))
    if stages.of == "effect" and count == 1:
        yield Inconsistency(
            ("grid", "seeds", "of"),
            "an effect is the difference between two variants, and the grid has only one",
            "of: cell, or grid.variants that differ in what is to be compared",
        )


def _axis_name_problems(axis: str) -> Iterator[Inconsistency]:
    """What is wrong with the name of an axis with named levels."""
    if axis in (*LABELS, GRID):
        yield Inconsistency(
            ("grid", "axes", axis), f"{axis} is what every member is called by already", "another name for the axis"
        )
    elif not re.fullmatch(AXIS_NAME, axis):
        yield Inconsistency(
            ("grid", "axes", axis),
            f"{shorten(repr(axis), 80)} is no name for an axis with named levels, each of which names the fields "
            "that it sets",
            "at most 60 letters, digits and _, a letter first, such as width: {narrow: {model.layers: ...}}",
        )


def _as_seen(name: str) -> str:
    """A name as it is seen: accents may be parts of letters or stand after them, and blanks in a row are one."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _alike(path: Loc, names: dict[str, str], trouble: str) -> Iterator[Inconsistency]:
    """Names that share a form with one before them."""
    first: dict[str, str] = {}
    for name, form in names.items():
        if form in first:
            message = f"{first[form]!r} and {name!r} {trouble}"
            yield Inconsistency((*path, name), message, "names that differ in what is seen")
        first.setdefault(form, name)


def _repeated(path: Loc, values: Sequence[Any], word: str) -> Iterator[Inconsistency]:
    seen: dict[str, list[Any]] = {}
    for place, value in enumerate(values):
        # Equal numbers print alike once they are floats, so most pairs need no comparison.
        key = repr(float(value)) if isinstance(value, int | float) and abs(value) < 2**53 else repr(value)
        if any(same(value, other) for other in seen.setdefault(key, [])):
            yield Inconsistency((*path, place), f"{word} {value!r} is listed twice", f"each {word} once")
        seen[key].append(value)


def combination_problems(experiment: Experiment, item: Combination) -> Iterator[Inconsistency]:
    """Contradictions between the grid and the model of one cell."""
    if experiment.grid.depth is not None and 0 < item.layers < item.depth:
        yield Inconsistency(
            ("grid", "depth", experiment.grid.depth.index(item.depth)),
            f"depth {item.depth} is more than the {item.layers} layers of the model",
            f"a depth from 1 to {item.layers}, or more entries in model.layers",
        )
    for source, path, before in item.twice:
        message = f"{path} beside {before}: they are two forms of one field"
        yield Inconsistency(source, message, "one of the two, or one axis with named levels in place of both")


def same_model(cells: list[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Pairs of cells that resolve to one and the same model under two names."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        plain = plainest(cell.member)
        hashes = cell.hashes if plain == cell.member else content_hashes(plain)
        key = hashes.digests(cell.member.seed).evaluation
        if key in seen:
            yield seen[key], cell
        else:
            seen[key] = cell

"""Which points of a search go on, and from which epoch to which: as the records of a results folder say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from hvae_spec.errors import RecordError
from hvae_spec.records.layout import Results
from hvae_spec.spec.grid import TRIAL, Cell, Member
from hvae_spec.spec.load import GridReading, Reading
from hvae_spec.spec.search import RUNG, SCORE, SearchSpec


@dataclass(frozen=True)
class Rung:
    """Points that are trained for the same number of epochs."""

    place: dict[str, Any]
    """The data set, the depth, the variant and the place on the axes whose search it is of."""
    epochs: int
    trials: int
    """Points on it."""
    kept: tuple[str, ...] | None
    """Names of the points that go on, the best first, of which on the last rung the first is measured anew. None while
    members of the rung are not done."""


def searched(reading: Reading, results: Results) -> tuple[Reading, dict[str, list[Rung]]]:
    """A spec with the members of its searches that are known to run: of every rung that the records say is reached, and
    the new seeds of the best point once all rungs are done.

    Args:
        reading: the spec, with every point of a search trained to the end.
        results: the results folder, which need not be there yet.

    Returns:
        The spec, and the rungs that are reached, by the name of a grid that is a search.

    """
    rungs = {grid.name: list[Rung]() for grid in reading.grids if grid.experiment.search is not None}
    grids = tuple(
        grid if grid.experiment.search is None else _grid(grid, grid.experiment.search, results, rungs[grid.name])
        for grid in reading.grids
    )
    return replace(reading, grids=grids), rungs


def _grid(grid: GridReading, search: SearchSpec, results: Results, rungs: list[Rung]) -> GridReading:
    cells: list[Cell] = []
    for place, own in groupby(grid.cells, key=_place):
        cells += _cells(dict(place), list(own), search, results, rungs)
    return replace(grid, cells=cells)


def _place(cell: Cell) -> tuple[tuple[str, Any], ...]:
    labels = {"dataset": cell.dataset, "depth": cell.depth, "variant": cell.variant, **cell.levels}
    return tuple((key, value) for key, value in labels.items() if key != TRIAL)


def _cells(
    place: dict[str, Any], cells: list[Cell], search: SearchSpec, results: Results, rungs: list[Rung]
) -> Iterator[Cell]:
    """The cells of one search. What it says of its rungs is added to `rungs`."""
    epochs = cells[0].member.training.epochs
    ends = [epochs] if search.halving is None else search.halving.rungs(epochs)
    alive = cells
    for number, end in enumerate(ends):
        here = [_until(cell, end, is_labeled=len(ends) > 1) for cell in alive]
        scores = [_score(cell.members, results) for cell in here]
        is_last = number == len(ends) - 1
        best = _ranked(here, scores)
        if best is not None and search.halving is not None and not is_last:
            best = best[: search.halving.kept(len(here))]
        names = None if best is None else tuple(str(cell.levels[TRIAL]) for cell in best)
        rungs.append(Rung(place, end, len(here), names))
        if is_last and best:
            new = range(max(best[0].seeds) + 1, max(best[0].seeds) + 1 + search.confirm)
            here = [replace(cell, seeds=(*cell.seeds, *new)) if cell is best[0] else cell for cell in here]
        yield from here
        if not best:
            return
        chosen = set(names or ())
        alive = [cell for cell in alive if cell.levels[TRIAL] in chosen]


def _until(cell: Cell, epochs: int, *, is_labeled: bool) -> Cell:
    """A point as it is trained on one rung."""
    training = cell.member.training.model_copy(update={"epochs": epochs})
    label = {RUNG: epochs} if is_labeled else {}
    return replace(
        cell,
        member=cell.member.model_copy(update={"training": training}),
        axes={**cell.axes, **label},
        levels={**cell.levels, **label},
    )


def _ranked(cells: Sequence[Cell], scores: Sequence[float | None]) -> list[Cell] | None:
    """The points that have a score, the best first; None while any is not known.

    Args:
        cells: the points.
        scores: of each; negative infinity of one that has diverged or failed, None of one that is not done.

    """
    known = [(score, cell) for score, cell in zip(scores, cells, strict=True) if score is not None]
    if len(known) < len(cells):
        return None
    finite = [(score, cell) for score, cell in known if score > float("-inf")]
    return [cell for _, cell in sorted(finite, key=lambda pair: -pair[0])]


def _score(members: Sequence[Member], results: Results) -> float | None:
    """The mean over the seeds of a point of its bound on the validation images, in nats per image; None while a member
    is not done, and negative infinity where one has none.
    """
    values = [_value(member, results) for member in members]
    return None if None in values else sum(value for value in values if value is not None) / len(values)


def _value(member: Member, results: Results) -> float | None:
    record = results.find(member.digests.training)
    if record is None:
        return None
    try:
        status = record.status(member.digests.evaluation)
        result = record.evaluation(member.digests.evaluation).result
    except RecordError:
        return float("-inf")
    if status == "finished" and result is not None and (score := getattr(result, SCORE)) is not None:
        return float(score)
    return None if status in ("pending", "running", "trained") else float("-inf")

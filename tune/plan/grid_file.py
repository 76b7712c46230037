"""What grid.json says of a plan."""

from collections.abc import Iterable, Mapping
from typing import Any

from hvae_spec.records.plan import GridFile, NamedGrid, PlannedMember, ReportSettings
from hvae_spec.spec.grid import Member, same, search_points
from hvae_spec.spec.load import GridReading, Reading


def grid_file(
    reading: Reading,
    members: Iterable[Member],
    absent: Mapping[str, str],
    foretold: Mapping[str, dict[str, list[Any]]] = {},
) -> GridFile:
    """The content of grid.json.

    Args:
        reading: the spec.
        members: its members, each once.
        absent: data sets whose files are missing, each with what is said of them.
        foretold: of each grid by its name what `foretold_contrasts` gives.

    """
    planned = [planned_member(member) for member in members]
    if len(reading.grids) == 1:
        return GridFile(members=planned, absent=dict(absent), **_described(reading.grids[0], foretold))
    return GridFile(
        name=reading.name,
        variants=list(dict.fromkeys(cell.variant for cell in reading.cells)),
        members=planned,
        grids=[
            NamedGrid(
                labels={member.digests.evaluation: member.labels for member in grid.members},
                **_described(grid, foretold),
            )
            for grid in reading.grids
        ],
        absent=dict(absent),
    )


def planned_member(member: Member) -> PlannedMember:
    """What grid.json says of a member."""
    return PlannedMember(
        digest=member.digests.evaluation,
        training=member.digests.training,
        folder=member.folder,
        labels=member.labels,
        measured=member.spec.measured,
    )


def foretold_contrasts(grid: GridReading, *, has_results: bool, before: GridFile | None) -> dict[str, list[Any]]:
    """The contrasts of a grid's report that were planned before it had a result: all of them as long as it has none,
    then those that are as they were.

    Args:
        grid: the grid as it is planned now.
        has_results: whether any member of it has been trained, here or in a folder that its record is taken from.
        before: grid.json as it was; None if there was none.

    """
    named = [] if before is None else [item for item in (before, *before.grids) if item.name == grid.name]
    known = {name: pair for item in named for name, pair in item.foretold.items()}
    contrasts = grid.experiment.report.contrasts
    return {name: pair for name, pair in contrasts.items() if not has_results or same(known.get(name), pair)}


def _described(grid: GridReading, foretold: Mapping[str, dict[str, list[Any]]]) -> dict[str, Any]:
    """The fields of a `PlannedGrid`."""
    points = search_points(grid.experiment)
    search = {
        "space": list(next(iter(points.values()), {})),
        "points": {name: list(point.values()) for name, point in points.items()},
        "seeds": list(grid.experiment.grid.first_seeds),
    }
    return {
        "name": grid.name,
        "variants": list(dict.fromkeys(cell.variant for cell in grid.cells)),
        "stages": grid.experiment.grid.stages,
        "report": ReportSettings(**grid.experiment.report.model_dump()),
        "foretold": foretold.get(grid.name, {}),
        "search": search if points else None,
    }

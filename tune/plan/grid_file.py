"""What grid.json says of a plan."""

from collections.abc import Iterable, Mapping
from typing import Any

from hvae_spec.records.result import GridFile, NamedGrid, PlannedMember, ReportSettings
from hvae_spec.spec.grid import Member, search_points
from hvae_spec.spec.load import GridReading, Reading


def grid_file(reading: Reading, members: Iterable[Member], absent: Mapping[str, str]) -> GridFile:
    """The content of grid.json.

    Args:
        reading: the spec.
        members: its members, each once.
        absent: data sets whose files are missing, each with what is said of them.

    """
    planned = [planned_member(member) for member in members]
    if len(reading.grids) == 1:
        return GridFile(members=planned, absent=dict(absent), **_described(reading.grids[0]))
    return GridFile(
        name=reading.name,
        variants=list(dict.fromkeys(cell.variant for cell in reading.cells)),
        members=planned,
        grids=[
            NamedGrid(labels={member.digests.evaluation: member.labels for member in grid.members}, **_described(grid))
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


def _described(grid: GridReading) -> dict[str, Any]:
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
        "search": search if points else None,
    }

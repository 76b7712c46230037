"""How many seeds every cell gets where they come in two stages: as many as the records of the first stage say."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hvae_spec.records.layout import Results
from hvae_spec.records.result import GridFile, PlannedMember
from hvae_spec.spec.grid import Cell, Member
from hvae_spec.spec.load import Reading

if TYPE_CHECKING:
    from analysis.statistics import Block


def staged(reading: Reading, results: Results) -> "tuple[Reading, list[Block]]":
    """A spec with as many seeds as the records of a results folder say: those of both stages where the first is done.

    Args:
        reading: the spec, with the seeds of the first stage.
        results: the results folder, which need not be there yet.

    Returns:
        The spec, and what has the same seeds; nothing where seeds are a list.

    Raises:
        UserError: intervals are to be of effects, and the grid has none.

    """
    if reading.experiment.grid.stages is None:
        return reading, []
    # Pandas takes a second to import.
    from analysis import frames, statistics

    grid = grid_file(reading, reading.members)
    specs = {member.folder: member.spec.model_dump(mode="json") for member in reading.members}
    blocks = statistics.blocks(frames.load(results.root, grid, specs))
    cells = [replace(cell, seeds=tuple(range(_seeds(cell, blocks)))) for cell in reading.cells]
    return replace(reading, cells=cells), blocks


def grid_file(reading: Reading, members: Iterable[Member]) -> GridFile:
    """The content of grid.json for these members of a spec."""
    return GridFile(
        name=reading.experiment.name,
        variants=list(dict.fromkeys(cell.variant for cell in reading.cells)),
        members=[
            PlannedMember(
                digest=member.digests.evaluation,
                training=member.digests.training,
                folder=member.folder,
                labels=member.labels,
                measured=member.spec.measured,
            )
            for member in members
        ],
        stages=reading.experiment.grid.stages,
    )


def _seeds(cell: Cell, blocks: "list[Block]") -> int:
    """How many seeds a cell has: those of its block, as far as they are known."""
    from analysis.reader import plain

    labels: dict[str, Any] = {key: plain(value) for key, value in cell.members[0].labels.items()}
    own = next(block for block in blocks if all(labels[key] == value for key, value in block.place.items()))
    return len(cell.seeds) if own.seeds is None else own.seeds

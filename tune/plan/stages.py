"""How many seeds every cell gets where they come in two stages: as many as the records of the first stage say."""

from dataclasses import replace
from typing import TYPE_CHECKING

from hvae_spec.records.layout import Results
from hvae_spec.spec.grid import Cell
from hvae_spec.spec.load import GridReading, Reading
from tune.plan.grid_file import grid_file

if TYPE_CHECKING:
    from analysis.statistics import Block


def staged(reading: Reading, results: Results) -> "tuple[Reading, dict[str, list[Block]]]":
    """A spec with as many seeds as the records of a results folder say: those of both stages where the first is done.

    Args:
        reading: the spec, with the seeds of the first stage.
        results: the results folder, which need not be there yet.

    Returns:
        The spec, and what has the same seeds, by the name of a grid whose seeds come in two stages.

    Raises:
        UserError: intervals are to be of effects, and the grid has none.

    """
    blocks = {grid.name: _blocks(grid, results) for grid in reading.grids if grid.experiment.grid.stages is not None}
    grids = [_with_seeds(grid, blocks[grid.name]) if grid.name in blocks else grid for grid in reading.grids]
    return replace(reading, grids=tuple(grids)), blocks


def _blocks(grid: GridReading, results: Results) -> "list[Block]":
    # Pandas takes a second to import.
    from analysis import frames, statistics

    planned = grid_file(Reading(grid.name, (grid,)), grid.members, {})
    specs = {member.folder: member.spec.model_dump(mode="json") for member in grid.members}
    loaded = frames.load(results.root, planned, specs)
    # Labels of members have the paths of axes, and frames columns.
    return [
        replace(block, place={loaded.axes.get(key, key): level for key, level in block.place.items()})
        for block in statistics.blocks(loaded)
    ]


def _with_seeds(grid: GridReading, blocks: "list[Block]") -> GridReading:
    return replace(grid, cells=[replace(cell, seeds=tuple(range(_seeds(cell, blocks)))) for cell in grid.cells])


def _seeds(cell: Cell, blocks: "list[Block]") -> int:
    """How many seeds a cell has: those of its block, as far as they are known."""
    labels = cell.members[0].labels
    # A folder may hold a grid of other axes, of which this cell has no block.
    found = [block for block in blocks if all(labels.get(key, ...) == value for key, value in block.place.items())]
    return len(cell.seeds) if not found or found[0].seeds is None else found[0].seeds

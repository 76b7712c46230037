"""Records become tidy frames, frames statistics, and statistics tables and figures.

    import analysis

    frames = analysis.load("results/mnist_grid")
    frames.members.groupby(["depth", "variant"]).test_log_likelihood.mean()
    analysis.tables.log_likelihood(frames).tidy

- `reader`, `folders`, `columns`, `bits`, `frames`, `caveats`: records to frames, and whose data they are of
- `statistics`: numbers and frames made of frames
- `layout`: the places of factors in tables and figures
- `comparison`: two results beside each other
- `tables`: tables made of statistics, and their renderings
- `paper`: the published numbers, and tables of ours beside them
- `figures`: figures, and figures as files; they know no tables
- `html`: all of it as one page
- `report`: all of it as files; the command

A module imports from its own line and the lines above, never from those below, so no two folders import each other.
Neither torch nor Ray is imported, and pandas only when something is loaded: `analysis.statistics`, `analysis.tables`
and `analysis.figures` are imported when they are first used.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis import figures, statistics, tables
    from analysis.comparison import Comparison
    from analysis.frames import Frames


def load(*folders: str | Path) -> "Frames":
    """Tidy frames of a results folder, whatever the state of its grid: `.members`, `.epochs`, `.units` and `.bounds`.

    Of several folders, the grids stand side by side: `.grids` has the frames of each grid, by its own labels, and those
    of the whole have every member once (by its digest), with the first grid that has it in the column `grid`. Where
    several folders have a member, the record that has come furthest is shown, of those that are done the first. Grids
    of the same name get the part of their folders' paths that tells them apart: `small-old` and `small-new`.

    Args:
        folders: such as `results/mnist_grid`. A folder of several grids (specs/paper.yaml) contributes each of them.

    Returns:
        The frames; see `analysis.frames.Frames` for their columns.

    Raises:
        TypeError: no folder is given.
        UserError: there is no such folder, it holds no results, a file in it is damaged, or two folders have the same
            member on other images.

    """
    if not folders:
        raise TypeError("analysis.load: no folder is given; expected one or several, as in load('results/quickstart')")
    from analysis import frames

    return frames.load_all(folders)


def compare(a: "Frames | str | Path", b: "Frames | str | Path") -> "Comparison":
    """Two results beside each other: which members both have, and for every cell that both have the settings that
    differ and the paired differences of numbers over seeds, with Student's t intervals.

    Args:
        a: the one, as `load` has it, or its folder.
        b: the other. Differences are b - a.

    Returns:
        Three tidy frames; `analysis.comparison.compare` has the formula, and takes other quantities, too.

    Raises:
        UserError: a folder holds no results.

    """
    from analysis import comparison

    return comparison.compare(a, b)


def __getattr__(name: str) -> ModuleType:
    """The subpackages for users, imported when they are first used."""
    if name in ("figures", "statistics", "tables"):
        return import_module(f"analysis.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["compare", "figures", "load", "statistics", "tables"]

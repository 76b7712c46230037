"""Records become tidy frames, frames statistics, and statistics tables and figures.

    import analysis

    frames = analysis.load("results/mnist_grid")
    frames.members.groupby(["depth", "variant"]).test_log_likelihood.mean()
    analysis.tables.log_likelihood(frames).tidy

- `reader`, `columns`, `frames`, `layout`, `caveats`: records to frames, the places of factors, and whose data it is
- `statistics`: numbers and frames made of frames
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
    from analysis.frames import Frames


def load(path: str | Path) -> "Frames":
    """Tidy frames of a results folder, whatever the state of its grid: `.members`, `.epochs`, `.units` and `.bounds`.

    Args:
        path: the folder, such as `results/mnist_grid`.

    Returns:
        The frames; see `analysis.frames.Frames` for their columns.

    Raises:
        UserError: there is no such folder, it holds no results, or a file in it is damaged.

    """
    from analysis import frames

    return frames.load(path)


def __getattr__(name: str) -> ModuleType:
    """The subpackages for users, imported when they are first used."""
    if name in ("figures", "statistics", "tables"):
        return import_module(f"analysis.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["figures", "load", "statistics", "tables"]

"""Records -> tidy frames -> statistics -> tables and figures.

    import analysis

    frames = analysis.load("results/mnist_grid")
    frames.members.groupby(["depth", "variant"]).test_log_likelihood.mean()

Neither torch nor Ray is imported, and pandas only when something is loaded.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.frames import Frames


def load(path: str | Path) -> "Frames":
    """Tidy frames of a results folder: `.members`, `.epochs`, `.units` and `.bounds`. See `analysis.frames`.

    Raises:
        UserError: there is no such folder, it holds no results, or a file in it is damaged.

    """
    from analysis import frames

    return frames.load(path)


__all__ = ["load"]

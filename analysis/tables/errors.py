"""The table of test errors: how often the likeliest class by q(y|x) is not that of the image."""

import pandas as pd

from analysis.caveats import counts_text
from analysis.frames import Frames
from analysis.layout import known, layout
from analysis.statistics import over_seeds
from analysis.tables.building import mean_table, placed
from analysis.tables.footnotes import MEANS, grid_footnotes
from analysis.tables.table import TableSet


def class_errors(frames: Frames) -> TableSet:
    """The test error of models with classes, in percent of the test images: one table per data set, by depth and
    variant, or, with further axes, by all factors of the grid that vary. None where no member has it.
    """
    tables = []
    for group in frames.groups():
        places, members = layout(group.frames), known(group.frames.members, frames.factors)
        if members["test_error"].notna().any():
            cells = over_seeds.cells(members, [*places.rows, places.color], "test_error")
            title = ("Test error (% of the test images)", places.subject(group))
            footnotes = (*_footnotes(group.frames.members), MEANS, *grid_footnotes(frames, group.frames))
            tables.append(mean_table(title, places.row_heading(), placed(cells, members, places), footnotes))
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("test_error", tuple(tables), over_seeds.cells(frames.planned.members, by, "test_error"))


def _footnotes(members: pd.DataFrame) -> tuple[str, ...]:
    """What an error is, how sure that of one member is, and which members have no bound beside it."""
    own = members.dropna(subset=["test_error"])
    half = ((own["test_error_high"] - own["test_error_low"]) / 2).max()
    footnotes = [
        f"The share of {counts_text(own['test_images'])} test images whose likeliest class by q(y|x) is not theirs. "
        f"Half of Wilson's 95% interval of a member's error, over test images: at most {half:.2f}.",
    ]
    return tuple(footnotes)

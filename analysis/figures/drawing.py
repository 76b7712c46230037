"""Every figure of a grid, as the files that a report writes."""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.columns import FACTORS
from analysis.figures import FIGURES, caption
from analysis.figures.style import DEFAULTS, SIZE, STYLE, add_title, empty_figure
from analysis.frames import Frames
from analysis.layout import layout

RESOLUTION = 200
"""Dots per inch of the PNG files."""


@dataclass(frozen=True)
class Drawing:
    """One figure of one group of members, rendered."""

    name: str
    """Its name in `FIGURES`."""
    stem: str
    """File name without its ending."""
    group: str
    """Title of the group (see `Frames.groups`)."""
    caption: str
    png: bytes
    pdf: bytes


def render(frames: Frames) -> Iterator[Drawing]:
    """The figures of every group of a grid, one at a time; a figure that has nothing to draw is left out.

    Raises:
        UserError: a gallery is damaged.

    """
    for name, figure_of in FIGURES.items():
        across = layout(frames).axes if name == "log_likelihood" else ()
        for group in (frames.as_variants(FACTORS) if name == "paired_effects" else frames).groups(across):
            files = _files(partial(figure_of, group.frames))
            if files is not None:
                stem = f"{name}-{group.slug}" if group.slug else name
                yield Drawing(name, stem, group.title, caption(name), *files)


def check() -> None:
    """Draw a figure of letters and symbols. Raises whatever drawing would raise later."""

    def figure() -> Figure:
        with mpl.rc_context(STYLE):
            drawn = empty_figure(*SIZE)
            add_title(drawn, "log p(x) ± β, 日")
            drawn.subplots().set_xlabel("$z_i$")
        return drawn

    _files(figure)


def _files(make: Callable[[], Figure | None]) -> tuple[bytes, bytes] | None:
    """A figure as PNG and as PDF, whatever the settings of matplotlib are; None if there is nothing to draw."""
    with mpl.rc_context(DEFAULTS), warnings.catch_warnings():
        # A character that no font has is drawn as a box; tables and the page have it in full.
        warnings.filterwarnings("ignore", "Glyph .* missing from ", UserWarning)
        figure = make()
        if figure is None:
            return None
        files = []
        # Without a date, the same records give the same file.
        for ending, metadata in (("png", None), ("pdf", {"CreationDate": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=ending, dpi=RESOLUTION, metadata=metadata)
            # The layout of the first file serves for both, which takes half the time.
            figure.set_layout_engine("none")
            files.append(stream.getvalue())
        return files[0], files[1]

"""Every figure of a grid, as the files that a report writes."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures import FIGURES, search
from analysis.figures.descriptions import HEADINGS, caption, shown
from analysis.figures.style import DEFAULTS, SIZE, STYLE, add_title, empty_figure
from analysis.frames import Frames
from analysis.layout import layout
from hvae_spec.spec.grid import TRIAL
from hvae_spec.spec.search import RUNG

SEARCH = "search"
"""The figure of searches, which have no other."""
RESOLUTION = 200
"""Dots per inch of the PNG files."""
DIGITS = 12
"""Digits of a digest by which a figure names a member."""
SVG_BYTES = 400_000
"""An SVG that is larger than this is not kept: a picture of thousands of points is drawn faster from dots."""


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
    """What it shows, and how it is read."""
    png: bytes
    pdf: bytes
    svg: bytes | None = None
    """None where it would be large."""
    inches: float = 0.0
    """Its width in print."""
    shown: str = ""
    """What this figure shows, in numbers: its result."""
    members: tuple[str, ...] = ()
    """Digests of the members behind it."""

    @property
    def heading(self) -> str:
        """What the figure is of, in a few words."""
        return HEADINGS.get(self.name, self.name.replace("_", " "))


def render(frames: Frames) -> Iterator[Drawing]:
    """The figures of every group of a grid, one at a time; a figure that has nothing to draw is left out.

    Raises:
        UserError: a gallery is damaged.

    """
    # Every place of a search is a search of its own, which is drawn as a whole, and not point by point.
    for name, figure_of in (FIGURES if frames.search is None else {SEARCH: search}).items():
        groups = frames.groups() if frames.search is None else _searches(frames).groups(_searches(frames).factors)
        for group in groups:
            digests = behind(group.frames)
            files = _files(partial(figure_of, group.frames), digests)
            if files is not None:
                stem = f"{name}-{group.slug}" if group.slug else name
                text = caption(figure_of, name, group.frames)
                result = shown(name, group.frames)
                title = layout(group.frames).subject(group) if name == "log_likelihood" else group.title
                yield Drawing(name, stem, title, text, **files, shown=result, members=digests)


def behind(frames: Frames) -> tuple[str, ...]:
    """The members that tables and figures are made from: the digests of those that have a result or curves."""
    members = frames.planned.members
    done = members[members["status"].isin(["finished", "diverged", "trained", "running"])]
    return tuple(str(digest)[:DIGITS] for digest in done["digest"])


def _searches(frames: Frames) -> Frames:
    """A search without the axes of its points, so that its groups are searches."""
    return replace(frames, axes={column: path for column, path in frames.axes.items() if path not in (TRIAL, RUNG)})


def check() -> None:
    """Draw a figure of letters and symbols. Raises whatever drawing would raise later."""

    def figure() -> Figure:
        with mpl.rc_context(STYLE):
            drawn = empty_figure(*SIZE)
            add_title(drawn, "log p(x) ± β, 日")
            drawn.subplots().set_xlabel("$z_i$")
        return drawn

    _files(figure)


def _files(make: Callable[[], Figure | None], digests: Sequence[str] = ()) -> dict[str, Any] | None:
    """A figure as `png`, `pdf` and, where it is small, `svg`, and its width in `inches`, whatever the settings of
    matplotlib are; None if there is nothing to draw.

    Args:
        make: draws it.
        digests: of the members behind it, which the files name in their metadata.

    """
    with mpl.rc_context(DEFAULTS), warnings.catch_warnings():
        # A character that no font has is drawn as a box; tables and the page have it in full.
        warnings.filterwarnings("ignore", "Glyph .* missing from ", UserWarning)
        figure = make()
        if figure is None:
            return None
        files: dict[str, Any] = {}
        names = f"members {' '.join(digests)}" if digests else None
        # Without a date, the same records give the same file.
        metadata: dict[str, dict[str, Any]] = {
            "png": {"Description": names},
            "pdf": {"CreationDate": None, "Keywords": names},
            "svg": {"Date": None, "Keywords": names},
        }
        for ending, content in metadata.items():
            stream = io.BytesIO()
            figure.savefig(stream, format=ending, dpi=RESOLUTION, metadata=content)
            # The layout of the first file serves for all. With "none" in the place of None, every further file would be
            # drawn twice, once for a layout that changes nothing.
            figure.set_layout_engine(None)
            files[ending] = stream.getvalue()
        if len(files["svg"]) > SVG_BYTES:
            files["svg"] = None
        return {**files, "inches": figure.get_figwidth()}

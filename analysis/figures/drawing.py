"""Every figure of a grid, as the files that a report writes."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.columns import FACTORS
from analysis.figures import FIGURES, caption
from analysis.frames import Frames

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
        for group in (frames.as_variants(FACTORS) if name == "paired_effects" else frames).groups():
            figure = figure_of(group.frames)
            if figure is None:
                continue
            files = {}
            # Without a date, the same records give the same file.
            for ending, metadata in (("png", None), ("pdf", {"CreationDate": None})):
                stream = io.BytesIO()
                figure.savefig(stream, format=ending, dpi=RESOLUTION, metadata=metadata)
                # The layout of the first file serves for both, which takes half the time.
                figure.set_layout_engine("none")
                files[ending] = stream.getvalue()
            stem = f"{name}-{group.slug}" if group.slug else name
            yield Drawing(name, stem, group.title, caption(name), files["png"], files["pdf"])

"""Pictures from galleries: injected samples (Fig. 6b), reconstructions, samples of the prior."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.galleries import galleries, mosaic, shown
from analysis.figures.style import STYLE, blank, folded, heading, literal, room
from analysis.frames import Frames

BARE = {**STYLE, "axes.grid": False}
SIDE = 5
"""Images a side of a panel of injected samples."""
PRIOR_SIDE = 6
"""Images a side of a panel of prior samples."""


def injected(frames: Frames) -> Figure | None:
    """Samples with z_i* ~ N(0, I) injected at layer i, a panel a variant and layer (Fig. 6b of the paper).

    The layers below z_i* are sampled from the generative model, those above it not at all: given z_i*, the image does
    not depend on them. What is shown is E[x|z_1], each image with noise of its own. In the last column they are samples
    of the model. Greatest depth and first finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    depth = found[0].depth
    with mpl.rc_context(BARE):
        height = room((folded(gallery.variant) for gallery in found), 1.42)
        figure = blank(0.5 + 1.42 * depth, 0.5 + height * len(found))
        grid = figure.subplots(len(found), depth, squeeze=False)
        for gallery, row in zip(found, grid, strict=True):
            for layer, axes in enumerate(row, start=1):
                images = gallery.arrays[f"injected/{layer}"]
                _show(axes, images.reshape(-1, images.shape[-1])[: SIDE**2], gallery.shape, SIDE)
            row[0].set_ylabel(literal(folded(gallery.variant)))
        for layer, axes in enumerate(grid[0], start=1):
            axes.set_title(f"$z_{{{layer}}}^*$")
        heading(figure, shown(frames, found))
    return figure


def reconstructions(frames: Frames) -> Figure | None:
    """Test images and their reconstructions E[x|z_1], z ~ q(z|x), a row a variant.

    The test images are as the models see them. Greatest depth and first finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    rows = [found[0].arrays["images"], *(gallery.arrays["reconstructions"] for gallery in found)]
    names = ["test images", *(literal(folded(gallery.variant, 30)) for gallery in found)]
    columns = len(rows[0])
    height, _ = found[0].shape
    with mpl.rc_context(BARE):
        figure = blank(7.2, 0.4 + 0.34 * len(rows))
        axes = figure.subplots()
        _show(axes, np.concatenate(rows), found[0].shape, columns)
        middles = [place * (height + 1) + (height - 1) / 2 for place in range(len(rows))]
        axes.set_yticks(middles, names, fontsize="small")
        axes.tick_params(left=False)
        # The room that long names leave tells the images' size, and the other way round.
        figure.set_layout_engine("compressed")
        heading(figure, shown(frames, found))
    return figure


def prior_samples(frames: Frames) -> Figure | None:
    """Samples of the model, E[x|z_1] with z drawn from the prior from the top layer down, a panel a variant.

    Greatest depth and first finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    with mpl.rc_context(BARE):
        names = [folded(gallery.variant, 18) for gallery in found]
        lines = max(2, *(name.count("\n") + 1 for name in names))
        figure = blank(room(names, 1.8) * len(found), 1.9 + 0.2 * lines)
        grid = figure.subplots(1, len(found), squeeze=False)
        for gallery, name, axes in zip(found, names, grid[0], strict=True):
            _show(axes, gallery.arrays["prior_samples"][: PRIOR_SIDE**2], gallery.shape, PRIOR_SIDE)
            axes.set_title(literal(name), fontsize="medium")
        heading(figure, shown(frames, found))
    return figure


def _show(axes: Axes, images: NDArray[Any], shape: tuple[int, int], columns: int) -> None:
    axes.imshow(mosaic(images, shape, columns), cmap="gray", vmin=0, vmax=1, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)

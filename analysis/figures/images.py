"""Pictures from galleries: injected samples (Fig. 6b), reconstructions, samples of the prior."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.galleries import galleries, gallery_title
from analysis.figures.style import IMAGE_STYLE, add_title, empty_figure, escape_mathtext, panel_length, wrap
from analysis.frames import Frames
from hvae_spec.data.mosaic import mosaic

INJECTED_COLUMNS = 5
"""Images along each side of a panel of injected samples."""
PRIOR_COLUMNS = 6
"""Images along each side of a panel of prior samples."""


def injected(frames: Frames) -> Figure | None:
    """Samples with z_i* ~ N(0, I) injected at layer i, a panel per variant and layer (Fig. 6b of the paper).

    The layers below z_i* are sampled from the generative model, those above it from the prior: given z_i*, the image
    depends on them by skip connections alone. The images are E[x|z_1], with skip connections E[x|z_1, ..., z_L], each
    with noise of its own. Those of the last column are samples of the model. The models are those of greatest depth,
    each variant with its first finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    depth = found[0].depth
    with mpl.rc_context(IMAGE_STYLE):
        height = panel_length((wrap(gallery.variant) for gallery in found), 1.42)
        figure = empty_figure(0.5 + 1.42 * depth, 0.5 + height * len(found))
        grid = figure.subplots(len(found), depth, squeeze=False)
        for gallery, row in zip(found, grid, strict=True):
            for layer, axes in enumerate(row, start=1):
                images = gallery.arrays[f"injected/{layer}"]
                images = images.reshape(-1, images.shape[-1])[: INJECTED_COLUMNS**2]
                _show(axes, images, gallery.shape, INJECTED_COLUMNS)
            row[0].set_ylabel(escape_mathtext(wrap(gallery.variant)))
        for layer, axes in enumerate(grid[0], start=1):
            axes.set_title(f"$z_{{{layer}}}^*$")
        add_title(figure, gallery_title(frames, found))
    return figure


def reconstructions(frames: Frames) -> Figure | None:
    """Test images and their reconstructions E[x|z_1], with skip connections E[x|z_1, ..., z_L], z ~ q(z|x), a row per
    variant.

    The test images are as the models see them. The models are those of greatest depth, each variant with its first
    finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    rows = [found[0].arrays["images"], *(gallery.arrays["reconstructions"] for gallery in found)]
    names = ["test images", *(escape_mathtext(wrap(gallery.variant, 30)) for gallery in found)]
    columns = len(rows[0])
    height, _ = found[0].shape
    with mpl.rc_context(IMAGE_STYLE):
        figure = empty_figure(7.2, 0.4 + 0.34 * len(rows))
        axes = figure.subplots()
        _show(axes, np.concatenate(rows), found[0].shape, columns)
        middles = [place * (height + 1) + (height - 1) / 2 for place in range(len(rows))]
        axes.set_yticks(middles, names, fontsize="small")
        axes.tick_params(left=False)
        # The size of the images depends on the space that long names leave, and the reverse.
        figure.set_layout_engine("compressed")
        add_title(figure, gallery_title(frames, found))
    return figure


def prior_samples(frames: Frames) -> Figure | None:
    """Samples of the model: E[x|z_1], with skip connections E[x|z_1, ..., z_L], and z drawn from the prior from the top
    layer down, a panel per variant.

    The models are those of greatest depth, each variant with its first finished seed.
    """
    found = galleries(frames)
    if not found:
        return None
    with mpl.rc_context(IMAGE_STYLE):
        names = [wrap(gallery.variant, 18) for gallery in found]
        lines = max(2, *(name.count("\n") + 1 for name in names))
        figure = empty_figure(panel_length(names, 1.8) * len(found), 1.9 + 0.2 * lines)
        grid = figure.subplots(1, len(found), squeeze=False)
        for gallery, name, axes in zip(found, names, grid[0], strict=True):
            _show(axes, gallery.arrays["prior_samples"][: PRIOR_COLUMNS**2], gallery.shape, PRIOR_COLUMNS)
            axes.set_title(escape_mathtext(name), fontsize="medium")
        add_title(figure, gallery_title(frames, found))
    return figure


def _show(axes: Axes, images: NDArray[Any], shape: tuple[int, int], columns: int) -> None:
    """Draw images [n, D] side by side on axes without ticks and lines."""
    axes.imshow(mosaic(images, shape, columns), cmap="gray", vmin=0, vmax=1, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)

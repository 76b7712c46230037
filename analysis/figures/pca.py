"""Principal components of the latents (Fig. 7)."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.figures.galleries import galleries, gallery_title
from analysis.figures.glyphs import drawable
from analysis.figures.style import (
    IMAGE_STYLE,
    add_legend,
    add_title,
    empty_figure,
    escape_mathtext,
    panel_length,
    wrap,
)
from analysis.frames import Frames
from hvae_spec.errors import shorten

MAX_CLASSES = 10
"""With more classes than this, their colors are too similar for a legend."""
LONGEST_NAME = 24
"""Characters of the name of a class in the legend."""


def latents(frames: Frames) -> Figure | None:
    """The first two principal components of z_i ~ q(z_i|.), one sample per test image, colored by class (Fig. 7).

    A panel per variant and layer, with its own components, on axes of equal scale; the title of the panel gives their
    shares of the variance of z_i. A layer that has collapsed onto its prior shows no classes. The models are those
    of greatest depth, each variant with its first finished seed, and at most 1,000 images.
    """
    found = galleries(frames)
    if not found:
        return None
    depth = found[0].depth
    classes = np.unique(found[0].arrays["labels"])
    palette = np.array(sns.color_palette("colorblind" if len(classes) <= MAX_CLASSES else "husl", len(classes)))
    with mpl.rc_context(IMAGE_STYLE):
        height = panel_length((wrap(gallery.variant) for gallery in found), 1.6)
        figure = empty_figure(0.9 + 1.45 * depth, 0.9 + height * len(found))
        grid = figure.subplots(len(found), depth, squeeze=False)
        for gallery, row in zip(found, grid, strict=True):
            colors = palette[np.searchsorted(classes, gallery.arrays["labels"])]
            for layer, axes in enumerate(row, start=1):
                scores, shares = principal_components(gallery.arrays[f"latents/{layer}"])
                # As vectors, a thousand points per panel would make a large PDF, and no sharper one.
                axes.scatter(*scores.T, s=3, c=colors, lw=0, alpha=0.8, rasterized=True)
                axes.set_title(f"$z_{{{layer}}}$: {' + '.join(f'{share:.0%}' for share in shares)}", fontsize="small")
                axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
                axes.spines[:].set(visible=True, color="0.8", lw=0.8)
            row[0].set_ylabel(escape_mathtext(wrap(gallery.variant)))
        if 1 < len(classes) <= MAX_CLASSES:
            dots = [
                Line2D([], [], ls="", marker="o", ms=4, color=color, label=_name(label, found[0].classes))
                for label, color in zip(classes, palette, strict=True)
            ]
            add_legend(figure, dots, columns=MAX_CLASSES, handletextpad=0, columnspacing=1)
        add_title(figure, gallery_title(frames, found))
    return figure


def _name(label: Any, names: Mapping[str, str]) -> str:
    """What the legend calls a class: its name, cut where it is long, or its label."""
    return escape_mathtext(drawable(shorten(names.get(str(label), str(label)), LONGEST_NAME)))


def principal_components(z: NDArray[Any], count: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores on the first principal components, and their shares of the variance.

    With the centered latents Z = U S V^T (singular value decomposition), the scores are U S = Z V and the shares
    s_k^2 / sum_j s_j^2. The signs of components are arbitrary: the entry of greatest modulus is made
    positive.

    Args:
        z: latents [N, U].
        count: number of components.

    Returns:
        Scores [N, count], zero where there are fewer units, and shares [min(count, U)], zero if all points are equal.

    Examples:
        >>> scores, shares = principal_components(np.array([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]]))
        >>> scores[:, 0].tolist(), shares.tolist()
        ([-2.0, -1.0, 3.0], [1.0, 0.0])

    """
    centered = z.astype(np.float64) - z.mean(0, dtype=np.float64)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    components = components[:count]
    greatest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(len(components)), greatest])[:, None]
    scores = np.zeros((len(z), count))
    scores[:, : len(components)] = centered @ components.T
    total = np.square(singular).sum()
    return scores, np.square(singular[:count]) / (total if total > 0 else 1.0)

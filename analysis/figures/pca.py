"""Principal components of the latents (Fig. 7)."""

from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.figures.galleries import galleries, shown
from analysis.figures.style import STYLE, blank, folded, heading, legend_below, literal, room
from analysis.frames import Frames

NAMED = 10
"""With more classes than this, the legend would tell nothing."""


def latents(frames: Frames) -> Figure | None:
    """The first two principal components of z_i ~ q(z_i|.), one sample a test image, coloured by class (Fig. 7).

    A panel a variant and layer, the components computed in each panel apart, on axes of equal scale; its title gives
    their shares of the variance of z_i. A layer that has collapsed onto its prior shows no classes. Greatest depth and
    first finished seed, at most 1,000 images.
    """
    found = galleries(frames)
    if not found:
        return None
    depth = found[0].depth
    classes = np.unique(found[0].arrays["labels"])
    palette = np.array(sns.color_palette("colorblind" if len(classes) <= NAMED else "husl", len(classes)))
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        height = room((folded(gallery.variant) for gallery in found), 1.6)
        figure = blank(0.9 + 1.45 * depth, 0.9 + height * len(found))
        grid = figure.subplots(len(found), depth, squeeze=False)
        for gallery, row in zip(found, grid, strict=True):
            colours = palette[np.searchsorted(classes, gallery.arrays["labels"])]
            for layer, axes in enumerate(row, start=1):
                scores, shares = principal_components(gallery.arrays[f"latents/{layer}"])
                # A thousand points a panel make a heavy PDF, and are no sharper.
                axes.scatter(*scores.T, s=3, c=colours, lw=0, alpha=0.8, rasterized=True)
                axes.set_title(f"$z_{{{layer}}}$: {' + '.join(f'{share:.0%}' for share in shares)}", fontsize="small")
                axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
                axes.spines[:].set(visible=True, color="0.8", lw=0.8)
            row[0].set_ylabel(literal(folded(gallery.variant)))
        if 1 < len(classes) <= NAMED:
            dots = [
                Line2D([], [], ls="", marker="o", ms=4, color=colour, label=str(label))
                for label, colour in zip(classes, palette, strict=True)
            ]
            legend_below(figure, dots, columns=NAMED, handletextpad=0, columnspacing=1)
        heading(figure, shown(frames, found))
    return figure


def principal_components(z: NDArray[Any], count: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores on the first principal components, and their shares of the variance.

    With the centred latents Z = U S V^T (singular value decomposition), the scores are U S = Z V and the shares
    s_k^2 / sum_j s_j^2. Signs are free: the greatest entry of each component in modulus is made positive.

    Args:
        z: latents [N, U].
        count: how many components.

    Returns:
        Scores [N, count], zero where there are fewer units, and shares [min(count, U)], zero if all points are equal.

    """
    centred = z.astype(np.float64) - z.mean(0, dtype=np.float64)
    _, singular, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:count]
    greatest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(len(components)), greatest])[:, None]
    scores = np.zeros((len(z), count))
    scores[:, : len(components)] = centred @ components.T
    total = np.square(singular).sum()
    return scores, np.square(singular[:count]) / (total if total > 0 else 1.0)

"""Figures of a grid, each of one data set (see `Frames.groups`).

    from analysis import figures

    for group in frames.groups():
        figures.log_likelihood(group.frames)

Every function takes the frames of one data set and returns a figure, or None where there is nothing to draw. Of a grid
with further axes, figures of numbers have a panel per place on them, as `analysis.layout` chooses, and `unit_kl` and
those of images show the place of the best cell. Another place is that of the frames with its members alone:

    figures.reconstructions(frames.select(frames.members.learning_rate == 3e-4))

A function raises `ValueError` for frames of several data sets. Its docstring is the figure's caption. Figures are made
without pyplot, so that drawing them never disturbs those of a notebook.

| module | functions |
|:--|:--|
| `by_factors` | `log_likelihood` (Fig. 3) |
| `curves` | `learning_curves` (Fig. 4) |
| `layers` | `active_units` (Table 2), `unit_kl` (Fig. 5), `kl_standard_normal` (Fig. 6a) |
| `images` | `injected` (Fig. 6b), `reconstructions`, `prior_samples` |
| `pca` | `latents` (Fig. 7) |
| `effects` | `paired_effects` |
| `bounds` | `bound_by_samples` |
| `search` | `search` |
| `panels` | where panels stand |
| `drawing` | `render`: every figure as PNG and PDF |
"""

import inspect
from collections.abc import Callable

from matplotlib.figure import Figure

from analysis.figures.bounds import bound_by_samples
from analysis.figures.by_factors import log_likelihood
from analysis.figures.curves import learning_curves
from analysis.figures.effects import paired_effects
from analysis.figures.images import injected, prior_samples, reconstructions
from analysis.figures.layers import active_units, kl_standard_normal, unit_kl
from analysis.figures.pca import latents
from analysis.figures.search import search
from analysis.frames import Frames

FIGURES: dict[str, Callable[[Frames], Figure | None]] = {
    "log_likelihood": log_likelihood,
    "learning_curves": learning_curves,
    "active_units": active_units,
    "unit_kl": unit_kl,
    "kl_standard_normal": kl_standard_normal,
    "injected": injected,
    "latents": latents,
    "paired_effects": paired_effects,
    "bound_by_samples": bound_by_samples,
    "reconstructions": reconstructions,
    "prior_samples": prior_samples,
}
"""Every figure by its file name: those of the paper in its order, then the others."""


def caption(name: str) -> str:
    """What a figure shows, as one paragraph of plain text.

    Args:
        name: a key of `FIGURES`.

    Examples:
        >>> caption("log_likelihood")[:48]
        'Test log-likelihood by depth, a line per variant'

    """
    return " ".join((inspect.getdoc(FIGURES[name]) or "").split())


__all__ = [
    "FIGURES",
    "active_units",
    "bound_by_samples",
    "caption",
    "injected",
    "kl_standard_normal",
    "latents",
    "learning_curves",
    "log_likelihood",
    "paired_effects",
    "prior_samples",
    "reconstructions",
    "search",
    "unit_kl",
]

"""Statistics of a grid: numbers and frames only, no tables and no figures.

    from analysis import statistics

    statistics.cells(frames.members, ["dataset", "depth", "variant"])

| module | functions |
|:--|:--|
| `agreement` | `half_width`, `binarization_error`, `verdict`, `verdict_on_layers`: do ours agree with the published? |
| `over_seeds` | `cells`, `by_layer`, `mean_over_seeds`, `monte_carlo_error` |
| `effects` | `paired_effects`, `holm`: what batch normalization, warm-up and the ladder each add |
| `ranking` | `ranks`, `probability_best`: which variant is best, and how probably |
| `collapse` | `layer_activity`: which layers have no active unit left, and since when |
"""

from analysis.statistics.agreement import binarization_error, half_width, verdict, verdict_on_layers
from analysis.statistics.collapse import layer_activity
from analysis.statistics.effects import EFFECTS, holm, paired_effects
from analysis.statistics.over_seeds import by_layer, cells, mean_over_seeds, monte_carlo_error
from analysis.statistics.ranking import probability_best, ranks

__all__ = [
    "EFFECTS",
    "binarization_error",
    "by_layer",
    "cells",
    "half_width",
    "holm",
    "layer_activity",
    "mean_over_seeds",
    "monte_carlo_error",
    "paired_effects",
    "probability_best",
    "ranks",
    "verdict",
    "verdict_on_layers",
]

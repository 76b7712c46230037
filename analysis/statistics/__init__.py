"""Statistics of a grid: numbers and frames only, no tables and no figures.

    from analysis import statistics

    statistics.cells(frames.members, ["dataset", "depth", "variant"])

| module | functions |
|:--|:--|
| `agreement` | `difference_half_width`, `binarization_error`, `verdict`, `verdict_on_layers`: do ours agree? |
| `over_seeds` | `cells`, `by_layer`, `mean_over_seeds`, `monte_carlo_error` |
| `effects` | `paired_effects`, `holm`: what batch normalization, warm-up and the ladder each add |
| `power` | `detectable`, `detectable_effects`, `power_of`: how small an effect the seeds can show |
| `two_stages` | `sample_size`, `half_width`, `needed`, `blocks`: how many seeds an interval of a given width takes |
| `ranking` | `ranks`, `probability_best`: which variant is best, and how probably |
| `collapse` | `layer_activity`: which layers have no active unit left, and since when |
"""

from analysis.statistics.agreement import binarization_error, difference_half_width, verdict, verdict_on_layers
from analysis.statistics.collapse import layer_activity
from analysis.statistics.contrasts import holm
from analysis.statistics.effects import EFFECTS, all_effects, paired_effects
from analysis.statistics.over_seeds import by_layer, cells, mean_over_seeds, monte_carlo_error
from analysis.statistics.power import detectable, detectable_effects, power_of
from analysis.statistics.ranking import probability_best, ranks
from analysis.statistics.two_stages import Block, blocks, half_width, needed, sample_size

__all__ = [
    "EFFECTS",
    "Block",
    "all_effects",
    "binarization_error",
    "blocks",
    "by_layer",
    "cells",
    "detectable",
    "detectable_effects",
    "difference_half_width",
    "half_width",
    "holm",
    "layer_activity",
    "mean_over_seeds",
    "monte_carlo_error",
    "needed",
    "paired_effects",
    "power_of",
    "probability_best",
    "ranks",
    "sample_size",
    "verdict",
    "verdict_on_layers",
]

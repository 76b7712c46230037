"""Statistics of a grid: numbers and frames only, no tables and no figures.

    from analysis import statistics

    statistics.cells(frames.members, ["dataset", "depth", "variant"])

| module | functions |
|:--|:--|
| `agreement` | `difference_half_width`, `binarization_error`, `verdict`, `verdict_on_layers`: do ours agree? |
| `over_seeds` | `cells`, `by_layer`, `mean_over_seeds`, `monte_carlo_error` |
| `factors` | `designs`: what a grid varies, from the resolved specs of its cells |
| `contrasts` | `Outcomes.contrast`, `holm`: tests of sums of differences between cells, over seeds |
| `effects` | `all_effects`, `paired_effects`: what each factor adds, in all and at every place |
| `answer` | `answers`: the best cells, and the effects that hold |
| `power` | `detectable`, `detectable_effects`, `power_of`: how small an effect the seeds can show |
| `two_stages` | `sample_size`, `half_width`, `needed`, `blocks`: how many seeds an interval of a given width takes |
| `ranking` | `ranks`, `probability_best`: which variant is best, and how probably |
| `collapse` | `layer_activity`: which layers have no active unit left, and since when |
"""

from analysis.statistics.agreement import binarization_error, difference_half_width, verdict, verdict_on_layers
from analysis.statistics.answer import Answer, BestCell, answers
from analysis.statistics.collapse import layer_activity
from analysis.statistics.contrasts import holm
from analysis.statistics.effects import EFFECTS, all_effects, paired_effects
from analysis.statistics.factors import Design, designs
from analysis.statistics.over_seeds import by_layer, cells, mean_over_seeds, monte_carlo_error
from analysis.statistics.power import detectable, detectable_effects, power_of
from analysis.statistics.ranking import probability_best, ranks
from analysis.statistics.two_stages import Block, blocks, half_width, needed, sample_size

__all__ = [
    "EFFECTS",
    "Answer",
    "BestCell",
    "Block",
    "Design",
    "all_effects",
    "answers",
    "binarization_error",
    "blocks",
    "by_layer",
    "cells",
    "designs",
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

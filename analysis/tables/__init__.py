"""Tables of a grid, made of its statistics, and their renderings.

    from analysis import tables

    found = tables.log_likelihood(frames)
    found.tidy                              # the numbers, as a DataFrame
    print(tables.markdown(found.tables))    # the tables, as text

Every builder takes `Frames` and returns a `TableSet`: one `Table` per data set and, for tables by layer, depth, with
rows for the places on the further axes (`analysis.layout`); and the same numbers as one tidy frame. A set without
tables has nothing to show.

| module | functions |
|:--|:--|
| `means` | `log_likelihood`, `bits_per_dim`, `active_units`, `layer_kl...`, `bound_by_samples` |
| `effects` | `paired_effects` |
| `seeds` | `detectable_effects`, `two_stage_seeds` |
| `ranks` | `ranking` |
| `dead_layers` | `collapse` |
| `annealed` | `annealed` |
| `refined` | `refined` |
| `probed` | `probed` |
| `errors` | `class_errors` |
| `rendering` | `markdown`, `latex`, `html_table`, `terminal` |
| `table`, `footnotes` | what tables are made of |
"""

from analysis.tables.annealed import annealed
from analysis.tables.dead_layers import collapse
from analysis.tables.effects import paired_effects
from analysis.tables.errors import class_errors
from analysis.tables.means import (
    active_units,
    bits_per_dim,
    bound_by_samples,
    layer_kl,
    layer_kl_standard_normal,
    log_likelihood,
)
from analysis.tables.probed import probed
from analysis.tables.ranks import ranking
from analysis.tables.refined import refined
from analysis.tables.rendering import html_table, latex, markdown, terminal
from analysis.tables.search import search
from analysis.tables.seeds import detectable_effects, two_stage_seeds
from analysis.tables.table import MeanCell, PlainCell, Table, TableSet

__all__ = [
    "MeanCell",
    "PlainCell",
    "Table",
    "TableSet",
    "active_units",
    "annealed",
    "bits_per_dim",
    "bound_by_samples",
    "class_errors",
    "collapse",
    "detectable_effects",
    "html_table",
    "latex",
    "layer_kl",
    "layer_kl_standard_normal",
    "log_likelihood",
    "markdown",
    "paired_effects",
    "probed",
    "ranking",
    "refined",
    "search",
    "terminal",
    "two_stage_seeds",
]

"""Tables of which variant is best at each depth."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.caveats import different_x
from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.layout import by_variant, known
from analysis.statistics import ranks
from analysis.tables.building import placed, variants_present
from analysis.tables.footnotes import bound_footnotes, grid_footnotes
from analysis.tables.table import ABSENT, PlainCell, Table, TableSet, counts_text, losses_text

WORDS = {
    "validation_log_likelihood": "validation log-likelihood",
    "test_log_likelihood": "test log-likelihood",
    "bits_per_dim": "bits per dimension, of which less is better,",
}
"""What ranks are by, in words."""


def ranking(frames: Frames) -> TableSet:
    """Rank by validation or test log-likelihood, or bits per dimension (`analysis.statistics.ranks`), and probability
    of being the best, by depth and variant.

    One table per data set, with a row for every depth and place on the further axes; one with a single variant, or
    without a finished member, has none. The tidy frame holds the rows of `analysis.statistics.ranks`.
    """
    frames = frames.as_variants(FACTORS)
    tidy = ranks(frames)
    tables = []
    for group in frames.groups():
        places, members = by_variant(group.frames), known(group.frames.members, frames.factors)
        own = placed(known(group.rows(tidy), frames.factors), members, places)
        if own["variant"].nunique() < 2 or not own["n"].any():
            continue
        cells = {(str(row["row"]), str(row["variant"])): _cell(row) for row in own.to_dict("records")}
        quantities = own["quantity"].unique()
        words = " or ".join(WORDS[quantity] for quantity in quantities)
        footnotes: tuple[str, ...] = (
            f"Rank by mean {words} over the finished seeds (their number), and the probability that the "
            "variant's expectation is the best (independent Student's t posteriors).",
        )
        if own["p_best"].isna().any():
            footnotes += (
                "No probability is given in a row in which a variant has a single finished seed, or no rival.",
            )
        footnotes += (
            *(different_x(group.frames.members) if "bits_per_dim" in quantities else ()),
            *bound_footnotes(group.frames),
            *grid_footnotes(frames, group.frames),
        )
        title = ("Rank of the variants", group.title)
        rows = tuple(dict.fromkeys(own["row"]))
        tables.append(Table(*title, places.row_heading(), rows, variants_present(own), cells, footnotes))
    return TableSet("ranking", tuple(tables), tidy)


def _cell(row: Mapping[Any, Any]) -> PlainCell:
    """`1 (3), P = 0.93`; `2 (1)`; `0/3, diverged 3`."""
    counts, losses = counts_text(row["n"], row["planned"]), losses_text(row)
    if not row["n"]:
        return PlainCell(ABSENT if row["finished"] else counts, losses)
    p = row["p_best"]
    probability = () if np.isnan(p) else ("P < 0.01" if p < 0.01 else "P > 0.99" if p > 0.99 else f"P = {p:.2f}",)
    return PlainCell(f"{row['rank']:.0f} ({counts})", (*probability, *losses))

"""Tables of the paired effects of batch normalization, warm-up and the ladder, by depth."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics import effects
from analysis.tables.footnotes import grid_footnotes
from analysis.tables.table import PlainCell, Table, TableSet, counts_text, losses_text

QUANTITIES = {
    "test_log_likelihood": "Paired effects on the test log-likelihood (nats per image)",
    "active_units": "Paired effects on the number of active units",
}
"""The quantities that effects are tabulated of, and the titles of their tables."""


def paired_effects(frames: Frames) -> TableSet:
    """What batch normalization, warm-up and the ladder each add to the test log-likelihood (nats per image) and to the
    number of active units, by depth.

    One table per quantity, data set and place on the further axes; a grid in which no two variants differ in one of
    these factors alone has none. The tidy frame holds the rows of `analysis.statistics.paired_effects`.
    """
    frames = frames.as_variants(FACTORS)
    found = {quantity: effects.paired_effects(frames, quantity) for quantity in QUANTITIES}
    tables = []
    for quantity, title in QUANTITIES.items():
        for group in frames.groups():
            own = group.rows(found[quantity])
            if own["planned"].any():
                footnotes = (*_footnotes(own), *grid_footnotes(frames, group.frames))
                tables.append(by_effect((title, group.title), own, _cell, footnotes))
    return TableSet("paired_effects", tuple(tables), pd.concat(found.values(), ignore_index=True))


def by_effect(
    title: tuple[str, str],
    rows: pd.DataFrame,
    cell: Callable[[Mapping[Any, Any]], PlainCell],
    footnotes: tuple[str, ...],
) -> Table:
    """A table with a row per depth, and a column per effect and pair of variants, effect by effect.

    Args:
        title: the quantity and the subject of the table.
        rows: with the columns of `analysis.statistics.paired_effects`.
        cell: makes a cell of one of them.
        footnotes: what stands below the table.

    """
    columns = {
        (effect, row["without"], row["with"]): f"{effect}: {row['without']} → {row['with']}"
        for effect in effects.EFFECTS
        for row in rows[rows["effect"] == effect].to_dict("records")
    }
    cells = {
        (str(row["depth"]), columns[row["effect"], row["without"], row["with"]]): cell(row)
        for row in rows.to_dict("records")
    }
    labels = [str(depth) for depth in sorted(rows["depth"].unique())]
    return Table(*title, "L", tuple(labels), tuple(columns.values()), cells, footnotes)


def _cell(row: Mapping[Any, Any]) -> PlainCell:
    """`+3.21 [+2.90, +3.52] (3)`, `p = 0.012`; with one pair `+3.21 (1/3)`."""
    counts, losses = counts_text(row["n"], row["planned"]), losses_text({"diverged": row["diverged"]})
    if not row["n"]:
        return PlainCell(counts, losses)
    decimals = 1 if row["quantity"] == "active_units" else 2
    value = f"{row['mean']:+.{decimals}f}"
    if np.isnan(row["p_holm"]):
        return PlainCell(f"{value} ({counts})", losses)
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    interval = f"[{row['low']:+.{decimals}f}, {row['high']:+.{decimals}f}]"
    return PlainCell(f"{value} {interval} ({counts})", (p, *losses))


def _footnotes(rows: pd.DataFrame) -> tuple[str, ...]:
    footnotes = ["Mean difference over pairs of the same seed (number of pairs; n/planned where pairs are missing)."]
    tested = int(rows["p"].notna().sum())
    if tested:
        footnotes.append("In brackets: 95% confidence interval by Student's t, not adjusted for the number of effects.")
        effects_tested = f"{tested} effects" if tested > 1 else "single effect"
        footnotes.append(f"p: two-sided, by Holm's correction over the {effects_tested} tested here.")
    if (rows["n"] == 1).any():
        footnotes.append("A single pair has no interval.")
    if (rows["se"] == 0).any():
        footnotes.append("Pairs that are all alike have no interval.")
    return tuple(footnotes)

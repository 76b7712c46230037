"""Tables of effects: main effects and interactions, and the simple effects at every place."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import different_x, why_unmeasured
from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics import effects
from analysis.statistics.effects import effect_text, is_pooled, is_unmeasured
from analysis.tables.footnotes import grid_footnotes
from analysis.tables.table import PlainCell, Table, TableSet, counts_text, losses_text
from hvae_spec.spec.labels import GRID

WORDS = {
    "test_log_likelihood": "the test log-likelihood (nats per image)",
    "active_units": "the number of active units",
    "test_error": "the test error (% of the test images)",
}
"""What titles of tables call the quantities that effects are tabulated of."""
POOLED = ("effect", "p", "seeds", "places", "diverged")
"""Columns of the tables of main effects and interactions."""


def paired_effects(frames: Frames) -> TableSet:
    """What each factor adds to the test log-likelihood (nats per image), to the number of active units and, where
    models have classes, to the test error.

    Two tables per quantity and data set: of main effects, interactions and named contrasts, where these are averaged
    over several places, and of the simple effects at every place. An effect of which no pair of members has the
    quantity has no cell, and a quantity that no pair has no table. A grid in which no two cells differ in one field
    alone has none. The tidy frame holds the rows of `analysis.statistics.all_effects`.
    """
    frames = frames.as_variants(FACTORS)
    found = {quantity: effects.all_effects(frames, quantity) for quantity in effects.quantities(frames.members)}
    tables = []
    for quantity, table in found.items():
        words = WORDS[quantity]
        for group in frames.groups(frames.columns([GRID])):
            every = group.rows(table)
            own = every[~is_unmeasured(every)]
            unlike = different_x(group.frames.members) if quantity == "test_log_likelihood" else ()
            footnotes = (
                *unlike,
                *_unmeasured_footnotes(every, group.frames.members, quantity),
                *grid_footnotes(frames, group.frames),
            )
            simple, pooled = own[own["kind"] == "simple"], own[own["kind"] != "simple"]
            if not own["planned"].any():
                continue
            if is_pooled(pooled).any():
                title = f"Main effects and interactions on {words}"
                tables.append(_pooled((title, group.title), pooled, footnotes))
            if len(simple):
                title = f"Simple effects on {words}"
                tables.append(by_effect(frames, (title, group.title), simple, _cell, (*_footnotes(simple), *footnotes)))
    return TableSet("paired_effects", tuple(tables), pd.concat(found.values(), ignore_index=True))


def _unmeasured_footnotes(rows: pd.DataFrame, members: pd.DataFrame, quantity: str) -> tuple[str, ...]:
    """Why effects are left out, or have fewer pairs, of which one side does not have the quantity."""
    return why_unmeasured(members, quantity) if rows["unmeasured"].any() else ()


def by_effect(
    frames: Frames,
    title: tuple[str, str],
    rows: pd.DataFrame,
    cell: Callable[[Mapping[Any, Any]], PlainCell],
    footnotes: tuple[str, ...],
) -> Table:
    """A table with a row per place, or of a grid without further axes per depth, and a column per effect and pair of
    variants or levels, effect by effect.

    Args:
        frames: the grid.
        title: the quantity and the subject of the table.
        rows: with the columns of `analysis.statistics.paired_effects`.
        cell: makes a cell of one of them.
        footnotes: what stands below the table.

    """
    row_heading, column = ("place", "place") if frames.varied else ("L", "depth")
    records = rows.assign(row=rows[column].astype(str)).to_dict("records")
    cells = {(str(row["row"]), _heading(row)): cell(row) for row in records}
    labels, columns = dict.fromkeys(str(row["row"]) for row in records), dict.fromkeys(map(_heading, records))
    return Table(*title, row_heading, tuple(labels), tuple(columns), cells, footnotes)


def p_text(row: Mapping[Any, Any]) -> str:
    """`p = 0.012 (of 14)`: the corrected p value, and of how many effects; empty where nothing was tested.

    Args:
        row: of `analysis.statistics.all_effects`.

    """
    p = row["p_holm"]
    value = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return "" if np.isnan(p) else f"{value} (of {row['family_size']})"


def _heading(row: Mapping[Any, Any]) -> str:
    """The name of a simple effect: by the variants, or where there is one variant, by the levels."""
    if row["without"] == row["with"]:
        return effect_text(row)
    return f"{row['effect']}: {row['without']} → {row['with']}"


def decimals_of(low: float, high: float, most: int = 2) -> int:
    """Decimals of a number with this interval: two digits of half its width, and no more than so many.

    >>> [decimals_of(-width, width) for width in (0.014, 0.31, 3.5, 35.0, 4e9, float("nan"))]
    [2, 2, 1, 0, 0, 2]
    """
    half = (high - low) / 2
    return most if not half > 0 else min(most, max(0, 1 - math.floor(math.log10(half))))


def value_text(row: Mapping[Any, Any]) -> str:
    """`+3.21 [+2.90, +3.52]`, or `+3.21` where there is no interval."""
    decimals = decimals_of(row["low"], row["high"], 1 if row["quantity"] == "active_units" else 2)
    value = f"{row['mean']:+.{decimals}f}"
    return value if np.isnan(row["p"]) else f"{value} [{row['low']:+.{decimals}f}, {row['high']:+.{decimals}f}]"


def _cell(row: Mapping[Any, Any]) -> PlainCell:
    """`+3.21 [+2.90, +3.52] (3)`, `p = 0.012 (of 14)`; with one pair `+3.21 (1/3)`."""
    counts, losses = counts_text(row["n"], row["planned"]), losses_text({"diverged": row["diverged"]})
    if not row["n"]:
        return PlainCell(counts, losses)
    p = p_text(row)
    return PlainCell(f"{value_text(row)} ({counts})", (*([p] if p else []), *losses))


def _pooled(title: tuple[str, str], rows: pd.DataFrame, footnotes: tuple[str, ...]) -> Table:
    """A table with a row per main effect, interaction and named contrast."""
    cells: dict[tuple[str, str], PlainCell] = {}
    records = rows.to_dict("records")
    for row in records:
        texts = {
            "effect": value_text(row) if row["n"] else "",
            "p": p_text(row),
            "seeds": counts_text(row["n"], row["planned"]),
            "places": counts_text(row["places"], row["all_places"]),
            "diverged": f"{row['diverged_reference']} → {row['diverged_level']}" if row["diverged"] else "0",
        }
        cells |= {(effect_text(row), column): PlainCell(text) for column, text in texts.items() if text}
    labels = tuple(dict.fromkeys(map(effect_text, records)))
    return Table(*title, "effect", labels, POOLED, cells, (*_pooled_footnotes(rows), *footnotes))


def _pooled_footnotes(rows: pd.DataFrame) -> Iterator[str]:
    yield (
        "Effect: the mean difference of seeds, of each over all places at which both levels are, with the 95% interval "
        "by Student's t over seeds in brackets; it covers other seeds, given these test images."
    )
    if (rows["kind"] == "interaction").any():
        yield (
            "× is an interaction: the effect of the first at the second level of the other, less that at its reference."
        )
    if rows["p"].notna().any():
        yield "p: two-sided, by Holm's correction over the effects of the same kind, whose number stands beside it."
    named = rows[rows["kind"] == "named"]
    for is_foretold, when in ((True, "before"), (False, "after")):
        names = named[(named["family"] == effects.NAMED) == is_foretold]["effect"]
        if len(names):
            family = "for each other alone" if is_foretold else "together with the simple effects"
            yield f"Named {when} the first result, and corrected {family}: {', '.join(dict.fromkeys(names))}."
    for row in rows.to_dict("records"):
        if row["left_out"] and (row["places"] or row["diverged"]):
            lacks = "a number" if row["unmeasured"] else "a seed"
            yield f"{effect_text(row)} leaves out what lacks {lacks}: {row['left_out']}."
    yield from _divergences(rows)


def _divergences(rows: pd.DataFrame) -> Iterator[str]:
    if rows["diverged"].any():
        yield (
            "Effects are among seeds that finished on both sides. Diverged: members at the reference → at the level."
        )


def _footnotes(rows: pd.DataFrame) -> tuple[str, ...]:
    footnotes = ["Mean difference over pairs of the same seed (number of pairs; n/planned where pairs are missing)."]
    tested = int(rows["family_size"].max())
    if tested:
        footnotes.append("In brackets: 95% confidence interval by Student's t, not adjusted for the number of effects.")
        effects_tested = f"{tested} effects" if tested > 1 else "single effect"
        footnotes.append(f"p: two-sided, by Holm's correction over the {effects_tested} tested here.")
    if (rows["n"] == 1).any():
        footnotes.append("A single pair has no interval.")
    if (rows["se"] == 0).any():
        footnotes.append("Pairs that are all alike have no interval.")
    return tuple(footnotes)

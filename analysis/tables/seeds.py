"""Tables of what the seeds of a grid can show: the smallest detectable effects, and the intervals of two stages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.layout import by_variant, known
from analysis.statistics import power, two_stages
from analysis.tables.building import with_row_labels
from analysis.tables.effects import by_effect
from analysis.tables.footnotes import grid_footnotes
from analysis.tables.table import PlainCell, Table, TableSet, counts_text, losses_text
from hvae_spec.spec.labels import GRID
from hvae_spec.spec.seeds import StagedSeeds


def detectable_effects(frames: Frames) -> TableSet:
    """The smallest effects on the test log-likelihood (nats per image) that the seeds can show, by depth, or with
    further axes at every place: one table per data set.

    A grid in which no effect has two pairs has none. The tidy frame holds the rows of
    `analysis.statistics.detectable_effects`.
    """
    frames = frames.as_variants(FACTORS)
    found = power.detectable_effects(frames)
    tables = []
    for group in frames.groups(frames.columns([GRID])):
        own = group.rows(found)
        if own["detectable"].notna().any():
            title = ("Smallest effects that the seeds can show (nats per image)", group.title)
            footnotes = (*_power_footnotes(own), *grid_footnotes(frames, group.frames))
            tables.append(by_effect(frames, title, own, _detectable_cell, footnotes))
    return TableSet("detectable_effects", tuple(tables), found)


def two_stage_seeds(frames: Frames) -> TableSet:
    """How wide the intervals (nats per image) of a grid are whose seeds come in two stages, and how many seeds they
    take, by depth and place on the further axes: one table per data set.

    There is none where seeds are a list. The tidy frame holds the rows of `analysis.statistics.needed`.
    """
    frames, stages = frames.as_variants(FACTORS), frames.stages
    found = two_stages.needed(frames)
    if stages is None:
        return TableSet("seeds", (), found)
    what = "means" if stages.of == "cell" else "paired effects"
    tables = []
    for group in frames.groups():
        places = by_variant(group.frames)
        own = known(group.rows(found), frames.factors)
        own = with_row_labels(own, known(group.frames.members, frames.factors), places)
        title = (f"Half-widths of the intervals of {what} (nats per image)", group.title)
        cells = {(str(row["row"]), str(row["compared"])): _width_cell(row, stages) for row in own.to_dict("records")}
        labels, names = (tuple(map(str, own[column].drop_duplicates())) for column in ("row", "compared"))
        footnotes = (*_stages_footnotes(stages), *grid_footnotes(frames, group.frames))
        tables.append(Table(*title, places.row_heading(), labels, names, cells, footnotes))
    return TableSet("seeds", tuple(tables), found)


def _detectable_cell(row: Mapping[Any, Any]) -> PlainCell:
    """`0.33 (3)`, `by Holm 1.22`, `sd 0.10`."""
    counts = counts_text(row["n"], row["planned"])
    if np.isnan(row["detectable"]):
        return PlainCell(f"– ({counts})")
    details = (f"by Holm {_two_digits(row['detectable_holm'])}", f"sd {_two_digits(row['sd'])}")
    return PlainCell(f"{_two_digits(row['detectable'])} ({counts})", details)


def _width_cell(row: Mapping[Any, Any], stages: StagedSeeds) -> PlainCell:
    """`±0.098 (8)`, `sd 0.10`, `takes 8`; `±0.13 (12)`, `sd 0.16`, `takes 20`, `0.1 not reached`. While seeds that may
    still reach the half-width are to come, it does not say that it is not reached.
    """
    counts = counts_text(row["n"], row["planned"])
    losses = losses_text({"diverged": row["diverged"], "failed": row.get("failed", 0)})
    if np.isnan(row["takes"]):
        return PlainCell(f"– ({counts})", losses)
    is_wider = row["half_width"] > stages.half_width
    has_ended = row["takes"] <= row["planned"] <= row["n"] + row["diverged"] + row.get("failed", 0)
    is_missed = is_wider and (row["takes"] > stages.at_most or has_ended)
    missed = (f"{stages.half_width:g} not reached",) if is_missed else ()
    details = (f"sd {_two_digits(row['sd'])}", f"takes {two_stages.takes_text(row['takes'])}", *missed, *losses)
    return PlainCell(f"±{_two_digits(row['half_width'])} ({counts})", details)


def _two_digits(value: float) -> str:
    """A positive number with two decimals, or with two digits where it is smaller than 0.1."""
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def _power_footnotes(rows: pd.DataFrame) -> tuple[str, ...]:
    tests = int(rows["tests"].max())
    effects = f"{tests} effects" if tests > 1 else "single effect"
    return (
        "The smallest true effect that a two-sided paired t test at 5% finds with 80% probability (number of pairs), "
        "if the differences between the members of a pair have the standard deviation that was measured (sd).",
        f"By Holm: with Holm's correction over the {effects} tested here, whatever the others are.",
        "The sd of a few pairs is itself uncertain, and what is detectable with it.",
    )


def _stages_footnotes(stages: StagedSeeds) -> tuple[str, ...]:
    return (
        f"Half-width of the 95% interval (number of seeds); {stages.half_width:g} is asked for, with {stages.at_most} "
        "seeds at most. Takes: how many seeds it needs, by the standard deviation (sd) of the first stage.",
        "All that is compared at one depth has the same seeds, as many as the interval that takes most. A member that "
        "diverges takes its seed's place and is left out.",
    )

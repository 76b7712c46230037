"""The paper's tables with ours beside the published values: Tables 1, 2 and 3, Fig. 3 as numbers, and the IWAE.

A table appears if the results hold members that answer it (see `analysis.paper.published`): Table 1 for fine-tuned
members on MNIST with five layers, Table 2 for the grid's five-layer members on MNIST, Table 3 for the grid on
OMNIGLOT or NORB. Our columns have our variants' names; beside each stands what was published for the paper's variant
with the same settings. A letter in brackets marks a cell whose data, budget or model differ from those of the published
number, or what is not said of it; the footnote with that letter lists both, with the paper's values in brackets. The
tidy frames hold what is said of each difference, which `analysis.paper.verdicts` makes tables of.
"""

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames, Group
from analysis.layout import VARIANT, Panels, by_variant, known
from analysis.paper import published
from analysis.paper.published import Difference
from analysis.statistics import over_seeds
from analysis.statistics.agreement import COUNT_ERROR, binarization_error, difference_half_width, verdict
from analysis.tables.building import mean_cell, variants_present, with_row_labels
from analysis.tables.footnotes import CRITERION, MEANS, bound_footnotes, grid_footnotes, unknown_units
from analysis.tables.table import MeanCell, PlainCell, Table, TableSet
from hvae_spec.spec.report import Quantity, ReportSpec

PUBLISHED = "{}, published"
"""Heading of the column beside one of ours."""
SAMPLES = ("objective.mc_samples", "objective.iw_samples")
"""Axes whose values are columns of Table 1, and no rows of it."""
LABELED = ("depth", "variant", "paper", "fine_tuning")
"""What makes a cell on a data set at a place on the axes."""
FINE_TUNING = ("none", "M=1 K=1", "M=10 K=1", "M=1 K=10", "M=10 K=10")
"""Table 1's columns."""
DIFFERENCES = (
    "A letter marks what differs from the published number's data, budget or model (in brackets: what that one has), "
    "and what is not said of it."
)


def table_1(frames: Frames) -> TableSet:
    """Test log-likelihood (nats per image) of fine-tuned five-layer models on MNIST, by inference style, M and K."""
    tables, tidies = [], []
    axes = [axis for axis in frames.factors if axis not in frames.columns(SAMPLES)]
    for group, every in answering(frames, ("mnist",)):
        models = (every["depth"] == 5) & every["paper"].isin(("VAE+BN+WU", "Prob. ladder+BN+WU"))
        members = every[models & every["fine_tuning"].isin(FINE_TUNING)]
        if (members["fine_tuning"] == "none").all():
            continue
        cells = _compared(members, axes, frames.report)
        # Two cells of ours that answer the same cell of the paper have rows of their own, never one mean.
        twice = cells.duplicated([*axes, "paper", "fine_tuning"], keep=False)
        names = cells["paper"].str.removesuffix("+BN+WU")
        rows = cells.assign(
            row=names.where(~twice, names + ": " + cells["variant"].astype(str)), column=cells["fine_tuning"]
        ).sort_values("paper", ascending=False, kind="stable")
        title = "Table 1: fine-tuned test log-likelihood (nats per image)"
        explained = "M Monte Carlo and K importance samples in fine-tuning; 'none' is the model before it."
        footnotes = (explained, *_footnotes(frames, group, members))
        places = of_the_axes(cells, group.frames)
        rows = with_row_labels(rows, members, places)
        heading = places.row_heading("fine-tuning")
        tables.append(_beside((title, f"{group.title}, L = 5"), heading, rows, FINE_TUNING, footnotes))
        tidies.append(cells)
    return _table_set("table_1", tables, tidies)


def table_2(frames: Frames) -> TableSet:
    """Active units by layer of five-layer models on MNIST."""
    tables, tidies = [], []
    for group, every in answering(frames, ("mnist",)):
        members = every[(every["depth"] == 5) & is_of_the_grid(every, published.VARIANTS)]
        if members.empty:
            continue
        by = ["dataset", *frames.factors, *LABELED]
        cells = over_seeds.by_layer(members, by, "active_units")
        if cells.empty:
            continue
        unknown = unknown_units(cells, members, by)
        cells = _with_published(members, cells, frames.factors, frames.report, "active_units")
        rows = cells.assign(
            row=[name if name == "total" else f"z_{name}" for name in cells["layer"]], column=cells["variant"]
        )
        places = of_the_axes(cells, group.frames)
        rows = with_row_labels(rows, members, places)
        title = ("Table 2: active units", f"{group.title}, L = 5")
        footnotes = (CRITERION, *unknown, MEANS, *grid_footnotes(frames, group.frames))
        heading = places.row_heading("layer")
        tables.append(_beside(title, heading, rows, variants_present(rows), footnotes, decimals=1))
        tidies.append(cells)
    return _table_set("table_2", tables, tidies)


def table_3(frames: Frames) -> TableSet:
    """Test log-likelihood (nats per image) by depth and variant on OMNIGLOT and NORB."""
    return _by_depth(frames, "table_3", "Table 3: test log-likelihood (nats per image)", ("omniglot", "norb"))


def figure_3(frames: Frames) -> TableSet:
    """Test log-likelihood (nats per image) by depth and variant on MNIST: what Fig. 3 draws, beside the two values that
    the paper prints.
    """
    return _by_depth(frames, "figure_3", "Fig. 3: test log-likelihood (nats per image)", ("mnist",))


def iwae(frames: Frames) -> TableSet:
    """Test log-likelihood (nats per image) of Burda et al.'s two-layer importance-weighted autoencoder, with which the
    paper compares its results.
    """
    title = "IWAE: test log-likelihood (nats per image)"
    return _by_depth(frames, "iwae", title, ("mnist", "omniglot"), (published.IWAE,))


def tables(frames: Frames) -> tuple[TableSet, ...]:
    """Those of the paper's tables that these results answer, in the paper's order; empty if none are."""
    every = (table_1(frames), table_2(frames), table_3(frames), figure_3(frames), iwae(frames))
    return tuple(table for table in every if table.tables)


def answering(frames: Frames, datasets: Sequence[str]) -> Iterator[tuple[Group, pd.DataFrame]]:
    """The groups of these data sets, and their members with what the paper calls them (`paper`, `fine_tuning`)."""
    for group in frames.groups():
        if group.place["dataset"] in datasets:
            members = known(group.frames.members, frames.factors)
            names, tuning = published.variants(members), published.fine_tuning(members)
            yield group, members.assign(paper=names, fine_tuning=tuning)


def of_the_axes(rows: pd.DataFrame, frames: Frames) -> Panels:
    """The axes on which some rows have several levels, in front of whose labels these stand.

    Args:
        rows: with a column for every axis that may stand there.
        frames: of the data set.

    """
    axes = (axis for axis in by_variant(frames).axes if axis in rows and rows[axis].nunique() > 1)
    return Panels(VARIANT, tuple(axes), frames.axes)


def is_of_the_grid(members: pd.DataFrame, variants: Sequence[str]) -> "pd.Series[bool]":
    """Which members are the paper's before fine-tuning, of one of these variants."""
    return (members["fine_tuning"] == "none") & members["paper"].isin(variants)


def _by_depth(
    frames: Frames, name: str, title: str, datasets: Sequence[str], variants: Sequence[str] = published.VARIANTS
) -> TableSet:
    """Tables of the test log-likelihood, a row per depth, on the data sets for which the paper has any value."""
    tables, tidies = [], []
    for group, every in answering(frames, datasets):
        members = every[is_of_the_grid(every, variants)]
        if members.empty:
            continue
        cells = _compared(members, frames.factors, frames.report)
        if cells["published"].isna().all():
            continue
        units = {depth: list(dict.fromkeys(own.dropna())) for depth, own in members.groupby("depth")["units"]}
        labels = {depth: found[0] if len(found) == 1 else f"L = {depth!s}" for depth, found in units.items()}
        rows = cells.assign(row=cells["depth"].map(labels), column=cells["variant"])
        places = of_the_axes(cells, group.frames)
        rows = with_row_labels(rows.sort_values("depth", kind="stable"), members, places)
        footnotes = _footnotes(frames, group, members)
        heading = places.row_heading("units")
        tables.append(_beside((title, group.title), heading, rows, variants_present(rows), footnotes))
        tidies.append(cells)
    return _table_set(name, tables, tidies)


def _compared(members: pd.DataFrame, axes: Sequence[str], report: ReportSpec) -> pd.DataFrame:
    """`statistics.cells` of the test log-likelihood with `mc_se`, the Monte Carlo error of the mean, and what
    `_with_published` adds.
    """
    cells = over_seeds.cells(members, ["dataset", *axes, *LABELED])
    cells = _with_published(members, cells, axes, report)
    return cells.assign(mc_se=[over_seeds.monte_carlo_error(own) for own in _of_cells(members, cells, axes)])


def _with_published(
    members: pd.DataFrame,
    cells: pd.DataFrame,
    axes: Sequence[str],
    report: ReportSpec,
    quantity: Quantity = "test_log_likelihood",
) -> pd.DataFrame:
    """Cells with `published`, `difference` (ours less the published), `binarization_se` (of a log-likelihood), `low`
    and `high` (of the difference's 95% interval, see `analysis.statistics.agreement`), `tolerance`, `verdict`, and
    `unlike` (see `published.differences`). There is no verdict where nothing is published.
    """
    rows: list[dict[str, Any]] = []
    found: dict[tuple[Any, ...], tuple[Difference, ...]] = {}
    for row, own in zip(cells.to_dict("records"), _of_cells(members, cells, axes), strict=True):
        # The layers of one cell have its differences in common.
        cell = tuple(row[key] for key in (*axes, *LABELED))
        if cell not in found:
            found[cell] = published.differences(own, str(row["paper"]), quantity)
        rows.append(_compared_cell(row, own, report, quantity, found[cell]))
    return pd.concat([cells, pd.DataFrame(rows, index=cells.index)], axis=1)


def _compared_cell(
    row: Mapping[Any, Any],
    members: pd.DataFrame,
    report: ReportSpec,
    quantity: Quantity,
    differences: Sequence[Difference],
) -> dict[str, Any]:
    """What `_with_published` adds to one cell."""
    value, n, se = published.value(row, quantity), int(row["n"]), float(row["se"])
    hindrances = [difference.hinders for difference in differences if difference.hinders is not None]
    tolerance, difference = report.of(quantity, str(row["dataset"])), float(row["mean"]) - value
    shared = (np.nan, np.nan)
    if quantity == "test_log_likelihood":
        shared = binarization_error(members)
    elif n > 1:
        se = max(se, COUNT_ERROR / math.sqrt(n))
    half = float(difference_half_width(se, int(row["df"]), *((0.0, math.inf) if math.isnan(shared[0]) else shared)))
    return {
        "published": value,
        "difference": difference,
        **({"binarization_se": shared[0]} if quantity == "test_log_likelihood" else {}),
        "low": difference - half,
        "high": difference + half,
        "tolerance": tolerance,
        "verdict": None if math.isnan(value) else verdict(difference, half, tolerance, n, hindrances),
        "unlike": "; ".join(difference.text for difference in differences),
    }


def _of_cells(members: pd.DataFrame, cells: pd.DataFrame, axes: Sequence[str]) -> list[pd.DataFrame]:
    """The members of every row of `cells`."""
    keys = [*axes, *LABELED]
    groups = dict(iter(members.groupby(keys, observed=True)))
    return [groups[key] for key in cells[keys].itertuples(index=False, name=None)]


def _beside(
    title: tuple[str, str],
    row_heading: str,
    rows: pd.DataFrame,
    columns: Sequence[str],
    footnotes: tuple[str, ...],
    *,
    decimals: int = 2,
) -> Table:
    """A table from one row per cell with its `row` and `column`, published values beside each column that has any."""
    letters = letters_of(rows)
    cells: dict[tuple[str, str], MeanCell | PlainCell] = {}
    for item in rows.to_dict("records"):
        unlike = item["unlike"]
        cells[item["row"], item["column"]] = mean_cell(item, decimals, letters.get(unlike, ""))
        if not np.isnan(item["published"]):
            text = published_text(item["published"], decimals)
            cells[item["row"], PUBLISHED.format(str(item["column"]))] = PlainCell(text)
    shown = {column for _, column in cells}
    beside = (text for name in columns for text in (name, PUBLISHED.format(name)) if text in shown)
    footnotes += letter_footnotes(letters)
    return Table(*title, row_heading, tuple(dict.fromkeys(rows["row"])), tuple(beside), cells, footnotes)


def published_text(value: float, decimals: int) -> str:
    """A published value as it is printed, beside means with so many decimals."""
    return f"{value:.{0 if decimals == 1 else 1 if value > 1000 else 2}f}"


def letters_of(rows: pd.DataFrame) -> dict[str, str]:
    """The letter of every `unlike` that says anything, in the order of the rows."""
    texts = [unlike for unlike in dict.fromkeys(rows["unlike"]) if unlike]
    return {unlike: _letter(number) for number, unlike in enumerate(texts)}


def letter_footnotes(letters: Mapping[str, str]) -> tuple[str, ...]:
    """What the letters stand for."""
    return (DIFFERENCES, *(f"[{letter}] {unlike}." for unlike, letter in letters.items())) if letters else ()


def _letter(number: int) -> str:
    """a ... z, aa, ab ..."""
    letters = string.ascii_lowercase
    return letters[number] if number < 26 else _letter(number // 26 - 1) + letters[number % 26]


def _footnotes(frames: Frames, group: Group, members: pd.DataFrame) -> tuple[str, ...]:
    own = group.frames.select(group.frames.members["digest"].isin(members["digest"]))
    return (*bound_footnotes(own), MEANS, *grid_footnotes(frames, own))


def _table_set(name: str, tables: Sequence[Table], tidies: Sequence[pd.DataFrame]) -> TableSet:
    return TableSet(name, tuple(tables), pd.concat(tidies, ignore_index=True) if tidies else pd.DataFrame())

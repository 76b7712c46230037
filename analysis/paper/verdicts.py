"""Whether ours agree with the paper: beside every published value the difference, its interval and a verdict.

One table per table of the paper that the results answer (see `analysis.paper.replication`), with a row per published
value, and one of the paper's claims which layers collapse. How the interval and the verdict come about is said in
`analysis.statistics.agreement`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import unit_text
from analysis.columns import chosen_name
from analysis.frames import Frames, Group
from analysis.layout import known
from analysis.paper import published
from analysis.paper.replication import (
    LABELED,
    answering,
    is_of_the_grid,
    letter_footnotes,
    letters_of,
    of_the_axes,
    published_text,
)
from analysis.statistics.agreement import COUNT_ERROR, difference_half_width, verdict_on_layers
from analysis.statistics.over_seeds import what_errors_rest_on
from analysis.tables.building import mean_cell, with_row_labels
from analysis.tables.footnotes import CRITERION
from analysis.tables.table import PlainCell, Table, TableSet, counts_text, losses_text
from hvae_spec.spec.choices.observation import OBSERVATIONS, X

COLUMNS = ("ours", "published", "difference", "95 % interval", "verdict")
TITLE = "{}, ours less the published"
ONE_RUN = "The published value is one run, whose spread over seeds is not known: it is not in the interval."
ONE_DRAW = {
    True: "It also rests on one binarization of the test set, another than ours: its error, about as large as that of "
    "ours{}, is not in the interval.",
    False: "It also rests on one dequantization of the test set, another than ours: its error is not in the interval.",
}
"""By whether x is drawn as zeros and ones."""
SEEDS = "The interval is of the spread over seeds (Student's t), which holds the Monte Carlo error of the bound{}."
DRAWN = {
    True: "The error of our one binarization of the test set, which all seeds share, is not in the interval{}: "
    "evaluation.redraws measures it.",
    False: "The error of our one dequantization of the test set, which all seeds share, is not in the interval{}.",
}
"""By whether x is drawn as zeros and ones."""
JUDGED = (
    "agrees: the whole interval is within {} of the published value; differs: it is wholly outside; undecided: "
    "neither. Other data, budgets or settings than the paper states, or a single seed, hinder a verdict."
)
TWO_SEEDS = (
    "Two seeds cannot agree: counts are whole numbers, so that the interval of two reaches at least {} to either side. "
    "That of three need not."
)
CLAIM = (
    "agrees: in every seed just the layers that the paper counts no active unit in have none; differs: in no seed; "
    "undecided: in some."
)
OF_SEEDS = "In brackets: the number of seeds, and beside it n/planned where members are missing."
OTHERS = (
    "Rows without ours: models with which the paper compares itself, as published. They are trained otherwise than the "
    "paper's own{}."
)
OTHERS_DATA = {
    "mnist": "; and the IWAE's gray levels are divided by 255, where those of the paper's models are divided by 256, "
    "as the authors' code implies"
}
"""What else differs between these and the paper's own models, by data set."""
NONE = "none"
MEAN = "Ours: the mean over seeds (number of seeds; n/planned where members are missing)."


def verdicts(frames: Frames, table_sets: Sequence[TableSet]) -> TableSet:
    """What is said of every published value that these results answer.

    Args:
        frames: the grid.
        table_sets: the paper's tables of it (`analysis.paper.replication.tables`).

    Returns:
        The tables, none where no member that answers the paper has finished; the tidy frame holds the columns of the
        tidy frames of `table_sets`, with `table` (their names), where something is published, and a row for every
        variant's claim of collapse (`table` is `collapse`; `claimed` and `found` name the layers).

    """
    of_values = verdicts_on_values(frames, table_sets)
    claims = list(_claims(frames))
    tables = (*of_values.tables, *(_table_of_claims(group, rows) for group, rows in claims))
    return _table_set(tables, [of_values.tidy, *(rows for _, rows in claims)])


def verdicts_on_values(frames: Frames, table_sets: Sequence[TableSet]) -> TableSet:
    """What `verdicts` says, without the paper's claims of collapse."""
    tables: list[Table] = []
    tidies: list[pd.DataFrame] = []
    for table_set in table_sets:
        tidy = table_set.tidy
        for group in frames.groups():
            rows = group.rows(tidy)
            rows = rows[rows["published"].notna()]
            if rows["n"].any():
                title = TITLE.format(table_set.tables[0].quantity)
                tables.append(_table(group, (title, group.title), _labeled(table_set.name, rows, group.frames)))
                tidies.append(rows.assign(table=table_set.name))
    return _table_set(tables, tidies)


def _table_set(tables: Sequence[Table], tidies: Sequence[pd.DataFrame]) -> TableSet:
    filled = [tidy for tidy in tidies if len(tidy)]
    return TableSet("verdicts", tuple(tables), pd.concat(filled, ignore_index=True) if filled else pd.DataFrame())


def _labeled(name: str, rows: pd.DataFrame, frames: Frames) -> pd.DataFrame:
    """Rows with what they are called, `row`."""
    variants = rows["variant"].astype(str)
    if name == "table_1":
        labels = rows["paper"].str.removesuffix("+BN+WU") + ", " + rows["fine_tuning"]
    elif name == "table_2":
        labels = variants + ", " + [layer if layer == "total" else f"layer {layer}" for layer in rows["layer"]]
        rows = rows.sort_values("variant", kind="stable")
    elif name == "iwae":
        labels = variants
    else:
        labels = "L = " + rows["depth"].astype(str) + ", " + variants
        rows = rows.sort_values("depth", kind="stable")
    rows = _with_places(rows.assign(row=labels), frames)
    # Two cells of ours may answer the same one of the paper.
    is_twice = rows["row"].duplicated(keep=False)
    return rows.assign(row=rows["row"].where(~is_twice, rows["row"] + ": " + rows["variant"].astype(str)))


def _with_places(rows: pd.DataFrame, frames: Frames) -> pd.DataFrame:
    """Rows with their places on the axes, where there are several, in front of what they are called."""
    return with_row_labels(rows, known(frames.members, frames.factors), of_the_axes(rows, frames))


def _table(group: Group, title: tuple[str, str], rows: pd.DataFrame) -> Table:
    """A table of one row per published value."""
    is_units = "layer" in rows
    decimals, letters = 1 if is_units else 2, letters_of(rows)
    cells: dict[tuple[str, str], PlainCell] = {}
    for item in rows.to_dict("records"):
        row = str(item["row"])
        places = 1 if item["published"] > 1000 else decimals
        cells[row, "ours"] = _ours(item, decimals, letters.get(item["unlike"], ""))
        cells[row, "published"] = PlainCell(published_text(item["published"], decimals))
        if not np.isnan(item["difference"]):
            cells[row, "difference"] = PlainCell(f"{item['difference']:+.{places}f}")
        if not np.isnan(item["low"]):
            cells[row, "95 % interval"] = PlainCell(f"{item['low']:+.{places}f} to {item['high']:+.{places}f}")
        cells[row, "verdict"] = PlainCell(str(item["verdict"]))
    labels = list(rows["row"])
    footnotes = list(_notes(group, rows, is_units=is_units))
    # With whom the paper compares itself: there are no members of ours for them.
    dataset = str(group.place["dataset"])
    others = published.others(dataset)
    others = others[~others["variant"].isin(rows["paper"])]
    if not is_units and len(others):
        for item in others.to_dict("records"):
            labels.append(f"{item['variant']}, {item['source']}")
            cells[labels[-1], "published"] = PlainCell(published_text(item["value"], decimals))
        has_iwae = published.IWAE in set(others["variant"])
        footnotes.append(OTHERS.format(OTHERS_DATA.get(dataset, "") if has_iwae else ""))
    footnotes += letter_footnotes(letters)
    heading = of_the_axes(rows, group.frames).row_heading("cell")
    return Table(*title, heading, tuple(labels), COLUMNS, cells, tuple(footnotes))


def _ours(item: Mapping[Any, Any], decimals: int, mark: str) -> PlainCell:
    """The mean of ours and the number of seeds, less its standard error, which the interval shows."""
    mean = mean_cell(item, decimals)
    parts = (mean.numbers[0], f"({mean.counts})" if mean.n else mean.counts, f"[{mark}]" if mark else "")
    return PlainCell(" ".join(filter(None, parts)), mean.losses)


def _notes(group: Group, rows: pd.DataFrame, *, is_units: bool) -> Iterator[str]:
    """How the rows of a table are to be read."""
    tolerance = unit_text(rows["tolerance"].iloc[0], "g", "unit" if is_units else "nat")
    yield from (MEAN, JUDGED.format(tolerance), ONE_RUN)
    if is_units:
        yield CRITERION
        yield SEEDS.replace(", which holds the Monte Carlo error of the bound", "").format("")
        least = float(difference_half_width(COUNT_ERROR / math.sqrt(2), 1))
        if (rows["low"].notna() & (rows["n"] == 2) & (rows["tolerance"] < least)).any():
            yield TWO_SEEDS.format(unit_text(least, ".1f", "unit"))
        yield from what_errors_rest_on(group.frames.stages)
        return
    observations = group.frames.members["observation"].dropna()
    is_binary = all(OBSERVATIONS[chosen_name(entry)].x is X.BINARY for entry in observations)
    with_interval = rows[rows["low"].notna()]
    errors = with_interval["binarization_se"]
    missing = errors.isna()
    yield ONE_DRAW[is_binary].format(
        "" if missing.all() else f" (sqrt(v / N): {unit_text(errors.max(), '.2g', 'nat')})"
    )
    if missing.all():
        yield SEEDS.format("")
    else:
        yield SEEDS.format(", and of our one binarization of the test set, which all seeds share")
    yield from what_errors_rest_on(group.frames.stages)
    if missing.any():
        yield DRAWN[is_binary].format("" if missing.all() else " of " + "; ".join(with_interval.loc[missing, "row"]))


def _claims(frames: Frames) -> Iterator[tuple[Group, pd.DataFrame]]:
    """Of every group on MNIST that has five-layer members: a row per variant, with the layers that collapse."""
    keys = ["dataset", *frames.factors, *LABELED]
    for group, every in answering(frames, ("mnist",)):
        own = every[(every["depth"] == 5) & is_of_the_grid(every, published.VARIANTS)]
        rows = []
        for labels, cell in own.groupby(keys, observed=True, sort=False):
            place = dict(zip(keys, labels, strict=True))
            rows.append({"table": "collapse", **place, **_claim(place, cell)})
        table = pd.DataFrame(rows)
        if len(table) and table["n"].any():
            yield group, table


def _claim(place: Mapping[str, Any], members: pd.DataFrame) -> dict[str, Any]:
    """What is said of the layers of one cell in which the paper counts no active unit."""
    columns = [f"active_units_{layer}" for layer in range(1, int(place["depth"]) + 1)]
    counts = members.loc[members["status"] == "finished", columns].dropna()
    found = [_layers(layer for layer, count in enumerate(row, start=1) if not count) for row in counts.to_numpy()]
    claimed = _layers(published.inactive_layers(place) or ())
    differences = published.differences(members, str(place["paper"]), "active_units")
    hindrances = [one.hinders for one in differences if one.hinders is not None]
    return {
        "claimed": claimed,
        "found": "; ".join(f"{layers} ({found.count(layers)})" for layers in dict.fromkeys(found)),
        "as_claimed": found.count(claimed),
        "n": len(found),
        "planned": len(members),
        **{status: int((members["status"] == status).sum()) for status in ("diverged", "failed")},
        "unlike": "; ".join(one.text for one in differences),
        "verdict": verdict_on_layers(found.count(claimed), len(found), hindrances),
    }


def _layers(layers: Iterator[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, layers)) or NONE


def _found(item: Mapping[Any, Any], mark: str) -> PlainCell:
    """`none (2) [a]`, `2/3`, `diverged 1`; of a cell of which no member has finished `0/3`, `diverged 3`."""
    counts, losses = counts_text(item["n"], item["planned"]), losses_text(item)
    if not item["n"]:
        return PlainCell(counts, losses)
    missing = (counts,) if item["n"] < item["planned"] else ()
    return PlainCell(item["found"] + (f" [{mark}]" if mark else ""), (*missing, *losses))


def _table_of_claims(group: Group, rows: pd.DataFrame) -> Table:
    places, letters = of_the_axes(rows, group.frames), letters_of(rows)
    rows = _with_places(rows.assign(row=rows["variant"].astype(str)), group.frames)
    cells: dict[tuple[str, str], PlainCell] = {}
    for item in rows.to_dict("records"):
        row = str(item["row"])
        cells[row, "ours"] = _found(item, letters.get(item["unlike"], ""))
        cells[row, "published"] = PlainCell(item["claimed"])
        cells[row, "verdict"] = PlainCell(item["verdict"])
    footnotes = (CRITERION, OF_SEEDS, CLAIM, *letter_footnotes(letters))
    title = ("Layers without an active unit, ours and the published", f"{group.title}, L = 5")
    return Table(
        *title, places.row_heading("variant"), tuple(rows["row"]), ("ours", "published", "verdict"), cells, footnotes
    )

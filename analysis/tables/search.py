"""Tables of a search: every point with its settings and its bounds on the validation images, and the best one measured
anew.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames
from analysis.statistics.search import places, points
from analysis.tables.answer import listed
from analysis.tables.table import ABSENT, PlainCell, Table, TableSet, losses_text
from hvae_spec.records.plan import SearchSettings
from hvae_spec.spec.grid import SEARCH
from hvae_spec.spec.labels import level_text

RUNG_HEADING, ANEW = "validation bound, epoch", "test, measured anew"
"""Headings of columns."""
NEW = (
    "Measured anew: the mean test log-likelihood ± standard error over seeds that the search did not use. The test set "
    "has no part in the ranking."
)
CHOSEN = (
    "The bounds on the validation images that points were ranked by favor the chosen points: they are the greatest of "
    "many, and no measure of what the best one is worth."
)


def search(frames: Frames) -> TableSet:
    """The points of a search, the best first: the values of what was searched, the bound on the validation images (nats
    per image) after every rung, and the test log-likelihood of the best one over new seeds.

    One table per data set, depth, variant and place on the further axes; none of a grid that is an ablation. The tidy
    frame has one row per point and rung: `trial`, the values, `epochs`, `mean` and `n` on the seeds of the search, what
    became of the others, and of the new seeds `test_mean`, `test_se` and `test_n`.
    """
    if frames.search is None:
        return TableSet("search", (), pd.DataFrame())
    tidy = points(frames)
    if tidy.empty:
        return TableSet("search", (), tidy)
    groups = tidy.groupby(places(frames), sort=False, observed=True, dropna=False)
    return TableSet("search", tuple(_table(own, frames.search, _subject(place)) for place, own in groups), tidy)


def in_words(frames: Frames) -> tuple[str, ...]:
    """What a search asks, and for each of its searches the best point and what it is worth on new seeds.

    Args:
        frames: of a search.

    """
    settings = frames.search
    if settings is None:
        return ()
    tables = search(frames)
    datasets = ", ".join(dict.fromkeys(str(name) for name in frames.planned.members["dataset"]))
    asked = f"Which {listed(_headings(settings))} are best on the validation images of {datasets}?"
    return (asked, *(_best_in_words(table) for table in tables.tables))


def _best_in_words(table: Table) -> str:
    first = table.rows[0]
    values = {column: table.cells[first, column].text() for column in table.columns if (first, column) in table.cells}
    rungs = [column for column in values if column.startswith(RUNG_HEADING)]
    done = [column for column in table.columns if column.startswith(RUNG_HEADING)][-1:] == rungs[-1:]
    chosen = ", ".join(f"{name} {value}" for name, value in values.items() if name not in (*rungs, ANEW))
    words = f"{table.subject}: best of {len(table.rows)} points{'' if done else ' so far'} is {first} ({chosen})"
    if ANEW not in values:
        return f"{words}; it is not measured anew yet."
    return f"{words}; measured anew on seeds that the search did not use, {values[ANEW]} nats on the test images."


def _headings(settings: SearchSettings) -> list[str]:
    names = [path.rsplit(".", 1)[-1] for path in settings.space]
    return [name if names.count(name) == 1 else path for name, path in zip(names, settings.space, strict=True)]


def _subject(place: tuple[Any, ...]) -> str:
    dataset, depth, variant, *others = place
    names = [str(variant)] if variant != SEARCH else []
    return ", ".join([str(dataset), f"L = {depth}", *names, *map(str, others)])


def _table(tidy: pd.DataFrame, settings: SearchSettings, subject: str) -> Table:
    rungs = sorted(tidy["epochs"].unique())
    # A point that came further is better than one that did not.
    last = tidy.sort_values(["epochs", "mean"], ascending=False, na_position="last").drop_duplicates("trial")
    shown = _headings(settings)
    headings = {rung: f"{RUNG_HEADING} {rung:,}" for rung in rungs}
    cells: dict[tuple[str, str], PlainCell] = {}
    for row in tidy.to_dict("records"):
        label = str(row["trial"])
        for name, path in zip(shown, settings.space, strict=True):
            cells[label, name] = PlainCell(level_text(row[path]))
        cells[label, headings[row["epochs"]]] = _bound(row)
        if row["test_planned"]:
            cells[label, ANEW] = _anew(row)
    columns = (*shown, *headings.values(), *([ANEW] if tidy["test_planned"].any() else []))
    title = "Search: points by their bound on the validation images (nats per image)"
    footnotes = (
        f"{ABSENT}: the point did not come so far.",
        CHOSEN,
        *([NEW] if tidy["test_planned"].any() else []),
    )
    return Table(title, subject, "point", tuple(map(str, last["trial"])), columns, cells, footnotes)


def _bound(row: dict[Any, Any]) -> PlainCell:
    losses = losses_text({"diverged": row["diverged"], "failed": row["failed"]})
    if np.isnan(row["mean"]):
        return PlainCell("" if losses else "not done", losses)
    return PlainCell(f"{row['mean']:.2f}", losses)


def _anew(row: dict[Any, Any]) -> PlainCell:
    counts = (
        f"({row['test_n']})" if row["test_n"] == row["test_planned"] else f"({row['test_n']}/{row['test_planned']})"
    )
    if not row["test_n"]:
        return PlainCell(counts)
    se = "" if np.isnan(row["test_se"]) else f" ± {row['test_se']:.2f}"
    return PlainCell(f"{row['test_mean']:.2f}{se} {counts}")

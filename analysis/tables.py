"""Tables: test log-likelihood by depth and variant, active units by layer and variant (Table 2 of the paper)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.frames import Frames, Group
from hvae_spec.schema.data import IMAGE_COUNTS

ABSENT = "–"
"""Stands for a cell that is not in the grid."""


@dataclass(frozen=True)
class Cell:
    """Mean and standard error over the seeds of one cell, and how many seeds there are."""

    mean: float
    se: float
    """NaN with fewer than two finished members."""
    n: int
    """Finished members."""
    planned: int
    diverged: int
    failed: int
    decimals: int = 2

    @property
    def numbers(self) -> tuple[str, str]:
        """Mean and standard error as text, rounded alike; empty where there is none."""
        if not self.n:
            return "", ""
        decimals = 1 if abs(self.mean) >= 1000 else self.decimals
        if self.n > 1 and 0 < self.se < 0.5 * 10**-decimals:
            # A standard error must not round to nothing.
            decimals = min(4, int(np.ceil(-np.log10(self.se))))
        return f"{self.mean:.{decimals}f}", f"{self.se:.{decimals}f}" if self.n > 1 else ""

    @property
    def counts(self) -> str:
        """`3` if all planned members are finished, else `2/3`."""
        return f"{self.n}" if self.n == self.planned else f"{self.n}/{self.planned}"

    @property
    def losses(self) -> tuple[str, ...]:
        """`diverged 1`, `failed 1`, as far as there are any."""
        counts = (("diverged", self.diverged), ("failed", self.failed))
        return tuple(f"{word} {count}" for word, count in counts if count)

    def text(self, plus_minus: str = " ± ", separator: str = ", ") -> str:
        """`-82.14 ± 0.10 (3)`; with one seed `-82.14 (1)`; with losses `0/3, diverged 3`."""
        mean, se = self.numbers
        value = f"{mean}{plus_minus}{se}" if se else mean
        return separator.join([f"{value} ({self.counts})" if value else self.counts, *self.losses])


@dataclass(frozen=True)
class Table:
    """One table: text and numbers apart, so that every format shows the same."""

    quantity: str
    subject: str
    """Data set, place on the further axes, depth."""
    corner: str
    """Heading of the row labels."""
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    """By row and column; what is not here is not in the grid."""
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """`Test log-likelihood (nats per image): mnist`."""
        return f"{self.quantity}: {self.subject}"


@dataclass(frozen=True)
class TableSet:
    """All tables of one quantity over a grid, and the same numbers as one tidy frame."""

    name: str
    """File name without its ending."""
    tables: tuple[Table, ...]
    tidy: pd.DataFrame
    """One row a cell: labels, `mean`, `se`, `n`, `planned` and the number of members of each status."""


def log_likelihood(frames: Frames) -> TableSet:
    """Test log-likelihood in nats per image by depth and variant, one table a data set and place on further axes."""
    tables = []
    for group in frames.groups():
        cells = statistics.cells(group.frames.members, ["depth", "variant"])
        tables.append(
            _table(
                ("Test log-likelihood (nats per image)", group.title),
                "L",
                cells.assign(row=cells["depth"].astype(str)).sort_values("depth", kind="stable"),
                (*bound_notes(group.frames), *_grid_notes(frames, group.frames)),
            )
        )
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("test_log_likelihood", tuple(tables), statistics.cells(frames.planned.members, by))


def active_units(frames: Frames) -> TableSet:
    """Active units by layer and variant, one table a depth, the deepest (Table 2 of the paper) first."""
    tables = []
    for group, depth, members in _depths(frames):
        units = statistics.active_units(members, ["depth", "variant"])
        rows = units.assign(row=[layer if layer == "total" else f"z_{layer}" for layer in units["layer"]])
        criterion = "A unit is active if its KL is above 0.01 nats, on average over the test images."
        title = ("Active units", f"{group.title}, L = {depth}")
        tables.append(_table(title, "layer", rows, (criterion, *_grid_notes(frames, group.frames)), decimals=1))
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("active_units", tuple(tables), statistics.active_units(frames.planned.members, by))


def _depths(frames: Frames) -> Iterator[tuple[Group, int, pd.DataFrame]]:
    for group in frames.groups():
        members = group.frames.members
        for depth in sorted(members["depth"].unique(), reverse=True):
            yield group, int(depth), members[members["depth"] == depth]


def _table(title: tuple[str, str], corner: str, rows: pd.DataFrame, notes: tuple[str, ...], decimals: int = 2) -> Table:
    """From one row a cell, with its table row's label in `row`."""
    cells = {
        (str(item["row"]), str(item["variant"])): Cell(
            float(item["mean"]),
            float(item["se"]),
            int(item["n"]),
            int(item["planned"]),
            int(item["diverged"]),
            int(item["failed"]),
            decimals,
        )
        for item in rows.to_dict("records")
    }
    present = set(rows["variant"])
    columns = tuple(str(name) for name in rows["variant"].cat.categories if name in present)
    return Table(*title, corner, tuple(dict.fromkeys(rows["row"])), columns, cells, notes)


def bound_notes(frames: Frames) -> tuple[str, ...]:
    """How the test log-likelihood of these members was measured: K, images, data, Monte Carlo error."""
    finished = frames.members[frames.members["status"] == "finished"]
    if finished.empty:
        return ()
    notes = [
        f"Importance-weighted bound with K = {_values(finished['iw_samples'])} samples "
        f"on {_values(finished['test_images'])} test images."
    ]
    errors = finished["test_log_likelihood_mc_se"].dropna()
    if len(errors):
        notes.append(f"Monte Carlo error of a member's bound: at most {errors.max():.2g} nats.")
    for dataset, group in finished.groupby("dataset", sort=False):
        if (group["data_canonical"] == False).any():  # noqa: E712 (the column holds missing values too)
            notes.append(f"The files of {dataset} are not those of its distributor (their SHA-256 differs).")
        counts = IMAGE_COUNTS.get(str(dataset))
        for kind, column, whole in zip(
            ("training", "test"), ("train_images", "test_images"), (counts or ())[1:], strict=False
        ):
            if (group[column] < whole).any():
                notes.append(f"Limited to {_values(group[column])} of {whole:,} {kind} images.")
    return tuple(notes)


def _grid_notes(frames: Frames, group: Frames) -> tuple[str, ...]:
    """How to read the cells, and what is not in them."""
    notes = ["Mean ± standard error over seeds (number of seeds; n/planned where members are missing)."]
    status = group.members["status"]
    if status.isin(["diverged", "failed"]).any():
        notes.append("Diverged and failed members are in no mean.")
    left_out = int((~frames.members["planned"]).sum())
    if left_out:
        notes.append(f"Left out: {left_out} record{'s' * (left_out > 1)} that the grid no longer plans.")
    labels = ["dataset", *frames.factors, "depth", "variant", "seed"]
    if group.members.duplicated(labels).any():
        notes.append("Some cells hold several records of one seed; without grid.json they cannot be told apart.")
    return tuple(notes)


def _values(column: "pd.Series[float]") -> str:
    """The different values of a column of counts: `5,000`, `100 and 5,000`."""
    return " and ".join(f"{value:,.0f}" for value in sorted(column.dropna().unique())) or "unknown"

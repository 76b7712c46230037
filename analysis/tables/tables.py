"""Tables: test log-likelihood by depth and variant, active units by layer and variant (Table 2 of the paper)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames, Group
from analysis.statistics import over_seeds
from analysis.tables.footnotes import CRITERION, MEANS, bound_notes, grid_notes

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
    mark: str = ""
    """Letters of the notes that say in what the cell differs from a published one."""

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
        """`-82.14 ± 0.10 (3)`; with one seed `-82.14 (1)`; marked `-82.14 (1) [a]`; with losses `0/3, diverged 3`."""
        mean, se = self.numbers
        value = f"{mean}{plus_minus}{se}" if se else mean
        head = f"{value} ({self.counts})" if value else self.counts
        return separator.join([f"{head} [{self.mark}]" if self.mark else head, *self.losses])


@dataclass(frozen=True)
class Plain:
    """A cell that is no mean over seeds: a published value, an effect, an epoch."""

    content: str
    details: tuple[str, ...] = ()
    """What follows, on lines of its own where there is room for them."""

    def text(self, separator: str = ", ") -> str:
        """Content and details."""
        return separator.join([self.content, *self.details])


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
    cells: Mapping[tuple[str, str], Cell | Plain]
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
    """The numbers behind the tables: labels, and for means over seeds `mean`, `se`, `n`, `planned` and the number of
    members of each status."""


def log_likelihood(frames: Frames) -> TableSet:
    """Test log-likelihood in nats per image by depth and variant, one table a data set and place on further axes."""
    tables = []
    for group in frames.groups():
        cells = over_seeds.cells(group.frames.members, ["depth", "variant"])
        tables.append(
            table_of(
                ("Test log-likelihood (nats per image)", group.title),
                "L",
                cells.assign(row=cells["depth"].astype(str)).sort_values("depth", kind="stable"),
                (*bound_notes(group.frames), MEANS, *grid_notes(frames, group.frames)),
            )
        )
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("test_log_likelihood", tuple(tables), over_seeds.cells(frames.planned.members, by))


def active_units(frames: Frames) -> TableSet:
    """Active units by layer and variant, one table a depth, the deepest (Table 2 of the paper) first."""
    return _by_layer(frames, "active_units", "Active units", CRITERION, 1)


def layer_kl(frames: Frames) -> TableSet:
    """KL(q(z_i|.)||p(z_i|.)) of every layer on the test set, one table a depth, the deepest first."""
    note = "KL(q||p) of a layer, on average over the test images and samples of the layers that it depends on."
    return _by_layer(frames, "kl", "KL of the layers (nats per image)", note, 2)


def layer_kl_standard_normal(frames: Frames) -> TableSet:
    """KL(q(z_i|.)||N(0, I)) of every layer on the test set (Fig. 6a), one table a depth, the deepest first."""
    note = "KL of q(z_i|.) to a standard normal, on average over the test images and samples of what it depends on."
    return _by_layer(frames, "kl_standard_normal", "KL to N(0, I) of the layers (nats per image)", note, 2)


def _by_layer(frames: Frames, quantity: str, title: str, note: str, decimals: int) -> TableSet:
    """Tables of `<quantity>_i`; none where no member has it, unless it is of the active units."""
    by = ["dataset", *frames.factors, "depth", "variant"]
    tidy = over_seeds.by_layer(frames.planned.members, by, quantity)
    tables = []
    for group, depth, members in depths(frames):
        units = over_seeds.by_layer(members, ["depth", "variant"], quantity)
        if quantity == "kl_standard_normal":
            # Its layers are drawn one beside the other; their sum is no divergence of the model.
            units = units[units["layer"] != "total"]
        if units["n"].any() or quantity == "active_units":
            rows = units.assign(row=[layer if layer == "total" else f"z_{layer}" for layer in units["layer"]])
            notes = (note, MEANS, *grid_notes(frames, group.frames))
            tables.append(table_of((title, f"{group.title}, L = {depth}"), "layer", rows, notes, decimals))
    return TableSet(quantity, tuple(tables), tidy)


def bound_by_samples(frames: Frames) -> TableSet:
    """The importance-weighted bound against K, and the effective sample size, one table a depth, the deepest first."""
    by = ["dataset", *frames.factors, "depth", "variant"]
    tables, tidies = [], []
    for group, depth, members in depths(frames):
        bounds = frames.bounds[frames.bounds["digest"].isin(members["digest"])]
        parts: list[tuple[str, int | None, pd.DataFrame, str]] = []
        for count in sorted(bounds["iw_samples"].unique()):
            own = bounds[bounds["iw_samples"] == count].set_index("digest")["bound"]
            parts.append((f"K = {count:,}", int(count), members.assign(bound=members["digest"].map(own)), "bound"))
        if parts:
            parts.append(("effective samples", None, members, "effective_sample_size"))
        rows = []
        for row, count, having, quantity in parts:
            cells = over_seeds.cells(having, by, quantity)
            # A variant whose finished members were never evaluated with this K has no such cell.
            cells = cells[(cells["n"] > 0) | (cells["finished"] == 0)]
            tidies.append(cells.assign(quantity=quantity, iw_samples=count))
            rows.append(cells.assign(row=row))
        if rows:
            title = ("Importance-weighted bound by K (nats per image)", f"{group.title}, L = {depth}")
            content = pd.concat(rows)
            notes = (*_bound_errors(bounds), *_left_out(content), MEANS, *grid_notes(frames, group.frames))
            tables.append(table_of(title, "samples", content, notes))
    tidy = pd.concat(tidies, ignore_index=True) if tidies else pd.DataFrame(columns=[*by, "mean", "se", "n"])
    return TableSet("bound_by_samples", tuple(tables), tidy)


def _left_out(content: pd.DataFrame) -> tuple[str, ...]:
    """What an empty cell means, if there is one."""
    full = content["row"].nunique() * content["variant"].nunique() == len(content)
    return () if full else (f"{ABSENT}: none of the finished members was evaluated with so many samples.",)


def _bound_errors(bounds: pd.DataFrame) -> tuple[str, ...]:
    worst = bounds["mc_se"].max()
    return (
        *([] if np.isnan(worst) else [f"Monte Carlo error of a member's bound: at most {worst:.2g} nats."]),
        "Effective samples: (sum w)^2 / sum w^2 of the weights of the greatest K, on average over the test images.",
    )


def depths(frames: Frames) -> Iterator[tuple[Group, int, pd.DataFrame]]:
    """The planned members of every group and depth, the deepest of each group first."""
    for group in frames.groups():
        members = group.frames.members
        for depth in sorted(members["depth"].unique(), reverse=True):
            yield group, int(depth), members[members["depth"] == depth]


def table_of(
    title: tuple[str, str], corner: str, rows: pd.DataFrame, notes: tuple[str, ...], decimals: int = 2
) -> Table:
    """A table of means over seeds.

    Args:
        title: the quantity, and what it is of.
        corner: heading of the row labels.
        rows: the columns of `statistics.cells`, one row a cell, with its table row's label in `row`.
        notes: what stands below the table.
        decimals: of means that are below 1,000.

    """
    cells = {(str(item["row"]), str(item["variant"])): cell_of(item, decimals) for item in rows.to_dict("records")}
    return Table(*title, corner, tuple(dict.fromkeys(rows["row"])), columns_of(rows), cells, notes)


def cell_of(item: Mapping[Any, Any], decimals: int = 2, mark: str = "") -> Cell:
    """The cell of one row of `statistics.cells`."""
    n, planned, diverged, failed = (int(item[key]) for key in ("n", "planned", "diverged", "failed"))
    return Cell(float(item["mean"]), float(item["se"]), n, planned, diverged, failed, decimals, mark)


def columns_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The variants that occur, in the order of the spec."""
    present = set(rows["variant"])
    return tuple(str(name) for name in rows["variant"].cat.categories if name in present)

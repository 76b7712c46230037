"""What tables are made of: cells, tables and sets of tables, apart from how they are rendered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

ABSENT = "–"
"""Stands for a cell that is not in the grid."""


@dataclass(frozen=True)
class MeanCell:
    """Mean and standard error over the seeds of one cell, and how many seeds there are.

    Examples:
        >>> MeanCell(mean=-82.138, se=0.104, n=3, planned=5, diverged=2, failed=0).text()
        '-82.14 ± 0.10 (3/5), diverged 2'

    """

    mean: float
    """Of the finished members."""
    se: float
    """NaN with fewer than two finished members."""
    n: int
    """Number of finished members."""
    planned: int
    """Number of all members of the cell."""
    diverged: int
    """Number of members that diverged."""
    failed: int
    """Number of members that failed."""
    decimals: int = 2
    """At most, of means that are below 1,000; larger ones have one. A standard error has no more than two digits."""
    mark: str = ""
    """The letter of the footnote that says in what the cell differs from a published one."""

    @property
    def numbers(self) -> tuple[str, str]:
        """Mean and standard error as text, rounded alike; empty where there is none."""
        if not self.n:
            return "", ""
        decimals = 1 if abs(self.mean) >= 1000 else self.decimals
        if self.n > 1 and self.se > 0:
            first = -int(np.floor(np.log10(self.se)))  # the place of the first digit of the standard error
            # No more than two of its digits; but it must not be rounded to zero.
            decimals = min(4, first) if self.se < 0.5 * 10**-decimals else max(0, min(decimals, first + 1))
        return f"{self.mean:.{decimals}f}", f"{self.se:.{decimals}f}" if self.n > 1 else ""

    @property
    def counts(self) -> str:
        """`3` if all planned members are finished, else `2/3`."""
        return counts_text(self.n, self.planned)

    @property
    def losses(self) -> tuple[str, ...]:
        """`diverged 1`, `failed 1`, as far as there are any."""
        return losses_text({"diverged": self.diverged, "failed": self.failed})

    def text(self, plus_minus: str = " ± ", separator: str = ", ") -> str:
        """`-82.14 ± 0.10 (3)`; with one seed `-82.14 (1)`; marked `-82.14 (1) [a]`; with losses `0/3, diverged 3`.

        Args:
            plus_minus: what stands between mean and standard error.
            separator: what stands before each loss.

        """
        mean, se = self.numbers
        value = f"{mean}{plus_minus}{se}" if se else mean
        head = f"{value} ({self.counts})" if value else self.counts
        return separator.join([f"{head} [{self.mark}]" if self.mark else head, *self.losses])


@dataclass(frozen=True)
class PlainCell:
    """A cell that is no mean over seeds: a published value, an effect, an epoch.

    Examples:
        >>> PlainCell("1 (3)", ("P = 0.93", "diverged 1")).text()
        '1 (3), P = 0.93, diverged 1'

    """

    content: str
    """What it shows."""
    details: tuple[str, ...] = ()
    """What follows, on lines of its own where there is space for them."""

    def text(self, separator: str = ", ") -> str:
        """Content and details, with `separator` before each detail."""
        return separator.join([self.content, *self.details])


@dataclass(frozen=True)
class Table:
    """One table, as labels and cells, so that every format shows the same."""

    quantity: str
    """What the table is of: `Test log-likelihood (nats per image)`."""
    subject: str
    """Whose it is: data set, what all its members have in common on the further axes, depth."""
    row_heading: str
    """Heading of the row labels."""
    rows: tuple[str, ...]
    """Labels of the rows, from the top."""
    columns: tuple[str, ...]
    """Headings of the columns, from the left."""
    cells: Mapping[tuple[str, str], MeanCell | PlainCell]
    """By row and column; what is not here is not in the grid."""
    footnotes: tuple[str, ...]
    """What is said below it."""
    best: frozenset[tuple[str, str]] = frozenset()
    """The cells that are marked, by row and column: the best, and those that cannot be told from it."""

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
    """One for each data set, and of what is by layer, depth."""
    tidy: pd.DataFrame
    """The numbers behind the tables: labels, and for means over seeds `mean`, `se`, `n`, `planned` and the number of
    members of each status."""
    members: tuple[str, ...] = ()
    """Digests of the members behind them, as the files name them."""


def counts_text(n: int, planned: int) -> str:
    """`3` if all planned replicates are there, else `2/3`."""
    return f"{n}" if n == planned else f"{n}/{planned}"


def losses_text(counts: Mapping[Any, Any]) -> tuple[str, ...]:
    """`diverged 1`, `failed 1`, as far as `counts` has any of them.

    Examples:
        >>> losses_text({"finished": 2, "diverged": 1, "failed": 0})
        ('diverged 1',)

    """
    return tuple(f"{status} {counts[status]}" for status in ("diverged", "failed") if counts.get(status))

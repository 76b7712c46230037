"""The answer of a grid, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from analysis.statistics.answer import Answer, BestCell
from analysis.tables.effects import effect_text, p_text, value_text
from analysis.tables.table import counts_text

SHOWN = 4
"""Cells and effects that are named; of the others, their number."""


def sentences(answer: Answer) -> tuple[str, ...]:
    """What a grid answers on one data set: its best cells, the effects that hold, what diverged and what is missing.

    Args:
        answer: of `analysis.statistics.answers`, on a quantity that effects are tabulated of.

    """
    return tuple(_sentences(answer))


def _sentences(answer: Answer) -> Iterator[str]:
    if not answer.best:
        yield "No member has finished yet."
    else:
        first, *others = answer.best
        yield f"Best of {answer.cells} cells: {_cell(first)}." if answer.cells > 1 else f"{_cell(first)}."
        if others:
            which = _listed([_cell(cell) for cell in others])
            yield f"Not to be told from it: {which}."
    rows = answer.effects.to_dict("records")
    if rows:
        texts = [f"{effect_text(row)}{_place(row)}, {value_text(row)}, {p_text(row)}" for row in rows]
        yield f"What holds, of {_count(answer)}: {_listed(texts)}."
    elif answer.tested:
        yield f"Of {_count(answer)}, none holds."
    lost = answer.lost[answer.lost["kind"] != "interaction"].to_dict("records")
    pooled = [row for row in lost if row["kind"] == "main"] or lost
    if pooled:
        texts = [
            f"{effect_text(row)}{_place(row)}, {row['diverged_reference']} → {row['diverged_level']}" for row in pooled
        ]
        yield f"This is among seeds that finished; members that diverged: {_listed(texts)}."
    if answer.missing:
        counts = ", ".join(f"{count} {status}" for status, count in answer.missing.items())
        yield f"Not finished: {counts}."


def _cell(cell: BestCell) -> str:
    """`VAE+BN, L = 3: -82.14 [-82.50, -81.78] (3)`."""
    interval = "" if np.isnan(cell.low) else f" [{cell.low:.2f}, {cell.high:.2f}]"
    return f"{cell.words}: {cell.mean:.2f}{interval} ({counts_text(cell.n, cell.planned)})"


def _count(answer: Answer) -> str:
    return f"{answer.tested} effect{'s' * (answer.tested > 1)} tested"


def _place(row: Mapping[Any, Any]) -> str:
    return f" at {row['place']}" if row["kind"] == "simple" and row["place"] else ""


def _listed(texts: list[str]) -> str:
    rest = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")

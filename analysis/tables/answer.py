"""What was asked and what came out, in a few sentences: the first that a report says."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames
from analysis.statistics import Answer, BestCell, answers, designs
from analysis.statistics.contrasts import CONFIDENCE
from analysis.statistics.effects import effect_text
from analysis.tables.effects import decimals_of, value_text

QUANTITIES = {"test_error": "test error", "test_log_likelihood": "test log-likelihood"}
"""What an answer is about, in its order; test errors are of models with classes alone."""
UNITS = {"bits_per_dim": (3, " bits per dimension"), "test_error": (2, "%")}
"""Most decimals and the unit of what the best cells are found by, if it is no log-likelihood."""
EFFECT_UNITS = {"test_error": "percentage points"}
"""The unit of effects, if they are none on a log-likelihood."""
BEST, EFFECTS = 3, 4
"""How many cells beside the best and how many effects are named; the others are counted."""


def question(frames: Frames) -> str:
    """What was asked: `report.question` of the spec, or else what the factors of the grid ask.

    Examples:
        `How does the test log-likelihood on mnist depend on depth, batch normalization, warm-up and ladder?`

    """
    if frames.report.question is not None:
        return frames.report.question
    found = list(designs(frames))
    names = dict.fromkeys(factor.words for design in found for factor in design.factors)
    depth = ["depth"] if any(design.varies_in_depth for design in found) else []
    factors = [*depth, *names]
    datasets = listed(dict.fromkeys(str(design.place["dataset"]) for design in found))
    about = [QUANTITIES[quantity] for quantity in _quantities(frames)]
    asked, (do, are) = " and the ".join(about), ("does", "is") if len(about) == 1 else ("do", "are")
    return (
        f"How {do} the {asked} on {datasets} depend on {listed(factors)}?"
        if factors
        else (f"What {are} the {asked} on {datasets}?")
    )


def answer(frames: Frames) -> tuple[str, ...]:
    """The answer on each data set, and of models with classes by the test error first: the best cells with their
    intervals, the effects that hold, and what diverged or is missing.
    """
    about = _quantities(frames)
    found = [one for several in zip(*(answers(frames, quantity) for quantity in about), strict=True) for one in several]
    return tuple(_place(one, len(about) > 1, len(found) > len(about)) + " ".join(sentences(one)) for one in found)


def _quantities(frames: Frames) -> list[str]:
    """What there is to be said of."""
    return [name for name in QUANTITIES if name != "test_error" or frames.members[name].notna().any()]


def _place(one: Answer, several_quantities: bool, several_places: bool) -> str:
    """What an answer begins with: `mnist, test error: `, as far as there are others."""
    parts = [_where(one)] * several_places + [QUANTITIES[one.quantity]] * several_quantities
    text = ", ".join(parts)
    return f"{text[0].upper() if not several_places else text[0]}{text[1:]}: " if parts else ""


def listed(words: Iterable[str]) -> str:
    """Words as a list in a sentence.

    Examples:
        >>> listed(["depth"]), listed(["depth", "warm-up", "ladder"])
        ('depth', 'depth, warm-up and ladder')

    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _where(one: Answer) -> str:
    return ", ".join(str(value) for value in one.place.values())


def sentences(one: Answer) -> tuple[str, ...]:
    """The answer on one data set.

    Args:
        one: of `analysis.statistics.answers`, on one of `QUANTITIES`.

    """
    return tuple(_sentences(one))


def _sentences(one: Answer) -> Iterator[str]:
    if not one.cells:
        yield "No member has finished yet."
        return
    yield from one.unlike
    if one.best:
        yield from _best(one)
    yield _effects(one)
    if one.quantity != "test_error":  # said beside the log-likelihood
        yield from _lost(one)


def _best(one: Answer) -> Iterator[str]:
    best, *others = one.best
    if one.cells == 1:
        yield f"{best.words}: {_value(best, one)}."
        return
    what = "them" if one.unlike else "one"
    if one.compared == 1 < one.cells:
        yield f"The one cell that has {what}: {best.words}, with {_value(best, one)}."
    else:
        some = f" that have {what}" * (bool(one.unlike) or one.compared < one.cells)
        among = f"{one.compared} cells{some}"
        yield f"Best of {among}: {best.words}, with {_value(best, one)}."
    by_reason: dict[str, list[str]] = {}
    for cell in others:
        by_reason.setdefault(_why_not_told_apart(cell), []).append(cell.words)
    for why, words in by_reason.items():
        named = "; ".join(words[:BEST]) + f"; and {len(words) - BEST} more" * (len(words) > BEST)
        yield f"Not told apart from it, {why}: {named}."


def _why_not_told_apart(cell: BestCell) -> str:
    if not np.isnan(cell.p_holm):
        return f"at {1 - CONFIDENCE:.0%} by Holm's correction"
    if cell.sd == 0:
        return "as every seed differs by the same, which leaves no spread to test against"
    return "as no two of its seeds can be compared"


def _value(cell: BestCell, one: Answer) -> str:
    """`-82.14 [-82.60, -81.68] nats (3 seeds)`."""
    most, unit = UNITS.get(one.best_by, (2, " nats"))
    decimals = decimals_of(cell.low, cell.high, most)
    interval = "" if np.isnan(cell.low) else f" [{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]"
    return f"{cell.mean:.{decimals}f}{interval}{unit} ({cell.n} seed{'s' * (cell.n != 1)})"


def _effects(one: Answer) -> str:
    """What holds, pooled effects first; of a factor that has a pooled one, no simple ones."""
    if not one.tested:
        return f"No effect is tested: {_why_untested(one)}."
    rows = one.effects.to_dict("records")
    pooled = {row["factor"] for row in rows if row["kind"] in ("named", "main")}
    pooled |= {factor for factor, name in one.named_factors.items() if name in pooled}
    shown = [row for row in rows if row["kind"] != "simple" or row["factor"] not in pooled]
    if not shown:
        none = "The effect that is tested cannot" if one.tested == 1 else f"None of the {one.tested} effects tested can"
        return f"{none} be told from zero."
    at_places = [*rows, *({"kind": "named at a place", **row} for row in one.at_places.to_dict("records"))]
    named = [_effect(row, _against(row, at_places)) for row in shown[:EFFECTS]]
    named += [f"{len(shown) - EFFECTS} more"] * (len(shown) > EFFECTS)
    held = "The effect that is tested holds" if one.tested == 1 else f"Of the {one.tested} effects tested, these hold"
    return f"{held}: {'; '.join(named)}."


def _why_untested(one: Answer) -> str:
    few, alike = "two finished seeds on both sides", "the same in every seed, which leaves no spread to test against"
    if one.alike:
        rest = f", and {one.few} more would take {few}" if one.few else ""
        return f"{one.alike} {'are' if one.alike > 1 else 'is'} {alike}{rest}"
    return (
        f"that takes {few}"
        if one.few
        else f"no two cells{' that have one' * (one.compared < one.cells)} differ in one setting alone"
        + " and have one x" * bool(one.unlike)
    )


def _effect(row: dict[Any, Any], against: str) -> str:
    """`batch normalization: off → on, +1.97 [+1.23, +2.71] nats (p = 0.012)`, and where it is the other way round."""
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    place = f" at {row['place']}" if row["kind"] == "simple" and not pd.isna(row["place"]) and row["place"] else ""
    pooled = " on average" if row["kind"] != "simple" and row["all_places"] > 1 else ""
    unit = EFFECT_UNITS.get(row["quantity"], "nats")
    return f"{effect_text(row)}{place}, {value_text(row)} {unit}{pooled} ({p}){against}"


def _against(row: dict[Any, Any], rows: Sequence[dict[Any, Any]]) -> str:
    """Where a main effect or a named contrast is the other way round: `, but +1.19 at lr 1e-3, wide`; of a place
    without a name, which is that of two variants, between which of them.

    Args:
        row: of `all_effects`.
        rows: what holds at single places, among others: of main effects the simple ones, and named contrasts there.

    """
    kinds = {"main": ("simple", ("effect", "reference", "level")), "named": ("named at a place", ("effect",))}
    if row["kind"] not in kinds:
        return ""
    kind, same = kinds[row["kind"]]
    others = [one for one in rows if one["kind"] == kind and all(one[key] == row[key] for key in same)]
    found = [
        f"{one['mean']:+.{decimals_of(one['low'], one['high'])}f} "
        + (f"at {one['place']}" if one["place"] else f"from {one['without']} to {one['with']}")
        for one in others
        if one["mean"] * row["mean"] < 0
    ]
    return f", but {listed(found)}" if found else ""


def _lost(one: Answer) -> Iterator[str]:
    diverged = one.missing.get("diverged", 0)
    if diverged:
        rows = one.lost[one.lost["kind"] != "interaction"].to_dict("records")
        pooled = [row for row in rows if row["kind"] == "main"] or rows
        sides = [f"{effect_text(row)}, {row['diverged_reference']} → {row['diverged_level']}" for row in pooled]
        where = f" ({'; '.join(dict.fromkeys(sides))})" if sides else ""
        members = "1 member" if diverged == 1 else f"{diverged} members"
        yield f"{members} diverged{where}: what is said here is among the seeds that finished."
    left = {status: count for status, count in one.missing.items() if status != "diverged"}
    if left:
        yield f"Not all is done: {listed(f'{count} {status}' for status, count in left.items())}."

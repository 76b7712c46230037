"""What a grid answers, in numbers and names: the best cells, the effects that hold, and what they leave out.

The cell with the highest mean is not alone the best: every other cell is compared with it by a paired t test over the
seeds that both have finished, corrected by Holm's method for all cells that are compared, and those that cannot be told
from it stand beside it. An effect holds if its corrected p value is below 5%. Both are said of seeds that finished,
given this test set. Where the observation models are models of different x, so that their log-likelihoods do not
compare, the best cells are those in bits per dimension, as far as there are such.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import best_by, different_x, is_of_x
from analysis.frames import Frames
from analysis.statistics.contrasts import CONFIDENCE, Outcomes, holm, paired_t
from analysis.statistics.effects import all_effects, is_unmeasured, named_at_places
from analysis.statistics.factors import Design, Factor, designs, text_of_level
from hvae_spec.records.result import DONE


@dataclass(frozen=True)
class BestCell:
    """A cell that is the best, or cannot be told from it."""

    labels: Mapping[str, Any]
    """`variant`, `depth` and every further axis."""
    words: str
    """The same: `VAE+BN, L = 3, lr = 0.001`."""
    mean: float
    """Over its finished members."""
    low: float
    """Lower end of its 95% interval; NaN with a single member."""
    high: float
    """Upper end of it."""
    n: int
    """Finished members."""
    planned: int
    """All members."""
    diverged: int
    """Members that diverged."""
    difference: float
    """Mean of the best less its own, over the seeds that both have finished; 0 of the best itself."""
    p_holm: float
    """Of the difference; NaN where it cannot be tested, and of the best itself."""
    sd: float
    """Of the seeds' differences: NaN with fewer than two to compare, 0 where all are alike, so that there is no spread
    to test against; NaN of the best itself."""


@dataclass(frozen=True)
class Answer:
    """What a grid answers on one data set."""

    place: Mapping[str, Any]
    """`dataset`, and of several grids `grid`."""
    quantity: str
    """The column of `Frames.members` that it is about."""
    factors: tuple[Factor, ...]
    """What varies, each with its levels: what was asked."""
    cells: int
    """Cells with a finished member."""
    best_by: str
    """The column of `Frames.members` by which the best are the best: `quantity`, or bits per dimension, of which less
    is better, where that compares and `quantity` does not."""
    compared: int
    """Cells with a finished member that has it, among which the best are."""
    best: tuple[BestCell, ...]
    """The best and those that cannot be told from it, by their means; empty without a finished member."""
    tested: int
    """Effects with a p value. The simple effect at a factor's only place is the main effect, and is counted once, and
    so is a main effect that is a named contrast: as that."""
    alike: int
    """Effects without one as all seeds differ by the same: there is no spread to test against."""
    few: int
    """Effects without one as fewer than two seeds have finished on both sides, of members that have the quantity."""
    effects: pd.DataFrame
    """The rows of `all_effects` that hold: named contrasts, main effects, interactions, and then simple effects."""
    named_factors: Mapping[str, str]
    """The factors of which a main effect is a named contrast, which alone stands in `effects`, and its name."""
    at_places: pd.DataFrame
    """The rows of `named_at_places` that hold."""
    lost: pd.DataFrame
    """The rows of `all_effects` in which more members have diverged on one side than on the other."""
    unlike: tuple[str, ...]
    """Why not all members compare in `quantity`; empty where they do (`analysis.caveats.different_x`)."""
    missing: Mapping[str, int]
    """Planned members that are not finished, by status."""

    @property
    def is_complete(self) -> bool:
        """Whether every planned member is finished or diverged."""
        return not set(self.missing) - set(DONE)


def answers(frames: Frames, quantity: str = "test_log_likelihood") -> list[Answer]:
    """What a grid answers, on each data set, and of several grids in each.

    Args:
        frames: a grid, whatever its state.
        quantity: a column of `Frames.members` by which cells compare (`analysis.caveats.best_by`).

    """
    table = all_effects(frames, quantity)
    return [_answer(design, table, quantity) for design in designs(frames)]


def _answer(design: Design, table: pd.DataFrame, quantity: str) -> Answer:
    here = np.logical_and.reduce([table[key] == value for key, value in design.place.items()])
    own = table[here]
    order = {kind: place for place, kind in enumerate(("named", "main", "interaction", "simple"))}
    alone = own.loc[(own["kind"] == "main") & (own["all_places"] == 1), "factor"]
    own = own[(own["kind"] != "simple") | ~own["factor"].isin(alone)]
    named = _named(own, design)
    named_factors = dict(zip(own["factor"][named.notna()], named.dropna(), strict=True))
    own = own[named.isna()]
    own = own.sort_values("kind", key=lambda kinds: kinds.map(order), kind="stable")
    members = pd.concat([cell.members for cell in design.cells])
    statuses = members["status"].astype(str)
    missing = statuses[statuses != "finished"].value_counts(sort=False)
    column, sign = best_by(members, quantity)
    best = tuple(_best(design, column, sign))
    is_there = [((cell.members["status"] == "finished") & cell.members[column].notna()).any() for cell in design.cells]
    is_open = own["p"].isna()
    at_places = named_at_places(design, quantity)
    return Answer(
        place=design.place,
        quantity=quantity,
        factors=design.factors,
        cells=sum(bool((cell.members["status"] == "finished").any()) for cell in design.cells),
        best_by=column,
        compared=sum(map(bool, is_there)),
        best=best,
        tested=int(own["p"].notna().sum()),
        alike=int((is_open & (own["sd"] == 0)).sum()),
        few=int((is_open & own["sd"].isna() & ~is_unmeasured(own)).sum()),
        effects=own[own["p_holm"] < 1 - CONFIDENCE],
        named_factors=named_factors,
        at_places=at_places[at_places["p_holm"] < 1 - CONFIDENCE],
        lost=own[own["diverged_reference"] != own["diverged_level"]],
        unlike=different_x(members) if is_of_x(quantity) else (),
        missing={str(status): int(count) for status, count in missing.items()},
    )


def _named(rows: pd.DataFrame, design: Design) -> "pd.Series[str]":
    """The named contrasts that main effects are, between the same pairs of cells, whichever way round; NaN of a row
    that is none.
    """
    contrasts = {
        row["effect"]: {frozenset(pair) for pair in design.named(row["effect"], design.report.contrasts[row["effect"]])}
        for row in rows[rows["kind"] == "named"].to_dict("records")
    }

    def name(row: Mapping[Any, Any]) -> str | float:
        if row["kind"] != "main":
            return np.nan
        (factor,) = (factor for factor in design.factors if factor.name == row["factor"])
        levels = {str(text_of_level(level)): level for level in factor.levels}
        found = design.between(factor.name, levels[str(row["reference"])], levels[str(row["level"])])
        pairs = {frozenset((pair.reference, pair.other)) for pair in found}
        return next((name for name, own in contrasts.items() if own == pairs), np.nan)

    return pd.Series([name(row) for row in rows.to_dict("records")], index=rows.index, dtype=object)


def _best(design: Design, quantity: str, sign: int) -> Iterator[BestCell]:
    outcomes = Outcomes([cell.members for cell in design.cells], quantity)
    is_done = ~np.isnan(outcomes.values)
    finished = [index for index in range(len(design.cells)) if is_done[index].any()]
    if not finished:
        return
    own = {index: _statistics(outcomes, index) for index in finished}
    best, *others = sorted(finished, key=lambda index: -sign * own[index]["mean"])
    found = [outcomes.contrast([[(other, best, 1)]]) for other in others]
    corrected = holm(np.array([row["p"] for row in found], dtype=float))
    yield _cell(design, outcomes, best, own[best], {"mean": 0.0, "sd": np.nan}, np.nan)
    for other, row, p in zip(others, found, corrected.tolist(), strict=True):
        if not p < 1 - CONFIDENCE:
            yield _cell(design, outcomes, other, own[other], row, p)


def _statistics(outcomes: Outcomes, cell: int) -> dict[str, float]:
    is_done = ~np.isnan(outcomes.values[cell])
    return paired_t(outcomes.values[cell][is_done], outcomes.values[cell][is_done & outcomes.is_first])


def _cell(
    design: Design, outcomes: Outcomes, cell: int, own: Mapping[str, float], difference: Mapping[str, float], p: float
) -> BestCell:
    return BestCell(
        labels=dict(design.cells[cell].labels),
        words=design.in_words(cell),
        mean=own["mean"],
        low=own["low"],
        high=own["high"],
        n=int((~np.isnan(outcomes.values[cell])).sum()),
        planned=int(outcomes.planned[cell].sum()),
        diverged=int(outcomes.diverged[cell].sum()),
        difference=difference["mean"],
        p_holm=p,
        sd=difference["sd"],
    )

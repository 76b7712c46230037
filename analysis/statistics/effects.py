"""What each factor of a grid adds: simple effects, main effects and interactions, over seeds.

Every effect is a contrast (`analysis.statistics.contrasts`) between cells that differ in one factor alone
(`analysis.statistics.factors`). A factor of q levels has q - 1 of them against its reference:

- *simple*: at one place, that is at one depth and with one value of all other factors;
- *main*: the mean over all places at which both levels are, each with the same weight;
- *interaction* of two factors: the effect of the first at a level of the second, less its effect at the reference;
- *named*: the contrasts that `report.contrasts` of the spec names, over all places at which both sides are.

Factors that are nested in one another, as the settings of a choice, have simple effects alone.

Log-likelihoods of different x (`hvae_spec.spec.choices.observation.X`) do not compare: of these, an effect is between
cells of one x, and its mean is over places of one x. A level whose x is another one than the reference's is compared
with the first level that has its x.

The 95% intervals are for each effect alone. The p values are corrected by Holm's method (1979) for all effects of a
quantity in one family on one data set: main effects, interactions, simple effects, and the contrasts that were named
before the first result. Contrasts that were named later are corrected together with the simple effects. A single pair
has no interval and no p value. Neither have pairs that are all alike, as counts of units may be: equal differences do
not show that the spread is zero. A pair is dropped, and counted, if one of its members has diverged, failed or not
finished. Where one of the paper's factors is an axis of the grid, its values make variants of their own (`VAE,
batch_norm = True`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import is_of_x, x_of
from analysis.columns import FACTORS, inference_model
from analysis.frames import Frames
from analysis.statistics.contrasts import Difference, Outcomes, holm
from analysis.statistics.factors import NAMES, Design, Factor, Pair, designs, text_of_level
from hvae_spec.spec.labels import GRID, level_text

EFFECTS = ("batch normalization", "warm-up", "ladder")
"""The names of the paper's effects."""
BATCH_NORM, WARM_UP, LADDER = EFFECTS
LADDER_STEP = ("VAE", "Prob. ladder")
"""The labels of the inference models from the one of which to the other the effect of the ladder is."""
MAIN, INTERACTIONS, SIMPLE, NAMED = FAMILIES = (
    "main effects",
    "interactions",
    "simple effects",
    "contrasts named beforehand",
)
"""What p values are corrected for together."""
STATISTICS = ("mean", "se", "low", "high", "p")
COUNTS = (
    "sd",
    "df",
    "n",
    "planned",
    "places",
    "all_places",
    "left_out",
    "unmeasured",
    "diverged",
    "diverged_reference",
    "diverged_level",
)
QUANTITIES = ("test_log_likelihood", "active_units")
"""The quantities that effects are shown on."""


def quantities(members: pd.DataFrame) -> tuple[str, ...]:
    """The columns of `Frames.members` that effects are shown on: of the test error, where there is any.

    Examples:
        >>> quantities(pd.DataFrame({"test_error": [float("nan")]}))
        ('test_log_likelihood', 'active_units')

    """
    return (*QUANTITIES, *(("test_error",) if members["test_error"].notna().any() else ()))


def all_effects(frames: Frames, quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every effect on a quantity.

    Args:
        frames: a grid, or any part of it.
        quantity: a column of `Frames.members`, such as `test_log_likelihood` (nats per image) or `active_units`.

    Returns:
        One row per effect: `dataset`, the further axes and `depth` (as far as its cells have them in common), `kind`
        (`main`, `interaction`, `simple` or `named`), `effect` (its name), `factor` (the path of a field, or the name of
        an axis or a contrast), `reference` and `level` (from the one of which to the other it is), `factor_2`,
        `reference_2` and `level_2` (of an interaction), `place` (of a simple effect, in words), `without` and `with`
        (the variants of the two cells), `quantity`, `mean` (the value at the level less the value at the reference),
        `se`, `low` and `high` (95% confidence), `p`, `p_holm`, `family` (what `p_holm` is corrected for) and
        `family_size` (effects in it that have a p value), `sd` (of the differences; where seeds come in two stages, of
        those of the first) and its degrees of freedom `df`, `n` (seeds), `planned`, `places` (that it is the mean
        over), `all_places` and `left_out` (those of them that lack a seed, in words), `unmeasured` (pairs of which a
        member is finished and does not have the quantity), `diverged` (pairs of which a member has diverged),
        `diverged_reference` and `diverged_level` (members on either side), `data_canonical` (of all members, see
        `analysis.caveats.canonical`). NaN where there are too few pairs.

    """
    factors = frames.as_variants(FACTORS).factors
    rows = [row for design in designs(frames) for row in _of_design(design, quantity)]
    names = ["kind", "effect", "factor", "reference", "level", "factor_2", "reference_2", "level_2", "place"]
    columns = ["dataset", *factors, "depth", *names, "without", "with", "quantity", *STATISTICS]
    # Labels stay what they are: whole numbers too, where other rows have none.
    table = pd.DataFrame(rows, columns=[*columns, "family", *COUNTS, "data_canonical"], dtype=object)
    counted = dict.fromkeys((name for name in COUNTS if name not in ("sd", "left_out")), int)
    table = table.astype({"depth": "Int64", **dict.fromkeys((*STATISTICS, "sd"), float), **counted})
    apart = ["dataset", *(name for name in factors if name == GRID), "family"]
    by_family = table.groupby(apart, sort=False, dropna=False)["p"]
    corrected = by_family.transform(lambda p: holm(p.to_numpy(dtype=float))).astype(float)
    table.insert(len(columns), "p_holm", corrected)
    table.insert(len(columns) + 2, "family_size", by_family.transform("count").astype(int))
    return table


def paired_effects(frames: Frames, quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """The simple effects on a quantity: at every place one row, with the columns of `all_effects`.

    Args:
        frames: a grid, or any part of it.
        quantity: a column of `Frames.members`.

    """
    table = all_effects(frames, quantity)
    return table[table["kind"] == "simple"].reset_index(drop=True).astype({"depth": int})


def _of_design(design: Design, quantity: str) -> Iterator[dict[str, Any]]:
    outcomes = Outcomes([cell.members for cell in design.cells], quantity)
    compare = _comparing(design, quantity)

    def row(places: Sequence[Sequence[Difference]], family: str, **about: Any) -> dict[str, Any]:
        found = outcomes.contrast(places)
        cells = [[cell for *pair, _ in place for cell in pair] for place in places]
        left_out = "; ".join(design.in_words(*cells[place]) for place in found["left_out"]) if len(places) > 1 else ""
        sides = zip(*[[design.cells[cell].labels["variant"] for cell in pair] for *pair, _ in places[0]], strict=True)
        variants = dict(zip(("without", "with"), (names[-1] for names in sides), strict=True))
        common = design.common(*(cell for own in cells for cell in own))
        variants = variants if len(places) == 1 or "variant" in common else {}
        labels = {name: value for name, value in common.items() if name != "variant"}
        about = {**design.place, **labels, **about, **variants, "quantity": quantity}
        return {**about, **found, "family": family, "all_places": len(places), "left_out": left_out}

    steps = {factor.name: list(_steps(factor, design, compare)) for factor in design.factors}
    for factor in design.factors:
        for step in steps[factor.name]:
            pairs = [[(pair.reference, pair.other, 1)] for pair in step.pairs]
            about = _about(step, design)
            if pairs and factor.name not in design.nested and compare(*_cells_of(pairs)):
                yield row(pairs, MAIN, kind="main", **about)
            for pair in pairs:
                place = design.in_words(*pair[0][:2])
                yield row([pair], SIMPLE, kind="simple", place=place, **about)
    for first, second, places in _crossed(design, steps):
        if not compare(*_cells_of(places)):
            continue
        about = _about(first, design)
        other = _about(second, design)
        about["effect"] = f"{about['effect']} × {other.pop('effect')}"
        yield row(places, INTERACTIONS, kind="interaction", **about, **{f"{key}_2": own for key, own in other.items()})
    for name, wished in design.report.contrasts.items():
        named = [[(first, second, 1)] for first, second in design.named(name, wished)]
        if named and compare(*_cells_of(named)):
            is_foretold = list(design.foretold.get(name, ())) == list(wished)
            reference, level = map(text_of_level, wished)
            about = {"effect": name, "factor": name, "reference": reference, "level": level}
            yield row(named, NAMED if is_foretold else SIMPLE, kind="named", **about)


def named_at_places(design: Design, quantity: str) -> pd.DataFrame:
    """The named contrasts of a grid at each of their places, where they have several.

    Args:
        design: the grid, on one data set.
        quantity: a column of `Frames.members`.

    Returns:
        One row per contrast and place: `effect` and `factor` (its name), `place` (in words), the statistics of
        `all_effects`, and `p_holm`, corrected over the places of the contrast.

    """
    outcomes = Outcomes([cell.members for cell in design.cells], quantity)
    rows = []
    for name, wished in design.report.contrasts.items():
        pairs = design.named(name, wished)
        found = [outcomes.contrast([[(*pair, 1)]]) for pair in pairs] if len(pairs) > 1 else []
        corrected = holm(np.array([row["p"] for row in found], dtype=float))
        for pair, row, p in zip(pairs, found, corrected, strict=bool(found)):
            rows.append({"effect": name, "factor": name, "place": design.in_words(*pair), **row, "p_holm": p})
    return pd.DataFrame(rows, columns=["effect", "factor", "place", *STATISTICS, "p_holm"])


@dataclass(frozen=True)
class _Step:
    """From one level of a factor to another, and the pairs of cells that it is between."""

    factor: Factor
    reference: Any
    level: Any
    pairs: tuple[Pair, ...]


def _steps(factor: Factor, design: Design, compare: Callable[..., bool]) -> Iterator[_Step]:
    """The step to every level but the reference: from that, or where no pair of it compares, from the first level from
    which some do.
    """

    def to(level: Any, reference: Any) -> _Step:
        found = design.between(factor.name, reference, level)
        return _Step(factor, reference, level, tuple(pair for pair in found if compare(pair.reference, pair.other)))

    for place, level in enumerate(factor.levels[1:], start=1):
        step = to(level, factor.reference)
        if not step.pairs and design.between(factor.name, factor.reference, level):
            others = (to(level, reference) for reference in factor.levels[1:place])
            step = next((other for other in others if other.pairs), step)
        yield step


def _comparing(design: Design, quantity: str) -> Callable[..., bool]:
    """Whether cells compare in a quantity, by their indices."""
    x = [frozenset(x_of(cell.members["observation"]).values() if is_of_x(quantity) else ()) for cell in design.cells]
    return lambda *cells: len(frozenset().union(*(x[cell] for cell in cells))) < 2


def _cells_of(places: Sequence[Sequence[Difference]]) -> Iterator[int]:
    """The indices of the cells of a contrast."""
    return (cell for place in places for *pair, _ in place for cell in pair)


def _about(step: _Step, design: Design) -> dict[str, Any]:
    """What the effect of a level is called."""
    factor = step.factor
    name = factor.words
    if NAMES.get(factor.name) == name and factor.name == "model.inference":
        depth = max(cell.labels["depth"] for cell in design.cells)
        labels = tuple(inference_model(str(own), depth).label for own in (step.reference, step.level))
        name = LADDER if labels == LADDER_STEP else name
    levels = {"reference": text_of_level(step.reference), "level": text_of_level(step.level)}
    return {"effect": name, "factor": factor.name, **levels}


def _crossed(
    design: Design, steps: Mapping[str, Sequence[_Step]]
) -> Iterator[tuple[_Step, _Step, list[list[Difference]]]]:
    """A step of every two factors, and the places at which all four cells are."""
    own = [factor.name for factor in design.factors if factor.name not in design.nested]
    for place, first in enumerate(own):
        for second in own[place + 1 :]:
            for one in steps[first]:
                across = {pair.reference: pair.other for pair in one.pairs}
                for two in steps[second]:
                    up = {pair.reference: pair.other for pair in two.pairs}
                    places: list[list[Difference]] = [
                        [(cell, across[cell], -1), (up[cell], across[up[cell]], 1)]
                        for cell in across
                        if cell in up and across.get(up[cell], -1) == up.get(across[cell], -2)
                    ]
                    if places:
                        yield one, two, places


def effect_text(row: Mapping[Any, Any]) -> str:
    """The name of a main effect, an interaction or a named contrast: `learning rate: 0.001 → 0.0003`.

    Args:
        row: of `analysis.statistics.all_effects`.

    """
    step = f"{level_text(row['reference'])} → {level_text(row['level'])}"
    if row["kind"] != "interaction":
        return f"{row['effect']}: {step}"
    first, second = str(row["effect"]).split(" × ")
    return f"{first} ({step}) × {second} ({level_text(row['reference_2'])} → {level_text(row['level_2'])})"


def is_pooled(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which effects say more than the simple ones: a main effect at a factor's only place is its simple effect.

    Args:
        rows: of `analysis.statistics.all_effects`.

    """
    is_repeated = (rows["kind"] == "main") & (rows["all_places"] <= 1)
    return (rows["kind"] != "simple") & ~is_repeated


def is_unmeasured(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which effects no pair of seeds has, and some not as a member does not have the quantity: more seeds would not
    give one.

    Args:
        rows: of `analysis.statistics.all_effects`.

    """
    return (rows["n"] == 0) & (rows["unmeasured"] > 0)

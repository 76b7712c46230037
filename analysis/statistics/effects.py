"""What batch normalization, warm-up and the ladder each add, at each depth: paired differences over seeds.

An effect compares two variants that differ in that factor alone, by their resolved settings; each seed that has
finished under both makes a pair with the difference d_s. With n pairs,

    mean = (1/n) sum_s d_s,   se^2 = sum_s (d_s - mean)^2 / (n (n - 1)),   mean / se ~ t with n - 1 degrees of freedom,

if there is no effect. The 95% intervals are not adjusted for the number of effects; the p values are, by Holm's method
(1979), over all effects that are tested on one data set at one place on the further axes. A single pair has no interval
and no p value. Neither have pairs that are all alike, as counts of units may be: equal differences do not show that the
spread is zero. Where seeds come in two stages, se and the degrees of freedom are those of
`analysis.statistics.two_stages`. A pair is dropped, and counted, if one of its members has diverged, failed or not
finished. Where one of the paper's factors is an axis of the grid, its values make variants of their own (`VAE,
batch_norm = True`).
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.caveats import canonical
from analysis.columns import FACTORS, inference_model
from analysis.frames import Frames

CONFIDENCE = 0.95
"""Of the intervals of effects."""
EFFECTS = ("batch normalization", "warm-up", "ladder")
"""The names of the effects."""
BATCH_NORM, WARM_UP, LADDER = EFFECTS
LADDER_STEP = ("VAE", "Prob. ladder")
"""The labels of the inference models from the one of which to the other the effect of the ladder is."""


def paired_effects(frames: Frames, quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every effect on a quantity.

    Args:
        frames: a grid, or any part of it.
        quantity: a column of `Frames.members`, such as `test_log_likelihood` (nats per image) or `active_units`.

    Returns:
        One row per effect, depth, pair of variants, data set and place on the other axes: `dataset`, the other axes,
        `depth`, `effect` (one of `EFFECTS`), `without` and `with` (the variants), `quantity`, `mean` (the value with
        the factor minus the value without it), `se`, `low` and `high` (95% confidence), `p`, `p_holm`, `sd` (of the
        differences; where seeds come in two stages, of those of the first) and its degrees of freedom `df`, `n`
        (pairs), `planned`, `diverged` (pairs of which a member has diverged), `data_canonical` (of all their members,
        see `analysis.caveats.canonical`). NaN where there are too few pairs.

    """
    frames = frames.as_variants(FACTORS)
    rows = [row for group in frames.groups() for row in _group_effects(group.place, group.frames.members, quantity)]
    keys = ["dataset", *frames.factors]
    columns = [*keys, "depth", "effect", "without", "with", "quantity", "mean", "se", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=[*columns, "sd", "df", "n", "planned", "diverged", "data_canonical"])
    corrected = table.groupby(keys, sort=False, dropna=False)["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    table.insert(len(columns), "p_holm", corrected.astype(float))
    return table


def holm(p: NDArray[Any]) -> NDArray[Any]:
    """Holm's step-down adjustment of m p values: max over j <= i of min(1, (m - j + 1) p_(j)) for the i-th smallest.

    Args:
        p: p values [m]. NaN marks what was not tested: it is not counted in m, and stays NaN.

    Returns:
        The adjusted p values, in the order of `p`.

    Examples:
        >>> holm(np.array([0.01, np.nan, 0.04, 0.03])).round(2).tolist()
        [0.03, nan, 0.06, 0.06]

    """
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted


def _group_effects(place: dict[str, Any], members: pd.DataFrame, quantity: str) -> Iterator[dict[str, Any]]:
    """The rows of `paired_effects` of one group of members, without `p_holm`."""
    depths = sorted({int(depth) for depth in members["depth"]})
    by_depth = {
        depth: dict(iter(members[members["depth"] == depth].groupby("variant", observed=True))) for depth in depths
    }
    settings = {depth: {name: _settings(own) for name, own in cells.items()} for depth, cells in by_depth.items()}
    for depth, cells in by_depth.items():
        for (without, first), (with_, second) in permutations(cells.items(), 2):
            # Where a cell has not begun, another depth at which both variants have begun shows in what they differ;
            # a single layer does not, because there a ladder is a VAE.
            candidates = (depth, *(other for other in depths if other > 1))
            pairs = ((settings[at].get(without), settings[at].get(with_)) for at in candidates)
            a, b = next((pair for pair in pairs if None not in pair), (None, None))
            effect = _effect(a, b, depth) if a and b else None
            if effect is not None:
                row = {**place, "depth": depth, "effect": effect, "without": without, "with": with_}
                yield {**row, "quantity": quantity, **_difference(first, second, quantity)}


def _settings(cell: pd.DataFrame) -> dict[str, Any] | None:
    """The paper's factors and the background of a cell's members; None if they are not known, empty if not alike."""
    found = cell[["inference", "batch_norm", "warm_up", "background"]].drop_duplicates()
    if found.isna().all(axis=None):
        return None
    return {} if len(found) > 1 or found.isna().any(axis=None) else {str(k): v for k, v in found.iloc[0].items()}


def _effect(a: Mapping[str, Any], b: Mapping[str, Any], depth: int) -> str | None:
    """What a variant with the settings b adds to one with the settings a at a depth; None unless they differ in exactly
    one factor, and only the second has it.
    """
    # With one layer the ladder is the VAE. There may be further inference models, which differ from both.
    first, second = (inference_model(settings["inference"], depth) for settings in (a, b))
    steps: dict[str, tuple[object, object]] = {
        BATCH_NORM: (bool(a["batch_norm"]), bool(b["batch_norm"])),
        WARM_UP: (float(a["warm_up"]), float(b["warm_up"])),
        LADDER: (first, second),
    }
    different = [name for name, (before, after) in steps.items() if before != after]
    if a["background"] != b["background"] or len(different) != 1:
        return None
    is_added = {
        BATCH_NORM: steps[BATCH_NORM] == (False, True),
        WARM_UP: not a["warm_up"],
        LADDER: (first.label, second.label) == LADDER_STEP,
    }
    return different[0] if is_added[different[0]] else None


def _difference(without: pd.DataFrame, with_: pd.DataFrame, quantity: str) -> dict[str, Any]:
    """Statistics of the pairs by seed."""
    keys, columns = ["seed", "stage"], ["status", quantity]
    both = without[[*keys, *columns]].merge(with_[[*keys, *columns]], on=keys, suffixes=("", "_with"))
    finished = (both["status"] == "finished") & (both["status_with"] == "finished")
    found = (both[f"{quantity}_with"] - both[quantity])[finished].dropna()
    differences = found.to_numpy(dtype=float)
    first = found[both.loc[found.index, "stage"] == 1].to_numpy(dtype=float)
    return {
        **_paired_t(differences, first),
        "n": len(differences),
        "planned": len(both),
        "diverged": int(((both["status"] == "diverged") | (both["status_with"] == "diverged")).sum()),
        "data_canonical": canonical(pd.concat([without["data_canonical"], with_["data_canonical"]])),
    }


def _paired_t(differences: NDArray[Any], first: NDArray[Any]) -> dict[str, float]:
    """`mean`, `se`, `low`, `high`, `p`, `sd` and `df` of a paired t test; NaN where there are too few differences.

    Args:
        differences: all of them [n].
        first: those of the first stage, which alone give the spread; where there is one stage, all [df + 1].

    """
    n, df = len(differences), max(len(first) - 1, 0)
    mean = float(differences.mean()) if n else np.nan
    if not df:
        return {"mean": mean, **dict.fromkeys(("se", "low", "high", "p", "sd"), np.nan), "df": df}
    sd = float(first.std(ddof=1)) if np.ptp(first) else 0.0
    se = float(sd / np.sqrt(n))
    if not se:
        return {"mean": mean, "se": se, **dict.fromkeys(("low", "high", "p"), np.nan), "sd": sd, "df": df}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * se
    p = 2 * float(stats.t.sf(abs(mean) / se, df))
    return {"mean": mean, "se": se, "low": mean - half, "high": mean + half, "p": p, "sd": sd, "df": df}

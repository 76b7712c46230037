"""What batch normalisation, warm-up and the ladder each add, at each depth: paired differences over seeds.

An effect compares two variants that differ in that factor alone, by their resolved settings; each seed that has
finished under both makes a pair d_s. With n pairs,

    mean = (1/n) sum_s d_s,   se^2 = sum_s (d_s - mean)^2 / (n (n - 1)),   mean / se ~ t with n - 1 degrees of freedom,

if there is no effect. The 95% intervals are each by itself; the p values are Holm's (1979) over all effects that one
table tests. A single pair has neither, nor have pairs that are all alike, as counts of units may be: their spread is
not known to be nothing. A pair of which a member has diverged, failed or not finished is dropped, and counted. Where
one of the paper's factors is an axis of the grid, its values make variants of their own (`VAE, batch_norm = True`).
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import FACTORS
from analysis.frames import Frames
from analysis.statistics.over_seeds import canonical
from analysis.tables.footnotes import grid_notes
from analysis.tables.tables import Plain, Table, TableSet

CONFIDENCE = 0.95
QUANTITIES = {
    "test_log_likelihood": "Paired effects on the test log-likelihood (nats per image)",
    "active_units": "Paired effects on the number of active units",
}
EFFECTS = ("batch normalisation", "warm-up", "ladder")


def paired(frames: Frames, quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every effect on a quantity, one row an effect, depth, pair of variants, data set and place on the other axes.

    Returns:
        `dataset`, the other axes, `depth`, `effect` (one of `EFFECTS`), `without` and `with` (the variants),
        `quantity`, `mean` (with less without), `se`, `low` and `high` (95% confidence), `p`, `p_holm`, `n` (pairs),
        `planned`, `diverged` (pairs of which a member diverged), `data_canonical` (of all their members, see
        `statistics.cells`). NaN where there are too few pairs.

    """
    frames = frames.as_variants(FACTORS)
    rows = [row for group in frames.groups() for row in _group(group.place, group.frames.members, quantity)]
    keys = ["dataset", *frames.factors]
    columns = [*keys, "depth", "effect", "without", "with", "quantity", "mean", "se", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=[*columns, "n", "planned", "diverged", "data_canonical"])
    corrected = table.groupby(keys, sort=False, dropna=False)["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    table.insert(len(columns), "p_holm", corrected.astype(float))
    return table


def effects(frames: Frames) -> TableSet:
    """Tables of the paired effects on the test log-likelihood and on the number of active units, rows by depth."""
    frames = frames.as_variants(FACTORS)
    found = {quantity: paired(frames, quantity) for quantity in QUANTITIES}
    tables = []
    for quantity, title in QUANTITIES.items():
        for group in frames.groups():
            own = group.rows(found[quantity])
            if own["planned"].any():
                notes = (*_notes(own), *grid_notes(frames, group.frames))
                tables.append(_table(title, group.title, own, notes))
    return TableSet("paired_effects", tuple(tables), pd.concat(found.values(), ignore_index=True))


def holm(p: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Holm's step-down adjustment of m p values: max over j <= i of min(1, (m - j + 1) p_(j)) for the i-th smallest.

    NaN is no test: it is not counted in m, and stays.
    """
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted


def _group(place: dict[str, Any], members: pd.DataFrame, quantity: str) -> Iterator[dict[str, Any]]:
    depths = sorted({int(depth) for depth in members["depth"]})
    by_depth = {
        depth: dict(iter(members[members["depth"] == depth].groupby("variant", observed=True))) for depth in depths
    }
    settings = {depth: {name: _settings(own) for name, own in cells.items()} for depth, cells in by_depth.items()}
    for depth, cells in by_depth.items():
        for (without, first), (with_, second) in permutations(cells.items(), 2):
            # Where a cell has not begun, what the variants differ in is told by another depth at which both have; but
            # with a single layer a ladder is a VAE, which tells nothing of others.
            told = (depth, *(other for other in depths if other > 1))
            pairs = ((settings[at].get(without), settings[at].get(with_)) for at in told)
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
    steps = {
        "batch normalisation": (bool(a["batch_norm"]), bool(b["batch_norm"])),
        "warm-up": (float(a["warm_up"]), float(b["warm_up"])),
        # With one layer the ladder is the VAE.
        "ladder": (a["inference"] == "ladder" and depth > 1, b["inference"] == "ladder" and depth > 1),
    }
    unlike = [name for name, (before, after) in steps.items() if before != after]
    if a["background"] != b["background"] or len(unlike) != 1:
        return None
    before, after = steps[unlike[0]]
    return unlike[0] if after and not before else None


def _difference(without: pd.DataFrame, with_: pd.DataFrame, quantity: str) -> dict[str, Any]:
    """Statistics of the pairs by seed."""
    columns = ["seed", "status", quantity]
    both = without[columns].merge(with_[columns], on="seed", suffixes=("", "_with"))
    finished = (both["status"] == "finished") & (both["status_with"] == "finished")
    differences = (both[f"{quantity}_with"] - both[quantity])[finished].dropna().to_numpy(dtype=float)
    n = len(differences)
    counts: dict[str, Any] = {
        "n": n,
        "planned": len(both),
        "diverged": int(((both["status"] == "diverged") | (both["status_with"] == "diverged")).sum()),
        "data_canonical": canonical(pd.concat([without["data_canonical"], with_["data_canonical"]])),
    }
    mean = float(differences.mean()) if n else np.nan
    if n < 2:
        return {"mean": mean, **dict.fromkeys(("se", "low", "high", "p"), np.nan), **counts}
    se = float(differences.std(ddof=1) / np.sqrt(n)) if np.ptp(differences) else 0.0
    if not se:
        return {"mean": mean, "se": se, **dict.fromkeys(("low", "high", "p"), np.nan), **counts}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * se
    p = 2 * float(stats.t.sf(abs(mean) / se, n - 1))
    return {"mean": mean, "se": se, "low": mean - half, "high": mean + half, "p": p, **counts}


def _table(title: str, subject: str, rows: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    cells = {}
    heads = {effect: rows[rows["effect"] == effect] for effect in EFFECTS}
    columns = {
        (row["effect"], row["without"], row["with"]): f"{row['effect']}: {row['without']} → {row['with']}"
        for own in heads.values()
        for row in own.to_dict("records")
    }
    for row in rows.to_dict("records"):
        cells[str(row["depth"]), columns[row["effect"], row["without"], row["with"]]] = _cell(row)
    labels = [str(depth) for depth in sorted(rows["depth"].unique())]
    return Table(title, subject, "L", tuple(labels), tuple(columns.values()), cells, notes)


def _cell(row: Mapping[Any, Any]) -> Plain:
    """`+3.21 [2.90, 3.52] (3)`, `p = 0.012`; with one pair `+3.21 (1/3)`."""
    counts = f"({row['n']})" if row["n"] == row["planned"] else f"({row['n']}/{row['planned']})"
    lost = (f"diverged {row['diverged']}",) if row["diverged"] else ()
    if not row["n"]:
        return Plain(counts[1:-1], lost)
    decimals = 1 if row["quantity"] == "active_units" else 2
    value = f"{row['mean']:+.{decimals}f}"
    if np.isnan(row["p_holm"]):
        return Plain(f"{value} {counts}", lost)
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    return Plain(f"{value} [{row['low']:+.{decimals}f}, {row['high']:+.{decimals}f}] {counts}", (p, *lost))


def _notes(rows: pd.DataFrame) -> tuple[str, ...]:
    notes = [
        "Mean difference over pairs of the same seed (number of pairs; n/planned where pairs are missing).",
    ]
    tested = int(rows["p"].notna().sum())
    if tested:
        notes.append("In brackets its 95% confidence interval by Student's t, each by itself.")
        notes.append(f"p: two-sided, by Holm's correction over the {tested} effects tested here.")
    if (rows["n"] == 1).any():
        notes.append("A single pair has no interval.")
    if (rows["se"] == 0).any():
        notes.append("Pairs that are all alike have no interval.")
    return tuple(notes)

"""Means and standard errors over seeds, with every member accounted for."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.caveats import canonical
from hvae_spec.records.result import STATUSES


def mean_over_seeds(frame: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """Mean and standard error of a quantity over the rows of every group.

        mean = (1/n) sum_s y_s,    se^2 = sum_s (y_s - mean)^2 / (n (n - 1))

    Args:
        frame: one row per replicate; missing values are left out and not counted.
        by: columns that distinguish the groups.
        quantity: column to average.

    Returns:
        One row per group: `by`, `mean`, `se` and `n`. A single replicate has no standard error: `se` is then NaN.

    Examples:
        >>> frame = pd.DataFrame({"depth": [1, 1, 2], "y": [-80.0, -82.0, -79.0]})
        >>> mean_over_seeds(frame, ["depth"], "y").to_dict("list")
        {'depth': [1, 2], 'mean': [-81.0, -79.0], 'se': [1.0, nan], 'n': [2, 1]}

    """
    groups = frame.groupby(list(by), sort=False, observed=True, dropna=False)[quantity]
    table = groups.agg(["mean", "sem", "count"]).reset_index()
    return table.rename(columns={"sem": "se", "count": "n"})


def cells(members: pd.DataFrame, by: Sequence[str], quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every cell of a grid: the mean of a quantity over its finished members, and what became of the others.

    Members that have diverged, failed or not finished are excluded from the mean; they are counted.

    Args:
        members: one row per member, as `Frames.members`.
        by: columns that make a cell, in this order: `["dataset", "depth", "variant"]` and the further factors.
        quantity: column to average.

    Returns:
        One row per cell, in order of appearance: `by`; `mean`, `se` and `n` (finished members that have the quantity;
        see `mean_over_seeds`); `planned` (all members of the cell); the number of members of each status; and
        `data_canonical` (whether the files of all are their distributor's, see `analysis.caveats.canonical`).

    """
    finished = mean_over_seeds(members[members["status"] == "finished"], by, quantity)
    statuses = {status: (members["status"] == status).astype(int) for status in STATUSES}
    counted = members[list(by)].assign(**statuses, planned=1)
    counts = counted.groupby(list(by), sort=False, observed=True, dropna=False).sum().reset_index()
    table = counts.merge(finished, on=list(by), how="left")
    table["n"] = table["n"].fillna(0).astype(int)
    files = members.groupby(list(by), sort=False, observed=True, dropna=False)["data_canonical"].agg(canonical)
    table = table.merge(files.reset_index(), on=list(by), how="left")
    return table[[*by, "mean", "se", "n", "planned", *STATUSES, "data_canonical"]]


def by_layer(members: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """A quantity of every layer, and its total where members have one, over seeds (Table 2 of the paper).

    Args:
        members: one row per member, as `Frames.members`.
        by: columns that make a cell; `depth` among them.
        quantity: `active_units`, `kl` or `kl_standard_normal`. The columns `<quantity>_i` hold the layers' values; the
            total is the column `<quantity>`, or else the sum of the layers.

    Returns:
        The columns of `cells` with `layer`: `1` (nearest the data) to the cell's depth, and `total`.

    """
    parts = []
    for depth, group in members.groupby("depth", sort=False):
        layers = [f"{quantity}_{layer}" for layer in range(1, int(str(depth)) + 1)]
        # The KL of a hierarchy is the sum of its layers'.
        total = group[quantity] if quantity in group else group[layers].sum(axis=1, skipna=False)
        with_total = group.assign(total=total)
        for layer, column in {**{name.rsplit("_", 1)[-1]: name for name in layers}, "total": "total"}.items():
            table = cells(with_total, by, column)
            table.insert(len(by), "layer", layer)
            parts.append(table)
    return pd.concat(parts, ignore_index=True)


def monte_carlo_error(members: pd.DataFrame) -> float:
    """Monte Carlo error of the mean test log-likelihood over the finished members of one cell, in nats per image.

        (1/n) sqrt(sum_s e_s^2)

    where e_s is the Monte Carlo error of member s; the samples of different members are independent.

    Args:
        members: rows of `Frames.members`.

    Returns:
        The error; NaN where no member has finished or the error of one is not known.

    Examples:
        >>> members = pd.DataFrame({"status": ["finished"] * 2, "test_log_likelihood_mc_se": [0.03, 0.04]})
        >>> monte_carlo_error(members)
        0.025

    """
    finished = members[members["status"] == "finished"]
    errors = finished["test_log_likelihood_mc_se"].to_numpy(dtype=float)
    return float(np.sqrt(np.sum(errors**2)) / len(errors)) if len(errors) else np.nan

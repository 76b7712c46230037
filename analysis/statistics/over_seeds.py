"""Means and standard errors over seeds, with every member accounted for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hvae_spec.records.result import STATUSES


def over_seeds(frame: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """Mean and standard error of a quantity over the rows of every group.

        mean = (1/n) sum_s y_s,    se^2 = sum_s (y_s - mean)^2 / (n (n - 1))

    Args:
        frame: one row a replicate; missing values are left out and not counted.
        by: columns that tell the groups apart.
        quantity: column to average.

    Returns:
        One row a group: `by`, `mean`, `se` and `n`. A single replicate has no standard error: `se` is then NaN.

    """
    groups = frame.groupby(list(by), sort=False, observed=True, dropna=False)[quantity]
    table = groups.agg(["mean", "sem", "count"]).reset_index()
    return table.rename(columns={"sem": "se", "count": "n"})


def cells(members: pd.DataFrame, by: Sequence[str], quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every cell of a grid: the mean of a quantity over its finished members, and what became of the others.

    Diverged, failed and unfinished members are in no mean; they are counted.

    Args:
        members: one row a member, as `Frames.members`.
        by: columns that make a cell, in this order: `["dataset", "depth", "variant"]` and the further factors.
        quantity: column to average.

    Returns:
        One row a cell, in order of appearance: `by`, `mean`, `se` and `n` (finished members that have the quantity; see
        `over_seeds`), `planned` (all members of the cell), the number of members of each status, and
        `data_canonical`: whether the files of all are their distributor's (see `canonical`).

    """
    finished = over_seeds(members[members["status"] == "finished"], by, quantity)
    statuses = {status: (members["status"] == status).astype(int) for status in STATUSES}
    counted = members[list(by)].assign(**statuses, planned=1)
    counts = counted.groupby(list(by), sort=False, observed=True, dropna=False).sum().reset_index()
    table = counts.merge(finished, on=list(by), how="left")
    table["n"] = table["n"].fillna(0).astype(int)
    files = members.groupby(list(by), sort=False, observed=True, dropna=False)["data_canonical"].agg(canonical)
    table = table.merge(files.reset_index(), on=list(by), how="left")
    return table[[*by, "mean", "se", "n", "planned", *STATUSES, "data_canonical"]]


def canonical(files: "pd.Series[Any]") -> bool | None:
    """Whether the files of all members are their distributor's, as far as they are known; None if of none it is."""
    known = files.dropna()
    return bool(known.astype(bool).all()) if len(known) else None


def by_layer(members: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """A quantity of every layer, and its total where members have one, over seeds (Table 2 of the paper).

    Args:
        members: one row a member, as `Frames.members`.
        by: columns that make a cell; `depth` among them.
        quantity: `active_units`, `kl` or `kl_standard_normal`: the columns `<quantity>_i`, and `<quantity>` the total.

    Returns:
        The columns of `cells` with `layer`: `1` (nearest the data) to the cell's depth, and `total`.

    """
    parts = []
    for depth, group in members.groupby("depth", sort=False):
        layers = [f"{quantity}_{layer}" for layer in range(1, int(str(depth)) + 1)]
        # The KL of a hierarchy is the sum of its layers'.
        total = group[quantity] if quantity in group else group[layers].sum(axis=1, skipna=False)
        having = group.assign(total=total)
        for layer, column in {**{name.rsplit("_", 1)[-1]: name for name in layers}, "total": "total"}.items():
            table = cells(having, by, column)
            table.insert(len(by), "layer", layer)
            parts.append(table)
    return pd.concat(parts, ignore_index=True)


def active_units(members: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Active units of every layer and in total; see `by_layer`."""
    return by_layer(members, by, "active_units")


def monte_carlo_error(members: pd.DataFrame) -> float:
    """Monte Carlo error of the mean test log-likelihood of a cell's finished members: (1/n) sqrt(sum_s e_s^2).

    The draws of different members are independent; NaN where an error is not known.
    """
    finished = members[members["status"] == "finished"]
    errors = finished["test_log_likelihood_mc_se"].to_numpy(dtype=float)
    return float(np.sqrt(np.sum(errors**2)) / len(errors)) if len(errors) else np.nan

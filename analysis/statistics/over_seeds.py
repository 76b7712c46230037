"""Means and standard errors over seeds, with every member accounted for.

Where seeds come in two stages, standard errors rest on the spread of the first stage alone, see
`analysis.statistics.two_stages`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.caveats import canonical
from hvae_spec.records.result import STATUSES
from hvae_spec.spec.seeds import StagedSeeds

AUXILIARY = "auxiliary_nats"
"""What an auxiliary variable of q takes from the ELBO beside the KL of the layers, in `Frames.members`."""


def mean_over_seeds(frame: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """Mean and standard error of a quantity over the rows of every group.

        mean = (1/n) sum_s y_s,    sd^2 = sum_s (y_s - mean)^2 / (n - 1),    se = sd / sqrt(n)

    In a frame with rows whose `stage` is 2, `sd` is that of the rows of stage 1 about their own mean.

    Args:
        frame: one row per replicate; missing values are left out and not counted.
        by: columns that distinguish the groups.
        quantity: column to average.

    Returns:
        One row per group: `by`, `mean`, `se`, `n`, `sd` and its degrees of freedom `df`. A single replicate has no
        standard error: `se` and `sd` are then NaN.

    Examples:
        >>> frame = pd.DataFrame({"depth": [1, 1, 2], "y": [-80.0, -82.0, -79.0]})
        >>> mean_over_seeds(frame, ["depth"], "y")[["depth", "mean", "se", "n"]].to_dict("list")
        {'depth': [1, 2], 'mean': [-81.0, -79.0], 'se': [1.0, nan], 'n': [2, 1]}

    """
    first = frame[frame["stage"] == 1] if "stage" in frame else frame
    every, spread = (
        rows.groupby(list(by), sort=False, observed=True, dropna=False)[quantity] for rows in (frame, first)
    )
    table = every.agg(["mean", "count"]).reset_index().rename(columns={"count": "n"})
    table = table.merge(spread.agg(["sem", "std", "count"]).reset_index(), on=list(by), how="left")
    table["count"] = table["count"].fillna(0)
    # Of a single stage, the factor is 1.
    se = table["sem"] * np.sqrt(table["count"] / table["n"])
    df = np.maximum(table["count"].astype(int) - 1, 0)
    return table[[*by, "mean"]].assign(se=se, n=table["n"], sd=table["std"], df=df)


def cells(members: pd.DataFrame, by: Sequence[str], quantity: str = "test_log_likelihood") -> pd.DataFrame:
    """Every cell of a grid: the mean of a quantity over its finished members, and what became of the others.

    Members that have diverged, failed or not finished are excluded from the mean; they are counted.

    Args:
        members: one row per member, as `Frames.members`.
        by: columns that make a cell, in this order: `["dataset", "depth", "variant"]` and the further factors.
        quantity: column to average.

    Returns:
        One row per cell, in order of appearance: `by`; `mean`, `se`, `n` (finished members that have the quantity),
        `sd` and `df` (see `mean_over_seeds`); `planned` (all members of the cell); the number of members of each
        status; and `data_canonical` (whether the files of all are their distributor's, see
        `analysis.caveats.canonical`).

    """
    finished = mean_over_seeds(members[members["status"] == "finished"], by, quantity)
    statuses = {status: (members["status"] == status).astype(int) for status in STATUSES}
    every = members[list(by)].assign(**statuses, planned=1)
    counts = every.groupby(list(by), sort=False, observed=True, dropna=False).sum().reset_index()
    table = counts.merge(finished, on=list(by), how="left")
    counted = ["n", "df"]
    table[counted] = table[counted].fillna(0).astype(int)
    files = members.groupby(list(by), sort=False, observed=True, dropna=False)["data_canonical"].agg(canonical)
    table = table.merge(files.reset_index(), on=list(by), how="left")
    return table[[*by, "mean", "se", "n", "sd", "df", "planned", *STATUSES, "data_canonical"]]


def by_layer(members: pd.DataFrame, by: Sequence[str], quantity: str) -> pd.DataFrame:
    """A quantity of every layer, and its total where members have one, over seeds (Table 2 of the paper).

    Args:
        members: one row per member, as `Frames.members`.
        by: columns that make a cell; `depth` among them.
        quantity: `active_units`, `kl` or `kl_standard_normal`. The columns `<quantity>_i` hold the layers' values; the
            total is the column `<quantity>`, or else the sum of the layers, of KL with that of an auxiliary variable.

    Returns:
        The columns of `cells` with `layer`: `1` (nearest the data) to the cell's depth, of KL `a` where q has an
        auxiliary variable, and `total`; without rows of cells that have finished members none of which knows the
        quantity there.

    """
    own = list(dict.fromkeys([*by, "status", "data_canonical", *({"stage"} & set(members))]))
    parts = []
    for depth, group in members.groupby("depth", sort=False):
        layers = [f"{quantity}_{layer}" for layer in range(1, int(str(depth)) + 1)]
        # The KL of a hierarchy is the sum of its layers'.
        total = group[quantity] if quantity in group else group[layers].sum(axis=1, skipna=False)
        values = {name.rsplit("_", 1)[-1]: group[name] for name in layers}
        if quantity == "kl" and AUXILIARY in group and group[AUXILIARY].notna().any():
            values["a"] = group[AUXILIARY]
            total = total + group[AUXILIARY].fillna(0.0)
        long = pd.concat(
            [group[own].assign(layer=layer, value=value) for layer, value in {**values, "total": total}.items()]
        )
        table = cells(long, [*by, "layer"], "value")
        parts.append(table[(table["n"] > 0) | (table["finished"] == 0)])
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


def what_errors_rest_on(stages: StagedSeeds | None) -> tuple[str, ...]:
    """What is said below tables and figures with errors, where seeds come in two stages: a sentence, else none.

    Args:
        stages: `Frames.stages`.

    """
    if stages is None:
        return ()
    said = "Seeds come in two stages (Stein): standard errors, intervals and p values rest on the spread of the first"
    return (f"{said} {stages.first} seeds alone.",)

"""The points of a search, with their bounds on the validation images, and the best one measured anew."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames
from analysis.statistics.over_seeds import mean_over_seeds
from hvae_spec.records.plan import SearchSettings
from hvae_spec.spec.grid import TRIAL
from hvae_spec.spec.search import RUNG, SCORE


def points(frames: Frames) -> pd.DataFrame:
    """Every point of every search of a grid on every rung that it reached.

    Args:
        frames: of a search.

    Returns:
        One row per point and rung: `trial`, the value of every setting that is searched, by its path, `epochs`, `mean`
        (of the bounds on the validation images over the seeds of the search, nats per image; NaN where one of them is
        missing), `n`, `diverged` and `failed` (of the same seeds), `test_mean`, `test_se`, `test_n` and `test_planned`
        (of the test log-likelihood over seeds that the search did not use), and the data set, depth, variant and the
        further axes.

    """
    settings = frames.search
    if settings is None:
        return pd.DataFrame()
    members = frames.planned.members
    members = members.assign(rung=members["planned_epochs"])
    keys = places(frames)
    found = []
    for place, own in members.groupby(keys, sort=False, observed=True, dropna=False):
        where: dict[str, Any] = dict(zip(keys, place, strict=True))
        found.append(_of_one_search(own, settings).assign(**where))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def places(frames: Frames) -> list[str]:
    """The columns that tell the searches of a grid apart."""
    others = [column for column, path in frames.axes.items() if path not in (TRIAL, RUNG)]
    return ["dataset", "depth", "variant", *others]


def _of_one_search(members: pd.DataFrame, settings: SearchSettings) -> pd.DataFrame:
    """One row per point and rung of one search."""
    rows = []
    for _, own in members.groupby([TRIAL, "rung"], sort=False):
        trial, rung = str(own[TRIAL].iloc[0]), int(own["rung"].iloc[0])
        of_search = own["seed"].isin(settings.seeds)
        ranked, new = own[of_search], own[~of_search]
        values = dict(zip(settings.space, settings.points[trial], strict=True))
        finished = ranked[ranked["status"] == "finished"]
        test = new[new["status"] == "finished"].assign(trial=trial)
        measured = mean_over_seeds(test, [TRIAL], "test_log_likelihood")
        rows.append(
            {
                "trial": trial,
                **values,
                "epochs": rung,
                "mean": float(finished[SCORE].mean()) if len(finished) == len(ranked) else np.nan,
                "n": len(finished),
                "diverged": int((ranked["status"] == "diverged").sum()),
                "failed": int((ranked["status"] == "failed").sum()),
                "test_mean": float(measured["mean"].iloc[0]) if len(measured) else np.nan,
                "test_se": float(measured["se"].iloc[0]) if len(measured) else np.nan,
                "test_n": len(test),
                "test_planned": len(new),
            }
        )
    return pd.DataFrame(rows)

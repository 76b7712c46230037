"""Posterior collapse: which layers have no active unit left, and since which evaluated epoch.

A layer is dead at an evaluation if none of its units is active, that is if no unit's KL(q||p) is above 0.01 nats; of a
layer whose units have no KL of their own it is not known, and nothing is said. It
has died for good at the first evaluation from which it is dead at every later one. Epochs are those at which the member
was evaluated, so the layer died between the epoch given and the evaluated epoch before it.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.frames import Frames


def layer_activity(frames: Frames) -> pd.DataFrame:
    """What became of every layer of every member whose units have been recorded.

    Args:
        frames: a grid, or any part of it.

    Returns:
        One row per member and layer: the labels, `digest`, `status`, `layer` (1 is nearest the data), `evaluations`
        (their number), `last_epoch` (of the last of them), `active` (active units at the last), `most_active` (the
        greatest number at any), `dead` (whether it is at the last), `died` (the first evaluated epoch from which it is
        dead to the last; NaN if it is not dead), `revived` (how often a dead layer had active units again at the next
        evaluation), `data_canonical`.

    """
    keys = ["dataset", *frames.factors, "depth", "variant", "seed", "digest", "layer"]
    known = frames.units[frames.units["kl"].notna() & (frames.units["unit"] > 0)]
    known = known.assign(active=known["active"].astype(bool))
    counts = known.groupby([*keys, "epoch"], sort=False, observed=True)["active"].sum().rename("active").reset_index()
    rows = []
    for key, own in counts.groupby(keys, sort=False, observed=True):
        evaluations = own.sort_values("epoch")
        history = _history(evaluations["epoch"].to_numpy(), evaluations["active"].to_numpy())
        rows.append({**dict(zip(keys, key, strict=True)), **history})
    columns = [*keys, "evaluations", "last_epoch", "active", "most_active", "dead", "died", "revived"]
    table = pd.DataFrame(rows, columns=columns)
    members = frames.members.set_index("digest")
    table.insert(len(keys) - 1, "status", table["digest"].map(members["status"].astype(str)))
    table["data_canonical"] = table["digest"].map(members["data_canonical"])
    names = frames.members["variant"].cat.categories
    return table.assign(variant=pd.Categorical(table["variant"], categories=names, ordered=True))


def _history(epochs: NDArray[Any], active: NDArray[Any]) -> dict[str, Any]:
    """The history of one layer from its number of active units at its evaluated epochs, in ascending order."""
    dead = active == 0
    # The number of evaluations at the end at which it is dead without a break.
    tail = len(dead) if dead.all() else int(np.argmin(dead[::-1]))
    return {
        "evaluations": len(epochs),
        "last_epoch": int(epochs[-1]),
        "active": int(active[-1]),
        "most_active": int(active.max()),
        "dead": bool(dead[-1]),
        "died": float(epochs[-tail]) if tail else np.nan,
        "revived": int((dead[:-1] & ~dead[1:]).sum()),
    }

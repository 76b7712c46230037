"""Posterior collapse: which layers have no active unit left, and since which evaluated epoch.

A layer is dead at an evaluation if none of its units is active, KL(q||p) > 0.01 nats, and has died for good at the
first evaluation from which it is dead at every later one. Epochs are those at which the member was evaluated, so the
layer died between the one told and the one before it.
"""

import numpy as np
import pandas as pd

from analysis.frames import Frames
from analysis.tables.footnotes import grid_notes
from analysis.tables.tables import Plain, Table, TableSet, columns_of, depths
from hvae_spec.records.layout import ACTIVE


def layers(frames: Frames) -> pd.DataFrame:
    """One row a member and layer, as far as units have been recorded.

    Returns:
        The labels, `digest`, `status`, `layer` (1 nearest the data), `evaluations`, `last_epoch` (of the last of them),
        `active` (units at the last), `most_active` (units at any), `dead` (at the last), `died` (the first evaluated
        epoch from which it is dead to the last; NaN if it is not), `revived` (how often it came back to life),
        `data_canonical`.

    """
    keys = ["dataset", *frames.factors, "depth", "variant", "seed", "digest", "layer"]
    units = frames.units
    known = units[units["kl"].notna()]
    counts = known.groupby([*keys, "epoch"], sort=False, observed=True)["active"].sum().rename("active").reset_index()
    rows = []
    for key, own in counts.groupby(keys, sort=False, observed=True):
        active = own.sort_values("epoch")["active"].to_numpy()
        epochs = np.sort(own["epoch"].to_numpy())
        dead = active == 0
        # The number of evaluations at the end at which it is dead without a break.
        tail = len(dead) if dead.all() else int(np.argmin(dead[::-1]))
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "evaluations": len(epochs),
                "last_epoch": int(epochs[-1]),
                "active": int(active[-1]),
                "most_active": int(active.max()),
                "dead": bool(dead[-1]),
                "died": float(epochs[-tail]) if tail else np.nan,
                "revived": int((dead[:-1] & ~dead[1:]).sum()),
            }
        )
    columns = [*keys, "evaluations", "last_epoch", "active", "most_active", "dead", "died", "revived"]
    table = pd.DataFrame(rows, columns=columns)
    members = frames.members.set_index("digest")
    table.insert(len(keys) - 1, "status", table["digest"].map(members["status"].astype(str)))
    table["data_canonical"] = table["digest"].map(members["data_canonical"])
    names = frames.members["variant"].cat.categories
    return table.assign(variant=pd.Categorical(table["variant"], categories=names, ordered=True))


def collapse(frames: Frames) -> TableSet:
    """How many members of every cell have lost a layer, and by which epoch, one table a depth, the deepest first."""
    tidy = layers(frames.planned)
    tables = []
    for group, depth, members in depths(frames):
        own = tidy[tidy["digest"].isin(members["digest"]) & (tidy["status"] == "finished")]
        if own.empty:
            continue
        cells = {
            (f"z_{layer}", str(variant)): Plain(summary(part))
            for (layer, variant), part in own.groupby(["layer", "variant"], observed=True)
        }
        title = ("Dead layers", f"{group.title}, L = {depth}")
        rows = tuple(f"z_{layer}" for layer in range(1, depth + 1))
        notes: tuple[str, ...] = (
            f"Finished members in which the layer has no active unit (KL above {ACTIVE} nats) at the end, of how many.",
            "'since': the evaluated epochs from which it had none any more, of the first member and of the last.",
        )
        notes += grid_notes(frames, group.frames)
        tables.append(Table(*title, "layer", rows, columns_of(own), cells, notes))
    return TableSet("collapse", tuple(tables), tidy)


def summary(layer: pd.DataFrame) -> str:
    """`0/3`; `2/3 since 40`; `3/3 since 40–60`: of one cell's rows of `layers` at one layer."""
    died = layer.loc[layer["dead"], "died"]
    text = f"{len(died)}/{len(layer)}"
    if died.empty:
        return text
    first, last = int(died.min()), int(died.max())
    return f"{text} since {first}" + (f"–{last}" if last > first else "")

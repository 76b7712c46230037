"""Settings of members: columns read from their resolved specs."""

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from analysis import ledger
from analysis.ledger import Entry
from hvae_spec.schema.grid import parse_path

SETTINGS = {
    "inference": "model.inference",
    "share_top_down": "model.share_top_down",
    "batch_norm": "model.batch_norm",
    "observation": "model.observation",
    "warm_up": "objective.warm_up",
    "training_mc_samples": "objective.mc_samples",
    "training_iw_samples": "objective.iw_samples",
    "planned_epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "learning_rate": "training.optimizer.adam.lr",
    "lr_decay_factor": "training.lr_decay.factor",
    "lr_decay_every": "training.lr_decay.every",
    "first_phase_epochs": "training.first_phase.epochs",
    "first_phase_warm_up": "training.first_phase.warm_up",
    "nonlinearity": "model.nonlinearity",
}
"""Columns of `.members` read from the resolved spec, and their dotted paths in it."""
FACTORS = ("model.inference", "model.batch_norm", "objective.warm_up")
"""What the paper's variants differ in."""


def columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The columns of `SETTINGS` and three more, one value a member, None where nothing is known.

    `units` and `widths` are those of the layers (`64-32` and `512,512-256,256`). `background` is alike for members that
    differ in nothing but the paper's factors (`FACTORS`) and the seed.
    """
    specs = _specs(entries)
    stacks = [at(spec, "model.layers") or [] for spec in specs]
    return {
        **{name: [_setting(spec, path) for spec in specs] for name, path in SETTINGS.items()},
        "units": ["-".join(str(at(layer, "units")) for layer in stack) or None for stack in stacks],
        "widths": ["-".join(",".join(map(str, at(layer, "mlp") or [])) for layer in stack) or None for stack in stacks],
        "background": [_background(spec) for spec in specs],
    }


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path of a spec tree; None if there is none."""
    for part in parse_path(path):
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _setting(spec: dict[str, Any], path: str) -> Any:
    """A value as one entry of a column."""
    value = at(spec, path)
    return None if value is None else ledger.plain(value)


def _specs(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Each member's spec. One that has not begun has its cell's, if another seed of the cell has begun."""

    def cell(entry: Entry) -> str:
        return json.dumps({**entry.labels, "seed": None}, sort_keys=True)

    known = {cell(entry): entry.spec for entry in entries if entry.spec and entry.planned}
    return [entry.spec or known.get(cell(entry), {}) for entry in entries]


def _background(spec: dict[str, Any]) -> str | None:
    """A digest of all that a spec says but for the paper's factors and the seed; None without a spec."""
    if not spec:
        return None
    rest = {**copy.deepcopy(spec), "seed": None}
    for path in FACTORS:
        section, key = path.split(".")
        if isinstance(rest.get(section), dict):
            rest[section].pop(key, None)
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()

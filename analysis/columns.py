"""Settings of members: columns read from their resolved specs."""

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from analysis import reader
from analysis.reader import Entry
from hvae_spec.spec.grid import parse_path

SETTINGS = {
    "inference": "model.inference",
    "share_top_down": "model.share_top_down",
    "batch_norm": "model.batch_norm",
    "observation": "model.observation",
    "initialization": "model.initialization",
    "batch_norm_eps": "model.batch_norm_eps",
    "variance_bias": "model.variance_bias",
    "variance_floor": "model.variance_floor",
    "redraw": "data.redraw",
    "warm_up": "objective.warm_up",
    "training_mc_samples": "objective.mc_samples",
    "training_iw_samples": "objective.iw_samples",
    "sample_ramp": "objective.sample_ramp",
    "planned_epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "last_batch": "training.last_batch",
    "learning_rate": "training.optimizer.adam.lr",
    "adam_beta1": "training.optimizer.adam.beta1",
    "adam_beta2": "training.optimizer.adam.beta2",
    "adam_eps": "training.optimizer.adam.eps",
    "clip_norm": "training.clip_norm",
    "clip_value": "training.clip_value",
    "lr_decay_factor": "training.lr_decay.factor",
    "lr_decay_every": "training.lr_decay.every",
    "first_phase_epochs": "training.first_phase.epochs",
    "first_phase_warm_up": "training.first_phase.warm_up",
    "nonlinearity": "model.nonlinearity",
}
"""Columns of `.members` read from the resolved spec, and their dotted paths in it."""
FACTORS = ("model.inference", "model.batch_norm", "objective.warm_up")
"""What the paper's variants differ in."""


def setting_columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The columns of `SETTINGS` and five more, one value a member, None where nothing is known.

    `units` and `widths` are those of the layers (`64-32` and `512,512-256,256`; `linear` without hidden layers).
    `widths_down` are those of the generative mappings where any differs from `mlp`, `widths_top_down` those of the
    ladder's top-down mappings, out of z_2 and above, where any differs from the generative mapping; else None.
    `background` is alike for members that differ in nothing but the paper's factors (`FACTORS`) and the seed.
    """
    specs = _specs(entries)
    stacks = [at(spec, "model.layers") or [] for spec in specs]
    is_ladder = [at(spec, "model.inference") == "ladder" for spec in specs]
    top_down = [stack[1:] if ladder else [] for stack, ladder in zip(stacks, is_ladder, strict=True)]
    return {
        **{name: [_setting(spec, path) for spec in specs] for name, path in SETTINGS.items()},
        "units": ["-".join(str(at(layer, "units")) for layer in stack) or None for stack in stacks],
        "widths": [_widths(stack, "mlp") for stack in stacks],
        "widths_down": [_widths(stack, "mlp_down", "mlp") for stack in stacks],
        "widths_top_down": [_widths(stack, "mlp_top_down", "mlp_down", "mlp") for stack in top_down],
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


def _widths(stack: Sequence[dict[str, Any]], key: str, *otherwise: str) -> str | None:
    """`512,512-256,256`: the widths at `key` of every layer, or those that stand for them; None if all are the latter.

    Args:
        stack: layers of a model.
        key: the field of a layer that holds them.
        otherwise: fields that stand for it, the first that is not null.

    """
    if otherwise and all(at(layer, key) in (None, _first(layer, otherwise)) for layer in stack):
        return None
    widths = (_first(layer, (key, *otherwise)) for layer in stack)
    return "-".join(",".join(map(str, own)) or "linear" for own in widths) or None


def _first(layer: dict[str, Any], keys: Sequence[str]) -> list[int]:
    return next((found for key in keys if (found := at(layer, key)) is not None), [])


def _setting(spec: dict[str, Any], path: str) -> Any:
    """A value as one entry of a column."""
    value = at(spec, path)
    return None if value is None else reader.plain(value)


def _specs(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Each member's spec. One that has not begun has its cell's, if another seed of the cell has begun."""

    def cell(entry: Entry) -> str:
        return json.dumps({**entry.labels, "seed": None}, sort_keys=True)

    known = {cell(entry): entry.spec for entry in entries if entry.spec and entry.planned}
    return [entry.spec or known.get(cell(entry), {}) for entry in entries]


def _background(spec: dict[str, Any]) -> str | None:
    """A digest of all that a spec says but for the paper's factors, the seed and evaluations' memory; None without a
    spec.
    """
    if not spec:
        return None
    rest = {**copy.deepcopy(spec), "seed": None}
    for path in (*FACTORS, "evaluation.memory_gib"):
        section, key = path.split(".")
        if isinstance(rest.get(section), dict):
            rest[section].pop(key, None)
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()

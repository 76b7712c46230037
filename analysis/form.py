"""The form of records: of which kind the fields are that are read from them.

Null is of every kind: nothing is known. What is not named here is not read, or is checked where it is read.
"""

from collections.abc import Callable, Mapping
from typing import Any

METRICS = (
    *("test_log_likelihood", "test_log_likelihood_se", "test_log_likelihood_mc_se", "test_elbo", "test_elbo_se"),
    *("iw_samples", "effective_sample_size", "active_units"),
)
COSTS = ("parameters", "epochs", "steps", "training_seconds", "evaluation_seconds", "wall_seconds", "ms_per_step")

Kind = tuple[str, Callable[[Any], bool]]
"""A kind of value in words, and whether a value that is not null is of it."""


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value of a JSON file is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or is_number(item) for item in value)


def _are_layers(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(layer, dict) for layer in value):
        return False
    widths = (layer.get(key) for layer in value for key in ("mlp", "mlp_down", "mlp_top_down"))
    return all(own is None or _are_numbers(own) for own in widths)


NUMBER: Kind = ("a number", is_number)
NUMBERS: Kind = ("a list of numbers", _are_numbers)
LAYERS: Kind = ("a list of layers", _are_layers)
TEXT: Kind = ("text", lambda value: isinstance(value, str))
FLAG: Kind = ("true or false", lambda value: isinstance(value, bool))
MAPPING: Kind = ("a mapping", lambda value: isinstance(value, dict))

RESULT: dict[str, Kind] = {
    **dict.fromkeys((*METRICS, *COSTS), NUMBER),
    **dict.fromkeys(("active_units_per_layer", "kl_per_layer", "kl_standard_normal_per_layer"), NUMBERS),
    **dict.fromkeys(("labels", "data", "divergence", "versions", "git"), MAPPING),
    **dict.fromkeys(("failure", "device", "continues", "data.sha256", "divergence.quantity"), TEXT),
    **dict.fromkeys(("data.train_images", "data.test_images", "divergence.epoch"), NUMBER),
    "data.shape": NUMBERS,
    "data.canonical": FLAG,
}
"""Fields of result.json by their dotted paths."""
SPEC: dict[str, Kind] = {
    "model.layers": LAYERS,
    "model.batch_norm": FLAG,
    **dict.fromkeys(("objective.warm_up", "objective.mc_samples", "objective.iw_samples"), NUMBER),
    **dict.fromkeys(("training.epochs", "training.batch_size", "training.optimizer.adam.lr"), NUMBER),
    **dict.fromkeys(("training.lr_decay.factor", "training.lr_decay.every"), NUMBER),
    **dict.fromkeys(("training.first_phase.epochs", "training.first_phase.warm_up"), NUMBER),
}
"""Fields of spec.yaml with which something is computed."""


def fault(content: Mapping[str, Any], kinds: Mapping[str, Kind]) -> str | None:
    """`test_log_likelihood is not a number`: the first field that is not of its kind; None if all are."""
    for path, (words, is_of_it) in kinds.items():
        value: Any = content
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and not is_of_it(value):
            return f"{path} is not {words}"
    return None


def fault_of_row(row: Mapping[str, Any]) -> str | None:
    """The first entry of a learning curve's row that is not a number, or of a `_per_layer` not a list of numbers."""
    if not is_whole(row["epoch"]):
        return "epoch is not a whole number"
    for key, value in row.items():
        words, is_of_it = NUMBERS if key.endswith("_per_layer") else NUMBER
        if value is not None and not is_of_it(value):
            return f"{key} is not {words}"
    return None

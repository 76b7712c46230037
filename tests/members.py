"""Small members for tests, built from a short spec and overrides."""

import copy
from typing import Any

from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import set_path

SMALL: dict[str, Any] = {
    "data": {"dataset": "digits", "train_images": 320, "test_images": 24},
    "model": {
        "layers": [{"units": 5, "mlp": [12, 10]}, {"units": 4, "mlp": [9, 8]}, {"units": 3, "mlp": [7]}],
        "inference": "ladder",
        "batch_norm": True,
    },
    "objective": {"warm_up": 2},
    "training": {"epochs": 3, "batch_size": 32},
    "evaluation": {"iw_samples": 20},
}


def member(depth: int = 3, seed: int = 0, **overrides: Any) -> MemberSpec:
    """A small member. Overrides are dotted paths with `__` for the dots, e.g. model__inference="vae"."""
    tree = MemberSpec.model_validate(SMALL).model_dump(mode="json")
    tree["model"]["layers"] = tree["model"]["layers"][:depth]
    for path, value in overrides.items():
        set_path(tree, path.replace("__", "."), copy.deepcopy(value))
    return MemberSpec.model_validate({**tree, "seed": seed})

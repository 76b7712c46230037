"""Deep hierarchical VAEs from YAML: specs, models, objectives, training, evaluation and records.

    >>> import hvae_spec
    >>> experiment = hvae_spec.load("specs/mnist_grid.yaml")
    >>> member = hvae_spec.members(experiment)[-1]
    >>> print(hvae_spec.compile(member).summary())

Importing this package is quick: torch is imported when `compile` or `load_record` is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvae_spec.errors import CheckpointError, DataError, MachineError, RecordError, SpecError, UserError
    from hvae_spec.model import Model, compile, load_record
    from hvae_spec.reading import load, loads
    from hvae_spec.records.gallery_file import load_gallery
    from hvae_spec.spec.experiment import Experiment, Member
    from hvae_spec.spec.grid import members

__all__ = [
    "CheckpointError",
    "DataError",
    "Experiment",
    "MachineError",
    "Member",
    "Model",
    "RecordError",
    "SpecError",
    "UserError",
    "compile",
    "load",
    "load_gallery",
    "load_record",
    "loads",
    "members",
]

_HOMES = {
    "hvae_spec.errors": ("CheckpointError", "DataError", "MachineError", "RecordError", "SpecError", "UserError"),
    "hvae_spec.records.gallery_file": ("load_gallery",),
    "hvae_spec.model": ("Model", "compile", "load_record"),
    "hvae_spec.reading": ("load", "loads"),
    "hvae_spec.spec.experiment": ("Experiment", "Member"),
    "hvae_spec.spec.grid": ("members",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'hvae_spec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

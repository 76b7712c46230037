"""Deep hierarchical VAEs from YAML: specs, models, objectives, training, evaluation and records.

    >>> import hvae_spec
    >>> experiment = hvae_spec.load("specs/mnist_grid.yaml")
    >>> members = hvae_spec.members(experiment)  # one per cell of the grid and seed
    >>> len(members)
    57
    >>> members[-1].labels
    {'dataset': 'mnist', 'depth': 5, 'variant': 'Prob. ladder+BN+WU', 'seed': 2}
    >>> hvae_spec.compile(members[-1])  # the model, freshly initialized
    Model(Prob. ladder+BN+WU, 5 layers, 1,850,944 parameters)

Importing this package is quick: torch is imported when `compile`, `load_record` or `train` is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from hvae_spec import extend
    from hvae_spec.errors import CheckpointError, DataError, MachineError, RecordError, SpecError, UserError
    from hvae_spec.listeners.listener import Listener, MemberInfo
    from hvae_spec.listeners.tensorboard import TensorBoard
    from hvae_spec.model import Model, compile, load_record
    from hvae_spec.reading import load, loads
    from hvae_spec.records.gallery_file import load_gallery
    from hvae_spec.single import train
    from hvae_spec.spec.experiment import Experiment, MemberSpec
    from hvae_spec.spec.grid import Member, members

__all__ = [
    "CheckpointError",
    "DataError",
    "Experiment",
    "Listener",
    "MachineError",
    "Member",
    "MemberInfo",
    "MemberSpec",
    "Model",
    "RecordError",
    "SpecError",
    "TensorBoard",
    "UserError",
    "compile",
    "extend",
    "load",
    "load_gallery",
    "load_record",
    "loads",
    "members",
    "train",
]

_HOMES = {
    "hvae_spec.errors": ("CheckpointError", "DataError", "MachineError", "RecordError", "SpecError", "UserError"),
    "hvae_spec.listeners.listener": ("Listener", "MemberInfo"),
    "hvae_spec.listeners.tensorboard": ("TensorBoard",),
    "hvae_spec.records.gallery_file": ("load_gallery",),
    "hvae_spec.model": ("Model", "compile", "load_record"),
    "hvae_spec.reading": ("load", "loads"),
    "hvae_spec.single": ("train",),
    "hvae_spec.spec.experiment": ("Experiment", "MemberSpec"),
    "hvae_spec.spec.grid": ("Member", "members"),
}


def __getattr__(name: str) -> Any:
    if name == "extend":
        return import_module("hvae_spec.extend")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'hvae_spec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

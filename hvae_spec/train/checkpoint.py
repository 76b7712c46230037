"""The state of a pack at an epoch boundary, in one safetensors file (no pickle)."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from hvae_spec.errors import UserError
from hvae_spec.records.files import write_atomically
from hvae_spec.train.trainer import Divergence, Trainer


def save_checkpoint(path: Path, trainer: Trainer, digests: list[str], extra: dict[str, Any]) -> None:
    """Write parameters, optimizer state, epoch and divergences. Random streams need no state (`hvae_spec.nn.random`).

    Args:
        path: the file, replaced atomically.
        trainer: the pack.
        digests: its members' digests, in order.
        extra: what else the caller needs to go on, as JSON.

    """
    divergences = [None if divergence is None else vars(divergence) for divergence in trainer.divergences]
    metadata = {
        "epoch": trainer.epoch,
        "digests": digests,
        "shapes": _shapes(trainer),
        "divergences": divergences,
        "extra": extra,
    }
    content = safetensors.torch.save(_copies(trainer.optimizer.state()), {"pack": json.dumps(metadata)})
    write_atomically(path, content)


def _copies(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that share no memory, as safetensors wants them: shared mappings stand in a model under two names."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def load_checkpoint(path: Path, trainer: Trainer, digests: list[str]) -> dict[str, Any]:
    """Put a pack back into the state of its checkpoint, and return the caller's `extra`.

    Raises:
        UserError: the file is not a checkpoint of these members.

    """
    metadata, tensors = _read(path, str(trainer.device))
    if metadata["digests"] != digests:
        raise UserError(f"{path}: a checkpoint of other members; delete it to start this pack over")
    if metadata.get("shapes") != _shapes(trainer):
        raise UserError(
            f"{path}: a checkpoint of an earlier version, which laid out weights differently; delete it to start this "
            "pack over"
        )
    trainer.optimizer.restore(tensors)
    trainer.epoch = metadata["epoch"]
    trainer.divergences = [None if entry is None else Divergence(**entry) for entry in metadata["divergences"]]
    extra: dict[str, Any] = metadata["extra"]
    return extra


def _shapes(trainer: Trainer) -> list[list[int]]:
    """Shapes of a member's parameters, which the optimiser keeps as one row."""
    return [list(parameter.shape[1:]) for parameter in trainer.parameters]


def _read(path: Path, device: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safetensors.safe_open(path, "pt", device=device) as file:
            metadata = json.loads((file.metadata() or {})["pack"])
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: a damaged checkpoint ({error}); delete it to start this pack over") from None


def cut_checkpoint(path: Path, target: Path, digests: list[str]) -> None:
    """Write what a checkpoint holds of some of its members as the checkpoint of a pack of these alone.

    Args:
        path: the checkpoint.
        target: the file to write, replaced atomically.
        digests: the members to keep, in their new order.

    Raises:
        UserError: the file is not a checkpoint with these members.

    """
    metadata, tensors = _read(path, "cpu")
    if not set(digests) <= set(metadata["digests"]):
        raise UserError(f"{path}: a checkpoint of other members; delete it to start this pack over")
    places = [metadata["digests"].index(digest) for digest in digests]
    part = {"rows": tensors["rows"][places]}
    for name, value in tensors.items():
        if name != "rows":
            _, place, field = name.split("/")
            if int(place) in places:
                part[f"optimizer/{places.index(int(place))}/{field}"] = value
    divergences = [metadata["divergences"][place] for place in places]
    metadata |= {"digests": digests, "divergences": divergences}
    write_atomically(target, safetensors.torch.save(_copies(part), {"pack": json.dumps(metadata)}))


def save_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write the trained parameters and batch-norm statistics of one member."""
    write_atomically(path, safetensors.torch.save(_copies(state)))


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and statistics that `save_weights` wrote.

    Raises:
        UserError: there is no such file, or it is damaged.

    """
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no weights; the member has not finished (or diverged)") from None
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: not weights that can be read ({error})") from None
    return tensors

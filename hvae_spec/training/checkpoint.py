"""The state of a pack at the end of an epoch, in one safetensors file (no pickle)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError

from hvae_spec.errors import CheckpointError, as_machine_error
from hvae_spec.records.checkpoint import CheckpointHeader
from hvae_spec.records.files import write_atomically
from hvae_spec.records.json_file import fault_of
from hvae_spec.records.result import Segment, TrainingResult
from hvae_spec.records.rows import CurveDigests
from hvae_spec.training.optimizer import AVERAGES, ROWS, state_of
from hvae_spec.training.trainer import Trainer

HEADER, DIGEST = "pack", "sha256"
"""Names in the file's metadata: what it says beside its tensors, and the digest of both."""
BEST = "best"
"""Names of the parameters that early stopping keeps begin with this and a slash, and end in the member's index."""
START_OVER = "delete it to start this pack over"


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that cannot be read, or is not what was written. The one before may be whole."""


def save_checkpoint(
    path: Path,
    trainer: Trainer,
    trainings: Sequence[str],
    seconds: dict[str, float],
    segments: Sequence[Segment],
    extended: Sequence[TrainingResult] = (),
    curves: Sequence[CurveDigests | None] = (),
) -> None:
    """Write parameters, those that early stopping keeps, optimizer state, epoch, and what froze members. Random streams
    need no state (`hvae_spec.nn.random`).

    Args:
        path: the file, replaced atomically.
        trainer: the pack.
        trainings: its members' training digests, in order.
        seconds: time spent so far, by what it was spent on.
        segments: the epochs so far, and with what they were trained.
        extended: the shorter trainings that the members go on from, one per member; none if they started anew.
        curves: digests of the curves that lead up to it, one per member, None for members that are done.

    """
    header = CheckpointHeader(
        epoch=trainer.epoch,
        trainings=list(trainings),
        shapes=_shapes(trainer),
        divergences=trainer.divergences,
        stopping=trainer.stopping if trainer.best else [],
        in_step=None if len(trainer.in_step) == len(trainer.specs) else trainer.in_step,
        seconds=seconds,
        segments=list(segments),
        extended=list(extended),
        curves=list(curves),
    )
    best = {f"{BEST}/{m}": row for m, row in trainer.best.items()}
    _write(path, header, {**trainer.optimizer.state(), **best})


def _write(path: Path, header: CheckpointHeader, tensors: dict[str, torch.Tensor]) -> None:
    copies, text = _copies(tensors), header.model_dump_json()
    write_atomically(path, safetensors.torch.save(copies, {HEADER: text, DIGEST: _digest(text, copies)}))


def _digest(header: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of what a checkpoint says and of its tensors with their names, types and shapes."""
    whole = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        whole.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        whole.update(value.numpy().data)
    return whole.hexdigest()


def _copies(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that share no memory, as safetensors wants them: shared mappings stand in a model under two names."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}


def load_checkpoint(path: Path, trainer: Trainer, trainings: Sequence[str]) -> CheckpointHeader:
    """Put a pack back into the state of its checkpoint, and return what the checkpoint says beside it.

    Raises:
        DamagedCheckpointError: the file cannot be read, or is not what was written. The pack may be changed.
        CheckpointError: the file is not a checkpoint of these members.

    """
    header, tensors = _read(path)
    if header.trainings != list(trainings):
        raise CheckpointError(f"{path}: a checkpoint of other members; {START_OVER}")
    if header.shapes != _shapes(trainer):
        raise CheckpointError(
            f"{path}: a checkpoint of an earlier version, which laid out weights differently; {START_OVER}"
        )
    if header.in_step is not None:
        trainer.cut(header.in_step)
    state, best = _without_best({name: value.to(trainer.device) for name, value in tensors.items()})
    try:
        trainer.optimizer.restore(state)
    except (KeyError, RuntimeError, ValueError) as error:  # one of before there was a digest
        raise DamagedCheckpointError(f"{path}: a damaged checkpoint ({error})") from None
    trainer.best = best
    trainer.stopping = list(header.stopping) or trainer.stopping
    trainer.epoch = header.epoch
    trainer.divergences = list(header.divergences)
    return header


def _without_best(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[int, torch.Tensor]]:
    """The tensors of a checkpoint less the parameters that early stopping keeps, and these by their member's index."""
    best = {name: value for name, value in tensors.items() if name.startswith(f"{BEST}/")}
    rest = {name: value for name, value in tensors.items() if name not in best}
    return rest, {int(name.removeprefix(f"{BEST}/")): value for name, value in best.items()}


def _shapes(trainer: Trainer) -> list[list[int]]:
    """Shapes of a member's parameters, which the optimizer keeps as one row."""
    return [list(parameter.shape[1:]) for parameter in trainer.parameters]


def _read(path: Path) -> tuple[CheckpointHeader, dict[str, torch.Tensor]]:
    """What a checkpoint says and its tensors, on the CPU."""
    try:
        path.open("rb").close()  # safetensors would call a file that may not be read missing
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata[HEADER]
        digest = _digest(text, tensors)
    # A damaged type may be one that torch has and NumPy has not: a TypeError.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        if (fault := as_machine_error(path, error)) is not None:
            raise fault from None
        raise DamagedCheckpointError(f"{path}: a damaged checkpoint ({error})") from None
    if metadata.get(DIGEST, digest) != digest:
        raise DamagedCheckpointError(f"{path}: a damaged checkpoint (its content is not that of its digest)")
    try:
        return CheckpointHeader.model_validate_json(text), tensors
    except ValidationError as error:
        raise CheckpointError(f"{path}: a checkpoint that is {fault_of(error)}; {START_OVER}") from None


def cut_checkpoint(path: Path, target: Path, trainings: Sequence[str]) -> None:
    """Write what a checkpoint holds of some of its members as the checkpoint of a pack of these alone.

    Args:
        path: the checkpoint.
        target: the file to write, replaced atomically.
        trainings: training digests of the members to keep, in their new order.

    Raises:
        DamagedCheckpointError: the file cannot be read, or is not what was written.
        CheckpointError: the file is not a checkpoint with these members.

    """
    header, tensors = _read(path)
    if not set(trainings) <= set(header.trainings):
        raise CheckpointError(f"{path}: a checkpoint of other members; {START_OVER}")
    places = [header.trainings.index(training) for training in trainings]
    state, best = _without_best(tensors)
    in_step = list(range(len(header.trainings))) if header.in_step is None else header.in_step
    going_on = [new for new, old in enumerate(places) if old in in_step]
    if going_on:
        part = state_of(state, [in_step.index(places[new]) for new in going_on])
    else:  # all are frozen already, and nothing is read but what early stopping keeps
        part = {name: state[name][:1].repeat(len(places), 1) for name in (ROWS, AVERAGES) if name in state}
        going_on = list(range(len(places)))
    part |= {f"{BEST}/{new}": best[old] for new, old in enumerate(places) if old in best}
    changes = {
        "trainings": list(trainings),
        "divergences": [header.divergences[place] for place in places],
        "stopping": [header.stopping[place] for place in places] if header.stopping else [],
        "in_step": None if len(going_on) == len(places) else going_on,
        "extended": [header.extended[place] for place in places] if header.extended else [],
        "curves": [header.curves[place] for place in places] if header.curves else [],
    }
    _write(target, header.model_copy(update=changes), part)

"""Records of weights that no run has trained: a user's own code has, and they are saved as they are."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.records.arrays import Arrays, as_bytes, save_arrays
from hvae_spec.records.extensions import keep
from hvae_spec.records.files import sha256_of, write_atomically
from hvae_spec.records.layout import IS_SHORT, SHORT, Record
from hvae_spec.records.result import Segment, TrainingResult
from hvae_spec.spec.experiment import MemberSpec


def write_own_weights(
    folder: Path,
    spec: MemberSpec,
    weights: Arrays,
    statistics: Mapping[str, NDArray[Any]],
    segment: Segment,
    *,
    started_from: str | None,
) -> Path:
    """Write a record of weights as they are. All of it is written, or nothing.

    Its spec has `own_weights`, so that all of its digests are its own, and no grid plans a member that has them.

    Args:
        folder: a new or empty folder.
        spec: of the model.
        weights: its parameters.
        statistics: batch-norm statistics of these weights; empty without any.
        segment: in which process they came about; its last epoch is the number of epochs.
        started_from: training digest of the record whose weights training began with; None: of initial ones.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something, or is named like the record of another training.
        MachineError: the folder cannot be written.

    """
    content = as_bytes(weights)
    spec = spec.model_copy(update={"own_weights": sha256_of(content)})
    digests, record = spec.digests, Record(folder)
    _check_folder(folder, digests.training)
    try:
        write_atomically(record.weights, content)
        statistics_sha256 = save_arrays(record.statistics, statistics) if statistics else None
        keep(folder, [spec])
        record.begin(spec)
        record.finish(
            TrainingResult(
                digest=digests.training,
                trajectory=digests.trajectory,
                status="trained",
                parameters=sum(array.size for array in weights.values()),
                epochs=segment.last_epoch,
                steps=None,
                continues=started_from,
                weights_sha256=spec.own_weights,
                statistics_sha256=statistics_sha256,
                segments=[segment],
                finished_at=segment.finished_at,
            )
        )
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise MachineError(refusal(folder, error)) from None
        raise
    return folder


def _check_folder(folder: Path, training: str) -> None:
    """Refuse a folder that holds something, and a name that ends in the digest of another training, by which a run
    would find it.

    Raises:
        UserError: it is one of these.
        MachineError: the system does not let it be looked at.

    """
    end = folder.name.rsplit("-", 1)[-1]
    if IS_SHORT.fullmatch(end) and end != training[:SHORT]:
        raise UserError(
            f"{folder}: the name ends as that of another training does, which these weights are not of; choose another "
            "name"
        )
    try:
        is_taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise MachineError(refusal(folder, error)) from None
    if is_taken:
        raise UserError(f"{folder}: holds something already, which is never overwritten; choose another folder")

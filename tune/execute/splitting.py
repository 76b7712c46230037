"""Packs that do not fit into their device's memory: run until they run out of it, then cut into two halves that go on
from where the pack was.
"""

import gc
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch

from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob, ReportProgress
from hvae_spec.records.layout import Results
from hvae_spec.training.checkpoint import DamagedCheckpointError, cut_checkpoint
from hvae_spec.training.trainer import Trainer
from tune.execute.trial import choose_steps
from tune.plan.packs import as_begun, pack_id, write_pack

ALONE = (
    "out of memory with a single member, so it cannot be split: fewer packs on a GPU (--packs-per-gpu), a smaller "
    "evaluation.memory_gib or training.batch_size, or a device with more memory"
)
"""Why a pack of one member failed."""


def fits(job: PackJob, report: ReportProgress, is_ending: Callable[[], bool] = lambda: False) -> bool:
    """Run a pack, its pack.json written first. False if the device's memory was not enough.

    Args:
        job: the pack.
        report: is told of progress.
        is_ending: what `run_pack` asks whether the pack is to stop.

    Raises:
        Exception: what `run_pack` raises.

    """
    job = as_begun(job)
    if job.kind == "train":
        write_pack(job)

    def choose(trainer: Trainer, steps: int) -> str:
        found = choose_steps(job, trainer, steps)
        # From here on the pack goes on in this way, whatever becomes of the measurements.
        write_pack(replace(job, compiled=trainer.is_to_compile, tries_compiling=False))
        return found

    try:
        run_pack(job, report, choose, is_ending)
        is_enough = True
    except torch.OutOfMemoryError:
        is_enough = False
    if torch.cuda.is_initialized():
        # The process goes on to other packs, and may not be the only one on its device.
        gc.collect()
        torch.cuda.empty_cache()
    return is_enough


def split(job: PackJob) -> list[PackJob]:
    """Replace a pack on disk by two halves, each with its part of the pack's checkpoint.

    A crash at any moment leaves the pack as it was, or its halves: until the pack is gone, it is the one that a later
    run goes on with, as it is the larger one.

    Raises:
        UserError: its checkpoint is of other members or of another version.

    """
    job = as_begun(job)
    middle = (len(job.members) + 1) // 2
    parts = (job.members[:middle], job.members[middle:])
    extends = (job.extends[:middle], job.extends[middle:])
    halves = [
        replace(job, pack_id=pack_id(part, job.kind), members=part, extends=own)
        for part, own in zip(parts, extends, strict=True)
    ]
    results = Results(job.results)
    pack = results.pack(job.pack_id)
    for half in halves if job.kind == "train" else []:
        folder = results.pack(half.pack_id)
        for path in folder.checkpoints:
            path.unlink()
        for whole in pack.checkpoints:
            with suppress(DamagedCheckpointError):
                cut_checkpoint(whole, folder.checkpoint, half.trainings)
                break
        write_pack(half)
    pack.forget()
    shutil.rmtree(pack.folder, ignore_errors=True)
    return halves

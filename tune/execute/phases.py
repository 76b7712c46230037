"""Grids whose members continue from others: what must be there, and what runs first."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hvae_spec.errors import UserError
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import DONE, Results
from hvae_spec.spec.load import Reading
from tune.execute.listener import Listener
from tune.execute.outcomes import record_failure
from tune.plan.planner import pack_id


def check_first_phases(reading: Reading, results: Results, sources: Sequence[Path]) -> None:
    """Make sure that every fine-tuned member of a grid that is not done has something to start from.

    Args:
        reading: the spec.
        results: its results folder.
        sources: further results folders.

    Raises:
        UserError: a source is no results folder, or a first phase is neither in the grid nor to be found anywhere.

    """
    for source in sources:
        if not (source / "members").is_dir():
            raise UserError(f"--records {source}: not a results folder (it has no members)")
    folders = [results, *map(Results, sources)]
    planned = {member.digest for member in reading.members}

    def is_finished(digest: str) -> bool:
        return any(folder.status(digest) == "finished" for folder in folders)

    def came_to_nothing(digest: str) -> bool:
        return any(folder.status(digest) in ("diverged", "failed") for folder in folders)

    for member in reading.members:
        first = member.spec.first_phase
        if first is None or first.digest in planned or is_finished(first.digest):
            continue
        if results.status(member.digest) in DONE or is_finished(member.digest):
            continue
        if came_to_nothing(first.digest):
            continue  # `rounds` records the member as failed, with the reason, and the others run
        raise UserError(
            f"{member.folder}: its first phase is neither in this grid nor finished in "
            f"{' or '.join(str(one.root) for one in folders)}\n"
            f"      expected a variant that is the same but for training.first_phase: null, training.lr_decay: null, "
            f"training.epochs: {first.training.epochs}, objective.warm_up: {first.objective.warm_up}, "
            f"mc_samples: {first.objective.mc_samples}, iw_samples: {first.objective.iw_samples}; "
            "or --records DIR with the results that hold it"
        )


def rounds(jobs: Sequence[PackJob], sources: Sequence[Path], listener: Listener) -> Iterator[list[PackJob]]:
    """Packs that train from initial weights; then, once these have run, those that continue from the results of others,
    as far as these have finished.
    """
    jobs = [replace(job, sources=tuple(source.resolve() for source in sources)) for job in jobs]
    first = [job for job in jobs if job.members[0].spec.first_phase is None]
    if first:
        yield first
    second = [job for job in jobs if job.members[0].spec.first_phase is not None]
    folders = second[0].folders if second else []
    if ready := [rest for job in second if (rest := _with_first_phases(job, folders, listener))]:
        yield ready


def _with_first_phases(job: PackJob, folders: Sequence[Results], listener: Listener) -> PackJob | None:
    """A pack less the members whose first phase has not finished. These are recorded as failed, each with its reason.
    A pack that goes on from a checkpoint needs no first phase any more.
    """
    if (Results(job.results).pack(job.pack_id) / "checkpoint.safetensors").exists():
        return job
    left, reasons = [], []
    for member in job.members:
        try:
            job.first_phase(member, folders)
            left.append(member)
        except UserError as error:
            record_failure(replace(job, members=(member,)), str(error))
            reasons.append(str(error))
    if not reasons:
        return job
    rest = replace(job, pack_id=pack_id(left), members=tuple(left)) if left else None
    listener.reduced(job.pack_id, rest, reasons)
    return rest

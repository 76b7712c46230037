"""Grids whose members continue from others: what must be there, and what runs first."""

import heapq
import json
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path

from hvae_spec.errors import Problem, SpecError, UserError
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import TRAINING, Results
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import ObjectiveSpec
from tune.execute.outcomes import record_failure
from tune.execute.pack_listener import PackListener
from tune.plan.packs import pack_id
from tune.plan.planner import Plan


def check_sources(sources: Sequence[Path]) -> None:
    """Make sure that further results folders are some. Raises UserError if one is not."""
    for source in sources:
        if not (source / "members").is_dir():
            raise UserError(f"--records {source}: not a results folder (it has no members)")


def check_first_phases(plan: Plan, sources: Sequence[Path] = ()) -> None:
    """Make sure that every fine-tuned member which is to be trained has something to start from: a first phase, a
    shorter training of it, or a checkpoint.

    Args:
        plan: what is to run.
        sources: further results folders.

    Raises:
        UserError: a first phase is neither in the grid nor to be found anywhere.

    """
    folders = [plan.results, *map(Results, sources)]
    planned = {need.member.digests.training for need in plan.needs}

    def has_ended(training: str) -> bool:
        records = (folder.find(training) for folder in folders)
        return any(record is not None and (record.folder / TRAINING).exists() for record in records)

    for need in plan.needs:
        member = need.member
        first = member.spec.first_phase
        if first is None or need.what != "training" or need.extends or member.folder in plan.going_on:
            continue
        if first.digests.training in planned or has_ended(first.digests.training):
            # One that diverged, failed or is damaged: `rounds` records the member as failed, with the reason, and the
            # others run.
            continue
        schedule = "" if member.spec.training.schedule is None else "training.schedule: null, "
        message = (
            f"{member.folder}: its first phase is neither in this grid nor finished in "
            f"{' or '.join(str(one.root) for one in folders)}"
        )
        expected = (
            f"a variant that is the same but for training.first_phase: null, training.lr_decay: null, "
            f"{schedule}training.epochs: {first.training.epochs}, {_objective(first)}; "
            "or --records DIR with the results that hold it"
        )
        if member.first_phase_at is None:
            raise UserError(f"{message}\n      expected {expected}")
        raise SpecError([Problem("inconsistent", member.first_phase_at, message, expected)])


def rounds(
    jobs: Sequence[PackJob],
    listener: PackListener,
    workers: int = 1,
    seconds: Callable[[PackJob], float] = lambda job: 1.0,
) -> Iterator[list[PackJob]]:
    """Packs in three rounds: first phases that others of these packs train on from, with as many packs beside them as
    end when they do; all other packs, of which those that train on have the members whose first phases are trained by
    then; and further evaluations of what was trained in this run.

    Args:
        jobs: packs, the costliest first; every round keeps their order.
        listener: informed of what cannot run.
        workers: packs that run at a time.
        seconds: what a pack is forecast to take.

    """
    ready = [job for job in jobs if _is_ready(job)]
    tuned = [job for job in jobs if job.kind == "train" and not _is_ready(job)]
    wanted = {first.digests.training for job in tuned for member in job.members if (first := member.spec.first_phase)}
    needed = {job.pack_id for job in ready if wanted & set(job.trainings)}
    now = needed and needed | _beside(needed, ready, workers, seconds)
    if now:
        yield [job for job in jobs if job.pack_id in now]
    folders = tuned[0].folders if tuned else []
    later = []
    is_ready = {job.pack_id for job in ready}
    for job in jobs:
        if job.pack_id in is_ready:
            later += [job] * (job.pack_id not in now)
        elif job.kind == "train" and (rest := _with_first_phases(job, folders, listener)):
            later.append(rest)
    if later:
        yield later
    others = [job for job in jobs if job.kind == "evaluate" and job.pack_id not in is_ready]
    if last := [rest for job in others if (rest := _as_far_as_trained(job, listener))]:
        yield last


def _beside(needed: Set[str], ready: Sequence[PackJob], workers: int, seconds: Callable[[PackJob], float]) -> set[str]:
    """The packs that workers can run beside those that are needed, without ending after them."""
    free = [0.0] * workers
    for job in ready:
        if job.pack_id in needed:
            heapq.heapreplace(free, free[0] + seconds(job))
    end, found = max(free), set()
    for job in ready:
        if job.pack_id not in needed and free[0] + seconds(job) <= end:
            heapq.heapreplace(free, free[0] + seconds(job))
            found.add(job.pack_id)
    return found


def _is_ready(job: PackJob) -> bool:
    """Whether a pack needs nothing that another pack makes."""
    if job.kind == "evaluate":
        return all(job.record(member).is_trained for member in job.members)
    return job.members[0].spec.first_phase is None or bool(job.extends)


def _as_far_as_trained(job: PackJob, listener: PackListener) -> PackJob | None:
    """A pack of evaluations less the members whose training came to nothing, as their records say already."""
    left = [member for member in job.members if job.record(member).is_trained]
    if len(left) == len(job.members):
        return job
    rest = replace(job, pack_id=pack_id(left, job.kind), members=tuple(left)) if left else None
    listener.reduced(job.pack_id, rest, [])
    return rest


def _with_first_phases(job: PackJob, folders: Sequence[Results], listener: PackListener) -> PackJob | None:
    """A pack less the members whose first phase is not trained. These are recorded as failed, each with its reason.
    A pack that goes on from a checkpoint needs no first phase any more.
    """
    if job.has_checkpoint:
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


def _objective(member: MemberSpec) -> str:
    """The objective of a member in words: its warm-up and samples, and what else is not as by default."""
    default = ObjectiveSpec().model_dump(mode="json")
    stated = {
        name: value
        for name, value in member.objective.model_dump(mode="json").items()
        if name in ("warm_up", "mc_samples", "iw_samples") or value != default[name]
    }
    return ", ".join(f"objective.{name}: {json.dumps(value)}" for name, value in stated.items())

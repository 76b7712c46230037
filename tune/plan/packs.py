"""Packs on disk: those that have begun, those that were planned, and how they are written down. No torch here."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from hvae_spec.errors import RecordError
from hvae_spec.pack_job import Kind, PackJob
from hvae_spec.records.layout import PackFolder, Record, Results
from hvae_spec.records.plan import PackFile, PackMemberState, PlannedFile, PlannedPack
from hvae_spec.records.result import Source
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from tune.plan.needs import Need, damaged_start


@dataclass(frozen=True)
class RunInfo:
    """What all packs of one command have in common."""

    results: Path
    device: str
    command: tuple[str, ...] = ()
    source: Source | None = None
    keep_optimizer: bool = True
    sources: tuple[Path, ...] = ()

    def job(
        self,
        members: Sequence[Member],
        *,
        threads: int,
        compiled: bool,
        tries_compiling: bool = False,
        kind: Kind = "train",
        extends: Sequence[Path] = (),
        start_epoch: int = 0,
    ) -> PackJob:
        """A pack of these members."""
        return PackJob(
            pack_id(members, kind),
            tuple(members),
            self.results,
            kind,
            self.device,
            threads,
            compiled,
            tries_compiling,
            self.command,
            self.source,
            tuple(path.resolve() for path in extends),
            start_epoch,
            self.keep_optimizer,
            self.sources,
        )


def pack_id(members: Sequence[Member], kind: Kind = "train") -> str:
    """What a pack of these members is called: training packs by what is trained, others by what is evaluated."""
    digests = [member.digests.training if kind == "train" else member.digests.evaluation for member in members]
    return hashlib.sha256("".join([kind, *digests]).encode()).hexdigest()[:12]


def write_pack(job: PackJob) -> None:
    """Write pack.json, which lets a later run go on with this pack as it is."""
    members = [
        PackMemberState(folder=member.folder, labels=member.labels, spec=member.spec.model_dump(mode="json"))
        for member in job.members
    ]
    extends = [str(path.relative_to(job.results) if path.is_relative_to(job.results) else path) for path in job.extends]
    content = PackFile(
        threads=job.threads,
        compiled=job.compiled,
        tries_compiling=job.tries_compiling,
        members=members,
        extends=extends,
    )
    Results(job.results).pack(job.pack_id).write(content)


def as_begun(job: PackJob) -> PackJob:
    """A pack as its pack.json has it, where whether it is compiled was decided after it was planned."""
    try:
        content = Results(job.results).pack(job.pack_id).content if job.tries_compiling else None
    except RecordError:
        content = None
    if content is None or content.tries_compiling:
        return job
    return replace(job, compiled=content.compiled, tries_compiling=False)


def planned_file(jobs: Iterable[PackJob]) -> PlannedFile:
    """The content of packs/planned.json for these packs."""
    return PlannedFile(
        packs=[
            PlannedPack(
                id=job.pack_id,
                kind=job.kind,
                threads=job.threads,
                compiled=job.compiled,
                tries_compiling=job.tries_compiling,
                members=[member.digests.evaluation for member in job.members],
            )
            for job in jobs
        ]
    )


@dataclass(frozen=True)
class Begun:
    """What earlier runs have left of packs."""

    jobs: list[PackJob]
    """Packs that are to go on as they are."""
    with_checkpoint: frozenset[str]
    """The ids of those with a checkpoint."""
    stale: list[PackFolder]
    """Folders of packs that lead to nothing: their records are gone, are made anew, or are all done."""
    unknown: list[PackFolder]
    """Folders that do not say what their packs are."""
    faults: list[str]
    """Files that are damaged and done without."""


def begun_packs(results: Results, missing: Mapping[str, Need], run: RunInfo, pack_size: int | None) -> Begun:
    """Packs of an earlier run that are to go on as they are: those with a checkpoint that hold a member which is still
    wanted, and those that were planned and not reached, unless a smaller size is asked for. No member is in two.

    Of two packs with a member in common that both have a checkpoint, or both none, the larger one goes on: the smaller
    may be the half of one that ran out of memory, and its other half may not have been written yet.

    Args:
        results: the results folder.
        missing: what members that are not done need, by evaluation digest.
        run: what the packs have in common.
        pack_size: largest number of members in a pack.

    """
    faults: list[str] = []
    # Of members that share a training, the pack holds the one that it is trained as.
    sharing = sorted(missing.values(), key=lambda need: need.what == "training")
    by_training = {need.member.digests.training: need.member for need in sharing}
    retired = {need.member.digests.training for need in missing.values() if need.retired is not None}
    there: list[PackJob] = []
    stale: list[PackFolder] = []
    unknown: list[PackFolder] = []
    for folder in results.packs:
        try:
            found = _read_pack(folder, results, by_training, run)
        except RecordError as error:
            found = None
            faults.append(f"{str(error).partition(';')[0]}; its members go on as they are planned now")
        if found is None:
            unknown.append(folder)
            continue
        there.append(found)
        if retired & set(found.trainings) or _leads_nowhere(found, folder):
            stale.append(folder)
    there = [job for job in there if not retired & set(job.trainings)]
    with_checkpoint = {job.pack_id for job in there if job.has_checkpoint}
    # What an extension goes on from may be gone; with a checkpoint it is no longer needed.
    there = [job for job in there if job.pack_id in with_checkpoint or all(map(_can_be_extended, job.extends))]
    there.sort(key=lambda job: (job.pack_id not in with_checkpoint, -len(job.members), job.pack_id))
    jobs: list[PackJob] = []
    left = set(missing)
    try:
        planned = results.planned
    except RecordError as error:
        planned = None
        faults.append(f"{str(error).partition(';')[0]}; packs are planned anew")
    for job in [*there, *_planned_packs(planned, missing, run)]:
        wanted = {member.digests.evaluation for member in job.members} & missing.keys()
        fits = pack_size is None or len(job.members) <= pack_size
        is_whole = (len(wanted) == len(job.members) or job.kind == "evaluate") and fits
        if wanted and wanted <= left and (job.pack_id in with_checkpoint or is_whole):
            jobs.append(job)
            left -= wanted
    with_checkpoint = {job.pack_id for job in jobs if job.has_checkpoint}
    stale = [folder for folder in stale if folder.folder.name not in with_checkpoint]
    return Begun(jobs, frozenset(with_checkpoint), stale, unknown, faults)


def _leads_nowhere(job: PackJob, folder: PackFolder) -> bool:
    """Whether a pack's checkpoint led up to records that are gone, or nothing is left to train in it."""
    is_lost = bool(folder.checkpoints) and not job.has_checkpoint
    return is_lost or all(_is_done(job.record(member)) for member in job.members)


def _is_done(record: Record) -> bool:
    """Whether a training is done, or damaged and left alone."""
    try:
        training = record.training
    except RecordError:
        return True
    return training is not None and training.status != "failed"


def _planned_packs(planned: PlannedFile | None, missing: Mapping[str, Need], run: RunInfo) -> Iterator[PackJob]:
    """Packs of planned.json whose members are still missing: all that are trained together, any that are evaluated."""
    for pack in [] if planned is None else planned.packs:
        needs = [missing[digest] for digest in pack.members if digest in missing]
        what = "training" if pack.kind == "train" else "evaluation"
        if not needs or any(need.what != what for need in needs) or len({need.start_epoch for need in needs}) > 1:
            continue
        if pack.kind == "train" and len(needs) < len(pack.members):
            continue
        yield run.job(
            [need.member for need in needs],
            threads=pack.threads,
            compiled=pack.compiled,
            tries_compiling=pack.tries_compiling,
            kind=pack.kind,
            extends=[need.extends for need in needs if need.extends is not None],
            start_epoch=needs[0].start_epoch,
        )


def _can_be_extended(folder: Path) -> bool:
    record = Record(folder)
    if not record.is_trained or (training := record.training) is None:
        return False
    return not damaged_start(record, training)


def _read_pack(folder: PackFolder, results: Results, by_training: Mapping[str, Member], run: RunInfo) -> PackJob | None:
    """The pack that a folder was made for; None if a crash came before it was written down.

    Raises:
        RecordError: pack.json is damaged.

    """
    content = folder.content
    if content is None:
        return None
    members = []
    for entry in content.members:
        try:
            spec = MemberSpec.model_validate(entry.spec)
        except ValidationError as error:
            raise RecordError(f"{folder.folder}/pack.json: not a pack ({error.errors()[0]['msg']})") from None
        digests = spec.digests
        name = results.record(digests.training, entry.folder).folder.name
        planned = by_training.get(digests.training)
        members.append(Member(spec, digests, entry.labels, name) if planned is None else planned)
    extends = tuple(run.results / path for path in content.extends)
    first = Record(extends[0]) if extends else None
    training = first.training if first is not None and first.is_trained else None
    job = run.job(
        members,
        threads=content.threads,
        compiled=content.compiled,
        tries_compiling=content.tries_compiling,
        extends=extends,
        start_epoch=0 if training is None else training.epochs,
    )
    return replace(job, pack_id=folder.folder.name)

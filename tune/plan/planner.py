"""Cells into packs: what is done, what has begun, and what would run together. Neither torch nor Ray here."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hvae_spec.backend.memory import EVALUATION_SHARE
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.pack_job import PackJob, PackMember
from hvae_spec.records.files import write_json
from hvae_spec.records.layout import DONE, Record, Results
from hvae_spec.spec.cost import mappings
from hvae_spec.spec.experiment import Member
from hvae_spec.spec.grid import GridMember
from hvae_spec.spec.load import Reading
from tune.plan import devices
from tune.plan.forecast import Forecaster
from tune.plan.grouping import group, shape

STEP_PRODUCTS = 4e9
"""Multiply-adds of a pack's step beyond which more members no longer make a member-step cheaper on a CPU: the paper's
five-layer model gains up to four members, the small models of the quickstart up to the limit below. For shapes of which
nothing is measured."""
COMPILING = ("auto", "always", "never")
"""Whether training steps are compiled; `auto` is where it pays."""
LARGEST_CPU_PACK = 16
LARGEST_GPU_PACK = 32


@dataclass(frozen=True)
class Plan:
    """What a command would do."""

    reading: Reading
    results: Results
    statuses: dict[str, str]
    """Status of every planned member by digest: finished, diverged, failed or pending."""
    jobs: list[PackJob]
    """Packs to run, the costliest first."""
    begun: frozenset[str]
    """Those of them, by id, that go on from a checkpoint."""
    workers: int
    """Packs that run at a time."""
    forecaster: Forecaster
    gpus: int = 0
    """CUDA devices among which the workers are shared; none: they are shared among cores."""
    adopted: dict[str, Record] = field(default_factory=dict)
    """Records in other results folders, by digest, of planned members that count as finished for their sake."""

    @cached_property
    def counts(self) -> Counter[str]:
        """How many members have each status."""
        return Counter(self.statuses.values())

    def adopt_records(self) -> None:
        """Copy the records that are finished elsewhere into the results folder."""
        for member in self.reading.members:
            if member.digest in self.adopted:
                self.results.adopt(self.adopted[member.digest], member.digest, member.folder)

    def write_grid(self) -> None:
        """Write grid.json: the grid as now planned."""
        members = [
            {"digest": member.digest, "folder": member.folder, "labels": member.labels}
            for member in self.reading.members
        ]
        variants = list(dict.fromkeys(cell.variant for cell in self.reading.cells))
        content = {"name": self.reading.experiment.name, "variants": variants, "members": members}
        write_json(self.results.root / "grid.json", content)

    def write_packs(self) -> None:
        """Write packs/planned.json: which members go together, also in packs that an interruption comes before."""
        packs = [
            {
                "id": job.pack_id,
                "threads": job.threads,
                "compiled": job.compiled,
                "members": [member.digest for member in job.members],
            }
            for job in self.jobs
        ]
        write_json(self.results.root / "packs" / "planned.json", packs)


def make_plan(
    reading: Reading,
    results: Results,
    *,
    sources: Sequence[Results] = (),
    device: str,
    cores: int,
    gpus: int = 0,
    packs_per_gpu: int = 1,
    pack_size: int | None = None,
    serial: bool = False,
    git: dict[str, Any] | None = None,
    compiling: str = "auto",
    memory: float | None = None,
    forecaster: Forecaster | None = None,
) -> Plan:
    """Decide what runs, and what runs together.

    Members that are done are left alone, and those that are finished in another results folder are taken from there. A
    pack that has begun goes on as it is, with the threads it had, so that it ends with the same bits as if it had never
    stopped. All other members are packed by shape.

    Args:
        reading: the spec.
        results: where records are.
        sources: further results folders, the first one first.
        device: the `--device` flag, for the workers.
        cores: CPU cores that may be used.
        gpus: CUDA devices that may be used.
        packs_per_gpu: packs that share one of them.
        pack_size: largest number of members in a pack; None chooses it by measurement, or by the cost of a step.
        serial: one pack at a time, with all cores.
        git: state of the source tree, for the records.
        compiling: one of COMPILING.
        memory: bytes that all packs which run at a time may take on one device; None: not known.
        forecaster: forecasts of packs; None: by what is measured on this kind of device.

    Raises:
        UserError: a record or a pack's file in the results folder is damaged.

    """
    forecaster = forecaster or Forecaster("cuda" if gpus else "cpu")
    members = {member.digest: member for member in reading.members}
    statuses = {digest: results.status(digest) or "pending" for digest in members}
    adopted = _finished_elsewhere([digest for digest, status in statuses.items() if status not in DONE], sources)
    statuses |= dict.fromkeys(adopted, "finished")
    missing = {digest: members[digest] for digest, status in statuses.items() if status not in DONE}
    begun, with_checkpoint = _begun_packs(results, missing, device, git, pack_size)
    for job in begun:
        for member in job.members:
            missing.pop(member.digest, None)
    slots = 1 if serial else max(1, gpus * packs_per_gpu or cores)
    workers = max(1, min(slots, len(missing) + len(begun)))
    threads = max(1, cores // workers)
    sharing = -(-workers // gpus) if gpus else 1
    compiling = compiling if devices.can_compile(forecaster.device) else "never"
    # What is left of a pack's share of the memory for training, once it evaluates. (A few large packs on a GPU that has
    # room for many might take more.)
    share = memory and memory * max(1, gpus) / workers - (EVALUATION_SHARE * memory if gpus else 0)

    def is_compiled(member: Member, members: int) -> bool:
        return compiling == "always" or (
            compiling == "auto" and forecaster.is_worth_compiling(member, members, threads, sharing)
        )

    def size_of(member: Member) -> int:
        if pack_size:
            return pack_size
        usual = _usual_size(member, on_gpu=gpus > 0)
        return forecaster.best_size(member, threads, is_compiled(member, usual), share) or usual

    def seconds_of(member: Member, members: int) -> float:
        return forecaster.pack(member, members, threads, is_compiled(member, members)).seconds

    shapes = {id(cell): shape(cell.member) for cell in reading.cells}
    fresh = [(shapes[id(member.cell)], _pack_member(member, results)) for member in missing.values()]
    # Packs that share a GPU share its speed: cutting them smaller helps no more than there are GPUs.
    begun_seconds = [forecaster.of(job).seconds for job in begun]
    groups = group(fresh, size_of, seconds_of, workers=min(gpus or workers, workers), begun=begun_seconds)
    jobs = begun + [
        PackJob(
            pack_id(one), tuple(one), results.root.resolve(), device, threads, git, is_compiled(one[0].spec, len(one))
        )
        for one in groups
    ]
    jobs.sort(key=lambda job: -forecaster.of(job).seconds)
    return Plan(reading, results, statuses, jobs, with_checkpoint, workers, forecaster, gpus, adopted)


def _finished_elsewhere(digests: Sequence[str], sources: Sequence[Results]) -> dict[str, Record]:
    """Finished records in other results folders."""
    found: dict[str, Record] = {}
    for source in reversed(sources):
        found |= {digest: source.record(digest, digest) for digest in digests if source.status(digest) == "finished"}
    return found


def _pack_member(member: GridMember, results: Results) -> PackMember:
    folder = results.record(member.digest, member.folder).folder.name
    return PackMember(member.spec, member.digest, member.labels, folder)


def pack_id(members: Sequence[PackMember]) -> str:
    """What a pack of these members is called."""
    return hashlib.sha256("".join(member.digest for member in members).encode()).hexdigest()[:12]


def _usual_size(member: Member, *, on_gpu: bool) -> int:
    """How many members a pack has where nothing is measured."""
    if on_gpu:
        return LARGEST_GPU_PACK
    rows = member.training.batch_size * member.objective.mc_samples * member.objective.iw_samples
    step = 3 * rows * sum(mapping.products for mapping in mappings(member, image_pixels(member.data)))
    return max(1, min(LARGEST_CPU_PACK, round(STEP_PRODUCTS / step)))


def _begun_packs(
    results: Results,
    missing: dict[str, GridMember],
    device: str,
    git: dict[str, Any] | None,
    pack_size: int | None,
) -> tuple[list[PackJob], frozenset[str]]:
    """Packs of an earlier run that are to go on as they are: those with a checkpoint that hold a member which is still
    wanted, and those that were planned and not reached, unless a smaller size is asked for. No member is in two. Also
    the ids of those with a checkpoint.

    Of two packs with a member in common that both have a checkpoint, or both none, the larger one goes on: the smaller
    may be the half of one that ran out of memory, and its other half may not have been written yet.
    """
    packs = results.root / "packs"
    try:
        with os.scandir(packs) as entries:
            folders = [packs / entry.name for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return [], frozenset()
    there = [job for folder in folders if (job := _read_pack(folder, results, device, git)) is not None]
    with_checkpoint = {job.pack_id for job in there if (packs / job.pack_id / "checkpoint.safetensors").exists()}
    there.sort(key=lambda job: (job.pack_id not in with_checkpoint, -len(job.members), job.pack_id))
    jobs: list[PackJob] = []
    left = set(missing)
    for job in [*there, *_planned_packs(results, missing, device, git)]:
        wanted = {member.digest for member in job.members} & missing.keys()
        fits = pack_size is None or len(job.members) <= pack_size
        is_whole = len(wanted) == len(job.members) and fits
        if wanted and wanted <= left and (job.pack_id in with_checkpoint or is_whole):
            jobs.append(job)
            left -= wanted
    return jobs, frozenset(with_checkpoint & {job.pack_id for job in jobs})


def _planned_packs(
    results: Results, missing: dict[str, GridMember], device: str, git: dict[str, Any] | None
) -> Iterator[PackJob]:
    """Packs of planned.json all of whose members are still missing.

    Raises:
        UserError: the file is damaged.

    """
    path = results.root / "packs" / "planned.json"
    if not path.exists():
        return
    try:
        for entry in json.loads(path.read_text()):
            if all(digest in missing for digest in entry["members"]):
                members = tuple(_pack_member(missing[digest], results) for digest in entry["members"])
                root = results.root.resolve()
                yield PackJob(entry["id"], members, root, device, entry["threads"], git, entry["compiled"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a list of packs ({error}); delete it to have them planned anew") from None


def _read_pack(folder: Path, results: Results, device: str, git: dict[str, Any] | None) -> PackJob | None:
    """The pack that a folder was made for; None if a crash came before it was written down.

    Raises:
        UserError: pack.json is damaged.

    """
    path = folder / "pack.json"
    try:
        content = json.loads(path.read_text())
        members = tuple(
            PackMember(
                Member.model_validate(entry["spec"]),
                entry["digest"],
                entry["labels"],
                results.record(entry["digest"], entry["folder"]).folder.name,
            )
            for entry in content["members"]
        )
        compiled = content.get("compiled", False)
        return PackJob(folder.name, members, results.root.resolve(), device, content["threads"], git, compiled)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a pack ({error}); delete {folder} to have its members start over") from None


def write_pack(job: PackJob) -> None:
    """Write pack.json, which lets a later run go on with this pack as it is."""
    members = [
        {
            "digest": member.digest,
            "folder": member.folder,
            "labels": member.labels,
            "spec": member.spec.model_dump(mode="json"),
        }
        for member in job.members
    ]
    folder = Results(job.results).pack(job.pack_id)
    write_json(folder / "pack.json", {"threads": job.threads, "compiled": job.compiled, "members": members})

"""Cells into packs: what is done, what has begun, and what would run together. Neither torch nor Ray here."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from hvae_spec.errors import UserError
from hvae_spec.files import write_json
from hvae_spec.jobs import PackJob, PackMember
from hvae_spec.reading import Reading
from hvae_spec.records import DONE, Results
from hvae_spec.schema.counts import mappings, products
from hvae_spec.schema.experiment import Member
from hvae_spec.schema.grid import GridMember

STEP_PRODUCTS = 4e9
"""Multiply-adds of a pack's step beyond which more members no longer make a member-step cheaper on a CPU: the paper's
five-layer model gains up to four members, the small models of the quickstart up to the limit below."""
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
    workers: int
    """Packs that run at a time."""

    @cached_property
    def counts(self) -> Counter[str]:
        """How many members have each status."""
        return Counter(self.statuses.values())

    def write_grid(self) -> None:
        """Write grid.json: the grid as now planned."""
        members = [
            {"digest": member.digest, "folder": member.folder, "labels": member.labels}
            for member in self.reading.members
        ]
        variants = list(dict.fromkeys(member.cell.variant for member in self.reading.members))
        content = {"name": self.reading.experiment.name, "variants": variants, "members": members}
        write_json(self.results.root / "grid.json", content)


def shape(member: Member) -> str:
    """What members of one pack have in common, as a string: everything but the seed, warm-up, the optimiser's settings,
    clipping and initialisation, which a pack applies member by member.
    """
    content = member.model_dump(mode="json", exclude={"seed"})
    content["objective"].pop("warm_up")
    for field in ("optimizer", "clip_norm", "clip_value"):
        content["training"].pop(field)
    for field in ("initialization", "variance_bias"):
        content["model"].pop(field)
    return json.dumps(content, sort_keys=True)


def cost(members: Sequence[PackMember]) -> float:
    """Multiply-adds of a pack from its first epoch to its last evaluation."""
    return sum(products(member.spec) for member in members)


def make_plan(
    reading: Reading,
    results: Results,
    *,
    device: str,
    cores: int,
    gpus: int = 0,
    pack_size: int | None = None,
    serial: bool = False,
    git: dict[str, Any] | None = None,
) -> Plan:
    """Decide what runs, and what runs together.

    Members that are done are left alone. A pack that has begun goes on as it is, with the threads it had, so that it
    ends with the same bits as if it had never stopped. All other members are packed by shape.

    Args:
        reading: the spec.
        results: where records are.
        device: the `--device` flag, for the workers.
        cores: CPU cores that may be used.
        gpus: CUDA devices that may be used.
        pack_size: largest number of members in a pack; None chooses it by the cost of a step.
        serial: one pack at a time, with all cores.
        git: state of the source tree, for the records.

    Raises:
        UserError: a record or a pack's file in the results folder is damaged.

    """
    members = {member.digest: member for member in reading.members}
    statuses = {digest: results.record(digest, member.folder).status or "pending" for digest, member in members.items()}
    missing = {digest for digest, status in statuses.items() if status not in DONE}
    begun = _begun_packs(results, missing, device, git, pack_size)
    for job in begun:
        missing -= {member.digest for member in job.members}
    fresh = [_pack_member(member) for digest, member in members.items() if digest in missing]
    slots = 1 if serial else max(1, gpus or cores)
    groups = _group(fresh, slots - len(begun), pack_size, on_gpu=gpus > 0)
    workers = 1 if serial else max(1, min(slots, len(groups) + len(begun)))
    threads = max(1, cores // workers)
    packed = [
        PackJob(_pack_id(group), tuple(group), results.root.resolve(), device=device, threads=threads, git=git)
        for group in groups
    ]
    jobs = sorted([*begun, *packed], key=lambda job: -cost(job.members))
    return Plan(reading, results, statuses, jobs, workers)


def _pack_member(member: GridMember) -> PackMember:
    return PackMember(member.spec, member.digest, member.labels, member.folder)


def _pack_id(members: Sequence[PackMember]) -> str:
    return hashlib.sha256("".join(member.digest for member in members).encode()).hexdigest()[:12]


def _group(members: list[PackMember], slots: int, pack_size: int | None, *, on_gpu: bool) -> list[list[PackMember]]:
    """Members by shape, each shape cut into packs of nearly equal size; into smaller ones where that would leave a
    worker idle.
    """
    shapes: dict[str, list[PackMember]] = {}
    for member in members:
        shapes.setdefault(shape(member.spec), []).append(member)
    sizes = {key: pack_size or _good_size(group[0].spec, on_gpu) for key, group in shapes.items()}
    counts = {key: math.ceil(len(group) / sizes[key]) for key, group in shapes.items()}
    while sum(counts.values()) < slots:
        key = max(counts, key=lambda key: len(shapes[key]) / counts[key], default=None)
        if key is None or counts[key] >= len(shapes[key]):
            break
        counts[key] += 1
    return [part for key, group in shapes.items() for part in _cut(group, counts[key])]


def _cut(members: list[PackMember], parts: int) -> list[list[PackMember]]:
    edges = [round(place * len(members) / parts) for place in range(parts + 1)]
    return [members[start:end] for start, end in pairwise(edges)]


def _good_size(member: Member, on_gpu: bool) -> int:
    if on_gpu:
        return LARGEST_GPU_PACK
    rows = member.training.batch_size * member.objective.mc_samples * member.objective.iw_samples
    step = 3 * rows * sum(mapping.products for mapping in mappings(member))
    return max(1, min(LARGEST_CPU_PACK, round(STEP_PRODUCTS / step)))


def _begun_packs(
    results: Results, missing: set[str], device: str, git: dict[str, Any] | None, pack_size: int | None
) -> list[PackJob]:
    """Packs of an earlier run that are to go on as they are: those with a checkpoint that hold a member which is still
    wanted, and those that were planned and not reached, unless a smaller size is asked for. No member is in two.
    """
    found = [(_read_pack(folder, results, device, git), folder) for folder in (results.root / "packs").glob("*/")]
    with_state = [(job, (folder / "checkpoint.safetensors").exists()) for job, folder in found if job is not None]
    jobs: list[PackJob] = []
    left = set(missing)
    for job, has_checkpoint in sorted(with_state, key=lambda item: (not item[1], item[0].pack_id)):
        wanted = {member.digest for member in job.members} & missing
        fits = pack_size is None or len(job.members) <= pack_size
        if wanted and wanted <= left and (has_checkpoint or (len(wanted) == len(job.members) and fits)):
            jobs.append(job)
            left -= wanted
    return jobs


def _read_pack(folder: Path, results: Results, device: str, git: dict[str, Any] | None) -> PackJob | None:
    """The pack that a folder was made for; None if a crash came before it was written down.

    Raises:
        UserError: pack.json is damaged.

    """
    path = folder / "pack.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        members = tuple(
            PackMember(Member.model_validate(entry["spec"]), entry["digest"], entry["labels"], entry["folder"])
            for entry in content["members"]
        )
        return PackJob(folder.name, members, results.root.resolve(), device, content["threads"], git)
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
    write_json(folder / "pack.json", {"threads": job.threads, "members": members})

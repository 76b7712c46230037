"""From a spec and a results folder to a plan: what is done, what has begun, what runs, and what runs together. Neither
torch nor Ray here.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hvae_spec.backend.memory import EVALUATION_SHARE
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import RecordError
from hvae_spec.pack_job import PackJob
from hvae_spec.records.extensions import keep
from hvae_spec.records.index import IndexedRecord, indexed, write_index
from hvae_spec.records.layout import PackFolder, Record, Results
from hvae_spec.records.plan import GridFile
from hvae_spec.records.result import Status
from hvae_spec.spec.cost import images_of_step, mappings, samples_in_training
from hvae_spec.spec.experiment import EVALUATION_VERSION, MemberSpec
from hvae_spec.spec.load import Reading
from tune.measure.comparison import StepComparison
from tune.plan import devices
from tune.plan.changes import changes, members_that
from tune.plan.devices import Machine
from tune.plan.forecast import TRIAL_SECONDS, Forecast, Forecaster
from tune.plan.grid_file import foretold_contrasts, grid_file
from tune.plan.grouping import group, shape
from tune.plan.needs import Ledger, Need, inherited_divergence
from tune.plan.packs import RunInfo, begun_packs, planned_file
from tune.plan.search import Rung, searched
from tune.plan.stages import staged
from tune.plan.ways import Compiling, Ways

if TYPE_CHECKING:
    from analysis.statistics import Block

STEP_PRODUCTS = 4e9
"""Multiply-adds of a pack's step beyond which more members no longer make a member-step cheaper on a CPU: the paper's
five-layer model gains up to four members, the small models of the quickstart up to the limit below. For shapes of which
nothing is measured."""
LARGEST_CPU_PACK = 16
LARGEST_GPU_PACK = 32


@dataclass(frozen=True)
class Packing:
    """How members are put into packs."""

    pack_size: int | None = None
    """Largest number of members in a pack; None chooses it by measurement, or by the cost of a step."""
    serial: bool = False
    """One pack at a time, with all cores."""
    compiling: Compiling = "auto"
    here: bool = True
    """Whether packs run on this machine. On others, each finds out for itself what was measured there."""


@dataclass(frozen=True)
class Plan:
    """What a command would do."""

    reading: Reading
    results: Results
    needs: list[Need]
    """What every planned member needs, in the order of the grid."""
    jobs: list[PackJob]
    """Packs to run, the costliest first."""
    begun: frozenset[str]
    """Those of them, by id, that go on from a checkpoint."""
    stale: list[PackFolder]
    """What is left of packs that lead to nothing: their records are gone, are made anew, or are all done."""
    workers: int
    """Packs that run at a time."""
    forecaster: Forecaster
    machine: Machine
    index: Mapping[str, IndexedRecord]
    """The records that were there, by the name of a record's folder."""
    notes: list[str]
    """What becomes of records that the plan does not name, of curves with other settings, and what hinders trainings
    from going on."""
    faults: list[str]
    """What is damaged, each with its remedy: members whose records are stay as they are."""
    blocks: "Mapping[str, list[Block]]"
    """What has the same seeds, by the name of a grid whose seeds come in two stages."""
    foretold: "Mapping[str, dict[str, list[Any]]]"
    """The contrasts that were planned before the first result, by the name of the grid."""
    rungs: Mapping[str, list[Rung]]
    """The rungs that are reached, by the name of a grid that is a search."""
    slower: Mapping[str, StepComparison]
    """What was measured of packs that are not compiled as that would make them no faster, by their ids."""

    @property
    def awaits_records(self) -> bool:
        """Whether which members there are shows only when members of this plan are done: how many seeds, or which
        points of a search go on.
        """
        open_blocks = any(block.seeds is None for blocks in self.blocks.values() for block in blocks)
        return open_blocks or any(rung.kept is None for rungs in self.rungs.values() for rung in rungs)

    @cached_property
    def going_on(self) -> frozenset[str]:
        """Names of the folders of members that go on from a checkpoint."""
        return _going_on(self.jobs, self.begun)

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """Status of every planned member by evaluation digest."""
        return {need.member.digests.evaluation: need.status for need in self.needs}

    @cached_property
    def left_out(self) -> list[Need]:
        """What is not run, though it is needed, as files of its data set are missing."""
        return [need for need in self.needs if need.absent]

    @cached_property
    def counts(self) -> Counter[Status]:
        """How many members have each status."""
        return Counter(self.statuses.values())

    def prepare(self) -> None:
        """Write down what is planned, before anything runs: records of other folders are copied, records that are to be
        made again moved out of the way, divergences of shorter trainings taken over, the grid and its packs written.

        Raises:
            OSError: the disk is full or not writable.

        """
        for folder in self.stale:
            folder.forget()
            shutil.rmtree(folder.folder, ignore_errors=True)
        keep(self.results.root, (need.member.spec for need in self.needs))
        for need in self.needs:
            digests, member = need.member.digests, need.member
            if need.adopted is not None:
                self.results.adopt(need.adopted, digests.training, member.folder)
            if need.retired is not None:
                self.results.retire(need.retired)
            if need.what == "divergence":
                new = Record(self.results.root / "members" / member.folder)
                new.begin(member.spec)
                new.finish(inherited_divergence(need))
        absent = {need.member.spec.data.name: need.absent for need in self.left_out}
        members = [need.member for need in self.needs]
        self.results.write_grid(grid_file(self.reading, members, absent, self.foretold))
        # A record that is there is as it is; all others get the spec of the member that is trained or copied.
        made = {need.member.folder: need.member for need in self.needs if need.what in ("training", "divergence")}
        kept = {name: entry for name, entry in self.index.items() if name not in made or name in self.going_on}
        fresh = {name: indexed(member.spec, member.digests) for name, member in made.items() if name not in kept}
        for need in self.needs:
            if need.adopted is not None:
                fresh[need.member.folder] = indexed(need.adopted.spec, need.member.digests)
        write_index(self.results, {**kept, **fresh})
        self.results.write_planned(planned_file(self.jobs))


def make_plan(
    reading: Reading,
    ledger: Ledger,
    run: RunInfo,
    machine: Machine,
    packing: Packing = Packing(),
    *,
    forecaster: Forecaster | None = None,
    retrain: bool = False,
    absent: Mapping[str, str] = {},
) -> Plan:
    """Decide what runs, and what runs together.

    Members that are done are left alone, and those that are trained in another results folder are taken from there. A
    pack that has begun goes on as it is, with the threads it had, so that it ends with the same bits as if it had never
    stopped. All other members are packed by shape, and by the epoch that their training goes on from.

    Where seeds come in two stages, members of the second are planned as soon as the first is done, and those of a rung
    of a search as soon as the rung before is done.

    Args:
        reading: the spec.
        ledger: the records of the results folder and of further ones.
        run: what all packs have in common.
        machine: what they may use.
        packing: how they are made.
        forecaster: forecasts of packs; None: by what is measured on this kind of device.
        retrain: train members again whose curves have other settings than asked for.
        absent: data sets whose members are left out, by name, each with what is said of its files.

    Raises:
        UserError: the results folder is of an earlier version, or the seeds of the spec are for effects that the grid
            does not have.

    """
    results, gpus = ledger.results, machine.gpus
    reading, blocks = staged(reading, results)
    reading, rungs = searched(reading, results)
    forecaster = forecaster or Forecaster("cuda" if gpus else "cpu")
    needs = [_without_data(need, absent) for need in ledger.needs(reading.members, retrain)]
    missing = {need.member.digests.evaluation: need for need in needs if need.what in ("training", "evaluation")}
    begun = begun_packs(results, missing, run, packing.pack_size)
    for job in begun.jobs:
        for member in job.members:
            missing.pop(member.digests.evaluation, None)
    slots = 1 if packing.serial else max(1, gpus * machine.packs_per_gpu or machine.cores)
    workers = max(1, min(slots, len(missing) + len(begun.jobs)))
    threads = machine.threads(workers)
    sharing = -(-workers // gpus) if gpus else 1
    can_compile = not packing.here or devices.can_compile(forecaster.device)
    ways = Ways(forecaster, packing.compiling if can_compile else "never", sharing, packing.here)
    # What is left of a pack's share of the memory for training, once it evaluates. (A few large packs on a GPU that has
    # room for many might take more.)
    memory = machine.memory
    share = memory and memory * max(1, gpus) / workers - (EVALUATION_SHARE * memory if gpus else 0)

    def size_of(member: MemberSpec) -> int:
        if packing.pack_size:
            return packing.pack_size
        # The best of plain packs and that of compiled ones, as far as these are measured.
        sizes = [size for way in (False, True) if (size := forecaster.best_size(member, threads, way, share))]
        usual = _usual_size(member, on_gpu=gpus > 0)
        return min(sizes, key=lambda size: forecast_of(member, size).ms_per_member_step, default=usual)

    def forecast_of(member: MemberSpec, members: int) -> Forecast:
        way = ways.of(member, members, threads)
        found = forecaster.pack(member, members, threads, compiled=way == "compiled")
        return replace(found, overhead=found.overhead + TRIAL_SECONDS) if way == "trial" else found

    shapes: dict[str, str] = {}
    for cell in reading.cells:
        shapes |= dict.fromkeys((member.digests.evaluation for member in cell.members), shape(cell.member))
    fresh = [
        (f"{need.what} from {need.start_epoch}: {shapes[digest]}", need.member) for digest, need in missing.items()
    ]
    # What is begun stays as it is, once it is decided.
    begun_jobs = [ways.decided(job) if job.tries_compiling else job for job in begun.jobs]
    # Packs that share a GPU share its speed: cutting them smaller helps no more than there are GPUs.
    begun_seconds = [forecaster.of(job).seconds for job in begun_jobs]
    groups = group(
        fresh,
        size_of,
        lambda member, members: forecast_of(member, members).seconds,
        workers=min(gpus or workers, workers),
        begun=begun_seconds,
    )
    jobs = list(begun_jobs)
    for members in groups:
        own = [missing[member.digests.evaluation] for member in members]
        job = run.job(
            members,
            threads=threads,
            compiled=False,
            kind="train" if own[0].what == "training" else "evaluate",
            extends=[need.extends for need in own if need.extends is not None],
            start_epoch=own[0].start_epoch,
        )
        jobs.append(ways.decided(job))
    jobs.sort(key=lambda job: -forecaster.of(job).seconds)
    jobs = [replace(job, at_a_time=workers) for job in jobs]
    try:
        before, notes = results.grid, []
    except RecordError as error:  # it is about to be written anew
        before, notes = None, [f"{str(error).partition(';')[0]}; it is rewritten"]
    notes += [
        *changes(ledger.index, before, needs),
        *_notes(ledger, needs, retrain, _going_on(jobs, begun.with_checkpoint)),
        *_notes_on_threads(begun_jobs, machine),
    ]
    faults = dict.fromkeys([*(need.damage for need in needs if need.damage), *ledger.faults, *begun.faults])
    unknown = [folder for folder in begun.unknown if folder.folder.name not in {job.pack_id for job in jobs}]
    return Plan(
        reading,
        results,
        needs,
        jobs,
        begun.with_checkpoint,
        [*begun.stale, *unknown],
        workers,
        forecaster,
        machine,
        ledger.index,
        notes,
        list(faults),
        blocks,
        _foretold(reading, needs, before),
        rungs,
        ways.slower(jobs),
    )


def _foretold(reading: Reading, needs: Sequence[Need], before: GridFile | None) -> dict[str, dict[str, list[Any]]]:
    """What `foretold_contrasts` gives, by the name of the grid."""
    with_results = {
        need.member.digests.evaluation
        for need in needs
        if need.status not in ("pending", "running") or need.retired is not None
    }
    return {
        grid.name: foretold_contrasts(
            grid,
            has_results=any(member.digests.evaluation in with_results for member in grid.members),
            before=before,
        )
        for grid in reading.grids
    }


def _without_data(need: Need, absent: Mapping[str, str]) -> Need:
    """What is left of a need where files of the member's data set are missing: what is done stays as it is."""
    reason = absent.get(need.member.spec.data.name)
    if reason is None or need.what not in ("training", "evaluation"):
        return need
    return replace(need, what="nothing", extends=None, start_epoch=0, hindered="", retired=None, absent=reason)


def _going_on(jobs: Iterable[PackJob], with_checkpoint: frozenset[str]) -> frozenset[str]:
    return frozenset(member.folder for job in jobs if job.pack_id in with_checkpoint for member in job.members)


def _notes(ledger: Ledger, needs: Sequence[Need], retrain: bool, going_on: frozenset[str]) -> list[str]:
    """Which members keep curves with other settings, which were evaluated by an earlier version, and what hinders
    trainings from going on.

    Args:
        ledger: the records.
        needs: what the members need.
        retrain: whether such members are trained again.
        going_on: folders of the members that go on from a checkpoint.

    """
    keeping = [need for need in needs if need.what == "nothing" or need.member.folder in going_on]
    curves = Counter(other for need in keeping if not retrain and (other := ledger.other_curve(need.member)))
    kept = [
        members_that(count, "keeps its learning curve", "keep their learning curves")
        + f" ({other}); --retrain trains with the new settings"
        for other, count in curves.items()
    ]
    again = sum(need.what == "evaluation" and _is_of_earlier_version(ledger.results, need) for need in needs)
    if again:
        kept.append(
            members_that(again, "was", "were")
            + f" evaluated by an earlier version of the evaluation than this one ({EVALUATION_VERSION}): the stored "
            "weights are evaluated again, and the earlier evaluations stay"
        )
    hindered = Counter(need.hindered for need in needs if need.hindered)
    return kept + [
        members_that(count, "trains from the start", "train from the start")
        + f", though a shorter training is there: {why}"
        for why, count in hindered.items()
    ]


def _notes_on_threads(begun: Sequence[PackJob], machine: Machine) -> list[str]:
    """Which packs of an earlier run work with more threads than there are cores for one pack."""
    cores = machine.threads(workers=machine.nodes)
    more = Counter(job.threads for job in begun if job.threads > cores)
    may_use = f"may use {cores:,} core{'s' * (cores > 1)}"
    return [
        (
            f"1 pack of an earlier run goes on with {threads} threads, though it {may_use}"
            if count == 1
            else f"{count:,} packs of an earlier run go on with {threads} threads, though each {may_use}"
        )
        + ": with fewer their bits would not be those of an uninterrupted training"
        for threads, count in sorted(more.items())
    ]


def _is_of_earlier_version(results: Results, need: Need) -> bool:
    """Whether all evaluations that a member's record has are of an earlier version of the evaluation."""
    record = need.adopted or results.find(need.member.digests.training)
    try:
        found = [] if record is None else [evaluation.result for evaluation in record.evaluations]
    except RecordError:  # one that is damaged is named where it is needed
        return False
    return bool(found) and all(result is not None and result.estimator < EVALUATION_VERSION for result in found)


def _usual_size(member: MemberSpec, *, on_gpu: bool) -> int:
    """How many members a pack has where nothing is measured."""
    if on_gpu:
        return LARGEST_GPU_PACK
    samples = max(1, samples_in_training(member))
    every = list(mappings(member, image_pixels(member.data)))
    step = 3 * images_of_step(member) * sum(mapping.macs * (samples + mapping.earlier) for mapping in every)
    return max(1, min(LARGEST_CPU_PACK, round(STEP_PRODUCTS / step)))

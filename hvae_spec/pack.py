"""The life of a pack: train its members, evaluate them along the way and at the end, checkpoint, resume, record.

No scheduler here: `tune` calls `run_pack` in this process or in a Ray worker.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, cast

import filelock
import torch

from hvae_spec import compiler
from hvae_spec.backend.memory import keep_freed_memory
from hvae_spec.backend.waiting import considerate
from hvae_spec.data.batches import Batches
from hvae_spec.data.dataset import Dataset, load_dataset
from hvae_spec.errors import CheckpointError, RecordError, UserError
from hvae_spec.evaluate.curve import CurveEvaluation
from hvae_spec.evaluate.member import MemberEvaluation, data_state
from hvae_spec.pack_job import PackJob, Progress, ReportProgress, StoppedError
from hvae_spec.records import provenance
from hvae_spec.records.arrays import load_arrays, save_arrays
from hvae_spec.records.curves import Checkpointed, digests_of_rows
from hvae_spec.records.extensions import with_code
from hvae_spec.records.layout import Record, Results
from hvae_spec.records.result import Divergence, PackState, Segment, TrainingResult
from hvae_spec.records.rows import CurveDigests, EpochRow, UnitsRow
from hvae_spec.spec.cost import evaluation_macs, parameters, steps_per_epoch, training_macs
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from hvae_spec.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from hvae_spec.training.optimizer import optimizer_of
from hvae_spec.training.trainer import Trainer

CHECKPOINT_SECONDS = 1.0
"""Shortest time between checkpoints."""
CHECKPOINT_SHARE = 0.05
"""Largest share of the time that writing checkpoints may take."""
REPORT_SECONDS = 0.3
"""Shortest time between reports of progress, but for news in words."""
GOES_BACK = "the pack goes on from the one before, if there is one"
ChooseSteps = Callable[[Trainer, int], str]
"""Decides whether a trainer, which is to make so many steps, makes compiled ones (`Trainer.use`). Returns what was
found, in words. Training goes on as if nothing had been tried."""
LOCK_SECONDS = 180.0
"""How long to wait for another process that still works on the pack (a worker whose driver was killed lingers)."""


def run_pack(
    job: PackJob,
    report: ReportProgress = lambda progress: None,
    choose: ChooseSteps = lambda trainer, steps: "",
    is_ending: Callable[[], bool] = lambda: False,
) -> None:
    """Bring every member of a pack to its result, from wherever an earlier run left it.

    Args:
        job: the pack.
        report: is told of progress.
        choose: decides before the first epoch whether steps are compiled, where the pack leaves that open.
        is_ending: asked after every epoch whether the pack is to write a checkpoint and stop, or if it was the last
            one, to stop when the training is recorded.

    Raises:
        UserError: its data are missing, or its checkpoint is of other members or of another version.
        StoppedError: it has stopped before its final evaluation.

    """
    pack = Results(job.results).pack(job.pack_id)
    pack.folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            settings_kept(),
            denormals_flushed(),
            considerate(job.threads),
            filelock.FileLock(pack.lock, timeout=LOCK_SECONDS),
        ):
            PackRun(job, report, choose, is_ending).run()
        # All members have their results: nothing of the pack is needed any more.
        shutil.rmtree(pack.folder, ignore_errors=True)
    except filelock.Timeout:
        raise UserError(f"{pack.folder}: another process still works on this pack") from None


def run_one_member(job: PackJob, m: int) -> Record:
    """Train a pack and evaluate the member with index m alone. Returns its record. Raises UserError as `run_pack`."""
    with settings_kept(), denormals_flushed(), considerate(job.threads):
        run = PackRun(job)
        run.train()
        run.evaluate_members([m])
    return run.records[m]


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Within this context a pack sets what PyTorch has one of per process; after it, all is as it was: a notebook's own
    computations are none of the pack's.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Within this context denormal numbers are zero: importance weights far below the largest leave denormal gradients,
    with which products take ten times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class PackRun:
    """One run of a pack, from its checkpoint or from the start to its results."""

    def __init__(
        self,
        job: PackJob,
        report: ReportProgress = lambda progress: None,
        choose: ChooseSteps = lambda trainer, steps: "",
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        code = [folder.root for folder in job.folders]
        specs = with_code([member.spec for member in job.members], code)
        members = tuple(replace(member, spec=spec) for member, spec in zip(job.members, specs, strict=True))
        job = replace(job, members=members)
        self.job, self.report, self.choose, self.is_ending = job, report, choose, is_ending
        self.specs = [member.spec for member in job.members]
        self.records = [job.record(member) for member in job.members]
        self.first = self.specs[0]
        self.pack = Results(job.results).pack(job.pack_id)
        self.curves: list[list[EpochRow]] = [[] for _ in self.specs]
        self.units: list[list[UnitsRow]] = [[] for _ in self.specs]
        self.begun: list[int] = []
        """Indices of the members that are trained: those that were not done."""
        self.units_written: dict[int, int] = {}
        """How many rows of `units` this run has written, by the member's index."""
        self.segments: list[Segment] = []
        """Of earlier runs of this pack; this one's is made when it is written."""
        self.extended: list[TrainingResult] = []
        """The shorter trainings that the members go on from, one per member; none if they started anew."""
        self.notes: list[str] = []
        """What was found damaged and is done without."""
        self.found = ""
        """What was found of the compiled step, in words."""
        self.seconds = {"training": 0.0, "curve": 0.0}
        self.saved_at, self.save_seconds, self.reported_at = time.monotonic(), 0.0, 0.0
        self.said: set[str] = set()
        """What was reported in words."""
        self.began, self.first_epoch = provenance.now(), 1
        self.evaluated = 0
        torch.set_num_threads(job.threads)
        torch.set_float32_matmul_precision(self.first.training.matmul_precision)
        self.device = compiler.pick_device(job.device)
        self.dataset = load_dataset(self.first.data)
        for spec in self.specs:
            if spec.evaluation.probe is not None:
                # Before anything is trained.
                self.dataset.check_probe(spec.evaluation.probe.counts(self.dataset.distinct))
        keep_freed_memory()
        self.trainer: Trainer | None = None
        self.curve_evaluation = CurveEvaluation(self.first, self.dataset)

    def run(self) -> None:
        """Train what is not trained, then evaluate what is not evaluated."""
        if self.job.is_done:
            return
        if any(not _is_done(record) for record in self.records):
            self.train()
            if self.is_ending():
                raise StoppedError  # nothing is lost: the final evaluation has not begun
        self.evaluate_members()

    def train(self) -> None:
        """Bring all members to the end of their training, and write what became of it."""
        if self.job.kind == "evaluate":
            missing = next(record for record in self.records if not _is_done(record))
            raise RecordError(f"{missing.folder}: not trained, so it cannot be evaluated; run the same command again")
        self.begun = begun = [m for m, record in enumerate(self.records) if not _is_done(record)]
        trainer = self.resumed(begun) if self.job.has_checkpoint else None
        if trainer is None:
            for path in self.pack.checkpoints:
                path.unlink()
            for m in begun:
                self.records[m].begin(self.specs[m], anew=True)
            trainer = self.new_trainer()
            self.curve_evaluation = self.begun_evaluation(begun)
            if self.job.tries_compiling:
                self.choose_steps(trainer)
            if self.job.extends:
                self.extend(trainer)
            elif self.first.training.first_phase is not None:
                self.start(trainer)
        self.trainer = trainer
        self.first_epoch = trainer.epoch + 1
        epochs, every = self.first.training.epochs, self.curve_evaluation.spec.evaluation.every
        while trainer.epoch < epochs and self.alive(trainer):
            with self.timed("training"):
                rows = trainer.train_epoch()
            for curve, row in zip(self.curves, rows, strict=True):
                curve.extend([row] if row else [])
            if every and trainer.epoch % every == 0:
                self.point_of_curve(trainer)
                self.stop_early(trainer)
            self.progress("training", trainer)
            self.checkpoint(trainer)
        for m in range(len(self.specs)):
            self.record_training(trainer, m)

    def new_trainer(self) -> Trainer:
        """The members at the very start."""
        with self.timed("training"):
            return Trainer(self.specs, self.dataset, self.device, compiled=self.job.compiled)

    def choose_steps(self, trainer: Trainer) -> None:
        """Decide whether steps are compiled, and say what was found."""
        epochs = self.first.training.epochs - self.job.start_epoch
        with self.timed("training"):
            self.found = self.choose(trainer, epochs * trainer.batches.steps)
        self.job = replace(self.job, compiled=trainer.is_to_compile, tries_compiling=False)
        self.progress("training", trainer)

    def start(self, trainer: Trainer) -> None:
        """Start from the weights of the members' first phases."""
        found = (self.job.first_phase(member, self.job.folders) for member in self.job.members)
        self.start_from(trainer, [record for record in found if record is not None], is_extension=False)

    def extend(self, trainer: Trainer) -> None:
        """Go on from the shorter trainings of the same members."""
        sources = [Record(folder) for folder in self.job.extends]
        self.start_from(trainer, sources, is_extension=True)
        self.extended = [_trained(source) for source in sources]
        for m, (source, result) in enumerate(zip(sources, self.extended, strict=True)):
            # What is written here is sealed by a digest of its own, so nothing doubtful may be in it.
            curves = source.curves(result.epochs, only_whole=True)
            self.curves[m], self.units[m] = curves.epochs, curves.units
            self.notes += curves.faults

    def start_from(self, trainer: Trainer, sources: Sequence[Record], *, is_extension: bool) -> None:
        """Take weights, and for an extension the optimizer's state, from records."""
        results = [_trained(source) for source in sources]
        weights = [
            load_arrays(source.weights, result.weights_sha256) for source, result in zip(sources, results, strict=True)
        ]
        try:
            if is_extension:
                states = [
                    load_arrays(source.optimizer, result.optimizer_sha256)
                    for source, result in zip(sources, results, strict=True)
                ]
                trainer.extend(results[0].epochs, weights, states)
            else:
                trainer.start_from(weights)
        except (KeyError, RuntimeError, ValueError):
            raise CheckpointError(
                f"{sources[0].weights}: weights of another model; delete {sources[0].folder} and run its grid again to "
                "have it trained again"
            ) from None

    def resumed(self, begun: Sequence[int]) -> Trainer | None:
        """The members as the pack's latest checkpoint has them, or the one before where that is damaged. None if both
        are: then the pack starts over.

        Args:
            begun: indices of the members that are not done.

        """
        trainer = self.new_trainer()
        for path in self.pack.checkpoints:
            try:
                header = load_checkpoint(path, trainer, self.job.trainings)
                break
            except DamagedCheckpointError as error:
                path.unlink()
                self.notes.append(f"{error}; {'the pack starts over' if path == self.pack.previous else GOES_BACK}")
        else:
            return None
        self.seconds, self.segments, self.extended = dict(header.seconds), header.segments, header.extended
        compiled = header.segments[-1].compiled if header.segments else self.job.compiled
        if compiled != self.job.compiled:
            # Whatever was planned since, a pack goes on as it began.
            trainer.use(trainer.compile() if compiled else None)
        self.job = replace(self.job, compiled=compiled, tries_compiling=False)
        self.curve_evaluation = self.begun_evaluation(begun)
        for m in begun:
            record, divergence = self.records[m], trainer.divergences[m]
            measured = {"evaluation": self.curve_evaluation.spec.evaluation, "data": self.curve_evaluation.spec.data}
            record.begin(self.specs[m].model_copy(update=measured))
            last = trainer.stopping[m].stopped_epoch or trainer.epoch if divergence is None else divergence.epoch
            known = Checkpointed(last, header.curves[m] if header.curves else None)
            curves = record.curves(self.first.training.epochs, known)
            self.curves[m], self.units[m] = curves.epochs, curves.units
            self.notes += curves.faults
        return trainer

    def begun_evaluation(self, begun: Sequence[int]) -> CurveEvaluation:
        """The evaluation that the curves of the members with these indices began with: a curve goes on with its
        settings and images. It is that of the first whose spec is whole. Where images of the user's own lie is as this
        run has it, as the record may have been moved.
        """
        spec = self.specs[begun[0]] if begun else self.first
        for m in begun:
            with contextlib.suppress(RecordError):
                own = self.records[m].spec
                spec = own.model_copy(update={"data": own.data.model_copy(update={"own": self.first.data.own})})
                break
        return CurveEvaluation(spec, self.dataset_of(spec))

    def alive(self, trainer: Trainer) -> list[int]:
        """Members that have neither diverged nor been stopped early."""
        return [m for m in range(len(self.specs)) if not trainer.is_frozen(m)]

    def point_of_curve(self, trainer: Trainer) -> None:
        """Evaluate every member as it stands, and add that to its curves."""
        alive, epoch = self.alive(trainer), trainer.epoch
        for place, m in enumerate(alive):

            def report(part: float, place: int = place) -> None:
                self.progress("evaluating", trainer, (place + part) / len(alive))

            with self.timed("curve"):
                point = self.curve_evaluation.point(
                    trainer.single(m),
                    self.specs[m],
                    epoch,
                    trainer.batches,
                    compiled=self.job.compiled,
                    progress=report,
                )
            point.add_to(self.curves[m][-1])
            units = point.units_row(epoch)
            self.units[m] += [] if units is None else [units]

    def stop_early(self, trainer: Trainer) -> None:
        """Stop the members whose patience is over after a point of the curve."""
        if self.first.training.early_stopping is None:
            return
        for m in self.alive(trainer):
            bound = self.curves[m][-1]["validation_log_likelihood"]
            trainer.watch(m, math.nan if bound is None else bound)
        trainer.cut_half()

    def checkpoint(self, trainer: Trainer) -> None:
        """Write a checkpoint at the end of an epoch, if one is due. Raises StoppedError after it if the run ends."""
        is_last = trainer.epoch == self.first.training.epochs
        stops = not is_last and self.is_ending()
        due = self.job.crowd * max(CHECKPOINT_SECONDS, self.save_seconds / CHECKPOINT_SHARE)
        if is_last or stops or time.monotonic() - self.saved_at >= due:
            self.save(trainer)
        if stops:
            raise StoppedError

    def save(self, trainer: Trainer) -> None:
        """Write the curves, then the checkpoint that they lead up to."""
        start = time.monotonic()
        digests: list[CurveDigests | None] = [None] * len(self.records)
        for m in self.begun:
            curve, units = self.curves[m], self.units[m]
            is_new = self.units_written.get(m) != len(units)
            self.records[m].write_curves(curve, units if is_new else None)
            self.units_written[m] = len(units)
            digests[m] = digests_of_rows(curve, units)
        segments, seconds = self.all_segments(trainer), self.seconds
        self.pack.keep_previous()
        save_checkpoint(self.pack.checkpoint, trainer, self.job.trainings, seconds, segments, self.extended, digests)
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - start

    def all_segments(self, trainer: Trainer) -> list[Segment]:
        """The epochs of this pack so far, and with what they were trained."""
        if trainer.epoch < self.first_epoch:
            return self.segments
        return [*self.segments, self.segment(self.began, self.first_epoch, trainer.epoch)]

    def segment(self, began: str, first_epoch: int, last_epoch: int) -> Segment:
        """What this process does, as records keep it."""
        return Segment(
            first_epoch=first_epoch,
            last_epoch=last_epoch,
            command=list(self.job.command),
            versions=provenance.versions(),
            source=self.job.source,
            host=provenance.host(),
            device=self.device.type,
            device_name=compiler.device_name(self.device),
            threads=self.job.threads,
            compiled=self.job.compiled,
            started_at=began,
            finished_at=provenance.now(),
        )

    def record_training(self, trainer: Trainer, m: int) -> None:
        """Write what became of a member's training: the weights, then the result, unless it is written already."""
        record, divergence = self.records[m], trainer.divergences[m]
        if _is_done(record):
            return
        digests = record.write_curves(self.curves[m], self.units[m])
        if divergence is None:
            digests["weights_sha256"] = save_arrays(record.weights, trainer.weights(m))
            # Early stopping keeps the best weights, not the last ones, with which the optimizer would go on.
            if self.job.keep_optimizer and self.specs[m].training.early_stopping is None:
                state = optimizer_of(trainer.optimizer.state(), m)
                arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
                digests["optimizer_sha256"] = save_arrays(record.optimizer, arrays)
        record.finish(self.result(trainer, m, divergence).model_copy(update=digests))

    def result(self, trainer: Trainer, m: int, divergence: Divergence | None) -> TrainingResult:
        """A member's training in numbers."""
        member, spec = self.job.members[m], self.specs[m]
        steps = [row["ms_per_step"] for row in self.curves[m] if row["ms_per_step"] is not None]
        first = spec.first_phase
        before = self.extended[m] if self.extended else None
        stopping = trainer.stopping[m]
        epochs = stopping.stopped_epoch or trainer.epoch
        segments = [one for one in self.all_segments(trainer) if one.first_epoch <= epochs]
        earlier = (before.training_seconds or 0.0, before.curve_seconds or 0.0) if before else (0.0, 0.0)
        return TrainingResult(
            digest=member.digests.training,
            trajectory=member.digests.trajectory,
            status="trained" if divergence is None else "diverged",
            divergence=divergence,
            parameters=parameters(spec, self.dataset.pixels),
            epochs=epochs,
            best_epoch=stopping.best_epoch,
            stopped_epoch=stopping.stopped_epoch,
            steps=epochs * steps_per_epoch(spec, len(self.dataset.train)),
            training_seconds=earlier[0] + self.seconds["training"],
            curve_seconds=earlier[1] + self.seconds["curve"],
            ms_per_step=sum(steps) / len(steps) if steps else None,
            matmul_precision=spec.training.matmul_precision,
            pack=PackState(
                id=self.job.pack_id,
                trainings=self.job.trainings,
                threads=self.job.threads,
                compiled=trainer.compiled is not None,
            ),
            data=data_state(self.dataset, spec.data.validation),
            continues=None if first is None else first.digests.training,
            extended_from=None if before is None else before.digest,
            segments=[
                *([] if before is None else before.segments),
                *(one.model_copy(update={"last_epoch": min(one.last_epoch, epochs)}) for one in segments),
            ],
            finished_at=provenance.now(),
        )

    def evaluate_members(self, only: Sequence[int] | None = None) -> None:
        """Evaluate every trained member that has no result yet, or of those only the ones with these indices.

        Raises:
            RecordError: weights of members are missing or damaged. All others are evaluated.

        """
        if self.trainer is None:
            batches = compiler.batches(self.first, self.dataset, self.device)
        else:
            batches = self.trainer.batches
            self.trainer = None  # what training held of a GPU's memory is the evaluation's now
        damaged = []
        for m, (member, record) in enumerate(zip(self.job.members, self.records, strict=True)):
            if self.job.status(member) in ("trained", "failed") and (only is None or m in only):
                try:
                    self.evaluate_member(member, record, batches)
                except RecordError as error:  # the other members are none the worse for it
                    damaged.append(str(error))
            self.evaluated += 1
        if damaged:
            raise RecordError("; ".join(damaged))

    def evaluate_member(self, member: Member, record: Record, batches: Batches) -> None:
        """The final evaluation of one member."""
        epochs = _trained(record).epochs
        evaluation = MemberEvaluation(
            member,
            record,
            self.dataset_of(member.spec),
            batches,
            compiled=self.job.compiled,
            progress=lambda part: self.progress("evaluating", None, (self.evaluated + part) / len(self.specs)),
        )
        evaluation.run(lambda began: self.segment(began, epochs, epochs))

    def dataset_of(self, spec: MemberSpec) -> Dataset:
        """The data set of a spec. Other members of a pack that has begun may be measured on other test images."""
        return self.dataset if spec.data == self.first.data else load_dataset(spec.data)

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that is spent within to what it is spent on."""
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start

    def done(self, epoch: int, evaluated: float) -> float:
        """Fraction of the pack's multiply-adds, with this fraction of its members evaluated."""
        epochs, start = self.first.training.epochs, self.job.start_epoch
        counts = self.dataset.counts
        training, final = training_macs(self.first, counts), evaluation_macs(self.first, counts)
        training *= 0 if self.job.kind == "evaluate" else (epochs - start) / epochs
        trained = (epoch - start) / max(1, epochs - start)
        return (training * trained + final * evaluated) / (training + final)

    def progress(self, phase: Literal["training", "evaluating"], trainer: Trainer | None, part: float = 0.0) -> None:
        """Report progress, at most a few times per second, and at once what there is to say in words."""
        now = time.monotonic()
        diverged = () if trainer is None else tuple(self.diverged_in_words(trainer))
        stopped = () if trainer is None else tuple(self.stopped_in_words(trainer))
        words = {*diverged, *stopped, *self.notes, self.found} - {""}
        if self.reported_at and now - self.reported_at < REPORT_SECONDS * self.job.crowd and words <= self.said:
            return
        self.reported_at = now
        self.said |= words
        alive = range(len(self.specs)) if trainer is None else self.alive(trainer)
        last = [self.curves[m][-1] for m in alive if self.curves[m]]
        bounds = [row["train_bound"] for row in last if row["train_bound"] is not None]
        epochs = self.first.training.epochs
        epoch = epochs if trainer is None else trainer.epoch
        self.report(
            Progress(
                self.job.pack_id,
                phase,
                epoch,
                epochs,
                tuple(sorted({cast(float, row["beta"]) for row in last})),
                sum(bounds) / len(bounds) if bounds else math.nan,
                (last[0]["ms_per_step"] or math.nan) if last else math.nan,
                self.done(epoch, part if trainer is None else 0.0),
                diverged,
                tuple(self.notes),
                stopped,
                self.found,
                trainer is None,
                tuple(self.last_bound(m) if m in alive else math.nan for m in range(len(self.specs))),
            )
        )

    def last_bound(self, m: int) -> float:
        """A member's training bound in its last epoch; NaN if there is none."""
        bound = self.curves[m][-1]["train_bound"] if self.curves[m] else None
        return math.nan if bound is None else bound

    def diverged_in_words(self, trainer: Trainer) -> Iterator[str]:
        """Which members have diverged, when, and at which quantity."""
        for member, divergence in zip(self.job.members, trainer.divergences, strict=True):
            if divergence is not None:
                yield f"{member.folder} diverged in epoch {divergence.epoch} ({divergence.quantity})"

    def stopped_in_words(self, trainer: Trainer) -> Iterator[str]:
        """Which members early stopping has stopped, when, and whose weights it kept."""
        for member, stopping in zip(self.job.members, trainer.stopping, strict=True):
            if stopping.stopped_epoch is not None:
                yield f"{member.folder} stopped in epoch {stopping.stopped_epoch} (best in epoch {stopping.best_epoch})"


def _is_done(record: Record) -> bool:
    """Whether a training has ended in a result that stands. One that is damaged is left alone, too."""
    try:
        training = record.training
    except RecordError:
        return True
    return training is not None and training.status != "failed"


def _trained(record: Record) -> TrainingResult:
    """The result of a training that another one starts from. Raises RecordError if it is not trained."""
    training = record.training
    if training is None or training.status != "trained":
        raise RecordError(f"{record.folder}: not trained, so no training can start from it; run the same command again")
    return training

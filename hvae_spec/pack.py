"""The life of a pack: train its members, evaluate them along the way and at the end, checkpoint, resume, record.

No scheduler here: `tune` calls `run_pack` in this process or in a Ray worker.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import filelock
import torch
from safetensors.torch import save

from hvae_spec import compiler
from hvae_spec.backend.memory import keep_freed_memory
from hvae_spec.data.batches import draw_once
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import CheckpointError, UserError
from hvae_spec.evaluate.evaluation import Evaluation, evaluate, kl_to_standard_normal, record_statistics
from hvae_spec.evaluate.gallery import gallery
from hvae_spec.evaluate.log_weights import WORTH_COMPILING
from hvae_spec.pack_job import PackJob, Progress, Report
from hvae_spec.records import provenance
from hvae_spec.records.files import write_atomically
from hvae_spec.records.gallery_file import GALLERY
from hvae_spec.records.layout import DONE, Record, Results
from hvae_spec.spec.cost import evaluation_products, parameters, steps_per_epoch, training_products
from hvae_spec.train.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from hvae_spec.train.trainer import Divergence, Trainer

CHECKPOINT_SECONDS = 1.0
"""Shortest time between checkpoints."""
CHECKPOINT_SHARE = 0.05
"""Largest share of the time that writing checkpoints may take."""
REPORT_SECONDS = 0.3
"""Shortest time between reports of progress."""
LOCK_SECONDS = 180.0
"""How long to wait for another process that still works on the pack (a worker whose driver was killed lingers)."""


def run_pack(job: PackJob, report: Report = lambda progress: None) -> None:
    """Bring every member of a pack to its result, from wherever an earlier run left it.

    Raises:
        UserError: its data are missing, or its checkpoint is damaged.

    """
    folder = Results(job.results).pack(job.pack_id)
    folder.mkdir(parents=True, exist_ok=True)
    # Importance weights far below the largest leave denormal gradients, with which products take ten times as long.
    torch.set_flush_denormal(True)
    try:
        with filelock.FileLock(folder / "lock", timeout=LOCK_SECONDS):
            _Life(job, report).run()
        # All members have their results: nothing of the pack is needed any more.
        shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout:
        raise UserError(f"{folder}: another process still works on this pack") from None
    finally:
        torch.set_flush_denormal(False)


class _Life:
    """One run of a pack, from its checkpoint or from the start to its results."""

    def __init__(self, job: PackJob, report: Report) -> None:
        self.job, self.report = job, report
        self.results = Results(job.results)
        self.specs = [member.spec for member in job.members]
        self.digests = [member.digest for member in job.members]
        self.records = [member.record(self.results) for member in job.members]
        self.first = self.specs[0]
        self.checkpoint = self.results.pack(job.pack_id) / "checkpoint.safetensors"
        self.curves: list[list[dict[str, Any]]] = [[] for _ in self.specs]
        self.units: list[list[dict[str, Any]]] = [[] for _ in self.specs]
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self.saved_at, self.save_seconds = time.monotonic(), 0.0
        self.reported_at = 0.0

    def run(self) -> None:
        if all(record.status in DONE for record in self.records):
            return
        torch.set_num_threads(self.job.threads)
        device = compiler.pick_device(self.job.device)
        torch.set_float32_matmul_precision(self.first.training.matmul_precision)
        self.dataset = load_dataset(self.first.data)
        keep_freed_memory()
        with self.timed("training"):
            self.trainer = Trainer(self.specs, self.dataset, device, compiled=self.job.compiled)
        self.test = draw_once(self.dataset, "test", self.first.model.observation)
        for record, spec in zip(self.records, self.specs, strict=True):
            record.begin(spec)
        if self.checkpoint.exists():
            self.resume()
        elif self.first.first_phase is not None:
            self.start()
        self.train()
        self.conclude()

    def start(self) -> None:
        """Start from the weights of the members' first phases."""
        found = (self.job.first_phase(member, self.job.folders) for member in self.job.members)
        firsts = [first for first in found if first is not None]
        try:
            self.trainer.start_from([load_weights(first.weights) for first in firsts])
        except (KeyError, RuntimeError):
            raise CheckpointError(
                f"{firsts[0].weights}: weights of another model, or of an earlier version, which laid them out "
                "differently; delete the first phase's folder and run its grid again to have it trained anew"
            ) from None

    def resume(self) -> None:
        self.seconds = load_checkpoint(self.checkpoint, self.trainer, self.digests)["seconds"]
        for member, record in enumerate(self.records):
            # Curves are written before their checkpoint, so they may be ahead of it.
            self.curves[member] = [row for row in record.epochs if row["epoch"] <= self.trainer.epoch]
            self.units[member] = [row for row in record.units if row["epoch"] <= self.trainer.epoch]

    def train(self) -> None:
        epochs, every = self.first.training.epochs, self.first.evaluation.every
        while self.trainer.epoch < epochs and self.alive():
            with self.timed("training"):
                rows = self.trainer.train_epoch()
            for curve, row in zip(self.curves, rows, strict=True):
                curve.extend([row] if row else [])
            epoch = self.trainer.epoch
            if every and epoch % every == 0 and epoch < epochs:
                self.point_of_test_curve()
            self.tell("training", 0.0)
            due = max(CHECKPOINT_SECONDS, self.save_seconds / CHECKPOINT_SHARE)
            if epoch == epochs or time.monotonic() - self.saved_at >= due:
                self.save()

    def alive(self) -> list[int]:
        """Members that have not diverged."""
        return [member for member, divergence in enumerate(self.trainer.divergences) if divergence is None]

    def point_of_test_curve(self) -> None:
        """Evaluate every member on the test set with the K of the curve."""
        for member in self.alive():
            evaluation = self.evaluate(member, self.first.evaluation.curve_iw_samples)
            self.note(member, evaluation)

    def evaluate(self, member: int, iw_samples: int) -> Evaluation:
        """Evaluate one member as it stands, with batch-norm statistics recomputed."""
        spec, settings, alive = self.specs[member], self.first.evaluation, self.alive()
        with self.timed("evaluation"):
            model = compiler.select(self.trainer.model, spec.model, member)
            method, epoch = settings.batch_norm_statistics, self.trainer.epoch
            record_statistics(model, self.trainer.batches, spec.seed, epoch, method)
            self.evaluated = model
            return evaluate(
                model,
                self.test,
                iw_samples,
                seed=spec.seed,
                epoch=epoch,
                memory_gib=settings.memory_gib,
                compiled=self.job.compiled and iw_samples * len(self.test) >= WORTH_COMPILING,
                progress=lambda part: self.tell("evaluating", (alive.index(member) + part) / len(alive)),
            )

    def note(self, member: int, evaluation: Evaluation) -> None:
        """Add an evaluation to the member's curves."""
        self.curves[member][-1].update(
            test_elbo=float(evaluation.elbo.mean()),
            test_log_likelihood=float(evaluation.log_likelihood.mean()),
            test_iw_samples=evaluation.iw_samples,
            active_units=sum(evaluation.active_units),
        )
        units = {"kl": [kl.tolist() for kl in evaluation.kl], "kl_se": [se.tolist() for se in evaluation.kl_se]}
        self.units[member].append({"epoch": self.trainer.epoch, **units})

    def save(self) -> None:
        """Write the curves, then the checkpoint that they lead up to."""
        start = time.monotonic()
        self.write_curves()
        save_checkpoint(self.checkpoint, self.trainer, self.digests, {"seconds": self.seconds})
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - start

    def write_curves(self) -> None:
        for record, curve, units in zip(self.records, self.curves, self.units, strict=True):
            if record.status not in DONE:
                record.write_curves(curve, units)

    def conclude(self) -> None:
        """Final evaluation and result of every member that has none yet."""
        for member, record in enumerate(self.records):
            if record.status in DONE:
                continue
            if self.trainer.divergences[member] is None:
                self.finish(member, record)
            else:
                self.diverge(member, record)

    def diverge(self, member: int, record: Record) -> None:
        """Record a member as diverged."""
        record.write_curves(self.curves[member], self.units[member])
        record.finish(self.result(member, "diverged"))

    def finish(self, member: int, record: Record) -> None:
        """Evaluate a trained member with the full K and write its record, the result last."""
        before = self.seconds["evaluation"]
        evaluation = self.evaluate(member, self.first.evaluation.iw_samples)
        if record.status in DONE:
            return
        if not bool(evaluation.log_likelihood.isfinite().all()):
            # The last update, or what the test set meets, may be what breaks a member.
            epoch, steps = self.trainer.epoch, self.trainer.batches.steps
            self.trainer.divergences[member] = Divergence(epoch, steps, "test log-likelihood")
            self.diverge(member, record)
            return
        self.note(member, evaluation)
        record.write_curves(self.curves[member], self.units[member])
        save_weights(record.weights, self.evaluated.state_dict())
        per_image = {
            "test_log_likelihood": evaluation.log_likelihood,
            "test_elbo": evaluation.elbo,
            "effective_sample_size": evaluation.effective_sample_size,
        }
        write_atomically(record.folder / "test.safetensors", save(per_image))
        with self.timed("evaluation"):
            seed, epoch, memory = self.specs[member].seed, self.trainer.epoch, self.first.evaluation.memory_gib
            normality = kl_to_standard_normal(self.evaluated, self.test, seed=seed, epoch=epoch, memory_gib=memory)
            labels = torch.from_numpy(self.dataset.test_labels)
            write_atomically(record.folder / GALLERY, save(gallery(self.evaluated, self.test, labels, seed, epoch)))
        metrics = {
            "test_log_likelihood": float(evaluation.log_likelihood.mean()),
            "test_log_likelihood_se": evaluation.log_likelihood_se,
            "test_log_likelihood_mc_se": evaluation.log_likelihood_mc_se,
            "test_elbo": float(evaluation.elbo.mean()),
            "test_elbo_se": evaluation.elbo_se,
            "iw_samples": evaluation.iw_samples,
            "effective_sample_size": float(evaluation.effective_sample_size.mean()),
            "active_units": sum(evaluation.active_units),
            "active_units_per_layer": evaluation.active_units,
            "kl_per_layer": [float(kl.sum()) for kl in evaluation.kl],
            "kl_standard_normal_per_layer": normality,
            "bound_by_samples": evaluation.bound_by_samples,
            "final_evaluation_seconds": self.seconds["evaluation"] - before,
        }
        record.finish(self.result(member, "finished") | metrics)

    def result(self, member: int, status: str) -> dict[str, Any]:
        """What every result tells, whatever its status."""
        divergence = self.trainer.divergences[member]
        spec, rows, first = self.specs[member], self.curves[member], self.specs[member].first_phase
        steps = [row["ms_per_step"] for row in rows if row["ms_per_step"] is not None]
        device = self.trainer.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor()
        return {
            "digest": self.digests[member],
            "labels": self.job.members[member].labels,
            "status": status,
            "divergence": None if divergence is None else vars(divergence),
            "failure": None,
            "parameters": parameters(spec, self.dataset.pixels),
            "continues": None if first is None else first.digest,
            "epochs": self.trainer.epoch,
            "steps": self.trainer.epoch * steps_per_epoch(spec, len(self.dataset.train)),
            "training_seconds": self.seconds["training"],
            "evaluation_seconds": self.seconds["evaluation"],
            "wall_seconds": self.seconds["training"] + self.seconds["evaluation"],
            "ms_per_step": sum(steps) / len(steps) if steps else math.nan,
            "pack": {
                "id": self.job.pack_id,
                "members": len(self.specs),
                "threads": self.job.threads,
                "compiled": self.trainer.compiled is not None,
            },
            "device": device.type,
            "device_name": name,
            "matmul_precision": self.first.training.matmul_precision,
            "data": {
                "dataset": self.dataset.name,
                "sha256": self.dataset.sha256,
                "canonical": self.dataset.canonical,
                "shape": list(self.dataset.shape),
                "train_images": len(self.dataset.train),
                "test_images": len(self.dataset.test),
            },
            "versions": provenance.versions(),
            "git": self.job.git,
            "host": provenance.host(),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start

    def done(self, evaluated: float) -> float:
        """Fraction of the pack's multiply-adds, with this fraction of its members evaluated."""
        counts = self.dataset.counts
        training, final = training_products(self.first, counts), evaluation_products(self.first, counts)
        trained = self.trainer.epoch / self.first.training.epochs
        is_final = self.trainer.epoch == self.first.training.epochs
        return (training * trained + (final * evaluated if is_final else 0)) / (training + final)

    def tell(self, phase: str, evaluated: float) -> None:
        """Report progress, at most a few times a second."""
        now = time.monotonic()
        if now - self.reported_at < REPORT_SECONDS and self.reported_at:
            return
        self.reported_at = now
        last = [self.curves[member][-1] for member in self.alive() if self.curves[member]]
        bounds = [row["train_bound"] for row in last]
        self.report(
            Progress(
                self.job.pack_id,
                phase,
                self.trainer.epoch,
                self.first.training.epochs,
                tuple(sorted({row["beta"] for row in last})),
                sum(bounds) / len(bounds) if bounds else math.nan,
                last[0]["ms_per_step"] if last else math.nan,
                self.done(evaluated),
                tuple(self.diverged_in_words()),
            )
        )

    def diverged_in_words(self) -> Sequence[str]:
        told = zip(self.job.members, self.trainer.divergences, strict=True)
        return [
            f"{member.folder} diverged in epoch {divergence.epoch} ({divergence.quantity})"
            for member, divergence in told
            if divergence is not None
        ]

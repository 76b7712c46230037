"""The final evaluation of a trained member, from its record alone: everything that is measured, and what is kept of it.

Right after training and at any later time it is this one way, from the stored weights, so that both give the same.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from hvae_spec import compiler
from hvae_spec.data.batches import Batches, draw_once, redraw
from hvae_spec.data.dataset import Dataset
from hvae_spec.errors import RecordError
from hvae_spec.evaluate.ais import AnnealedBounds, ais
from hvae_spec.evaluate.classify import Classified, classify, true_classes
from hvae_spec.evaluate.evaluation import (
    Evaluation,
    evaluate,
    kl_to_standard_normal,
    record_statistics,
    standard_error,
)
from hvae_spec.evaluate.gallery import gallery
from hvae_spec.evaluate.log_weights import WORTH_COMPILING
from hvae_spec.evaluate.probe import Labeled, Probe, probe
from hvae_spec.evaluate.redraws import redraw_variance
from hvae_spec.evaluate.refine import Refined, refine
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.random import stream_seed
from hvae_spec.probing import DRAWS
from hvae_spec.records.arrays import Arrays, load_arrays, save_arrays
from hvae_spec.records.layout import GALLERY, OWN_LOST, STATISTICS, TEST, EvaluationRecord, Record
from hvae_spec.records.provenance import now
from hvae_spec.records.result import (
    AisResult,
    ClassificationResult,
    DataState,
    Divergence,
    EvaluationResult,
    ProbeAccuracy,
    ProbeResult,
    RefinedBounds,
    RefineResult,
    Segment,
    TrainingResult,
)
from hvae_spec.refinement import Descent
from hvae_spec.spec.choices.dataset import INTENSITIES
from hvae_spec.spec.cost import curve_images, evaluated_images, evaluation_parts
from hvae_spec.spec.evaluation import RefineSpec
from hvae_spec.spec.experiment import EVALUATION_VERSION, MemberSpec
from hvae_spec.spec.grid import Member


def data_state(dataset: Dataset, validation: int) -> DataState:
    """What a record says of its images, of which so many are a validation set."""
    return DataState(
        dataset=dataset.name,
        train_sha256=dataset.train_sha256,
        test_sha256=dataset.test_sha256,
        canonical=dataset.canonical,
        shape=dataset.shape,
        train_images=len(dataset.train),
        test_images=len(dataset.test),
        validation_images=validation,
        training_maximum=None if dataset.levels == INTENSITIES else int(dataset.train.max()),
        levels=None if dataset.train.dtype.kind == "f" else dataset.levels,
        classes={str(label): name for label, name in dataset.classes.items() if name != str(label)},
    )


def load_model(record: Record, training: TrainingResult, pixels: int, device: torch.device) -> Hierarchy:
    """The trained model of a record, whose batch-norm statistics are still to come.

    Raises:
        RecordError: its weights are missing, damaged, or those of another model.

    """
    spec = record.spec
    weights = load_arrays(record.weights, training.weights_sha256, OWN_LOST if spec.own_weights else "")
    try:
        return compiler.with_weights(spec, pixels, weights).to(device).eval()
    except (KeyError, RuntimeError):
        raise RecordError(
            f"{record.weights}: weights of another model than {record.folder.name}/spec.yaml; delete {record.folder} "
            "to have the member trained again"
        ) from None


def stored_statistics(record: Record, method: str, train_sha256: str) -> Arrays | None:
    """The batch-norm statistics of an earlier evaluation of the same weights that were recorded in the same way, from
    the same images and by this version of the evaluation; None if there are none, or none that are whole.
    """
    for path in sorted(record.folder.glob(f"evaluations/*/{STATISTICS}")):
        evaluation = EvaluationRecord(path.parent)
        with contextlib.suppress(RecordError):
            result = evaluation.result
            if (
                result is not None
                and result.estimator == EVALUATION_VERSION
                and result.batch_norm_statistics == method
                and result.data is not None
                and result.data.train_sha256 == train_sha256
            ):
                return load_arrays(path, result.arrays_sha256.get(STATISTICS), evaluation.again)
    return None


@dataclass(frozen=True)
class MemberEvaluation:
    """The evaluation of one member.

    Args:
        member: the member; its record is trained.
        record: its record.
        dataset: its images.
        batches: its training set, for batch-norm statistics.
        compiled: whether long evaluations are compiled.
        progress: called with the fraction done.

    """

    member: Member
    record: Record
    dataset: Dataset
    batches: Batches
    compiled: bool = False
    progress: Callable[[float], None] = lambda done: None

    def run(self, segment: Callable[[str], Segment]) -> EvaluationResult:
        """Evaluate the member and write the evaluation's folder, the result last.

        Args:
            segment: from the time at which the evaluation began, with what it was made.

        Raises:
            RecordError: the weights are missing or damaged.

        """
        began, start = now(), time.perf_counter()
        training = self.record.training
        if training is None or training.status != "trained":
            raise RecordError(f"{self.record.folder}: not trained, so there is nothing to evaluate")
        spec, settings = self.member.spec, self.member.spec.evaluation
        target = self.record.evaluation(self.member.digests.evaluation)
        model = load_model(self.record, training, self.dataset.pixels, self.batches.images.device)
        statistics = self._statistics(model, target, training.epochs)
        x = draw_once(self.dataset, "test", spec.model.observation_name)
        classification = self._classified(model, x)
        common: dict[str, Any] = {
            "digest": self.member.digests.evaluation,
            "training": self.member.digests.training,
            "estimator": EVALUATION_VERSION,
            "labels": self.member.labels,
            "batch_norm_statistics": settings.batch_norm_statistics if statistics else None,
            "data": data_state(self.dataset, spec.data.validation),
            "classification": classification,
        }
        is_named = classification is not None or not spec.classes
        alone = spec.classifies_alone
        evaluation = None if alone or not is_named else self._evaluate(model, x, training.epochs)
        if alone and is_named:
            result = EvaluationResult(status="finished", arrays_sha256=statistics, **common)
        elif evaluation is None or not bool(evaluation.log_likelihood.isfinite().all()):
            # The last update, or what the test set meets, may be what breaks a member.
            quantity = "test log-likelihood" if is_named else "log q(y|x) of test images"
            divergence = Divergence(epoch=training.epochs, step=training.steps or 0, quantity=quantity)
            common["classification"] = None
            result = EvaluationResult(status="diverged", divergence=divergence, arrays_sha256=statistics, **common)
        else:
            validation = self._on_validation(model, training.epochs)
            per_image = {
                "test_log_likelihood": evaluation.log_likelihood,
                "test_elbo": evaluation.elbo,
                "effective_sample_size": evaluation.effective_sample_size,
            }
            over_redraws = self._over_redraws(model, training.epochs)
            annealed = None
            if settings.ais is not None:
                annealed = ais(
                    model,
                    x[: settings.ais.images],
                    chains=settings.ais.chains,
                    steps=settings.ais.steps,
                    seed=spec.seed,
                    epoch=training.epochs,
                    memory_gib=settings.memory_gib,
                    progress=self._progress("ais"),
                )
                per_image |= {
                    "ais_log_likelihood": annealed.log_likelihood,
                    "ais_simulated_lower": annealed.simulated_lower,
                    "ais_simulated_upper": annealed.simulated_upper,
                }
            refined = self._refined(model, x, training.epochs)
            for run in refined:
                name = "-".join(map(str, run.layers))
                per_image |= {
                    f"refined_log_likelihood/{name}": run.log_likelihood,
                    f"refined_elbo/{name}": run.elbo,
                    "refine_log_likelihood": run.amortized_log_likelihood,
                    "refine_elbo": run.amortized_elbo,
                }
            labels = torch.from_numpy(self.dataset.test_labels)
            normality = kl_to_standard_normal(model, x, seed=spec.seed, epoch=training.epochs)
            arrays = {TEST: save(per_image), GALLERY: save(gallery(model, x, labels, spec.seed, training.epochs))}
            digests = {name: target.write_array(name, content) for name, content in arrays.items()}
            result = EvaluationResult(
                status="finished",
                kl_standard_normal_per_layer=list(normality),
                arrays_sha256={**statistics, **digests},
                ais=None if annealed is None else annealed_metrics(annealed, evaluation),
                refine=refined_metrics(refined, settings.refine),
                probe=self._probed(model, x, training.epochs),
                **metrics(evaluation),
                **validation,
                **({} if validation else self._on_curve_images(evaluation, "test")),
                **over_redraws,
                **common,
            )
        done = {
            "evaluation_seconds": time.perf_counter() - start,
            "segment": segment(began),
            "finished_at": now(),
        }
        result = result.model_copy(update=done)
        target.finish(result)
        return result

    def _classified(self, model: Hierarchy, x: Tensor) -> ClassificationResult | None:
        """How well q(y|x) names the classes of the test images x and of the validation set, as a result has it; None
        without classes, or where it is not a number.
        """
        dataset, spec = self.dataset, self.member.spec
        if not spec.classes:
            return None

        def classified(x: Tensor, part: Literal["validation", "test"]) -> Classified | None:
            classes = true_classes(dataset, part)
            return None if classes is None else classify(model, x, classes)

        test, validation = classified(x, "test"), None
        if spec.data.validation:
            validation = classified(draw_once(dataset, "validation", spec.model.observation_name), "validation")
        return None if test is None else classification_metrics(test, validation, spec.classes)

    def _on_validation(self, model: Hierarchy, epoch: int) -> dict[str, Any]:
        """The bounds on the validation set, as a result has them; empty where there is none."""
        if not self.member.spec.data.validation:
            return {}
        x = draw_once(self.dataset, "validation", self.member.spec.model.observation_name)
        seed = stream_seed(self.member.spec.seed, "validation", epoch)
        found = self._evaluate(model, x, epoch, len(self.dataset.test), seed)
        return {
            "validation_log_likelihood": _finite(float(found.log_likelihood.mean())),
            "validation_log_likelihood_se": _finite(found.log_likelihood_se),
            "validation_log_likelihood_mc_se": _finite(found.log_likelihood_mc_se),
            "validation_elbo": _finite(float(found.elbo.mean())),
            "validation_elbo_se": _finite(found.elbo_se),
            **self._on_curve_images(found, "validation"),
        }

    def _on_curve_images(self, evaluation: Evaluation, part: Literal["test", "validation"]) -> dict[str, Any]:
        """The bound on the images of the curve that the training has, where these are fewer."""
        curve, images = self.record.spec, len(evaluation.log_likelihood)
        most = curve.data.test_images if part == "test" else None
        shown = curve_images(curve, min(images, most or images))
        if curve.evaluation.every is None or shown == images:
            return {}
        bound = _finite(float(evaluation.log_likelihood[:shown].mean()))
        return {f"curve_{part}_log_likelihood": bound, f"curve_{part}_images": shown}

    def _progress(self, part: str) -> Callable[[float], None]:
        """What is told how much of a part of the evaluation is done (`evaluation_parts`)."""
        costs = evaluation_parts(self.member.spec, self.dataset.counts)
        before = sum(costs[name] for name in takewhile(lambda name: name != part, costs))
        total = sum(costs.values())
        return lambda done: self.progress((before + costs[part] * done) / total)

    def _refined(self, model: Hierarchy, x: Tensor, epoch: int) -> list[Refined]:
        """The bounds of the first test images after their encodings have been refined; empty if not asked for."""
        spec = self.member.spec
        settings = spec.evaluation.refine
        if settings is None:
            return []
        return refine(
            model,
            x[: settings.images],
            Descent(settings.steps, settings.lr),
            spec.evaluation.iw_samples,
            seed=spec.seed,
            epoch=epoch,
            memory_gib=spec.evaluation.memory_gib,
            progress=self._progress("refine"),
        )

    def _probed(self, model: Hierarchy, x: Tensor, epoch: int) -> ProbeResult | None:
        """What linear probes tell of every layer; None where they are not asked for."""
        spec, dataset = self.member.spec, self.dataset
        settings = spec.evaluation.probe
        if settings is None:
            return None
        # Copies of an image are one image, whose label is known once.
        counts = settings.counts(dataset.distinct)
        dataset.check_probe(counts)
        classes = dataset.train_labels[: dataset.distinct]
        train = Labeled(draw_once(dataset, "train", spec.model.observation_name)[: dataset.distinct], classes)
        test = Labeled(x, dataset.test_labels)
        progress = self._progress("probe")
        probes = probe(model, train, test, counts, seed=spec.seed, epoch=epoch, progress=progress)
        return probed_metrics(probes, spec, classes, dataset.test_labels)

    def _evaluate(self, model: Hierarchy, x: Tensor, epoch: int, done: int = 0, seed: int | None = None) -> Evaluation:
        """The bound on images, after so many images of this member's evaluation, with noise from its own seed or from
        another one.
        """
        settings, images = self.member.spec.evaluation, evaluated_images(self.member.spec, self.dataset.counts)
        progress = self._progress("bounds")
        return evaluate(
            model,
            x,
            settings.iw_samples,
            seed=self.member.spec.seed if seed is None else seed,
            epoch=epoch,
            memory_gib=settings.memory_gib,
            compiled=self.compiled and settings.iw_samples * len(self.dataset.test) >= WORTH_COMPILING,
            progress=lambda part: progress((done + part * len(x)) / images),
        )

    def _over_redraws(self, model: Hierarchy, epoch: int) -> dict[str, Any]:
        """How the bound varies over draws of the test images, as a result has it; empty where that is not measured."""
        spec = self.member.spec
        redraws, observation = spec.redraws, spec.model.observation_name
        if redraws is None:
            return {}
        bounds, done = [], len(self.dataset.test) + spec.data.validation
        for number in range(0 if self.dataset.is_binary else redraws.draws):
            x = redraw(self.dataset, redraws.images, observation, number)
            bounds.append(self._evaluate(model, x, epoch, done).log_likelihood)
            done += len(x)
        variance, se = redraw_variance(torch.stack(bounds)) if bounds else (0.0, 0.0)
        return {
            "test_log_likelihood_redraw_variance": _finite(variance),
            "test_log_likelihood_redraw_variance_se": _finite(se),
        }

    def _statistics(self, model: Hierarchy, target: EvaluationRecord, epoch: int) -> dict[str, str]:
        """Give a model its batch-norm statistics, those of an earlier evaluation where they are the same, and keep them
        with this one. Returns the digest of the file by its name; empty without batch normalization.
        """
        spec = self.member.spec
        if not compiler.statistics_of(model):
            return {}
        method = spec.evaluation.batch_norm_statistics
        earlier = stored_statistics(self.record, method, self.dataset.train_sha256)
        if earlier is None:
            record_statistics(model, self.batches, spec.seed, epoch, method)
        else:
            compiler.set_statistics(model, earlier)
        return {STATISTICS: save_arrays(target.statistics, compiler.statistics_of(model))}


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as a result has it."""
    by_variance = evaluation.active_units_by_variance
    return {
        "test_log_likelihood": float(evaluation.log_likelihood.mean()),
        "test_log_likelihood_se": _finite(evaluation.log_likelihood_se),
        "test_log_likelihood_mc_se": _finite(evaluation.log_likelihood_mc_se),
        "test_elbo": float(evaluation.elbo.mean()),
        "test_elbo_se": _finite(evaluation.elbo_se),
        "iw_samples": evaluation.iw_samples,
        "effective_sample_size": float(evaluation.effective_sample_size.mean()),
        "active_units": total(evaluation.active_units),
        "active_units_per_layer": evaluation.active_units,
        "active_units_by_variance": None if by_variance is None else sum(by_variance),
        "active_units_by_variance_per_layer": by_variance,
        "kl_per_layer": [float(kl.sum()) for kl in evaluation.kl],
        "auxiliary_nats": None if evaluation.auxiliary is None else _finite(evaluation.auxiliary),
        "bound_by_samples": {
            samples: (bound, _finite(mc_se)) for samples, (bound, mc_se) in evaluation.bound_by_samples.items()
        },
        "unit_kl": [kl.tolist() for kl in evaluation.kl],
        "unit_kl_se": [se.tolist() for se in evaluation.kl_se],
    }


def total(per_layer: Sequence[int | None]) -> int | None:
    """The sum over layers; None where that of one is not known."""
    known = [count for count in per_layer if count is not None]
    return sum(known) if len(known) == len(per_layer) else None


def annealed_metrics(annealed: AnnealedBounds, evaluation: Evaluation) -> AisResult:
    """AIS on the first images of an evaluation, as a result has it."""
    images = len(annealed.log_likelihood)
    bound = evaluation.log_likelihood[:images]
    return AisResult(
        images=images,
        chains=annealed.chains,
        steps=annealed.steps,
        log_likelihood=_finite(float(annealed.log_likelihood.mean())),
        log_likelihood_se=_finite(annealed.log_likelihood_se),
        log_likelihood_mc_se=_finite(annealed.log_likelihood_mc_se),
        bound=float(bound.mean()),
        difference_se=_finite(standard_error(annealed.log_likelihood - bound)),
        gap=_finite(annealed.gap),
        gap_se=_finite(annealed.gap_se),
        acceptance=_finite(annealed.acceptance),
    )


def refined_metrics(runs: Sequence[Refined], settings: RefineSpec | None) -> RefineResult | None:
    """Refinements of the first test images, as a result has them; None where they are not asked for."""
    if settings is None:
        return None
    bound, elbo = runs[0].amortized_log_likelihood, runs[0].amortized_elbo
    found = [
        RefinedBounds(
            layers=list(run.layers),
            log_likelihood=_finite(float(run.log_likelihood.mean())),
            difference_se=_finite(standard_error(run.log_likelihood - bound)),
            elbo=_finite(float(run.elbo.mean())),
            elbo_difference_se=_finite(standard_error(run.elbo - elbo)),
        )
        for run in runs
    ]
    return RefineResult(
        images=len(bound),
        steps=settings.steps,
        lr=settings.lr,
        bound=float(bound.mean()),
        elbo=float(elbo.mean()),
        runs=found,
    )


def probed_metrics(
    probes: Sequence[Probe], spec: MemberSpec, classes: NDArray[np.int64], test: NDArray[np.int64]
) -> ProbeResult:
    """Linear probes as a member's result has them, with the classes of the training images and of the test images."""
    labels = () if spec.evaluation.probe is None else spec.evaluation.probe.labels
    found, counts = np.unique(classes, return_counts=True)
    accuracies = [
        ProbeAccuracy(
            labels=probe.labels,
            is_all=asked == "all",
            accuracy=[_finite(share) for share in probe.accuracy],
            accuracy_se=[_finite(math.sqrt(share * (1 - share) / len(test))) for share in probe.accuracy],
            regularization=[_finite(c) for c in probe.regularization],
        )
        for probe, asked in zip(probes, labels, strict=True)
    ]
    largest = float((test == found[counts.argmax()]).mean())
    flow_draws = DRAWS if spec.probes_a_flow else None
    return ProbeResult(classes=len(found), largest_class=largest, flow_draws=flow_draws, probes=accuracies)


def classification_metrics(test: Classified, validation: Classified | None, classes: int) -> ClassificationResult:
    """How well classes were named, of so many, as a result has it."""
    more: dict[str, Any] = {}
    if validation is not None:
        more = {
            "validation_images": validation.images,
            "validation_wrong": validation.wrong,
            "validation_error": validation.error,
        }
    return ClassificationResult(
        classes=classes,
        images=test.images,
        wrong=test.wrong,
        error=test.error,
        interval=test.interval,
        kl=_finite(test.kl),
        **more,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

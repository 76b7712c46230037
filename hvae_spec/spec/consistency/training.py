"""Contradictions in how a member is trained."""

from collections.abc import Iterator

from hvae_spec.spec.base import SMALLEST
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.consistency.model import single_unit_problems
from hvae_spec.spec.consistency.objective import objective_problems
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.training import TrainingSpec


def training_problems(member: MemberSpec, train: int) -> Iterator[Inconsistency]:
    """Contradictions of objective, optimizer, early stopping and batches, with so many training images."""
    model, objective, training = member.model, member.objective, member.training
    yield from objective_problems(model.depth, objective, training.epochs, ("objective",), "training")
    first = training.first_phase
    if first is not None:
        yield from objective_problems(model.depth, first, first.epochs, ("training", "first_phase"), "the first phase")
    yield from _optimizer_problems(training)
    yield from _learning_rate_problems(training)
    yield from _stopping_problems(member)
    if model.normalization.of_batch and not ESTIMATORS[objective.estimator].for_batch_norm:
        yield Inconsistency(
            ("objective", "estimator"),
            f"the estimator {objective.estimator} with batch normalization, with which its gradient is off by as much "
            "as its size: it weighs every sample apart, and the normalization mixes them",
            "model.norm: layer or none, or another estimator",
            ("objective.estimator", "model.batch_norm", "model.norm"),
        )
    yield from single_unit_problems(model)
    batch_size = training.batch_size
    if model.normalization.of_batch and batch_size == 1:
        yield Inconsistency(
            ("training", "batch_size"),
            "batch normalization needs more than one image in a batch",
            "a batch_size of 2 or more, or model.norm: layer or none",
            ("training.batch_size", "model.batch_norm", "model.norm"),
        )
    elif model.normalization.of_batch and training.last_batch == "keep" and train % batch_size == 1:
        yield Inconsistency(
            ("training", "last_batch"),
            f"the last batch of an epoch would hold a single image ({train} = 1 modulo {batch_size}), "
            "which batch normalization cannot take",
            "last_batch: drop, or another batch_size",
            (
                "training.batch_size",
                "training.last_batch",
                "model.batch_norm",
                "model.norm",
                "data.dataset",
                "data.train_images",
                "data.validation",
            ),
        )
    is_labeled = isinstance(member.data.labeled, int)
    if training.last_batch == "drop" and batch_size > train:
        yield Inconsistency(
            ("training", "batch_size"),
            f"a batch of {batch_size} images is larger than "
            + (f"the {train} images without a label" if is_labeled else f"the training set ({train} images)"),
            f"a batch_size of at most {train}" + ", or a smaller data.labeled" * is_labeled,
            (
                "training.batch_size",
                "training.last_batch",
                "data.dataset",
                "data.train_images",
                "data.validation",
                *(("data.labeled",) if is_labeled else ()),
            ),
        )


def _stopping_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """Early stopping without a validation set, or without an evaluation that counts."""
    training, every = member.training, member.evaluation.every
    if training.early_stopping is None:
        return
    path, reads = ("training", "early_stopping"), ("training.early_stopping", "data.validation", "evaluation.every")
    if not member.data.validation:
        message = "early stopping without a validation set: data.validation is 0"
        yield Inconsistency(path, message, "a data.validation of 1 or more, or early_stopping: null", reads)
        return
    if every is None:
        message = "early stopping without evaluations during training: evaluation.every is null"
        yield Inconsistency(path, message, "an evaluation.every of 1 or more, or early_stopping: null", reads)
        return
    first = training.first_phase
    phases = [(member.objective.warm_epoch, training.epochs, "the training")]
    phases += [] if first is None else [(first.warm_epoch, first.epochs, "the first phase")]
    for warm, epochs, which in phases:
        last = epochs // every * every
        if last < max(1, warm):
            yield Inconsistency(
                path,
                f"early stopping without an evaluation that counts: none of {which} (every {every} of {epochs} epochs) "
                f"comes after the end of warm-up ({warm} epochs)",
                "more epochs, a smaller evaluation.every, a shorter warm_up, or early_stopping: null",
                (*reads, "training.epochs", "training.first_phase", "objective.warm_up"),
            )


def _optimizer_problems(training: TrainingSpec) -> Iterator[Inconsistency]:
    """Settings of the optimizer that contradict each other."""
    chosen = training.optimizer
    if found := chosen.settings.contradiction():
        path = ("training", "optimizer", chosen.choice, *found.path)
        yield Inconsistency(path, found.message, found.remedy, ("training.optimizer",))


def _learning_rate_problems(training: TrainingSpec) -> Iterator[Inconsistency]:
    """A schedule that training is too short for, and a learning rate that falls until float32 takes it for 0, so that
    the rest of the training does nothing.
    """
    decay, lr, chosen = training.lr_decay, training.optimizer.settings.lr, training.schedule
    if chosen is not None and (never := chosen.unreached(training.epochs)):
        yield Inconsistency(
            ("training", "schedule", *never.path),
            never.message,
            never.remedy,
            ("training.schedule", "training.epochs"),
        )
        return
    section, path = (decay, "lr_decay") if chosen is None else (chosen, "schedule")
    last = None if section is None else section.vanishes(lr)
    if last is not None and training.epochs > last:
        yield Inconsistency(
            ("training", path),
            f"the learning rate is below {SMALLEST:.9g} after epoch {last}, where float32 loses it",
            f"a factor nearer 1, fewer multiplications, or at most {last} epochs"
            if chosen is None
            else f"a slower fall, one that ends above 0, or at most {last} epochs",
            ("training.optimizer", f"training.{path}", "training.epochs"),
        )

"""Schedules: what changes from epoch to epoch, as one pure function of the spec and the epoch. No torch here.

Two members of one trajectory take the same steps as long as their schedules agree, so that the longer training can go
on from the shorter one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from hvae_spec.registry import Registry
from hvae_spec.spec.choices.schedule import (
    CosineSection,
    Fall,
    LearningRateDecay,
    LinearSection,
    Stages,
    StepSection,
)
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import ObjectiveSpec
from hvae_spec.spec.training import TrainingSpec


@dataclass(frozen=True)
class Schedule:
    """The values of one epoch."""

    beta: float | tuple[float, ...]
    """Weight of the KL part of the bound (Eq. 22), or the weight of every layer's from z_1 up."""
    lr: float
    """Learning rate."""
    mc_samples: int
    """M."""
    iw_samples: int
    """K."""
    elbo_share: float
    """The share of the ELBO in the bound; 0 where K is 1, as it is the ELBO then."""


FIELDS = {
    "beta": ("objective.warm_up", "objective.beta"),
    "lr": ("training.schedule", "training.optimizer", "training.lr_decay"),
    "mc_samples": ("objective.mc_samples", "objective.sample_ramp"),
    "iw_samples": ("objective.iw_samples", "objective.sample_ramp"),
    "elbo_share": ("objective.elbo_share",),
}
"""Fields of the spec that each value comes from."""


def schedule(spec: MemberSpec, epoch: int) -> Schedule:
    """The values of an epoch, counted from 1.

    >>> from hvae_spec.spec.experiment import MemberSpec
    >>> tree = {"data": {"dataset": "mnist"}, "model": {"layers": [{"units": 2, "mlp": [4]}]}}
    >>> spec = MemberSpec.model_validate({**tree, "training": {"epochs": 9}, "objective": {"warm_up": 5}})
    >>> [schedule(spec, epoch).beta for epoch in (1, 2, 5, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    return _schedule(spec.objective, spec.training, epoch)


def _schedule(objective: ObjectiveSpec, training: TrainingSpec, epoch: int) -> Schedule:
    mc_samples, iw_samples = samples(objective, epoch)
    share = objective.elbo_share if iw_samples > 1 else 0.0
    return Schedule(beta(objective, epoch), learning_rate(training, epoch), mc_samples, iw_samples, share)


def beta(objective: ObjectiveSpec, epoch: int) -> float | tuple[float, ...]:
    """The weight of the KL part in an epoch (counted from 1): what of its final value, or of every layer's, the warm-up
    has reached.

    >>> from hvae_spec.spec.objective import Cycles
    >>> spec = ObjectiveSpec(beta=2.0, warm_up=Cycles(cycles=2, ramp=0.5, over=12))
    >>> [beta(spec, epoch) for epoch in (1, 2, 3, 6, 7, 8, 9, 13)]
    [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0]
    """
    if isinstance(objective.warm_up, int):
        reached = warm_up(epoch, objective.warm_up)
    elif epoch > objective.warm_up.over:
        reached = 1.0
    else:
        reached = warm_up((epoch - 1) % objective.warm_up.length + 1, objective.warm_up.rising)
    final = objective.layer_weights
    return reached * final if isinstance(final, float) else tuple(reached * weight for weight in final)


def warm_up(epoch: int, epochs_to_one: float) -> float:
    """The share of beta's final value in an epoch (counted from 1): 0 in the first, rising linearly to 1 in epoch
    `epochs_to_one` (N_t, Sec. 2.2).

    With N_t = 0 there is no warm-up, and it is 1 from the start; with N_t = 1 only the first epoch has 0.
    """
    if epochs_to_one == 0:
        return 1.0
    return min(1.0, (epoch - 1) / max(1, epochs_to_one - 1))


def learning_rate(training: TrainingSpec, epoch: int) -> float:
    """The learning rate of an epoch (counted from 1): that of the schedule, or the optimizer's, multiplied by what the
    schedule or `lr_decay` says.
    """
    lr, chosen = training.optimizer.settings.lr, training.schedule
    if chosen is not None:
        value = SCHEDULES[chosen.choice](chosen, epoch)
        return lr * value if chosen.multiplies else value
    return lr if training.lr_decay is None else lr * decay(training.lr_decay, epoch)


SCHEDULES: Registry[Callable[..., float]] = Registry("schedule of the learning rate")
"""Functions of a schedule's section and an epoch, counted from 1, that give the learning rate, or for a section that
`multiplies` what the optimizer's is multiplied by."""


@SCHEDULES.register("stages")
def stages(section: Stages, epoch: int) -> float:
    """The learning rate of the stage that an epoch lies in; the last stage goes on.

    >>> from hvae_spec.spec.choices.schedule import Stage
    >>> section = Stages(stages=(Stage(epochs=1, lr=1e-3), Stage(epochs=2, lr=1e-4)))
    >>> [stages(section, epoch) for epoch in (1, 2, 3, 4)]
    [0.001, 0.0001, 0.0001, 0.0001]
    """
    rates = zip(section.stages, section.ends, strict=True)
    return next((stage.lr for stage, end in rates if epoch <= end), section.stages[-1].lr)


def decay(section: LearningRateDecay, epoch: int) -> float:
    """What `lr_decay` multiplies the learning rate by."""
    return float(section.factor ** ((epoch - 1) // section.every))


def ramp(epochs: int, epoch: int) -> float:
    """What a start ramp of so many epochs multiplies by: 1 from its last epoch on."""
    return min(1.0, epoch / max(1, epochs))


def fallen(section: Fall, epoch: int) -> float:
    """How much of its fall a schedule has behind it, after its ramp: 0 to 1."""
    return min(1.0, max(0, epoch - 1 - section.ramp) / (section.over - section.ramp))


@SCHEDULES.register("step")
def step(section: StepSection, epoch: int) -> float:
    """`lr_decay` with a start ramp.

    >>> from hvae_spec.spec.choices.schedule import Step
    >>> section = StepSection(step=Step(factor=0.5, every=3, ramp=2))
    >>> [step(section, epoch) for epoch in (1, 2, 3, 4, 7)]
    [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    return ramp(section.step.ramp, epoch) * decay(section.step, epoch)


@SCHEDULES.register("cosine")
def cosine(section: CosineSection, epoch: int) -> float:
    """Half a cosine after a start ramp.

    >>> section = CosineSection(cosine=Fall(over=6, to=0.2, ramp=2))
    >>> [round(cosine(section, epoch), 6) for epoch in (1, 2, 3, 5, 7, 100)]
    [0.5, 1.0, 1.0, 0.6, 0.2, 0.2]
    """
    fall = section.cosine
    return ramp(fall.ramp, epoch) * (fall.to + (1 - fall.to) * (1 + math.cos(math.pi * fallen(fall, epoch))) / 2)


@SCHEDULES.register("linear")
def linear(section: LinearSection, epoch: int) -> float:
    """A straight line after a start ramp.

    >>> section = LinearSection(linear=Fall(over=6, to=0.2, ramp=2))
    >>> [round(linear(section, epoch), 6) for epoch in (1, 2, 3, 4, 7, 100)]
    [0.5, 1.0, 1.0, 0.8, 0.2, 0.2]
    """
    fall = section.linear
    return ramp(fall.ramp, epoch) * (fall.to + (1 - fall.to) * (1 - fallen(fall, epoch)))


def samples(objective: ObjectiveSpec, epoch: int) -> tuple[int, int]:
    """(M, K): Monte Carlo and importance samples of an epoch (counted from 1)."""
    limit = epoch if objective.sample_ramp else max(objective.mc_samples, objective.iw_samples)
    return min(objective.mc_samples, limit), min(objective.iw_samples, limit)


def disagreement(first: MemberSpec, second: MemberSpec, epochs: int) -> tuple[int, str] | None:
    """Where the schedules of two members part within the first epochs: the epoch, and the field that hinders; None if
    they agree.
    """
    # Thousands of members of a grid differ in none of these sections, and are compared once.
    parted = _parting(first.objective.read, first.training, second.objective.read, second.training, epochs)
    if parted is None:
        return None
    epoch, value = parted
    return epoch, _field(first, second, FIELDS[value])


@lru_cache(maxsize=1024)
def _parting(
    objective: ObjectiveSpec,
    training: TrainingSpec,
    other_objective: ObjectiveSpec,
    other_training: TrainingSpec,
    epochs: int,
) -> tuple[int, str] | None:
    """The first epoch in which two schedules differ, and in which value; None if there is none. Of a schedule of an
    extension whose code has not run nothing is known.
    """
    chosen = (one.schedule.choice for one in (training, other_training) if one.schedule is not None)
    if any(name not in SCHEDULES for name in chosen):
        return 1, "lr"
    for epoch in range(1, epochs + 1):
        one, two = _schedule(objective, training, epoch), _schedule(other_objective, other_training, epoch)
        if one != two:
            return epoch, next(name for name in FIELDS if getattr(one, name) != getattr(two, name))
    return None


def _field(first: MemberSpec, second: MemberSpec, paths: tuple[str, ...]) -> str:
    """The first of some fields in which two members differ."""

    def value(spec: MemberSpec, path: str) -> object:
        section, name = path.split(".")
        return getattr(getattr(spec, section), name)

    return next((path for path in paths if value(first, path) != value(second, path)), paths[0])

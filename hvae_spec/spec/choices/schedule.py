"""The schedules that give the learning rate of every epoch, counted from 1: pure functions of the epoch.

No schedule knows how long training is, so that a longer training takes the same steps as a shorter one, as far as that
goes.
"""

from dataclasses import dataclass
from itertools import accumulate
from math import log
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field, Strict

from hvae_spec.registry import Registry
from hvae_spec.spec.base import SMALLEST, Count, InFloat64, Loc, Natural, Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.fields import Column, Paper

ON_THE_HOST = InFloat64("the learning rate that it leads to is what must count")


class Unreached(NamedTuple):
    """A part of a schedule that a training is too short for."""

    path: Loc
    """Where it stands, from the schedule on."""
    message: str
    remedy: str


class ScheduleSection(ChoiceSection):
    """A schedule and its settings."""

    multiplies: ClassVar[bool] = False
    """Whether its values multiply the optimizer's learning rate. Else they take its place."""

    def unreached(self, epochs: int) -> Unreached | None:
        """The first part of it that a training of so many epochs never reaches; None if it reaches all."""
        return None

    def is_constant(self, epochs: int) -> bool:
        """Whether every one of so many epochs has the optimizer's learning rate, whatever that is."""
        return False

    def vanishes(self, lr: float) -> int | None:
        """The last epoch whose learning rate float32 tells from 0, if the optimizer's is `lr`; None if there is no last
        one.
        """
        return None


class Stage(SpecModel):
    """A number of epochs with one learning rate."""

    epochs: Count
    """How many epochs. The last stage goes on to the end of training, however long that is."""
    lr: Positive
    """Learning rate."""


class Stages(ScheduleSection):
    """Stages of constant learning rates, one after another."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """The stages in their order: `[{epochs: 1, lr: 1e-3}, {epochs: 3, lr: 5e-4}]`. Each begins before training ends."""

    @property
    def ends(self) -> list[int]:
        """The last epoch of every stage, counted from 1, as the stages say it."""
        return list(accumulate(stage.epochs for stage in self.stages))

    def unreached(self, epochs: int) -> Unreached | None:
        """The first stage that begins after the end of training."""
        for index, before in enumerate(self.ends[:-1], start=1):
            if before >= epochs:
                return Unreached(
                    ("stages", index),
                    f"stage {index + 1} begins in epoch {before + 1}, and training ends with epoch {epochs}",
                    f"training.epochs of at least {before + 1}, or {index} stage{'s' * (index > 1)} at most",
                )
        return None


class LearningRateDecay(SpecModel):
    """The learning rate is multiplied by `factor` every so many epochs (Table 1: 0.75 every 200): in epoch e it is
    lr factor^n, where n is the whole part of (e - 1) / every.
    """

    factor: Annotated[
        float,
        Strict(),
        Field(gt=0, le=1),
        ON_THE_HOST,
        Column("lr_decay_factor", "learning rate decay factor"),
        Paper(None, "Table 1", fine_tuning=0.75, iwae=None),
    ]
    """What the learning rate is multiplied by."""
    every: Annotated[
        Count,
        Column("lr_decay_every", "learning rate decay every"),
        Paper(None, "Table 1", fine_tuning=200, iwae=None),
    ]
    """Epochs between multiplications."""

    def is_constant(self, epochs: int) -> bool:
        """Whether none of so many epochs has another learning rate than the first one."""
        return self.factor == 1 or self.every >= epochs

    def vanishes(self, lr: float) -> int | None:
        """See `ScheduleSection.vanishes`."""
        if self.factor == 1:
            return None
        # Of logarithms, as the rate itself may be too small for float64.
        return self.every * (int(log(SMALLEST / lr) / log(self.factor)) + 1)


class Step(LearningRateDecay):
    """`lr_decay` with a start ramp."""

    ramp: Natural = 0
    """Epochs of the start ramp: in epoch e of them the learning rate is also multiplied by e / ramp."""

    def is_constant(self, epochs: int) -> bool:
        """See `ScheduleSection.is_constant`; a ramp of one epoch is none."""
        return super().is_constant(epochs) and self.ramp <= 1


class Fall(SpecModel):
    """The learning rate falls from the optimizer's to a part of it, after a start ramp."""

    over: Count
    """The epochs after which it has fallen, those of the ramp included: however long training is, epoch over + 1 is the
    first one at the end value, which then stays."""
    to: Annotated[float, Strict(), Field(ge=0, le=1), ON_THE_HOST] = 0.0
    """The end value, as a part of the optimizer's `lr`. 0: training must end with epoch `over` at the latest."""
    ramp: Natural = 0
    """Epochs of the start ramp (Goyal et al., 2017): in epoch e of them the learning rate is lr e / ramp, and then it
    falls."""


class RampedSection(ScheduleSection):
    """A schedule that multiplies the optimizer's learning rate, and may have a start ramp."""

    multiplies: ClassVar[bool] = True

    def unreached(self, epochs: int) -> Unreached | None:
        """The end of a ramp that is longer than training."""
        ramp = self.settings.ramp
        if ramp <= epochs:
            return None
        return Unreached(
            (self.choice, "ramp"),
            f"a ramp of {ramp} epochs is longer than training ({epochs} epochs): the learning rate would never reach "
            "the optimizer's",
            f"a ramp of at most {epochs}, or training.epochs of at least {ramp}",
        )


class StepSection(RampedSection):
    """`lr_decay` as a schedule, by name."""

    step: Step
    """Multiplied by `factor` every so many epochs: `{factor: 0.75, every: 200}`. Without a ramp it is what `lr_decay`
    is short for, and the same training."""

    def is_constant(self, epochs: int) -> bool:
        """See `ScheduleSection.is_constant`."""
        return self.step.is_constant(epochs)

    def vanishes(self, lr: float) -> int | None:
        """See `ScheduleSection.vanishes`."""
        return self.step.vanishes(lr)


class FallSection(RampedSection):
    """A schedule that falls to an end value."""

    def unreached(self, epochs: int) -> Unreached | None:
        """The end of a ramp, or a fall for which the ramp leaves no epoch."""
        fall: Fall = self.settings
        if fall.ramp < fall.over:
            return super().unreached(epochs)
        return Unreached(
            (self.choice, "over"),
            f"a ramp of {fall.ramp} epochs leaves none of the {fall.over} epochs for the learning rate to fall in",
            f"an over of at least {fall.ramp + 1}, or a shorter ramp",
        )

    def is_constant(self, epochs: int) -> bool:
        """See `ScheduleSection.is_constant`; a ramp of one epoch is none."""
        fall: Fall = self.settings
        return fall.to == 1 and fall.ramp <= 1

    def vanishes(self, lr: float) -> int | None:
        """See `ScheduleSection.vanishes`."""
        fall: Fall = self.settings
        return fall.over if lr * fall.to < SMALLEST else None


class CosineSection(FallSection):
    """Cosine annealing, by name."""

    cosine: Fall
    """Half a cosine (Loshchilov & Hutter, 2017, Eq. 5, without restarts): `{over: 400, to: 0.0, ramp: 5}`. After the
    ramp, lr (to + (1 - to) (1 + cos(pi t)) / 2) in epoch e, where t = (e - 1 - ramp) / (over - ramp), 1 at most."""


class LinearSection(FallSection):
    """A linear fall, by name."""

    linear: Fall
    """A straight line: `{over: 400, to: 0.0, ramp: 5}`. After the ramp, lr (to + (1 - to) (1 - t)) in epoch e, where
    t = (e - 1 - ramp) / (over - ramp), 1 at most."""


@dataclass(frozen=True)
class LearningRateSchedule:
    """One schedule."""

    default: ScheduleSection
    """It with the settings that those left out begin with."""


SCHEDULES: Registry[LearningRateSchedule] = Registry("schedule")
SCHEDULES.add("stages", LearningRateSchedule(Stages(stages=(Stage(epochs=1, lr=1e-3),))))
SCHEDULES.add("step", LearningRateSchedule(StepSection(step=Step(factor=0.75, every=200))))
SCHEDULES.add("cosine", LearningRateSchedule(CosineSection(cosine=Fall(over=400))))
SCHEDULES.add("linear", LearningRateSchedule(LinearSection(linear=Fall(over=400))))

"""The schedules that give the learning rate of every epoch."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, NamedTuple

from pydantic import Field

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Count, Loc, Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection


class Unreached(NamedTuple):
    """A part of a schedule that a training is too short for."""

    path: Loc
    """Where it stands, from the schedule on."""
    message: str
    remedy: str


class ScheduleSection(ChoiceSection):
    """A schedule and its settings."""

    def unreached(self, epochs: int) -> Unreached | None:
        """The first part of it that a training of so many epochs never reaches; None if it reaches all."""
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


@dataclass(frozen=True)
class LearningRateSchedule:
    """One schedule."""

    default: ScheduleSection
    """It with the settings that those left out begin with."""


SCHEDULES: Registry[LearningRateSchedule] = Registry("schedule")
SCHEDULES.add("stages", LearningRateSchedule(Stages(stages=(Stage(epochs=1, lr=1e-3),))))

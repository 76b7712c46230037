"""The optimizers and their settings."""

from dataclasses import dataclass
from typing import Annotated

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Fraction, Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.fields import Affects, AuthorsCode, Column, IdleBeside, NoStepCost, Paper, PerMember

NUMBER = NoStepCost("a number within an update that is done whatever it is")


class OptimizerSettings(SpecModel):
    """What every optimizer has: a learning rate, which `lr_decay` anneals and a `schedule` replaces."""

    lr: Annotated[
        Positive,
        Affects("schedule"),
        PerMember(),
        NUMBER,
        Column("learning_rate"),
        IdleBeside("schedule"),
        Paper(1e-3, "Sec. 3", by_dataset={"norb": 2e-3}),
        AuthorsCode("`2e-4` in its README", 2e-4),
    ] = 1e-3
    """Learning rate. Nothing reads it beside a `training.schedule`, but a first phase."""


class Adam(OptimizerSettings):
    """Adam (Kingma & Ba, 2014)."""

    beta1: Annotated[Fraction, PerMember(), NUMBER, Column("adam_beta1"), Paper(iwae=0.99)] = 0.9
    """Decay rate of the first moment."""
    beta2: Annotated[Fraction, PerMember(), NUMBER, Column("adam_beta2")] = 0.999
    """Decay rate of the second moment."""
    eps: Annotated[
        Positive,
        PerMember(),
        NUMBER,
        Column("adam_eps"),
        Paper(iwae=1e-4),
        AuthorsCode("`1e-4`, on the uncorrected root", 1e-4),
    ] = 1e-8
    """Added to the root of the second moment, corrected for its start at 0. (The authors' code, as Burda et al.'s, adds
    1e-4 to the uncorrected root, which acts like 1e-4 / sqrt(1 - beta2^t) here: 3.2e-3, 1.0e-3 and 3.2e-4 at steps
    1, 10 and 100, and 1e-4 in the end.)"""


class OptimizerSection(ChoiceSection):
    """An optimizer and its settings."""

    @property
    def settings(self) -> OptimizerSettings:
        """Its settings."""
        settings: OptimizerSettings = super().settings
        return settings


class AdamSection(OptimizerSection):
    """Adam, by name."""

    adam: Adam
    """Adam and its settings."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer."""

    default: OptimizerSection
    """It with its default settings."""
    numbers_per_parameter: int
    """Numbers of state that it keeps per parameter."""

    @property
    def bytes_per_step(self) -> int:
        """Bytes per parameter that a step must move: the parameter, its gradient and the state are read, the parameter
        and the state are written, in float32.
        """
        return 4 * (3 + 2 * self.numbers_per_parameter)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")
OPTIMIZERS.add("adam", Optimizer(AdamSection(adam=Adam()), numbers_per_parameter=2))

"""The optimizers and their settings.

In their equations g is the gradient of minus a member's bound at its weights w, after clipping; W those of the weights
that are matrices of linear maps, which alone decay: neither biases nor scales and shifts of a normalization do.
"""

import json
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Flag, Fraction, Loc, NonNegative, Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.choices.schedule import SCHEDULES
from hvae_spec.spec.fields import Affects, AuthorsCode, Column, IdleBeside, NoStepCost, Paper, PerMember

NUMBER = NoStepCost("a number within an update that is done whatever it is")
DECAY = Column("weight_decay")


def is_replaced_by(schedule: str) -> bool:
    """Whether a schedule, as the JSON text of its section, gives learning rates in the place of the optimizer's."""
    name = next(iter(json.loads(schedule)))
    return name in SCHEDULES and not SCHEDULES[name].default.multiplies


class Contradiction(NamedTuple):
    """Settings of an optimizer that contradict each other."""

    path: Loc
    """Where one of them stands, from the optimizer's settings on."""
    message: str
    remedy: str


class OptimizerSettings(SpecModel):
    """What every optimizer has: a learning rate, which `lr_decay` anneals and a `schedule` multiplies or replaces."""

    lr: Annotated[
        Positive,
        Affects("schedule"),
        PerMember(),
        NUMBER,
        Column("learning_rate"),
        IdleBeside("schedule", is_replaced_by),
        Paper(1e-3, "Sec. 3", by_dataset={"norb": 2e-3}),
        AuthorsCode("`2e-4` in its README", 2e-4),
    ] = 1e-3
    """Learning rate. Nothing reads it beside the `stages` of a `training.schedule`, but a first phase; the other
    schedules multiply it."""

    def contradiction(self) -> Contradiction | None:
        """Settings that contradict each other, if there are any."""
        return None


class Adam(OptimizerSettings):
    """Adam (Kingma & Ba, 2014): m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and in step t
    w = w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).
    """

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


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019): W = W - lr weight_decay W, then Adam's step, whose
    moments know nothing of it. As in PyTorch, the learning rate of the epoch multiplies the decay too.
    """

    weight_decay: Annotated[NonNegative, PerMember(), DECAY] = 0.01
    """Decay of the matrices of linear maps, in units of the learning rate. 0: AdamW is Adam."""


class SGD(OptimizerSettings):
    """Stochastic gradient descent with momentum (Polyak, 1964): with g' = g + weight_decay w for matrices of linear
    maps and g' = g for all else, b = momentum b + g' (b = g' in the first step) and w = w - lr b; with `nesterov`
    (Nesterov, 1983, as Sutskever et al., 2013, write it) w = w - lr (g' + momentum b).
    """

    momentum: Annotated[Fraction, PerMember(), Column("sgd_momentum")] = 0.9
    """Decay rate of the velocity b. 0: none."""
    nesterov: Annotated[Flag, Column("sgd_nesterov")] = False
    """Nesterov's momentum, which looks ahead."""
    weight_decay: Annotated[NonNegative, PerMember(), DECAY] = 0.0
    """L2 penalty on the matrices of linear maps: weight_decay w is added to their gradient, after clipping and before
    momentum."""

    def contradiction(self) -> Contradiction | None:
        """Nesterov's momentum without momentum."""
        if self.nesterov and not self.momentum:
            remedy = "a momentum above 0, or nesterov: false"
            return Contradiction(("nesterov",), "Nesterov's momentum without momentum: it is 0", remedy)
        return None


class OptimizerSection(ChoiceSection):
    """An optimizer and its settings."""

    @property
    def settings(self) -> OptimizerSettings:
        """Its settings."""
        settings: OptimizerSettings = super().settings
        return settings

    @property
    def plainest(self) -> "OptimizerSection":
        """The optimizer with the fewest settings that takes the same steps."""
        return self


class AdamSection(OptimizerSection):
    """Adam, by name."""

    adam: Adam
    """Adam and its settings."""


class AdamWSection(OptimizerSection):
    """AdamW, by name."""

    adamw: AdamW
    """AdamW, Adam with decoupled weight decay, and its settings."""

    @property
    def plainest(self) -> OptimizerSection:
        """Adam where nothing decays."""
        if self.adamw.weight_decay:
            return self
        return AdamSection(adam=Adam(**self.adamw.model_dump(exclude={"weight_decay"})))


class SGDSection(OptimizerSection):
    """Gradient descent, by name."""

    sgd: SGD
    """Stochastic gradient descent with momentum and its settings."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer."""

    default: OptimizerSection
    """It with its default settings."""
    numbers_per_parameter: int
    """Numbers of state that it keeps per parameter, at most."""

    @property
    def bytes_per_step(self) -> int:
        """Bytes per parameter that a step must move: the parameter, its gradient and the state are read, the parameter
        and the state are written, in float32.
        """
        return 4 * (3 + 2 * self.numbers_per_parameter)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")
OPTIMIZERS.add("adam", Optimizer(AdamSection(adam=Adam()), numbers_per_parameter=2))
OPTIMIZERS.add("adamw", Optimizer(AdamWSection(adamw=AdamW()), numbers_per_parameter=2))
OPTIMIZERS.add("sgd", Optimizer(SGDSection(sgd=SGD()), numbers_per_parameter=1))

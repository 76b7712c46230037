"""How the parameters are optimized (Sec. 3)."""

from typing import Annotated, Literal

from hvae_spec.spec.base import Count, Fraction, Positive, SpecModel
from hvae_spec.spec.choice import OneOf
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Adam, AdamSection, OptimizerSection
from hvae_spec.spec.choices.schedule import SCHEDULES, LearningRateDecay, ScheduleSection
from hvae_spec.spec.fields import (
    Affects,
    AuthorsCode,
    BeforeFineTuning,
    ChoiceColumn,
    Column,
    ColumnPrefix,
    NoStepCost,
    Paper,
    PerMember,
    ShortFor,
    ShortName,
)
from hvae_spec.spec.forms import SpecInForms
from hvae_spec.spec.objective import ObjectiveSpec

MatmulPrecision = Literal["highest", "high", "medium"]
NUMBER = NoStepCost("a number within an update that is done whatever it is")
LATER = NoStepCost("it changes the values that a step starts from, and no step")


EPOCHS = Paper(
    2000,
    "Sec. 3",
    by_dataset={"omniglot": 1500, "norb": 4000},
    fine_tuning=2000,
    iwae=3280,
    hinders="budget",
)
BURDAS_STAGES = {
    "stages": [
        {"epochs": 3**stage, "lr": lr}
        for stage, lr in enumerate((1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4))
    ]
}
"""Burda et al.'s schedule: 3^i epochs at 1e-3 * 10^(-i/7), i = 0 ... 7, which their code rounds as it stands here."""


Optimizer = Annotated[
    OptimizerSection, OneOf(OPTIMIZERS), ChoiceColumn(Column("optimizer"), Paper("adam", "Sec. 3", iwae="adam"))
]
Schedule = Annotated[ScheduleSection | None, OneOf(SCHEDULES, or_null=True)]


class EarlyStopping(SpecModel):
    """A training stops when its validation bound has not risen for so many evaluations, and keeps its best weights."""

    patience: Annotated[Count, Paper(None, "Sec. 3", iwae=None)]
    """Evaluations (points of `evaluation.every`) in a row without a new best bound after which a member stops."""


class FirstPhase(ObjectiveSpec):
    """The training that a fine-tuned model comes from: a member of its own, alike but for what is said here.

    Its weights are taken from its record, in this results folder or in one given by `--records`; its optimizer's state
    is not, so that the optimizer starts from nothing. Its learning rate is constant.
    """

    epochs: Annotated[Count, EPOCHS]
    """Its passes over the training set."""


class TrainingSpec(SpecInForms):
    """Epochs, batches and the optimizer."""

    epochs: Annotated[
        Count, Affects("length"), NoStepCost("how many epochs there are"), Column("planned_epochs", "epochs"), EPOCHS
    ]
    """Passes over the training set."""
    batch_size: Annotated[Count, ShortName("batch"), Paper(256, "Sec. 3", iwae=20)] = 256
    """Images in a step."""
    optimizer: Optimizer = AdamSection(adam=Adam())
    """The optimizer: `{adam: {lr: 1e-3}}`, `{adamw: {lr: 1e-3, weight_decay: 0.01}}` or
    `{sgd: {lr: 1e-2, momentum: 0.9}}`."""
    lr_decay: Annotated[LearningRateDecay | None, ShortFor("schedule"), Affects("schedule"), PerMember(), NUMBER] = None
    """Annealing of the learning rate, short for `schedule: {step: ...}` without a ramp: `{factor: 0.75, every: 200}`.
    Null: it is constant."""
    schedule: Annotated[
        Schedule,
        Affects("schedule"),
        PerMember(),
        NUMBER,
        Column("schedule", "learning rate schedule"),
        Paper(None, "Sec. 3", iwae=BURDAS_STAGES),
    ] = None
    """The learning rate of every epoch. Most schedules multiply the optimizer's `lr`: `{cosine: {over: 400, ramp: 5}}`,
    `{linear: {over: 400, to: 0.1}}`, `{step: {factor: 0.75, every: 200}}`. Stages take its place, and only a
    `first_phase` reads it beside them: `{stages: [{epochs: 1, lr: 1e-3}, {epochs: 3, lr: 5e-4}]}`; the last stage goes
    on to the end of training, and one that would begin later is refused. Null: the optimizer's `lr`, annealed by
    `lr_decay`, which is short for `step` and another form of this field: the later of the two counts."""
    ema: Annotated[
        Fraction | None,
        PerMember(null_apart=True),
        Column("ema", "EMA of the weights"),
        Paper(None, "Sec. 3", iwae=None),
    ] = None
    """Exponential moving average of the weights (Polyak & Juditsky, 1992; Kingma & Ba, 2014, Sec. 7.2; as in Child,
    2021): average = ema average + (1 - ema) w after every step, from the weights that training starts with, of
    which it holds a share of ema^n after n steps: `0.999`. The average is what is evaluated, along the way and at the
    end, what early stopping judges and keeps, what the record's weights are, and what a first phase hands on. Training
    itself knows nothing of it: a longer one goes on from the weights that are not averaged, which are kept with the
    optimizer's state. Null: none, and the last weights are all of this."""
    first_phase: Annotated[
        FirstPhase | None, Affects("trajectory"), LATER, ColumnPrefix("first_phase_"), BeforeFineTuning()
    ] = None
    """Fine-tuning: start from the finished member that this describes. Null: start from initial weights."""
    early_stopping: Annotated[
        EarlyStopping | None, Affects("length"), NoStepCost("it decides how many epochs there are")
    ] = None
    """Stop when the validation bound no longer rises: `{patience: 5}`. What counts is the importance-weighted bound at
    beta = 1 on the validation set with `evaluation.curve_iw_samples` samples, with the same noise at every
    evaluation; evaluations before the end of warm-up do not. The record keeps the weights of the best evaluation. It
    needs `data.validation` and `evaluation.every`; a training with it always begins anew, and none goes on from it.
    Null: train for all epochs and keep the last weights."""
    clip_norm: Annotated[Positive | None, PerMember(), AuthorsCode("`4`", 4.0)] = None
    """Scale each member's gradient down to this norm over all parameters (the authors' code: 4). Null: no clipping."""
    clip_value: Annotated[Positive | None, PerMember(), AuthorsCode("then `0.9`", 0.9)] = None
    """Then limit each entry of the gradient to this magnitude (the authors' code: 0.9). Null: no clipping."""
    last_batch: Annotated[Literal["drop", "keep"], AuthorsCode("`drop`", "drop")] = "drop"
    """The last, smaller batch of an epoch. Every epoch is shuffled again, so dropping it (as the authors do) loses no
    image for good and keeps every step alike."""
    matmul_precision: MatmulPrecision = "highest"
    """`torch.set_float32_matmul_precision` of training; evaluations are in float32 always. `highest` is float32 on
    every device. `high` allows TF32 on a GPU. `medium` allows bfloat16, and chooses oneDNN's kernels on a CPU, which
    are faster on some CPUs and slower on others."""

    @property
    def numbers_per_parameter(self) -> int:
        """Numbers in memory for every parameter of a member in training: itself, its gradient as autograd and as the
        optimizer hold it, what the optimizer keeps, and its average if there is one.
        """
        return 3 + OPTIMIZERS[self.optimizer.choice].numbers_per_parameter + (self.ema is not None)

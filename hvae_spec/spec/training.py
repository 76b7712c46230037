"""How the parameters are optimised (Sec. 3)."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from hvae_spec.spec.base import Count, Fraction, Positive, SpecModel
from hvae_spec.spec.fields import (
    Affects,
    AuthorsCode,
    BeforeFineTuning,
    Column,
    ColumnPrefix,
    NoStepCost,
    Paper,
    PerMember,
)
from hvae_spec.spec.objective import ObjectiveSpec

MatmulPrecision = Literal["highest", "high", "medium"]
NUMBER = NoStepCost("a number within an update that is done whatever it is")
LATER = NoStepCost("it changes the values that a step starts from, and no step")


EPOCHS = Paper(2000, "Sec. 3", by_dataset={"omniglot": 1500, "norb": 4000}, fine_tuning=2000)


class Adam(SpecModel):
    """Adam (Kingma & Ba, 2014)."""

    lr: Annotated[
        Positive,
        Affects("schedule"),
        PerMember(),
        NUMBER,
        Column("learning_rate"),
        Paper(1e-3, "Sec. 3", by_dataset={"norb": 2e-3}),
        AuthorsCode("`2e-4` in its README"),
    ] = 1e-3
    """Learning rate."""
    beta1: Annotated[Fraction, PerMember(), NUMBER, Column("adam_beta1")] = 0.9
    """Decay rate of the first moment."""
    beta2: Annotated[Fraction, PerMember(), NUMBER, Column("adam_beta2")] = 0.999
    """Decay rate of the second moment."""
    eps: Annotated[Positive, PerMember(), NUMBER, Column("adam_eps"), AuthorsCode("`1e-4`")] = 1e-8
    """Added to the root of the second moment (the authors' code: 1e-4)."""


class OptimizerSpec(SpecModel):
    """The optimiser, by name."""

    adam: Adam
    """Adam and its settings."""


class LearningRateDecay(SpecModel):
    """The learning rate is multiplied by `factor` every so many epochs (Table 1: 0.75 every 200)."""

    factor: Annotated[
        float,
        Strict(),
        Field(gt=0, le=1),
        Column("lr_decay_factor", "learning rate decay factor"),
        Paper(None, "Table 1", fine_tuning=0.75),
    ]
    """What the learning rate is multiplied by."""
    every: Annotated[
        Count, Column("lr_decay_every", "learning rate decay every"), Paper(None, "Table 1", fine_tuning=200)
    ]
    """Epochs between multiplications."""


class FirstPhase(ObjectiveSpec):
    """The training that a fine-tuned model comes from: a member of its own, alike but for what is said here.

    Its weights are taken from its record, in this results folder or in one given by `--records`; its optimiser's state
    is not kept, so that Adam starts anew. Its learning rate is constant.
    """

    epochs: Annotated[Count, EPOCHS]
    """Its passes over the training set."""


class TrainingSpec(SpecModel):
    """Epochs, batches and the optimizer."""

    epochs: Annotated[
        Count, Affects("length"), NoStepCost("how many epochs there are"), Column("planned_epochs", "epochs"), EPOCHS
    ]
    """Passes over the training set."""
    batch_size: Annotated[Count, Paper(256, "Sec. 3")] = 256
    """Images in a step."""
    optimizer: OptimizerSpec = OptimizerSpec(adam=Adam())
    """The optimiser: `{adam: {lr: 1e-3}}`."""
    lr_decay: Annotated[LearningRateDecay | None, Affects("schedule"), NUMBER] = None
    """Annealing of the learning rate: `{factor: 0.75, every: 200}`. Null: it is constant."""
    first_phase: Annotated[
        FirstPhase | None, Affects("trajectory"), LATER, ColumnPrefix("first_phase_"), BeforeFineTuning()
    ] = None
    """Fine-tuning: start from the finished member that this describes. Null: start from initial weights."""
    clip_norm: Annotated[Positive | None, PerMember(), AuthorsCode("`4`")] = None
    """Scale each member's gradient down to this norm over all parameters (the authors' code: 4). Null: no clipping."""
    clip_value: Annotated[Positive | None, PerMember(), AuthorsCode("then `0.9`")] = None
    """Then limit each entry of the gradient to this magnitude (the authors' code: 0.9). Null: no clipping."""
    last_batch: Annotated[Literal["drop", "keep"], AuthorsCode("`drop`")] = "drop"
    """The last, smaller batch of an epoch. Each epoch is shuffled anew, so dropping it (as the authors do) loses no
    image for good and keeps every step alike."""
    matmul_precision: MatmulPrecision = "highest"
    """`torch.set_float32_matmul_precision`. `highest` is float32 on every device. `high` allows TF32 on a GPU. `medium`
    allows bfloat16, and chooses oneDNN's kernels on a CPU, which are faster on some CPUs and slower on others."""

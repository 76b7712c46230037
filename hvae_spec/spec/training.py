"""How the parameters are optimized (Sec. 3)."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from hvae_spec.spec.base import Count, Flag, Natural, Positive, SpecModel
from hvae_spec.spec.choice import OneOf
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Adam, AdamSection, OptimizerSection
from hvae_spec.spec.fields import Affects

MatmulPrecision = Literal["highest", "high", "medium"]


Optimizer = Annotated[OptimizerSection, OneOf(OPTIMIZERS)]


class LearningRateDecay(SpecModel):
    """The learning rate is multiplied by `factor` every so many epochs (Table 1: 0.75 every 200)."""

    factor: Annotated[float, Strict(), Field(gt=0, le=1)]
    """What the learning rate is multiplied by."""
    every: Count
    """Epochs between multiplications."""


class FirstPhase(SpecModel):
    """The training that a fine-tuned model comes from: a member of its own, alike but for what is said here.

    Its weights are taken from its record, in this results folder or in one given by `--records`; its optimizer's state
    is not kept, so that it starts anew. Its learning rate is constant.
    """

    epochs: Count
    """Its passes over the training set."""
    warm_up: Natural = 0
    """Its N_t."""
    mc_samples: Count = 1
    """Its M."""
    iw_samples: Count = 1
    """Its K."""
    sample_ramp: Flag = False
    """Its ramp of samples."""


class TrainingSpec(SpecModel):
    """Epochs, batches and the optimizer."""

    epochs: Annotated[Count, Affects("length")]
    """Passes over the training set."""
    batch_size: Count = 256
    """Images in a step."""
    optimizer: Optimizer = AdamSection(adam=Adam())
    """The optimizer: `{adam: {lr: 1e-3}}`."""
    lr_decay: Annotated[LearningRateDecay | None, Affects("schedule")] = None
    """Annealing of the learning rate: `{factor: 0.75, every: 200}`. Null: it is constant."""
    first_phase: FirstPhase | None = None
    """Fine-tuning: start from the finished member that this describes. Null: start from initial weights."""
    clip_norm: Positive | None = None
    """Scale each member's gradient down to this norm over all parameters (the authors' code: 4). Null: no clipping."""
    clip_value: Positive | None = None
    """Then limit each entry of the gradient to this magnitude (the authors' code: 0.9). Null: no clipping."""
    last_batch: Literal["drop", "keep"] = "drop"
    """The last, smaller batch of an epoch. Each epoch is shuffled anew, so dropping it (as the authors do) loses no
    image for good and keeps every step alike."""
    matmul_precision: MatmulPrecision = "highest"
    """`torch.set_float32_matmul_precision`. `highest` is float32 on every device. `high` allows TF32 on a GPU. `medium`
    allows bfloat16, and chooses oneDNN's kernels on a CPU, which are faster on some CPUs and slower on others."""

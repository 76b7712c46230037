"""How the parameters are optimised (Sec. 3)."""

from typing import Literal

from hvae_spec.schema.base import Count, Fraction, Positive, SpecModel

MatmulPrecision = Literal["highest", "high", "medium"]


class Adam(SpecModel):
    """Adam (Kingma & Ba, 2014)."""

    lr: Positive = 1e-3
    """Learning rate."""
    beta1: Fraction = 0.9
    """Decay rate of the first moment."""
    beta2: Fraction = 0.999
    """Decay rate of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment (the authors' code: 1e-4)."""


class OptimizerSpec(SpecModel):
    """The optimiser, by name."""

    adam: Adam
    """Adam and its settings."""


class TrainingSpec(SpecModel):
    """Epochs, batches and the optimiser."""

    epochs: Count
    """Passes over the training set."""
    batch_size: Count = 256
    """Images in a step."""
    optimizer: OptimizerSpec = OptimizerSpec(adam=Adam())
    """The optimiser: `{adam: {lr: 1e-3}}`."""
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

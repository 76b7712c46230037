"""The normalizations of hidden layers and of the heads of the latents, each for a number of units of M members."""

from collections.abc import Callable

from torch import nn

from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.layer_norm import LayerNorm
from hvae_spec.registry import Registry

MakeNorm = Callable[..., nn.Module]
"""From M, a number of units and what is added to variances (`members`, `units`, `eps`), a module [M, U, S, B] ->
[M, U, S, B]. Its settings, if it has some, are further arguments by their names in a spec. One whose statistics are
over a batch is a `BatchNorm`, which evaluation and folding know."""

NORMS: Registry[MakeNorm | None] = Registry("normalization in torch")
"""None: nothing is normalized."""
NORMS.add("none", None)
NORMS.add("batch", BatchNorm)
NORMS.add("layer", LayerNorm)

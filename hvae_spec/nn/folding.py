"""Batch normalization folded into the linear maps before it, for evaluation."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hvae_spec.nn.batch_norm import BatchNorm, Statistics
from hvae_spec.nn.gaussian import MLP, GaussianHead
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.sweep import Swept


class LinearOfSweep(Swept, Linear):
    """The linear map of the last sweep, and in its place those of the sweeps before it."""

    def __init__(self, last: Linear, earlier: Iterable[Linear]) -> None:
        members, outputs, inputs = last.weight.shape
        super().__init__(members, inputs, outputs, heads=last.heads)
        self.weight, self.bias = last.weight, last.bias
        self.earlier = nn.ModuleList(earlier)

    def forward(self, x: Tensor) -> Tensor:
        """[M, inputs, S, B] -> [M, outputs, S, B]."""
        if self.sweep is None:
            return super().forward(x)
        y: Tensor = self.earlier[self.sweep](x)
        return y


@torch.no_grad()
def fuse_batch_norm(model: Hierarchy) -> Hierarchy:
    """A copy of a model without batch normalization, which computes what `model` does in evaluation mode: with recorded
    statistics normalization is an affine map, and two affine maps in a row are one.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if isinstance(module, MLP):
            for place, (linear, norm) in enumerate(zip(module.linears, module.norms, strict=True)):
                module.linears[place], module.norms[place] = _fold(linear, norm)
        elif isinstance(module, GaussianHead):
            module.linear, module.norm = _fold(module.linear, module.norm)
    return model.eval()


def _fold(linear: nn.Module, norm: nn.Module) -> tuple[Linear, nn.Module]:
    """The linear map that equals norm(linear(x)), one for each sweep where the norm has several, and nothing to follow
    it.
    """
    if not isinstance(linear, Linear):
        raise TypeError("only a linear map can take up what follows it")
    if not isinstance(norm, BatchNorm):
        return linear, norm
    last = _folded(linear, norm, norm)
    if not norm.earlier:
        return last, nn.Identity()
    return LinearOfSweep(last, (_folded(linear, norm, statistics) for statistics in norm.earlier)), nn.Identity()


def _folded(linear: Linear, norm: BatchNorm, statistics: Statistics) -> Linear:
    """The linear map that equals norm(linear(x)) with these statistics."""
    scale = norm.weight * (statistics.variance + norm.eps).rsqrt().unsqueeze(2)
    members, outputs, inputs = linear.weight.shape
    whole = Linear(members, inputs, outputs, heads=linear.heads)
    whole.weight = nn.Parameter(linear.weight * scale)
    whole.bias = nn.Parameter(norm.bias - statistics.mean.unsqueeze(2) * scale)
    return whole

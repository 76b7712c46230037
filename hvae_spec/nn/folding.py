"""Batch normalization folded into the linear maps before it, for evaluation."""

import copy

import torch
from torch import nn

from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.gaussian import MLP, GaussianHead
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.linear import Linear


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
    """The linear map that equals norm(linear(x)), and nothing to follow it."""
    if not isinstance(linear, Linear):
        raise TypeError("only a linear map can take up what follows it")
    if not isinstance(norm, BatchNorm):
        return linear, norm
    scale = norm.weight * (norm.variance + norm.eps).rsqrt().unsqueeze(2)
    members, outputs, inputs = linear.weight.shape
    whole = Linear(members, inputs, outputs, heads=linear.heads)
    whole.weight = nn.Parameter(linear.weight * scale)
    whole.bias = nn.Parameter(norm.bias - norm.mean.unsqueeze(2) * scale)
    return whole, nn.Identity()

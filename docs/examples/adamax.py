"""Adamax: Adam with the infinity norm in place of the second moment (Kingma & Ba, 2014, Sec. 7.1)."""

from typing import Annotated

import torch

from hvae_spec import extend

NUMBER = extend.NoStepCost("a number within an update")


class Adamax(extend.OptimizerSettings):
    """Adamax; `lr` is that of every optimizer."""

    beta1: Annotated[extend.Fraction, extend.PerMember(), NUMBER] = 0.9
    """Decay rate of the first moment."""
    beta2: Annotated[extend.Fraction, extend.PerMember(), NUMBER] = 0.999
    """Decay rate of the norm."""
    eps: Annotated[extend.Positive, extend.PerMember(), NUMBER] = 1e-8
    """Added to the norm."""


@extend.optimizer("adamax", Adamax, numbers_per_parameter=2)
def adamax(groups, settings):
    options = [
        {"params": list(rows), "lr": one.lr, "betas": (one.beta1, one.beta2), "eps": one.eps}
        for rows, one in zip(groups, settings, strict=True)
    ]
    return torch.optim.Adamax(options, capturable=groups[0][0].is_cuda)

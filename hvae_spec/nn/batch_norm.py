"""Batch normalization for each member (Sec. 2.3), without running statistics.

Training normalizes with the batch's own statistics. Evaluation uses statistics that `recording` computed over the
training set beforehand; a moving average, which would lag behind the weights, is never kept. What is used in several
sweeps of inference (`keep_apart`) has statistics of its own for each, and one scale and one shift.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.sweep import Swept


class Statistics(nn.Module):
    """Recorded means and variances of units, [M, U] each."""

    mean: Tensor
    variance: Tensor

    def __init__(self, members: int, units: int) -> None:
        super().__init__()
        # Not a number until recorded, so that statistics which were never computed cannot pass for some that were.
        self.register_buffer("mean", torch.full((members, units), torch.nan))
        self.register_buffer("variance", torch.full((members, units), torch.nan))
        self.batches_recorded: int | None = None

    def record(self, mean: Tensor, variance: Tensor) -> None:
        """Fold those of one more batch into the average of all batches since `recording` began."""
        self.batches_recorded = (self.batches_recorded or 0) + 1
        share = 1 / self.batches_recorded
        for recorded, new in ((self.mean, mean), (self.variance, variance)):
            # The first batch replaces what was there, which may be not a number.
            recorded.copy_(new.view_as(recorded)) if share == 1 else recorded.lerp_(new.view_as(recorded), share)


class BatchNorm(Swept, Statistics):
    """y = weight * (x - mean) / sqrt(variance + eps) + bias, statistics over all samples and images of a member.

    Attributes:
        earlier: the statistics of the sweeps before the last one, whose own it has itself. None of them are there where
            there is one sweep.

    """

    def __init__(self, members: int, units: int, eps: float) -> None:
        super().__init__(members, units)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(members, units, 1))
        self.bias = nn.Parameter(torch.zeros(members, units, 1))
        self.earlier: Any = ()
        self.uncounted = 0
        """Images at the end of a pass that do not count in its statistics: see `not_counting`."""

    @property
    def statistics(self) -> Statistics:
        """Those of the sweep that it is in."""
        of_sweep: Statistics = self if self.sweep is None else self.earlier[self.sweep]
        return of_sweep

    def forward(self, x: Tensor) -> Tensor:
        """[M, U, S, B] -> [M, U, S, B]."""
        if self.training and self.uncounted:
            return self._normalize_apart(x)
        # To PyTorch, the units of all members are channels of one signal: [1, M * U, S * B].
        members, units, samples, images = x.shape
        channels = x.reshape(1, members * units, samples * images)
        scale, shift = self.weight.flatten(), self.bias.flatten()
        statistics = self.statistics
        if self.training:
            if statistics.batches_recorded is not None:
                variance, mean = torch.var_mean(channels.detach(), dim=(0, 2), correction=0)
                statistics.record(mean, variance)
            y = F.batch_norm(channels, None, None, scale, shift, training=True, eps=self.eps)
        else:
            mean, variance = statistics.mean.flatten(), statistics.variance.flatten()
            y = F.batch_norm(channels, mean, variance, scale, shift, eps=self.eps)
        return y.view(x.shape)

    def _normalize_apart(self, x: Tensor) -> Tensor:
        """Normalize all images by the statistics of those that count, as which gradients see them too."""
        images = x.shape[3] - self.uncounted
        if images < 1:
            raise ValueError("no images that batch statistics could be taken from")
        counted, others = x.split([images, self.uncounted], dim=3)
        variance, mean = torch.var_mean(counted, dim=(2, 3), correction=0, keepdim=True)
        if self.statistics.batches_recorded is not None:
            self.statistics.record(mean.detach(), variance.detach())
        channels = counted.reshape(1, -1, counted.shape[2] * images)
        scale, shift = self.weight.flatten(), self.bias.flatten()
        y = F.batch_norm(channels, None, None, scale, shift, training=True, eps=self.eps)
        normalized = (others - mean) * (variance + self.eps).rsqrt()
        others = torch.addcmul(self.bias.unsqueeze(3), normalized, self.weight.unsqueeze(3))
        return torch.cat([y.view(counted.shape), others], dim=3)

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        members, units, _ = self.weight.shape
        return f"members={members}, units={units}, eps={self.eps}"


def keep_apart(model: nn.Module, sweeps: int) -> None:
    """Give every normalization of `model` statistics of its own for each of so many sweeps, two or more."""
    for norm in [module for module in model.modules() if isinstance(module, BatchNorm)]:
        norm.earlier = nn.ModuleList(Statistics(*norm.mean.shape) for _ in range(sweeps - 1))


@contextmanager
def not_counting(model: nn.Module, images: int) -> Iterator[None]:
    """Within this context, the last so many images of a pass of `model` in training mode do not count in its batch
    statistics, by which they are normalized all the same.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.uncounted = images
    try:
        yield
    finally:
        for norm in norms:
            norm.uncounted = 0


@contextmanager
def recording(model: nn.Module) -> Iterator[None]:
    """Within this context, training-mode passes of `model` leave the average of their batch statistics behind, for
    evaluation to use. Leaves the model in the mode it was in.
    """
    every = [module for module in model.modules() if isinstance(module, Statistics)]
    was_training = model.training
    model.train()
    for statistics in every:
        statistics.batches_recorded = 0
    try:
        with torch.no_grad():
            yield
    finally:
        for statistics in every:
            statistics.batches_recorded = None
        model.train(was_training)

"""The class y of an image as a latent beside z_L (M2 of Kingma et al., 2014): what networks and passes need of it.

Where y is not known, a pass has C copies of every sample, one for each class, on the sample axis: copy c of sample s
stands at c S + s. The numbers of the top layer's evidence, which alone depends on y, have one copy for each class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from hvae_spec.nn.flow import Flowed, Posterior
from hvae_spec.nn.gaussian import DiagonalGaussian, Style
from hvae_spec.nn.linear import Linear


def class_units(classes: int) -> int:
    """The units of a one-hot y: C, and none of a single class, which says nothing."""
    return classes if classes > 1 else 0


def one_hot(index: Tensor, classes: int) -> Tensor:
    """One-hot classes [M, C, S, B] of their indices [M, S, B]; without units where there is a single class."""
    every = torch.arange(class_units(classes), device=index.device)
    return (index.unsqueeze(1) == every[:, None, None]).to(torch.float32)


def with_classes(h: Tensor, y: Tensor) -> Tensor:
    """h [M, U, S, B] and a one-hot y [M, C, S, B] in one; members, samples or images that one of them has a single one
    of are those of the other.
    """
    members, samples, images = torch.broadcast_shapes(*((t.shape[0], *t.shape[2:]) for t in (h, y)))
    return torch.cat([t.expand(members, -1, samples, images) for t in (h, y)], dim=1)


def top_with_classes(latents: Sequence[Tensor], y: Tensor | None) -> Sequence[Tensor]:
    """Latents up to z_L, z_L with its y as whatever reads it takes it; as they are without classes."""
    return latents if y is None else [*latents[:-1], with_classes(latents[-1], y.to(latents[-1].dtype))]


class Classes(Protocol):
    """The classes of the samples of a pass."""

    def one_hot(self, device: torch.device) -> Tensor:
        """They, [M, C, S, B] or of what broadcasts to it."""

    def of(self, q: Posterior) -> Posterior:
        """Of the evidence of the top layer, [M, U, C, B], what belongs to every sample, [M, U, S, B]."""


@dataclass(frozen=True)
class EveryClass:
    """All classes in turn, each with so many samples."""

    classes: int
    samples: int

    def one_hot(self, device: torch.device) -> Tensor:
        """See `Classes`."""
        index = torch.arange(self.classes, device=device).repeat_interleave(self.samples)
        return one_hot(index[None, :, None], self.classes)

    def of(self, q: Posterior) -> Posterior:
        """See `Classes`. A single copy is as it is, as it is for all samples."""

        def repeated(t: Tensor) -> Tensor:
            return t.unsqueeze(3).expand(-1, -1, -1, self.samples, -1).flatten(2, 3)

        return q if self.classes == 1 else _each(q, repeated)


@dataclass(frozen=True)
class DrawnClasses:
    """A class of every sample."""

    index: Tensor
    """[M, S, B]."""
    classes: int

    @classmethod
    def of_levels(cls, log_q: Tensor, uniform: Tensor) -> "DrawnClasses":
        """Those that uniform noise on [0, 1) [M, S, B] draws from log q(y|x) [M, C, B].

        The noise is multiples of 2^-24, of which each stands for the middle of its interval, and sums of probabilities
        are in float64 and end at 1: else a class of nearly no probability would come out too often, and its weight
        1/q(y|x) is large.
        """
        sums = log_q.double().exp().cumsum(1)
        reached = (sums[:, :-1] / sums[:, -1:]).unsqueeze(2)
        return cls((uniform.double().unsqueeze(1) + 2**-25 >= reached).sum(1), log_q.shape[1])

    @classmethod
    def likeliest(cls, log_q: Tensor, samples: int) -> "DrawnClasses":
        """The likeliest one of every image of log q(y|x) [M, C, B], for so many samples."""
        return cls(log_q.argmax(1).unsqueeze(1).expand(-1, samples, -1), log_q.shape[1])

    def one_hot(self, device: torch.device) -> Tensor:
        """See `Classes`."""
        return one_hot(self.index.to(device), self.classes)

    def of(self, q: Posterior) -> Posterior:
        """See `Classes`."""

        def chosen(t: Tensor) -> Tensor:
            return t.gather(2, self.index.unsqueeze(1).expand(-1, t.shape[1], -1, -1))

        return q if self.classes == 1 else _each(q, chosen)

    def log_density(self, log_q: Tensor) -> Tensor:
        """log q(y|x) of them, [M, S, B], from that of every class [M, C, B]."""
        return log_q.gather(1, self.index)


def _each(q: Posterior, change: Callable[[Tensor], Tensor]) -> Posterior:
    """The distribution whose tensors are changed ones of another's."""
    if isinstance(q, Flowed):
        base = DiagonalGaussian(change(q.base.mean), change(q.base.variance))
        return replace(q, base=base, parameters=change(q.parameters))
    return DiagonalGaussian(change(q.mean), change(q.variance))


class Classifier(nn.Module):
    """q(y|x) = softmax(Linear(MLP(h))), h what q(z_L|..., y) takes of x before anything is drawn. Its output layer is
    never normalized.
    """

    def __init__(self, style: Style, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = style.mapping(style, inputs, widths)
        self.linear = Linear(style.members, self.mlp.outputs, style.classes)
        self.classes = style.classes

    def forward(self, h: Tensor) -> Tensor:
        """log q(y|x) of every class, [M, C, B], of h [M, U, 1, B]."""
        return self.linear(self.mlp(h)).squeeze(2).log_softmax(1)

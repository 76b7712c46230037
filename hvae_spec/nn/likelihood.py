"""The observation models p(x|z_1), Eqs. 1 and 2. Their output layers are never batch-normalised."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvae_spec.nn.gaussian import MLP, DiagonalGaussian, GaussianHead, Style
from hvae_spec.nn.linear import Linear


class BernoulliLikelihood(nn.Module):
    """P(x|z_1) = B(x | mu(z_1)), Eq. 2, with mu = sigmoid(Linear(MLP(z_1)))."""

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__()
        self.mlp = MLP(style, units, widths)
        self.logits = Linear(style.members, self.mlp.outputs, pixels)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log P(x|z_1) in nats, summed over pixels.  z [M, U, S, B], x [M, D, 1, B] -> [M, S, B]."""
        logits = self.logits(self.mlp(z))
        return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1], [M, D, S, B]."""
        return torch.sigmoid(self.logits(self.mlp(z)))


class GaussianLikelihood(nn.Module):
    """p(x|z_1) = N(x | mu(z_1), sigma2(z_1)), Eq. 1: mean linear, variance softplus."""

    def __init__(self, style: Style, units: int, widths: Sequence[int], pixels: int) -> None:
        super().__init__()
        self.mlp = MLP(style, units, widths)
        self.head = GaussianHead(style, self.mlp.outputs, pixels, normalise=False)

    def distribution(self, z: Tensor) -> DiagonalGaussian:
        """p(x|z_1), over [M, D, S, B]."""
        gaussian: DiagonalGaussian = self.head(self.mlp(z))
        return gaussian

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1) in nats, summed over pixels.  z [M, U, S, B], x [M, D, 1, B] -> [M, S, B]."""
        return self.distribution(z).log_prob(x).sum(1)

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z_1], [M, D, S, B]."""
        return self.distribution(z).mean


LIKELIHOODS: dict[str, type[BernoulliLikelihood] | type[GaussianLikelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "gaussian": GaussianLikelihood,
}

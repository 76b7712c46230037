"""What a distribution of one layer's latents is to all that takes samples of it. Densities are in nats."""

from typing import Protocol

from torch import Tensor


class Distribution(Protocol):
    """A distribution of z, [M, U, S, B], whose samples are functions of standard normal noise of that shape.

    Its log density is per unit, [M, U, S, B], where it factorizes over units, and of the layer, [M, 1, S, B], where it
    does not.
    """

    def sample(self, noise: Tensor) -> Tensor:
        """The sample z that noise makes."""

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The sample that noise makes, and its log density."""

    def log_prob(self, z: Tensor) -> Tensor:
        """The log density of any z."""


def log_density_ratio(log_p: Tensor, log_q: Tensor) -> Tensor:
    """log p(z) - log q(z): per unit where both are, [M, U, S, B], and otherwise of the layer, [M, 1, S, B]."""
    if log_p.shape[1] != log_q.shape[1]:
        log_p, log_q = log_p.sum(1, keepdim=True), log_q.sum(1, keepdim=True)
    return log_p - log_q

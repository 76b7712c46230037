"""An auxiliary variable a of q (Agakov & Barber, 2004; Maaloe et al., 2016): q(z|x) is the mixture of q(z|x, a) over
q(a|x), which no product of Gaussians need be.

Its density has no closed form. With an auxiliary model r(a|x, z) of what a has been, whatever it is,

    E[log p(x, z) + log r(a|x, z) - log q(a|x) - log q(z|x, a)] <= E[log p(x, z) - log q(z|x)] <= log p(x),

with equality of the first two where r is the posterior q(a|x, z). The weights exp(...) have the mean p(x) for any r, so
that the importance-weighted bound of K samples, each with an a of its own, is one too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvae_spec.nn.gaussian import DiagonalGaussian, GaussianMapping, Style, log_ratio


class Auxiliary(nn.Module):
    """q(a|x) and r(a|x, z_1 ... z_L), a diagonal Gaussian each.

    r takes the latents of all layers: where inference runs from the top down all of them depend on a, so that the
    posterior q(a|x, z), which r is to match, depends on all. Bottom up it depends on x and z_1 alone, and r has to
    learn to ignore the rest.

    Args:
        style: what all mappings have in common, M among it.
        pixels: D, width of x.
        latents: U_1 + ... + U_L.
        units: of a.
        widths: hidden widths of both mappings.

    """

    def __init__(self, style: Style, pixels: int, latents: int, units: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.units = units
        self.q = GaussianMapping(style, pixels, widths, units)
        self.r = GaussianMapping(style, pixels + latents, widths, units)

    def log_ratio(self, x: Tensor, latents: Sequence[Tensor], a: Tensor, q: DiagonalGaussian, noise: Tensor) -> Tensor:
        """log r(a|x, z) - log q(a|x) in nats, [M, S, B].

        Args:
            x: [M, D, 1, B].
            latents: z_1 ... z_L, each [M, U_i, S, B].
            a: [M, U, S, B].
            q: q(a|x).
            noise: what made a of it, [M, U, S, B].

        """
        return log_ratio(self.r(beside(x, *latents)), q, a, noise).sum(1)


def beside(x: Tensor, *others: Tensor) -> Tensor:
    """Images [M, D, 1, B] and what belongs to samples of them, [M, U_i, S, B], in one: [M, D + U_1 + ..., S, B]."""
    return torch.cat([x.expand(-1, -1, others[0].shape[2], -1), *others], dim=1)

"""p(x|z_1) = Beta(a(z_1), b(z_1)) of dequantized gray values:

log p(x|z_1) = sum_d [(a_d - 1) log x_d + (b_d - 1) log(1 - x_d) - log B(a_d, b_d)]
"""

import torch
from torch.nn import functional as F

from hvae_spec import extend
from hvae_spec.nn.likelihood import Likelihood
from hvae_spec.nn.linear import Linear

SMALLEST = 1e-3
"""Added to a and b."""
EDGE = 1e-7
"""x is at least so far from 0 and 1, where the density may be infinite."""


@extend.observation(
    "beta", "p(x|z_1) = Beta(a(z_1), b(z_1)), a, b = softplus(Linear(d(z_1))) + 0.001", 2, x=extend.X.UNIT
)
class BetaLikelihood(Likelihood):
    def __init__(self, style, units, widths, pixels):
        super().__init__(style, units, widths, pixels)
        self.head = Linear(style.members, self.mlp.outputs, 2 * pixels, heads=2)

    def distribution(self, z):
        """a and b, [M, D, S, B] each."""
        return (F.softplus(self.head(self.mlp(z))) + SMALLEST).chunk(2, dim=1)

    def forward(self, z, x):
        (a, b), x = self.distribution(z), x.clamp(EDGE, 1 - EDGE)
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return ((a - 1) * x.log() + (b - 1) * torch.log1p(-x) - log_beta).sum(1)

    def mean(self, z):
        a, b = self.distribution(z)
        return a / (a + b)

    def sample(self, z, noise):
        with torch.random.fork_rng():  # the noise is the seed
            torch.manual_seed(int(noise.contiguous().view(torch.int32).sum()))
            return torch.distributions.Beta(*self.distribution(z)).sample()

"""InfoVAE's term (Zhao et al., 2019): - weight * MMD^2(q(z_L), p(z_L)), of the batch's aggregate posterior.

The kernel is k(z, z') = exp(-|z - z'|^2 / (2 s)), s = bandwidth * U. Its means over p(z_L) = N(0, I) are known, so that
nothing is drawn: E k(z, z') = (s / (s + 1))^(U / 2) exp(-|z|^2 / (2 (s + 1))), and (s / (s + 2))^(U / 2) over both.
"""

from typing import Annotated

from hvae_spec import extend


class MMD(extend.Settings):
    """Maximum mean discrepancy between the latents of a batch and their prior."""

    weight: Annotated[extend.Positive, extend.NoStepCost("a factor")] = 1.0
    """The factor of MMD^2, in nats."""
    bandwidth: Annotated[extend.Positive, extend.NoStepCost("a factor")] = 1.0
    """The square of the kernel's width per unit."""


@extend.objective_term("mmd", "- λ MMD²(q(z_L), N(0, I))", MMD)
def mmd(trace, settings):
    z = trace.latents[-1].flatten(2).mT  # [M, S * B, U]
    units = z.shape[2]
    s = settings.bandwidth * units
    squares = z.square().sum(2, keepdim=True)
    kernel = (-(squares + squares.mT - 2 * z @ z.mT) / (2 * s)).exp()
    across = (s / (s + 1)) ** (units / 2) * (-squares / (2 * (s + 1))).exp()
    squared = kernel.mean((1, 2)) - 2 * across.mean((1, 2)) + (s / (s + 2)) ** (units / 2)
    return -settings.weight * squared[:, None, None]

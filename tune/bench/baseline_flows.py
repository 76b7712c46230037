"""What one would write for normalizing flows of q: the part of the plain program (`tune.bench.baseline`) for them.

A flow gets what it takes from an image, by `amortize`, from the last hidden layer of the mapping into its latents.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def zeroed(linear: nn.Linear) -> nn.Linear:
    """A linear map that is zero at the start."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear


class Planar(nn.Module):
    """Planar flow: z + v tanh(w.z + b), K steps, with v = 2 u / (1 + sqrt(1 + a^2) - a), a = w.u, so that v.w > -1."""

    def __init__(self, inputs: int, units: int, style: dict[str, Any], steps: int) -> None:
        super().__init__()
        self.units, self.steps = units, steps
        self.head = zeroed(nn.Linear(inputs, steps * (2 * units + 1)))
        # w begins along one unit, b evenly spaced over the steps that begin along the same unit.
        step, rounds = torch.arange(steps), math.ceil(steps / units)
        self.register_buffer("unit", F.one_hot(step % units, units).float())
        self.register_buffer("place", (2 * (step // units) + 1 - rounds)[:, None] / rounds)

    def amortize(self, d: Tensor) -> Tensor:
        """v, w, b and v.w of every step, side by side: d [N, inputs] -> [N, K (2 U + 2)]."""
        head = (self.head(d) / self.steps).view(len(d), self.steps, -1)
        u, w, b = head.split([self.units, self.units, 1], dim=2)
        w, b = w + self.unit, b + self.place
        a = (w * u).sum(2, keepdim=True)
        factor = 2 / (1 + torch.sqrt(1 + a**2) - a)
        return torch.cat([u * factor, w, b, a * factor], dim=2).flatten(1)

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """f(z) of z [N, U], and log|det df/dz| [N]."""
        log_det = z.new_zeros(len(z))
        for step in parameters.view(len(z), self.steps, -1).unbind(1):
            v, w, b, along = step.split([self.units, self.units, 1, 1], dim=1)
            bend = torch.tanh((w * z).sum(1, keepdim=True) + b)
            z = z + v * bend
            log_det = log_det + torch.log1p(along * (1 - bend**2))[:, 0]
        return z, log_det


class MaskedLinear(nn.Linear):
    """A linear map with a mask [outputs, inputs] of the weights that count."""

    mask: Tensor

    def __init__(self, mask: Tensor, *, bias: bool) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias=bias)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] -> [N, outputs]."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """m and s of every latent, of the latents before it in some order and a context."""

    def __init__(self, order: Tensor, widths: Sequence[int], nonlinearity: Callable[[], nn.Module]) -> None:
        super().__init__()
        units = len(order)
        degrees = [order, *(units - 1 - torch.arange(width) * units // width for width in widths)]
        masks = [own[:, None] >= below for below, own in pairwise(degrees)]
        masks.append(order.repeat(2)[:, None] > degrees[-1])
        # The context, which is added to what the first map gives, has a bias of its own.
        *hidden, last = (MaskedLinear(mask, bias=place > 0) for place, mask in enumerate(masks))
        self.linears = nn.ModuleList([*hidden, zeroed(last)])
        self.nonlinearity = nonlinearity()

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z [N, U], context [N, width of the first map] -> m and s, [N, U] each."""
        y = self.linears[0](z) + context
        for linear in self.linears[1:]:
            y = linear(self.nonlinearity(y))
        m, s = y.chunk(2, dim=1)
        return m, s


class InverseAutoregressive(nn.Module):
    """Inverse autoregressive flow: 2 sigmoid(s) z + m, in an order of the units that is reversed from step to step."""

    def __init__(self, inputs: int, units: int, style: dict[str, Any], steps: int, mlp: Sequence[int]) -> None:
        super().__init__()
        order = torch.arange(1, units + 1)
        self.mades = nn.ModuleList(
            MADE(order if step % 2 == 0 else order.flip(0), mlp, style["nonlinearity"]) for step in range(steps)
        )
        context = nn.Linear(inputs, steps * [*mlp, 2 * units][0])
        self.context = context if mlp else zeroed(context)

    def amortize(self, d: Tensor) -> Tensor:
        """The contexts of all steps, side by side."""
        contexts: Tensor = self.context(d)
        return contexts

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """See `Planar.forward`."""
        log_det = z.new_zeros(len(z))
        for made, context in zip(self.mades, parameters.chunk(len(self.mades), dim=1), strict=True):
            m, s = made(z, context)
            z = 2 * torch.sigmoid(s) * z + m
            log_det = log_det + (F.logsigmoid(s) + math.log(2)).sum(1)
        return z, log_det


FLOWS: dict[str, Callable[..., nn.Module] | None] = {"none": None, "planar": Planar, "iaf": InverseAutoregressive}
"""Flows by name, of whose settings they take arguments. None: there is no flow."""

"""A linear map for each member.

Shapes throughout `hvae_spec.nn`:  M members, S samples, B images, U units;  activations [M, S, B, U].
Only `Linear`, `BatchNorm` and the noise know about M; everything above reads as the paper does.
"""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """y = x W + b, with one W and b a member: a single batched product.

    Args:
        members: M.
        inputs, outputs: widths of x and y.
        bias: whether there is a b. A map that feeds batch normalisation has none, as it would have no effect.
        heads: how many linear maps of equal width lie side by side in `outputs` (initialisation sees each alone).

    """

    def __init__(self, members: int, inputs: int, outputs: int, *, bias: bool = True, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[M, S, B, inputs] -> [M, S, B, outputs]."""
        samples, images = x.shape[1:3]
        rows = x.flatten(1, 2)
        y = torch.bmm(rows, self.weight)
        if self.bias is not None:
            # Apart from the product and in place: `baddbmm` would first write the bias into all rows of its result. And
            # `torch.compile` fuses a sum with what follows.
            y = y.add_(self.bias)
        return y.unflatten(1, (samples, images))

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        members, inputs, outputs = self.weight.shape
        return f"members={members}, {inputs} -> {outputs}, bias={self.bias is not None}"

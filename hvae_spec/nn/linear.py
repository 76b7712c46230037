"""A linear map for each member.

Shapes throughout `hvae_spec.nn`:  M members, U units, S samples, B images;  activations [M, U, S, B].  What a unit
gives for all images lies side by side in memory, as batch normalization, whose statistics run over it, wants it: a
compiler can then make one pass, and on a GPU one kernel, of a normalization and all that surrounds it.
Only `Linear`, the normalizations and the noise know about M; everything above reads as the paper does.
"""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """y = W x + b, with one W and b per member: a single batched product.

    Args:
        members: M.
        inputs, outputs: widths of x and y.
        bias: whether there is a b. A map that feeds a normalization has none, as that has a shift of its own.
        heads: how many linear maps of equal width lie side by side in `outputs` (initialization sees each alone).

    """

    def __init__(self, members: int, inputs: int, outputs: int, *, bias: bool = True, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members, outputs, 1)) if bias else None

    @property
    def matrix(self) -> Tensor:
        """W of every member, [M, outputs, inputs]."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """[M, inputs, S, B] -> [M, outputs, S, B]."""
        members, inputs, samples, images = x.shape
        y = torch.bmm(self.matrix, x.reshape(members, inputs, samples * images))
        if self.bias is not None:
            # Apart from the product and in place: `baddbmm` would first write the bias into all of its result. And
            # `torch.compile` fuses a sum with what follows.
            y = y.add_(self.bias)
        return y.view(members, y.shape[1], samples, images)

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        members, outputs, inputs = self.weight.shape
        return f"members={members}, {inputs} -> {outputs}, bias={self.bias is not None}"


def are_matrices(model: nn.Module) -> list[bool]:
    """Which of a model's parameters, in their order, are matrices of linear maps: all but biases, and scales and shifts
    of a normalization. They are what weight decay is for.
    """
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, Linear)}
    return [id(parameter) in matrices for parameter in model.parameters()]

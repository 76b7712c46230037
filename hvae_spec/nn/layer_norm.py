"""Layer normalization for each member (Ba et al., 2016)."""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """y = weight * (x - mean) / sqrt(variance + eps) + bias, statistics over the units of one sample of one image of a
    member, in training and in evaluation alike.
    """

    def __init__(self, members: int, units: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(members, units, 1))
        self.bias = nn.Parameter(torch.zeros(members, units, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[M, U, S, B] -> [M, U, S, B]."""
        # PyTorch's own would need units last in memory, where images are.
        centered = x - x.mean(1, keepdim=True)
        variance = centered.square().mean(1, keepdim=True)
        normalized = centered * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias.unsqueeze(3), normalized, self.weight.unsqueeze(3))

    def extra_repr(self) -> str:
        """Shape, for `print(model)`."""
        members, units, _ = self.weight.shape
        return f"members={members}, units={units}, eps={self.eps}"

"""The precision of float32 matrix products, `torch.set_float32_matmul_precision`."""

import torch

FLOAT32_ERROR = 2e-6
"""Largest relative error of a float32 product of the size tried below; bfloat16 or TF32 inputs err a thousandfold."""


def set_matmul_precision(wanted: str, device: torch.device) -> str:
    """Set the precision that a spec asks for, and return the setting in force.

    `auto` on a CPU is `medium`, which chooses oneDNN's kernels (up to twice as fast), unless a product shows that they
    round its inputs to bfloat16 on this CPU; then it is `highest`. On a GPU it is `highest`, as all else rounds there.
    """
    if wanted != "auto":
        torch.set_float32_matmul_precision(wanted)
        return wanted
    torch.set_float32_matmul_precision("highest")
    if device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
        if product_error() > FLOAT32_ERROR:
            torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def product_error() -> float:
    """Largest error of a batched float32 product under the present setting, relative to the largest entry."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).abs().max() / exact.abs().max())

"""The ways from gray values to observations x. Which of them an observation model takes, `Dataset.drawing` says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hvae_spec.data.dataset import Way


def binarize(values: Tensor, divisor: int, uniform: Tensor) -> Tensor:
    """Binarization: a pixel is 1 with probability value / divisor.

    Args:
        values: gray values 0, 1, ..., or intensities in [0, 1], which are floats.
        divisor: what makes a probability of a gray value (`data.grey_divisor`); 1 for intensities.
        uniform: noise on [0, 1), of the same shape.

    """
    return (uniform * divisor < values.to(torch.float32)).to(torch.float32)


def dequantize(values: Tensor, width: int, uniform: Tensor) -> Tensor:
    """Uniform dequantization: (value + u) / width, which lies in [0, 1) if the width is the number of levels.
    Intensities stay as they are.
    """
    gray = values.to(torch.float32)
    return gray if values.is_floating_point() else (gray + uniform) / width


def place(values: Tensor, largest: int, _uniform: Tensor) -> Tensor:
    """Gray levels 0, 1, ... as numbers in [0, 1], value / largest. Nothing is random."""
    return values.to(torch.float32) / largest


@dataclass(frozen=True)
class Draw:
    """One way to make observations of gray values."""

    make: Callable[[Tensor, int, Tensor], Tensor]
    """x from gray values, a number of their data set (`Drawing`), and uniform noise on [0, 1) of the values' shape."""
    noise: Literal["coarse", "fine", "none"]
    """How fine the noise must be: coarse is enough to decide between zero and one."""


DRAWS: dict[Way, Draw] = {
    "binarize": Draw(binarize, "coarse"),
    "dequantize": Draw(dequantize, "fine"),
    "place": Draw(place, "none"),
}

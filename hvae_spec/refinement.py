"""Which optimizations a refinement of q(z|x) has and what they take: what the computation of it (`evaluate.refine`) and
plans, which know no torch, have in common.
"""

from typing import NamedTuple

SAMPLES = 10
"""Samples per image and step, on which the gradient of the ELBO is taken."""


class Descent(NamedTuple):
    """Steps of Adam, and their size."""

    steps: int
    lr: float


def runs_of(refinable: int) -> list[tuple[int, ...]]:
    """The optimizations that are done, each by the layers (from 1) that take part: all jointly, then each by itself.

    Args:
        refinable: layers whose parameters depend on the image alone, the lowest ones.

    """
    every = tuple(range(1, refinable + 1))
    return [every, *((layer,) for layer in every)] if refinable > 1 else [every]

"""What a loader returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEST_EVERY = 5
"""A data set without a test set of its own gives every fifth image to one, the first image first."""


@dataclass(frozen=True)
class RawImages:
    """Training and test images, one row per image, and validation images where the distributor splits them off.

    `train` [N, D] and `test` [N', D] are whole numbers 0 ... levels - 1 (gray levels), or float32 intensities in [0, 1]
    with `levels` 2, so that value / (levels - 1) is the intensity of either; `train_labels` and `test_labels` are
    classes; `shape` is (height, width); `canonical` says whether the images are those that the distributor published,
    by their digest, and is None where there is nothing to compare with (a user's own images); `found` says in sentences
    what was found where that is for the user to judge; `validation` [N'', D] is like the others, and None where there
    are no such images; `classes` are the names of labels that have one.
    """

    train: NDArray[Any]
    test: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    levels: int
    shape: tuple[int, int]
    canonical: bool | None
    found: tuple[str, ...] = ()
    validation: NDArray[Any] | None = None
    classes: Mapping[int, str] = field(default_factory=dict)


def every_fifth(count: int) -> NDArray[np.bool_]:
    """Which of `count` images are test images, where there is no other rule."""
    return np.arange(count) % TEST_EVERY == 0


def evenly_spread(count: int, chosen: int) -> NDArray[np.bool_]:
    """Which of `count` images are chosen where `chosen` of them are spread over all, the last one among them.

    >>> evenly_spread(7, 3).nonzero()[0].tolist()
    [2, 4, 6]
    """
    # Image i is chosen where the share of it and those before it reaches the next whole number.
    share = np.arange(count + 1) * chosen // count
    return np.diff(share) > 0

"""What a loader returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawImages:
    """Training and test images of grey values 0 ... levels - 1, one row an image.

    `train` [N, D] and `test` [N', D] are bytes; `train_labels` and `test_labels` are classes; `shape` is (height,
    width); `canonical` tells whether the images are those that the distributor published.
    """

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    levels: int
    shape: tuple[int, int]
    canonical: bool

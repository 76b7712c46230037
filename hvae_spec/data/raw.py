"""What a loader returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawImages:
    """All images of a data set, one row an image. See `hvae_spec.data.dataset.Dataset` for the fields."""

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    levels: int
    shape: tuple[int, int]
    canonical: bool

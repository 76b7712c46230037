"""A data set in memory, as its distributor published it. No torch here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.digits import digits
from hvae_spec.data.mnist import mnist
from hvae_spec.data.raw import RawImages
from hvae_spec.schema.data import DataSpec

LOADERS: dict[str, Callable[[], RawImages]] = {"mnist": mnist, "digits": digits}


@dataclass(frozen=True)
class Dataset:
    """Training and test images of grey values 0 ... levels - 1, one row an image.

    `train` [N, D] and `test` [N', D] are bytes; `train_labels` and `test_labels` are classes; `shape` is (height,
    width); `sha256` is a digest of all four arrays; `canonical` tells whether they are those that the distributor
    published.
    """

    name: str
    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    levels: int
    shape: tuple[int, int]
    sha256: str
    canonical: bool

    @property
    def pixels(self) -> int:
        """D."""
        return self.train.shape[1]


def load_dataset(spec: DataSpec) -> Dataset:
    """The data set that a spec names, limited to the images that it asks for.

    Raises:
        UserError: the data are missing and cannot be downloaded, or a file is damaged.

    """
    raw = LOADERS[spec.dataset]()
    digest = hashlib.sha256()
    for array in (raw.train, raw.test, raw.train_labels, raw.test_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    dataset = Dataset(spec.dataset, **vars(raw), sha256=digest.hexdigest())
    return replace(
        dataset,
        train=raw.train[: spec.train_images],
        train_labels=raw.train_labels[: spec.train_images],
        test=raw.test[: spec.test_images],
        test_labels=raw.test_labels[: spec.test_images],
    )

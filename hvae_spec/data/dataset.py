"""A data set in memory, as its distributor published it. No torch here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hvae_spec.data.digits import digits
from hvae_spec.data.mnist import mnist
from hvae_spec.data.raw import RawImages
from hvae_spec.schema.data import DataSpec

LOADERS: dict[str, Callable[[], RawImages]] = {"mnist": mnist, "digits": digits}


@dataclass(frozen=True, kw_only=True)
class Dataset(RawImages):
    """A data set by name, with the SHA-256 of all four of its arrays, whole."""

    name: str
    sha256: str

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
    dataset = Dataset(name=spec.dataset, sha256=digest.hexdigest(), **vars(raw))
    return replace(
        dataset,
        train=raw.train[: spec.train_images],
        train_labels=raw.train_labels[: spec.train_images],
        test=raw.test[: spec.test_images],
        test_labels=raw.test_labels[: spec.test_images],
    )

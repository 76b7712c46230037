"""MNIST from its four IDX files (LeCun, Cortes & Burges), compressed or not."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.cache import locate
from hvae_spec.data.formats.idx import read_idx
from hvae_spec.data.images import RawImages
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError


def mnist() -> RawImages:
    """60,000 + 10,000 images of 28x28 pixels with gray values 0 ... 255.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is damaged.

    """
    images, labels, genuine = [], [], []
    for pictures, classes in (SOURCES["mnist"][:2], SOURCES["mnist"][2:]):
        path, other = locate(pictures), locate(classes)
        array, digest = read_idx(path, 3)
        numbers, other_digest = read_idx(other, 1)
        _check(path, array, other, numbers)
        images.append(array.reshape(len(array), 784))
        labels.append(numbers.astype(np.int64))
        genuine += [
            pictures.content_digest == f"sha256:{digest}",
            classes.content_digest == f"sha256:{other_digest}",
        ]
    return RawImages(images[0], images[1], labels[0], labels[1], 256, (28, 28), all(genuine))


def _check(path: Path, images: NDArray[np.uint8], other: Path, labels: NDArray[np.uint8]) -> None:
    """Whether the images of one file and the labels of another are MNIST's and belong together."""
    if images.shape[1:] != (28, 28):
        raise DataError(f"{path}: images of {' x '.join(map(str, images.shape[1:]))} pixels; expected 28 x 28")
    if not len(images):
        raise DataError(f"{path}: holds no images")
    if len(labels) != len(images):
        raise DataError(f"{other}: {len(labels):,} labels for the {len(images):,} images of {path.name}")
    if labels.max() > 9:
        raise DataError(f"{other}: holds the label {labels.max()}; expected digits from 0 to 9")

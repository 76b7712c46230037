"""MNIST from its four IDX files (LeCun, Cortes & Burges), compressed or not."""

import hashlib
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.cache import locate
from hvae_spec.data.contents import opened
from hvae_spec.data.counts import idx_shape
from hvae_spec.data.images import RawImages
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError


def read_idx(path: Path, dimensions: int) -> tuple[NDArray[np.uint8], str]:
    """The bytes of an IDX file of unsigned bytes (compressed if its name ends in .gz), and the SHA-256 of its content.

    Raises:
        DataError: the file is truncated, or is no such file.

    """
    with opened(path) as stream:
        content = stream.read()
    try:
        shape = idx_shape(io.BytesIO(content), dimensions)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    size = 4 + 4 * dimensions
    told, there = " x ".join(map(str, shape)), len(content) - size
    if there < math.prod(shape):
        raise DataError(
            f"{path}: incomplete, as its header promises {told} bytes, but {there:,} follow; delete it to download it "
            "again"
        )
    if there > math.prod(shape):
        raise DataError(f"{path}: more follows than the {told} bytes its header promises")
    return np.frombuffer(content, np.uint8, offset=size).reshape(shape), hashlib.sha256(content).hexdigest()


def mnist() -> RawImages:
    """60,000 + 10,000 images of 28x28 pixels with grey values 0 ... 255.

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

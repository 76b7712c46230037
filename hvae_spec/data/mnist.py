"""MNIST from its four IDX files (LeCun, Cortes & Burges), compressed or not."""

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.catalogue import SOURCES
from hvae_spec.data.contents import opened
from hvae_spec.data.headers import idx_shape
from hvae_spec.data.raw import RawImages
from hvae_spec.data.sources import locate
from hvae_spec.errors import UserError


def read_idx(path: Path, dimensions: int) -> tuple[NDArray[np.uint8], str]:
    """The bytes of an IDX file of unsigned bytes (compressed if its name ends in .gz), and the SHA-256 of its content.

    Raises:
        UserError: the file is truncated, or is no such file.

    """
    with opened(path) as stream:
        content = stream.read()
    try:
        shape = idx_shape(io.BytesIO(content), dimensions)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    size = 4 + 4 * dimensions
    if len(content) - size != int(np.prod(shape)):
        told = " x ".join(map(str, shape))
        raise UserError(
            f"{path}: its header promises {told} bytes, but {len(content) - size:,} follow; it is incomplete"
        )
    return np.frombuffer(content, np.uint8, offset=size).reshape(shape), hashlib.sha256(content).hexdigest()


def mnist() -> RawImages:
    """60,000 + 10,000 images of 28x28 pixels with grey values 0 ... 255.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged.

    """
    arrays, genuine = [], []
    for source, dimensions in zip(SOURCES["mnist"], (3, 1, 3, 1), strict=True):
        array, digest = read_idx(locate(source), dimensions)
        arrays.append(array)
        genuine.append(source.content_digest == f"sha256:{digest}")
    train, train_labels, test, test_labels = arrays
    for images, classes, name in ((train, train_labels, "train"), (test, test_labels, "t10k")):
        if len(images) != len(classes) or images.shape[1:] != (28, 28) or not len(images):
            raise UserError(f"MNIST: {name} has {len(classes)} labels for {len(images)} images of {images.shape[1:]}")
    flat = [images.reshape(len(images), 784) for images in (train, test)]
    labels = [classes.astype(np.int64) for classes in (train_labels, test_labels)]
    return RawImages(flat[0], flat[1], labels[0], labels[1], 256, (28, 28), all(genuine))

"""Small NORB (LeCun, Huang & Bottou) from its binary matrices, compressed or not: the first camera, 32x32 pixels.

`-dat` is N x 2 x 96 x 96 bytes, the second axis the two cameras of a stereo pair; `-cat` is the N categories. Pillow
scales the images: its bicubic filter is the anti-aliased one (a = -1/2) of MATLAB's `imresize`, which the authors used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvae_spec.data.cache import Source, locate
from hvae_spec.data.canonical import Digesting
from hvae_spec.data.formats.compressed import opened
from hvae_spec.data.formats.norb_matrix import norb_shape
from hvae_spec.data.images import RawImages
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError

SIDE = 32
CLASSES = {0: "animal", 1: "human", 2: "plane", 3: "truck", 4: "car"}
"""The names of the categories, from its publishers' description of the files."""
PAIRS = 256
"""Stereo pairs that are read at once."""


def norb() -> RawImages:
    """24,300 + 24,300 images of 32x32 pixels with gray values 0 ... 255; a label is one of five categories.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is damaged.

    """
    images, labels, genuine = [], [], []
    for data, categories in (SOURCES["norb"][:2], SOURCES["norb"][2:]):
        path = locate(data)
        with _reading(path, data) as (content, kind, shape):
            pictures = _first_camera(path, content, kind, shape)
        genuine.append(content.digest == data.content_digest)
        other = locate(categories)
        with _reading(other, categories) as (content, kind, shape):
            classes = _categories(other, content, kind, shape)
        genuine.append(content.digest == categories.content_digest)
        if len(pictures) != len(classes):
            raise DataError(f"{other}: {len(classes):,} categories for the {len(pictures):,} images of {path.name}")
        images.append(pictures)
        labels.append(classes)
    return RawImages(images[0], images[1], labels[0], labels[1], 256, (SIDE, SIDE), all(genuine), classes=CLASSES)


@contextmanager
def _reading(path: Path, source: Source) -> Iterator[tuple[Digesting, str, tuple[int, ...]]]:
    """The content of a binary matrix after its header, and the type and shape that the header states. All of it must
    have been read in the end.
    """
    with opened(path) as stream:
        content = Digesting(stream, source.content_digest)
        try:
            kind, shape = norb_shape(content)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        yield content, kind, shape
        if content.read(1):
            raise DataError(f"{path}: more follows than the {' x '.join(map(str, shape))} numbers its header promises")


def _first_camera(path: Path, content: Digesting, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The first camera's images, scaled, [N, 1024]."""
    if kind != "u1" or shape[1:] != (2, 96, 96) or not shape[0]:
        raise DataError(
            f"{path}: expected bytes of N x 2 x 96 x 96 (pairs of images), not {' x '.join(map(str, shape))}"
        )
    scaled = []
    for start in range(0, shape[0], PAIRS):
        count = min(PAIRS, shape[0] - start)
        block = _numbers(path, content, kind, shape, count * 2 * 96 * 96)
        scaled += [_scaled(pair[0]) for pair in block.reshape(count, 2, 96, 96)]
    return np.stack(scaled).reshape(-1, SIDE * SIDE)


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of SIDE x SIDE pixels, by anti-aliased bicubic interpolation."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _categories(path: Path, content: Digesting, kind: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    if kind != "<i4" or len(shape) != 1:
        raise DataError(f"{path}: expected N whole numbers (the categories), not {' x '.join(map(str, shape))}")
    return _numbers(path, content, kind, shape, shape[0]).astype(np.int64)


def _numbers(path: Path, content: Digesting, kind: str, shape: tuple[int, ...], count: int) -> NDArray[Any]:
    """The next `count` numbers of a binary matrix."""
    size = count * np.dtype(kind).itemsize
    block = content.read(size)
    if len(block) < size:
        raise DataError(
            f"{path}: incomplete, as its header promises {' x '.join(map(str, shape))} numbers; "
            "delete it to download it again"
        )
    return np.frombuffer(block, kind)

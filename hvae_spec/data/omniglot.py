"""OMNIGLOT (Lake, Salakhutdinov & Tenenbaum) as Burda, Grosse & Salakhutdinov prepared it: `chardata.mat`.

`data` and `testdata` are 784 x N: each column is an image of 28x28 intensities in [0, 1], its pixels in Fortran order;
`target` and `testtarget` are 50 x N, one-hot over alphabets.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.cache import locate
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.formats.matlab import arrays
from hvae_spec.data.images import RawImages
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError


def omniglot() -> RawImages:
    """24,345 + 8,070 images of 28x28 intensities; a label is the number of the alphabet.

    Raises:
        DataError: the file is missing and cannot be downloaded, or is damaged.

    """
    (source,) = SOURCES["omniglot"]
    path = locate(source)
    canonical = is_canonical(path, source)
    found = arrays(path, "data", "testdata", "target", "testtarget")
    train, test = (_rows(path, name, found[name]) for name in ("data", "testdata"))
    labels = []
    for name, images in (("target", train), ("testtarget", test)):
        if found[name].shape[1] != len(images):
            raise DataError(f"{path}: {name!r} labels {found[name].shape[1]:,} images, but there are {len(images):,}")
        labels.append(_classes(path, name, found[name]))
    return RawImages(train, test, labels[0], labels[1], 2, (28, 28), canonical)


def _classes(path: Path, name: str, target: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of the classes of which the columns are one-hot vectors."""
    is_one = target == 1
    if len(target) < 2 or not ((is_one | (target == 0)).all() and (is_one.sum(0) == 1).all()):
        raise DataError(f"{path}: {name!r} is not one-hot; expected 50 x N, one column per image: a 1 among zeros")
    return target.argmax(0).astype(np.int64)


def _rows(path: Path, name: str, columns: NDArray[Any]) -> NDArray[np.float32]:
    """Columns of Fortran-ordered pixels as rows of pixels in reading order, [N, 784]."""
    if columns.shape[0] != 784 or not columns.shape[1]:
        sizes = " x ".join(map(str, columns.shape))
        raise DataError(f"{path}: {name!r} is {sizes}; expected 784 x N, one column per image")
    if not (columns.min() >= 0 and columns.max() <= 1):
        raise DataError(
            f"{path}: {name!r} has values from {columns.min():g} to {columns.max():g}; expected intensities in [0, 1]"
        )
    images = columns.reshape(28, 28, -1, order="F")
    return np.ascontiguousarray(images.transpose(2, 0, 1).reshape(-1, 784), dtype=np.float32)

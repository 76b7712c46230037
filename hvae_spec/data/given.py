"""Images that a user has as arrays, kept as a file of images of their own (`data.own`)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvae_spec.errors import DataError
from hvae_spec.records.files import sha256_of, write_atomically
from hvae_spec.spec.data import OwnImages

GRAY = 255
"""The largest gray level."""


def stored(data: ArrayLike | tuple[ArrayLike, ArrayLike], folder: Path) -> OwnImages:
    """Write images into a file that is named by its content, and return how a spec names it.

    Args:
        data: training images [N, D] or [N, height, width], of which every fifth is set apart for the test set; or
            training and test images. Whole numbers are gray levels from 0 to 255, or zeros and ones; fractions are
            intensities in [0, 1].
        folder: where the file is written.

    Raises:
        DataError: they are no such images.
        OSError: the disk is full or not writable.

    """
    parts = data if isinstance(data, tuple) else (data,)
    if len(parts) not in (1, 2):
        raise DataError(f"data: a tuple of {len(parts)}; expected an array of images, or a pair (train, test)")
    arrays: dict[str, Any] = {name: _images(name, part) for name, part in zip(("train", "test"), parts, strict=False)}
    if len({array.shape[1:] for array in arrays.values()}) > 1:
        sizes = " and ".join(f"{name} has {list(array.shape[1:])}" for name, array in arrays.items())
        raise DataError(f"data: {sizes}; expected images of one shape")
    largest = _largest(list(arrays.values()))
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    content = stream.getvalue()
    name = f"images-{sha256_of(content)[:12]}"
    path = (folder / f"{name}.npz").resolve()
    if not path.exists():
        write_atomically(path, content)
    return OwnImages(name=name, file=str(path), range=(0, largest))


def _images(name: str, values: ArrayLike) -> NDArray[Any]:
    """One array of images, with a type that files have."""
    images = np.asarray(values)
    if images.dtype.kind not in "uibf":
        raise DataError(f"data, {name}: holds {images.dtype}; expected numbers")
    if images.ndim not in (2, 3) or 0 in images.shape:
        raise DataError(f"data, {name}: has the shape {list(images.shape)}; expected [N, D] or [N, height, width]")
    return images.astype(np.uint8) if images.dtype.kind == "b" else images


def _largest(arrays: list[NDArray[Any]]) -> int:
    """The largest value that a pixel can have: 255 for gray levels, 1 for intensities and for zeros and ones."""
    least, most = min(array.min() for array in arrays), max(array.max() for array in arrays)
    is_whole = all(array.dtype.kind != "f" or bool((array == np.floor(array)).all()) for array in arrays)
    if least >= 0 and most <= (GRAY if is_whole else 1):
        return 1 if most <= 1 else GRAY
    raise DataError(
        f"data: has values from {least:g} to {most:g}; expected whole numbers from 0 to {GRAY} (gray levels), or "
        "fractions from 0 to 1 (intensities)"
    )

"""A user's own images: an array file, or a folder of images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.cache import search_folders
from hvae_spec.data.formats import folder, numpy_file
from hvae_spec.data.images import RawImages, every_fifth
from hvae_spec.errors import DataError, MachineError, as_machine_error
from hvae_spec.spec.choices.dataset import ImageCounts
from hvae_spec.spec.data import OwnImages

LARGEST_LEVELS = 2**24
"""Whole numbers up to here are exact as float32."""


def find_own(file: str) -> Path:
    """Where a user's images are: where the spec says, else under their own name in the folders that are searched for
    data. The latter is for records that were moved to another machine, and for workers on other machines: a spec is
    read only where its images are where it says.

    Raises:
        DataError: they are nowhere.
        MachineError: the system does not let it be seen whether they are there.

    """
    path = Path(file)
    refusal: MachineError | None = None
    candidates = [path, *(parent / path.name for parent in search_folders())]
    for candidate in candidates:
        try:
            candidate.stat()
            return candidate
        except (OSError, ValueError) as error:
            refusal = refusal or as_machine_error(candidate, error)
    raise refusal or DataError(f"{file}: no such file or folder")


def own_header(path: Path, shape: tuple[int, int] | None) -> ImageCounts:
    """Pixels, training images and test images, from headers alone.

    Raises:
        DataError: it is no file or folder of images.

    """
    if path.is_dir():
        return folder.header(path)
    found = numpy_file.shapes(path)
    for name, sizes in found.items():
        _check_sizes(path, name, sizes)
    train = found["train"]
    pixels = int(np.prod(train[1:]))
    if shape is not None and shape[0] * shape[1] != pixels:
        raise DataError(f"{path}: its images have {pixels} pixels, not the {shape[0]} x {shape[1]} of data.own.shape")
    if "test" not in found:
        tests = int(every_fifth(train[0]).sum())
        return ImageCounts(pixels, train[0] - tests, tests)
    if found["test"][1:] != train[1:]:
        raise DataError(
            f"{path}: images of {_sizes(train[1:])} in 'train' and of {_sizes(found['test'][1:])} in 'test'"
        )
    return ImageCounts(pixels, train[0], found["test"][0])


def own_images(own: OwnImages | None) -> RawImages:
    """A user's images with values scaled to gray levels 0, 1, ... or to intensities in [0, 1].

    Raises:
        DataError: they are not there, or are not what the spec says.

    """
    if own is None:
        raise DataError("data.own is missing: it names the images of `dataset: own`")
    path = find_own(own.file)
    if path.is_dir():
        parts = folder.read(path)
    else:
        own_header(path, own.shape)
        parts = numpy_file.read(path)
    images = {name: _scaled(path, name, parts[name], own.range) for name in ("train", "test") if name in parts}
    labels = {name: _labels(path, f"{name}_labels", parts, len(array)) for name, (array, _) in images.items()}
    train, levels = images["train"]
    shape = own.shape or _shape(parts["train"].shape[1:])
    if "test" not in images:
        is_test = every_fifth(len(train))
        classes = labels["train"]
        return RawImages(
            train[~is_test], train[is_test], classes[~is_test], classes[is_test], levels, shape, canonical=None
        )
    test, others = images["test"]
    if others != levels:
        raise DataError(f"{path}: 'train' and 'test' are not both whole numbers, or not both fractions")
    return RawImages(train, test, labels["train"], labels["test"], levels, shape, canonical=None)


def _check_sizes(path: Path, name: str, sizes: tuple[int, ...]) -> None:
    """Whether images [N, D] or [N, height, width], or labels [N], have this shape."""
    fits = len(sizes) == 1 if name.endswith("_labels") else len(sizes) in (2, 3) and min(sizes) > 0
    if not fits:
        expected = "[N]" if name.endswith("_labels") else "[N, D] or [N, height, width]"
        raise DataError(f"{path}: {name!r} has the shape {list(sizes)}; expected {expected}")


def _scaled(path: Path, name: str, values: NDArray[Any], limits: tuple[float, float]) -> tuple[NDArray[Any], int]:
    """Images [N, D] as gray levels or intensities, and the number of levels (2 for intensities, see `RawImages`)."""
    low, high = limits
    if values.dtype.kind not in "uibf":
        raise DataError(f"{path}: {name!r} holds {values.dtype}; expected numbers")
    flat = values.reshape(len(values), -1)
    least, most = flat.min(), flat.max()
    if not (least >= low and most <= high):
        raise DataError(
            f"{path}: {name!r} has values from {least} to {most}; data.own.range promises {low:g} to {high:g}"
        )
    if values.dtype.kind == "f":
        return ((flat.astype(np.float64) - low) / (high - low)).astype(np.float32), 2
    if low != int(low) or high != int(high) or high - low >= LARGEST_LEVELS:
        raise DataError(
            f"{path}: {name!r} holds whole numbers, so data.own.range must be two whole numbers less than "
            f"{LARGEST_LEVELS:,} apart, not {low:g} and {high:g}"
        )
    levels = int(high) - int(low) + 1
    return (flat.astype(np.int64) - int(low)).astype(np.uint8 if levels <= 256 else np.int32), levels


def _labels(path: Path, name: str, parts: dict[str, Any], count: int) -> NDArray[np.int64]:
    """Labels of `count` images: zeros if there are none."""
    labels = parts.get(name)
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    if labels.shape != (count,) or labels.dtype.kind not in "uib":
        raise DataError(f"{path}: {name!r} must be {count:,} whole numbers, one per image")
    return labels.astype(np.int64)


def _shape(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of images of these sizes; a flat image is a square if it can be, else one row."""
    if len(sizes) == 2:
        return sizes[0], sizes[1]
    side = round(sizes[0] ** 0.5)
    return (side, side) if side * side == sizes[0] else (1, sizes[0])


def _sizes(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))

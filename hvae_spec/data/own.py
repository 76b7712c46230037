"""A user's own images: an array file, or a folder of images."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.cache import search_folders
from hvae_spec.data.formats import folder, numpy_file
from hvae_spec.data.formats.parts import PARTS
from hvae_spec.data.formats.regular import LARGEST_IMAGE, NOWHERE
from hvae_spec.data.images import RawImages, every_fifth
from hvae_spec.errors import DataError, MachineError, as_machine_error
from hvae_spec.spec.choices.dataset import ImageCounts
from hvae_spec.spec.data import OwnImages

LARGEST_LEVELS = 2**24
"""Whole numbers up to here are exact as float32."""
UNIT = 1 + 1e-6
"""What intensities reach at most, rounding included."""
WIDE = 2
"""A range so wide is none of intensities."""
AT_ONCE = 2**22
"""Values that are scaled at once, so that whole numbers of 8 bits do not all become some of 64."""
SHOWN = 20
"""Classes that are named at most."""

Arrays = Mapping[str, NDArray[Any]]
"""An array for `train`, and for `test` if there is one."""


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
    raise refusal or DataError(f"{file}: {NOWHERE}")


def own_header(path: Path, shape: tuple[int, int] | None) -> ImageCounts:
    """Pixels, training images and test images, from headers and one image alone.

    Raises:
        DataError: it is no file or folder of images, or its images do not have the shape.

    """
    if path.is_dir():
        sizes: tuple[int, ...]
        sizes, counts = folder.header(path)
    else:
        found = numpy_file.shapes(path)
        _check_labels(path, found)
        for name, each in found.items():
            _check_sizes(path, name, each)
        sizes = found["train"][1:]
        counts = {part: found[part][0] for part in PARTS if part in found}
        if "test" in found and found["test"][1:] != sizes:
            raise DataError(
                f"{path}: images of {_sizes(sizes)} in 'train' and of {_sizes(found['test'][1:])} in 'test'"
            )
    pixels = math.prod(sizes)
    if shape is not None and not (shape == sizes if len(sizes) == 2 else math.prod(shape) == pixels):
        has = f"{pixels} pixels" if len(sizes) == 1 else f"{_sizes(sizes)} pixels"
        raise DataError(f"{path}: its images have {has}, not the {_sizes(shape)} of data.own.shape")
    if pixels > LARGEST_IMAGE:
        raise DataError(f"{path}: its images have {pixels:,} pixels, more than the {LARGEST_IMAGE:,} that one may have")
    if "test" not in counts:
        tests = int(every_fifth(counts["train"]).sum())
        return ImageCounts(pixels, counts["train"] - tests, tests)
    return ImageCounts(pixels, counts["train"], counts["test"])


def own_images(own: OwnImages | None) -> RawImages:
    """A user's images with values scaled to gray levels 0, 1, ... or to intensities in [0, 1].

    Raises:
        DataError: they are not there, or are not what the spec says.

    """
    if own is None:
        raise DataError("data.own is missing: it names the images of `dataset: own`")
    path = find_own(own.file)
    own_header(path, own.shape)
    stored = _of_folder(path) if path.is_dir() else _of_arrays(path)
    images, levels, remarks = _scaled(path, stored.images, own.range)
    labels, split = stored.labels, stored.split
    if "test" not in images:
        is_test = every_fifth(len(images["train"]))
        images = {"train": images["train"][~is_test], "test": images["train"][is_test]}
        labels = {"train": labels["train"][~is_test], "test": labels["train"][is_test]}
        split = "every fifth of the images, as no others are set apart"
    return RawImages(
        images["train"],
        images["test"],
        labels["train"],
        labels["test"],
        levels,
        own.shape or _shape(stored.images["train"].shape[1:]),
        canonical=None,
        found=(f"test set: {split}", *_classes(labels, stored.classes), *stored.remarks, *remarks),
        classes=stored.classes,
    )


def in_both(images: RawImages) -> int:
    """How many test images stand in the training set, too, pixel by pixel."""

    def digest(image: NDArray[Any]) -> bytes:
        return hashlib.blake2b(image.tobytes(), digest_size=16).digest()

    training = set(map(digest, images.train))
    return sum(digest(image) in training for image in images.test)


@dataclass(frozen=True)
class _Stored:
    """A user's images as they are stored."""

    images: Arrays
    labels: Mapping[str, NDArray[np.int64]]
    classes: dict[int, str]
    """Names of classes by label; empty if there are no classes."""
    split: str
    """Where the test set comes from, in words; empty if there is none."""
    remarks: tuple[str, ...] = ()
    """What was passed over."""


def _of_folder(path: Path) -> _Stored:
    contents, images = folder.read(path)
    names = contents.classes
    passed_over = ", ".join(
        f"{count:,} {what}{'s' * (count > 1)}" for what, count in contents.passed_over.items() if count
    )
    return _Stored(
        images,
        {part: contents.labels(part) for part in contents.parts},
        {} if names == [""] else {number: name or "(none)" for number, name in enumerate(names)},
        f"the folder {contents.test.name}/" if contents.test else "",
        (f"passed over: {passed_over}",) if passed_over else (),
    )


def _of_arrays(path: Path) -> _Stored:
    parts, others = numpy_file.read(path)
    images = {part: parts[part] for part in PARTS if part in parts}
    labels = {part: _labels(path, f"{part}_labels", parts, len(array)) for part, array in images.items()}
    are_labeled = any(name.endswith("_labels") for name in parts)
    classes = {int(label): str(label) for label in np.unique(np.concatenate(list(labels.values())))}
    remarks = (f"passed over: {', '.join(others)}",) if others else ()
    return _Stored(images, labels, classes if are_labeled else {}, "the array 'test'", remarks)


def _check_labels(path: Path, names: Collection[str]) -> None:
    """Whether every part of an array file has labels, or none has, and no labels are without their images."""
    labeled = [part for part in PARTS if f"{part}_labels" in names]
    for part in PARTS:
        if part in labeled and part not in names:
            raise DataError(
                f"{path}: holds '{part}_labels', but no '{part}' that they belong to; add it, or leave them out"
            )
        if labeled and part in names and part not in labeled:
            raise DataError(
                f"{path}: holds '{labeled[0]}_labels', but '{part}' is without labels; add '{part}_labels', "
                f"or leave out '{labeled[0]}_labels'"
            )


def _check_sizes(path: Path, name: str, sizes: tuple[int, ...]) -> None:
    """Whether images [N, D] or [N, height, width], or labels [N], have this shape."""
    fits = len(sizes) == 1 if name.endswith("_labels") else len(sizes) in (2, 3) and min(sizes) > 0
    if not fits:
        expected = "[N]" if name.endswith("_labels") else "[N, D] or [N, height, width]"
        raise DataError(f"{path}: {name!r} has the shape {list(sizes)}; expected {expected}")


def _scaled(path: Path, images: Arrays, limits: tuple[float, float]) -> tuple[Arrays, int, list[str]]:
    """Images [N, D] as gray levels or intensities, the number of levels (2 for intensities, see `RawImages`), and
    remarks on the values for the user to judge.
    """
    low, high = limits
    extremes = {name: _extremes(path, name, values, limits) for name, values in images.items()}
    is_float = {name: values.dtype.kind == "f" for name, values in images.items()}
    can_be_levels = _is_whole(low, high)
    remarks = []
    least, most = min(least for least, _ in extremes.values()), max(most for _, most in extremes.values())
    if most - least < (high - low) / 2:
        remarks.append(f"values: from {least:g} to {most:g}, less than half of data.own.range, [{low:g}, {high:g}]")
    are_levels = can_be_levels and all(not is_float[name] or _all_whole(values) for name, values in images.items())
    if not are_levels and not all(is_float.values()):
        if not can_be_levels:
            name = next(name for name in images if not is_float[name])
            raise DataError(
                f"{path}: {name!r} holds whole numbers, so data.own.range must be two whole numbers less than "
                f"{LARGEST_LEVELS:,} apart, not {low:g} and {high:g}"
            )
        raise DataError(f"{path}: 'train' and 'test' are not both whole numbers, or not both fractions")
    if not are_levels:
        width = high - low
        scaled = {
            name: _by_rows(values, np.float32, lambda some: (some.astype(np.float64) - low) / width)
            for name, values in images.items()
        }
        return scaled, 2, remarks
    if any(is_float.values()):
        remarks.append(f"values: floats that are all whole, so they are the gray levels {low:g}, ..., {high:g}")
    levels, first = int(high) - int(low) + 1, int(low)
    dtype = np.uint8 if levels <= 256 else np.int32
    if first == 0 and all(values.dtype == dtype for values in images.values()):
        return {name: values.reshape(len(values), -1) for name, values in images.items()}, levels, remarks
    scaled = {
        name: _by_rows(values, dtype, lambda some: some.astype(np.int64) - first) for name, values in images.items()
    }
    return scaled, levels, remarks


def _extremes(path: Path, name: str, values: NDArray[Any], limits: tuple[float, float]) -> tuple[float, float]:
    """The smallest and the largest value, which must be within the range, and must not be intensities where the range
    is one of gray levels.
    """
    low, high = limits
    if values.dtype.kind not in "uibf":
        raise DataError(f"{path}: {name!r} holds {values.dtype}; expected numbers")
    least, most = values.min(), values.max()
    if not (least >= low and most <= high):
        raise DataError(
            f"{path}: {name!r} has values from {least} to {most}; data.own.range promises {low:g} to {high:g}"
        )
    if values.dtype.kind == "f" and least >= 0 and most <= UNIT and high - low >= WIDE:
        raise DataError(
            f"{path}: {name!r} has fractions from {least:g} to {most:g}, which are all nearly the same gray within the "
            f"data.own.range [{low:g}, {high:g}]; write range: [0, 1]"
        )
    return float(least), float(most)


def _is_whole(low: float, high: float) -> bool:
    """Whether a range is one of gray levels."""
    fits = -(2.0**63) <= low < high < 2.0**63
    return fits and low == int(low) and high == int(high) and high - low < LARGEST_LEVELS


def _rows(values: NDArray[Any]) -> list[slice]:
    """Slices of images of about AT_ONCE values."""
    step = max(1, AT_ONCE // math.prod(values.shape[1:]))
    return [slice(start, start + step) for start in range(0, len(values), step)]


def _all_whole(values: NDArray[Any]) -> bool:
    return all((values[rows] == np.floor(values[rows])).all() for rows in _rows(values))


def _by_rows(values: NDArray[Any], dtype: Any, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Converted images, [N, D]."""
    converted = np.empty((len(values), math.prod(values.shape[1:])), dtype)
    for rows in _rows(values):
        converted[rows] = convert(values[rows].reshape(-1, converted.shape[1]))
    return converted


def _labels(path: Path, name: str, parts: dict[str, Any], count: int) -> NDArray[np.int64]:
    """Labels of `count` images: zeros if there are none."""
    labels = parts.get(name)
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    if labels.shape != (count,) or labels.dtype.kind not in "uib":
        raise DataError(f"{path}: {name!r} must be {count:,} whole numbers, one per image")
    return labels.astype(np.int64)


def _classes(labels: Mapping[str, NDArray[np.int64]], names: dict[int, str]) -> list[str]:
    """How many images of each class there are, in words."""
    if not names:
        return []
    found = [Counter(labels[part].tolist()) for part in PARTS]
    counts = {name: [of[label] for of in found] for label, name in names.items()}
    shown = [f"{name} ({train:,} + {test:,})" for name, (train, test) in list(counts.items())[:SHOWN]]
    more = f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
    lines = [f"classes (training + test images): {', '.join(shown)}{more}"]
    for part, words in ((0, "training"), (1, "test")):
        if without := [name for name, of in counts.items() if not of[part]]:
            more = f" and {len(without) - SHOWN:,} more" if len(without) > SHOWN else ""
            lines.append(f"classes without {words} images: {', '.join(without[:SHOWN])}{more}")
    return lines


def _shape(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of images of these sizes; a flat image is a square if it can be, else one row."""
    if len(sizes) == 2:
        return sizes[0], sizes[1]
    side = round(sizes[0] ** 0.5)
    return (side, side) if side * side == sizes[0] else (1, sizes[0])


def _sizes(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))

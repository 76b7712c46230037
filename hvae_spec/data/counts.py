"""How many images a data set has, from the headers of its files, so that a spec is read without them.

Everything is remembered by a file's path, modification time and size: a plan asks thousands of times.
"""

import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from hvae_spec.data.cache import search_folders
from hvae_spec.data.formats.compressed import Readable, opened
from hvae_spec.data.formats.idx import idx_shape
from hvae_spec.data.formats.norb_matrix import norb_shape
from hvae_spec.data.formats.regular import NOWHERE
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError, MachineError, UserError, as_machine_error
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.data import DataSpec, OwnImages, published_counts

State = tuple[str, int, int]
"""A file's path, modification time and size."""


def image_counts(spec: DataSpec) -> ImageCounts:
    """The images that a spec uses, of those that are available. Raises DataError as `available_counts` does."""
    return spec.limit(available_counts(spec))


def available_counts(spec: DataSpec) -> ImageCounts:
    """The images that are available to a spec, each once: as the headers of the files say, or as published while the
    files are not here yet.

    Raises:
        DataError: the user's own images cannot be counted.

    """
    published = DATASETS[spec.dataset].counts
    return _own(spec.own) if published is None else _published(spec.dataset, published)


def stated_counts(spec: DataSpec) -> ImageCounts:
    """`available_counts`, for a spec that is being written: a user's own images must be where it says,
    whereas a record that was moved to another machine finds them by their name elsewhere.

    Raises:
        DataError: the user's own images are not there, or cannot be counted.
        MachineError: the system does not let it be seen whether they are there.

    """
    if spec.is_own and spec.own is not None:
        file = spec.own.file
        try:
            os.stat(file)
        except (OSError, ValueError) as error:
            raise as_machine_error(file, error) or DataError(f"{file}: {NOWHERE}") from None
    return available_counts(spec)


def check_headers(name: str) -> None:
    """Whether the headers of the files of a published data set, where they are here, are those of such files.

    Raises:
        DataError: a file is damaged, or none of that data set.
        MachineError: the system does not let it be read.

    """
    count = _HEADERS.get(name)
    states = None if count is None else _states(name)
    if count is not None and states is not None:
        count(*states)


def image_pixels(spec: DataSpec) -> int:
    """D, which a model needs even where the images are gone. Raises DataError as `available_counts` does."""
    if spec.is_own and spec.own and spec.own.shape:
        return spec.own.shape[0] * spec.own.shape[1]
    return available_counts(spec).pixels


def _published(name: str, published: ImageCounts) -> ImageCounts:
    """The counts of a published data set: those of the files that are here, else (or if they are damaged) the published
    ones.
    """
    count = _HEADERS.get(name)
    states = None if count is None else _states(name)
    if count is None or states is None:
        return published
    try:
        return count(*states)
    except UserError:
        return published


def _own(own: OwnImages | None) -> ImageCounts:
    """The counts of a user's own images.

    Raises:
        DataError: they are not there, or are not what they should be.

    """
    from hvae_spec.data.own import find_own, own_header

    if own is None:
        raise DataError("data.own is missing: it names the images of `dataset: own`")
    path = str(find_own(own.file))
    return _own_counts(path, _signature(path), own.shape, own_header)


def _states(name: str) -> tuple[State, ...] | None:
    """Where the files of images of a data set are, in the order of the catalog; None if one of them is missing."""
    found = []
    for candidates in _candidates(name, os.environ.get("HVAE_DATA_DIR"), os.environ.get("XDG_CACHE_HOME")):
        for path in candidates:
            try:
                status = os.stat(path)
            except (OSError, ValueError):
                continue
            found.append((path, status.st_mtime_ns, status.st_size))
            break
        else:
            return None
    return tuple(found)


@lru_cache(maxsize=64)
def _candidates(name: str, *_environment: str | None) -> tuple[tuple[str, ...], ...]:
    """The places where each file of images of a data set may be."""
    images = [source for source in SOURCES[name] if not any(word in source.name for word in ("labels", "-cat"))]
    return tuple(
        tuple(
            str(folder / source.dataset / each)
            for folder in search_folders()
            for each in dict.fromkeys((source.name, source.name.removesuffix(".gz")))
        )
        for source in images
    )


def _header(path: Path, read: Callable[[Readable], tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that the header of a file states. Raises UserError, which names the file."""
    with opened(path) as stream:
        try:
            return read(stream)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


@lru_cache(maxsize=64)
def _mnist_counts(train: State, test: State) -> ImageCounts:
    (count, height, width), (tests, *_) = (
        _header(Path(file[0]), lambda stream: idx_shape(stream, 3)) for file in (train, test)
    )
    return ImageCounts(height * width, count, tests)


@lru_cache(maxsize=64)
def _norb_counts(train: State, test: State) -> ImageCounts:
    (count, *_), (tests, *_) = (_header(Path(file[0]), lambda stream: norb_shape(stream)[1]) for file in (train, test))
    return ImageCounts(published_counts()["norb"].pixels, count, tests)


@lru_cache(maxsize=64)
def _omniglot_counts(file: State) -> ImageCounts:
    from hvae_spec.data.formats.matlab import shapes

    there = shapes(Path(file[0]), "data", "testdata")
    return ImageCounts(*there["data"], there["testdata"][1])


@lru_cache(maxsize=64)
def _frey_counts(file: State) -> ImageCounts:
    from hvae_spec.data.formats.matlab import shapes

    pixels, count = shapes(Path(file[0]), "ff")["ff"]
    return ImageCounts(pixels, *split(count))


def split(count: int) -> tuple[int, int]:
    """How many of `count` images are training and test images, if every fifth is a test image."""
    tests = -(-count // 5)
    return count - tests, tests


_HEADERS: dict[str, Callable[..., ImageCounts]] = {
    "mnist": _mnist_counts,
    "omniglot": _omniglot_counts,
    "norb": _norb_counts,
    "frey": _frey_counts,
}


def _signature(path: str, levels: int = 3) -> tuple[int, ...]:
    """What changes when a file does, or when something is added to a folder or to the folders in it, of which the parts
    and the classes are so many levels.
    """
    try:
        status = os.stat(path)
        below = _folders(path, status.st_mtime_ns) if levels and stat.S_ISDIR(status.st_mode) else ()
    except OSError as error:
        raise as_machine_error(path, error) or MachineError(f"{path}: cannot be read ({error.strerror})") from None
    times = tuple(time for folder in below for time in _signature(folder, levels - 1))
    return (status.st_mtime_ns, status.st_size, *times)


@lru_cache(maxsize=4096)
def _folders(path: str, _modified: int) -> tuple[str, ...]:
    with os.scandir(path) as children:
        return tuple(sorted(child.path for child in children if child.is_dir(follow_symlinks=False)))


@lru_cache(maxsize=64)
def _own_counts(
    path: str, _signature: tuple[int, ...], shape: tuple[int, int] | None, header: Callable[..., ImageCounts]
) -> ImageCounts:
    return header(Path(path), shape)

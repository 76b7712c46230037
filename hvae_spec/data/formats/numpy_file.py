"""NumPy's files: a `.npz` with arrays `train` and `test` and labels of either, or a `.npy` with one array."""

import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.formats.parts import is_another_part
from hvae_spec.data.formats.regular import LARGEST_OWN, file_size
from hvae_spec.errors import DataError, UserError, as_machine_error

ARRAYS = ("train", "test", "train_labels", "test_labels")
UNFOLDED, FOLD = 2**28, 200
"""An archive may unfold into so many bytes, or else into so many times its own: images cannot be compressed further,
but what is made to fill a machine's memory can (a thousand times)."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a file by name, from its header; that of a `.npy` is called `train`.

    Raises:
        DataError: it is no such file, it is damaged, too large, or holds no `train`.
        MachineError: the system does not let it be read.

    """
    return _arrays(path, lambda array: array.header()[0])[0]


def read(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of a file by name, that of a `.npy` called `train`, and the names of others that are not read.

    Raises what `shapes` does.
    """
    return _arrays(path, lambda array: array.values())


@dataclass(frozen=True)
class _Stored:
    """An array as it is stored: where it can be read, from its beginning, and how many bytes it has."""

    opened: Callable[[], IO[bytes]]
    size: int

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and the type that the header states, where just so many bytes follow.

        Raises:
            ValueError: they do not, or it is no header of an array of numbers.

        """
        with self.opened() as stream:
            version = np.lib.format.read_magic(stream)
            first = version == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(stream)
            there = self.size - stream.tell()
        if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
            raise ValueError(f"it holds {dtype} of the shape {list(shape)}")
        promised = math.prod(shape) * dtype.itemsize
        if promised != there:
            raise ValueError(f"its header promises {promised:,} bytes, but {there:,} follow")
        return shape, dtype

    def values(self) -> NDArray[Any]:
        """The array. Raises what `header` does, and whatever damage leads to."""
        self.header()
        with self.opened() as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _arrays(path: Path, read_one: Callable[[_Stored], Any]) -> tuple[dict[str, Any], list[str]]:
    size = file_size(path)
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path}: expected a .npz or .npy file, or a folder of images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy has Python parse headers, which comments on damaged ones
            found, names = _one(path, size, read_one) if path.suffix == ".npy" else _several(path, size, read_one)
    except UserError:
        raise
    except Exception as error:  # NumPy and zipfile raise whatever the damage leads to
        what = " ".join(str(error).split())[:150] or type(error).__name__
        damage = DataError(f"{path}: not a {path.suffix} file of numbers, or incomplete ({what})")
        raise as_machine_error(path, error) or damage from None
    if "train" not in found:
        raise DataError(f"{path}: holds no array 'train' (it holds {', '.join(names) or 'nothing'})")
    others = [name for name in names if name not in found]
    for name in others:
        if is_another_part(name.removesuffix("_labels")):
            raise DataError(f"{path}: {name!r} is no name of an array that is read; expected {', '.join(ARRAYS)}")
    return found, others


def _one(path: Path, size: int, read_one: Callable[[_Stored], Any]) -> tuple[dict[str, Any], list[str]]:
    _check_size(path, size, LARGEST_OWN)
    return {"train": read_one(_Stored(lambda: path.open("rb"), size))}, ["train"]


def _several(path: Path, size: int, read_one: Callable[[_Stored], Any]) -> tuple[dict[str, Any], list[str]]:
    """What is made of the arrays that are known, and the names of all there are."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            names = Counter(info.filename.removesuffix(".npy") for info in archive.infolist())
            raise DataError(
                f"{path}: holds more than one array {names.most_common(1)[0][0]!r}; save it again with one of each name"
            )
        known = {name: members[name] for name in ARRAYS if name in members}
        _check_size(path, sum(info.file_size for info in known.values()), min(LARGEST_OWN, max(UNFOLDED, FOLD * size)))
        for name, info in members.items():
            if name not in known:
                archive.open(info).close()  # which compares its name with the one in front of it
        for name, info in known.items():
            found[name] = read_one(_Stored(partial(archive.open, info), info.file_size))
    return found, sorted(members)


def _check_size(path: Path, size: int, most: int) -> None:
    if size > most:
        raise DataError(
            f"{path}: unfolds into {size:,} bytes, but at most {most:,} are read into memory; use fewer or smaller "
            "images, or whole numbers of 8 bits"
        )

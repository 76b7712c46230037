"""NumPy's files: a `.npz` with arrays `train` and `test` and labels of either, or a `.npy` with one array."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.errors import DataError, as_machine_error

ARRAYS = ("train", "test", "train_labels", "test_labels")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a file by name, from its header; that of a `.npy` is called `train`.

    Raises:
        DataError: it is no such file, it is damaged, or it holds no `train`.
        MachineError: the system does not let it be read.

    """
    return _arrays(path, _shape)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a file by name; that of a `.npy` is called `train`. Raises what `shapes` does."""
    return _arrays(path, lambda stream: np.load(stream, allow_pickle=False))


def _arrays(path: Path, read_one: Callable[[IO[bytes]], Any]) -> dict[str, Any]:
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path}: expected a .npz or .npy file, or a folder of images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy has Python parse headers, which comments on damaged ones
            found, names = _one(path, read_one) if path.suffix == ".npy" else _several(path, read_one)
    except Exception as error:  # NumPy and zipfile raise whatever the damage leads to
        what = " ".join(str(error).split())[:150] or type(error).__name__
        damage = DataError(f"{path}: not a {path.suffix} file of numbers, or incomplete ({what})")
        raise as_machine_error(path, error) or damage from None
    if "train" not in found:
        raise DataError(f"{path}: holds no array 'train' (it holds {', '.join(names) or 'nothing'})")
    return found


def _one(path: Path, read_one: Callable[[IO[bytes]], Any]) -> tuple[dict[str, Any], list[str]]:
    with path.open("rb") as stream:
        return {"train": read_one(stream)}, ["train"]


def _several(path: Path, read_one: Callable[[IO[bytes]], Any]) -> tuple[dict[str, Any], list[str]]:
    """What is made of the arrays that are known, and the names of all there are."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        for name in ARRAYS:
            if name in names:
                with archive.open(names[name]) as member:
                    found[name] = read_one(member)
    return found, sorted(names)


def _shape(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    first = version == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return read_header(stream)[0]

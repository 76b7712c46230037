"""MATLAB files (level 5), by SciPy."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.errors import DataError, MachineError, as_machine_error


def _fault(path: Path, error: Exception) -> DataError | MachineError:
    """What is wrong with a file that could not be read, or with the machine."""
    what = " ".join(str(error).split())[:150] or type(error).__name__
    damage = DataError(f"{path}: not a MATLAB file, or incomplete ({what}); delete it to download it again")
    return as_machine_error(path, error) or damage


def shapes(path: Path, *names: str) -> dict[str, tuple[int, int]]:
    """The shapes of matrices in a file, from its headers.

    Raises:
        DataError: the file is damaged, or a matrix is not in it.
        MachineError: the system does not let it be read.

    """
    import scipy.io

    _check_length(path)
    try:
        found = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # SciPy raises whatever the damage leads to
        raise _fault(path, error) from None
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "nothing"
        raise DataError(f"{path}: holds no {' and no '.join(map(repr, missing))} (it holds {there})")
    for name in names:
        if len(found[name]) != 2:
            raise DataError(f"{path}: {name!r} is no matrix (its shape is {' x '.join(map(str, found[name]))})")
    return {name: (found[name][0], found[name][1]) for name in names}


def _check_length(path: Path) -> None:
    """Whether a file of level 5 ends where its last element does: SciPy would not miss a matrix that nobody asks for.

    After 128 bytes, the last two of which give the order of bytes, come elements: type, size, and so many bytes.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(128)
            if not start.startswith(b"MATLAB 5.0") or len(start) < 128:
                return
            order, size, end = "<" if start[126:] == b"IM" else ">", path.stat().st_size, 128
            while end < size:
                stream.seek(end)
                tag = stream.read(8)
                end = end + 8 + struct.unpack(f"{order}II", tag)[1] if len(tag) == 8 else size + 1
    except OSError as error:
        raise _fault(path, error) from None
    if end > size:
        raise DataError(f"{path}: not a MATLAB file, or incomplete (it ends too early); delete it to download it again")


def arrays(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Matrices in a file.

    Raises:
        DataError: the file is damaged, or a matrix is not in it, is sparse or holds no numbers.
        MachineError: the system does not let it be read.

    """
    import scipy.io

    shapes(path, *names)
    try:
        found = scipy.io.loadmat(path, variable_names=names)
    except Exception as error:  # SciPy raises whatever the damage leads to
        raise _fault(path, error) from None
    for name in names:
        if not isinstance(found[name], np.ndarray) or found[name].dtype.kind not in "uifb":
            raise DataError(f"{path}: {name!r} is no dense matrix of real numbers")
    return {name: found[name] for name in names}

"""Arrays in safetensors files (no pickle), with a digest that says whether a file is still what was written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from hvae_spec.errors import CheckpointError, as_machine_error
from hvae_spec.records.files import sha256_of, write_atomically

Arrays = dict[str, NDArray[Any]]


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays by name, atomically. Returns the file's SHA-256. Raises OSError if it cannot be written."""
    content = as_bytes(arrays)
    write_atomically(path, content)
    return sha256_of(content)


def as_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of a file of arrays by name."""
    return bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def load_arrays(path: Path, sha256: str | None = None, remedy: str = "") -> Arrays:
    """The arrays that `save_arrays` wrote.

    Args:
        path: the file.
        sha256: its digest as a record has it, which is checked; None: not known.
        remedy: what would fix it, for the message; by default, to train the member again.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
        MachineError: the system does not let it be read.

    """
    remedy = remedy or f"delete {path.parent} to have the member trained again"
    content = read_whole(path, sha256, remedy)
    try:
        arrays: Arrays = safetensors.numpy.load(content)
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: not arrays that can be read ({error}); {remedy}") from None
    return arrays


def check_whole(path: Path, sha256: str | None, remedy: str) -> None:
    """Make sure that a file is still what was written, as far as a record has its digest.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
        MachineError: the system does not let it be read.

    """
    if sha256 is not None:
        read_whole(path, sha256, remedy)


def read_whole(path: Path, sha256: str | None, remedy: str) -> bytes:
    """The content of a file, which must have the digest that a record has of it (None: not known).

    Raises:
        CheckpointError: there is no such file, or it is damaged.
        MachineError: the system does not let it be read.

    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        damage = CheckpointError(f"{path}: not arrays that can be read ({error.strerror}); {remedy}")
        raise as_machine_error(path, error) or damage from None
    if sha256 is not None and sha256_of(content) != sha256:
        raise CheckpointError(f"{path}: damaged (its SHA-256 is not the one in the record); {remedy}")
    return content

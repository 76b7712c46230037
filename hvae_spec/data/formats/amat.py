"""Rows of zeros and ones as text, as in Larochelle's `.amat` files: one row per line, a blank between two digits.

All lines are of one length, so a file's size says how many there are. NumPy waits until they are read.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_spec.data.formats.compressed import opened
from hvae_spec.data.formats.regular import LARGEST_PUBLISHED
from hvae_spec.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def count_rows(path: Path, size: int, digits: int) -> int:
    """How many rows a file has, by its first line and its size, which is all that is looked at.

    Args:
        path: the file.
        size: its bytes.
        digits: zeros and ones in a row.

    Raises:
        DataError: it does not begin as such a file does, or ends within a line.
        MachineError: the system does not let it be read.

    """
    with opened(path) as stream:
        first = stream.read(2 * digits)
    if first:
        _check(path, 1, first.partition(b"\n")[0], digits)
    # The last line may lack its end.
    rows, rest = divmod(size, 2 * digits)
    if rest not in (0, 2 * digits - 1):
        raise DataError(
            f"{path}: {size:,} bytes are no whole lines of {digits} zeros and ones; delete it to download it again"
        )
    return rows + (rest > 0)


def read_rows(path: Path, digits: int) -> "NDArray[np.uint8]":
    """The rows of a file, [rows, digits].

    Raises:
        DataError: a line is no row of zeros and ones. The message says which.
        MachineError: the system does not let it be read.

    """
    import numpy as np

    with opened(path) as stream:
        lines = stream.read(LARGEST_PUBLISHED).removesuffix(b"\n").split(b"\n")
    if lines == [b""]:
        return np.empty((0, digits), dtype=np.uint8)
    for number, line in enumerate(lines, start=1):
        _check(path, number, line, digits)
    text = np.frombuffer(b"\n".join(lines) + b"\n", dtype=np.uint8)
    return text.reshape(-1, 2 * digits)[:, ::2] - np.uint8(ord("0"))


def _check(path: Path, number: int, line: bytes, digits: int) -> None:
    """Whether a line is a row of zeros and ones. Raises DataError."""
    if len(line) == 2 * digits - 1 and re.fullmatch(rb"(?:[01] )*[01]", line):
        return
    expected = f"expected {digits} zeros and ones, a blank between two of them; delete it to download it again"
    values = line.split()
    odd = next((value for value in values if value not in (b"0", b"1")), None)
    if odd is not None:
        column = 1 + line.index(odd)
        raise DataError(f"{path}:{number}:{column}: {odd[:20].decode(errors='replace')!r}; {expected}")
    found = f"{len(values)} values" if len(values) != digits else "other characters than single blanks between them"
    raise DataError(f"{path}:{number}: {found}; {expected}")

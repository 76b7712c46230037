"""Rows of zeros and ones as text, as in Larochelle's `.amat` files: one row per line, a blank between two digits.

All lines are of one length, so a file's size says how many there are. NumPy waits until they are read.
"""

import re
from functools import cache
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
        first = stream.read(_longest(digits))
    if first and not _row(digits).match(first + b"\n"):
        raise _fault(path, 1, first, digits)
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
        text = stream.read(LARGEST_PUBLISHED)
    text += b"" if text.endswith(b"\n") or not text else b"\n"
    row, size = _row(digits), 2 * digits
    for number, start in enumerate(range(0, len(text), size), start=1):
        if not row.fullmatch(text, start, start + size):
            raise _fault(path, number, text[start : start + _longest(digits)], digits)
    return np.frombuffer(text, dtype=np.uint8).reshape(-1, size)[:, ::2] - np.uint8(ord("0"))


@cache
def _row(digits: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:[01] ){%d}[01]\n" % (digits - 1))


def _longest(digits: int) -> int:
    """Bytes of a line at most that are looked at."""
    return 4 * digits


def _fault(path: Path, number: int, text: bytes, digits: int) -> DataError:
    """What is wrong with a line, with which some text begins."""
    line, end, _ = text.partition(b"\n")
    values = line.split()
    column, found = "", f"{len(values)} values"
    odd = next((value for value in values if value not in (b"0", b"1")), None)
    if odd is not None:
        column, found = f":{1 + line.index(odd)}", repr(odd[:20].decode(errors="replace"))
    elif not end and len(text) == _longest(digits):
        found = f"a line of more than {len(text):,} bytes"
    elif len(values) == digits:
        found = "other characters than single blanks between the values"
    expected = f"expected {digits} zeros and ones, a blank between two of them; delete it to download it again"
    return DataError(f"{path}:{number}{column}: {found}; {expected}")

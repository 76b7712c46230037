"""MATLAB files of level 5: dense matrices of real numbers, and no more.

A file is 128 bytes of text, version and order of bytes, and then elements: a tag (type, size) and so many bytes. A
matrix is an element that holds others: flags, sizes, name, numbers. It may be compressed. (SciPy reads all of MATLAB's
types, in compiled code that a damaged file can crash. Here no more is read than the file holds or a matrix may have.)
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.formats.regular import LARGEST_PUBLISHED, published_size
from hvae_spec.errors import DataError, as_machine_error

HEADER = 128
"""Bytes before the first element."""
ORDERS = {b"IM": "<", b"MI": ">"}
"""Orders of bytes by the last two of the header."""
MATRIX, COMPRESSED = 14, 15
"""Types of elements that hold others."""
FLAGS, SIZES, NAMES = 6, 5, (1, 16)
"""Types of elements of what a matrix states: whole numbers of 32 bits without and with a sign, and text."""
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of numbers as they are stored, by the type of their element."""
NUMERIC = range(6, 16)
"""Classes of matrices of numbers: double, single and eight of whole numbers. Others are cells, text, sparse, ..."""
COMPLEX = 0x0800
"""The flag of a matrix with an imaginary part."""
MOST_MATRICES, LONGEST_NAME, MOST_DIMENSIONS = 1_000, 1_000, 32
BLOCK = 1 << 16
"""Bytes of a compressed element that are unfolded at once."""
DAMAGE = "delete it to download it again"
OTHER_VERSION = "save it in MATLAB with `save -v7`, or in Python with scipy.io.savemat"


def shapes(path: Path, *names: str) -> dict[str, tuple[int, int]]:
    """The shapes of matrices in a file, from its headers.

    Raises:
        DataError: the file is damaged, or a matrix is not in it.
        MachineError: the system does not let it be read.

    """
    found: dict[str, _Matrix] = {}
    promised = 0
    with _opened(path) as (stream, order, size):
        for matrix, content in _matrices(stream, order, size):
            if matrix.name in names:
                if matrix.name in found:
                    raise ValueError(f"it has more than one matrix {matrix.name!r}")
                if matrix.is_real:
                    promised += content.promise(matrix.shape)[1]
            found[matrix.name] = matrix
        _check_promise("its matrices promise", promised)
    return _checked(path, found, names)


def arrays(path: Path, *names: str) -> dict[str, NDArray[np.generic]]:
    """Matrices in a file.

    Raises:
        DataError: the file is damaged, or a matrix is not in it, is sparse or holds no numbers.
        MachineError: the system does not let it be read.

    """
    shapes(path, *names)
    found: dict[str, NDArray[np.generic]] = {}
    with _opened(path) as (stream, order, size):
        for matrix, content in _matrices(stream, order, size):
            if matrix.name in names:
                if not matrix.is_real:
                    raise DataError(f"{path}: {matrix.name!r} is no dense matrix of real numbers")
                found[matrix.name] = content.numbers(matrix.shape)
    return found


@dataclass(frozen=True)
class _Matrix:
    """What a matrix states before its numbers."""

    name: str
    shape: tuple[int, ...]
    is_real: bool
    """Whether it is dense and holds real numbers."""


class _Content:
    """What an element holds, of which no more is read than there is.

    Args:
        stream: where it begins.
        size: its bytes in the stream.
        order: `<` or `>`.
        is_compressed: whether these bytes are to be unfolded.

    """

    def __init__(self, stream: IO[bytes], size: int, order: str, *, is_compressed: bool) -> None:
        self.stream, self.left, self.order = stream, size, order
        self.unfold = zlib.decompressobj() if is_compressed else None

    def read(self, count: int) -> bytearray:
        """The next `count` bytes.

        Raises:
            ValueError: there are not so many.
            zlib.error: they are damaged.

        """
        found = bytearray()
        while len(found) < count and (more := self._some(count - len(found))):
            found += more
        if len(found) < count:
            raise ValueError("a matrix ends too early")
        return found

    def _some(self, most: int) -> bytes:
        if self.unfold is None:
            block = self.stream.read(min(most, self.left))
            self.left -= len(block)
            return block
        while not self.unfold.eof:
            block = self.unfold.unconsumed_tail
            if not block:
                block = self.stream.read(min(BLOCK, self.left))
                self.left -= len(block)
            found = self.unfold.decompress(block, most)
            if found or not block:
                return found
        return b""

    def end(self) -> None:
        """Check that nothing follows, and with it the checksum of what was compressed. Raises what `read` does."""
        if self._some(1) or (self.unfold is not None and not self.unfold.eof):
            raise ValueError("a matrix is longer than it says")

    def tag(self) -> tuple[int, int, bytearray]:
        """The type and the size of the next element, and its bytes if these are few enough to be within its tag."""
        start = self.read(8)
        kind, size = struct.unpack(f"{self.order}II", start)
        if kind >> 16 == 0:
            return kind, size, bytearray()
        if kind >> 16 > 4:
            raise ValueError("an element has no valid tag")
        return kind & 0xFFFF, kind >> 16, start[4 : 4 + (kind >> 16)]

    def element(self, most: int, *kinds: int) -> bytearray:
        """The bytes, at most so many, of the next element, which has one of some types and ends at a multiple of 8."""
        kind, size, within = self.tag()
        if kind not in kinds or size > most:
            raise ValueError(f"an element has the type {kind} and promises {size:,} bytes")
        return within or self._padded(size)

    def _padded(self, size: int) -> bytearray:
        content = self.read(size)
        self.read(-size % 8)
        return content

    def matrix(self) -> _Matrix:
        """What the matrix that follows states before its numbers."""
        flags, sizes = self.element(8, FLAGS), self.element(4 * MOST_DIMENSIONS, SIZES)
        name = self.element(LONGEST_NAME, *NAMES)
        if len(flags) != 8 or len(sizes) < 8 or len(sizes) % 4:
            raise ValueError("a matrix states no flags or no sizes")
        shape = struct.unpack(f"{self.order}{len(sizes) // 4}i", sizes)
        if min(shape) < 0:
            raise ValueError(f"a matrix has the sizes {' x '.join(map(str, shape))}")
        (word,) = struct.unpack(f"{self.order}I", flags[:4])
        return _Matrix(name.decode("latin-1"), shape, word & 0xFF in NUMERIC and not word & COMPLEX)

    def promise(self, shape: tuple[int, ...]) -> tuple[np.dtype[np.generic], int, bytearray]:
        """The type in which the numbers of a matrix are stored, their bytes, and these if they are within the tag."""
        kind, size, within = self.tag()
        if kind not in TYPES:
            raise ValueError("a matrix holds no numbers")
        dtype = np.dtype(self.order + TYPES[kind])
        if size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"a matrix of {' x '.join(map(str, shape))} numbers promises {size:,} bytes of them")
        _check_promise("a matrix promises", size)
        return dtype, size, within

    def numbers(self, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """The numbers of the matrix that follow, as they are stored."""
        dtype, size, within = self.promise(shape)
        content = within or self._padded(size)
        self.end()
        return np.frombuffer(content, dtype).reshape(shape, order="F")


def _check_promise(what: str, size: int) -> None:
    """Raises ValueError if matrices promise more bytes than are unfolded."""
    if size > LARGEST_PUBLISHED:
        raise ValueError(f"{what} {size:,} bytes, more than any published file has")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], str, int]]:
    """A file of level 5 at its first element, its order of bytes, and its size.

    Raises:
        DataError: it is none, or turns out damaged while it is read.
        MachineError: the system does not let it be read.

    """
    size = published_size(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(HEADER)
            if version := _other_version(start):
                raise DataError(f"{path}: a MATLAB file of version {version}, not 5 to 7; {OTHER_VERSION}")
            yield stream, _order(start), size
    except (OSError, ValueError, zlib.error, struct.error) as error:
        damage = DataError(f"{path}: not a MATLAB file, or incomplete ({error}); {DAMAGE}")
        raise as_machine_error(path, error) or damage from None


def _order(start: bytes) -> str:
    """The order of bytes, `<` or `>`, of a file that begins so. Raises ValueError if it is none of level 5."""
    if len(start) < HEADER or not start.startswith(b"MATLAB 5.0") or start[126:] not in ORDERS:
        raise ValueError("it begins otherwise" if start else "it is empty")
    return ORDERS[start[126:]]


def _other_version(start: bytes) -> str:
    """The version of a MATLAB file that is not of level 5, by its first bytes; else empty."""
    if start.startswith((b"MATLAB 7.3", b"\x89HDF\r\n\x1a\n")):
        return "7.3 (HDF5)"
    if len(start) >= 20:
        for order in "<>":
            # Type (its thousands are the order of bytes), rows, columns, whether complex, length of the name.
            kind, rows, columns, is_complex, length = struct.unpack(f"{order}5i", start[:20])
            if 0 <= kind < 5_000 and min(rows, columns) > 0 and is_complex in (0, 1) and 1 < length <= 64:
                return "4"
    return ""


def _matrices(stream: IO[bytes], order: str, size: int) -> Iterator[tuple[_Matrix, _Content]]:
    """The matrices of a file, each at its numbers. The last element must end where the file does, or a matrix that
    nobody asks for could be missing.

    Raises:
        ValueError, zlib.error: the file is damaged.

    """
    end = HEADER
    for _ in range(MOST_MATRICES):
        if end == size:
            return
        stream.seek(end)
        start = stream.read(8)
        if len(start) < 8:
            raise ValueError("it ends too early")
        kind, length = struct.unpack(f"{order}II", start)
        end += 8 + length
        if end > size:
            raise ValueError("it ends too early")
        content = _Content(stream, length, order, is_compressed=kind == COMPRESSED)
        if kind == COMPRESSED:
            kind, _, _ = content.tag()
        if kind != MATRIX:
            raise ValueError(f"an element has the type {kind}")
        if length:
            yield content.matrix(), content
    raise ValueError(f"it has more than {MOST_MATRICES:,} matrices")


def _checked(path: Path, found: dict[str, _Matrix], names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """The shapes of some of the matrices that were found, which must be matrices."""
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "nothing"
        raise DataError(f"{path}: holds no {' and no '.join(map(repr, missing))} (it holds {there})")
    sizes = {}
    for name in names:
        if len(found[name].shape) != 2:
            raise DataError(f"{path}: {name!r} is no matrix (its shape is {' x '.join(map(str, found[name].shape))})")
        sizes[name] = (found[name].shape[0], found[name].shape[1])
    return sizes

"""The headers of small NORB's binary matrices."""

import math
import struct

from hvae_spec.data.formats.compressed import Readable
from hvae_spec.data.formats.regular import LARGEST_PUBLISHED
from hvae_spec.errors import DataError

NORB_TYPES = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}
"""The types of numbers in small-NORB's binary matrices that the loader reads, by magic number."""
BYTES = {"u1": 1, "<i4": 4}
"""Bytes of a number of each type."""


def norb_shape(stream: Readable) -> tuple[str, tuple[int, ...]]:
    """The type and the shape that the header of a small-NORB binary matrix states; the numbers follow.

    The header is little-endian: a magic number, the number of dimensions, and their sizes, of which at least three are
    written.

    Raises:
        DataError: it is no such file, or promises more than any has. The message lacks the file's name.

    """
    start = stream.read(8)
    magic, dimensions = struct.unpack("<Ii", start) if len(start) == 8 else (0, 0)
    sizes = stream.read(4 * max(3, dimensions)) if 1 <= dimensions <= 8 else b""
    if magic not in NORB_TYPES or len(sizes) < 12 or len(sizes) < 4 * dimensions:
        known = " or ".join(f"{number:08X}" for number in NORB_TYPES)
        raise DataError(
            f"not a small-NORB binary matrix (magic number {known}, little-endian; it begins with "
            f"{start[:4].hex() or 'nothing'})"
        )
    shape = struct.unpack(f"<{len(sizes) // 4}i", sizes)[:dimensions]
    if min(shape) < 0:
        raise DataError(f"not a small-NORB binary matrix: its dimensions are {' x '.join(map(str, shape))}")
    kind = NORB_TYPES[magic]
    if math.prod(shape) * BYTES[kind] > LARGEST_PUBLISHED:
        raise DataError(
            f"damaged or incomplete, as its header promises {' x '.join(map(str, shape))} numbers, more than any "
            "published file has; delete it to download it again"
        )
    return kind, shape

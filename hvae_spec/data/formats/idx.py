"""IDX files of unsigned bytes, MNIST's format: big-endian sizes, then the bytes. NumPy waits until they are read."""

import hashlib
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_spec.data.formats.compressed import Readable, opened
from hvae_spec.data.formats.regular import LARGEST_PUBLISHED
from hvae_spec.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def idx_shape(stream: Readable, dimensions: int) -> tuple[int, ...]:
    """The shape that the header of an IDX file of unsigned bytes states; the bytes follow.

    Raises:
        DataError: it is no such file, or promises more than any has. The message lacks the file's name.

    """
    magic = stream.read(4)
    sizes = stream.read(4 * dimensions)
    if magic != bytes([0, 0, 8, dimensions]) or len(sizes) < 4 * dimensions:
        expected = f"an IDX file of bytes with {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise DataError(f"not {expected} (it begins with {magic.hex() or 'nothing'})")
    shape = struct.unpack(f">{dimensions}I", sizes)
    if math.prod(shape) > LARGEST_PUBLISHED:
        raise DataError(
            f"damaged or incomplete, as its header promises {' x '.join(map(str, shape))} bytes, more than any "
            "published file has; delete it to download it again"
        )
    return shape


def read_idx(path: Path, dimensions: int) -> tuple["NDArray[np.uint8]", str]:
    """The bytes of an IDX file of unsigned bytes (compressed if its name ends in .gz), and the SHA-256 of its content.

    Raises:
        DataError: the file is truncated, or is no such file.

    """
    import numpy as np

    with opened(path) as stream:
        try:
            shape = idx_shape(stream, dimensions)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        content = stream.read(math.prod(shape) + 1)
    sizes = " x ".join(map(str, shape))
    if len(content) < math.prod(shape):
        raise DataError(
            f"{path}: incomplete, as its header promises {sizes} bytes, but {len(content):,} follow; delete it to "
            "download it again"
        )
    if len(content) > math.prod(shape):
        raise DataError(f"{path}: more follows than the {sizes} bytes its header promises")
    digest = hashlib.sha256(bytes([0, 0, 8, dimensions]) + struct.pack(f">{dimensions}I", *shape))
    digest.update(content)
    return np.frombuffer(content, np.uint8).reshape(shape), digest.hexdigest()

"""Files that may be compressed, as streams of bytes."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hvae_spec.data.formats.regular import LARGEST_PUBLISHED, published_size
from hvae_spec.errors import DataError, as_machine_error


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, `size` of them unless it ends."""


class _Bounded:
    """A stream that refuses to unfold into more bytes than any published file has."""

    def __init__(self, path: Path, stream: Readable) -> None:
        self.path, self.stream, self.left = path, stream, LARGEST_PUBLISHED

    def read(self, size: int, /) -> bytes:
        block = self.stream.read(min(size, self.left + 1))
        self.left -= len(block)
        if self.left < 0:
            raise DataError(
                f"{self.path}: unfolds into more than {LARGEST_PUBLISHED:,} bytes, which no published file does; "
                "delete it to download it again"
            )
        return block


@contextmanager
def opened(path: Path) -> Iterator[Readable]:
    """The uncompressed content of a file of a published data set, which is compressed if its name ends in .gz.

    Raises:
        DataError: there is no such file, it is no file, or it turns out damaged or far too large while it is read.
        MachineError: the system does not let it be read.

    """
    published_size(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield _Bounded(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        damage = DataError(f"{path}: damaged or incomplete ({error}); delete it to download it again")
        raise as_machine_error(path, error) or damage from None

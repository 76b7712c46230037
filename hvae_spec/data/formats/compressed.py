"""Files that may be compressed, as streams of bytes."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from hvae_spec.errors import DataError, as_machine_error


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, `size` of them unless it ends."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed content of a file that is compressed if its name ends in .gz.

    Raises:
        DataError: there is no such file, or it turns out damaged while it is read.
        MachineError: the system does not let it be read.

    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield cast(IO[bytes], stream)
    except (OSError, EOFError, zlib.error) as error:
        damage = DataError(f"{path}: damaged or incomplete ({error}); delete it to download it again")
        raise as_machine_error(path, error) or damage from None

"""Whether a file is the one that its distributor published, by its digest."""

import hashlib
from pathlib import Path

from hvae_spec.data.cache import Source
from hvae_spec.data.formats.compressed import Readable, opened
from hvae_spec.data.formats.regular import published_size
from hvae_spec.errors import MachineError, as_machine_error

BLOCK = 1 << 20
"""Bytes that are read at once."""


class Digesting:
    """A stream that takes the digest of what is read from it.

    Args:
        stream: where to read.
        like: a digest of the same kind, `sha256:...` or `md5:...`.

    """

    def __init__(self, stream: Readable, like: str) -> None:
        self.stream, self.algorithm = stream, like.partition(":")[0]
        self.state = hashlib.new(self.algorithm)

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        block = self.stream.read(size)
        self.state.update(block)
        return block

    @property
    def digest(self) -> str:
        """The digest of all that has been read."""
        return f"{self.algorithm}:{self.state.hexdigest()}"


def _digest(stream: Readable, like: str) -> str:
    content = Digesting(stream, like)
    while content.read(BLOCK):
        pass
    return content.digest


def is_canonical(path: Path, source: Source) -> bool:
    """Whether a file is the published one, or has its content. Raises UserError if it is damaged or
    cannot be read.
    """
    published_size(path)
    if path.name == source.name:
        try:
            with path.open("rb") as stream:
                if _digest(stream, source.digest) == source.digest:
                    return True
        except OSError as error:
            fault = MachineError(f"{path}: cannot be read ({error.strerror})")
            raise as_machine_error(path, error) or fault from None
    if not source.content_digest:
        return False
    with opened(path) as stream:
        return _digest(stream, source.content_digest) == source.content_digest

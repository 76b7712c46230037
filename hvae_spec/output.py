"""Standard output and standard error that a command survives: a reader that has gone, a terminal that was closed, a
full disk or a narrow encoding costs what would have been printed, and nothing else.
"""

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hvae_spec.errors import MachineError, refusal

READER_GONE = 141
"""Exit code of a command whose output was all that it makes, and that nobody reads: 128 + SIGPIPE, as elsewhere."""
GONE = frozenset((errno.EPIPE, errno.EIO, errno.EBADF))
"""Errors of a pipe without a reader, of a terminal that was closed, and of what was closed before the command began."""
PLAIN = {"±": "+-", "−": "-", "–": "-", "·": "*", "×": "x", "β": "beta", "…": "..."}
"""How characters are written where an encoding lacks them; any other is a question mark."""


class Descriptor(io.FileIO):
    """What is written to a file descriptor for as long as that works. What comes after is dropped.

    It is a copy, so that the number itself can be turned elsewhere, as `tune.execute.cluster` does with Ray's messages.
    """

    def __init__(self, number: int) -> None:
        super().__init__(os.dup(number), "w", closefd=False)  # a library may keep the stream
        self.error: OSError | None = None
        """Why nothing is written any more."""

    def write(self, content: Any, /) -> int:
        """Write bytes, or drop them. Returns how many."""
        if self.error is None:
            try:
                while (count := super().write(content)) is None:
                    select.select([], [self], [])  # another program has set its terminal not to block
                return count
            except OSError as error:
                self.error = error
        return memoryview(content).nbytes


@contextmanager
def unbreakable() -> Iterator[None]:
    """Within this context, writing to `sys.stdout` and `sys.stderr` never raises. Streams that are not the process's
    own (a notebook's, a test's) stay as they are.
    """
    before = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(sys.__stdout__, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(sys.__stderr__, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _stream(stream: Any, number: int) -> io.TextIOWrapper:
    if stream is None:  # it was closed before the process began, and a file could take its number
        while (taken := os.open(os.devnull, os.O_RDWR)) < number:
            pass
        if taken > number:
            os.close(taken)
        return io.TextIOWrapper(io.BufferedWriter(Descriptor(number)), "utf-8", "replace")
    stream.flush()
    buffer = io.BufferedWriter(Descriptor(stream.fileno()))
    return io.TextIOWrapper(
        buffer, stream.encoding, "hvae_spec.plain", line_buffering=stream.line_buffering or stream.write_through
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end


codecs.register_error("hvae_spec.plain", _plain)


def fault() -> OSError | None:
    """Why standard output is not written any more; None if it is."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, Descriptor) else None


def code_of_output() -> int:
    """Exit code of a command whose output is all that it makes: 0, or `READER_GONE`.

    Raises:
        MachineError: the output could not be written; a file on a full disk, for instance.

    """
    error = fault()
    if error is None:
        return 0
    if error.errno in GONE:
        return READER_GONE
    raise MachineError(refusal("standard output", error))

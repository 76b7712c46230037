"""The file operations of a process below a folder: counted, and cut off at one of them as a dying process is."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")


@dataclass
class Operations:
    """What changes files below a folder: opening for writing, flushing (before and after it), renaming, deleting,
    making and removing folders. Paths that are relative to an open folder, as `shutil.rmtree` uses them, count too.

    Args:
        root: the folder.
        at: number of the operation, from 1, before which the process dies; None: it lives.
        die: ends the process, or raises. It is called again for every later operation, as nothing works after death.

    """

    root: Path
    at: int | None = None
    die: Callable[[str], None] = lambda what: None
    names: list[str] = field(default_factory=list)
    """What was done, in order."""

    def happen(self, what: str) -> None:
        """Count an operation, or die before it."""
        self.names.append(what.replace(str(self.root), ""))
        if self.at is not None and len(self.names) >= self.at:
            self.die(self.names[-1])

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """See an event of Python's."""
        if event == "open":
            path, mode, flags = arguments
            is_writing = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
            is_writing = is_writing or (isinstance(flags, int) and bool(flags & WRITING))
            if is_writing and self._is_below(path):
                self.happen(f"open {path!s}")
        elif event in CHANGES and self._is_below(arguments[0], relative=event in ("os.remove", "os.rmdir")):
            self.happen(f"{event} {arguments[0]!s}")

    def _is_below(self, path: object, relative: bool = False) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return text.startswith(str(self.root)) or (relative and not text.startswith("/"))


_watching: list[Operations] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    for operations in _watching:
        operations.audit(event, arguments)


@contextmanager
def watched(operations: Operations) -> Iterator[Operations]:
    """Within this context, operations of this process are seen."""
    flush = os.fsync

    def fsync(number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        if not path.startswith(str(operations.root)):
            flush(number)
            return
        operations.happen(f"fsync {path}")
        flush(number)
        operations.happen(f"after fsync {path}")

    if not getattr(_hook, "is_added", False):  # a hook stays for as long as the process lives
        sys.addaudithook(_hook)
        _hook.is_added = True  # type: ignore[attr-defined]
    _watching.append(operations)
    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield operations
    finally:
        os.fsync = flush
        _watching.remove(operations)

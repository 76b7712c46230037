"""The folder of a local Ray: its sockets, logs and other files, closed to other users, and removed with the run."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hvae_spec.errors import MachineError, UserError, refusal

PREFIX = "hvae"
LONGEST = 25
"""Bytes that the path of the parent folder may have: a socket's may have 107, and Ray adds 67 to that of its folder,
`/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store`, which is itself 14 more than its parent's."""
MARK = "of_hvae_spec"
"""A file in every such folder, without which none is removed: a user's own may have a name like theirs."""
ATTEMPTS, PAUSE = 20, 0.1
"""How often, and after how many seconds, a folder is removed that processes which are ending still write to."""


@contextmanager
def session_folder() -> Iterator[Path]:
    """A new folder for a local Ray, which is gone at the end. Folders of runs that were killed are removed first.

    Raises:
        UserError: `RAY_TMPDIR` names a folder whose path is too long.
        MachineError: there is no folder that can be written.

    """
    parent = _parent()
    _remove_abandoned(parent)
    try:
        new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        # The lock ends with this process, however it ends; only a folder that has one gets the mark that is looked for.
        lock = os.open(new, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        (new / MARK).touch()
        folder = new.rename(parent / new.name.removeprefix("."))
    except OSError as error:
        raise MachineError(
            f"Ray's files cannot be kept in a folder in {parent} ({refusal(parent, error)}); name another folder of at "
            f"most {LONGEST} characters in the environment variable RAY_TMPDIR, or run with --serial"
        ) from None
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _parent() -> Path:
    """The folder for temporary files: RAY_TMPDIR, else the usual one, else /tmp where that one's path is too long."""
    named = os.environ.get("RAY_TMPDIR")
    if named is None:
        with suppress(OSError):
            usual = tempfile.gettempdir()
            if len(os.fsencode(usual)) <= LONGEST:
                return Path(usual)
        return Path("/tmp")
    folder = os.path.abspath(named)
    if len(os.fsencode(folder)) > LONGEST:
        raise UserError(
            f"RAY_TMPDIR={named}: too long for the sockets of Ray, whose paths may have 107 bytes; name a folder of at "
            f"most {LONGEST} characters (RAY_TMPDIR=/tmp, say), or run with --serial, which does without Ray"
        )
    return Path(folder)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of this user's runs that have ended without removing them."""
    for mark in (*parent.glob(f"{PREFIX}????????/{MARK}"), *parent.glob(f".{PREFIX}????????/{MARK}")):
        folder = mark.parent
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where a run has it
                _remove(folder)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(PAUSE)

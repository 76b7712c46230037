"""Who works in a results folder: one run at a time."""

import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.records.files import remove_unfinished, write_json
from hvae_spec.records.layout import FOLDERS

FIRST = (".lock", "source")
"""What a run makes in a results folder before it has checked that it can begin."""
BEGUN = ("grid.json", "members")
"""What is in a results folder in which a run has begun anything: one of these."""


def check_is_folder(root: Path) -> None:
    """Refuse a results folder that is no folder, before anything is planned.

    Raises:
        UserError: it is a file.
        MachineError: the system does not let it be seen.

    """
    try:
        is_file = root.exists() and not root.is_dir()
    except OSError as error:
        raise _unusable(root, error) from None
    if is_file:
        raise UserError(f"{root}: cannot be used as a results folder (it is a file)")


def _unusable(root: Path, error: OSError) -> MachineError:
    return MachineError(
        f"{root}: cannot be used as a results folder ({refusal(root, error)}); another one is chosen with --results"
    )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other runs out of a results folder. A run that is refused before it begins anything leaves nothing there.

    Raises:
        UserError: another run is at work there.
        MachineError: the folder cannot be written.

    """
    import filelock

    try:
        folders = [folder for folder in (root, *root.parents) if not folder.exists()]
        entries = [root / name for name in FIRST if not (root / name).exists()]
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{root}: another run is at work in this folder{_holder(root)}; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise _unusable(root, error) from None
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    try:
        write_json(root / ".holder.json", holder)
        for scratch in (*root.glob(".ray-*"), *root.glob(".adopted-*")):
            shutil.rmtree(scratch, ignore_errors=True)
        remove_unfinished(root, FOLDERS)
        yield
    finally:
        with suppress(OSError):
            (root / ".holder.json").unlink(missing_ok=True)
            if not any((root / name).exists() for name in BEGUN):
                _remove(entries, folders)
        lock.release()


def _remove(entries: Iterable[Path], folders: Iterable[Path]) -> None:
    """Remove files and folders with what is in them, and then folders that are empty.

    Raises:
        OSError: the system refuses it, or a folder is not empty.

    """
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    for folder in folders:
        folder.rmdir()


def _holder(root: Path) -> str:
    try:
        holder = json.loads((root / ".holder.json").read_text())
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return ""

"""Who works in a results folder: one run at a time.

A file lock keeps others out for as long as its process lives, on one machine and on network file systems with locks.
On those without (NFS mounted with `nolock` or `local_lock`, Lustre without `flock`) each machine has locks of its own.
So who holds the lock says in `.holder.json` who it is, and writes the time of that file anew every so often. One that
another machine has left there is watched before it is taken over: by changes of its time, as clocks may differ.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.records.files import remove_unfinished, write_json
from hvae_spec.records.layout import FOLDERS

LOCK = ".lock"
FIRST = (LOCK, "source")
"""What a run makes in a results folder before it has checked that it can begin."""
BEGUN = ("grid.json", "members")
"""What is in a results folder in which a run has begun anything: one of these."""

HOLDER = ".holder.json"
BEAT_SECONDS, SILENT_SECONDS = 20.0, 90.0
"""How often a run gives a sign of life, and after what time without one it is dead. A network file system may show a
change of a file a minute late."""
WATCH_SECONDS = 2.0
"""How often a sign of life is looked for."""


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
        MachineError: the folder cannot be written, or its file system has no locks.

    """
    import filelock

    try:
        folders = [folder for folder in (root, *root.parents) if not folder.exists()]
        entries = [root / name for name in FIRST if not (root / name).exists()]
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{root}: another run is at work in this folder{_holder(root)}{_remedy(root)}") from None
    except NotImplementedError:
        raise _unusable(root, OSError("its file system has no locks")) from None
    except OSError as error:
        raise _unusable(root, error) from None
    try:
        _check_silent(root)
    except BaseException:
        lock.release()
        raise
    since = datetime.now().isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "boot": _boot()}
    try:
        write_json(root / HOLDER, holder)
        for scratch in (*root.glob(".ray-*"), *root.glob(".adopted-*")):
            shutil.rmtree(scratch, ignore_errors=True)
        remove_unfinished(root, FOLDERS)
        with _signs_of_life(root / HOLDER):
            yield
    finally:
        with suppress(OSError):
            if _read(root) == holder:
                (root / HOLDER).unlink()
            if not any((root / name).exists() for name in BEGUN):
                _remove(entries, folders)
        lock.release()


def _check_silent(root: Path) -> None:
    """Make sure that a run of another machine, which has left its name in a folder, has not done so because it is still
    at work there: locks do not reach every machine. One of this machine would have the lock.

    Raises:
        UserError: it gives signs of life.

    """
    left, first = _read(root), _time(root)
    # One of an earlier version gives no sign of life.
    if "boot" not in left or left["boot"] == _boot():
        return
    # One of this name is mostly this machine before it was started again. Of two machines of one name, the other one's
    # run has given a sign of life just now, by the clock of the disk.
    os.utime(root / LOCK)
    is_old = first is not None and (root / LOCK).stat().st_mtime_ns - first > SILENT_SECONDS * 1e9
    if left.get("host") == socket.gethostname() and is_old:
        return
    sys.stderr.write(
        f"{root}: a run has left its name there{_holder(root)}; waiting up to {SILENT_SECONDS:.0f} seconds for a sign "
        "of life from it\n"
    )
    until = time.monotonic() + SILENT_SECONDS
    while (now := _time(root)) is not None and time.monotonic() < until:
        if now != first:
            raise UserError(
                f"{root}: another run is at work in this folder{_holder(root)}, whose lock does not reach this machine "
                "(a network file system without locks); wait for it, or stop it"
            )
        time.sleep(WATCH_SECONDS)


@contextmanager
def _signs_of_life(holder: Path) -> Iterator[None]:
    """Within this context, the time of a file shows that this process lives. Where another run has taken the folder
    over, as it took this one for dead (it was suspended, say), this one is interrupted. So it is where the file is
    gone: the other one has ended already, or somebody has removed the folder, and a new one would not be locked.
    """
    ours, is_over = _content(holder), threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_SECONDS):
            try:
                if _content(holder) != ours:
                    sys.stderr.write(
                        f"{holder.parent}: another run has taken this folder over, or it was removed; this one ends\n"
                    )
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                os.utime(holder)
            except OSError:
                continue  # the disk is away, and may come back

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _content(path: Path) -> bytes | None:
    """What is in a file; None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _time(root: Path) -> int | None:
    """The time of the holder's file, as the file server has it; None if there is none."""
    try:
        with (root / HOLDER).open("rb") as stream:  # opened, as a network file system asks its server then
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None


def _boot() -> str:
    """What is different after each start of a machine, and on every machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


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


def _read(root: Path) -> dict[str, Any]:
    """What the holder of a folder's lock has said of itself; empty if there is nothing that can be read."""
    try:
        holder = json.loads((root / HOLDER).read_text())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _holder(root: Path) -> str:
    holder = _read(root)
    if not {"pid", "host", "since"} <= holder.keys():
        return ""
    return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"


def _remedy(root: Path) -> str:
    """What is to be done about a lock that another run has. That of a machine which went down may stay with the file
    server for a while.
    """
    written, holder = _time(root), _read(root)
    silent = 0.0 if written is None or "boot" not in holder else time.time() - written / 1e9
    if silent < SILENT_SECONDS or holder["boot"] == _boot():
        return "; wait for it, or stop it"
    return (
        f", without a sign of life for {silent / 60:.0f} minutes; if {holder.get('host')} is down, its lock ends when "
        f"the file server notices, or when you remove {root / LOCK}"
    )

"""Whole files or none: every write goes to a temporary name, is flushed to disk, and is then renamed."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Names of files that are being written. No reader takes them for anything."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Raises:
        OSError: the disk is full or not writable; it names the file, whose old content stands.

    """
    write_in_order(path.parent, {path.name: content})


def write_in_order(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    """Write files of one folder, each as `write_atomically` does, the first one first. Which files the folder has is
    flushed to disk once, after the last.

    Args:
        folder: made if it is not there.
        contents: what is written, by the file's name.

    Raises:
        OSError: the disk is full or not writable; it names the file. Those before it are written.

    """
    path = folder
    try:
        for name, content in contents.items():
            path = folder / name
            _replace(path, content.encode() if isinstance(content, str) else content)
        # The renames themselves must outlive a power cut, or a result could vanish whose checkpoint is gone already.
        _flush_names(folder)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without a name, and a temporary one says nothing
        raise


def _replace(path: Path, content: bytes) -> None:
    """Write a file to a temporary name, flush it and rename it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _opened(temporary) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _opened(path: Path) -> BinaryIO:
    """A new file. Its folder is made if it is not there, and not looked for before: on a shared disk that is a request
    for every write.
    """
    with contextlib.suppress(FileNotFoundError):
        return path.open("wb")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def copy_folder(source: Path, target: Path, temporary: Path) -> None:
    """Copy a folder so that a crash at any moment leaves all of them at `target`, or none: what was there,
    or a part of it. Until all are copied they are in `temporary`, on the same disk.

    Raises:
        OSError: a file cannot be read, or the disk is full or not writable.

    """
    shutil.rmtree(temporary, ignore_errors=True)
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            write_atomically(temporary / path.relative_to(source), path.read_bytes())
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, target)
    _flush_names(target.parent)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically. Not-a-number and infinity become null, as JSON has neither."""
    write_atomically(path, json.dumps(finite(content), indent=2) + "\n")


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The content of a file with one JSON object per line."""
    return "".join(json.dumps(finite(row)) + "\n" for row in rows).encode()


def remove_unfinished(root: Path, folders: Iterable[str]) -> None:
    """Remove what writers that were killed have left: temporary files that were never renamed. What cannot be removed
    stays.

    Args:
        root: a folder.
        folders: those in it that are looked into, with all that is below; in `root` itself only files are.

    """
    walks = (os.walk(root / name) for name in folders)  # one look at each folder, of which there may be many
    below = ((folder, name) for walk in walks for folder, _, names in walk for name in names)
    found = [Path(folder, name) for folder, name in below if TEMPORARY.fullmatch(name)]
    for path in (*(path for path in root.glob(".*.tmp") if TEMPORARY.fullmatch(path.name)), *found):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                path.unlink()


def sha256_of(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _flush_names(folder: Path) -> None:
    """Write to disk which files a folder has."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def finite(value: Any) -> Any:
    """A value as JSON has it: null for what is not finite, text for keys, lists for tuples."""
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value

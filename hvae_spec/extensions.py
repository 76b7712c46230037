"""Extensions: Python files of a user's own that add parts to the language (see `hvae_spec.extend`), and how they run.

A file runs once per process, when a spec that names it is read, or when a record's copy of it is asked for; never
because data was read. What it registers is known by the SHA-256 of the file.
"""

import errno
import hashlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from hvae_spec.errors import Place, Problem, RecordError, SpecError, UserError, as_machine_error, harmless
from hvae_spec.registry import Extension, NameTakenError, parts_of, remove, running

FOLDER = "extensions"
"""The folder, in a results folder or in a record, that holds a copy of every extension."""
_RUN: dict[str, Extension] = {}
"""What has run in this process, by its SHA-256."""


def read(path: Path) -> Extension:
    """An extension as it is on the disk. Nothing of it runs.

    Raises:
        OSError: the file cannot be read.

    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))  # one that would have to be waited for, say
    content = path.read_bytes()
    return Extension(Path(os.path.abspath(path)), content, hashlib.sha256(content).hexdigest())


def readable(path: Path) -> Extension:
    """What `read` gives, of a file that a command names.

    Raises:
        UserError: the file cannot be read.
        MachineError: the system does not let it be read.

    """
    try:
        return read(path)
    except OSError as error:
        fault = UserError(f"{path}: cannot be read ({error.strerror}); expected a Python file")
        raise as_machine_error(path, error) or fault from None


def run(extensions: Sequence[Extension]) -> None:
    """Run files that have not run in this process, once it is said on standard error which. One that was changed takes
    the place of what it was before.

    Raises:
        SpecError: an exception in a file, with its line; it has registered nothing then, and what it was before stands.

    """
    new = [one for one in extensions if one.sha256 not in _RUN]
    if new:
        listed = ", ".join(f"{harmless(str(one.path))} (sha256 {one.sha256})" for one in new)
        sys.stderr.write(f"Runs extensions: {listed}\n")
        sys.stderr.flush()
    for extension in new:
        _run(extension)


def _run(extension: Extension) -> None:
    earlier = next((one for one in _RUN.values() if one.path == extension.path), None)
    put_back = None if earlier is None else remove(earlier)
    module = ModuleType(f"hvae_extension_{extension.sha256}")
    module.__file__ = str(extension.path)
    sys.modules[module.__name__] = module
    try:
        with running(extension):
            exec(compile(extension.content, str(extension.path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        if put_back is not None:
            put_back()
        raise SpecError([_problem(extension, error)]) from None
    if earlier is not None:
        del _RUN[earlier.sha256]
    _RUN[extension.sha256] = extension


def _problem(extension: Extension, error: BaseException) -> Problem:
    """What went wrong in a file, at its line."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(extension.path)
    ]
    line, column = (lines[-1] or 1) if lines else 1, 1
    if isinstance(error, SyntaxError) and error.filename == str(extension.path):
        line, column = error.lineno or 1, error.offset or 1
    text = extension.content.decode(errors="replace").splitlines()[line - 1 : line]
    what = " ".join(str(error).split())
    is_said = isinstance(error, UserError | NameTakenError)
    message = what if is_said else f"{type(error).__name__}: {what}"
    expected = "a file that runs to its end"
    if isinstance(error, NameTakenError):
        expected = "another name"
        if error.owner == extension:
            message += ", of this file"
        elif error.owner is not None:
            message += f", of {error.owner.path}"
            expected += ", or a new process if that is an earlier version of this file: its names stay until the end"
    quoted = text[0] if text else ""
    column = column if column > 1 else len(quoted) - len(quoted.lstrip()) + 1
    return Problem("invalid", Place(str(extension.path), line, column, quoted), message, expected)


def parts(extension: Extension) -> list[tuple[str, str]]:
    """The kinds and names of what an extension has registered, of everything that is in the language."""
    return parts_of(extension)


def known(sha256: str) -> Extension | None:
    """What has run in this process and has this SHA-256."""
    return _RUN.get(sha256)


def every() -> list[Extension]:
    """All that have run in this process."""
    return list(_RUN.values())


def of(sha256: Iterable[str]) -> list[Extension]:
    """Those of some SHA-256 that have run in this process."""
    return [_RUN[one] for one in sorted(sha256) if one in _RUN]


def copied(sha256: str, folders: Sequence[Path]) -> Extension:
    """The copy of an extension that one of some folders holds, once it is sure that it is what it was.

    Raises:
        RecordError: there is none, or it was changed.
        MachineError: the system does not let it be read.

    """
    for folder in folders:
        path = folder / FOLDER / f"{sha256}.py"
        try:
            found = read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            damage = RecordError(f"{path}: cannot be read ({error.strerror}); put the file back that it was a copy of")
            raise as_machine_error(path, error) or damage from None
        if found.sha256 != sha256:
            raise RecordError(
                f"{path}: changed since it was written (its SHA-256 is {found.sha256}); put the file back that it was "
                "a copy of"
            )
        return found
    where = " or ".join(str(folder / FOLDER / f"{sha256}.py") for folder in folders)
    raise RecordError(f"{where}: no such file, and a record's parts are of it; put the file back that it was a copy of")

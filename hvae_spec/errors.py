"""Errors that a user can fix: what is wrong, where, what was expected, and what would fix it."""

import errno
import os
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["unreadable", "invalid", "inconsistent"]

LINE_WIDTH = 110
"""Characters of an offending line that are quoted at most."""
TEXT_WIDTH = 400
"""Characters of a message, an expectation or a suggestion that are shown at most."""


class UserError(Exception):
    """What a user can fix. The message stands on its own; commands print it without a traceback and exit with
    `exit_code`.

    Its subclasses say where the fault lies. An error that is of none of them concerns a flag, an argument of a function
    or a folder in use.
    """

    exit_code: ClassVar[int] = 2
    """What a command that ends with this error exits with: 2, the input is bad; 1, the machine failed."""


class DataError(UserError):
    """Images that are missing, damaged, or not what a spec says of them."""


class RecordError(UserError):
    """A results folder, or a record in it, that is missing, unfinished, damaged or of another version."""


class CheckpointError(RecordError):
    """A file of weights or of a pack's state in training that is missing, damaged, or of other members or models."""


class MachineError(UserError):
    """A disk or a permission stands in the way; the input is as it should be."""

    exit_code = 1


DISK_FAULTS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM))
"""Errors of the system that keep every further file from being written."""
INPUT_FAULTS = frozenset(
    (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO)
)
"""Errors of the system that are about a wrong path, or (a seek to where no file has content) about damage."""
REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give yourself permission to read it, and to enter its folder"),
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "have its disk mounted for writing",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
}
"""What fixes what the system refuses."""


def as_machine_error(path: str | os.PathLike[str], error: Exception) -> MachineError | None:
    """What kept a file from being read, if the machine is to blame; None if the input is.

    The input is to blame if there is no such file, it is a folder, or its content is damaged. (What libraries raise
    for the last may be an OSError too, such as gzip.BadGzipFile, but one without a number.)

    Args:
        path: what was read; where the error knows better, its message names that.
        error: what reading it raised.

    """
    if not isinstance(error, OSError) or error.errno in INPUT_FAULTS:
        return None
    if error.errno is None and not isinstance(error, PermissionError):
        return None
    where = error.filename if isinstance(error.filename, str | os.PathLike) else path
    number = error.errno or errno.EACCES
    remedy = REMEDIES.get(number, "see to the disk or the network that it is on, and try again")
    return MachineError(f"{os.fspath(where)}: cannot be read ({error.strerror or os.strerror(number)}); {remedy}")


def refusal(path: str | os.PathLike[str], error: OSError) -> str:
    """What is said where the system refused something else than to read an input: the file, the reason, and what fixes
    it, as far as that is known.

    Args:
        path: what it was about; where the error knows better, that is named.
        error: what the system said.

    """
    where = error.filename if isinstance(error.filename, str | os.PathLike) else path
    said = f"{harmless(os.fspath(where))}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{said}; give yourself permission to use it, and to enter its folder"
    remedy = REMEDIES.get(error.errno or 0)
    return f"{said}; {remedy}, and run the same command again" if remedy else said


@dataclass(frozen=True, order=True)
class Place:
    """A point in a source text. Lines and columns count from 1."""

    source: str
    line: int
    column: int
    text: str = ""
    """The whole line."""

    def __str__(self) -> str:
        return f"{harmless(self.source)}:{self.line}:{self.column}"

    @property
    def quotation(self) -> tuple[str, str]:
        """The offending line, shortened around the column, and the padding that puts a caret under the column."""
        length, column = len(self.text), min(self.column - 1, len(self.text))
        start = min(max(0, column - LINE_WIDTH // 2), max(0, length - LINE_WIDTH))
        window = harmless(self.text[start : start + LINE_WIDTH])
        head, tail = "..." if start else "", "..." if start + LINE_WIDTH < length else ""
        before = head + window[: column - start]
        return head + window + tail, " " * sum(_cells(character) for character in before)


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec.

    `kind` is `unreadable` (not YAML), `invalid` (a wrong type or value, an unknown or missing key) or `inconsistent`
    (each value is valid, but they contradict each other or the data).
    """

    kind: Kind
    place: Place
    message: str
    expected: str = ""
    suggestion: str = ""
    spoils: tuple[Place, ...] = ()
    """Places of which nothing more is said, as it would follow from this mistake."""

    def __str__(self) -> str:
        lines = [f"{self.place}: {shorten(self.message)}"]
        if self.place.text.strip():
            margin = f"{self.place.line:>5} | "
            quoted, padding = self.place.quotation
            lines += [margin + quoted, " " * (len(margin) - 2) + "| " + padding + "^"]
        if self.expected:
            lines.append(f"      expected {shorten(self.expected)}")
        if self.suggestion:
            lines.append(f"      did you mean {shorten(self.suggestion)}?")
        return "\n".join(lines)


class SpecError(UserError):
    """All that is wrong with a spec, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.place, problem.message))
        super().__init__(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        headings = {"unreadable": "cannot be read", "invalid": "invalid", "inconsistent": "inconsistent"}
        kinds = ", ".join(dict.fromkeys(headings[problem.kind] for problem in self.problems))
        tail = f"{count} problem{'s' if count > 1 else ''} ({kinds})"
        return "\n".join([*(str(problem) for problem in self.problems), tail])


def harmless(text: str) -> str:
    """`text` with one `?` for every character that could move a terminal's cursor, color it or hide something, and a
    space for a tab, so that columns stay where they are.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_harmless, text))


def _harmless(character: str) -> str:
    if character == "\t":
        return " "
    return "?" if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp") else character


def shorten(text: str, width: int = TEXT_WIDTH) -> str:
    """Harmless `text` of at most `width` characters, its middle left out if it is longer."""
    text = harmless(text)
    half = (width - 5) // 2
    return text if len(text) <= width else f"{text[:half]} ... {text[-half:]}"


def _cells(character: str) -> int:
    """Columns that a character takes on a terminal."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

"""Errors that a user can mend: what is wrong, where, what was expected, and what would fix it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["unreadable", "invalid", "nonsense"]


class UserError(Exception):
    """Bad input of any kind (a flag, a data file, a record, a folder in use). The message stands on its own; commands
    print it without a traceback and exit with code 2.
    """


@dataclass(frozen=True, order=True)
class Place:
    """A point in a source text. Lines and columns count from 1."""

    source: str
    line: int
    column: int
    text: str = ""
    """The whole line."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec.

    `kind` is `unreadable` (not YAML), `invalid` (a wrong type or value, an unknown or missing key) or `nonsense`
    (well-formed, but it makes no sense).
    """

    kind: Kind
    place: Place
    message: str
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}"]
        if self.place.text.strip():
            margin = f"{self.place.line:>5} | "
            lines += [margin + self.place.text, " " * (len(margin) - 2) + "| " + " " * (self.place.column - 1) + "^"]
        if self.expected:
            lines.append(f"      expected {self.expected}")
        if self.suggestion:
            lines.append(f"      did you mean {self.suggestion}?")
        return "\n".join(lines)


class SpecError(UserError):
    """All that is wrong with a spec, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.place, problem.message))
        super().__init__(problems)

    def __str__(self) -> str:
        count = len(self.problems)
        heading = {"unreadable": "cannot be read", "invalid": "invalid", "nonsense": "makes no sense"}
        kinds = ", ".join(dict.fromkeys(heading[problem.kind] for problem in self.problems))
        tail = f"{count} problem{'s' if count > 1 else ''} ({kinds})"
        return "\n".join([*(str(problem) for problem in self.problems), tail])

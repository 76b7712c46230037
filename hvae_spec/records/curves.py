"""The learning curves of a record, as far as they can be read: damaged and missing rows are gaps, and are named."""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hvae_spec.errors import as_machine_error
from hvae_spec.records.files import finite, sha256_of
from hvae_spec.records.json_file import in_words
from hvae_spec.records.result import TrainingResult
from hvae_spec.records.rows import EPOCH_ROWS, UNITS_ROWS, CurveDigests, EpochRow, UnitsRow

TIMES = re.compile(rb'"(seconds|ms_per_step)": [^,}]*')
CHANGED = "changed since it was written (its SHA-256 is not the one in training.json)"
EARLIER_NAMES = {b'"train_log_likelihood": ': b'"train_reconstruction": '}
"""What quantities were called in rows of earlier versions, and what they are called now."""
ROW_DIGITS = 16
"""Hexadecimal digits of a row's digest that a checkpoint keeps."""


def digest_of(content: bytes) -> str:
    """SHA-256 of a file of rows less the times in it, so that it is the same whenever the training is."""
    return sha256_of(TIMES.sub(b"", content))


def digests_of_rows(epochs: Iterable[EpochRow], units: Iterable[UnitsRow]) -> CurveDigests:
    """Of every row as it is written."""
    return CurveDigests(
        epochs={row["epoch"]: _digest_of_row(json.dumps(finite(row)).encode()) for row in epochs},
        units={row["epoch"]: _digest_of_row(json.dumps(finite(row)).encode()) for row in units},
    )


def _digest_of_row(line: bytes) -> str:
    return sha256_of(line)[:ROW_DIGITS]


@dataclass(frozen=True)
class Checkpointed:
    """What a pack's checkpoint knows of a member's curves. The files may be ahead of it, as they are written first."""

    epoch: int
    """The last epoch that the member has trained; rows of later ones are passed over."""
    digests: CurveDigests | None = None
    """Of its rows; None in checkpoints that were made before this was kept."""


@dataclass(frozen=True)
class Curves:
    """Rows by epoch, each epoch once, in order."""

    epochs: list[EpochRow]
    units: list[UnitsRow]
    lost: tuple[int, ...] = ()
    """Epochs whose row of learning curves is damaged or missing."""
    faults: tuple[str, ...] = ()
    """What is damaged or missing, one line for each: the file, its line or the epochs, and what is wrong."""


@dataclass(frozen=True)
class _Known:
    """What is known of a file of rows beside its content."""

    sha256: str | None
    """Its digest in training.json."""
    limit: int | None
    """The epochs that there can be."""
    checkpoint: Checkpointed | None
    rows: Mapping[int, str] | None
    """The checkpoint's digests of its rows."""
    only_whole: bool

    @property
    def last(self) -> float:
        """Rows of later epochs are passed over."""
        return math.inf if self.checkpoint is None else self.checkpoint.epoch


def read_curves(
    epochs: Path,
    units: Path,
    training: TrainingResult | None,
    limit: int | None,
    checkpoint: Checkpointed | None = None,
    *,
    only_whole: bool = False,
) -> Curves:
    """The curves of a record.

    Args:
        epochs: path of epochs.jsonl.
        units: path of units.jsonl.
        training: what became of the training; None while it is not done.
        limit: the epochs that its spec has; None if its spec cannot be read.
        checkpoint: what the checkpoint from which the training goes on knows of them; None for who only looks.
        only_whole: leave out all rows of a file that is not what was written.

    Raises:
        MachineError: the system does not let a file be read that the training, as it goes on, would replace.

    """
    done = None if training is None or training.status == "failed" else training
    if done is not None and done.epochs_sha256 is None and not os.path.lexists(epochs):
        return Curves([], [])  # the divergence of a shorter training, in whose record the curves are
    faults: list[str] = []
    sha256 = (None, None) if done is None else (done.epochs_sha256, done.units_sha256)
    digests = None if checkpoint is None else checkpoint.digests
    own = (None, None) if digests is None else (digests.epochs, digests.units)
    rows: list[EpochRow] = _rows(epochs, EPOCH_ROWS, _Known(sha256[0], limit, checkpoint, own[0], only_whole), faults)
    last = max((row["epoch"] for row in rows), default=0)
    if done is not None:
        last = done.epochs if done.divergence is None else done.divergence.epoch
        last = last if limit is None else min(last, limit)
    elif checkpoint is not None:
        last = checkpoint.epoch
    there = {row["epoch"] for row in rows}
    lost = tuple(epoch for epoch in range(1, last + 1) if epoch not in there)
    faults += _missing(epochs, lost)
    points: list[UnitsRow] = _rows(units, UNITS_ROWS, _Known(sha256[1], limit, checkpoint, own[1], only_whole), faults)
    there = {row["epoch"] for row in points}
    due = {row["epoch"] for row in rows if "test_elbo" in row or "validation_elbo" in row} | set(own[1] or ())
    if done is None and checkpoint is None:
        # The file is written after epochs.jsonl, and may not be as far yet.
        due = {epoch for epoch in due if epoch < max(there, default=0)}
    faults += _missing(units, sorted(due - there))
    return Curves(rows, points, lost, tuple(faults))


def rows_after(path: Path, kind: TypeAdapter[list[Any]], epoch: int) -> list[Any]:
    """The rows of epochs later than `epoch` in a file that may still grow, in order. Lines that cannot be read are
    passed over, and a file that cannot be has none.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    rows: list[Any] = []
    for line in reversed(lines):
        try:
            (row,) = _read([line], kind)
        except ValueError:
            continue
        if row["epoch"] <= epoch:
            break
        rows.append(row)
    return rows[::-1]


def _missing(path: Path, epochs: Iterable[int]) -> list[str]:
    """`.../epochs.jsonl: epochs 2, 5 to 9 are missing`."""
    runs = [[epoch for _, epoch in run] for _, run in groupby(enumerate(epochs), key=lambda pair: pair[1] - pair[0])]
    words = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
    is_one = len(runs) == 1 and len(runs[0]) == 1
    return [f"{path}: epoch{'' if is_one else 's'} {words} {'is' if is_one else 'are'} missing"] if runs else []


def _rows(path: Path, kind: TypeAdapter[Any], known: _Known, faults: list[str]) -> list[Any]:
    """The rows of a JSON-lines file that can be read, by epoch, each epoch once; adds what is wrong to `faults`."""
    content = _content(path, known, faults)
    lines = [line for line in content.split(b"\n") if line.strip()]
    bad: dict[int, str] = {}
    try:
        found: list[Any] = _read(lines, kind)
        numbers: Sequence[int] = range(1, len(lines) + 1)
    except ValidationError:
        found, numbers = [], []
    if len(found) != len(lines):
        found, numbers = _one_by_one(lines, kind, bad)
    kept: dict[int, Any] = {}
    for number, row in zip(numbers, found, strict=True):
        epoch = row["epoch"]
        if epoch > known.last:
            continue
        if epoch < 1 or (known.limit is not None and epoch > known.limit):
            bad[number] = f"epoch {epoch}, of which the training has none"
        elif known.rows is not None and known.rows.get(epoch) != _digest_of_row(lines[number - 1]):
            bad[number] = f"epoch {epoch}, changed since it was written"
        else:
            kept[number] = row
    bad |= _out_of_place({number: row["epoch"] for number, row in kept.items()})
    # As rows are in order, one that cannot be read is at least of the epoch that its line's number is.
    said = [f"{path}:{number}: {bad[number]}" for number in sorted(bad) if number <= known.last]
    rows = [row for number, row in kept.items() if number not in bad]
    if known.sha256 is not None and content and digest_of(content) != known.sha256:
        if known.only_whole:
            said.append(f"{path}: {CHANGED}; none of its rows are used")
            rows = []
        elif not said:  # a file that was replaced as a whole may be of as many rows as it should have
            said.append(f"{path}: {CHANGED}")
    faults += said
    return sorted(rows, key=lambda row: row["epoch"])


def _read(lines: Sequence[bytes], kind: TypeAdapter[list[Any]]) -> list[Any]:
    """The rows of lines. Raises ValueError (ValidationError, as a rule) if any is none."""
    text = b",".join(lines)
    for earlier, name in EARLIER_NAMES.items():
        text = text.replace(earlier, name)
    return kind.validate_json(b"[" + text + b"]")


def _content(path: Path, known: _Known, faults: list[str]) -> bytes:
    """What is in a file; nothing if it cannot be read, which is added to `faults`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        if known.checkpoint is not None and (fault := as_machine_error(path, error)) is not None:
            raise fault from None
        faults.append(f"{path}: cannot be read ({error.strerror})")
        return b""


def _out_of_place(epochs: Mapping[int, int]) -> dict[int, str]:
    """What is wrong with rows, by the number of their line, of which one has the epoch of another: which one it is is
    not known.

    Args:
        epochs: the epoch of every row by the number of its line, in their order.

    """
    counts = Counter(epochs.values())
    found = {
        number: f"epoch {epoch}, out of order"
        for pair in pairwise(epochs.items())
        if pair[0][1] > pair[1][1]
        for number, epoch in pair
    }
    return found | {number: f"epoch {epoch}, more than once" for number, epoch in epochs.items() if counts[epoch] > 1}


def _one_by_one(lines: Sequence[bytes], kind: TypeAdapter[Any], bad: dict[int, str]) -> tuple[list[Any], list[int]]:
    """The rows of the lines that can be read, and the numbers of these lines; adds what is wrong with the others."""
    found, numbers = [], []
    for number, line in enumerate(lines, start=1):
        try:
            (row,) = _read([line], kind)
            found.append(row)
            numbers.append(number)
        except ValidationError as error:
            bad[number] = _fault(error, line)
        except ValueError:
            bad[number] = "not a JSON object"
    return found, numbers


def _fault(error: ValidationError, line: bytes) -> str:
    fault = error.errors()[0]
    if fault["type"] == "json_invalid" or not _is_object(line):
        return "not a JSON object"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return in_words(fault, ".".join(map(str, fault["loc"][1:])))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False

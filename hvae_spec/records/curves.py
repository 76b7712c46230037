"""The learning curves of a record, as far as they can be read: damaged and missing rows are gaps, and are named."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hvae_spec.errors import RecordError, as_machine_error
from hvae_spec.records.files import sha256_of
from hvae_spec.records.result import EPOCH_ROWS, UNITS_ROWS, EpochRow, TrainingResult, UnitsRow, in_words

TIMES = re.compile(rb'"(seconds|ms_per_step)": [^,}]*')
CHANGED = "changed since it was written (its SHA-256 is not the one in training.json); its rows may be wrong"


def digest_of(content: bytes) -> str:
    """SHA-256 of a file of rows less the times in it, so that it is the same whenever the training is."""
    return sha256_of(TIMES.sub(b"", content))


@dataclass(frozen=True)
class Curves:
    """Rows by epoch, each epoch once, in order."""

    epochs: list[EpochRow]
    units: list[UnitsRow]
    lost: tuple[int, ...] = ()
    """Epochs whose row of learning curves is damaged or missing."""
    faults: tuple[str, ...] = ()
    """What is damaged or missing, one line for each: the file, its line or the epochs, and what is wrong."""

    def until(self, epoch: int) -> "Curves":
        """The rows of the first epochs."""
        epochs = [row for row in self.epochs if row["epoch"] <= epoch]
        units = [row for row in self.units if row["epoch"] <= epoch]
        return Curves(epochs, units, tuple(lost for lost in self.lost if lost <= epoch), self.faults)


def read_curves(epochs: Path, units: Path, training: TrainingResult | None, limit: int | None) -> Curves:
    """The curves of a record.

    Args:
        epochs: path of epochs.jsonl.
        units: path of units.jsonl.
        training: what became of the training; None while it is not done.
        limit: the epochs that its spec has; None if its spec cannot be read.

    Raises:
        RecordError: a file cannot be read at all.
        MachineError: the system does not let it be read.

    """
    done = None if training is None or training.status == "failed" else training
    if done is not None and done.epochs_sha256 is None and not epochs.exists():
        return Curves([], [])  # the divergence of a shorter training, in whose record the curves are
    faults: list[str] = []
    sha256 = (None, None) if done is None else (done.epochs_sha256, done.units_sha256)
    rows: list[EpochRow] = _rows(epochs, EPOCH_ROWS, sha256[0], limit, faults)
    last = max((row["epoch"] for row in rows), default=0)
    if done is not None:
        last = done.epochs if done.divergence is None else done.divergence.epoch
        last = last if limit is None else min(last, limit)
    there = {row["epoch"] for row in rows}
    lost = tuple(epoch for epoch in range(1, last + 1) if epoch not in there)
    faults += _missing(epochs, lost)
    points: list[UnitsRow] = _rows(units, UNITS_ROWS, sha256[1], limit, faults)
    there = {row["epoch"] for row in points}
    faults += _missing(units, (row["epoch"] for row in rows if "test_elbo" in row and row["epoch"] not in there))
    return Curves(rows, points, lost, tuple(faults))


def _missing(path: Path, epochs: Iterable[int]) -> list[str]:
    """`.../epochs.jsonl: epochs 2, 5 to 9 are missing`."""
    runs = [[epoch for _, epoch in run] for _, run in groupby(enumerate(epochs), key=lambda pair: pair[1] - pair[0])]
    words = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
    is_one = len(runs) == 1 and len(runs[0]) == 1
    return [f"{path}: epoch{'' if is_one else 's'} {words} {'is' if is_one else 'are'} missing"] if runs else []


def _rows(path: Path, kind: TypeAdapter[Any], sha256: str | None, limit: int | None, faults: list[str]) -> list[Any]:
    """The rows of a JSON-lines file that can be read, by epoch, each epoch once; adds what is wrong to `faults`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise as_machine_error(path, error) or RecordError(f"{path}: cannot be read ({error.strerror})") from None
    lines = [line for line in content.split(b"\n") if line.strip()]
    bad: list[str] = []
    try:
        found: list[Any] = kind.validate_json(b"[" + b",".join(lines) + b"]")
        numbers: Sequence[int] = range(1, len(lines) + 1)
    except ValidationError:
        found, numbers = [], []
    if len(found) != len(lines):
        found, numbers = _one_by_one(path, lines, kind, bad)
    by_epoch: dict[int, Any] = {}
    for number, row in zip(numbers, found, strict=True):
        epoch = row["epoch"]
        if epoch in by_epoch or epoch < 1 or (limit is not None and epoch > limit):
            what = "again" if epoch in by_epoch else "of which the training has none"
            bad.append(f"{path}:{number}: epoch {epoch}, {what}")
        else:
            by_epoch[epoch] = row
    # A file that was replaced as a whole may be of as many rows as it should have.
    if sha256 is not None and not bad and content and digest_of(content) != sha256:
        bad.append(f"{path}: {CHANGED}")
    faults += bad
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _one_by_one(
    path: Path, lines: Sequence[bytes], kind: TypeAdapter[Any], bad: list[str]
) -> tuple[list[Any], list[int]]:
    """The rows of the lines that can be read, and the numbers of these lines; adds what is wrong to `bad`."""
    found, numbers = [], []
    for number, line in enumerate(lines, start=1):
        try:
            (row,) = kind.validate_json(b"[" + line + b"]")
            found.append(row)
            numbers.append(number)
        except ValidationError as error:
            bad.append(f"{path}:{number}: {_fault(error, line)}")
        except ValueError:
            bad.append(f"{path}:{number}: not a JSON object")
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

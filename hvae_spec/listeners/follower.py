"""Follows one member by its record: whoever trains it, and wherever, what is told of it is what is on disk."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvae_spec.errors import UserError
from hvae_spec.listeners.listener import Listener, MemberInfo
from hvae_spec.records.curves import rows_after
from hvae_spec.records.layout import EPOCHS, UNITS, Record
from hvae_spec.records.result import DONE, EvaluationResult
from hvae_spec.records.rows import EPOCH_ROWS, UNITS_ROWS, EpochRow, UnitsRow
from hvae_spec.spec.grid import Member
from hvae_spec.training.schedules import schedule

NO_VALUES = ("format", "epoch", "kl_per_layer")
"""What a row has beside its values."""
NO_MEASUREMENTS = ("format", "estimator", "evaluation_seconds")
"""Numbers of a result that were not measured on images."""


class Follower:
    """Tells a listener of a member what its record has that was not told yet.

    Args:
        member: whom to follow.
        record: its record.
        trains: whether it is trained in this run, so that its curves are told.

    """

    def __init__(self, member: Member, record: Record, *, trains: bool = True) -> None:
        self.member, self.record = member, record
        self.digest = member.digests.evaluation
        self.epochs = member.spec.training.epochs
        self.told = 0 if trains else self.epochs
        """The last epoch that is told."""
        self.seen: list[tuple[int, int] | None] = []
        """The files of rows when they were last read."""
        self.info = MemberInfo(
            name=member.folder,
            labels=copy.deepcopy(member.labels),
            folder=record.folder,
            epochs=self.epochs,
            settings=member.spec.model_dump(mode="json"),
        )

    def tell(self, listener: Listener, *, is_over: bool = False) -> bool:
        """Tell what is new. Returns whether the member has come to its end, which is told too.

        Args:
            listener: whom.
            is_over: whether this run does nothing more of the member. Until then a result that says `failed` is that of
                an earlier run.

        """
        try:
            status = self.record.status(self.digest)
        except UserError:  # the system does not let it be seen
            status = "damaged"
        ends = is_over or status in DONE
        seen = [_state(self.record.folder / name) for name in (EPOCHS, UNITS)]
        if ends or seen != self.seen:
            self.seen = seen
            self._tell_rows(listener, is_last=ends)
        if not ends:
            return False
        reason, epochs, result = self._outcome()
        if result is not None and result.status == "finished":
            listener.evaluation(self.info, epochs, _final_values(result), self._units(result.unit_kl or []))
        listener.finish(self.info, status if status in (*DONE, "failed", "damaged") else "interrupted", reason)
        return True

    def _tell_rows(self, listener: Listener, *, is_last: bool) -> None:
        rows: list[EpochRow] = rows_after(self.record.folder / EPOCHS, EPOCH_ROWS, self.told)
        points: list[UnitsRow] = rows_after(self.record.folder / UNITS, UNITS_ROWS, self.told) if rows else []
        units = {row["epoch"]: row["kl"] for row in points}
        for row in rows:
            epoch = row["epoch"]
            point = {name: _number(value) for name, value in _items(row) if _is_of_curve(name)}
            if epoch > self.epochs:
                break
            if _has_units(row) and epoch > max(units, default=0) and not is_last:
                break  # units.jsonl is written after epochs.jsonl
            self.told = epoch
            lr = schedule(self.member.spec, epoch).lr
            listener.epoch(self.info, epoch, {"learning_rate": lr, **_epoch_values(row)})
            if point:
                listener.evaluation(self.info, epoch, point, self._units(units.get(epoch, [])))

    def _units(self, kl: Sequence[Sequence[float | None]]) -> list[list[float]]:
        """The KL of every unit, layer by layer; none of a layer whose units have none of their own."""
        widths = [layer.units for layer in self.member.spec.model.layers]
        pairs = zip(kl, widths, strict=False)
        return [[] if len(layer) == 1 < units else [_number(one) for one in layer] for layer, units in pairs]

    def _outcome(self) -> tuple[str, int, EvaluationResult | None]:
        """Why the member is not finished, in words; the epochs that it trained; and its final evaluation."""
        try:
            training, result = self.record.outcome(self.digest)
            if training is None or training.status != "trained" or result is None:
                return self.record.reason or "", 0, None
        except UserError as error:
            return str(error), 0, None
        if result.status == "failed":
            return f"failed ({result.failure})", training.epochs, result
        if result.divergence is not None:
            return f"diverged in its evaluation ({result.divergence.quantity})", training.epochs, result
        return "", training.epochs, result


def _state(path: Path) -> tuple[int, int] | None:
    """What changes with a file: when it was written, and its size. None if it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _items(row: EpochRow) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in row.items() if name not in NO_VALUES]


def _is_of_curve(name: str) -> bool:
    """Whether a value of an epoch is one of its point of the test curve."""
    return name.startswith(("test_", "validation_")) or name == "active_units"


def _has_units(row: EpochRow) -> bool:
    """Whether a point of the curve has KL of units beside it: where q(y|x) alone is trained, it is an error alone."""
    return "test_elbo" in row or "validation_elbo" in row


def _epoch_values(row: EpochRow) -> dict[str, float]:
    values = {name: _number(value) for name, value in _items(row) if not _is_of_curve(name)}
    return values | _layers("kl_", row["kl_per_layer"])


def _final_values(result: EvaluationResult) -> dict[str, float]:
    """All numbers that were measured."""
    own = {name: value for name, value in result if isinstance(value, int | float) and name not in NO_MEASUREMENTS}
    if result.classification is not None:
        own |= {"test_error": _number(result.classification.error)}
    return {f"final_{name}": value for name, value in (own | _layers("kl_", result.kl_per_layer or [])).items()}


def _layers(prefix: str, values: list[float | None]) -> dict[str, float]:
    return {f"{prefix}{layer}": _number(value) for layer, value in enumerate(values, start=1)}


def _number(value: float | None) -> float:
    """A number of a file, whose null is one that is not finite."""
    return math.nan if value is None else value

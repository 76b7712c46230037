"""What a pack's checkpoint says beside its tensors."""

import math

from hvae_spec.records.json_file import FORMAT, FileModel, Format, Number, Text, Whole
from hvae_spec.records.result import Divergence, Segment, TrainingResult
from hvae_spec.records.rows import CurveDigests


class Stopping(FileModel):
    """How far a member is from being stopped early."""

    best_epoch: Whole | None = None
    """The counted evaluation with the best bound; null before the first that counts."""
    best_bound: Number = None
    """Null as well if it is not a number."""
    waited: Whole = 0
    """Counted evaluations since then."""
    stopped_epoch: Whole | None = None
    """The epoch in which it has stopped; null while it goes on."""

    def after(self, epoch: int, bound: float, patience: int) -> "Stopping":
        """The state after a counted evaluation, in which a bound was measured."""
        value = bound if math.isfinite(bound) else None
        best = -math.inf if self.best_bound is None else self.best_bound
        if self.best_epoch is None or (value is not None and value > best):
            return Stopping(best_epoch=epoch, best_bound=value)
        waited = self.waited + 1
        stopped = epoch if waited >= patience else None
        return self.model_copy(update={"waited": waited, "stopped_epoch": stopped})


class CheckpointHeader(FileModel):
    """What a pack's checkpoint says beside its tensors."""

    format: Format = FORMAT
    epoch: Whole
    trainings: list[Text]
    """Training digests of the pack's members, in their order."""
    shapes: list[list[Whole]]
    """Of a member's parameters, which the optimizer keeps as one row."""
    divergences: list[Divergence | None]
    stopping: list[Stopping] = []
    """One per member; empty without early stopping."""
    in_step: list[Whole] | None = None
    """The members that are still trained, by their index, whose parameters the checkpoint holds in this order; null:
    all."""
    seconds: dict[str, float]
    segments: list[Segment]
    extended: list[TrainingResult] = []
    """The shorter trainings that the members go on from, one per member; none if they started anew."""
    curves: list[CurveDigests | None] = []
    """Of the curves that lead up to the checkpoint, one per member, null for members that were done. Empty in
    checkpoints that were made before this was kept."""

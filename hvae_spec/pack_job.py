"""A pack as it is handed to a worker, and how far along it says it is. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hvae_spec.errors import RecordError
from hvae_spec.records.arrays import check_whole
from hvae_spec.records.layout import Record, Results
from hvae_spec.records.result import DONE, Source, Status
from hvae_spec.spec.grid import Member
from hvae_spec.spec.labels import LABELS, level_label

Kind = Literal["train", "evaluate"]
CROWD = 32
"""Of more packs at a time, each reports, checkpoints and asks less often, so that the process that drives all of them
and the disk that they share have no more to do: a report takes the former 1.6 ms, while the pack waits.
"""


@dataclass(frozen=True)
class PackJob:
    """All that a worker needs to run a pack."""

    pack_id: str
    members: tuple[Member, ...]
    """Members of one shape, each with a training of its own, and with `folder` the name of its record's folder."""
    results: Path
    kind: Kind = "train"
    """`train`: bring the members to their training's end and evaluate them. `evaluate`: all are trained already."""
    device: str = "auto"
    threads: int = 1
    compiled: bool = False
    """Whether the training step is compiled by `torch.compile`. A pack that has begun stays as it is."""
    tries_compiling: bool = False
    """Whether this is yet to be decided, by measuring the step both ways before the first epoch."""
    command: tuple[str, ...] = ()
    """The command line that this is part of, for the records."""
    source: Source | None = None
    """State of the source tree, for the records."""
    extends: tuple[Path, ...] = ()
    """Folders of the records of shorter trainings that the members' training goes on from, one per member; empty if it
    starts from nothing."""
    start_epoch: int = 0
    """Epochs that the records of `extends` have."""
    keep_optimizer: bool = True
    """Whether the optimizer's state stays in the records, so that a longer training can go on from them."""
    sources: tuple[Path, ...] = ()
    """Further results folders in which the first phases of fine-tuned members may be."""
    at_a_time: int = field(default=1, compare=False)
    """How many packs of the run work at a time, as far as that is known: they share a disk and the process that drives
    them. The pack is the same whatever it is."""

    @property
    def crowd(self) -> float:
        """How many times as long as of a pack alone the times are between checkpoints, between reports, and between
        looks at whether the run ends.
        """
        return max(1.0, self.at_a_time / CROWD)

    @property
    def trainings(self) -> list[str]:
        """Training digests of the members, in their order."""
        return [member.digests.training for member in self.members]

    def record(self, member: Member) -> Record:
        """A member's record."""
        return Record(self.results / "members" / member.folder)

    def status(self, member: Member) -> Status:
        """A member's status, as its record has it."""
        return self.record(member).status(member.digests.evaluation)

    @property
    def is_done(self) -> bool:
        """Whether every member has its result, as the records have it. Damaged ones are left alone."""
        return all(self.status(member) in (*DONE, "damaged") for member in self.members)

    @property
    def has_checkpoint(self) -> bool:
        """Whether the pack goes on from a checkpoint. One that led up to records which are gone does not count: a
        record was deleted, or moved out of the way, to be made anew.
        """
        there = bool(Results(self.results).pack(self.pack_id).checkpoints)
        return there and all(self.record(member).folder.exists() for member in self.members)

    @property
    def folders(self) -> list[Results]:
        """Where first phases may be."""
        return [Results(folder) for folder in (self.results, *self.sources)]

    def first_phase(self, member: Member, folders: Sequence[Results]) -> Record | None:
        """The record of the first phase that a fine-tuned member's training starts from, found in one of `folders`.

        None if it starts from initial weights.

        Raises:
            RecordError: the first phase is trained in none of them, or is damaged; with the reason, if it diverged or
                failed.

        """
        first = member.spec.first_phase
        if first is None:
            return None
        training = first.digests.training
        records = [record for folder in folders if (record := folder.find(training)) is not None]
        damage = []
        for record in records:
            try:
                found = record.training
                if found is not None and found.status == "trained":
                    check_whole(record.weights, found.weights_sha256, record.lost)
                    return record
            except RecordError as error:
                damage.append(str(error))
        for fault in damage:
            raise RecordError(f"{member.folder}: its first phase is damaged: {fault}")
        for record in records:
            if record.reason:
                raise RecordError(f"{member.folder}: its first phase {record.reason}: {record.folder}")
        where = " or ".join(str(folder.root) for folder in folders)
        raise RecordError(
            f"{member.folder}: its first phase is trained nowhere in {where}; add it to the grid (a variant with its "
            f"{first.training.epochs} epochs and training.first_phase: null), or name the results folder that holds it "
            "with --records"
        )

    @property
    def name(self) -> str:
        """What a display calls the pack: `mnist L5 VAE+BN, VAE+BN+WU x 6`, with its place on further axes."""
        first = self.members[0].labels
        variants = ", ".join(dict.fromkeys(str(member.labels["variant"]) for member in self.members))
        axes = [axis for axis in first if axis not in LABELS]
        alike = [axis for axis in axes if all(member.labels.get(axis) == first[axis] for member in self.members)]
        place = "".join(f" {level_label(axis, first[axis], axes)}" for axis in alike)
        how = " evaluated again" if self.kind == "evaluate" else f" from epoch {self.start_epoch}" * bool(self.extends)
        return f"{first['dataset']} L{first['depth']} {variants}{place} x {len(self.members)}{how}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its members, each once."""
        return tuple(dict.fromkeys(member.seed for member in self.members))


@dataclass(frozen=True)
class Progress:
    """How far a pack is."""

    pack_id: str
    phase: Literal["training", "evaluating"]
    epoch: int
    epochs: int
    betas: tuple[float, ...]
    """The different values among its members that still train, ascending."""
    train_bound: float
    """Mean over the members that still train, in nats."""
    ms_per_step: float
    """Per member-step."""
    done: float
    """Fraction of the pack's multiply-adds, training and final evaluation together."""
    diverged: tuple[str, ...] = ()
    """What diverged so far, in words."""
    notes: tuple[str, ...] = ()
    """What was found damaged and is done without, in words."""
    stopped: tuple[str, ...] = ()
    """What was stopped early so far, in words."""
    found: str = ""
    """What was found of the compiled step before the first epoch, in words."""
    is_trained: bool = False
    """Whether the training of all members is recorded."""
    member_bounds: tuple[float, ...] = ()
    """The training bound of each member, in the order of the pack; NaN where there is none, or it has diverged."""


ReportProgress = Callable[[Progress], None]


class StoppedError(Exception):
    """A pack has written a checkpoint, or what it has trained, and stops, as the run that it is part of ends."""

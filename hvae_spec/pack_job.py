"""A pack as it is handed to a worker, and how far along it says it is. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvae_spec.errors import RecordError
from hvae_spec.records.layout import DONE, LABELS, Record, Results
from hvae_spec.spec.experiment import Member


@dataclass(frozen=True)
class PackMember:
    """A member as a pack needs it: its resolved spec, digest, labels, and the name of its record's folder.

    Where there is a record already, it is that one's name, so that nobody has to look through all folders for it.
    """

    spec: Member
    digest: str
    labels: dict[str, Any]
    folder: str

    def record(self, results: Results) -> Record:
        """The member's record."""
        return Record(results.root / "members" / self.folder)

    def is_done(self, results: Results) -> bool:
        """Whether the member has its result, as its record tells."""
        return self.record(results).status in DONE


@dataclass(frozen=True)
class PackJob:
    """All that a worker needs to run a pack."""

    pack_id: str
    members: tuple[PackMember, ...]
    results: Path
    device: str = "auto"
    threads: int = 1
    git: dict[str, Any] | None = None
    """State of the source tree, for the records."""
    compiled: bool = False
    """Whether the training step is compiled by `torch.compile`. Decided once, when the pack is planned."""

    sources: tuple[Path, ...] = ()
    """Further results folders in which the first phases of fine-tuned members may be."""

    @property
    def folders(self) -> list[Results]:
        """Where first phases may be."""
        return [Results(folder) for folder in (self.results, *self.sources)]

    def first_phase(self, member: PackMember, folders: Sequence[Results]) -> Record | None:
        """The finished record that a fine-tuned member's training starts from, found in one of `folders`.

        None if it starts from initial weights.

        Raises:
            RecordError: the first phase has finished in none of them; with the reason, if it diverged or failed.

        """
        first = member.spec.first_phase
        if first is None:
            return None
        records = [folder.record(first.digest, first.digest) for folder in folders]
        for record in records:
            if record.status == "finished":
                return record
        for record in records:
            if record.reason:
                raise RecordError(f"{member.folder}: its first phase {record.reason}: {record.folder}")
        where = " or ".join(str(folder.root) for folder in folders)
        raise RecordError(
            f"{member.folder}: its first phase has not finished in {where}; add it to the grid (a variant with its "
            f"{first.training.epochs} epochs and training.first_phase: null), or name the results folder that holds it "
            "with --records"
        )

    @property
    def is_done(self) -> bool:
        """Whether every member has its result, as the records tell."""
        results = Results(self.results)
        return all(member.is_done(results) for member in self.members)

    @property
    def name(self) -> str:
        """What a display calls the pack: `mnist L5 VAE+BN, VAE+BN+WU x 6`, with its place on further axes."""
        first = self.members[0].labels
        variants = ", ".join(dict.fromkeys(str(member.labels["variant"]) for member in self.members))
        axes = [
            f" {path.rsplit('.', 1)[-1]}={value}"
            for path, value in first.items()
            if path not in LABELS and all(member.labels.get(path) == value for member in self.members)
        ]
        return f"{first['dataset']} L{first['depth']} {variants}{''.join(axes)} x {len(self.members)}"


@dataclass(frozen=True)
class Progress:
    """How far a pack is."""

    pack_id: str
    phase: str
    """`training` or `evaluating`."""
    epoch: int
    epochs: int
    betas: tuple[float, ...]
    """The different values among its members that have not diverged, ascending."""
    train_bound: float
    """Mean over the members that have not diverged, in nats."""
    ms_per_step: float
    """Per member-step."""
    done: float
    """Fraction of the pack's multiply-adds, training and final evaluation together."""
    diverged: tuple[str, ...] = ()
    """What diverged so far, in words."""


Report = Callable[[Progress], None]

"""What each member of a grid still needs: nothing, an evaluation, the rest of a training, or all of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hvae_spec.errors import RecordError
from hvae_spec.records.arrays import check_whole
from hvae_spec.records.index import IndexedRecord, read_index, spec_of
from hvae_spec.records.layout import NO_LONGER, Record, Results
from hvae_spec.records.result import DONE, Status, TrainingResult
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from hvae_spec.training.schedules import disagreement

NO_OPTIMIZER = "the optimizer's state was not kept (--keep-optimizer no)"
ANEW = "with early stopping a training begins anew, and none goes on from it"
GONE = "its optimizer.safetensors is gone"


@dataclass(frozen=True, slots=True)
class Need:
    """What one member still needs."""

    member: Member
    """With `folder` the name of its record's folder."""
    status: Status
    what: Literal["nothing", "evaluation", "training", "divergence"]
    """`evaluation`: it is trained, or another member of the plan trains it. `divergence`: a shorter training of it
    diverged, so that it need not be tried."""
    extends: Path | None = None
    """Folder of the record that its training goes on from; None if it starts from nothing."""
    start_epoch: int = 0
    """Epochs of that record."""
    hindered: str = ""
    """Why a shorter training that is there cannot be gone on from."""
    adopted: Record | None = None
    """The record of another results folder that is copied for its sake."""
    retired: Record | None = None
    """A finished record that is moved out of the way, to be made again."""
    damage: str = ""
    """What is wrong with its record, and what fixes it. The member is left as it is."""
    absent: str = ""
    """What is said of its data set's files, which are missing, so that what it needs is left out."""


@dataclass
class Ledger:
    """The records of a results folder and of further ones, as far as a plan looks at them."""

    results: Results
    sources: Sequence[Results] = ()
    index: dict[str, IndexedRecord] = field(default_factory=dict)
    """Of the results folder, by the name of a record's folder."""
    by_trajectory: dict[str, list[tuple[Path, IndexedRecord]]] = field(default_factory=dict)
    """Of all folders."""
    faults: dict[str, None] = field(default_factory=dict)
    """What is wrong with records that members could have been taken from, or gone on from, and are not; each once."""

    def __post_init__(self) -> None:
        for source in (self.results, *self.sources):
            source.check_version()
            index = read_index(source)
            if source is self.results:
                self.index = index
            members = source.root.resolve() / "members"
            for name, entry in index.items():
                self.by_trajectory.setdefault(entry.trajectory, []).append((members / name, entry))

    def needs(self, members: Iterable[Member], retrain: bool = False) -> list[Need]:
        """What each member needs, in their order. A training that several of them share is needed once.

        Args:
            members: the grid's.
            retrain: train members again whose curves have other settings than asked for.

        """
        first: dict[str, Need] = {}
        found: list[Need] = []
        for member in members:
            training = member.digests.training
            earlier = first.get(training)
            need = self._need(member, earlier is None and retrain and bool(self.other_curve(member)))
            if earlier is not None:
                # Several members have one record, which is made, copied or moved away once.
                one = replace(need.member, folder=earlier.member.folder)
                need = replace(need, member=one, adopted=None, hindered="")
                if earlier.what == "training":
                    status = need.status if earlier.retired is None else earlier.status
                    need = replace(need, status=status, what="evaluation", extends=None, start_epoch=0, damage="")
            first.setdefault(training, need)
            found.append(need)
        # Nothing goes on from a record that is moved out of the way.
        gone = {need.retired.folder.resolve() for need in found if need.retired is not None}
        return [
            replace(need, what="training", extends=None, start_epoch=0)
            if need.extends is not None and need.extends.resolve() in gone
            else need
            for need in found
        ]

    def other_curve(self, member: Member) -> str:
        """In which settings the learning curve of a member's record differs from the asked for: `evaluation.every null,
        not 10`; empty if in none.
        """
        record = self.results.find(member.digests.training)
        entry = None if record is None else self.index.get(record.folder.name)
        if entry is None:
            return ""
        spec = spec_of(entry)
        if spec is None:
            return ""
        theirs, ours = _curve_settings(spec), _curve_settings(member.spec)
        different = (name for name in ours if theirs.get(name) != ours[name])
        return next((f"{name} {_shown(theirs.get(name))}, not {_shown(ours[name])}" for name in different), "")

    def _need(self, member: Member, retrain: bool) -> Need:
        digests, record = member.digests, self.results.find(member.digests.training)
        if retrain:
            # From the start, as the shorter curves have other settings, too.
            return Need(member, "pending", "training", retired=record)
        if record is not None:
            member = replace(member, folder=record.folder.name)
            state = record.state(digests.evaluation)
            status = state.status
            if status in DONE or status == "damaged":
                return Need(member, status, "nothing", damage=state.damage)
            if state.training is not None and state.training.status == "trained":
                if not record.weights.exists():
                    damage = f"{record.weights}: no such file, and another evaluation needs it; {record.lost}"
                    return Need(member, "damaged", "nothing", damage=damage)
                return Need(member, status, "evaluation")
        else:
            status = "pending"
        elsewhere = self._elsewhere(digests.training, digests.evaluation)
        if elsewhere is not None:
            there = elsewhere.status(digests.evaluation)
            what: Literal["nothing", "evaluation"] = "nothing" if there == "finished" else "evaluation"
            return Need(member, "finished" if what == "nothing" else "trained", what, adopted=elsewhere)
        return self._to_train(member, status)

    def _elsewhere(self, training: str, evaluation: str) -> Record | None:
        """A trained record of another results folder, less those that are damaged."""
        for source in self.sources:
            record = source.find(training)
            if record is None:
                continue
            state = record.state(evaluation)
            damage, found = state.damage, state.training
            if state.status != "damaged":
                if found is None or found.status != "trained":
                    continue
                try:
                    check_whole(record.weights, found.weights_sha256, record.lost)
                except RecordError as error:
                    damage = str(error)
            if not damage:
                return record
            self.faults[f"{damage} (it is not taken)"] = None
        return None

    def _to_train(self, member: Member, status: Status) -> Need:
        """A member that is to be trained: from where, and what hinders a shorter training from being gone on from."""
        epochs, best, hindered = member.spec.training.epochs, Need(member, status, "training"), ""
        for folder, entry in self.by_trajectory.get(member.digests.trajectory, ()):
            shorter = spec_of(entry)
            if shorter is None or shorter.training.epochs >= epochs:
                continue
            record = Record(folder)
            try:
                result = record.training
            except RecordError as error:
                self.faults[f"{error} (no training goes on from it)"] = None
                continue
            if result is None or result.status == "failed" or result.epochs <= best.start_epoch:
                continue
            if shorter.training.early_stopping is not None or member.spec.training.early_stopping is not None:
                hindered = ANEW
                continue
            parted = disagreement(shorter, member.spec, result.epochs)
            if parted is not None:
                hindered = f"{parted[1]} parts from it in epoch {parted[0]}"
            elif result.divergence is not None:
                return Need(member, status, "divergence", folder, result.epochs)
            elif not record.optimizer.exists():
                hindered = NO_OPTIMIZER if result.optimizer_sha256 is None else GONE
            elif damage := damaged_start(record, result):
                self.faults[f"{damage} (no training goes on from it)"] = None
            else:
                best = replace(best, extends=folder, start_epoch=result.epochs)
        return replace(best, hindered="" if best.extends else hindered)


def damaged_start(record: Record, training: TrainingResult) -> str:
    """What is wrong with the arrays that a longer training goes on from; empty if nothing is."""
    try:
        check_whole(record.weights, training.weights_sha256, record.lost)
        check_whole(record.optimizer, training.optimizer_sha256, NO_LONGER)
    except RecordError as error:
        return str(error)
    return ""


def inherited_divergence(need: Need) -> TrainingResult:
    """The result of a training of which a shorter one diverged.

    Raises:
        RecordError: the record of the shorter one is damaged or gone.

    """
    source = None if need.extends is None else Record(need.extends).training
    if source is None:
        raise RecordError(f"{need.extends}: the record of the shorter training is gone; run the same command again")
    digests = need.member.digests
    # Its curves are in the shorter one's record.
    others: dict[str, object] = dict.fromkeys(("epochs_sha256", "units_sha256"))
    names = {"digest": digests.training, "trajectory": digests.trajectory, "extended_from": source.digest}
    changes = others | names
    return source.model_copy(update=changes)


def _curve_settings(spec: MemberSpec) -> dict[str, int | None]:
    """What a learning curve goes by, by dotted path."""
    evaluation, watched = spec.evaluation, spec.data.validation or spec.data.test_images
    if evaluation.every is None:
        return {"evaluation.every": None}
    images = evaluation.curve_images
    found = {
        "evaluation.every": evaluation.every,
        "evaluation.curve_iw_samples": evaluation.curve_iw_samples,
        "evaluation.curve_images": None if images and watched and images >= watched else images,
    }
    # The validation set is part of what is trained, and no other one can be watched.
    return found if spec.data.validation else {**found, "data.test_images": watched}


def _shown(value: int | None) -> str:
    return "null" if value is None else str(value)

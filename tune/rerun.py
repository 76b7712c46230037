"""A member's pack, run again as it is recorded, and how far its numbers are from the recorded ones."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hvae_spec.errors import RecordError
from hvae_spec.pack_job import PackJob
from hvae_spec.records.arrays import load_arrays
from hvae_spec.records.layout import Record, Results
from hvae_spec.records.result import TrainingResult
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from tune.plan.packs import RunInfo

CURVES = (
    "train_bound",
    "train_bound_beta_1",
    "train_reconstruction",
    "auxiliary_nats",
    "train_log_classes",
    "gradient_norm",
    "test_error",
    "validation_error",
    "test_elbo",
    "test_log_likelihood",
    "validation_elbo",
    "validation_log_likelihood",
)
METRICS = (
    *("test_log_likelihood", "test_elbo", "effective_sample_size"),
    *("validation_log_likelihood", "validation_elbo", "auxiliary_nats"),
)
ANNEALED = ("log_likelihood", "gap")
REFINED = ("log_likelihood", "elbo")
ROUNDING = "Elsewhere than on the machine, the device and the versions of the record, rounding may be the cause."


@dataclass(frozen=True)
class Difference:
    """How far one quantity came out from the recorded one."""

    quantity: str
    largest: float
    """Largest absolute difference."""
    compared: int
    """Numbers that were compared."""


def rerun(folder: Path, device: str, console: Console, records: Sequence[Path] = ()) -> int:
    """Run a record's pack again in a scratch folder and print how its numbers differ. Returns the exit code: 0 if none
    does, 1 if any does.

    Args:
        folder: the record's.
        device: where to run it.
        console: what to print to.
        records: further results folders, where first phases and trainings that were extended may be.

    Raises:
        RecordError: the folder is no record that has finished training, or a file in it is damaged.

    """
    record = Record(folder.resolve())
    Results(record.folder.parent.parent).check_version()
    if record.spec.own_weights is not None:
        raise RecordError(
            f"{folder}: weights that were saved as they are, so they cannot be trained again; to train as their spec "
            "says, print it (--print-spec) and run that"
        )
    if record.spec.parts:
        names = ", ".join(dict.fromkeys(part.file for part in record.spec.parts.values()))
        raise RecordError(
            f"{folder}: uses parts of {names}, and no code of a record is run so; print its spec (--print-spec), and "
            "run that"
        )
    training = record.training
    if training is None or training.status != "trained" or training.pack is None:
        raise RecordError(
            f"{folder}: not trained, so there is nothing to compare with; give a finished member's folder"
        )
    if faults := record.curves(record.spec.training.epochs).faults:
        raise RecordError(f"{faults[0]}, so they cannot be compared; {record.lost}")
    with tempfile.TemporaryDirectory(prefix="hvae-rerun-") as scratch:
        job = recorded_job(record, training, Path(scratch), device, records)
        count = len(job.members)
        console.print(
            f"Running the pack of {folder.name} again ({count} member{'s' * (count > 1)}, {job.threads} threads"
            f"{', compiled' * job.compiled})"
            + (f", from epoch {job.start_epoch} of the training it was extended from" if job.extends else ""),
            highlight=False,
        )
        from hvae_spec.pack import run_one_member

        again = run_one_member(job, job.trainings.index(training.digest))
        differences, elsewhere = list(compare(record, again)), list(_elsewhere(training, again.training))
        is_evaluated = record.evaluation(again.spec.digests.evaluation).result is not None
    table = Table(title=f"{folder.name}: run again, less the record")
    for name in ("quantity", "numbers", "largest difference"):
        table.add_column(name, justify="left" if name == "quantity" else "right")
    for one in differences:
        table.add_row(one.quantity, f"{one.compared:,}", "none" if one.largest == 0 else f"{one.largest:.3g}")
    console.print(table)
    if not is_evaluated:
        console.print("No evaluation is compared: the record has none by this version of the evaluation.")
    if all(one.largest == 0 for one in differences):
        console.print("Equal bit for bit.")
        return 0
    for line in elsewhere:
        console.print(line, highlight=False)
    console.print(ROUNDING)
    return 1


def recorded_job(
    record: Record, training: TrainingResult, scratch: Path, device: str, records: Sequence[Path] = ()
) -> PackJob:
    """The pack that a record was trained in, with all of its members that are still there, to be run in another folder.
    What it started from may also be in other results folders, `records`.

    Raises:
        RecordError: the record says nothing of its pack, or the record that it was extended from is gone.

    """
    results, state = Results(record.folder.parent.parent), training.pack
    if state is None:
        raise RecordError(f"{record.folder}: its result says nothing of a pack; it cannot be run again as it was")
    folders = [results.root, *(folder.resolve() for folder in records)]
    mates = [record if digest == training.digest else results.find(digest) for digest in state.trainings]
    missing = sum(mate is None for mate in mates)
    if missing:
        raise RecordError(
            f"{record.folder}: {missing} of the {len(mates)} members of its pack are no longer in {results.root}, so "
            "the pack cannot be run again as it was"
        )
    members, extends, start = [], [], 0
    for mate in mates:
        if mate is None:
            continue
        spec = mate.spec
        members.append(_member(spec, mate.folder.name))
        found = mate.training
        if found is not None and found.extended_from is not None:
            source, start = _extended(mate, found.extended_from, folders)
            extends.append(source)
    run = RunInfo(scratch, device, sources=tuple(folders))
    job = run.job(members, threads=state.threads, compiled=state.compiled, extends=extends, start_epoch=start)
    return replace(job, pack_id=state.id)


def _extended(record: Record, digest: str, folders: Sequence[Path]) -> tuple[Path, int]:
    """The folder of the training that a record was extended from, and its epochs."""
    for folder in folders:
        source = Results(folder).find(digest)
        if source is not None and (shorter := source.training) is not None:
            return source.folder, shorter.epochs
    raise RecordError(
        f"{record.folder}: the training that it was extended from is not in {', '.join(map(str, folders))}; name the "
        "results folder that holds it with --records"
    )


def _member(spec: MemberSpec, folder: str) -> Member:
    labels = {"dataset": spec.data.name, "depth": spec.model.depth, "variant": spec.label, "seed": spec.seed}
    return Member(spec, spec.digests, labels, folder)


def compare(record: Record, again: Record) -> Iterator[Difference]:
    """How far weights, curves and the evaluation of two records of one member differ."""
    ours, theirs = load_arrays(again.weights), load_arrays(record.weights)
    gaps = [np.abs(ours[name].astype(np.float64) - theirs[name]).max() for name in theirs]
    yield Difference("weights", float(max(gaps)), sum(array.size for array in theirs.values()))
    rows = list(zip(again.epochs, record.epochs, strict=False))
    if len(again.epochs) != len(record.epochs):
        yield Difference("epochs", abs(len(again.epochs) - len(record.epochs)), len(record.epochs))
    for name in CURVES:
        pairs = [(row.get(name), other.get(name)) for row, other in rows if name in row and name in other]
        if pairs:
            yield Difference(f"{name} of {len(pairs):,} epochs", max(_gap(*pair) for pair in pairs), len(pairs))
    digest = again.spec.digests.evaluation
    one, two = again.evaluation(digest).result, record.evaluation(digest).result
    if one is not None and two is not None and two.status == "finished":
        for name in METRICS:
            ours_now, recorded = getattr(one, name), getattr(two, name)
            if ours_now is not None or recorded is not None:  # without a validation set there is nothing to compare
                yield Difference(f"{name} (final)", _gap(ours_now, recorded), 1)
        if one.ais is not None and two.ais is not None:
            for name in ANNEALED:
                yield Difference(f"ais.{name} (final)", _gap(getattr(one.ais, name), getattr(two.ais, name)), 1)
        if one.refine is not None and two.refine is not None:
            for name in REFINED:
                both = zip(one.refine.runs, two.refine.runs, strict=True)
                gaps = [_gap(getattr(run, name), getattr(other, name)) for run, other in both]
                yield Difference(f"refine.{name} (final)", max(gaps), len(gaps))
        if one.classification is not None and two.classification is not None:
            yield Difference("test_error (final)", _gap(one.classification.error, two.classification.error), 1)
        if one.probe is not None and two.probe is not None:
            shares = [
                (ours_now, recorded)
                for probe, other in zip(one.probe.probes, two.probe.probes, strict=True)
                for ours_now, recorded in zip(probe.accuracy, other.accuracy, strict=True)
            ]
            yield Difference("probe.accuracy (final)", max(_gap(*pair) for pair in shares), len(shares))


def _gap(one: object, two: object) -> float:
    if one is None or two is None:
        return 0.0 if one is two else float("inf")
    return abs(float(str(one)) - float(str(two)))


def _elsewhere(training: TrainingResult, again: TrainingResult | None) -> Iterator[str]:
    """In what the last segments of a training and of the same one run again differ: machine, versions and images."""
    if again is None or not training.segments or not again.segments:
        return
    last, now = training.segments[-1], again.segments[-1]
    here = {"host": now.host, "device": now.device_name, **now.versions}
    there = {"host": last.host, "device": last.device_name, **last.versions}
    for name, value in there.items():
        if here.get(name, value) != value:
            yield f"The record's {name} is {value}, here it is {here[name]}."
    if again.data != training.data:
        yield "The images are not those that the record was made with."

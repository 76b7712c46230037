"""One member trained in this process, for notebooks and for studies of one's own."""

import json
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from hvae_spec.data.given import stored
from hvae_spec.errors import MachineError, RecordError, UserError, refusal
from hvae_spec.listeners.listener import Listener
from hvae_spec.listeners.notifier import notified, say_on_stderr
from hvae_spec.model import Model, load_record
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob, ReportProgress
from hvae_spec.pack_job import Progress as PackProgress
from hvae_spec.reading import reads
from hvae_spec.records.extensions import files, keep
from hvae_spec.records.layout import SHORT, Record, Results
from hvae_spec.records.lock import check_is_folder, locked
from hvae_spec.records.provenance import source_state
from hvae_spec.spec.data import OwnImages
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.grid import Member, members
from hvae_spec.spec.yaml import dump

Trainable = str | Member | MemberSpec | Experiment
Images = ArrayLike | tuple[ArrayLike, ArrayLike]


def train(
    member: str | Member | MemberSpec | Experiment,
    data: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    listeners: Sequence[Listener] = (),
    results: str | Path | None = None,
    *,
    device: str = "cpu",
    progress: bool = True,
) -> Model:
    """Train and evaluate one member in this process. Returns its model, as `load_record` gives it.

    What is done is not done again: with the same member and the same results folder the model comes from its record, or
    an interrupted training goes on from its last checkpoint.

        model = hvae_spec.train(text, images, results="results/mine")

    Args:
        member: a member (`members` has those of a grid), its spec, an experiment of one member, or that as YAML text.
        data: images of your own in the place of those that the spec names, whose section `data` may be missing then:
            an array [N, D] or [N, height, width], of which every fifth image is for the test set, or a pair
            (train, test). Whole numbers are gray levels from 0 to 255, or zeros and ones; fractions are intensities in
            [0, 1].
        listeners: who is told of it while it runs, each in a thread of its own (see `Listener`).
        results: the results folder, in which the record stays, in members/, and `data`, in data/. None: a temporary
            one. Of it, `data` stay as long as the model does, and nothing else is left.
        device: where to train, and where the model is then: `auto`, `cpu`, `cuda` or `cuda:0` and so on.
        progress: whether to show a bar on standard error.

    Raises:
        SpecError: the text is no valid spec.
        DataError: the images are missing, or are no images.
        RecordError: the training diverged, so that there is no model; or its record is damaged.
        UserError: an experiment of more than one member, or another run is at work in the folder.
        MachineError: the disk is full or not writable.

    """
    if results is not None:
        return _trained(member, data, Path(results), listeners, device, is_shown=progress)
    root = Path(tempfile.mkdtemp(prefix="hvae-train-"))
    try:
        model = _trained(member, data, root, listeners, device, is_shown=progress)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    if data is None:
        shutil.rmtree(root, ignore_errors=True)
    else:
        shutil.rmtree(root / "members", ignore_errors=True)
        weakref.finalize(model, shutil.rmtree, root, ignore_errors=True)
    return model


def _trained(
    what: Trainable, data: Images | None, root: Path, listeners: Sequence[Listener], device: str, *, is_shown: bool
) -> Model:
    """The model of a member whose training and evaluation are brought to their end in a results folder."""
    check_is_folder(root)
    try:
        with locked(root):
            results = Results(root.resolve())
            results.check_version()
            member = _member(what, None if data is None else stored(data, results.root / "data"))
            folder = results.record(member.digests.training, member.folder).folder
            member = replace(member, folder=folder.name)
            _run(member, results, listeners, device, is_shown=is_shown)
            _check_trained(member, Record(folder))
            return load_record(folder, device, extensions=True)
    except OSError as error:
        raise MachineError(refusal(root, error)) from None


def _run(member: Member, results: Results, listeners: Sequence[Listener], device: str, *, is_shown: bool) -> None:
    """Train and evaluate a member, as far as that is not done."""
    job = PackJob(
        member.digests.training[:SHORT],
        (member,),
        results.root,
        device=device,
        threads=torch.get_num_threads(),
        command=tuple(sys.argv),
        source=source_state(results),
    )
    if job.is_done:
        return
    keep(results.root, [member.spec])
    with notified(listeners, say_on_stderr) as notifiers, _bar(member, is_shown=is_shown) as report:
        for notifier in notifiers:
            notifier.begin(job, job.members)
        run_pack(job, report)
        for notifier in notifiers:
            notifier.end(job.members)


def _member(what: Trainable, own: OwnImages | None) -> Member:
    """The one member that is meant, with these images in the place of its own.

    Raises:
        SpecError: it is not valid, or the images do not suit it.
        UserError: there are several.

    """
    if own is None and isinstance(what, Member):
        return what
    if own is None and isinstance(what, Experiment):
        return _only(what.name, members(what))
    overrides = [] if own is None else ["data.dataset=own", f"data.own={json.dumps(own.model_dump(mode='json'))}"]
    reading = reads(what if isinstance(what, str) else _text(what), "<text>", overrides)
    found = _only(reading.name, reading.members)
    if isinstance(what, Member):
        return replace(found, labels={**what.labels, "dataset": found.spec.data.name})
    return found


def _text(what: Member | MemberSpec | Experiment) -> str:
    """A spec file of it."""
    if isinstance(what, Experiment):
        return dump(what.model_dump(mode="json"))
    spec = what.spec if isinstance(what, Member) else what
    tree = spec.model_dump(mode="json", exclude={"own_weights", "parts"})
    seed = tree.pop("seed")
    return dump({"name": "single", "extensions": files(spec), **tree, "grid": {"seeds": [seed]}})


def _only(name: str, every: Sequence[Member]) -> Member:
    if len(every) != 1:
        raise UserError(f"{name} has {len(every)} members: train one of them (hvae_spec.members has them all)")
    return every[0]


def _check_trained(member: Member, record: Record) -> None:
    """Raises RecordError if there is no model, as the training diverged."""
    if (reason := record.reason) is not None:
        raise RecordError(f"{member.folder}: its training {reason}, so that there is no model")


@contextmanager
def _bar(member: Member, *, is_shown: bool) -> Iterator[ReportProgress]:
    """A bar of progress on standard error, and what moves it."""
    epochs = member.spec.training.epochs
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(bar_width=20), TextColumn("{task.fields[state]}", markup=False), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True, markup=False), disable=not is_shown)
    said: set[str] = set()
    with bar:
        name = f"{member.labels['dataset']} L{member.labels['depth']} {member.labels['variant']}"
        task = bar.add_task(name, total=1.0, state=f"epoch 0/{epochs}")

        def report(progress: PackProgress) -> None:
            state = f"epoch {progress.epoch}/{progress.epochs}, bound {progress.train_bound:.2f}"
            bar.update(task, completed=progress.done, state=state)
            for words in (*progress.diverged, *progress.notes):
                if words not in said:
                    said.add(words)
                    bar.console.print(Text(words), soft_wrap=True)

        yield report
        bar.update(task, completed=1.0, state="finished")

"""Where records lie in a results folder: the names of their files and folders, and how these are read and written.

A results folder holds

    grid.json                      the grid as last planned: every member's digests, folder and labels
    members/index.json             every record's spec in one file, for plans; can be deleted
    members/<name>-<training>/     one record per training
        spec.yaml                  the resolved spec of the member that was trained
        epochs.jsonl               one line per epoch: learning curves, with the points of the validation or test curve
        units.jsonl                one line per point of that curve: KL of every unit and its standard error
        training.json              what became of the training; written last
        weights.safetensors        the trained parameters
        optimizer.safetensors      the optimizer's state, with which a longer training goes on; with `training.ema`, of
                                   which weights.safetensors holds the averages, also the weights themselves, `raw`
        statistics.safetensors     batch-norm statistics that a user's own weights were saved with (`Model.save`)
        failure.txt                the traceback, if its pack failed
        evaluations/<digest>/      one folder per evaluation of it
            result.json            what was measured; written last
            statistics.safetensors batch-norm statistics
            test.safetensors       per-image test log-likelihood, ELBO and effective sample size
            gallery.safetensors    latents, reconstructions and samples for figures (hvae_spec.records.gallery_file)
            failure.txt            the traceback, if its pack failed
    packs/planned.json             which members go together
    packs/<id>/                    pack.json and the last two checkpoints of a pack that has begun and is not finished
    source/                        uncommitted changes of the source tree that something was trained with
    extensions/<sha256>.py         the extensions that members use parts of (hvae_spec.extensions)
    data/                          images that `hvae_spec.train` was given as arrays
    retired/                       records that `--retrain` has moved out of the way

The report (`analysis.report`) writes its tables and figures beside them.
The models of these files are beside this one: `plan`, `index`, `result`, `rows` and, of a checkpoint, `checkpoint`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hvae_spec.errors import RecordError, as_machine_error
from hvae_spec.records.arrays import check_whole
from hvae_spec.records.curves import CHANGED, Checkpointed, Curves, digest_of, read_curves
from hvae_spec.records.files import copy_folder, json_lines, sha256_of, write_atomically, write_in_order
from hvae_spec.records.json_file import in_words, read_file, write_file
from hvae_spec.records.plan import GridFile, PackFile, PlannedFile
from hvae_spec.records.result import DONE, EvaluationResult, Status, TrainingResult
from hvae_spec.records.rows import EpochRow, UnitsRow
from hvae_spec.spec.experiment import MemberSpec

ACTIVE = 0.01
"""A unit is active if its KL(q||p) is greater than this, in nats (Table 2)."""
ACTIVE_VARIANCE = 0.01
"""By the criterion of Burda et al. (2016) it is active if the variance over x of E_q[z_u|x] is greater than this."""
SHORT = 12
"""Letters of a digest that name a folder."""
FOLDERS = ("members", "packs", "source", "extensions", "data", "tables", "figures")
"""Folders of a results folder in which runs and reports write."""
SPEC, EPOCHS, UNITS = "spec.yaml", "epochs.jsonl", "units.jsonl"
DIGESTS_OF = {EPOCHS: "epochs_sha256", UNITS: "units_sha256"}
"""What a training's result calls the digests of these files."""
TRAINING, RESULT, FAILURE = "training.json", "result.json", "failure.txt"
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
STATISTICS, TEST, GALLERY = "statistics.safetensors", "test.safetensors", "gallery.safetensors"
CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"
EARLIER = (
    "holds records of an earlier version (0.2 or before), which this version cannot use; choose another folder with "
    "--results, or read them with the version that made them"
)
"""What is said of a results folder of an earlier version, behind its path."""
RUN_AGAIN = "delete it to have it made again"
NO_LONGER = "delete it, and the member can no longer be trained further"
OWN_LOST = "no run can make it again, as it was saved from a model of its user's own"
SPEC_HEAD = b"# SHA-256 of the lines below: "
"""Begins the first line of spec.yaml."""
IS_SHORT = re.compile(f"[0-9a-f]{{{SHORT}}}")

# The C loader reads the same YAML ten times faster, where PyYAML was built with it.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation of a trained member, in its folder below the record."""

    folder: Path

    @property
    def result(self) -> EvaluationResult | None:
        """What was measured; None while the evaluation is not done. Raises RecordError if the file is damaged."""
        return read_file(self.folder / RESULT, EvaluationResult, f"{RUN_AGAIN}: the member is evaluated again")

    @property
    def again(self) -> str:
        """What fixes an array of it that is damaged."""
        return f"delete {self.folder} to have the member evaluated again"

    @property
    def statistics(self) -> Path:
        """Path of the batch-norm statistics."""
        return self.folder / STATISTICS

    def write_array(self, name: str, content: bytes) -> str:
        """Write a file of arrays; returns its SHA-256."""
        write_atomically(self.folder / name, content)
        return sha256_of(content)

    def finish(self, result: EvaluationResult) -> None:
        """Write the result, which makes the evaluation complete."""
        write_file(self.folder / RESULT, result)
        if result.status in DONE:
            (self.folder / FAILURE).unlink(missing_ok=True)

    def fail(self, result: EvaluationResult, traceback: str) -> None:
        """Record a failure with its traceback. An evaluation that is done, or is damaged, stays as it is."""
        try:
            done = self.result
        except RecordError:
            return
        if done is None or done.status not in DONE:
            write_atomically(self.folder / FAILURE, traceback)
            self.finish(result)


@dataclass(frozen=True)
class State:
    """What the files of a record say of a member, with one look at each."""

    status: Status
    damage: str = ""
    """What is wrong with the files that say what a member is and what became of it, and what fixes it; empty if nothing
    is. Unlike `status` this is also of spec.yaml."""
    training: TrainingResult | None = None
    """What became of the training; None while it is not done, or where that is damaged."""
    result: EvaluationResult | None = None
    """What became of the evaluation, likewise."""


@dataclass(frozen=True)
class Record:
    """The record of one training and of its evaluations, in its folder."""

    folder: Path

    @property
    def has_spec(self) -> bool:
        """Whether the member has begun."""
        return (self.folder / SPEC).exists()

    @property
    def spec(self) -> MemberSpec:
        """The resolved spec. Raises RecordError if there is none that can be read, or that of another training."""
        path = self.folder / SPEC
        try:
            spec = MemberSpec.model_validate(self.spec_tree)
        except ValidationError as error:
            first = error.errors()[0]
            what = in_words(first, ".".join(map(str, first["loc"])))
            raise RecordError(f"{path}: not the spec of a record ({what}); {self.lost}") from None
        name, digest = self.folder.name.rsplit("-", 1)[-1], spec.digests.training
        if IS_SHORT.fullmatch(name) and name != digest[:SHORT]:
            raise RecordError(
                f"{path}: changed since it was written (it is the spec of {digest[:SHORT]}, not of {name}); {self.lost}"
            )
        return spec

    @property
    def spec_tree(self) -> dict[str, Any]:
        """The resolved spec as a tree. Raises RecordError if there is none that can be read."""
        path = self.folder / SPEC
        try:
            tree = yaml.load(path.read_bytes(), Loader=_YamlLoader)
        except FileNotFoundError:
            raise RecordError(f"{self.folder}: no record there (it has no {SPEC})") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            what = " ".join(str(error).split())[:150]
            damage = RecordError(f"{path}: not the spec of a record ({what}); {self.lost}")
            raise as_machine_error(path, error) or damage from None
        if not isinstance(tree, dict):
            raise RecordError(f"{path}: not the spec of a record (not a mapping); {self.lost}")
        return tree

    @property
    def lost(self) -> str:
        """What fixes a record that is damaged."""
        return f"delete {self.folder} to have the member trained again"

    @property
    def training(self) -> TrainingResult | None:
        """What became of the training; None while it is not done. Raises RecordError if the file is damaged."""
        return read_file(self.folder / TRAINING, TrainingResult, self.lost)

    @property
    def is_trained(self) -> bool:
        """Whether the training has come to its end, with a result that can be read."""
        try:
            training = self.training
        except RecordError:
            return False
        return training is not None and training.status == "trained"

    def evaluation(self, digest: str) -> EvaluationRecord:
        """The evaluation with this digest, whether it is there or not."""
        return EvaluationRecord(self.folder / "evaluations" / digest[:SHORT])

    @property
    def evaluations(self) -> list[EvaluationRecord]:
        """All evaluations that have a result, the latest last. Raises RecordError if one is damaged."""
        found = [EvaluationRecord(path.parent) for path in (self.folder / "evaluations").glob(f"*/{RESULT}")]
        return sorted(found, key=lambda one: ((one.result or _NO_RESULT).finished_at or "", one.folder.name))

    def status(self, evaluation: str) -> Status:
        """The status of the member whose evaluation has this digest."""
        try:
            return self._status_of(*self.outcome(evaluation))
        except RecordError:
            return "damaged"

    def _status_of(self, training: TrainingResult | None, result: EvaluationResult | None) -> Status:
        if training is None:
            return "running" if (self.folder / EPOCHS).exists() else "pending"
        if training.status != "trained":
            return training.status
        return "trained" if result is None else result.status

    def state(self, evaluation: str) -> State:
        """What the files say of the member whose evaluation has this digest. Raises MachineError if the system does not
        let one be read.
        """
        try:
            training, result = self.outcome(evaluation)
        except RecordError as error:
            return State("damaged", str(error))
        damage = ""
        if training is not None and training.status != "failed":
            try:
                self._check_spec()
            except RecordError as error:
                damage = str(error)
        return State(self._status_of(training, result), damage, training, result)

    def outcome(self, evaluation: str) -> tuple[TrainingResult | None, EvaluationResult | None]:
        """What became of the training, and of the evaluation with this digest, each None while it is not done.

        Raises:
            RecordError: a file is damaged, or is not of this member.

        """
        training, found = self.training, self.evaluation(evaluation)
        result = found.result
        if training is None:
            return None, result
        name = self.folder.name.rsplit("-", 1)[-1]
        if IS_SHORT.fullmatch(name) and name != training.digest[:SHORT]:
            raise RecordError(f"{self.folder / TRAINING}: of another training, {training.digest[:SHORT]}; {self.lost}")
        if result is not None and (result.training, result.digest) != (training.digest, evaluation):
            raise RecordError(f"{found.folder / RESULT}: of another member or evaluation; {found.again}")
        return training, result

    def _check_spec(self) -> None:
        """Make sure that spec.yaml is that of the training, without parsing it if it is as it was written."""
        path = self.folder / SPEC
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise RecordError(f"{path}: no such file; {self.lost}") from None
        except OSError as error:
            fault = RecordError(f"{path}: cannot be read ({error.strerror}); {self.lost}")
            raise as_machine_error(path, error) or fault from None
        head, _, text = content.partition(b"\n")
        if head != SPEC_HEAD + sha256_of(text).encode():
            _ = self.spec  # one of which nothing but the layout was changed is still the same

    @property
    def has_arrays(self) -> bool:
        """Whether any of its arrays is there. Results can be kept, and copied, without them: they still count, but no
        model can be loaded from such a record, or trained further.
        """
        return any(self.folder.rglob("*.safetensors"))

    def damaged_arrays(self, training: TrainingResult | None, result: EvaluationResult | None) -> list[str]:
        """What is wrong with the arrays of a finished member, and what fixes it. Reads all of them. The optimizer's
        state may be missing: it can be deleted to save room.

        Args:
            training: what became of its training.
            result: what became of its evaluation.

        """
        arrays: list[tuple[Path, str | None, str]] = []
        if training is not None and training.status == "trained":
            arrays.append((self.weights, training.weights_sha256, self.lost))
            arrays.append((self.statistics, training.statistics_sha256, self.lost))
            if self.optimizer.exists():
                arrays.append((self.optimizer, training.optimizer_sha256, NO_LONGER))
        if result is not None:
            again = self.evaluation(result.digest)
            arrays += [(again.folder / name, sha256, again.again) for name, sha256 in result.arrays_sha256.items()]
        found = []
        for path, sha256, remedy in arrays:
            try:
                check_whole(path, sha256, remedy)
            except RecordError as error:
                found.append(str(error))
        return found

    @property
    def reason(self) -> str | None:
        """Why there are no weights, in words: the training diverged or failed. None if it is trained or not done."""
        training = self.training
        if training is None or training.status == "trained":
            return None
        if training.divergence is not None:
            return f"diverged in epoch {training.divergence.epoch} ({training.divergence.quantity})"
        return f"failed ({training.failure})"

    def in_full(self, fault: str) -> str:
        """A fault of curves, with what is done and with what fixes it. Nothing does while the training is not done."""
        trained = self.training
        used = "; all of its rows are used, and may be wrong" if CHANGED in fault else "; the other rows are used"
        return fault + used + ("" if trained is None or trained.status == "failed" else f"; {self.lost}")

    def curves(
        self, limit: int | None = None, checkpoint: Checkpointed | None = None, *, only_whole: bool = False
    ) -> Curves:
        """Learning curves and unit KLs, as far as they can be read, and what is wrong with them.

        Args:
            limit: the epochs that its spec has; None: not known.
            checkpoint: what the checkpoint from which the training goes on knows of them.
            only_whole: leave out all rows of a file that is not what was written.

        Raises:
            RecordError: `training.json` is damaged.
            MachineError: the system does not let a file be read that the training, as it goes on, would replace.

        """
        return self.curves_of(self.training, limit, checkpoint, only_whole=only_whole)

    def curves_of(
        self,
        training: TrainingResult | None,
        limit: int | None = None,
        checkpoint: Checkpointed | None = None,
        *,
        only_whole: bool = False,
    ) -> Curves:
        """What `curves` gives, where it is known what became of the training. Raises MachineError likewise."""
        return read_curves(
            self.folder / EPOCHS, self.folder / UNITS, training, limit, checkpoint, only_whole=only_whole
        )

    @property
    def epochs(self) -> list[EpochRow]:
        """Learning curves: one row per epoch, as far as they can be read."""
        return self.curves(self._limit).epochs

    @property
    def units(self) -> list[UnitsRow]:
        """One row per point of the validation or test curve, as far as they can be read."""
        return self.curves(self._limit).units

    @property
    def _limit(self) -> int | None:
        """The epochs that its spec has; None if that cannot be read."""
        try:
            return self.spec.training.epochs
        except RecordError:
            return None

    @property
    def weights(self) -> Path:
        """Path of the trained parameters."""
        return self.folder / WEIGHTS

    @property
    def optimizer(self) -> Path:
        """Path of the optimizer's state."""
        return self.folder / OPTIMIZER

    @property
    def statistics(self) -> Path:
        """Path of the batch-norm statistics that a user's own weights were saved with."""
        return self.folder / STATISTICS

    def begin(self, spec: MemberSpec, *, anew: bool = False) -> None:
        """Make the folder and write the resolved spec, if it is not there and whole, or if the training begins anew."""
        if anew or not self._has(spec):
            text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False).encode()
            write_atomically(self.folder / SPEC, SPEC_HEAD + sha256_of(text).encode() + b"\n" + text)

    def _has(self, spec: MemberSpec) -> bool:
        """Whether the record's spec can be read, and is that of the same training."""
        try:
            return self.spec.digests.training == spec.digests.training
        except RecordError:
            return False

    def write_curves(
        self, epochs: Iterable[Mapping[str, Any]], units: Iterable[Mapping[str, Any]] | None
    ) -> dict[str, str]:
        """Replace the learning curves and unit KLs. Returns the digests of the files that are written, by the names
        that the training's result has for them.

        Args:
            epochs: the learning curves.
            units: the unit KLs; None: their file stays as it is.

        """
        contents = {EPOCHS: json_lines(epochs)}
        if units is not None:
            contents[UNITS] = json_lines(units)
        write_in_order(self.folder, contents)
        return {DIGESTS_OF[name]: digest_of(content) for name, content in contents.items()}

    def finish(self, result: TrainingResult) -> None:
        """Write the outcome of the training, which makes it complete."""
        write_file(self.folder / TRAINING, result)
        if result.status != "failed":
            (self.folder / FAILURE).unlink(missing_ok=True)

    def fail(self, result: TrainingResult, traceback: str) -> None:
        """Record a failure with its traceback. A training that is done, or whose result is damaged, stays as it is."""
        try:
            done = self.training
        except RecordError:
            return
        if done is None or done.status == "failed":
            write_atomically(self.folder / FAILURE, traceback)
            self.finish(result)


_NO_RESULT = EvaluationResult(digest="", training="", labels={}, status="failed")


@dataclass(frozen=True)
class Results:
    """A results folder: its grid and its records."""

    root: Path

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """Folders of existing records by the training digest's first letters, which end their names."""
        members = self.root / "members"
        try:
            # One look at the folder, rather than one at each of thousands of records.
            with os.scandir(members) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {name.rsplit("-", 1)[-1]: members / name for name in names}

    @property
    def folders(self) -> list[Path]:
        """Folders of all existing records."""
        return list(self._folders.values())

    def record(self, training: str, name: str) -> Record:
        """The record of the training with this digest: the existing one, whatever its name, or a new one at `name`."""
        return Record(self._folders.get(training[:SHORT], self.root / "members" / name))

    def find(self, training: str) -> Record | None:
        """The record of the training with this digest; None, without opening anything, if there is none."""
        folder = self._folders.get(training[:SHORT])
        return None if folder is None else Record(folder)

    def adopt(self, record: Record, training: str, name: str) -> None:
        """Copy a record of another results folder here, in the place of what an unfinished run left of it.

        Raises:
            OSError: it cannot be read, or the disk is full or not writable.

        """
        target = self.record(training, name).folder
        # Not beside the others, so that no part of it is taken for a record.
        copy_folder(record.folder, target, self.root / f".adopted-{training[:SHORT]}")

    def retire(self, record: Record) -> Path:
        """Move a record out of the way of a new one of the same training; returns where it is."""
        number = 1
        while (target := self.root / "retired" / f"{record.folder.name}-{number}").exists():
            number += 1
        target.parent.mkdir(exist_ok=True)
        os.replace(record.folder, target)
        return target

    @property
    def records(self) -> list[Record]:
        """All records in the folder, complete or not."""
        return [Record(folder) for folder in self._folders.values() if Record(folder).has_spec]

    @property
    def grid(self) -> GridFile | None:
        """The grid as last planned; None if none was.

        Raises:
            RecordError: the file is damaged, or the folder is of an earlier version.

        """
        self.check_version()
        return read_file(self.root / "grid.json", GridFile, "run tune.run again to rewrite it")

    def write_grid(self, grid: GridFile) -> None:
        """Write grid.json."""
        write_file(self.root / "grid.json", grid)

    @property
    def planned(self) -> PlannedFile | None:
        """The packs as last planned. Raises RecordError if the file is damaged."""
        return read_file(self.root / "packs" / "planned.json", PlannedFile, "run tune.run again to rewrite it")

    def write_planned(self, planned: PlannedFile) -> None:
        """Write packs/planned.json."""
        write_file(self.root / "packs" / "planned.json", planned)

    def check_version(self) -> None:
        """Refuse a folder of an earlier version. Raises RecordError."""
        folder = next(iter(self._folders.values()), None)
        if folder is not None and (folder / RESULT).exists():
            raise RecordError(f"{self.root}: {EARLIER}")

    def pack(self, pack_id: str) -> "PackFolder":
        """The folder of a pack that has begun."""
        return PackFolder(self.root / "packs" / pack_id)

    @property
    def packs(self) -> list["PackFolder"]:
        """Folders of all packs that have begun."""
        try:
            with os.scandir(self.root / "packs") as entries:
                return [PackFolder(Path(entry.path)) for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


@dataclass(frozen=True)
class PackFolder:
    """What a pack that has begun keeps on disk until it is finished."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Path of its latest checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def previous(self) -> Path:
        """Path of the one before, with which the pack goes on if the latest is damaged."""
        return self.folder / PREVIOUS

    @property
    def checkpoints(self) -> list[Path]:
        """Those that are there, the latest first."""
        return [path for path in (self.checkpoint, self.previous) if path.exists()]

    @property
    def content(self) -> PackFile | None:
        """What the pack is; None if a crash came before it was written. Raises RecordError if the file is damaged."""
        return read_file(self.folder / "pack.json", PackFile, "it is not used")

    def write(self, content: PackFile) -> None:
        """Write pack.json."""
        write_file(self.folder / "pack.json", content)

    def keep_previous(self) -> None:
        """Keep the latest checkpoint as the previous one, before a new one is written."""
        with suppress(FileNotFoundError):
            os.replace(self.checkpoint, self.previous)

    def forget(self) -> None:
        """Take back that the pack has begun, so that no later run goes on with it."""
        for path in (self.folder / "pack.json", *self.checkpoints):
            path.unlink(missing_ok=True)

    @property
    def lock(self) -> Path:
        """Path of the lock that keeps other processes out."""
        return self.folder / "lock"

    @property
    def failure(self) -> Path:
        """Path of the traceback that a worker leaves."""
        return self.folder / FAILURE

    @property
    def out_of_memory(self) -> Path:
        """Path of a file that says that the pack did not fit into its device's memory."""
        return self.folder / "out_of_memory"

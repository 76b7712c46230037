"""Records: what is kept of every member. No torch here, so that plans and notebooks read records without it.

A results folder holds

    grid.json                      the grid as last planned: every member's digest, folder and labels
    members/<name>-<digest>/       one record a member
        spec.yaml                  its resolved spec
        epochs.jsonl               one line an epoch: learning curves, and the test curve where it was evaluated
        units.jsonl                one line an evaluation: KL of every unit and its standard error
        result.json                status and metrics; written last, so its presence means that the member is done
        test.safetensors           per-image test log-likelihood, ELBO and effective sample size
        gallery.safetensors        latents, reconstructions and samples for figures (hvae_spec.records.gallery_file)
        weights.safetensors        the trained parameters and batch-norm statistics
        failure.txt                the traceback, if its pack failed
    packs/<id>/                    pack.json and the latest checkpoint of a pack that has begun and is not finished
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hvae_spec.errors import RecordError
from hvae_spec.records.files import copy_folder, read_json_lines, write_atomically, write_json, write_json_lines
from hvae_spec.spec.experiment import Member

ACTIVE = 0.01
"""A unit is active if its KL(q||p) is greater than this, in nats (Table 2)."""
LABELS = ("dataset", "depth", "variant", "seed")
"""Labels that every member has; all others are its places on further axes."""
DONE = ("finished", "diverged")
"""Statuses that a rerun of the grid leaves alone. A `failed` member is tried again."""


@dataclass(frozen=True)
class Record:
    """The record of one member, in its folder."""

    folder: Path

    @property
    def spec(self) -> Member:
        """The resolved spec. Raises RecordError if the record has none that can be read."""
        path = self.folder / "spec.yaml"
        try:
            return Member.model_validate(yaml.safe_load(path.read_text()))
        except FileNotFoundError:
            raise RecordError(f"{self.folder}: no record there (it has no spec.yaml)") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RecordError(f"{path}: not the spec of a record ({error})") from None

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None while the member is not done."""
        path = self.folder / "result.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RecordError(f"{path}: not a result ({error}); delete it to have the member run again") from None
        return content

    @property
    def status(self) -> str | None:
        """`finished`, `diverged` or `failed`; None while the member is not done."""
        return (self.result or {}).get("status")

    @property
    def reason(self) -> str | None:
        """Why there are no weights, in words: the member diverged, or failed. None if it finished or is not done."""
        result = self.result or {}
        if result.get("status") == "diverged":
            divergence = result.get("divergence") or {}
            return f"diverged in epoch {divergence.get('epoch', '?')} ({divergence.get('quantity', '?')})"
        return f"failed ({result.get('failure')})" if result.get("status") == "failed" else None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """Learning curves: one row an epoch."""
        return read_json_lines(self.folder / "epochs.jsonl")

    @property
    def units(self) -> list[dict[str, Any]]:
        """One row an evaluation: `epoch`, `kl` and `kl_se`, lists over layers of lists over units."""
        return read_json_lines(self.folder / "units.jsonl")

    @property
    def weights(self) -> Path:
        """Path of the trained parameters."""
        return self.folder / "weights.safetensors"

    def begin(self, spec: Member) -> None:
        """Make the folder and write the resolved spec, if it is not there yet."""
        if not (self.folder / "spec.yaml").exists():
            text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
            write_atomically(self.folder / "spec.yaml", text)

    def write_curves(self, epochs: Iterable[dict[str, Any]], units: Iterable[dict[str, Any]]) -> None:
        """Replace the learning curves and unit KLs."""
        write_json_lines(self.folder / "epochs.jsonl", epochs)
        write_json_lines(self.folder / "units.jsonl", units)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which makes the record complete."""
        write_json(self.folder / "result.json", result)
        if result["status"] in DONE:
            (self.folder / "failure.txt").unlink(missing_ok=True)

    def fail(self, result: dict[str, Any], traceback: str) -> None:
        """Record a failure with its traceback. A member that is done stays as it is."""
        if self.status not in DONE:
            write_atomically(self.folder / "failure.txt", traceback)
            self.finish({**result, "status": "failed"})


@dataclass(frozen=True)
class Results:
    """A results folder: its grid and its records."""

    root: Path

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """Folders of existing records by the digest's first letters, which end their names."""
        members = self.root / "members"
        try:
            # One look at the folder, rather than one at each of thousands of records.
            with os.scandir(members) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {name.rsplit("-", 1)[-1]: members / name for name in names}

    def record(self, digest: str, name: str) -> Record:
        """The record of the member with this digest: the existing one, whatever it is named, or a new one at `name`."""
        return Record(self._folders.get(digest[:12], self.root / "members" / name))

    def status(self, digest: str) -> str | None:
        """The status of the member with this digest; None without opening anything where there is no record."""
        folder = self._folders.get(digest[:12])
        return None if folder is None else Record(folder).status

    def adopt(self, record: Record, digest: str, name: str) -> None:
        """Copy a finished record of another results folder here, in the place of what an unfinished run left of it.

        Raises:
            OSError: it cannot be read, or the disk is full or not writable.

        """
        target = self.record(digest, name).folder
        # Not beside the others, lest a part of it be taken for a record.
        copy_folder(record.folder, target, self.root / f".adopted-{digest[:12]}")

    @property
    def records(self) -> list[Record]:
        """All records in the folder, complete or not."""
        return [Record(folder) for folder in self._folders.values() if (folder / "spec.yaml").exists()]

    @property
    def grid(self) -> dict[str, Any]:
        """The grid as last planned: `name`, `variants` and `members` (`digest`, `folder`, `labels`); empty if none."""
        path = self.root / "grid.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RecordError(f"{path}: not a grid ({error}); run tune.run again to rewrite it") from None
        return content

    def pack(self, pack_id: str) -> Path:
        """Folder of a pack that has begun."""
        return self.root / "packs" / pack_id

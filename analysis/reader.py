"""The ledger of a results folder: the grid as last planned, joined with the records that exist."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis import form
from hvae_spec.errors import MachineError, RecordError
from hvae_spec.records.layout import Record, Results
from hvae_spec.spec.experiment import Member

STATUSES = ("finished", "diverged", "failed", "running", "pending")
"""What has become of a member. The first three stand in its result; `running` has begun and not ended (it may have been
interrupted), `pending` has not begun."""

# The C loader reads the same YAML ten times faster, where PyYAML was built with it.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Entry:
    """One member: what the grid calls it, and what its record holds so far."""

    digest: str
    labels: dict[str, Any]
    """`dataset`, `depth`, `variant`, `seed`, and the value on every further axis by its dotted path."""
    planned: bool
    """Whether the grid as last planned has this member. Without a grid.json, every record counts as planned."""
    folder: Path
    spec: dict[str, Any] = field(repr=False)
    """The resolved spec as a tree; empty before the member begins."""
    result: dict[str, Any] = field(repr=False)
    """result.json; empty while the member is not done."""
    epochs: list[dict[str, Any]] = field(repr=False)
    units: list[dict[str, Any]] = field(repr=False)

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        if self.result:
            return str(self.result["status"])
        return "running" if self.epochs else "pending"


@dataclass(frozen=True)
class Ledger:
    """All members of a results folder, in the order of the grid; records that it no longer plans follow."""

    name: str
    variants: tuple[str, ...]
    """Names of the grid's variants in the order of the spec."""
    entries: tuple[Entry, ...]


def read(path: str | Path) -> Ledger:
    """The ledger of the results folder at `path`.

    Raises:
        RecordError: there is no such folder, it holds no results, or a file in it is damaged.

    """
    root = Path(path)
    if not root.is_dir():
        raise RecordError(f"{root}: no such results folder; `python -m tune.run` makes one, by default results/<name>")
    results = Results(root)
    try:
        name, variants, planned = _grid(results)
        entries = [_entry(results.record(digest, folder), digest, labels) for digest, folder, labels in planned]
        known = {entry.folder for entry in entries}
        entries += [_entry(record, planned=not planned) for record in results.records if record.folder not in known]
    except OSError as error:
        raise MachineError(f"{root}: cannot be read ({error}); fix its permissions") from None
    if not entries:
        raise RecordError(f"{root}: holds no results (neither grid.json nor members/); give the folder of a grid")
    return Ledger(name, variants, tuple(entries))


def _grid(results: Results) -> tuple[str, tuple[str, ...], list[tuple[str, str, dict[str, Any]]]]:
    """Name, variants and (digest, folder name, labels) of every planned member."""
    path, grid = results.root / "grid.json", results.grid
    try:
        members = [
            (str(item["digest"]), Path(item["folder"]).name, _labels(path, item["labels"]))
            for item in grid.get("members", [])
        ]
        return str(grid.get("name", results.root.name)), tuple(grid.get("variants", ())), members
    except (AttributeError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not a grid ({error!r}); run tune.run again to rewrite it") from None


def _entry(record: Record, digest: str = "", labels: dict[str, Any] | None = None, planned: bool = True) -> Entry:
    """A member and its record. Labels come from the grid, else from the record's result, else from its spec."""
    result, spec = _result(record), _spec(record)
    if not digest:
        digest = str(result.get("digest") or _member(record, spec).digest)
    if labels is None:
        path = record.folder / "result.json"
        labels = _labels(path, result["labels"]) if "labels" in result else _own_labels(_member(record, spec))
    epochs = _rows(record.folder / "epochs.jsonl", form.fault_of_row, "epoch")
    # The KL of units is checked where it is taken apart.
    units = _rows(record.folder / "units.jsonl", lambda row: form.fault_of_row({"epoch": row["epoch"]}), "epoch", "kl")
    return Entry(digest, labels, planned, record.folder, spec, result, epochs, units)


def _result(record: Record) -> dict[str, Any]:
    result = record.result
    if result is None:
        return {}
    if not isinstance(result, dict) or result.get("status") not in STATUSES[:3]:
        raise RecordError(
            f"{record.folder / 'result.json'}: not a result (its status is none of {', '.join(STATUSES[:3])}); "
            "delete it to have the member run again"
        )
    fault = form.fault(result, form.RESULT)
    if fault:
        raise RecordError(f"{record.folder / 'result.json'}: {fault}; delete it to have the member run again")
    return result


def _spec(record: Record) -> dict[str, Any]:
    path = record.folder / "spec.yaml"
    try:
        tree = yaml.load(path.read_bytes(), Loader=_YamlLoader)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecordError(f"{path}: not the spec of a record ({error}); delete {path.parent} to run it again") from None
    if not isinstance(tree, dict):
        raise RecordError(f"{path}: not the spec of a record; delete {path.parent} to run it again")
    fault = form.fault(tree, form.SPEC)
    if fault:
        raise RecordError(f"{path}: not the spec of a record ({fault}); delete {path.parent} to run it again")
    return tree


def _member(record: Record, spec: dict[str, Any]) -> Member:
    try:
        return Member.model_validate(spec)
    except ValueError as error:
        path = record.folder / "spec.yaml"
        raise RecordError(f"{path}: not the spec of a record ({error}); delete {path.parent} to run it again") from None


def _labels(path: Path, labels: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in ("dataset", "depth", "variant", "seed") if key not in labels]
    if missing:
        raise RecordError(f"{path}: labels without {', '.join(missing)}; run tune.run again to rewrite it")
    odd = [key for key in ("depth", "seed") if not form.is_whole(labels[key])]
    if odd:
        raise RecordError(f"{path}: labels whose {odd[0]} is not a whole number; run tune.run again to rewrite it")
    return {key: plain(value) for key, value in labels.items()}


def _own_labels(member: Member) -> dict[str, Any]:
    dataset, depth = member.data.name, member.model.depth
    return {"dataset": dataset, "depth": depth, "variant": member.label, "seed": member.seed}


def plain(value: Any) -> Any:
    """The value of a factor as one entry of a column: lists, mappings and null as their JSON text.

    Null must be a value like any other, or else pandas would drop its cells as missing.
    """
    return json.dumps(value) if value is None or isinstance(value, list | tuple | dict) else value


def _rows(path: Path, fault_of: Callable[[dict[str, Any]], str | None], *required: str) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file. A torn last line (a copy of a run that goes on) is left out.

    Args:
        path: the file; no rows if there is none.
        fault_of: what is wrong with a row that has all required keys, if anything is.
        required: keys that every row has.

    """
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    rows = _parse(lines)
    if rows is None and _parse(lines[-1:]) is None:
        lines = lines[:-1]
        rows = _parse(lines)
    if rows is None:
        bad = next(number for number, line in enumerate(lines, start=1) if _parse([line]) is None)
        raise RecordError(f"{path}:{bad}: not a JSON object; delete {path.parent} to have the member run again")
    for number, row in enumerate(rows, start=1):
        if any(key not in row for key in required):
            raise RecordError(
                f"{path}:{number}: a row without {' or '.join(required)}; delete {path.parent} to run it again"
            )
        fault = fault_of(row)
        if fault:
            raise RecordError(f"{path}:{number}: {fault}; delete {path.parent} to run it again")
    return rows


def _parse(lines: list[bytes]) -> list[dict[str, Any]] | None:
    """All lines parsed at once, which is three times faster than one by one; None if one of them is no JSON object."""
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    return rows if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows) else None

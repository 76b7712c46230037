"""What every record of a results folder was trained as, from one file instead of one YAML file per record."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hvae_spec.errors import MachineError, RecordError
from hvae_spec.records.json_file import FORMAT, FileModel, Format, Text, read_file, write_file
from hvae_spec.records.layout import Record, Results
from hvae_spec.spec.experiment import Digests, MemberSpec


class IndexedRecord(FileModel):
    """What plans read of a record's spec."""

    trajectory: Text
    training: Text
    spec: dict[str, Any]
    """The resolved spec less defaults."""


class IndexFile(FileModel):
    """`members/index.json`: every record's spec in one file, so that a plan need not open thousands. It can be deleted:
    what is missing in it is read from the records.
    """

    has_checksum = True
    format: Format = FORMAT
    records: dict[str, IndexedRecord]
    """By the name of the record's folder."""


def read_index(results: Results) -> dict[str, IndexedRecord]:
    """Every existing record by the name of its folder. What the index lacks is read from the record's own spec. A
    record whose spec cannot be read is left out.
    """
    path = results.root / "members" / "index.json"
    try:
        file = read_file(path, IndexFile, "delete it")
    except (RecordError, MachineError):
        file = None  # it can be made again
    known = {} if file is None else file.records
    found: dict[str, IndexedRecord] = {}
    for folder in results.folders:
        entry = known.get(folder.name)
        if entry is None:
            try:
                spec = Record(folder).spec
            except (RecordError, MachineError):
                continue
            entry = indexed(spec, spec.digests)
        found[folder.name] = entry
    return found


def write_index(results: Results, records: Mapping[str, IndexedRecord]) -> None:
    """Write the index. Raises OSError if the folder is not writable."""
    write_file(results.root / "members" / "index.json", IndexFile(records=dict(sorted(records.items()))))


def spec_of(entry: IndexedRecord) -> MemberSpec | None:
    """The spec of an entry; None if this version cannot read it: it names a choice that has not joined, say."""
    try:
        return MemberSpec.model_validate(entry.spec)
    except ValidationError:
        return None


def indexed(spec: MemberSpec, digests: Digests) -> IndexedRecord:
    """A record's entry in the index."""
    return IndexedRecord(trajectory=digests.trajectory, training=digests.training, spec=spec.stated)

"""The copies of extensions that a results folder, or a record on its own, keeps, and what members use of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hvae_spec import extensions
from hvae_spec.records.files import write_atomically
from hvae_spec.records.layout import Record
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.optimizer import OPTIMIZERS
from hvae_spec.spec.choices.schedule import SCHEDULES
from hvae_spec.spec.choices.term import ADDED_TERMS
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.parts import Parts


def keep(folder: Path, specs: Iterable[MemberSpec]) -> None:
    """Keep a copy of every extension that members use, by its SHA-256, in a folder's `extensions/`.

    Raises:
        OSError: the disk is full or not writable.

    """
    for sha256 in {part.sha256 for spec in specs for part in spec.parts.values()}:
        extension, path = extensions.known(sha256), folder / extensions.FOLDER / f"{sha256}.py"
        if extension is not None and not path.exists():
            write_atomically(path, extension.content)


def with_code(specs: Sequence[MemberSpec], folders: Sequence[Path]) -> list[MemberSpec]:
    """Members with the code of the extensions that they use: it runs if it has not run in this process.

    Args:
        specs: members.
        folders: those that may have the copies.

    Raises:
        RecordError: there is no copy, or it was changed.
        SpecError: it does not run.

    """
    needed = {part.sha256 for spec in specs for part in spec.parts.values()}
    missing = sorted(sha256 for sha256 in needed if extensions.known(sha256) is None)
    extensions.run([extensions.copied(sha256, folders) for sha256 in missing])
    # A member that was read without the code has plain values in the place of settings.
    return [MemberSpec.model_validate(spec.model_dump(mode="json")) if spec.parts else spec for spec in specs]


def parts_of_the_model(spec: MemberSpec) -> Parts:
    """The parts of extensions that a trained model cannot do without: less those of the training alone."""
    of_training = tuple(registry.kind + " " for registry in (SCHEDULES, OPTIMIZERS, ESTIMATORS, ADDED_TERMS))
    return {key: part for key, part in spec.parts.items() if not key.startswith(of_training)}


def files(spec: MemberSpec, folders: Sequence[Path] = ()) -> list[str]:
    """The files, as a spec names them under `extensions`, of the extensions that a member uses: as they have run in
    this process, or else their copies in folders.
    """
    found: dict[str, None] = {}
    for sha256 in {part.sha256: None for part in spec.parts.values()}:
        extension = extensions.known(sha256) or extensions.copied(sha256, folders)
        found[str(extension.path)] = None
    return list(found)


def folders_of(record: Record) -> list[Path]:
    """Where copies of the extensions of a record may be: in its folder, and in its results folder."""
    return [record.folder, record.folder.resolve().parent.parent]

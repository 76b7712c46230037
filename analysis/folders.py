"""Several results folders side by side: each member once, and every grid by itself."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from analysis import reader
from analysis.reader import Contents, Entry
from hvae_spec.errors import RecordError
from hvae_spec.records.result import Status
from hvae_spec.spec.labels import GRID

PREFERENCE: tuple[tuple[Status, ...], ...] = (
    ("finished", "diverged"),
    ("failed",),
    ("trained",),
    ("running",),
    ("pending",),
    ("damaged",),
)
"""Of a member that several folders have, the record that has come furthest is shown. What has come as far is of the
folder that was given first: that a member has diverged in one is no reason to show another."""


def distinct(paths: Sequence[str | Path]) -> list[Path]:
    """Folders without those that were given before, be it in other words."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(Path(path).resolve(), Path(path))
    return list(found.values())


def read(paths: Sequence[str | Path]) -> Contents:
    """What one or several results folders hold.

    Args:
        paths: the folders; one that is given twice counts once.

    Returns:
        Of one folder, what `reader.read` does. Of several, the grids of all, under names of their own, and each member
        once, as the first grid calls it that has it.

    Raises:
        RecordError: there is no such folder, it holds no results, its grid.json is damaged, or two folders have the
            same member on other images.
        MachineError: the system does not let something in it be read.

    """
    folders = [reader.read(path) for path in distinct(paths)]
    if len(folders) == 1:
        return folders[0]
    grids = tuple(_apart([grid for folder in folders for grid in folder.grids or (folder,)]))
    of_one = {grid.folder: grid.name for grid in grids}
    return Contents(
        name=", ".join(folder.name if folder.grids else of_one[folder.folder] for folder in folders),
        variants=tuple(dict.fromkeys(variant for folder in folders for variant in folder.variants)),
        entries=tuple(_once(folders, grids)),
        faults=tuple(dict.fromkeys(fault for folder in folders for fault in folder.faults)),
        grids=grids,
        absent={name: said for folder in reversed(folders) for name, said in folder.absent.items()},
    )


def _apart(grids: Sequence[Contents]) -> Iterator[Contents]:
    """The grids under names of their own: where several have the same, each with what tells its folder from the others
    (`small-old` and `small-new` of old/small and new/small), or else with a number.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for place, grid in enumerate(grids):
        # Results are written to folders of these names, also where case does not count.
        alike[grid.name.casefold()].append(place)
    names = [grid.name for grid in grids]
    for places in alike.values():
        if len(places) > 1:
            endings = _differing([grids[place].folder for place in places])
            for place, ending in zip(places, endings, strict=True):
                names[place] = f"{names[place]}-{ending}"
    taken: set[str] = set()
    for grid, name in zip(grids, names, strict=True):
        free = next(each for each in _numbered(name) if each.casefold() not in taken)
        taken.add(free.casefold())
        yield replace(grid, name=free)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _differing(folders: Sequence[Path]) -> list[str]:
    """The last part in which the paths of some folders all differ, or else numbers."""
    parts = [[re.sub(r"[^\w.-]+", "-", part) for part in reversed(folder.resolve().parts)] for folder in folders]
    found = next((each for each in zip(*parts, strict=False) if len(set(map(str.casefold, each))) == len(each)), None)
    return list(map(str, range(1, len(folders) + 1))) if found is None else list(found)


def _once(folders: Sequence[Contents], grids: Sequence[Contents]) -> Iterator[Entry]:
    """Every member once: planned ones first, as the first grid calls them that has them."""
    first: dict[str, str] = {}
    for grid in grids:
        for entry in grid.entries:
            first.setdefault(entry.digest, grid.name)
    same: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted((entry for folder in folders for entry in folder.entries), key=lambda entry: not entry.planned):
        same[entry.digest].append(entry)
    for digest, entries in same.items():
        _check_images(entries)
        shown = min(entries, key=_place)
        labels = {**entries[0].labels, GRID: first[digest]} if digest in first else entries[0].labels
        yield replace(shown, labels=labels, planned=entries[0].planned)


def _place(entry: Entry) -> int:
    return next(place for place, statuses in enumerate(PREFERENCE) if entry.status in statuses)


def _check_images(entries: Sequence[Entry]) -> None:
    """Whether the records of one member are of the same images. Raises RecordError."""
    seen = {
        (data.train_sha256, data.test_sha256): entry.folder
        for entry in reversed(entries)
        if entry.training is not None and (data := entry.training.data) is not None
    }
    if len(seen) > 1:
        one, other, *_ = reversed(seen.values())
        raise RecordError(
            f"{other}: the same member as {one}, but on other images (their SHA-256 differ), so that their numbers "
            "cannot stand under one name; load these folders one by one, or compare them with analysis.compare"
        )

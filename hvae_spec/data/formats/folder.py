"""A folder of image files: `train/` and `test/`, or all in one; a folder in them for each class, or none."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.formats.image_file import OTHER_SUFFIXES, SUFFIXES, gray_values
from hvae_spec.data.formats.parts import PARTS, is_another_part, plain, splits
from hvae_spec.data.formats.regular import LARGEST_OWN
from hvae_spec.errors import DataError, MachineError, as_machine_error

ACCEPTED = "expected `train` and `test`, in each of them its images or a folder of images for each class"
"""What names are those of the parts, `plain` says."""
HIDDEN = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "lost+found"))
"""What systems leave behind, besides what begins with a dot."""

Classes = dict[str, list[Path]]
"""Image files by the name of the class's folder; the class is nameless where there is none."""


@dataclass(frozen=True)
class Contents:
    """The image files of a folder, of which none has been opened."""

    path: Path
    parts: dict[str, Classes]
    """The classes of `train`, and of `test` if there is a folder of that name."""
    passed_over: Counter[str]
    """What is not read, in words, and how often: `hidden folder`."""
    test: Path | None = None
    """The folder of test images, if there is one."""

    @property
    def classes(self) -> list[str]:
        """The names of the classes of all parts, in alphabetical order; a label is an index of it."""
        return sorted({name for classes in self.parts.values() for name in classes})

    def labels(self, part: str) -> NDArray[np.int64]:
        """The labels of the images of a part, [N]."""
        indices = {name: index for index, name in enumerate(self.classes)}
        labels = [indices[name] for name, files in self.parts[part].items() for _ in files]
        return np.array(labels, dtype=np.int64)

    def files(self, part: str) -> list[Path]:
        """The image files of a part: by class, in the order of their names."""
        return [file for files in self.parts[part].values() for file in files]


def header(path: Path) -> tuple[tuple[int, int], dict[str, int]]:
    """Height and width of the images, and how many each part has. One image is opened.

    Raises:
        DataError: there are no images, it is not clear what is meant, or the first image cannot be read.
        MachineError: the system does not let the folder or the image be read.

    """
    contents = _contents(path)
    return _first(contents), {part: len(contents.files(part)) for part in contents.parts}


def read(path: Path) -> tuple[Contents, dict[str, NDArray[np.uint8]]]:
    """What a folder holds, and the images of each part, [N, height, width].

    Raises:
        DataError: what `header` raises, an image cannot be read, or they differ in size.
        MachineError: the system does not let the folder or an image be read.

    """
    contents = _contents(path)
    shape = _first(contents)
    found = {}
    for part in contents.parts:
        files = contents.files(part)
        found[part] = np.empty((len(files), *shape), dtype=np.uint8)
        for number, file in enumerate(files):
            image = gray_values(file)
            if image.shape != shape:
                raise DataError(
                    f"{file}: {image.shape[0]} x {image.shape[1]} pixels, but the images before it have "
                    f"{shape[0]} x {shape[1]}; all must be of one size"
                )
            found[part][number] = image
    return contents, found


def _first(contents: Contents) -> tuple[int, int]:
    """Height and width of the first image, which all others must have; all together must fit into memory."""
    height, width = gray_values(contents.files("train")[0]).shape
    size = sum(len(contents.files(part)) for part in contents.parts) * height * width
    if size > LARGEST_OWN:
        raise DataError(
            f"{contents.path}: its images have {size:,} pixels, but at most {LARGEST_OWN:,} are read into memory; use "
            "fewer or smaller images"
        )
    return height, width


def _contents(path: Path) -> Contents:
    """The image files of a folder, by part and class.

    Raises:
        DataError: there are none, or it is not clear what is meant.
        MachineError: the system does not let it be seen.

    """
    top = _Level(path)
    places = {name: folder for folder in top.folders if (name := plain(folder.name)) in PARTS}
    parts = _parts(top)
    for name, classes in parts.items():
        if not any(classes.values()):
            where = places.get(name, path)
            raise DataError(f"{where}: no images in it ({', '.join(sorted(SUFFIXES))})")
    full = {name: {each: files for each, files in classes.items() if files} for name, classes in parts.items()}
    return Contents(path, full, top.passed_over, places.get("test"))


@dataclass
class _Level:
    """What a folder holds, of which the images and the folders are looked at, and the rest is counted."""

    path: Path
    passed_over: Counter[str] = field(default_factory=Counter)
    """Shared with the levels below it."""
    images: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            with os.scandir(self.path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    self._take(entry.name, is_folder=entry.is_dir(), is_file=entry.is_file())
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def _take(self, name: str, *, is_folder: bool, is_file: bool) -> None:
        path, suffix = self.path / name, Path(name).suffix.lower()
        if _is_hidden(name):
            self.passed_over["hidden folder" if is_folder else "hidden file"] += 1
        elif is_folder:
            self.folders.append(path)
        elif suffix in OTHER_SUFFIXES:
            raise DataError(f"{path}: images of this format are not read; save it as a PNG, or remove it")
        elif suffix not in SUFFIXES:
            self.passed_over[f"{suffix} file" if suffix else "other file"] += 1
        elif not is_file:
            raise DataError(f"{path}: expected an image file, but it is none (a link to nothing, a pipe or a device)")
        else:
            self.images.append(path)

    def below(self, folder: Path) -> "_Level":
        """A folder in it."""
        return _Level(folder, self.passed_over)


def _parts(top: _Level) -> dict[str, Classes]:
    """The classes of each part that a folder has."""
    found: dict[str, Path] = {}
    for folder in top.folders:
        name = plain(folder.name)
        if name in found:
            raise DataError(f"{folder}: beside {found[name].name!r}, but there can be only one {name!r}; join the two")
        if name in PARTS:
            found[name] = folder
    others = [folder for folder in top.folders if folder not in found.values()]
    for folder in others:
        if is_another_part(folder.name) and (image := _any_image(folder)):
            raise DataError(f"{folder}: no name of a part that is read (it holds {image.name}); {ACCEPTED}")
    if not found:
        return {"train": _classes(top)}
    for folder in others:
        if image := _any_image(folder):
            there = " and ".join(repr(each.name) for each in found.values())
            raise DataError(f"{folder}: beside {there}, but part of neither (it holds {image.name}); {ACCEPTED}")
    top.passed_over["empty folder"] += len(others)
    if "train" not in found:
        return {"train": {"": top.images}, "test": _classes(top.below(found["test"]))}
    if top.images:
        raise DataError(f"{top.images[0]}: an image beside {found['train'].name!r} that belongs to no part; {ACCEPTED}")
    return {name: _classes(top.below(found[name])) for name in PARTS if name in found}


def _classes(level: _Level) -> Classes:
    """The images of a part, by class."""
    below = {folder: level.below(folder) for folder in level.folders}
    for folder, inner in below.items():
        for deeper in inner.folders:
            if image := _any_image(deeper):
                raise DataError(
                    f"{image}: an image too deep to be read; images are looked for in {level.path} and in its folders, "
                    f"one for each class, not in folders of {folder.name!r}"
                )
        level.passed_over["empty folder"] += len(inner.folders) if inner.images else 1
    if level.images:
        for folder, inner in below.items():
            if inner.images:
                raise DataError(
                    f"{level.images[0]}: an image beside folders of classes ({folder.name!r}), of which it is in none; "
                    "move it into one"
                )
        return {"": level.images}
    classes = {folder.name: inner.images for folder, inner in below.items()}
    _check_no_split(level.path, [name for name, images in classes.items() if images])
    return classes


def _check_no_split(path: Path, classes: list[str]) -> None:
    """Refuse classes that are plainly parts of the images: `mnist_train` beside `mnist_test`, or in a part another
    `train` and `test`. Among more other classes these two may be what they say, a vehicle and an examination.
    """
    pairs = splits(classes)
    paired = {name for pair in pairs for name in pair}
    for one, other in pairs:
        is_bare = is_another_part(one) or plain(one) in PARTS
        if not is_bare or 2 * len(paired) >= len(classes):
            raise DataError(
                f"{path / other}: beside {one!r}, so the two look like parts of the images, but would be read as "
                f"classes; {ACCEPTED}. If they are classes, give them other names"
            )


def _any_image(folder: Path) -> Path | None:
    """The path of an image in a folder, or in the folders in it however deep; None if there is none."""
    return next(_images_in(folder), None)


def _images_in(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(folder, error)

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        # A link may lead back to where it is.
        folders[:] = [] if real in seen else sorted(name for name in folders if not _is_hidden(name))
        seen.add(real)
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES | OTHER_SUFFIXES and not _is_hidden(name):
                yield Path(place, name)


def _unreadable(folder: Path, error: OSError) -> DataError | MachineError:
    path = Path(error.filename or folder)
    return as_machine_error(path, error) or DataError(f"{path}: cannot be read ({error.strerror})")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN

"""A folder of image files: `train/` and `test/`, or all in one; a folder in them for each class, or none."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvae_spec.data.images import every_fifth
from hvae_spec.errors import DataError, MachineError, as_machine_error
from hvae_spec.spec.choices.dataset import ImageCounts

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def header(path: Path) -> ImageCounts:
    """Pixels, training images and test images. One image is opened.

    Raises:
        DataError: there are no images, or the first is damaged.
        MachineError: the system does not let the folder or the image be read.

    """
    parts = {name: sum(map(len, classes.values())) for name, classes in _parts(path).items()}
    first = next(files[0] for files in _parts(path)["train"].values())
    height, width = _picture(first).shape
    if "test" in parts:
        return ImageCounts(height * width, parts["train"], parts["test"])
    tests = int(every_fifth(parts["train"]).sum())
    return ImageCounts(height * width, parts["train"] - tests, tests)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """`train` and `train_labels`, and `test` and `test_labels` if there is a folder of that name; [N, height, width]
    bytes. Files are in the order of their paths, so without classes in that of their names.

    Raises:
        DataError: there are no images, one is damaged, or they differ in size.
        MachineError: the system does not let the folder or an image be read.

    """
    found: dict[str, NDArray[Any]] = {}
    parts = _parts(path)
    names = sorted({name for classes in parts.values() for name in classes})
    shape = None
    for part, classes in parts.items():
        pictures, labels = [], []
        for name, files in classes.items():
            for file in files:
                picture = _picture(file)
                shape = shape or picture.shape
                if picture.shape != shape:
                    raise DataError(
                        f"{file}: {picture.shape[0]} x {picture.shape[1]} pixels, but the images before it have "
                        f"{shape[0]} x {shape[1]}; all must be of one size"
                    )
                pictures.append(picture)
                labels.append(names.index(name))
        found[part], found[f"{part}_labels"] = np.stack(pictures), np.array(labels, dtype=np.int64)
    return found


def _parts(path: Path) -> dict[str, dict[str, list[Path]]]:
    """The image files of each part (`train`, `test`) by class, a class by the name of its folder."""
    try:
        if (path / "train").is_dir():
            parts = {name: _classes(path / name) for name in ("train", "test") if (path / name).is_dir()}
        else:
            parts = {"train": _classes(path)}
    except OSError as error:
        raise as_machine_error(path, error) or MachineError(f"{path}: cannot be read ({error.strerror})") from None
    for name, classes in parts.items():
        if not classes:
            where = path / name if (path / "train").is_dir() else path
            raise DataError(f"{where}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return parts


def _classes(path: Path) -> dict[str, list[Path]]:
    children = sorted(path.iterdir())
    folders = [child for child in children if child.is_dir()]
    found = {child.name: _images(sorted(child.iterdir())) for child in folders}
    return {name: files for name, files in {"": _images(children), **found}.items() if files}


def _images(children: list[Path]) -> list[Path]:
    return [child for child in children if child.suffix.lower() in SUFFIXES and not child.name.startswith(".")]


def _picture(file: Path) -> NDArray[np.uint8]:
    """Gray values 0 ... 255, [height, width]; colors become their luma."""
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{file}: more than 8 bits per pixel; put such images into a .npy or .npz file")
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        damage = DataError(f"{file}: not an image, or damaged ({error})")
        raise as_machine_error(file, error) or damage from None

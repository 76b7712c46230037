"""The data sets."""

from dataclasses import dataclass
from typing import NamedTuple

from hvae_spec.registry import Registry


class ImageCounts(NamedTuple):
    """How large a data set is."""

    pixels: int
    """D, the pixels of an image."""
    train: int
    """Training images."""
    test: int
    """Test images."""


INTENSITIES = 2
"""Levels of images that are no gray levels, but intensities in [0, 1]."""


@dataclass(frozen=True)
class Dataset:
    """One data set."""

    counts: ImageCounts | None
    """As its distributor publishes it; None for the user's own images, whose counts are those of the file."""
    levels: int = 256
    """Gray levels (the user's own images may have others); 2 for intensities in [0, 1]."""
    comes_with: str | None = None
    """The package that holds its images; None if they are files of their own."""
    binary: bool = False
    """Whether the images are zeros and ones as they are, so that nothing is drawn."""
    mixed_with: int = 0
    """Validation images that its distributor splits off, and that some published numbers are trained on, too."""
    classes: int | None = None
    """Classes of its images, 0 if they have none; None where only the images tell."""


DATASETS: Registry[Dataset] = Registry("data set")
DATASETS.add("mnist", Dataset(ImageCounts(784, 60_000, 10_000), classes=10))
DATASETS.add(
    "mnist_static",
    Dataset(ImageCounts(784, 50_000, 10_000), levels=2, binary=True, mixed_with=10_000, classes=0),
)
DATASETS.add("digits", Dataset(ImageCounts(64, 1_437, 360), levels=17, comes_with="scikit-learn", classes=10))
DATASETS.add("omniglot", Dataset(ImageCounts(784, 24_345, 8_070), levels=INTENSITIES, classes=50))
DATASETS.add("norb", Dataset(ImageCounts(1_024, 24_300, 24_300), classes=5))
DATASETS.add("frey", Dataset(ImageCounts(560, 1_572, 393), classes=0))
DATASETS.add("own", Dataset(None))

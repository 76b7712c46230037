"""A data set in memory, as its distributor published it. No torch here."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.digits import digits
from hvae_spec.data.frey import frey
from hvae_spec.data.images import RawImages, evenly_spread
from hvae_spec.data.mnist import mnist
from hvae_spec.data.mnist_static import mnist_static
from hvae_spec.data.norb import norb
from hvae_spec.data.omniglot import omniglot
from hvae_spec.data.own import own_images
from hvae_spec.errors import DataError
from hvae_spec.registry import Registry
from hvae_spec.spec.choices.dataset import INTENSITIES, ImageCounts
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.data import DataSpec, GreyDivisor, RescaledBy, rescaling

LOADERS: Registry[Callable[[], RawImages]] = Registry("loader of a data set")
LOADERS.add("mnist", mnist)
LOADERS.add("mnist_static", mnist_static)
LOADERS.add("digits", digits)
LOADERS.add("omniglot", omniglot)
LOADERS.add("norb", norb)
LOADERS.add("frey", frey)


Way = Literal["binarize", "dequantize", "place"]
"""A way from gray values to observations (`hvae_spec.data.draw`)."""


class Drawing(NamedTuple):
    """How observations are made of the images of a data set."""

    way: Way
    number: int
    """What gray values are compared with or divided by."""


@dataclass(frozen=True, kw_only=True)
class Dataset(RawImages):
    """A data set by name, with the SHA-256 of its training and of its test images, whole."""

    name: str
    train_sha256: str
    """Of the training images and their classes, before copies and limits."""
    test_sha256: str
    """Of the test images and their classes, before limits."""
    distinct: int
    """How many of the training images are different ones. They come first, and all others are copies of them."""
    grey_divisor: GreyDivisor = "largest"
    """What makes a probability of a gray value."""
    rescaled_by: RescaledBy = "levels"
    """What brings dequantized gray values into [0, 1)."""
    validation_labels: NDArray[np.int64] | None = None
    """Classes of the validation images, where these were training images."""
    every_class: tuple[int, ...] = ()
    """The labels of all training images, whole, in ascending order: the classes that y is one of."""

    @property
    def pixels(self) -> int:
        """D."""
        return self.train.shape[1]

    @property
    def divisor(self) -> int:
        """A pixel's gray value over this is its probability of being 1: the largest value (1 for intensities and for
        zeros and ones), or the number of levels.
        """
        is_gray = self.levels != INTENSITIES
        return self.levels if is_gray and self.grey_divisor == "levels" else self.levels - 1

    @property
    def width(self) -> int:
        """What dequantized gray values are divided by (`hvae_spec.spec.data.rescaling`)."""
        return rescaling(self.rescaled_by, self.levels, int(self.train.max()))

    def drawing(self, observation: str) -> Drawing:
        """How the observations of a model, by its name, are made of the images.

        Raises:
            DataError: it is a model of gray levels, and the images are intensities.

        """
        x = OBSERVATIONS[observation].x
        if x is X.BINARY:
            return Drawing("binarize", self.divisor)
        if x is not X.GRAY:
            return Drawing("dequantize", self.levels if x is X.UNIT else self.width)
        if self.train.dtype.kind == "f":
            raise DataError(
                f"{self.name}: its pixels are intensities without levels, and a {observation} observation is a model "
                "of gray levels\n      expected whole numbers, or another model.observation"
            )
        return Drawing("place", self.levels - 1)

    def class_indices(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of labels among `every_class`; -1 of one that no training image has."""
        every = np.array(self.every_class, dtype=np.int64)
        places = np.searchsorted(every, labels).clip(max=len(every) - 1)
        return np.where(every[places] == labels, places, -1)

    def check_labels(self, labeled: int | Literal["all"], classes: int) -> None:
        """Whether the training images have the classes that are asked for, and enough of each to have labels.

        Raises:
            DataError: they have other ones, or too few of a class.

        """
        if len(self.every_class) != classes:
            raise DataError(
                f"{self.name}: its training images are of {len(self.every_class):,} classes, and the model is one of "
                f"{classes:,}\n      expected model.classes.count: {len(self.every_class)}, or null where it is known"
            )
        counts = np.bincount(self.class_indices(self.train_labels), minlength=classes)
        fewest, needed = int(counts.argmin()), 0 if labeled == "all" else labeled // classes
        if counts[fewest] < needed:
            label = self.every_class[fewest]
            raise DataError(
                f"{self.name}: {labeled:,} labeled images are {needed:,} of each of {classes:,} classes, and of class "
                f"{self.classes.get(label, label)} there are {counts[fewest]:,} among the training images in use\n"
                f"      expected in data.labeled at most {counts[fewest] * classes:,}"
            )

    def check_probe(self, labels: Sequence[int]) -> None:
        """Whether the training images have the classes that probes with so many labels need.

        Raises:
            DataError: they have none or one alone, or too few labels.

        """
        classes = len(np.unique(self.train_labels))
        if classes < 2:
            what = "have no classes" if not self.classes else "are all of one class"
            raise DataError(
                f"{self.name}: its training images {what}, so that there is nothing for a probe to tell apart\n"
                "      expected images with classes, or evaluation.probe: null"
            )
        if min(labels) < 2 * classes:
            raise DataError(
                f"{self.name}: a probe with {min(labels):,} labels of {classes:,} classes\n"
                f"      expected in evaluation.probe.labels at least two for each class, {2 * classes:,}"
            )

    @property
    def is_binary(self) -> bool:
        """Whether the images are zeros and ones as they are, so that every draw of them is the same."""
        return self.levels == 2 and self.test.dtype.kind != "f"

    @property
    def counts(self) -> ImageCounts:
        """How large it is."""
        return ImageCounts(self.pixels, len(self.train), len(self.test))


def load_dataset(spec: DataSpec) -> Dataset:
    """The data set that a spec names: its validation set apart, if the spec asks for one, its training set in as many
    copies as the spec asks for, and limited to as many images.

    Raises:
        DataError: the data are missing and cannot be downloaded, or a file is damaged, or is not what it was when the
            run was planned.

    """
    raw = own_images(spec.own) if spec.is_own else LOADERS[spec.dataset]()
    train_sha256, test_sha256 = _sha256(raw.train, raw.train_labels), _sha256(raw.test, raw.test_labels)
    dataset = Dataset(
        name=spec.name,
        train_sha256=train_sha256,
        test_sha256=test_sha256,
        distinct=len(raw.train),
        every_class=tuple(np.unique(raw.train_labels).tolist()),
        **vars(raw),
    )
    return in_use(dataset, spec)


def in_use(dataset: Dataset, spec: DataSpec) -> Dataset:
    """What a spec uses of a whole data set, and how.

    Raises:
        DataError: there are not as many images as the spec asks for.

    """
    available = dataset.counts
    dataset = replace(
        dataset,
        distinct=spec.distinct(spec.limit(available).train, available),
        grey_divisor=spec.grey_divisor,
        rescaled_by=spec.rescaled_by,
    )
    dataset = _with_validation(dataset, spec)
    if spec.copies > 1:
        dataset = replace(
            dataset,
            train=np.concatenate([dataset.train] * spec.copies),
            train_labels=np.concatenate([dataset.train_labels] * spec.copies),
        )
    for part, asked, images in (("train", spec.train_images, dataset.train), ("test", spec.test_images, dataset.test)):
        if asked is not None and asked > len(images):
            raise DataError(f"{spec.name}: {part}_images is {asked:,}, but there are only {len(images):,}")
    return replace(
        dataset,
        train=dataset.train[: spec.train_images],
        train_labels=dataset.train_labels[: spec.train_images],
        test=dataset.test[: spec.test_images],
        test_labels=dataset.test_labels[: spec.test_images],
    )


def _with_validation(dataset: Dataset, spec: DataSpec) -> Dataset:
    """A data set with the last so many of its distributor's validation images, or where there are none with the last so
    many training images as a validation set; as it is if none are asked for. Of a user's own images, which often come
    class by class, they are spread evenly over the training images.

    Raises:
        DataError: there are not so many, or no training images would be left.

    """
    images = spec.validation
    if not images:
        return dataset
    if dataset.validation is not None:
        if images > len(dataset.validation):
            raise DataError(
                f"{dataset.name}: validation is {images:,}, but there are only {len(dataset.validation):,} images"
            )
        return replace(dataset, validation=dataset.validation[-images:])
    if images >= len(dataset.train):
        raise DataError(
            f"{dataset.name}: validation is {images:,}, which leaves none of the {len(dataset.train):,} training images"
        )
    count = len(dataset.train)
    is_apart = np.arange(count) >= count - images
    if spec.is_own:
        is_apart = evenly_spread(count, images)
    return replace(
        dataset,
        train=dataset.train[~is_apart],
        train_labels=dataset.train_labels[~is_apart],
        validation=dataset.train[is_apart],
        validation_labels=dataset.train_labels[is_apart],
    )


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

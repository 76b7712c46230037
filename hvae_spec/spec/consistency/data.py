"""Contradictions in what a spec says of its data, and between it and the images that are there."""

import math
from collections.abc import Callable, Iterator

from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.data import DataSpec

CountImages = Callable[[DataSpec], ImageCounts]
"""Counts the images that are available to a spec, without reading them. Raises UserError: a user's own images cannot be
counted. `hvae_spec.data.counts.stated_counts` is one; the language itself knows no files."""


def own_images_problems(data: DataSpec) -> Iterator[Inconsistency]:
    """Contradictions in what a spec says of a user's own images."""
    if not data.is_own:
        return
    if data.own is None:
        yield Inconsistency(
            ("data", "dataset"),
            "dataset: own says nothing of which images",
            "data.own beside it, with their name, file and range",
            ("data.dataset", "data.own"),
        )
        return
    if data.own.name in DATASETS:
        yield Inconsistency(
            ("data", "own", "name"),
            f"{data.own.name} is the name of another data set",
            "a name of its own",
            ("data.own.name",),
        )
    low, high = data.own.range
    if math.isinf(high - low):
        yield Inconsistency(
            ("data", "own", "range"),
            f"a range from {low:g} to {high:g} is wider than any number",
            "the smallest and then the largest value that a pixel can have",
            ("data.own.range",),
        )
    if low >= high:
        yield Inconsistency(
            ("data", "own", "range"),
            f"a range from {low:g} to {high:g} holds no values",
            "the smallest and then the largest value that a pixel can have",
            ("data.own.range",),
        )


def empty_sets(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    """Training and test sets without a single image, with which nothing can be done."""
    train, test = available.train, available.test
    for what, there in (("training", train), ("test", test)):
        if not there:
            yield Inconsistency(
                ("data", "own", "file") if data.is_own else ("data", "dataset"),
                f"{data.name} has no {what} images ({train} training and {test} test images)",
                "two images at least, of which every fifth, the first one first, is a test image where there is no "
                "test set"
                if data.is_own
                else "files that hold both",
                ("data.dataset", "data.own"),
            )


def validation_problems(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    """A validation set that is larger than the distributor's, or that leaves no training image."""
    own, asked = DATASETS[data.dataset].mixed_with, data.validation
    if asked > own > 0:
        message, most = f"{asked} validation images, but {data.name} has only {own}", own
    elif own == 0 and asked >= available.train:
        message = (
            f"a validation set of {asked} images leaves none of the {available.train} training images of {data.name}"
        )
        most = available.train - 1
    else:
        return
    remedy = f"at most {most}, or 0 for no validation set" if most else "0: no validation set"
    yield Inconsistency(("data", "validation"), message, remedy, ("data.dataset", "data.own", "data.validation"))


def data_problems(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    """More images than a data set has."""
    offered = data.offered(available)
    beside = f" beside its {data.validation} validation images" if data.validation else ""
    for key, asked, there in (
        ("train_images", data.train_images, offered.train),
        ("test_images", data.test_images, offered.test),
    ):
        if asked is not None and asked > there:
            yield Inconsistency(
                ("data", key),
                f"{key} is {asked}, but {data.name} has only {there}{beside if key == 'train_images' else ''}",
                f"at most {there}, or leave {key} out to use all",
                ("data.dataset", f"data.{key}", "data.validation"),
            )

"""Which images, and how grey values become observations x."""

from typing import Literal

from hvae_spec.schema.base import Count, SpecModel

DatasetName = Literal["mnist", "digits"]

IMAGE_COUNTS: dict[str, tuple[int, int, int]] = {"mnist": (784, 60_000, 10_000), "digits": (64, 1_437, 360)}
"""Pixels, training images and test images of each data set as its distributor publishes it."""


class DataSpec(SpecModel):
    """A data set and the random draw that makes x from grey values."""

    dataset: DatasetName
    """`mnist` (28x28, 60,000 + 10,000) or `digits` (scikit-learn's 8x8 digits, 1,437 + 360, no download)."""
    redraw: Literal["every_epoch", "once"] = "every_epoch"
    """When the training images are drawn from their grey values: Bernoulli binarisation for a `bernoulli` observation,
    uniform dequantisation for a `gaussian` one. The test set is always drawn once, the same for every member."""
    train_images: Count | None = None
    """Use only the first so many training images. Null: all."""
    test_images: Count | None = None
    """Use only the first so many test images. Null: all."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Pixels, training images and test images in use, as far as they are known before the data are read."""
        pixels, train, test = IMAGE_COUNTS[self.dataset]
        return pixels, min(train, self.train_images or train), min(test, self.test_images or test)

"""Which images, and how gray values become observations x."""

import math
import numbers
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, Strict, model_validator

from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.base import FILE_NAME, Count, CountOrAll, InFloat64, Natural, Real, SpecModel
from hvae_spec.spec.choice import Named
from hvae_spec.spec.choices.dataset import DATASETS, INTENSITIES, ImageCounts
from hvae_spec.spec.choices.observation import OBSERVATIONS, X, is_binary
from hvae_spec.spec.fields import (
    Affects,
    AuthorsCode,
    Column,
    IdleWhere,
    Measured,
    NoBearing,
    NoColumn,
    NoStepCost,
    Paper,
    ReadIf,
)

DatasetName = Annotated[str, Named(DATASETS)]


@kept_until_a_choice_joins
def published_counts() -> Mapping[str, ImageCounts]:
    """How large the data sets are as their distributors publish them, by name; the user's own images are not there."""
    return {name: counts for name in DATASETS if (counts := DATASETS[name].counts) is not None}


PAPER = ("mnist", "omniglot", "norb")
"""The paper's data sets."""

OwnName = Annotated[str, Field(pattern=FILE_NAME, max_length=40)]
OwnFile = Annotated[
    str, Strict(), Field(min_length=1), AfterValidator(lambda path: os.path.abspath(os.path.expanduser(path)))
]


GreyDivisor = Literal["largest", "levels"]
RescaledBy = Literal["levels", "training_maximum"]

Redraw = Literal["every_epoch", "once"]

GRAY_RANGE = (0, 255)
"""The range of image files."""


def _range_may_be_left_out(schema: dict[str, Any]) -> None:
    """An editor cannot know whether a name is that of a folder."""
    schema["required"].remove("range")


class OwnImages(SpecModel):
    """Images of the user's own: an array file or a folder of images."""

    model_config = ConfigDict(json_schema_extra=_range_may_be_left_out)

    name: OwnName
    """What tables, figures and records call the data set: letters, digits, `.`, `_` and `-`."""
    file: Annotated[OwnFile, NoStepCost("how many images and pixels it holds is in the key of a measurement")]
    """A `.npz` with arrays `train` and `test` (and `train_labels`, `test_labels` if there are classes), a `.npy` with
    one array, or a folder of images. Arrays are [N, D] or [N, height, width]. A folder may hold `train/` and `test/`,
    and a folder for each class in them. Without test images, every fifth image is one."""
    range: Annotated[tuple[Real, Real], InFloat64("images are scaled in float64, to 0, 1, ... or to [0, 1]")]
    """The smallest and the largest value that a pixel can have. Whole numbers within two whole numbers are gray levels,
    also if they are stored as floats; other numbers are intensities, which `gaussian` and
    `continuous_bernoulli` observations take as they are.
    May be left out for image files, which have `[0, 255]`."""
    shape: tuple[Count, Count] | None = None
    """Height and width of flat images. Null: as in the file, else a square if that can be."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_image_files(cls, value: Any) -> Any:
        """`range` where a folder of image files leaves it out: only array files have suffixes of their own."""
        if not isinstance(value, dict) or value.get("range") is not None or not isinstance(value.get("file"), str):
            return value
        is_array = PurePath(value["file"]).suffix in (".npy", ".npz")
        return value if is_array else {**value, "range": GRAY_RANGE}


def is_binarized(dataset: str, observation: str) -> bool:
    """Whether x is drawn from gray levels as zeros and ones: by names of a data set and of an observation model."""
    return is_binary(dataset, observation) and DATASETS[dataset].levels != INTENSITIES


def is_drawn(dataset: str, observation: str) -> bool:
    """Whether x is drawn from the images: by names of a data set and of an observation model."""
    return not DATASETS[dataset].binary and OBSERVATIONS[observation].x is not X.GRAY


def is_rescaled(dataset: str, observation: str) -> bool:
    """Whether x is drawn from gray levels as numbers of any size: by names of a data set and of an observation
    model.
    """
    return OBSERVATIONS[observation].x is X.REAL and DATASETS[dataset].levels != INTENSITIES


def rescaling(rescaled_by: RescaledBy, levels: int, largest: int) -> int:
    """What dequantized gray values are divided by: the number of levels, or what they stay below in the training
    images, their largest gray value + 1.
    """
    return levels if rescaled_by == "levels" else largest + 1


NUMBER = NoStepCost("a number in the draw")


def _has_no_added_batch(labeled: Any) -> bool:
    """Whether steps add no labeled images to their batch, by what `frames.members` has of `labeled`: a number, `all`,
    or nothing, which may be not a number.
    """
    return not isinstance(labeled, numbers.Real) or math.isnan(labeled)


class DataSpec(SpecModel):
    """A data set and the random draw that makes x from gray values."""

    dataset: Annotated[DatasetName, NoColumn("the label `dataset`"), Paper(is_varied=True, where="Sec. 3")]
    """`mnist` (28x28, 60,000 + 10,000), `mnist_static` (MNIST in the fixed binarization of Larochelle & Murray, 2011,
    50,000 + 10,000, and 10,000 for validation; for a `bernoulli` observation), `omniglot` (28x28, 24,345 + 8,070),
    `norb` (small NORB, one camera, 32x32, 24,300 + 24,300), `frey` (Frey faces, 28x20, 1,572 + 393), `digits`
    (scikit-learn's 8x8 digits, 1,437 + 360, no download) or `own` (see `own`)."""
    own: Annotated[OwnImages | None, NoBearing("the paper has no images of the user's own")] = None
    """Images of your own, for `dataset: own`: their name, file and range of values."""
    copies: Annotated[
        Count, NoBearing("the number of training images, which is compared, tells it"), AuthorsCode("2 for `norb`")
    ] = 1
    """How often every image stands in the training set; the test set holds each once. With 2, `norb` is as in the
    authors' code, whose set holds the first camera's images twice. (A test set twice over would say nothing more, and
    a standard error over its images too small by the root of 2.)"""
    redraw: Annotated[
        Redraw,
        ReadIf(is_drawn),
        Column("redraw", "training images drawn"),
        Paper("every_epoch", "Sec. 3", by_dataset={"norb": "once"}, implied={"norb": ("every_epoch",)}, hinders="data"),
        AuthorsCode("`once` for `norb`"),
    ] = "every_epoch"
    """When the training images are drawn from their gray values: Bernoulli binarization for a `bernoulli` observation,
    uniform dequantization for a `gaussian` or a `continuous_bernoulli` one. The test set is always drawn once, the same
    for every member. Idle for `mnist_static` and beside a `discretized_logistic` observation, as nothing is drawn."""
    grey_divisor: Annotated[
        GreyDivisor,
        ReadIf(is_binarized),
        NUMBER,
        Column("grey_divisor", "P(x = 1) is gray over"),
        Paper(
            by_dataset={"mnist": "levels"},
            iwae="largest",
            implied={"mnist": ()},
            hinders="data",
        ),
        AuthorsCode("`levels` for `mnist`: its `mnist.pkl.gz` holds gray / 256"),
    ] = "largest"
    """Binarization of gray levels for a `bernoulli` observation: a pixel is 1 with the probability gray / the largest
    level, so that white always is (torchvision's intensities, and Burda et al.'s), or gray / the number of levels
    (MNIST: 256, as `mnist.pkl.gz` has it, where white is 1 in 255 of 256 draws). Likelihoods on the two scales do not
    compare: given the image, the second draw has 1.3 nats more entropy on MNIST. Intensities in [0, 1], as OMNIGLOT
    has them, are probabilities as they are."""
    rescaled_by: Annotated[
        RescaledBy,
        ReadIf(is_rescaled),
        NUMBER,
        Column("rescaled_by", "dequantized gray is divided by"),
        # Otherwise a density is another by D log(256 / what it is divided by).
        IdleWhere({"training_maximum": GRAY_RANGE[1]}),
        Paper(by_dataset={"norb": "training_maximum"}, implied={"norb": ()}, hinders="data"),
        AuthorsCode("`training_maximum` for `norb`, of the noisy values; `levels` in a later version"),
    ] = "levels"
    """Dequantization of gray levels for a `gaussian` observation: gray + u, u uniform on [0, 1), is divided by the
    number of levels, or by the largest that it can be in the training images in use, their largest gray + 1. A density
    is higher by D log(256 / that) nats where it is divided by less. Intensities in [0, 1] stay as they are. (For a
    `continuous_bernoulli` observation, a density on [0, 1], it is always divided by the number of levels.)"""
    validation: Annotated[
        Natural,
        NoStepCost("how many training images are left is in the key of a measurement"),
        Column("validation", "validation images"),
        Paper(0, "Sec. 3", hinders="data"),
    ] = 0
    """Set the last so many training images apart as a validation set, before `copies` and `train_images`: the same
    images for every seed, drawn once as the test set is, and none of the batch-norm statistics. Learning curves and
    rankings are of it then, and the test set is used once, at the end. Where the distributor sets validation images
    apart, they are the last so many of these, and all training images stay. Of images of your own they are spread
    evenly over the training images, as these often come class by class. 0: none, and learning curves are of the test
    set."""
    train_images: Annotated[
        Count | None,
        Column("train_images_limit", "training images"),
        Measured("train_images"),
        Paper(
            by_dataset={"mnist": 60_000, "omniglot": 24_345, "norb": 2 * 24_300},
            where="Sec. 3",
            implied={"norb": (24_300,)},
            iwae_by_dataset={"mnist": 60_000 - 400, "omniglot": 24_345 - 1_345},
            hinders="data",
        ),
        AuthorsCode("48,600 for `norb`: the first camera's, twice"),
    ] = None
    """Use only the first so many training images, of those that are left beside `validation`. Null: all."""
    labeled: Annotated[CountOrAll | None, Column("labeled", "labeled images"), Paper(None, "Sec. 3", iwae=None)] = None
    """How many training images have a label, as many of each class, drawn by the seed: a multiple of the number of
    classes. All others have none, and an epoch goes once through these. `all`: all of them, and an epoch goes once
    through these in batches of `batch_size`. Null: none, for a model without `classes`."""
    labeled_batch: Annotated[
        Count, Column("labeled_batch", "labeled images in a step"), IdleWhere({"labeled": _has_no_added_batch})
    ] = 100
    """Labeled images that every step adds to its batch, from a stream of their own, in an order that is shuffled again
    whenever all have had their turn. Idle where all images have a label, or none has one."""
    test_images: Annotated[
        Count | None,
        Affects("evaluation"),
        NoStepCost("an evaluation is measured as a rate of images"),
        Column("test_images_limit", "test images"),
        Measured("test_images"),
        Paper(by_dataset={name: published_counts()[name].test for name in PAPER}, where="Sec. 3", hinders="data"),
    ] = None
    """Use only the first so many test images. Null: all."""

    @property
    def is_own(self) -> bool:
        """Whether the images are the user's own."""
        return DATASETS[self.dataset].counts is None

    @property
    def levels(self) -> int | None:
        """Gray levels of the images; None of intensities, which the user's own images turn out to be, whatever their
        range, if they hold fractions.
        """
        if self.is_own:
            if self.own is None:
                return None
            low, high = self.own.range
            return int(high) - int(low) + 1 if low.is_integer() and high.is_integer() else None
        published = DATASETS[self.dataset]
        return published.levels if published.levels != INTENSITIES or published.binary else None

    @property
    def effective_redraw(self) -> Redraw:
        """When the training images are drawn: images that are zeros and ones as they are, once and for all."""
        return "once" if DATASETS[self.dataset].binary else self.redraw

    @property
    def name(self) -> str:
        """What tables, figures and records call the data set."""
        return self.own.name if self.is_own and self.own else self.dataset

    @property
    def adds_labeled(self) -> bool:
        """Whether every step adds labeled images to its batch of images without a label."""
        return isinstance(self.labeled, int)

    def unlabeled(self, used: int) -> int:
        """How many of the training images in use an epoch goes once through: those without a label, if there are any
        beside those with one.
        """
        return used - self.labeled if isinstance(self.labeled, int) else used

    def offered(self, available: ImageCounts) -> ImageCounts:
        """The images that a spec can use, of those that are available: less the validation set, in so many copies."""
        taken = 0 if DATASETS[self.dataset].mixed_with else self.validation
        return available._replace(train=self.copies * max(0, available.train - taken))

    def limit(self, available: ImageCounts) -> ImageCounts:
        """The images in use, of those that are available."""
        offered = self.offered(available)
        return offered._replace(
            train=min(offered.train, self.train_images or offered.train),
            test=min(offered.test, self.test_images or offered.test),
        )

    def distinct(self, used: int, available: ImageCounts | None) -> int:
        """How many of the training images in use are different ones, which come first: copies of an image are one.

        Args:
            used: the training images in use (`limit`).
            available: those that are available; None where that is not known. Only where `train_images` cuts copies
                of these may it be too many then.

        """
        if self.train_images is None:
            return used // self.copies
        return used if available is None else min(used, self.offered(available).train // self.copies)

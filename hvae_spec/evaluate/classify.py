"""How well q(y|x) names the classes of images."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hvae_spec.backend.precision import full_precision
from hvae_spec.data.dataset import Dataset
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.hierarchy import Hierarchy, units_first

IMAGES = 1024
"""Images classified at a time."""
NORMAL_95 = 1.959963984540054
"""The 97.5% quantile of N(0, 1)."""


class Classified(NamedTuple):
    """How many of some images were given another class than theirs."""

    wrong: int
    images: int
    kl: float = math.nan
    """The mean of KL(q(y|x) || p(y)) over them, in nats."""

    @property
    def error(self) -> float:
        """Percent of the images."""
        return 100 * self.wrong / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the error of images like these, in percent."""
        share, z2 = self.wrong / self.images, NORMAL_95**2 / self.images
        half = NORMAL_95 * math.sqrt((share * (1 - share) + z2 / 4) / self.images)
        center = share + z2 / 2
        # At no or all wrong, an end is 0 or 1 but for rounding.
        return 100 * max(0.0, (center - half) / (1 + z2)), 100 * min(1.0, (center + half) / (1 + z2))


def true_classes(dataset: Dataset, part: Literal["validation", "test"]) -> Tensor | None:
    """The class of each of a data set's validation or test images, as an index among the classes of its training
    images, [N]; None where they have no labels.
    """
    labels = dataset.validation_labels if part == "validation" else dataset.test_labels
    return None if labels is None else torch.from_numpy(dataset.class_indices(labels))


@full_precision()
@torch.inference_mode()
def classify(model: Hierarchy, x: Tensor, classes: Tensor) -> Classified | None:
    """The images whose likeliest class by q(y|x) is not theirs; None where q(y|x) is not a number.

    Args:
        model: one member (M = 1) with classes, its batch-norm statistics recorded.
        x: observations [N, D].
        classes: theirs (`true_classes`), [N]; one that no training image has is named wrong always.

    """
    model = fuse_batch_norm(model)
    wrong, kl = 0, 0.0
    for images, own in zip(x.split(IMAGES), classes.split(IMAGES), strict=True):
        log_q = model.log_classes(units_first(images.to(model.device)[None]))[0]
        if not bool(log_q.isfinite().all()):
            return None
        wrong += int((log_q.argmax(0).cpu() != own).sum())
        kl += float((log_q.double().exp() * (log_q.double() + math.log(model.classes))).sum())
    return Classified(wrong, len(x), kl / len(x))

"""What each layer knows of the classes of images: a linear probe on its posterior means.

For every layer of the hierarchy and every number of labels a logistic regression (scikit-learn's) is fitted to the
features of so many training images, and tested on the test images. The features of layer i are the means of q(z_i|...),
averaged over some samples of the latents that they depend on, and standardized. The mean of a layer with a flow has no
closed form and is estimated with many draws, so that layers with and without one compare. Only the features are fitted
to: the model has seen no labels.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_spec.backend.precision import full_precision
from hvae_spec.evaluate.evaluation import BLOCK_ROWS
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.random import Streams
from hvae_spec.probing import CHOSEN_ON, DRAWS, FOLDS, GRID, ITERATIONS, SAMPLES

Features = list[NDArray[np.float64]]
"""[N, U_i] of each layer, z_1 first."""


class Labeled(NamedTuple):
    """Images [N, D] and their classes, [N]."""

    images: Tensor
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Probe:
    """The probe of every layer with one number of labels."""

    labels: int
    """Training images that it was fitted to."""
    accuracy: list[float]
    """The share of test images whose class it names, z_1 first; not a number where latents are none."""
    regularization: list[float]
    """scikit-learn's C, as it was chosen on the training labels."""


def chosen(classes: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order in which training images are given labels: a random one of the member, but a class at a time in turn,
    so that the first so many are balanced as far as there are images of every class.

    Args:
        classes: of all training images, [N].
        seed: the member's.

    Returns: indices of the images, [N]; and how many of the class stand before each, in that order.

    """
    order = Streams([seed]).begin("labels of the probe").permutations(len(classes))[0].numpy()
    rank = np.empty(len(classes), dtype=np.intp)
    for label in np.unique(classes):
        own = classes[order] == label
        rank[own] = np.arange(own.sum())
    in_turn = np.argsort(rank, kind="stable")
    return order[in_turn], rank[in_turn]


@full_precision()
@torch.inference_mode()
def features(
    model: Hierarchy, images: Tensor, streams: Streams, advance: Callable[[int], None] = lambda images: None
) -> Features:
    """The features of images [N, D]: the mean of q(z_i|...), averaged over `SAMPLES` samples of what it depends on, an
    auxiliary variable among it.

    Args:
        model: one member (M = 1), without batch normalization.
        images: observations.
        streams: where noise is drawn, of M = 1.
        advance: called with how many images were computed since.

    """
    found: list[list[Tensor]] = [[] for _ in model.units]
    for block in images.split(BLOCK_ROWS // SAMPLES):
        x = units_first(block.to(model.device)[None])
        draws = model.draw(x, model.known(x), model.noise(streams, SAMPLES, len(block))).layers
        for layer, draw, units in zip(found, draws, model.units, strict=True):
            layer.append(_mean(draw.posterior, streams, (units, SAMPLES, len(block)))[0].mean(1).mT.cpu())
        advance(len(block))
    return [torch.cat(layer).double().numpy() for layer in found]


def _mean(q: Distribution, streams: Streams, shape: tuple[int, int, int]) -> Tensor:
    """The mean of q(z_i|...), [M, U, S, B], or [M, U, 1, B] where it depends on no sample. Where it has no closed form
    it is that of `DRAWS` draws for each of the samples, of which one at a time is in memory.

    Args:
        q: the distribution.
        streams: where the noise of the draws comes from.
        shape: of z_i without the members, (U, S, B).

    """
    if isinstance(q, DiagonalGaussian):
        return q.mean
    total = q.sample(streams.normal(*shape))
    for _ in range(DRAWS - 1):
        total += q.sample(streams.normal(*shape))
    return total / DRAWS


def probe(
    model: Hierarchy,
    train: Labeled,
    test: Labeled,
    labels: Sequence[int],
    *,
    seed: int = 0,
    epoch: int = 0,
    progress: Callable[[float], None] = lambda done: None,
) -> list[Probe]:
    """The accuracy of linear probes, for each number of labels.

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        train: all training images and their classes.
        test: the test images and theirs.
        labels: how many training images have a label, each at most as many as there are.
        seed: the member's seed, which also selects the images that have labels: fewer are a part of more.
        epoch: epochs trained so far; selects the noise together with the seed.
        progress: called with the fraction done, fits left out.

    """
    model = fuse_batch_norm(model)
    order, rank = chosen(train.classes, seed)
    order, rank = order[: max(labels)], rank[: max(labels)]
    streams = Streams([seed], model.device)
    done, total = 0, len(order) + len(test.images)

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(done / total)

    known = features(
        model, train.images[torch.from_numpy(order)], streams.begin("probe of the train set", epoch), advance
    )
    asked = features(model, test.images, streams.begin("probe of the test set", epoch), advance)
    classes = train.classes[order]
    probes = []
    for count in labels:
        found = Probe(count, [], [])
        for own, others in zip(known, asked, strict=True):
            accuracy, c = math.nan, math.nan
            if np.isfinite(own).all() and np.isfinite(others).all():
                fitted, c = fit(own[:count], classes[:count], rank[:count])
                accuracy = float((fitted.predict(others) == test.classes).mean())
            found.accuracy.append(accuracy)
            found.regularization.append(c)
        probes.append(found)
    return probes


def fit(known: NDArray[np.float64], classes: NDArray[np.int64], rank: NDArray[np.intp]) -> tuple[Any, float]:
    """A logistic regression on standardized features, and its C: of `GRID` that with the best accuracy in
    cross-validation, of several the one that regularizes most.

    Args:
        known: features [N, U].
        classes: [N], of at least two.
        rank: how many of an image's class stand before it, [N]: folds take the images of every class in turn.

    """
    first = slice(min(len(known), CHOSEN_ON))
    folds = rank[first] % FOLDS
    scores = np.zeros(len(GRID))
    for fold in np.unique(folds):
        rest = folds != fold
        if len(np.unique(classes[first][rest])) < 2:
            continue
        for place, c in enumerate(GRID):
            tried = _fitted(known[first][rest], classes[first][rest], c)
            scores[place] += (tried.predict(known[first][~rest]) == classes[first][~rest]).sum()
    best = GRID[int(scores.argmax())]
    return _fitted(known, classes, best), best


def _fitted(known: NDArray[np.float64], classes: NDArray[np.int64], c: float) -> Any:
    """A fitted pipeline: standardized by the images that it is fitted to."""
    # It takes a second to import, and only probes need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=ITERATIONS))
    with warnings.catch_warnings():
        # A fit that is not quite at its end is a probe all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(known, classes)

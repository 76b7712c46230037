"""Gray values to observations x, and shuffled batches of them, kept on the device."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_spec.data.dataset import Dataset
from hvae_spec.data.draw import DRAWS, binarize
from hvae_spec.nn.random import Purpose, Streams, stream_seed

DRAWN_TOGETHER = {"cpu": 1, "cuda": 8}
"""Batches that are drawn in one go: on a GPU launching a kernel costs more than the draw of a batch, and on a CPU one
batch fits into the cache.
"""


Part = Literal["train", "validation", "test"]
FIXED_DRAWS: dict[Part, Purpose] = {
    "train": "fixed draw of the train set",
    "validation": "fixed draw of the validation set",
    "test": "fixed draw of the test set",
}


def draw_once(dataset: Dataset, part: Part, observation: str) -> Tensor:
    """The fixed draw of the images of a part, [N, D]: the same for every member, machine and run."""
    return _drawn(dataset, getattr(dataset, part), observation, FIXED_DRAWS[part])


def redraw(dataset: Dataset, images: int, observation: str, number: int) -> Tensor:
    """Another draw of the first so many test images, [images, D], by its number: the same for every member, machine and
    run, and independent of the others and of `draw_once`.
    """
    return _drawn(dataset, dataset.test[:images], observation, "redraws of the test set", number)


def _drawn(dataset: Dataset, images: NDArray[Any], observation: str, purpose: Purpose, number: int = 0) -> Tensor:
    values = torch.tensor(images)
    generator = torch.Generator().manual_seed(stream_seed(0, purpose, number))
    noise = torch.rand(values.shape, generator=generator)
    way, number = dataset.drawing(observation)
    return DRAWS[way].make(values, number, noise)


class Batches:
    """The training set of a pack: every member shuffles and draws for itself.

    Attributes:
        alone: whether batches hold labeled images alone.

    Args:
        dataset: the images.
        observation: the name of an observation model, which says what x is.
        redraw: `every_epoch` (each visit of an image draws it again) or `once` (`draw_once`).
        batch_size: B.
        last_batch: `drop` or `keep` the smaller batch at the end of an epoch.
        device: where the images are kept.

    """

    alone = False

    def __init__(
        self,
        dataset: Dataset,
        *,
        observation: str,
        redraw: str,
        batch_size: int,
        last_batch: str,
        device: torch.device | str = "cpu",
    ) -> None:
        way, self.number = dataset.drawing(observation)
        self.draw, self.batch_size = DRAWS[way], batch_size
        # What is not random is made of the images batch by batch: they take less memory.
        self.fixed = redraw == "once" and self.draw.noise != "none"
        images = draw_once(dataset, "train", observation) if self.fixed else torch.tensor(dataset.train)
        # A binary image needs no more than its byte.
        is_binary = self.draw.make is binarize
        self.images = (images.to(torch.uint8) if self.fixed and is_binary else images).to(device)
        self.distinct = dataset.distinct
        count = len(self.images)
        self.steps = count // batch_size if last_batch == "drop" else -(-count // batch_size)

    @property
    def unlabeled_share(self) -> float:
        """The share of the training images that have no label."""
        return 1.0

    @property
    def labels_per_step(self) -> int:
        """The last so many images of a full batch have a label."""
        return 0

    @property
    def full(self) -> int:
        """Images of a full batch."""
        return self.batch_size

    def epoch(self, streams: Streams) -> Iterator[Tensor]:
        """Batches [M, B, D] of one epoch, drawn from the members' streams."""
        order = streams.permutations(len(self.images))
        return (x for _, x in self.visit(order, self.steps * self.batch_size, streams))

    def labeled_epoch(self, streams: Streams) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same with the classes of the last images of every batch, [M, labeled], as indices from 0; None where no
        image has a label.
        """
        return ((x, None) for x in self.epoch(streams))

    def visit(
        self, order: Tensor, most: int, streams: Streams, batch_size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images in an order [M, N]: their indices [M, B], and their observations [M, B, D].

        Args:
            order: indices of images.
            most: how many of them to visit at most.
            streams: where observations are drawn.
            batch_size: B; None: that of training.

        """
        size = self.batch_size if batch_size is None else batch_size
        visited = min(most, order.shape[1])
        together = DRAWN_TOGETHER[self.images.device.type] * size
        for start, end in pairwise([*range(0, visited, together), visited]):
            rows = order[:, start:end]
            drawn = self.observe(self.images.index_select(0, rows.flatten()).unflatten(0, rows.shape), streams)
            yield from zip(rows.split(size, dim=1), drawn.split(size, dim=1), strict=True)

    def observe(self, values: Tensor, streams: Streams) -> Tensor:
        """Observations [M, B, D] of gray values [M, B, D]."""
        if self.fixed:
            return values.to(torch.float32)
        return self.draw.make(values, self.number, self._uniform(values, streams))

    def _uniform(self, values: Tensor, streams: Streams) -> Tensor:
        """Noise for a draw of gray values, of their shape; empty where there is none."""
        if self.draw.noise == "none":
            return torch.empty(0)
        uniform = streams.coarse_uniform if self.draw.noise == "coarse" else streams.uniform
        return uniform(*values.shape[1:])

    def whole(self, streams: Streams) -> Tensor:
        """One draw of the whole training set in its own order, [M, N, D]."""
        return self.observe(self.images.expand(len(streams.seeds), *self.images.shape), streams)

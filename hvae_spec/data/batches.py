"""Gray values to observations x, and shuffled batches of them, kept on the device."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from hvae_spec.data.dataset import Dataset
from hvae_spec.nn.random import Streams, stream_seed

DRAWN_TOGETHER = {"cpu": 1, "cuda": 8}
"""Batches that are drawn in one go: on a GPU launching a kernel costs more than the draw of a batch, and on a CPU one
batch fits into the cache.
"""


def draw(values: Tensor, levels: int, observation: str, uniform: Tensor) -> Tensor:
    """Observations from gray values 0 ... levels - 1 (or intensities in [0, 1], which are floats and have `levels` 2)
    and uniform noise of the same shape.

    `bernoulli`: a pixel is 1 with probability value / (levels - 1). `gaussian`: uniform dequantization,
    (value + u) / levels, which lies in [0, 1); intensities stay as they are.
    """
    gray = values.to(torch.float32)
    if observation == "bernoulli":
        return (uniform * (levels - 1) < gray).to(torch.float32)
    if values.is_floating_point():
        return gray
    return (gray + uniform) / levels


def draw_once(dataset: Dataset, part: str, observation: str) -> Tensor:
    """The fixed draw of the `train` or `test` images, [N, D]: the same for every member, machine and run."""
    values = torch.tensor(dataset.train if part == "train" else dataset.test)
    generator = torch.Generator().manual_seed(stream_seed(0, f"fixed draw of the {part} set"))
    return draw(values, dataset.levels, observation, torch.rand(values.shape, generator=generator))


class Batches:
    """The training set of a pack: every member shuffles and draws for itself.

    Args:
        dataset: the images.
        observation: `bernoulli` or `gaussian`.
        redraw: `every_epoch` (each visit of an image draws it anew) or `once` (`draw_once`).
        batch_size: B.
        last_batch: `drop` or `keep` the smaller batch at the end of an epoch.
        device: where the images are kept.

    """

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
        self.levels, self.observation, self.batch_size = dataset.levels, observation, batch_size
        self.fixed = redraw == "once"
        images = draw_once(dataset, "train", observation) if self.fixed else torch.tensor(dataset.train)
        # A binary image needs no more than its byte.
        self.images = (images.to(torch.uint8) if self.fixed and observation == "bernoulli" else images).to(device)
        count = len(self.images)
        self.steps = count // batch_size if last_batch == "drop" else -(-count // batch_size)

    def epoch(self, streams: Streams) -> Iterator[Tensor]:
        """Batches [M, B, D] of one epoch, drawn from the members' streams."""
        order = streams.permutations(len(self.images))
        visited = min(self.steps * self.batch_size, len(self.images))
        together = DRAWN_TOGETHER[self.images.device.type] * self.batch_size
        for start, end in pairwise([*range(0, visited, together), visited]):
            rows = order[:, start:end]
            drawn = self.observe(self.images.index_select(0, rows.flatten()).unflatten(0, rows.shape), streams)
            yield from drawn.split(self.batch_size, dim=1)

    def observe(self, values: Tensor, streams: Streams) -> Tensor:
        """Observations [M, B, D] of gray values [M, B, D]."""
        if self.fixed:
            return values.to(torch.float32)
        uniform = streams.coarse_uniform if self.observation == "bernoulli" else streams.uniform
        return draw(values, self.levels, self.observation, uniform(*values.shape[1:]))

    def whole(self, streams: Streams) -> Tensor:
        """One draw of the whole training set in its own order, [M, N, D]."""
        return self.observe(self.images.expand(len(streams.seeds), *self.images.shape), streams)

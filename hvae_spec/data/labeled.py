"""Training images of which some have a label: which ones, and batches with both kinds in them."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_spec.data.batches import Batches
from hvae_spec.data.dataset import Dataset
from hvae_spec.nn.random import Streams


def labeled_images(classes: NDArray[np.int64], count: int, seed: int) -> NDArray[np.intp]:
    """Which images have a label, in ascending order: as many of each class, drawn by the seed alone.

    Args:
        classes: of all training images, as indices from 0.
        count: how many have one, a multiple of the number of classes.
        seed: the member's.

    """
    order = Streams([seed]).begin("labeled images").permutations(len(classes))[0].numpy()
    every = np.unique(classes)
    first = [order[classes[order] == one][: count // len(every)] for one in every]
    return np.sort(np.concatenate(first))


class LabeledBatches(Batches):
    """The training set of a pack, some images of which have a label; for each member these are others.

    An epoch goes once through the unlabeled images. Every step adds `labeled_batch` labeled ones, which come last in
    the batch: from streams of their own, in an order that is shuffled again whenever all have had their turn. Where all
    images have a label, an epoch goes once through them, and nothing is added.

    Args:
        dataset: the images; every class of them has enough.
        labeled: how many have a label; `all`: all of them.
        labeled_batch: labeled images of a step.
        alone: leave the unlabeled images out of every batch. An epoch has as many steps as with them.
        settings: what `Batches` takes.

    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        labeled: int | Literal["all"],
        labeled_batch: int,
        alone: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(dataset, **settings)
        self.classes = dataset.class_indices(dataset.train_labels)
        self.targets = torch.from_numpy(self.classes).to(self.images.device)
        self.labeled, self.labeled_batch, self.alone = labeled, labeled_batch, alone
        self.apart: dict[int, tuple[Tensor, Tensor]] = {}
        if labeled != "all":
            unlabeled = len(self.images) - labeled
            keeps = settings["last_batch"] != "drop"
            self.steps = -(-unlabeled // self.batch_size) if keeps else unlabeled // self.batch_size

    @property
    def unlabeled_share(self) -> float:
        """See `Batches.unlabeled_share`."""
        return 0.0 if self.labeled == "all" else (len(self.images) - self.labeled) / len(self.images)

    @property
    def labels_per_step(self) -> int:
        """See `Batches.labels_per_step`."""
        return self.batch_size if self.labeled == "all" else self.labeled_batch

    @property
    def full(self) -> int:
        """See `Batches.full`."""
        own = 0 if self.alone or self.labeled == "all" else self.batch_size
        return own + self.labels_per_step

    def sets(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Which images have no label, [M, N_u], and which have one, [M, N_l], of the members with these seeds."""
        for seed in seeds:
            if seed not in self.apart:
                count = len(self.images) if self.labeled == "all" else self.labeled
                every = np.arange(len(self.images))
                known = every if self.labeled == "all" else labeled_images(self.classes, count, seed)
                unknown = np.setdiff1d(every, known, assume_unique=True)
                self.apart[seed] = (torch.from_numpy(unknown), torch.from_numpy(known))
        both = zip(*(self.apart[seed] for seed in seeds), strict=True)
        unlabeled, labeled = (torch.stack(each).to(self.images.device) for each in both)
        return unlabeled, labeled

    def epoch(self, streams: Streams) -> Iterator[Tensor]:
        """See `Batches.epoch`."""
        return (x for x, _ in self.labeled_epoch(streams))

    def labeled_epoch(self, streams: Streams) -> Iterator[tuple[Tensor, Tensor | None]]:
        """See `Batches.labeled_epoch`."""
        unknown, known = self.sets(streams.seeds)
        if self.labeled == "all":
            order = streams.permutations(len(self.images)).to(self.images.device)
            for rows, x in self.visit(order, self.steps * self.batch_size, streams):
                yield x, self.targets[rows]
            return
        own = streams.of_labeled()
        labeled = self.visit(self._turns(known, own), self.steps * self.labeled_batch, own, self.labeled_batch)
        if self.alone:
            for rows, x in labeled:
                yield x, self.targets[rows]
            return
        order = unknown.gather(1, streams.permutations(unknown.shape[1]).to(unknown.device))
        images = self.visit(order, self.steps * self.batch_size, streams)
        for (_, x), (rows, added) in zip(images, labeled, strict=True):
            yield torch.cat([x, added], dim=1), self.targets[rows]

    def _turns(self, known: Tensor, streams: Streams) -> Tensor:
        """The labeled images of the steps of an epoch one after another, [M, steps * labeled_batch]."""
        needed = self.steps * self.labeled_batch
        rounds = range(-(-needed // known.shape[1]))
        orders = [known.gather(1, streams.permutations(known.shape[1]).to(known.device)) for _ in rounds]
        return torch.cat(orders, dim=1)[:, :needed] if orders else known[:, :0]

    def whole(self, streams: Streams) -> Tensor:
        """What an epoch goes through as one batch, [M, N, D]: the unlabeled images in their own order, and the labeled
        ones of all steps, so that both count in it what they count in training.
        """
        if self.labeled == "all":
            return super().whole(streams)
        unknown, known = self.sets(streams.seeds)
        own = streams.of_labeled()
        turns = self._turns(known, own)
        labeled = self.observe(self.images[turns], own)
        return labeled if self.alone else torch.cat([self.observe(self.images[unknown], streams), labeled], dim=1)

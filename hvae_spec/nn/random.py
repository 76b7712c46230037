"""Random numbers: every member draws from its own stream, and every epoch starts streams of its own.

A stream is a function of (seed, purpose, epoch) alone. So a member draws the same numbers alone or in any pack, and a
run that resumes at an epoch boundary needs no generator state to go on bit for bit as if it had never stopped.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor

Purpose = Literal[
    "initialization",
    "initialization of flows",
    "training",
    "statistics",
    "evaluation",
    "KL to the standard normal",
    "annealed importance sampling",
    "reverse annealed importance sampling",
    "refinement",
    "bound after refinement",
    "labels of the probe",
    "probe of the train set",
    "probe of the test set",
    "validation",
    "fixed draw of the train set",
    "fixed draw of the validation set",
    "fixed draw of the test set",
    "redraws of the test set",
    "latents of the gallery",
    "prior samples of the gallery",
    "injected samples of the gallery",
    "prior samples",
    "injected samples",
    "encoding",
    "rounding",
    "pseudo-inputs",
    "components of the gallery's prior samples",
    "components of the gallery's injected samples",
    "components of prior samples",
    "components of injected samples",
    "components of annealed importance sampling",
    "initialization of the classifier",
    "labeled images",
    "labeled images of training",
    "labeled images of the statistics",
    "classes of the evaluation",
    "classes of the KL to the standard normal",
    "classes of the gallery's prior samples",
    "classes of the gallery's injected samples",
    "classes of prior samples",
    "classes of injected samples",
]
"""What streams are for. A purpose is part of what a stream is: renaming one changes results. Beside each there is one
of the noise of auxiliary variables (`Streams.auxiliary`)."""
CHOICES: dict[Purpose, Purpose] = {
    "prior samples of the gallery": "components of the gallery's prior samples",
    "injected samples of the gallery": "components of the gallery's injected samples",
    "prior samples": "components of prior samples",
    "injected samples": "components of injected samples",
    "annealed importance sampling": "components of annealed importance sampling",
}
"""Of streams that samples of the prior are drawn from: those from which it is drawn which of its components they are
of."""
CLASSES: dict[Purpose, Purpose] = {
    "evaluation": "classes of the evaluation",
    "KL to the standard normal": "classes of the KL to the standard normal",
    "prior samples of the gallery": "classes of the gallery's prior samples",
    "injected samples of the gallery": "classes of the gallery's injected samples",
    "prior samples": "classes of prior samples",
    "injected samples": "classes of injected samples",
}
"""Of streams that samples are drawn from: those from which the classes of the samples are drawn."""
LABELED: dict[Purpose, Purpose] = {
    "training": "labeled images of training",
    "statistics": "labeled images of the statistics",
}
"""Of streams that an epoch's batches are drawn from: those from which the labeled images of every batch are drawn."""


def stream_seed(seed: int, purpose: Purpose, epoch: int = 0) -> int:
    """A 63-bit seed for one stream."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Streams:
    """One generator per member, on one device.

    Args:
        seeds: the members' seeds.
        device: where the numbers are drawn.

    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds, self.device = tuple(seeds), torch.device(device)
        self.generators = [torch.Generator(device=self.device) for _ in seeds]
        self.begun: tuple[Purpose, int] | None = None
        """The purpose and the epoch that they were last started for."""
        self._auxiliary: Streams | None = None

    def begin(self, purpose: Purpose, epoch: int = 0) -> "Streams":
        """Start every member's stream for a purpose (`training`, `statistics`, `evaluation`, ...) and an epoch."""
        self.begun = purpose, epoch
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(stream_seed(seed, purpose, epoch))
        self._auxiliary = None
        return self

    @property
    def auxiliary(self) -> "Streams":
        """Streams beside these, begun with them, from which the noise of auxiliary variables is drawn, so that all
        other noise is what it is without.
        """
        if self.begun is None:
            raise RuntimeError("streams that were not begun have none beside them")
        if self._auxiliary is None:
            purpose, epoch = self.begun
            beside = cast(Purpose, f"auxiliary variable of {purpose}")
            self._auxiliary = Streams(self.seeds, self.device).begin(beside, epoch)
        return self._auxiliary

    def of_labeled(self) -> "Streams":
        """The streams beside these from which the labeled images of an epoch are drawn (`LABELED`)."""
        if self.begun is None:
            raise RuntimeError("streams that were not begun have none beside them")
        purpose, epoch = self.begun
        return Streams(self.seeds, self.device).begin(LABELED[purpose], epoch)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise, [M, *shape]."""
        out = torch.empty(len(self.seeds), *shape, device=self.device)
        for member, generator in enumerate(self.generators):
            torch.randn(shape, generator=generator, out=out[member])
        return out

    def uniform(self, *shape: int) -> Tensor:
        """Uniform noise on [0, 1), [M, *shape]."""
        out = torch.empty(len(self.seeds), *shape, device=self.device)
        for member, generator in enumerate(self.generators):
            torch.rand(shape, generator=generator, out=out[member])
        return out

    def coarse_uniform(self, *shape: int) -> Tensor:
        """Uniform noise on the midpoints of 65,536 equal parts of [0, 1], [M, *shape]: an event of probability p comes
        out with a probability within 1/131,072 of p, at a quarter of the price of `uniform`.
        """
        size = math.prod(shape)
        words = torch.empty(len(self.seeds), -(-size // 4), dtype=torch.int64, device=self.device)
        for member, generator in enumerate(self.generators):
            words[member].random_(-(2**63), None, generator=generator)
        parts = words.view(torch.int16)[:, :size].view(-1, *shape)
        return parts.to(torch.float32).add_(2**15 + 0.5).mul_(2**-16)

    def permutations(self, size: int) -> Tensor:
        """A permutation of `size` per member, [M, size]."""
        orders = [torch.randperm(size, generator=generator, device=self.device) for generator in self.generators]
        return torch.stack(orders)

    def noise(self, samples: int, images: int, units: Sequence[int]) -> list[Tensor]:
        """Noise for one pass of a hierarchy: [M, U_i, S, B] for each layer, drawn in one call per member."""
        return split_noise(self.normal(samples * images * sum(units)), samples, images, units)


def image_streams(
    seed: int, purpose: Purpose, images: Sequence[int], device: torch.device | str = "cpu", epoch: int = 0
) -> Streams:
    """Streams of images in place of members: one for each, a function of (seed, purpose, epoch) and of its place in the
    data alone, so that an image draws the same numbers whichever images are computed with it.
    """
    return Streams([stream_seed(seed, purpose, image) for image in images], device).begin(purpose, epoch)


def split_noise(flat: Tensor, samples: int, images: int, units: Sequence[int]) -> list[Tensor]:
    """Noise [M, S * B * (U_1 + ... + U_L)] as [M, U_i, S, B] for each layer."""
    parts = flat.split([samples * images * width for width in units], dim=1)
    return [part.view(-1, width, samples, images) for part, width in zip(parts, units, strict=True)]

"""The floor under a step: its matrix products alone, each at the best rate that this machine has for its shape.

No program that multiplies these matrices with PyTorch can be faster; how near a step comes to it says what all the rest
(batch normalization, nonlinearities, noise, the optimizer, and launching it all) costs.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import torch

from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.spec.choices.optimizer import OPTIMIZERS
from hvae_spec.spec.cost import images_of_step, mappings, parameters, samples_in_training
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.mapping import Mapping
from tune.measure.timing import interleaved, settings

PACKS = {"cpu": (4, 16), "cuda": (8, 32)}
"""Members of batched products that are tried beside a single one, as long as those are not large themselves."""
LARGE = {"cpu": 2e9, "cuda": 4e11}
"""Multiply-adds."""
EVALUATION_ROWS = {"cpu": (4096,), "cuda": (8192, 65536)}
"""Rows of an evaluation's products that are tried."""
BLOCK_SECONDS = 0.003
"""Blocks of calls are short, and the fastest counts: one in which the machine did nothing else."""
COPIED_BYTES = 2**28
AVERAGE_BYTES = 8
"""An average of the weights is read and written, in float32."""


@dataclass(frozen=True, order=True)
class Matmul:
    """[rows, inner] x [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.rows * self.inner * self.columns


def layer_matmuls(mapping: Mapping, rows: int, *, of_image: bool = False) -> list[Matmul]:
    """The products of one mapping in a training step: forward, of the weights' gradient, and of the input's gradient,
    which the first layer does not need if its input is the image.
    """
    found = []
    for place, (inputs, outputs) in enumerate(pairwise(mapping.widths)):
        found += [Matmul(outputs, inputs, rows), Matmul(outputs, rows, inputs)]
        if place or not of_image:
            found.append(Matmul(inputs, outputs, rows))
    return found


def step_matmuls(member: MemberSpec) -> list[Matmul]:
    """The products of one member's step."""
    counts = image_counts(member.data)
    images = min(images_of_step(member), counts.train)
    samples = samples_in_training(member)
    return [
        product
        for place, mapping in enumerate(mappings(member, counts.pixels))
        for rows in (images * samples if mapping.per_sample else images, *[images] * mapping.earlier)
        for product in layer_matmuls(mapping, rows, of_image=place == 0)
    ]


class Floor:
    """Measured floors on one device; each shape of product is measured once.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads.
        seconds: time for each shape of product.

    """

    def __init__(self, device: str, threads: int, seconds: float = 0.15) -> None:
        self.device, self.threads, self.seconds = device, threads, seconds
        self.kind = device.partition(":")[0]
        self.known: dict[tuple[Matmul, str], float] = {}

    def forget(self) -> None:
        """Measure everything again when it is next asked for."""
        self.known.clear()

    def product_seconds(self, product: Matmul, precision: str) -> float:
        """Seconds of one product: alone, or its share of a batch of them, whichever is less."""
        key = product, precision
        if key not in self.known:
            self.known[key] = self._measure(product, precision)
        return self.known[key]

    def _measure(self, product: Matmul, precision: str) -> float:
        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device=self.device)

        rows, inner, columns = product.rows, product.inner, product.columns
        calls: dict[tuple[str, int], Callable[[], object]] = {}
        a, b, out = normal(rows, inner), normal(inner, columns), normal(rows, columns)
        # The layouts in which the two factors meet, forward and backward.
        for layout, first, second in (
            ("as they are", a, b),
            ("first transposed", normal(inner, rows).t(), b),
            ("second transposed", a, normal(columns, inner).t()),
        ):
            calls[layout, 1] = partial(torch.mm, first, second, out=out)
        for members in PACKS[self.kind]:
            if members * product.macs <= LARGE[self.kind]:
                batch = normal(members, rows, inner), normal(members, inner, columns)
                calls["batched", members] = partial(torch.bmm, *batch, out=normal(members, rows, columns))
        with settings(self.threads, precision):
            times = interleaved(calls, self.seconds, self.device, block=BLOCK_SECONDS, typical=min)
        return min(seconds / members for (_, members), seconds in times.items())

    def step_ms(self, member: MemberSpec) -> float:
        """Milliseconds of one member's step; on a CUDA device, with the memory traffic of the optimizer and average."""
        precision = member.training.matmul_precision
        counts = Counter(step_matmuls(member))
        seconds = sum(count * self.product_seconds(product, precision) for product, count in counts.items())
        if self.kind == "cuda":
            moved = OPTIMIZERS[member.training.optimizer.choice].bytes_per_step
            moved += AVERAGE_BYTES * (member.training.ema is not None)
            seconds += moved * parameters(member, image_pixels(member.data)) / self.bandwidth
        return 1e3 * seconds

    @cached_property
    def bandwidth(self) -> float:
        """Bytes that a copy reads and writes in a second."""
        source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * COPIED_BYTES / interleaved({"copy": lambda: target.copy_(source)}, 0.1, self.device)["copy"]

    def samples_per_second(self, member: MemberSpec) -> float:
        """Images times samples of an evaluation: the forward products of what is computed once per sample, many rows at
        a time.
        """
        precision = member.training.matmul_precision
        seconds = 0.0
        for mapping in mappings(member, image_pixels(member.data)):
            for inputs, outputs in pairwise(mapping.widths if mapping.per_sample else ()):
                several = EVALUATION_ROWS[self.kind]
                seconds += min(
                    self.product_seconds(Matmul(outputs, inputs, rows), precision) / rows for rows in several
                )
        return 1 / seconds

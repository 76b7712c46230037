"""The mappings of a model and the layers that they lead to and from: widths alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from hvae_spec.spec.choices.norm import Normalization


class Layer(Protocol):
    """The widths around one z_i, as `hvae_spec.spec.model.StochasticLayer` states them."""

    @property
    def units(self) -> int:
        """Units of z_i."""

    @property
    def mlp(self) -> Sequence[int]:
        """Hidden widths into z_i."""

    @property
    def down(self) -> Sequence[int]:
        """Hidden widths of the generative mapping out of z_i."""

    @property
    def top_down(self) -> Sequence[int]:
        """Hidden widths of the top-down inference mapping out of z_i."""


@dataclass(frozen=True)
class Mapping:
    """One mapping y -> distribution: its widths, and whether it is evaluated once per sample or once per image."""

    name: str
    """What summaries call it."""
    widths: tuple[int, ...]
    """Input, hidden layers, outputs (all heads)."""
    normalized_head: bool
    """Whether its heads have the normalization of heads, if there is one."""
    per_sample: bool
    """Whether it is evaluated once per sample, and not once per image."""
    earlier: int = 0
    """How often it is evaluated for an image beside that, in earlier sweeps of inference."""
    own_parameters: int = 0
    """Trained numbers of the distribution that nothing is mapped to."""
    numbers: str = ""
    """What these numbers are, where there is nothing else: `500 pseudo-inputs`."""
    own_macs: int = 0
    """Multiply-adds of one row that are no mapping's."""
    normalized_hidden: bool = True
    """Whether its hidden layers have the model's normalization, if there is one."""
    first_bias: bool = True
    """Whether its first linear map has a bias, or the normalization in its place."""
    copies: int = 1
    """How often it is evaluated for every sample or image: of what is known of x, once for each class that it takes."""

    def called(self, name: str, *, per_sample: bool) -> "Mapping":
        """It under another name, evaluated once per sample where it is or where what it is a part of is."""
        return replace(self, name=name, per_sample=self.per_sample or per_sample)

    def text(self, arrow: str) -> str:
        """Its widths, `64 -> 512 -> 784`, or what its own numbers are where it has none."""
        return f" {arrow} ".join(map(str, self.widths)) or self.numbers

    def parameters(self, norm: Normalization) -> int:
        """Weights, biases, the scale and shift of a normalization (which replaces a bias), and `own_parameters`."""
        total = self.own_parameters
        for place, (inputs, outputs) in enumerate(pairwise(self.widths)):
            is_head = place == len(self.widths) - 2
            normalized = norm.heads and self.normalized_head if is_head else norm.hidden and self.normalized_hidden
            shifts = norm.norm.numbers_per_unit if normalized else 1
            total += outputs * (inputs + (shifts if place or self.first_bias else 0))
        return total

    @property
    def macs(self) -> int:
        """Multiply-adds of one row through the mapping, or of one in each of its copies."""
        return self.copies * (self.own_macs + sum(inputs * outputs for inputs, outputs in pairwise(self.widths)))

    def passes(self, samples: int) -> int:
        """Rows that go through it for one image with so many samples."""
        return self.earlier + (samples if self.per_sample else 1)

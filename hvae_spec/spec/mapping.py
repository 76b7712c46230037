"""The mappings of a model and the layers that they lead to and from: widths alone."""

from dataclasses import dataclass
from itertools import pairwise

from hvae_spec.spec.base import Count, SpecModel

Widths = tuple[Count, ...]


class StochasticLayer(SpecModel):
    """One layer z_i of latent variables and the MLPs that touch it."""

    units: Count
    """Number of latent units of z_i."""
    mlp: Widths
    """Hidden widths of the mapping up into z_i, and of the mapping down out of z_i (to z_{i-1}, or to x for i = 1).
    An empty list makes the mapping linear."""
    mlp_down: Widths | None = None
    """Hidden widths of the generative mapping down out of z_i, where they differ from `mlp`."""
    mlp_top_down: Widths | None = None
    """Hidden widths of the ladder's inference mapping t_{i-1} = MLP(z_i), where they differ from those of the
    generative mapping. Only the ladder has this mapping, and only out of z_2 and above."""

    @property
    def down(self) -> Widths:
        """Hidden widths of the generative mapping out of this layer."""
        return self.mlp if self.mlp_down is None else self.mlp_down

    @property
    def top_down(self) -> Widths:
        """Hidden widths of the ladder's inference mapping out of this layer."""
        return self.down if self.mlp_top_down is None else self.mlp_top_down


@dataclass(frozen=True)
class Mapping:
    """One mapping y -> distribution: its widths, and whether it is evaluated once per sample or once per image."""

    name: str
    widths: tuple[int, ...]
    """Input, hidden layers, outputs (all heads)."""
    normalised_head: bool
    per_sample: bool

    def parameters(self, batch_norm: bool) -> int:
        """Weights, biases, and the scale and shift of batch normalization (which replaces a bias)."""
        total = 0
        for place, (inputs, outputs) in enumerate(pairwise(self.widths)):
            is_head = place == len(self.widths) - 2
            normalised = batch_norm and (self.normalised_head or not is_head)
            total += inputs * outputs + (2 * outputs if normalised else outputs)
        return total

    @property
    def products(self) -> int:
        """Multiply-adds of one row through the mapping."""
        return sum(inputs * outputs for inputs, outputs in pairwise(self.widths))

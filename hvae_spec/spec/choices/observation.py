"""The observation models p(x|z_1)."""

from dataclasses import dataclass

from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Observation:
    """One observation model."""

    equation: str
    """p(x|z_1) as it follows from d(z_1), the MLP of its mapping."""
    heads: int
    """Numbers that it predicts per pixel."""
    binary: bool = False
    """Whether x consists of zeros and ones, which are drawn with the gray values' intensities as probabilities. Its
    means are then probabilities, which `model.mean_clip` keeps from 0 and 1."""


OBSERVATIONS: Registry[Observation] = Registry("observation")
OBSERVATIONS.add("bernoulli", Observation("p(x|z_1) = Bernoulli(sigmoid(Linear(d(z_1))))", heads=1, binary=True))
OBSERVATIONS.add("gaussian", Observation("p(x|z_1) = N(μ(z_1), σ²(z_1))", heads=2))


def is_binary(dataset: str, observation: str) -> bool:
    """Whether x consists of zeros and ones: by names of a data set, whatever it is, and of an observation model."""
    return OBSERVATIONS[observation].binary

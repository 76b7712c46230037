"""The observation models p(x|z_1), and what the x is that each of them is a model of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any

from pydantic import TypeAdapter

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection, WordOr


class X(Enum):
    """What the observations x are, as they are made of an image's gray levels v = 0, ..., levels - 1."""

    BINARY = "zeros and ones"
    """Drawn with the gray values' intensities as probabilities (`data.grey_divisor`). log p(x|z_1) is that of a mass,
    of x and not of v."""
    GRAY = "gray levels"
    """The levels themselves, written v / (levels - 1) in [0, 1]. log p(x|z_1) is that of a mass: over the levels of a
    pixel it sums to 1. Intensities without levels are none."""
    UNIT = "dequantized gray levels in [0, 1)"
    """(v + u) / levels with u uniform on [0, 1), or intensities in [0, 1] as they are. log p(x|z_1) is that of a
    density on [0, 1]."""
    REAL = "dequantized gray levels"
    """(v + u) / w with u uniform on [0, 1), where `data.rescaled_by` gives w, or intensities as they are. log p(x|z_1)
    is that of a density on the real numbers."""


@dataclass(frozen=True)
class Observation:
    """One observation model."""

    equation: str
    """p(x|z_1) as it follows from d(z_1), the MLP of its mapping."""
    heads: int
    """Numbers that it predicts per pixel."""
    x: X = X.REAL
    """What it is a model of. Its settings, if it has some, leave that as it is."""
    own_parameters: int = 0
    """Trained numbers beside those of its mapping."""
    default: ChoiceSection | None = None
    """It with its default settings, which its plain name stands for; None for one without settings."""


class ObservationSection(ChoiceSection):
    """An observation model with its settings."""

    @property
    def described(self) -> Observation:
        """The description of the model with these settings."""
        return OBSERVATIONS[self.choice]


class Gaussian(SpecModel):
    """N(μ(z_1), σ²): what its variance is."""

    variance: Annotated[
        str | float, WordOr(("predicted", "learned"), TypeAdapter(Positive), "a number greater than 0")
    ] = "predicted"
    """`predicted`: σ²(z_1) for every pixel (Eq. 1). `learned`: one number, the same for all pixels and images, which is
    trained with the weights (the σ-VAE of Rybkin et al., 2021). A number: this, fixed,
    without `variance_floor`."""


class GaussianSection(ObservationSection):
    """A Gaussian, by name."""

    gaussian: Gaussian
    """A Gaussian and its variance; a plain `gaussian` predicts it for every pixel."""

    @property
    def described(self) -> Observation:
        """The description of the Gaussian with this variance."""
        plain, variance = OBSERVATIONS[self.choice], self.gaussian.variance
        if variance == "predicted":
            return plain
        if variance == "learned":
            return replace(plain, equation="p(x|z_1) = N(μ(z_1), σ²),  σ² learned", heads=1, own_parameters=1)
        return replace(plain, equation=f"p(x|z_1) = N(μ(z_1), {variance:g})", heads=1)


OBSERVATIONS: Registry[Observation] = Registry("observation")
OBSERVATIONS.add("bernoulli", Observation("p(x|z_1) = Bernoulli(sigmoid(Linear(d(z_1))))", heads=1, x=X.BINARY))
OBSERVATIONS.add(
    "gaussian",
    Observation("p(x|z_1) = N(μ(z_1), σ²(z_1))", heads=2, default=GaussianSection(gaussian=Gaussian())),
)
OBSERVATIONS.add(
    "continuous_bernoulli",
    Observation("p(x|z_1) = C(λ) λ^x (1 - λ)^(1 - x),  λ = sigmoid(Linear(d(z_1)))", heads=1, x=X.UNIT),
)
OBSERVATIONS.add(
    "discretized_logistic",
    Observation(
        "p(x|z_1) = F(x + 1/2 level) - F(x - 1/2 level),  F = Logistic with mean μ(z_1) and variance σ²(z_1)",
        heads=2,
        x=X.GRAY,
    ),
)


def name_of(chosen: str | ChoiceSection | Mapping[str, Any]) -> str:
    """A chosen observation model's name, also of one as a spec's tree holds it."""
    if isinstance(chosen, str):
        return chosen
    return chosen.choice if isinstance(chosen, ChoiceSection) else next(iter(chosen))


def described(chosen: str | ChoiceSection) -> Observation:
    """The description of a chosen observation model with its settings."""
    return chosen.described if isinstance(chosen, ObservationSection) else OBSERVATIONS[name_of(chosen)]


def is_binary(_dataset: str, observation: str) -> bool:
    """Whether x consists of zeros and ones: by names of a data set, whatever it is, and of an observation model."""
    return OBSERVATIONS[observation].x is X.BINARY

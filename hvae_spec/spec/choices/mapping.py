"""The deterministic mappings d(y) of Eq. 7: the hidden layers before the heads of every distribution."""

from dataclasses import dataclass

from hvae_spec.registry import Registry
from hvae_spec.spec.choice import ChoiceSection


@dataclass(frozen=True)
class DeterministicMapping:
    """One mapping d(y). Whichever it is, it has the matrices, biases and normalizations of an MLP."""

    equation: str
    """Its hidden layers: h is what comes into one, W the layer's matrix, N the normalization and f the nonlinearity."""
    default: ChoiceSection | None = None
    """It with its default settings; None for one without settings."""


MAPPINGS: Registry[DeterministicMapping] = Registry("mapping")
MAPPINGS.add("mlp", DeterministicMapping("each hidden layer is f(N(W h))"))

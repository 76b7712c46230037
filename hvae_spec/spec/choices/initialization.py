"""The distributions that initial weights are drawn from."""

from dataclasses import dataclass

from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Initialization:
    """One way to draw the weights W and the bias b of a linear map."""

    equation: str
    """The distribution of an entry of W and of b; n_in and n_out are the map's inputs and outputs."""


INITIALIZATIONS: Registry[Initialization] = Registry("initialization")
INITIALIZATIONS.add("torch", Initialization("W, b ~ U(-1/√n_in, 1/√n_in)"))
INITIALIZATIONS.add("glorot_normal", Initialization("W ~ N(0, 2 / (n_in + n_out)), b = 0"))
INITIALIZATIONS.add("glorot_uniform", Initialization("W ~ U(-c, c), c² = 6 / (n_in + n_out), b = 0"))
INITIALIZATIONS.add("he_normal", Initialization("W ~ N(0, 2 / n_in), b = 0"))
INITIALIZATIONS.add("he_uniform", Initialization("W ~ U(-c, c), c² = 6 / n_in, b = 0"))
INITIALIZATIONS.add(
    "lasagne",
    Initialization(
        "W ~ N(0, 4 / (n_in + n_out)) of hidden layers, N(0, 2 / (n_in + n_out)) of heads, "
        "uniform of this variance of the heads of a ladder's latents; b = 0"
    ),
)

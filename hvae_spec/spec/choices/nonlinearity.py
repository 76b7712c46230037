"""The nonlinearities of the MLPs."""

from dataclasses import dataclass

from hvae_spec.registry import Registry
from hvae_spec.spec.base import NonNegative, Positive
from hvae_spec.spec.choice import ChoiceSection


class LeakyReLU(ChoiceSection):
    """max(a, slope * a)."""

    leaky_relu: NonNegative
    """Slope for negative arguments. The paper uses 0.1; a plain `leaky_relu` means 0.1 too."""


class ELU(ChoiceSection):
    """a for a > 0, alpha * (exp(a) - 1) otherwise."""

    elu: Positive
    """Scale alpha of the negative part; a plain `elu` means 1."""


@dataclass(frozen=True)
class Nonlinearity:
    """One nonlinearity a -> f(a)."""

    equation: str
    """f(a) of real numbers, with the parameter's name for the parameter; Φ is the standard normal distribution."""
    parameter: str | None = None
    """Name of the number that it takes, if any: in the equation, and as an argument of the torch function."""
    default: ChoiceSection | None = None
    """It with the parameter that its plain name stands for."""


NONLINEARITIES: Registry[Nonlinearity] = Registry("nonlinearity")
NONLINEARITIES.add("relu", Nonlinearity("max(a, 0)"))
NONLINEARITIES.add("tanh", Nonlinearity("tanh(a)"))
NONLINEARITIES.add("sigmoid", Nonlinearity("1 / (1 + exp(-a))"))
NONLINEARITIES.add("softplus", Nonlinearity("log(1 + exp(a))"))
NONLINEARITIES.add("silu", Nonlinearity("a / (1 + exp(-a))"))
NONLINEARITIES.add("gelu", Nonlinearity("a * Φ(a)"))
NONLINEARITIES.add("elu", Nonlinearity("a if a > 0 else alpha * (exp(a) - 1)", "alpha", ELU(elu=1.0)))
NONLINEARITIES.add("leaky_relu", Nonlinearity("max(a, slope * a)", "slope", LeakyReLU(leaky_relu=0.1)))


def name_and_parameters(value: str | ChoiceSection) -> tuple[str, dict[str, float]]:
    """A chosen nonlinearity's name and its parameter by name: `("leaky_relu", {"slope": 0.1})`, `("tanh", {})`."""
    if isinstance(value, str):
        return value, {}
    parameter = NONLINEARITIES[value.choice].parameter
    return value.choice, {} if parameter is None else {parameter: value.settings}


def equation(value: str | ChoiceSection) -> str:
    """`f(a) = max(a, slope * a), slope = 0.1`, or `f(a) = tanh(a)`."""
    name, parameters = name_and_parameters(value)
    return f"f(a) = {NONLINEARITIES[name].equation}" + "".join(f", {key} = {it:g}" for key, it in parameters.items())

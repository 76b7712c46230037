"""The inference models q(z|x)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hvae_spec.registry import Registry
from hvae_spec.spec.mapping import Layer, Mapping


class InferenceModel(ABC):
    """One inference model: the factors of q(z|x), the equations that give them, and the mappings that they take."""

    label: str
    """The paper's name for a model with it."""
    short: str
    """The same in the names of shapes."""
    top_down: bool = False
    """Whether it has a path of mappings down from z_L, which may be shared with the generative model."""
    with_one_layer: str | None = None
    """The simpler inference model that it is the same as where there is only z_1, by name."""
    takes_flows: bool = False
    """Whether its Gaussians may have flows after them (`hvae_spec.nn.flow`): what a mapping into z_i gives is then no
    Gaussian alone."""

    @abstractmethod
    def factors(self, depth: int) -> str:
        """q(z|x) as a product, in the order of sampling."""

    @abstractmethod
    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """How every factor follows from what it depends on, one equation per entry.

        Args:
            depth: L.
            shared: the top-down mappings are those of the generative model.
            softplus: what follows `softplus(...)` in an equation for a variance: its floor.

        """

    @abstractmethod
    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """The mappings of its own, those into z_1 first, without what it shares with the generative model."""


@dataclass(frozen=True)
class RecordedInference(InferenceModel):
    """An inference model of an extension as a record has it, which is read without the extension's code."""

    label: str
    short: str
    top_down: bool = False
    with_one_layer: str | None = None
    takes_flows: bool = False

    @classmethod
    def of(cls, model: InferenceModel) -> "RecordedInference":
        """What is recorded of a model."""
        return cls(model.label, model.short, model.top_down, model.with_one_layer, model.takes_flows)

    def factors(self, depth: int) -> str:
        """`q(z|x)`: how it factorizes, only the code knows."""
        return "q(z|x)"

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """None: only the code knows them."""
        return ()

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """None: only the code knows them."""
        return iter(())


class BottomUp(InferenceModel):
    """q(z_1|x), then q(z_i|z_{i-1}), each sampled on the way up (Eqs. 5-6)."""

    label = short = "VAE"
    takes_flows = True

    def factors(self, depth: int) -> str:
        """`q(z_1|x) q(z_2|z_1)`."""
        return " ".join(["q(z_1|x)", *(f"q(z_{layer}|z_{layer - 1})" for layer in range(2, depth + 1))])

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """See `InferenceModel.equations`."""
        above = ("q(z_i|z_{i-1}) = N(μ_i(z_{i-1}), σ²_i(z_{i-1}))",) if depth > 1 else ()
        return ("q(z_1|x) = N(μ_1(x), σ²_1(x))", *above)

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """See `InferenceModel.mappings`."""
        below, source = pixels, "x"
        for index, layer in enumerate(layers, start=1):
            widths = (below, *layer.mlp, 2 * layer.units)
            yield Mapping(f"q(z_{index}|{source})", widths, normalized_head=True, per_sample=index > 1)
            below, source = layer.units, f"z_{index}"


class Ladder(InferenceModel):
    """The probabilistic ladder network: a deterministic pass up, then a stochastic one down (Eqs. 13-21)."""

    label, short = "Prob. ladder", "ladder"
    top_down = True
    with_one_layer = "vae"
    takes_flows = True

    def factors(self, depth: int) -> str:
        """`q(z_2|x) q(z_1|z_2, x)`."""
        return " ".join([f"q(z_{depth}|x)", *(f"q(z_{layer}|z_{layer + 1}, x)" for layer in range(depth - 1, 0, -1))])

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """See `InferenceModel.equations`."""
        return (
            f"d_1 = MLP(x),  d_i = MLP(μ_{{d,i-1}}),  μ_{{d,i}} = Linear(d_i),  "
            f"σ²_{{d,i}} = softplus(Linear(d_i)){softplus}",
            f"q(z_{depth}|x) = N(μ_{{d,{depth}}}, σ²_{{d,{depth}}})",
            "μ_{t,i}, σ²_{t,i} = μ_i(z_{i+1}), σ²_i(z_{i+1})  (those of p(z_i|z_{i+1}): shared)"
            if shared
            else f"t_i = MLP(z_{{i+1}}),  μ_{{t,i}} = Linear(t_i),  σ²_{{t,i}} = softplus(Linear(t_i)){softplus}",
            "q(z_i|z_{i+1}, x) = N((μ_{t,i} s_{t,i} + μ_{d,i} s_{d,i}) / (s_{t,i} + s_{d,i}), "
            "1 / (s_{t,i} + s_{d,i})),  s = 1/σ²",
        )

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """See `InferenceModel.mappings`."""
        below = pixels
        for index, layer in enumerate(layers, start=1):
            widths = (below, *layer.mlp, 2 * layer.units)
            yield Mapping(f"d_{index}", widths, normalized_head=True, per_sample=False)
            below = layer.units
        for index, (layer, above) in enumerate(pairwise([] if shared else layers), start=1):
            widths = (above.units, *above.top_down, 2 * layer.units)
            yield Mapping(f"t_{index}", widths, normalized_head=True, per_sample=True)


INFERENCES: Registry[InferenceModel] = Registry("inference model")
INFERENCES.add("vae", BottomUp())
INFERENCES.add("ladder", Ladder())

"""The inference models q(z|x)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hvae_spec.registry import Registry
from hvae_spec.spec.mapping import Layer, Mapping
from hvae_spec.spec.skip import joined, joined_units


class InferenceModel(ABC):
    """One inference model: the factors of q(z|x), the equations that give them, and the mappings that they take."""

    label: str
    """The paper's name for a model with it."""
    short: str
    """The same in the names of shapes."""
    top_down: bool = False
    """Whether it has a path of mappings down from z_L."""
    can_share: bool = True
    """Whether the mappings of such a path may be those of the generative model."""
    with_one_layer: str | None = None
    """The simpler inference model that it is the same as where there is only z_1, by name."""
    gives_top: bool = False
    """Whether what it knows of x before anything is drawn ends in q(z_L|x), also where L > 1."""
    takes_classes: bool = False
    """Whether its q(z_L|...) may take a class y (`hvae_spec.nn.classes`)."""
    takes_flows: bool = False
    """Whether its Gaussians may have flows after them (`hvae_spec.nn.flow`): what a mapping into z_i gives is then no
    Gaussian alone."""

    def with_skip(self) -> "InferenceModel | None":
        """The same with skip connections, in which each factor takes the latents of all layers that are drawn before it
        (`model.skip: both`); None if it has none.
        """
        return None

    def in_sweeps(self, sweeps: int) -> "InferenceModel | None":
        """The same in so many sweeps, two or more, of which the last draws (`model.inference_steps`); None if it has a
        single one.
        """
        return None

    def iteration(self) -> tuple[str, ...]:
        """What the sweeps before the last one pass on, one equation per entry; nothing of a single sweep."""
        return ()

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
    can_share: bool = True
    gives_top: bool = False
    takes_flows: bool = False

    @classmethod
    def of(cls, model: InferenceModel) -> "RecordedInference":
        """What is recorded of a model."""
        facts = (model.top_down, model.with_one_layer, model.can_share, model.gives_top, model.takes_flows)
        return cls(model.label, model.short, *facts)

    def with_skip(self) -> InferenceModel | None:
        """Itself: what is recorded was allowed."""
        return self

    def in_sweeps(self, sweeps: int) -> InferenceModel | None:
        """Itself, too."""
        return self

    def factors(self, depth: int) -> str:
        """`q(z|x)`: how it factorizes, only the code knows."""
        return "q(z|x)"

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """None: only the code knows them."""
        return ()

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """None: only the code knows them."""
        return iter(())


@dataclass(frozen=True)
class BottomUp(InferenceModel):
    """q(z_1|x), then q(z_i|z_{i-1}), each sampled on the way up (Eqs. 5-6).

    Attributes:
        skips: whether it has skip connections.

    """

    label = short = "VAE"
    skips: bool = False
    takes_flows = takes_classes = True

    def with_skip(self) -> InferenceModel | None:
        """q(z_1|x), then q(z_i|z_1 ... z_{i-1})."""
        return replace(self, skips=True)

    def _below(self, layer: int) -> str:
        return joined(1, layer - 1, layer - 1, skip=self.skips)

    def factors(self, depth: int) -> str:
        """`q(z_1|x) q(z_2|z_1)`."""
        return " ".join(["q(z_1|x)", *(f"q(z_{layer}|{self._below(layer)})" for layer in range(2, depth + 1))])

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """See `InferenceModel.equations`."""
        below = "z_1…z_{i-1}" if self.skips else "z_{i-1}"
        above = (f"q(z_i|{below}) = N(μ_i({below}), σ²_i({below}))",) if depth > 1 else ()
        return ("q(z_1|x) = N(μ_1(x), σ²_1(x))", *above)

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """See `InferenceModel.mappings`."""
        below, source = pixels, "x"
        for index, layer in enumerate(layers, start=1):
            widths = (below, *layer.mlp, 2 * layer.units)
            yield Mapping(f"q(z_{index}|{source})", widths, normalized_head=True, per_sample=index > 1)
            below, source = joined_units(layers[index - 1 :: -1], skip=self.skips), self._below(index + 1)


@dataclass(frozen=True)
class UpThenDown(InferenceModel):
    """A deterministic pass up, then a stochastic one down from z_L: see `hvae_spec.nn.inference.UpThenDown`.

    Attributes:
        skips: whether the pass down has skip connections.
        sweeps: how often it goes up and down.

    """

    skips: bool = False
    sweeps: int = 1
    top_down = gives_top = True
    with_one_layer = "vae"
    takes_flows = takes_classes = True

    def with_skip(self) -> InferenceModel | None:
        """q(z_i|z_{i+1} ... z_L, x)."""
        return replace(self, skips=True)

    @property
    def _above(self) -> str:
        """z_{i+1}, or all above z_i."""
        return "z_{i+1}…z_L" if self.skips else "z_{i+1}"

    def factors(self, depth: int) -> str:
        """`q(z_2|x) q(z_1|z_2, x)`."""
        below = range(depth - 1, 0, -1)
        above = [joined(layer + 1, depth, layer + 1, skip=self.skips) for layer in below]
        return " ".join(
            [f"q(z_{depth}|x)", *(f"q(z_{layer}|{given}, x)" for layer, given in zip(below, above, strict=True))]
        )

    def equations(self, depth: int, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """See `InferenceModel.equations`."""
        return (
            f"d_1 = MLP(x),  d_i = MLP(μ_{{d,i-1}}),  μ_{{d,i}} = Linear(d_i),  "
            f"σ²_{{d,i}} = softplus(Linear(d_i)){softplus}",
            f"q(z_{depth}|x) = N(μ_{{d,{depth}}}, σ²_{{d,{depth}}})",
            *self._equations_down(shared=shared, softplus=softplus),
            *self.iteration(),
        )

    @abstractmethod
    def _equations_down(self, *, shared: bool, softplus: str) -> tuple[str, ...]:
        """How q(z_i|z_{i+1}, x) comes about."""

    def mappings(self, layers: Sequence[Layer], pixels: int, *, shared: bool) -> Iterator[Mapping]:
        """See `InferenceModel.mappings`."""
        below = pixels
        for index, layer in enumerate(layers, start=1):
            widths, earlier = (below, *layer.mlp, 2 * layer.units), self.sweeps - 1 if index > 1 else 0
            yield Mapping(f"d_{index}", widths, normalized_head=True, per_sample=False, earlier=earlier)
            below = layer.units
        for index, (layer, above) in enumerate(pairwise([] if shared else layers), start=1):
            inputs = self._evidence(layer) + joined_units(layers[index:], skip=self.skips)
            widths = (inputs, *above.top_down, 2 * layer.units)
            yield Mapping(f"t_{index}", widths, normalized_head=True, per_sample=True, earlier=self.sweeps - 1)

    def _evidence(self, layer: Layer) -> int:
        """Numbers of the evidence of a layer that its mapping down takes."""
        return 0


class Ladder(UpThenDown):
    """The probabilistic ladder network (Eqs. 13-21)."""

    label, short = "Prob. ladder", "ladder"

    def in_sweeps(self, sweeps: int) -> InferenceModel | None:
        """Its deterministic sweeps before the one that draws."""
        return replace(self, sweeps=sweeps)

    def iteration(self) -> tuple[str, ...]:
        """See `InferenceModel.iteration`."""
        if self.sweeps == 1:
            return ()
        above, last = self._above, self.sweeps - 1
        first = "sweep 1 draws" if last == 1 else f"sweeps 1 … {last} draw"
        next_ = "sweep 2, which draws" if last == 1 else f"sweeps 2 … {last + 1}, of which the last draws"
        return (
            f"{first} nothing:  m_L = μ_{{d,L}},  m_i = mean of q(z_i|{above}, x) at {above.replace('z', 'm')}",
            f"{next_}, the same weights:  d_1 = MLP(x),  d_i = MLP(m_{{i-1}} of the sweep before)",
        )

    def _equations_down(self, *, shared: bool, softplus: str) -> tuple[str, ...]:
        above = self._above
        return (
            f"μ_{{t,i}}, σ²_{{t,i}} = μ_i({above}), σ²_i({above})  (those of p(z_i|{above}): shared)"
            if shared
            else f"t_i = MLP({above}),  μ_{{t,i}} = Linear(t_i),  σ²_{{t,i}} = softplus(Linear(t_i)){softplus}",
            f"q(z_i|{above}, x) = N((μ_{{t,i}} s_{{t,i}} + μ_{{d,i}} s_{{d,i}}) / (s_{{t,i}} + s_{{d,i}}), "
            "1 / (s_{t,i} + s_{d,i})),  s = 1/σ²",
        )


class TopDown(UpThenDown):
    """The ladder but for Eq. 21: q(z_i|z_{i+1}, x) is predicted from the evidence and z_{i+1}, not merged."""

    label, short = "Top-down", "top-down"
    can_share = False

    def _equations_down(self, *, shared: bool, softplus: str) -> tuple[str, ...]:
        return (
            f"t_i = MLP([μ_{{d,i}}; σ²_{{d,i}}; {self._above}])",
            f"q(z_i|{self._above}, x) = N(Linear(t_i), softplus(Linear(t_i)){softplus})",
        )

    def _evidence(self, layer: Layer) -> int:
        """Its means and variances."""
        return 2 * layer.units


INFERENCES: Registry[InferenceModel] = Registry("inference model")
INFERENCES.add("vae", BottomUp())
INFERENCES.add("ladder", Ladder())
INFERENCES.add("top_down", TopDown())

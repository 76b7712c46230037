"""The normalizing flows of q: what becomes of a sample of its Gaussian."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Count, SpecModel
from hvae_spec.spec.choice import ChoiceSection, name_and_settings
from hvae_spec.spec.mapping import Mapping


class FlowModel(ABC):
    """One flow: its equation, and the mappings that it takes."""

    default: ChoiceSection | None = None
    """It with its default settings, which its plain name stands for; None for one without settings."""

    @abstractmethod
    def equation(self, settings: dict[str, Any]) -> str:
        """How z_i follows from a sample z_0 of the Gaussian and from d, the last hidden layer of the mapping into z_i.

        Args:
            settings: of the flow, by name.

        """

    @abstractmethod
    def mappings(self, hidden: int, units: int, settings: dict[str, Any]) -> Iterator[Mapping]:
        """Its mappings: first those out of d, which are evaluated once per image where d is (`per_sample` false), then
        those that are evaluated once per sample always. Their names follow the flow's, with a dot between.

        Args:
            hidden: width of d.
            units: of z_i.
            settings: of the flow, by name.

        """


@dataclass(frozen=True)
class RecordedFlow(FlowModel):
    """A flow of an extension as a record has it, which is read without the extension's code."""

    def equation(self, settings: dict[str, Any]) -> str:
        """Only the code knows it."""
        return "z_i = f(z_0)"

    def mappings(self, hidden: int, units: int, settings: dict[str, Any]) -> Iterator[Mapping]:
        """None: only the code knows them."""
        return iter(())


class NoFlow(FlowModel):
    """The Gaussian as it is."""

    def equation(self, settings: dict[str, Any]) -> str:
        """`z_i = z_0`."""
        return "z_i = z_0"

    def mappings(self, hidden: int, units: int, settings: dict[str, Any]) -> Iterator[Mapping]:
        """None."""
        return iter(())


class PlanarSection(ChoiceSection):
    """A planar flow, by name."""

    alone: ClassVar[str] = "steps"
    planar: Count
    """Steps of the flow; a plain `planar` has 10."""


class Planar(FlowModel):
    """Planar flow (Rezende & Mohamed, 2015)."""

    default = PlanarSection(planar=10)

    def equation(self, settings: dict[str, Any]) -> str:
        """See `FlowModel.equation`."""
        return (
            f"z_i = f_{settings['steps']}(… f_1(z_0)),  f_k(z) = z + v_k tanh(w_k·z + b_k),  "
            "v_k = 2 u_k / (1 + √(1 + a_k²) − a_k),  a_k = w_k·u_k,  "
            f"u_k, w_k, b_k = Linear(d) / {settings['steps']} + constants"
        )

    def mappings(self, hidden: int, units: int, settings: dict[str, Any]) -> Iterator[Mapping]:
        """See `FlowModel.mappings`. The sums w·z of a step are not counted, as elementwise operations are not."""
        yield Mapping("", (hidden, settings["steps"] * (2 * units + 1)), normalized_head=False, per_sample=False)


class IafSettings(SpecModel):
    """Inverse autoregressive flow (Kingma et al., 2016)."""

    steps: Count = 2
    """Steps of the flow. The order of the units is reversed from one to the next."""
    mlp: tuple[Count, ...] = (320,)
    """Hidden widths of the masked network of every step. An empty list makes it linear."""


class IafSection(ChoiceSection):
    """An inverse autoregressive flow, by name."""

    iaf: IafSettings
    """An inverse autoregressive flow; a plain `iaf` has two steps with 320 hidden units each."""


class Iaf(FlowModel):
    """Inverse autoregressive flow (Kingma et al., 2016)."""

    default = IafSection(iaf=IafSettings())

    def equation(self, settings: dict[str, Any]) -> str:
        """See `FlowModel.equation`."""
        return (
            f"z_i = f_{settings['steps']}(… f_1(z_0)),  f_k(z) = 2 sigmoid(s_k) z + m_k,  "
            "m_k, s_k = MADE_k(z, Linear(d)), in an order of the units that is reversed from step to step"
        )

    def mappings(self, hidden: int, units: int, settings: dict[str, Any]) -> Iterator[Mapping]:
        """See `FlowModel.mappings`. What is masked is counted, as it is computed."""
        steps, widths = settings["steps"], (*settings["mlp"], 2 * units)
        context = (hidden, steps * widths[0])
        yield Mapping("context", context, normalized_head=False, per_sample=False)
        for step in range(1, steps + 1):
            yield Mapping(
                f"{step}",
                (units, *widths),
                normalized_head=False,
                per_sample=True,
                normalized_hidden=False,
                first_bias=False,
            )


FLOWS: Registry[FlowModel] = Registry("flow")
FLOWS.add("none", NoFlow())
FLOWS.add("planar", Planar())
FLOWS.add("iaf", Iaf())


def without_absent(chosen: str | ChoiceSection | None) -> str | ChoiceSection | None:
    """A chosen flow; None if it is none."""
    return None if isinstance(chosen, str) and isinstance(FLOWS[chosen], NoFlow) else chosen


def mappings_of(
    chosen: Sequence[str | ChoiceSection | None], units: Sequence[int], into: Sequence[Mapping]
) -> Iterator[Mapping]:
    """The mappings of the flows of all layers.

    Args:
        chosen: the flow of every layer, z_1 first; None where there is none.
        units: of every layer.
        into: the mapping into every layer, as the inference model has it.

    """
    for place, (flow, width, mapping) in enumerate(zip(chosen, units, into, strict=False), start=1):
        if flow is not None:
            name, settings = name_and_settings(flow)
            for own in FLOWS[name].mappings(mapping.widths[-2], width, settings):
                yield own.called(f"flow_{place}{'.' * bool(own.name)}{own.name}", per_sample=mapping.per_sample)


def moved_units(
    chosen: Sequence[str | ChoiceSection | None], units: Sequence[int], into: Sequence[Mapping]
) -> tuple[int, int]:
    """The units of all layers that have a flow, and the multiply-adds of moving one sample of them, when what the flows
    take from d is known.

    Args:
        chosen: see `mappings_of`.
        units: see `mappings_of`.
        into: see `mappings_of`.

    """
    moved = macs = 0
    for flow, width, mapping in zip(chosen, units, into, strict=False):
        if flow is not None:
            name, settings = name_and_settings(flow)
            moved += width
            own = FLOWS[name].mappings(mapping.widths[-2], width, settings)
            macs += sum(each.macs for each in own if each.per_sample)
    return moved, macs

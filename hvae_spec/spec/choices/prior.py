"""The priors of the top layer, p(z_L)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from hvae_spec.registry import Registry
from hvae_spec.spec.base import Count, SpecModel
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.mapping import Mapping


class VampSection(ChoiceSection):
    """(1/K) Σ_k q(z_L|u_k), the VampPrior (Tomczak & Welling, 2018)."""

    vamp: Count
    """K, the learned pseudo-inputs u_k; a plain `vamp` means 500."""


class MixtureSection(ChoiceSection):
    """(1/K) Σ_k N(μ_k, σ²_k)."""

    mixture: Count
    """K, the learned diagonal Gaussians; a plain `mixture` means 50."""


class RealNVPSettings(SpecModel):
    """N(0, I) through affine coupling layers (Dinh et al., 2017)."""

    blocks: Annotated[Count, Field(le=100)] = 4
    """Coupling layers, which take turns in which half of the units they change."""
    mlp: tuple[Count, ...] = (64,)
    """Hidden widths of each one's MLP."""


class RealNVPSection(ChoiceSection):
    """N(0, I) through coupling layers, by name."""

    realnvp: RealNVPSettings
    """The coupling layers; a plain `realnvp` has the default ones."""


class PriorModel(ABC):
    """One prior p(z_L). The settings that its methods take are those of the spec: the number or the section under its
    name; None where it has none.
    """

    factorizes: bool = False
    """Whether it is a product over units. Else its density, and with it the KL of z_L, is of the layer as a whole."""
    needs_encoder: bool = False
    """Whether it is made of q(z_L|x), which must be known from x alone then."""
    least_units: int = 1
    """The least units of z_L that it is a distribution of."""
    default: ChoiceSection | None = None
    """It with its default settings, which its plain name stands for; None for one without settings."""

    @abstractmethod
    def equation(self, settings: Any) -> str:
        """What p(z_L) is, `N(0, I)`: as follows `p(z_L) = `."""

    def arguments(self, settings: Any) -> dict[str, Any]:
        """What its implementation takes beside widths, by name."""
        return settings.model_dump() if isinstance(settings, BaseModel) else {}

    def mappings(self, settings: Any, units: int, pixels: int, name: str) -> Iterator[Mapping]:
        """Its mappings and trained numbers, and the multiply-adds of a density.

        Args:
            settings: see above.
            units: of z_L.
            pixels: D.
            name: `p(z_2)`.

        """
        return iter(())

    def pseudo_inputs(self, settings: Any) -> int:
        """Images that pass through the inference model with every batch, and which start at training images."""
        return 0

    def components(self, settings: Any) -> int:
        """Terms that a density of one sample adds up, all at once; 0: it adds up none."""
        return 0


@dataclass(frozen=True)
class RecordedPrior(PriorModel):
    """A prior of an extension as a record has it, which is read without the extension's code."""

    factorizes: bool = False
    needs_encoder: bool = False
    least_units: int = 1
    default: ChoiceSection | None = None

    @classmethod
    def of(cls, model: PriorModel) -> "RecordedPrior":
        """What is recorded of a prior."""
        return cls(model.factorizes, model.needs_encoder, model.least_units)

    def equation(self, settings: Any) -> str:
        """Nothing: only the code knows what it is."""
        return ""


class StandardNormal(PriorModel):
    """N(0, I), Eq. 4."""

    factorizes = True

    def equation(self, settings: Any) -> str:
        """`N(0, I)`."""
        return "N(0, I)"


class Vamp(PriorModel):
    """The mixture of what inference says of learned images."""

    needs_encoder = True
    default = VampSection(vamp=500)

    def equation(self, settings: Any) -> str:
        """With its K."""
        return f"(1/K) Σ_k q(z_L|x = u_k),  K = {settings},  u_k in [0, 1] learned"

    def arguments(self, settings: Any) -> dict[str, Any]:
        """K."""
        return {"components": settings}

    def mappings(self, settings: Any, units: int, pixels: int, name: str) -> Iterator[Mapping]:
        """The pseudo-inputs, and what a density takes."""
        yield _of_mixture(name, settings, units, f"{settings:,} pseudo-inputs", settings * pixels)

    def pseudo_inputs(self, settings: Any) -> int:
        """K."""
        return int(settings)

    def components(self, settings: Any) -> int:
        """K."""
        return int(settings)


class Mixture(PriorModel):
    """A mixture of Gaussians."""

    default = MixtureSection(mixture=50)

    def equation(self, settings: Any) -> str:
        """With its K."""
        return f"(1/K) Σ_k N(μ_k, σ²_k),  K = {settings},  μ_k, σ²_k learned"

    def arguments(self, settings: Any) -> dict[str, Any]:
        """K."""
        return {"components": settings}

    def mappings(self, settings: Any, units: int, pixels: int, name: str) -> Iterator[Mapping]:
        """Means and variances, and what a density takes."""
        yield _of_mixture(name, settings, units, f"{settings:,} Gaussians", 2 * settings * units)

    def components(self, settings: Any) -> int:
        """K."""
        return int(settings)


class RealNVP(PriorModel):
    """N(0, I) through coupling layers."""

    least_units = 2
    default = RealNVPSection(realnvp=RealNVPSettings())

    def equation(self, settings: Any) -> str:
        """With the number of its blocks."""
        return (
            f"N(e; 0, I) |det de/dz|,  z = c_{settings.blocks}(... c_1(e)),  "
            "c: (a, b) → (a, b exp(tanh(s(a))) + t(a)) of the halves of z_L, in turns,  "
            "s, t = Linear(h(a)),  each hidden layer of h is f(W h + b), never normalized"
        )

    def mappings(self, settings: Any, units: int, pixels: int, name: str) -> Iterator[Mapping]:
        """One for each coupling layer."""
        halves = units // 2, units - units // 2
        for block in range(settings.blocks):
            kept, changed = halves if block % 2 == 0 else reversed(halves)
            yield Mapping(
                f"{name}, c_{block + 1}",
                (kept, *settings.mlp, 2 * changed),
                normalized_head=False,
                normalized_hidden=False,
                per_sample=True,
            )


def _of_mixture(name: str, components: int, units: int, numbers: str, count: int) -> Mapping:
    """A mixture of so many Gaussians that has these trained numbers: what a density takes are two products."""
    return Mapping(
        name,
        (),
        normalized_head=False,
        per_sample=True,
        own_parameters=count,
        numbers=numbers,
        own_macs=2 * components * units,
    )


PRIORS: Registry[PriorModel] = Registry("prior")
PRIORS.add("standard_normal", StandardNormal())
PRIORS.add("vamp", Vamp())
PRIORS.add("mixture", Mixture())
PRIORS.add("realnvp", RealNVP())

"""An auxiliary variable of q: its section of a spec, and what becomes of the mappings and equations of inference."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hvae_spec.spec.base import Count, SpecModel
from hvae_spec.spec.mapping import Layer, Mapping
from hvae_spec.spec.skip import joined, joined_units

OF_X = re.compile(r"\bx\)")


class AuxiliarySpec(SpecModel):
    """An auxiliary variable a of q (Maaloe et al., 2016)."""

    units: Count = 64
    """Number of units of a."""
    mlp: tuple[Count, ...] = (128,)
    """Hidden widths of the mappings of q(a|x) and of r(a|x, z_1, ..., z_L). An empty list makes them linear."""


def with_a(text: str) -> str:
    """What a text says of inference, with a beside x: `q(z_1|x)` as `q(z_1|x, a)`."""
    return OF_X.sub("x, a)", text)


def factors(of_latents: str) -> str:
    """q(z|x) of the factors that it has given a."""
    return f"∫ q(a|x) {with_a(of_latents)} da"


def given_a(mappings: Iterable[Mapping]) -> Iterator[Mapping]:
    """The mappings of an inference model that takes x and a for x: all of them are evaluated once per sample."""
    return (replace(mapping, name=with_a(mapping.name), per_sample=True) for mapping in mappings)


def mappings(chosen: AuxiliarySpec, layers: Sequence[Layer], pixels: int) -> Iterator[Mapping]:
    """Those of q(a|x) and r(a|x, z)."""
    yield Mapping("q(a|x)", (pixels, *chosen.mlp, 2 * chosen.units), normalized_head=True, per_sample=False)
    inputs = pixels + joined_units(layers, skip=True)
    yield Mapping(_r(len(layers)), (inputs, *chosen.mlp, 2 * chosen.units), normalized_head=True, per_sample=True)


def equation(depth: int) -> str:
    """q(a|x) and r(a|x, z)."""
    r = _r(depth)
    given = r.removeprefix("r(a|")
    return f"q(a|x) = N(μ_a(x), σ²_a(x)),  {r} = N(μ_r({given}, σ²_r({given})"


def _r(depth: int) -> str:
    return f"r(a|x, {joined(1, depth, 1, skip=True)})"

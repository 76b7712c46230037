"""Skip connections: what a mapping takes of the latents that it may depend on, in numbers and in words."""

from collections.abc import Sequence

from hvae_spec.spec.mapping import Layer

ORDER = "z_j…z_k: these latents in one vector, of which the layer nearest to what is mapped to comes first"
"""What a span of latents stands for in an equation."""


def joined_units(layers: Sequence[Layer], *, skip: bool) -> int:
    """Units of what a mapping takes of the latents of some layers, the nearest first: those of all, or without skip
    connections those of the nearest.
    """
    return sum(layer.units for layer in layers) if skip else layers[0].units


def joined(first: int, last: int, nearest: int, *, skip: bool) -> str:
    """What a mapping takes of z_first ... z_last, as text: `z_2…z_5`, or without skip connections the nearest of them.

    Examples:
        >>> joined(2, 5, 2, skip=True), joined(2, 3, 2, skip=True), joined(2, 2, 2, skip=True)
        ('z_2…z_5', 'z_2, z_3', 'z_2')
        >>> joined(2, 5, 2, skip=False)
        'z_2'

    """
    if not skip or first == last:
        return f"z_{nearest}"
    return f"z_{first}{', ' if last == first + 1 else '…'}z_{last}"

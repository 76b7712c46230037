"""How large a model is and what a step costs, from the spec alone: for plans that load no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from hvae_spec.spec.data import ImageCounts
from hvae_spec.spec.experiment import Member


@dataclass(frozen=True)
class Mapping:
    """One mapping y -> distribution: its widths, and whether it is evaluated once a sample or once an image."""

    name: str
    widths: tuple[int, ...]
    """Input, hidden layers, outputs (both heads)."""
    normalised_head: bool
    per_sample: bool

    def parameters(self, batch_norm: bool) -> int:
        """Weights, biases, and the scale and shift of batch normalisation (which replaces a bias)."""
        total = 0
        for place, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            is_head = place == len(self.widths) - 2
            normalised = batch_norm and (self.normalised_head or not is_head)
            total += inputs * outputs + (2 * outputs if normalised else outputs)
        return total

    @property
    def products(self) -> int:
        """Multiply-adds of one row through the mapping."""
        return sum(inputs * outputs for inputs, outputs in zip(self.widths, self.widths[1:], strict=False))


def mappings(member: Member, pixels: int) -> Iterator[Mapping]:
    """All mappings of a member's inference and generative models, for images of so many pixels."""
    model = member.model
    ladder = model.inference == "ladder"
    below = pixels
    for index, layer in enumerate(model.layers, start=1):
        name = f"d_{index}" if ladder else f"q(z_{index}|{'x' if index == 1 else f'z_{index - 1}'})"
        yield Mapping(name, (below, *layer.mlp, 2 * layer.units), True, not ladder and index > 1)
        below = layer.units
    for index, (layer, above) in enumerate(zip(model.layers, model.layers[1:], strict=False), start=1):
        if ladder and not model.share_top_down:
            yield Mapping(f"t_{index}", (above.units, *above.top_down, 2 * layer.units), True, True)
        yield Mapping(f"p(z_{index}|z_{index + 1})", (above.units, *above.down, 2 * layer.units), True, True)
    first = model.layers[0]
    heads = 1 if model.observation == "bernoulli" else 2
    yield Mapping("p(x|z_1)", (first.units, *first.down, heads * pixels), False, True)


def parameters(member: Member, pixels: int) -> int:
    """Number of trained parameters of one member."""
    return sum(mapping.parameters(member.model.batch_norm) for mapping in mappings(member, pixels))


def _products(member: Member, pixels: int) -> tuple[int, int]:
    """Multiply-adds once an image, and once a sample of an image."""
    once = sum(mapping.products for mapping in mappings(member, pixels) if not mapping.per_sample)
    each = sum(mapping.products for mapping in mappings(member, pixels) if mapping.per_sample)
    return once, each


def training_products(member: Member, counts: ImageCounts) -> float:
    """Multiply-adds of a member's training; a backward pass costs two forward ones."""
    once, each = _products(member, counts.pixels)
    samples = member.objective.mc_samples * member.objective.iw_samples
    return 3.0 * member.training.epochs * counts.train * (once + samples * each)


def evaluation_products(member: Member, counts: ImageCounts) -> float:
    """Multiply-adds of a member's final evaluation."""
    once, each = _products(member, counts.pixels)
    return float(counts.test * (once + member.evaluation.iw_samples * each))


def products(member: Member, counts: ImageCounts) -> float:
    """Multiply-adds of a member's whole life, for comparing members before anything is measured."""
    return training_products(member, counts) + evaluation_products(member, counts)


def steps_per_epoch(member: Member, images: int) -> int:
    """Optimization steps of one epoch over so many training images."""
    size = member.training.batch_size
    return images // size if member.training.last_batch == "drop" else -(-images // size)

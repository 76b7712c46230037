"""How large a model is and what a step costs, from the spec alone: for plans that load no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from hvae_spec.schema.experiment import Member


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


def mappings(member: Member) -> Iterator[Mapping]:
    """All mappings of a member's inference and generative models."""
    model, pixels = member.model, member.data.counts[0]
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


def parameters(member: Member) -> int:
    """Number of trained parameters of one member."""
    return sum(mapping.parameters(member.model.batch_norm) for mapping in mappings(member))


def products(member: Member) -> float:
    """Multiply-adds of a member's whole life: training (a backward pass costs two forward ones) and final evaluation.
    Good for comparing members before anything is measured."""
    _, train, test = member.data.counts
    samples = member.objective.mc_samples * member.objective.iw_samples
    once = sum(mapping.products for mapping in mappings(member) if not mapping.per_sample)
    each = sum(mapping.products for mapping in mappings(member) if mapping.per_sample)
    training = 3.0 * member.training.epochs * train * (once + samples * each)
    return training + test * (once + member.evaluation.iw_samples * each)


def steps_per_epoch(member: Member) -> int:
    """Optimisation steps of one epoch."""
    _, train, _ = member.data.counts
    size = member.training.batch_size
    return train // size if member.training.last_batch == "drop" else -(-train // size)

"""How large a model is and what a step costs, from the spec alone: for plans that load no torch."""

from collections.abc import Iterator
from itertools import pairwise

from hvae_spec import annealing, probing, refinement
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.flow import mappings_of, moved_units
from hvae_spec.spec.choices.observation import described
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.mapping import Mapping
from hvae_spec.spec.skip import joined, joined_units

UNIT_SAMPLES = 25
"""Samples per image for the KL of units at a point of the curve whose bounds are of fewer images than all: on
hundreds of images their error is well below the criterion of an active unit, 0.01."""


def mappings(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    """All mappings of a member, for images of so many pixels: those of its inference model, those of the flows after
    it, then those of its generative model.
    """
    yield from inference(member, pixels)
    yield from _generative(member, pixels)


def inference(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    """The mappings of a member's inference model, without those that it shares with the generative model."""
    model = member.model
    own = list(model.inference_model.mappings(model.layers, pixels, shared=model.shares_top_down))
    yield from own
    # An inference model's first mappings are those into z_1 ... z_L.
    yield from mappings_of(model.flows, [layer.units for layer in model.layers], own)


def _generative(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    model = member.model
    skip, depth = model.generative_skips, model.depth
    for index, (layer, above) in enumerate(pairwise(model.layers), start=1):
        widths = (joined_units(model.layers[index:], skip=skip), *above.down, 2 * layer.units)
        given = joined(index + 1, depth, index + 1, skip=skip)
        yield Mapping(f"p(z_{index}|{given})", widths, normalized_head=True, per_sample=True)
    top = f"p(z_{model.depth})"
    yield from model.prior_model.mappings(model.prior_settings, model.layers[-1].units, pixels, top)
    first, observation = model.layers[0], described(model.observation)
    yield Mapping(
        f"p(x|{joined(1, depth, 1, skip=skip)})",
        (joined_units(model.layers, skip=skip), *first.down, observation.heads * pixels),
        normalized_head=False,
        per_sample=True,
        own_parameters=observation.own_parameters,
    )


def parameters(member: MemberSpec, pixels: int) -> int:
    """Number of trained parameters of one member."""
    return sum(mapping.parameters(member.model.normalization) for mapping in mappings(member, pixels))


def forward_macs(member: MemberSpec, pixels: int) -> tuple[int, int]:
    """Multiply-adds of a forward pass that are done once per image, and those done once per sample of an image."""
    once = sum(mapping.macs for mapping in mappings(member, pixels) if not mapping.per_sample)
    each = sum(mapping.macs for mapping in mappings(member, pixels) if mapping.per_sample)
    return once, each


def training_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's training; a backward pass costs two forward ones, and one forward one through weights
    that are constants.
    """
    once, each = forward_macs(member, counts.pixels)
    samples = member.objective.mc_samples * member.objective.iw_samples
    again = 2.0 * _again(member, counts.pixels) if ESTIMATORS[member.objective.estimator].is_path else 0.0
    of_images = counts.train * (3.0 * (once + samples * each) + samples * again)
    of_pseudo_inputs = 3.0 * steps_per_epoch(member, counts.train) * member.model.pseudo_inputs * once
    return member.training.epochs * (of_images + of_pseudo_inputs)


def _again(member: MemberSpec, pixels: int) -> int:
    """Multiply-adds per sample of q(z|x) where the samples have been drawn already."""
    model = member.model
    every = model.inference_model.mappings(model.layers, pixels, shared=False)
    return sum(mapping.macs for mapping in every if mapping.per_sample)


def evaluated_images(member: MemberSpec, counts: ImageCounts) -> int:
    """Images on which the final evaluation takes the bound: the test set, what of it is drawn again, and the validation
    set.
    """
    redraws = member.redraws
    drawn_again = 0 if redraws is None else redraws.draws * min(redraws.images, counts.test)
    return counts.test + drawn_again + member.data.validation


def bound_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's final bounds (`evaluated_images`)."""
    once, each = forward_macs(member, counts.pixels)
    images = evaluated_images(member, counts) * (once + member.evaluation.iw_samples * each)
    evaluations = 1 + (member.redraws.draws if member.redraws else 0) + bool(member.data.validation)
    return float(images + evaluations * member.model.pseudo_inputs * once)


def ais_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's annealed importance sampling; 0 without it. A gradient by the latents alone is one
    pass through the generative model and one back.
    """
    settings = member.evaluation.ais
    if settings is None:
        return 0.0
    generative = sum(mapping.macs for mapping in _generative(member, counts.pixels))
    images = min(settings.images, counts.test)
    return 2.0 * images * annealing.gradients(settings.chains, settings.steps) * generative


def refine_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's refinements and the bounds before and after them; 0 without any. A gradient by the
    encoding takes a pass of samples and one back, which forms no gradient of weights.
    """
    settings = member.evaluation.refine
    if settings is None:
        return 0.0
    once, each = forward_macs(member, counts.pixels)
    model = member.model
    own = model.inference_model.mappings(model.layers, counts.pixels, shared=model.shares_top_down)
    layers = sum(not mapping.per_sample for mapping in own)
    runs = len(refinement.runs_of(layers))
    samples = runs * 2.0 * settings.steps * refinement.SAMPLES + (runs + 1) * member.evaluation.iw_samples
    return min(settings.images, counts.test) * (once + samples * each)


def probe_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's linear probes, roughly; 0 without any: q(z|x) of the images, draws where its means
    take them, and fits.
    """
    settings, model = member.evaluation.probe, member.model
    if settings is None:
        return 0.0
    own = list(model.inference_model.mappings(model.layers, counts.pixels, shared=False))
    widths = [layer.units for layer in model.layers]
    every = (*own, *mappings_of(model.flows, widths, own))
    image = sum(mapping.macs * (probing.SAMPLES if mapping.per_sample else 1) for mapping in every)
    moved, move = moved_units(model.flows, widths, own)
    image += probing.SAMPLES * probing.DRAWS * (move + moved * probing.PER_UNIT)
    dataset = DATASETS[member.data.dataset]
    labels = settings.counts(member.data.distinct(counts.train, dataset.counts))
    classes = dataset.classes or 10
    fits = sum(probing.fit_macs(count, layer.units, classes) for count in labels for layer in model.layers)
    return (max(labels) + counts.test) * image + fits


def evaluation_parts(member: MemberSpec, counts: ImageCounts) -> dict[str, float]:
    """Multiply-adds of the parts of a member's final evaluation, in their order; 0 for those that it does not have."""
    return {
        "bounds": bound_macs(member, counts),
        "ais": ais_macs(member, counts),
        "refine": refine_macs(member, counts),
        "probe": probe_macs(member, counts),
    }


def evaluation_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's final evaluation."""
    return sum(evaluation_parts(member, counts).values())


def further_samples(member: MemberSpec, counts: ImageCounts) -> float:
    """The importance samples of one image that cost as many multiply-adds as all of the final evaluation but its
    bounds.
    """
    _, each = forward_macs(member, counts.pixels)
    return (evaluation_macs(member, counts) - bound_macs(member, counts)) / each


def watched_images(member: MemberSpec, counts: ImageCounts) -> int:
    """Images that points of the curve are evaluated on: the validation set, or without one the test set."""
    return member.data.validation or counts.test


def curve_images(member: MemberSpec, images: int) -> int:
    """Of how many of so many images the bounds of a point of the curve are."""
    return min(member.evaluation.curve_images or images, images)


def curve_samples(member: MemberSpec, images: int) -> int:
    """Samples, over images, that a point of the curve takes where there are so many images to evaluate it on."""
    shown = curve_images(member, images)
    return shown * member.evaluation.curve_iw_samples + (images * UNIT_SAMPLES if shown < images else 0)


def macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's whole life, for comparing members before anything is measured."""
    return training_macs(member, counts) + evaluation_macs(member, counts)


def steps_per_epoch(member: MemberSpec, images: int) -> int:
    """Optimization steps of one epoch over so many training images."""
    size = member.training.batch_size
    return images // size if member.training.last_batch == "drop" else -(-images // size)

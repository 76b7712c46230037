"""How large a model is and what a step costs, from the spec alone: for plans that load no torch."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hvae_spec import annealing, probing, refinement
from hvae_spec.spec import auxiliary
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.flow import mappings_of, moved_units
from hvae_spec.spec.choices.observation import described
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.mapping import Mapping
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.skip import joined, joined_units

UNIT_SAMPLES = 25
"""Samples per image for the KL of units at a point of the curve whose bounds are of fewer images than all: on
hundreds of images their error is well below the criterion of an active unit, 0.01."""


def mappings(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    """All mappings of a member, for images of so many pixels: those of its inference model, those of the flows after
    it, those of its auxiliary variable, then those of its generative model.
    """
    yield from inference(member, pixels)
    yield from _generative(member, pixels)
    yield from _classifier(member, pixels)


def inference(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    """The mappings of a member's inference model, without those that it shares with the generative model."""
    own = list(_of_q(member, pixels, shared=member.model.shares_top_down))
    yield from own
    model = member.model
    # An inference model's first mappings are those into z_1 ... z_L.
    yield from mappings_of(model.flows, [layer.units for layer in model.layers], own)
    if model.auxiliary is not None:
        yield from auxiliary.mappings(model.auxiliary, model.layers, pixels)


def _of_latents(model: ModelSpec, pixels: int, *, shared: bool) -> Iterator[Mapping]:
    """The mappings of the inference model itself."""
    if model.auxiliary is None:
        return model.inference_model.mappings(model.layers, pixels, shared=shared)
    inputs = pixels + model.auxiliary.units
    return auxiliary.given_a(model.inference_model.mappings(model.layers, inputs, shared=shared))


def _of_q(member: MemberSpec, pixels: int, *, shared: bool) -> Iterator[Mapping]:
    """The mappings of a member's inference model but for flows. That into z_L takes y, where there is one."""
    model, y = member.model, class_units(member)
    for place, mapping in enumerate(_of_latents(model, pixels, shared=shared), start=1):
        if member.classes and place == model.depth:
            inputs, *others = mapping.widths
            copies = 1 if mapping.per_sample else member.classes
            yield replace(mapping, name=_with_y(mapping.name), widths=(inputs + y, *others), copies=copies)
        else:
            yield mapping


def _with_y(name: str) -> str:
    """`q(z_2|z_1, y)` of `q(z_2|z_1)`, and `d_2(y)` of `d_2`."""
    return f"{name[:-1]}, y)" if name.endswith(")") else f"{name}(y)"


def class_units(member: MemberSpec) -> int:
    """Units of a one-hot y: none of a single class, which says nothing."""
    return member.classes if member.classes > 1 else 0


def _classifier(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    """q(y|x), where there are several classes."""
    model = member.model
    if model.classes is not None and member.classes > 1:
        is_below = model.inference_model.gives_top and model.depth > 1
        inputs = model.layers[-2].units if is_below else pixels
        widths = (inputs, *model.classes.mlp, member.classes)
        yield Mapping("q(y|x)", widths, normalized_head=False, per_sample=False)


def _generative(member: MemberSpec, pixels: int) -> Iterator[Mapping]:
    model, y = member.model, class_units(member)
    skip, depth = model.generative_skips, model.depth
    earlier = model.sweeps - 1 if model.shares_top_down else 0
    for index, (layer, above) in enumerate(pairwise(model.layers), start=1):
        takes_top = skip or index + 1 == depth
        inputs = joined_units(model.layers[index:], skip=skip) + y * takes_top
        given = joined(index + 1, depth, index + 1, skip=skip) + ", y" * (takes_top and bool(y))
        widths = (inputs, *above.down, 2 * layer.units)
        yield Mapping(f"p(z_{index}|{given})", widths, normalized_head=True, per_sample=True, earlier=earlier)
    top = f"p(z_{model.depth})"
    yield from model.prior_model.mappings(model.prior_settings, model.layers[-1].units, pixels, top)
    first, observation = model.layers[0], described(model.observation)
    takes_top = skip or depth == 1
    yield Mapping(
        f"p(x|{joined(1, depth, 1, skip=skip)}{', y' * (takes_top and bool(y))})",
        (joined_units(model.layers, skip=skip) + y * takes_top, *first.down, observation.heads * pixels),
        normalized_head=False,
        per_sample=True,
        own_parameters=observation.own_parameters,
    )


def parameters(member: MemberSpec, pixels: int) -> int:
    """Number of trained parameters of one member."""
    return sum(mapping.parameters(member.model.normalization) for mapping in mappings(member, pixels))


def forward_macs(member: MemberSpec, pixels: int) -> tuple[int, int]:
    """Multiply-adds of a forward pass that are done once per image, and those done once per sample of an image."""
    once = sum(mapping.macs * mapping.passes(0) for mapping in mappings(member, pixels))
    each = sum(mapping.macs for mapping in mappings(member, pixels) if mapping.per_sample)
    return once, each


def training_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's training; a backward pass costs two forward ones, and one forward one through weights
    that are constants.
    """
    once, each = forward_macs(member, counts.pixels)
    images, samples = images_of_epoch(member, counts.train), samples_in_training(member)
    once = classifier_macs(member, counts.pixels) if member.classifies_alone else once
    again = 2.0 * _again(member, counts.pixels) if ESTIMATORS[member.objective.estimator].is_path else 0.0
    of_images = images * (3.0 * (once + samples * each) + samples * again)
    of_pseudo_inputs = 3.0 * steps_per_epoch(member, counts.train) * member.model.pseudo_inputs * once
    return member.training.epochs * (of_images + of_pseudo_inputs)


def classifier_macs(member: MemberSpec, pixels: int) -> int:
    """Multiply-adds of q(y|x) of an image, with what it takes of x."""
    model = member.model
    below = list(_of_q(member, pixels, shared=False))[: model.depth - 1] if model.inference_model.gives_top else []
    return sum(mapping.macs for mapping in (*below, *_classifier(member, pixels)))


def samples_in_training(member: MemberSpec) -> int:
    """Samples of an image in a step: those of the bound, for every class; none where q(y|x) alone is trained."""
    samples = member.objective.mc_samples * member.objective.iw_samples
    return 0 if member.classifies_alone else max(1, member.classes) * samples


def images_of_step(member: MemberSpec) -> int:
    """Images of a full batch, labeled ones that a step adds among them."""
    added = member.data.labeled_batch if member.data.adds_labeled else 0
    return (0 if added and member.classifies_alone else member.training.batch_size) + added


def images_of_epoch(member: MemberSpec, images: int) -> int:
    """Images that the steps of an epoch over so many training images go through."""
    if not member.data.adds_labeled:
        return images
    added = steps_per_epoch(member, images) * member.data.labeled_batch
    return added + (0 if member.classifies_alone else member.data.unlabeled(images))


def _again(member: MemberSpec, pixels: int) -> int:
    """Multiply-adds per sample of q(z|x) where the samples have been drawn already."""
    model = member.model
    every = _of_latents(model, pixels, shared=False)
    return sum(mapping.macs for mapping in every if mapping.per_sample)


def evaluated_images(member: MemberSpec, counts: ImageCounts) -> int:
    """Images on which the final evaluation takes the bound: the test set, what of it is drawn again, and the validation
    set.
    """
    redraws = member.redraws
    drawn_again = 0 if redraws is None else redraws.draws * min(redraws.images, counts.test)
    return counts.test + drawn_again + member.data.validation


def bound_macs(member: MemberSpec, counts: ImageCounts) -> float:
    """Multiply-adds of a member's final bounds (`evaluated_images`). Where q(y|x) alone is trained there are none, and
    images are classified.
    """
    once, each = forward_macs(member, counts.pixels)
    if member.classifies_alone:
        return float((counts.test + member.data.validation) * classifier_macs(member, counts.pixels))
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
    own = list(_of_latents(model, counts.pixels, shared=False))
    widths = [layer.units for layer in model.layers]
    every = (*own, *mappings_of(model.flows, widths, own))
    image = sum(mapping.macs * mapping.passes(probing.SAMPLES) for mapping in every)
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
    images = member.data.unlabeled(images)
    size = member.training.batch_size
    return images // size if member.training.last_batch == "drop" else -(-images // size)

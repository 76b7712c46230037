"""Inconsistencies: valid values that contradict each other or the data, found before anything runs."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hvae_spec.errors import MachineError, UserError, shorten
from hvae_spec.spec.base import SMALLEST, Loc
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.choices.prior import name_and_settings
from hvae_spec.spec.data import DataSpec
from hvae_spec.spec.equivalence import plainest
from hvae_spec.spec.experiment import AXIS_NAME, Experiment, MemberSpec, content_hashes
from hvae_spec.spec.grid import TRIAL, Cell, Combination, count_cells, parse_path, same
from hvae_spec.spec.labels import GRID, LABELS
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import Cycles, ObjectiveSpec
from hvae_spec.spec.training import TrainingSpec

CountImages = Callable[[DataSpec], ImageCounts]
"""Counts the images that are available to a spec, without reading them. Raises UserError: a user's own images cannot be
counted. `hvae_spec.data.counts.stated_counts` is one; the language itself knows no files."""

MAX_CELLS = 10_000
MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Inconsistency:
    """A contradiction in a spec: where it stands, what is wrong, and what would fix it."""

    path: Loc
    message: str
    remedy: str
    reads: tuple[str, ...] = ()
    """Dotted paths of the fields that contradict each other: if one is faulty in itself, nothing can be said."""
    stops: bool = False
    """Whether it leaves unsaid which cells the grid has, so that they cannot be looked at."""


def member_problems(member: MemberSpec, count_images: CountImages) -> Iterator[Inconsistency]:
    """Contradictions within one resolved spec, and between it and the images that are there."""
    data = member.data
    found = list(_own_images_problems(data))
    available = None
    if not data.is_own or data.own is not None:
        try:
            available = count_images(data)
        except MachineError:
            raise  # the spec is as it should be
        except UserError as error:
            # What would fix it depends on what is wrong with the file, and is part of the message.
            found.append(Inconsistency(("data", "own", "file"), str(error), "", ("data.own",)))
    if available is not None and not found:
        found += _empty_sets(data, available)
        found += [] if found else _validation_problems(data, available)
        if not found:
            found += _data_problems(data, available)
            found += _measured_images_problems(member, data.limit(available).test)
            found += _probe_problems(member, data.limit(available).train)
            found += _training_problems(member, data.limit(available).train)
            found += _pseudo_input_problems(member.model, data.limit(available).train)
    yield from found
    yield from _observation_problems(member)
    yield from _flow_problems(member)
    yield from _top_down_problems(member)
    yield from _skip_problems(member.model)
    yield from _prior_problems(member.model)
    yield from _unit_problems(member)


def _own_images_problems(data: DataSpec) -> Iterator[Inconsistency]:
    """Contradictions in what a spec says of a user's own images."""
    if not data.is_own:
        return
    if data.own is None:
        yield Inconsistency(
            ("data", "dataset"),
            "dataset: own says nothing of which images",
            "data.own beside it, with their name, file and range",
            ("data.dataset", "data.own"),
        )
        return
    if data.own.name in DATASETS:
        yield Inconsistency(
            ("data", "own", "name"),
            f"{data.own.name} is the name of another data set",
            "a name of its own",
            ("data.own.name",),
        )
    low, high = data.own.range
    if math.isinf(high - low):
        yield Inconsistency(
            ("data", "own", "range"),
            f"a range from {low:g} to {high:g} is wider than any number",
            "the smallest and then the largest value that a pixel can have",
            ("data.own.range",),
        )
    if low >= high:
        yield Inconsistency(
            ("data", "own", "range"),
            f"a range from {low:g} to {high:g} holds no values",
            "the smallest and then the largest value that a pixel can have",
            ("data.own.range",),
        )


def _empty_sets(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    """Training and test sets without a single image, with which nothing can be done."""
    train, test = available.train, available.test
    for what, there in (("training", train), ("test", test)):
        if not there:
            yield Inconsistency(
                ("data", "own", "file") if data.is_own else ("data", "dataset"),
                f"{data.name} has no {what} images ({train} training and {test} test images)",
                "two images at least, of which every fifth, the first one first, is a test image where there is no "
                "test set"
                if data.is_own
                else "files that hold both",
                ("data.dataset", "data.own"),
            )


def _validation_problems(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    """A validation set that is larger than the distributor's, or that leaves no training image."""
    own, asked = DATASETS[data.dataset].mixed_with, data.validation
    if asked > own > 0:
        message, most = f"{asked} validation images, but {data.name} has only {own}", own
    elif own == 0 and asked >= available.train:
        message = (
            f"a validation set of {asked} images leaves none of the {available.train} training images of {data.name}"
        )
        most = available.train - 1
    else:
        return
    remedy = f"at most {most}, or 0 for no validation set" if most else "0: no validation set"
    yield Inconsistency(("data", "validation"), message, remedy, ("data.dataset", "data.own", "data.validation"))


def _data_problems(data: DataSpec, available: ImageCounts) -> Iterator[Inconsistency]:
    offered = data.offered(available)
    beside = f" beside its {data.validation} validation images" if data.validation else ""
    for key, asked, there in (
        ("train_images", data.train_images, offered.train),
        ("test_images", data.test_images, offered.test),
    ):
        if asked is not None and asked > there:
            yield Inconsistency(
                ("data", key),
                f"{key} is {asked}, but {data.name} has only {there}{beside if key == 'train_images' else ''}",
                f"at most {there}, or leave {key} out to use all",
                ("data.dataset", f"data.{key}", "data.validation"),
            )


def _observation_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """An observation model of other numbers than a data set holds."""
    data, observation = member.data, member.model.observation_name
    if data.is_own and data.own is None:
        return
    x = OBSERVATIONS[observation].x
    if DATASETS[data.dataset].binary and x is not X.BINARY:
        fault, fit = "zeros and ones", {X.BINARY}
    elif data.levels is None and x is X.GRAY:
        fault, fit = "intensities without levels", {*X} - {X.GRAY}
    else:
        return
    others = " or ".join(name for name in OBSERVATIONS if OBSERVATIONS[name].x in fit)
    yield Inconsistency(
        ("model", "observation"),
        f"{data.name} holds {fault}, of which a {observation} observation is no model",
        f"observation: {others}, or another data set",
        ("data.dataset", "data.own", "model.observation"),
    )


def _measured_images_problems(member: MemberSpec, there: int) -> Iterator[Inconsistency]:
    """Annealed importance sampling or a refinement of more test images than are in use."""
    evaluation = member.evaluation
    for key, words, asked in (
        ("ais", "annealed importance sampling", evaluation.ais),
        ("refine", "a refinement", evaluation.refine),
    ):
        if asked is not None and asked.images > there:
            yield Inconsistency(
                ("evaluation", key, "images"),
                f"{asked.images} images for {words} of {there} test images",
                f"at most {there}",
                (f"evaluation.{key}.images", "data.test_images", "data.dataset", "data.own"),
            )


def _probe_problems(member: MemberSpec, there: int) -> Iterator[Inconsistency]:
    """A linear probe without classes, with more labels than training images, or with too few for the classes."""
    probe, data = member.evaluation.probe, member.data
    if probe is None:
        return
    classes = DATASETS[data.dataset].classes
    reads = ("evaluation.probe", "data.dataset", "data.own")
    if classes == 0:
        yield Inconsistency(
            ("evaluation", "probe"),
            f"a probe of classes, of which the images of {data.name} have none",
            "probe: null, or a data set with classes",
            reads,
        )
        return
    for place, count in enumerate(probe.labels):
        if count != "all" and count > there:
            message = f"{count} labels for the probe of {there} training images"
            path = ("evaluation", "probe", "labels", place)
            yield Inconsistency(path, message, f"at most {there}, or all", (*reads, "data.train_images"))
        elif count != "all" and classes is not None and count < 2 * classes:
            message = f"{count} labels for the probe of {classes} classes"
            remedy = f"at least two for each class, {2 * classes}"
            yield Inconsistency(("evaluation", "probe", "labels", place), message, remedy, reads)


def _training_problems(member: MemberSpec, train: int) -> Iterator[Inconsistency]:
    model, objective, training = member.model, member.objective, member.training
    yield from _objective_problems(model.depth, objective, training.epochs, ("objective",), "training")
    first = training.first_phase
    if first is not None:
        yield from _objective_problems(model.depth, first, first.epochs, ("training", "first_phase"), "the first phase")
    yield from _optimizer_problems(training)
    yield from _learning_rate_problems(training)
    yield from _stopping_problems(member)
    if model.normalization.of_batch and not ESTIMATORS[objective.estimator].for_batch_norm:
        yield Inconsistency(
            ("objective", "estimator"),
            f"the estimator {objective.estimator} with batch normalization, with which its gradient is off by as much "
            "as its size: it weighs every sample apart, and the normalization mixes them",
            "model.norm: layer or none, or another estimator",
            ("objective.estimator", "model.batch_norm", "model.norm"),
        )
    yield from _single_unit_problems(model)
    batch_size = training.batch_size
    if model.normalization.of_batch and batch_size == 1:
        yield Inconsistency(
            ("training", "batch_size"),
            "batch normalization needs more than one image in a batch",
            "a batch_size of 2 or more, or model.norm: layer or none",
            ("training.batch_size", "model.batch_norm", "model.norm"),
        )
    elif model.normalization.of_batch and training.last_batch == "keep" and train % batch_size == 1:
        yield Inconsistency(
            ("training", "last_batch"),
            f"the last batch of an epoch would hold a single image ({train} = 1 modulo {batch_size}), "
            "which batch normalization cannot take",
            "last_batch: drop, or another batch_size",
            (
                "training.batch_size",
                "training.last_batch",
                "model.batch_norm",
                "model.norm",
                "data.dataset",
                "data.train_images",
                "data.validation",
            ),
        )
    if training.last_batch == "drop" and batch_size > train:
        yield Inconsistency(
            ("training", "batch_size"),
            f"a batch of {batch_size} images is larger than the training set ({train} images)",
            f"a batch_size of at most {train}",
            ("training.batch_size", "training.last_batch", "data.dataset", "data.train_images", "data.validation"),
        )


def _prior_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """A prior of z_L that the rest of the model gives no room for."""
    prior, name = model.prior_model, name_and_settings(model.prior)[0]
    if prior.needs_encoder and model.depth > 1 and not model.inference_model.gives_top:
        others = " or ".join(other for other in INFERENCES if INFERENCES[other].gives_top)
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} is made of q(z_{model.depth}|x), which {model.inference} inference does not have: its "
            f"q(z_{model.depth}|...) depends on a sample of the layers below",
            f"inference: {others}, a single layer, or another prior",
            ("model.prior", "model.inference", "model.layers"),
        )
    if prior.needs_encoder and model.flows[-1] is not None:
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} takes the density of q(z_{model.depth}|x) at any z_{model.depth}: with a flow of it, "
            "that is the flow's inverse for every component",
            f"no flow of z_{model.depth}, or another prior",
            ("model.prior", "model.flow", "model.layers"),
        )
    units = model.layers[-1].units
    if units < prior.least_units:
        yield Inconsistency(
            ("model", "prior"),
            f"the prior {name} of {units} unit{'s' * (units > 1)}: it is one of {prior.least_units} or more",
            f"units: {prior.least_units} or more in z_{model.depth}, or another prior",
            ("model.prior", "model.layers"),
        )


def _pseudo_input_problems(model: ModelSpec, train: int) -> Iterator[Inconsistency]:
    """More pseudo-inputs than there are training images that they start at."""
    if model.pseudo_inputs > train:
        yield Inconsistency(
            ("model", "prior"),
            f"{model.pseudo_inputs} pseudo-inputs start at different training images, of which there are {train}",
            f"at most {train}, or more training images",
            ("model.prior", "data.dataset", "data.own", "data.train_images", "data.validation"),
        )


def _unit_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """A floor of every unit's KL where a layer has one KL as a whole."""
    model, first = member.model, member.training.first_phase
    whole = [f"z_{place}" for place, factorizes in enumerate(model.factorizes, start=1) if not factorizes]
    phases: list[tuple[Loc, ObjectiveSpec]] = [(("objective",), member.objective)]
    phases += [] if first is None else [(("training", "first_phase"), first)]
    for path, objective in phases:
        if whole and objective.free_bits is not None and objective.free_bits.per == "unit":
            yield Inconsistency(
                (*path, "free_bits"),
                f"free bits per unit, and the KL of {' and '.join(whole)} is of the layer as a whole: its p or q is no "
                "product over units",
                "per: layer",
                (".".join(map(str, path)) + ".free_bits", "model.prior", "model.flow", "model.layers"),
            )


def _single_unit_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """Hidden layers of one unit, of which a normalization over units leaves nothing."""
    if not model.normalization.norm.of_units:
        return
    for index, layer in enumerate(model.layers):
        widths = {"mlp": layer.mlp, "mlp_down": layer.mlp_down, "mlp_top_down": layer.mlp_top_down}
        for field, each in widths.items():
            if each is not None and 1 in each:
                yield Inconsistency(
                    ("model", "layers", index, field),
                    f"{model.normalization.norm.words.lower()} of a hidden layer of one unit, which is constant then",
                    "widths of 2 or more, or another model.norm",
                    ("model.layers", "model.norm"),
                )


def _objective_problems(
    depth: int, objective: ObjectiveSpec, epochs: int, section: Loc, which: str
) -> Iterator[Inconsistency]:
    """Contradictions in what is maximized.

    Args:
        depth: number of layers.
        objective: of the training, or of the first phase.
        epochs: how many of them it has.
        section: where it stands.
        which: `training`, or `the first phase`.

    """
    path = ".".join(map(str, section))
    length = "training.epochs" if section == ("objective",) else f"{path}.epochs"

    def problem(field: str, message: str, remedy: str, *others: str) -> Inconsistency:
        return Inconsistency((*section, field), message, remedy, (f"{path}.{field}", *others))

    warm_up, estimator = objective.warm_up, ESTIMATORS[objective.estimator]
    ends = warm_up if isinstance(warm_up, int) else warm_up.over
    final = f"{objective.beta:g}" if isinstance(objective.beta, float) else "its final value"
    if ends > epochs and isinstance(warm_up, Cycles):
        yield problem(
            "warm_up",
            f"{warm_up.cycles} cycles of warm-up over {ends} epochs are longer than {which} ({epochs} epochs)",
            f"over: at most {epochs}, or {length} of at least {ends}",
            length,
        )
    elif ends > epochs:
        yield problem(
            "warm_up",
            f"warm-up of {ends} epochs is longer than {which} ({epochs} epochs): beta would never reach {final}",
            f"a warm_up of at most {epochs}, or {length} of at least {ends}",
            length,
        )
    if isinstance(warm_up, Cycles) and (warm_up.over % warm_up.cycles or warm_up.length < 2):
        yield problem(
            "warm_up",
            f"{warm_up.over} epochs make no {warm_up.cycles} cycles of two whole epochs or more",
            f"over: a multiple of {warm_up.cycles}, {max(2, warm_up.length) * warm_up.cycles} say",
        )
    if isinstance(objective.beta, tuple) and len(objective.beta) != depth:
        yield problem(
            "beta",
            f"{len(objective.beta)} weights of the KL for {depth} layer{'s' * (depth > 1)}",
            "a weight for every layer of model.layers (a smaller depth keeps the lowest), or one number",
            "model.layers",
            "grid.depth",
        )
    elif isinstance(objective.layer_weights, tuple) and not estimator.for_layer_weights:
        yield problem(
            "beta",
            f"a weight for every layer with the estimator {objective.estimator}, which is derived for one weight",
            "one number, or another estimator",
            f"{path}.estimator",
        )
    if objective.iw_samples > 1:
        samples = f"{objective.iw_samples} importance samples"
        if objective.free_bits is not None:
            yield problem(
                "free_bits",
                f"free bits with {samples}: the floor is one of the KL, which their bound has no term for",
                "iw_samples: 1, or free_bits: null",
                f"{path}.iw_samples",
            )
        if not estimator.for_importance_weights:
            unbiased = [name for name in ESTIMATORS if ESTIMATORS[name].for_importance_weights]
            yield problem(
                "estimator",
                f"the estimator {objective.estimator} with {samples}, for which it is biased",
                f"iw_samples: 1, or estimator: {' or '.join(unbiased)}",
                f"{path}.iw_samples",
            )
        if objective.term is not None and estimator.is_path:
            yield problem(
                "estimator",
                f"the estimator {objective.estimator} with {samples} and a term of an extension: its weights are "
                "derived for the log weights alone",
                "estimator: reparameterized, iw_samples: 1, or term: null",
                f"{path}.iw_samples",
                f"{path}.term",
            )
        if objective.elbo_share and estimator.is_path:
            yield problem(
                "elbo_share",
                f"a share of the ELBO with the estimator {objective.estimator}, whose weights are those of the bound "
                f"of {samples} alone",
                "elbo_share: 0, or estimator: reparameterized",
                f"{path}.estimator",
                f"{path}.iw_samples",
            )


def _stopping_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """Early stopping without a validation set, or without an evaluation that counts."""
    training, every = member.training, member.evaluation.every
    if training.early_stopping is None:
        return
    path, reads = ("training", "early_stopping"), ("training.early_stopping", "data.validation", "evaluation.every")
    if not member.data.validation:
        message = "early stopping without a validation set: data.validation is 0"
        yield Inconsistency(path, message, "a data.validation of 1 or more, or early_stopping: null", reads)
        return
    if every is None:
        message = "early stopping without evaluations during training: evaluation.every is null"
        yield Inconsistency(path, message, "an evaluation.every of 1 or more, or early_stopping: null", reads)
        return
    first = training.first_phase
    phases = [(member.objective.warm_epoch, training.epochs, "the training")]
    phases += [] if first is None else [(first.warm_epoch, first.epochs, "the first phase")]
    for warm, epochs, which in phases:
        last = epochs // every * every
        if last < max(1, warm):
            yield Inconsistency(
                path,
                f"early stopping without an evaluation that counts: none of {which} (every {every} of {epochs} epochs) "
                f"comes after the end of warm-up ({warm} epochs)",
                "more epochs, a smaller evaluation.every, a shorter warm_up, or early_stopping: null",
                (*reads, "training.epochs", "training.first_phase", "objective.warm_up"),
            )


def _optimizer_problems(training: TrainingSpec) -> Iterator[Inconsistency]:
    """Settings of the optimizer that contradict each other."""
    chosen = training.optimizer
    if found := chosen.settings.contradiction():
        path = ("training", "optimizer", chosen.choice, *found.path)
        yield Inconsistency(path, found.message, found.remedy, ("training.optimizer",))


def _learning_rate_problems(training: TrainingSpec) -> Iterator[Inconsistency]:
    """A schedule that training is too short for, and a learning rate that falls until float32 takes it for 0, so that
    the rest of the training does nothing.
    """
    decay, lr, chosen = training.lr_decay, training.optimizer.settings.lr, training.schedule
    if chosen is not None and (never := chosen.unreached(training.epochs)):
        yield Inconsistency(
            ("training", "schedule", *never.path),
            never.message,
            never.remedy,
            ("training.schedule", "training.epochs"),
        )
        return
    section, path = (decay, "lr_decay") if chosen is None else (chosen, "schedule")
    last = None if section is None else section.vanishes(lr)
    if last is not None and training.epochs > last:
        yield Inconsistency(
            ("training", path),
            f"the learning rate is below {SMALLEST:.9g} after epoch {last}, where float32 loses it",
            f"a factor nearer 1, fewer multiplications, or at most {last} epochs"
            if chosen is None
            else f"a slower fall, one that ends above 0, or at most {last} epochs",
            ("training.optimizer", f"training.{path}", "training.epochs"),
        )


def _flow_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """What needs log q of a sample whatever it came from, where a layer of q has a flow."""
    flowed = [place for place, flow in enumerate(member.model.flows, start=1) if flow is not None]
    if not flowed:
        return
    first = member.training.first_phase
    sections: list[tuple[Loc, ObjectiveSpec]] = [(("objective",), member.objective)]
    sections += [] if first is None else [(("training", "first_phase"), first)]
    which, flows = f"z_{flowed[0]}", ("model.flow", "model.layers")
    if not member.model.inference_model.takes_flows:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].takes_flows)
        yield Inconsistency(
            ("model", "inference"),
            f"{member.model.inference} inference takes no flows, and {which} has one",
            f"inference: {others}, or model.flow: none",
            ("model.inference", *flows),
        )
    for section, objective in sections:
        path = ".".join(map(str, section))
        if ESTIMATORS[objective.estimator].is_path:
            plain = " or ".join(name for name in ESTIMATORS if not ESTIMATORS[name].is_path)
            yield Inconsistency(
                (*section, "estimator"),
                f"the estimator {objective.estimator} with a flow of {which}: it takes log q once more with constant "
                "weights, and with them the inverse of the flow",
                f"estimator: {plain}, or model.flow: none",
                (f"{path}.estimator", *flows),
            )


def _top_down_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    model = member.model
    described = INFERENCES[model.inference]
    has_path = described.top_down and described.can_share
    if model.share_top_down and not has_path:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].top_down and INFERENCES[name].can_share)
        yield Inconsistency(
            ("model", "share_top_down"),
            f"{model.inference} inference has no top-down path to share with the generative model"
            if not described.top_down
            else f"the top-down mappings of {model.inference} inference take the evidence of x too, so that they are "
            "none of the generative model's",
            f"inference: {others}, or share_top_down: false",
            ("model.inference", "model.share_top_down"),
        )
    if model.layers[0].mlp_top_down is not None:
        yield Inconsistency(
            ("model", "layers", 0, "mlp_top_down"),
            "there is no top-down inference mapping out of z_1",
            "mlp_top_down on layers above the first only; mlp_down sets the widths of p(x|z_1)",
            ("model.layers",),
        )
    for index, layer in enumerate(model.layers[1:], start=1):
        if has_path and model.share_top_down and layer.top_down != layer.down:
            yield Inconsistency(
                ("model", "layers", index, "mlp_top_down"),
                f"a shared top-down path has the generative mapping's widths {list(layer.down)}, "
                f"not {list(layer.top_down)}",
                f"mlp_top_down: {list(layer.down)}, or leave it out, or share_top_down: false",
                ("model.layers", "model.inference", "model.share_top_down"),
            )


def _skip_problems(model: ModelSpec) -> Iterator[Inconsistency]:
    """Skip connections that inference has not, or has where the mapping that it shares has none."""
    described = INFERENCES[model.inference]
    if model.skip == "both" and described.with_skip() is None:
        yield Inconsistency(
            ("model", "skip"),
            f"{model.inference} inference has no skip connections",
            "skip: generative or none, or another inference",
            ("model.skip", "model.inference"),
        )
    if model.skip == "generative" and model.share_top_down and described.top_down and model.depth > 1:
        yield Inconsistency(
            ("model", "skip"),
            "a shared top-down path with skip connections of the generative model alone: its mappings would take other "
            "latents in inference",
            "skip: both, or share_top_down: false",
            ("model.skip", "model.inference", "model.share_top_down"),
        )


def grid_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within the grid that can be seen before cells are resolved."""
    grid = experiment.grid
    yield from _repeated(("grid", "depth"), grid.depth or (), "depth")
    yield from _repeated(("grid", "seeds"), grid.first_seeds, "seed")
    yield from _stages_problems(experiment)
    yield from _search_problems(experiment)
    for axis, values in grid.value_axes.items():
        yield from _repeated(("grid", "axes", axis), values, "value")
    for axis, levels in grid.level_axes.items():
        yield from _axis_name_problems(axis)
        yield from _alike(("grid", "axes", axis), {name: _as_seen(name) for name in levels}, "look alike")
    yield from _alike(("grid", "variants"), {name: _as_seen(name) for name in grid.variants}, "look alike")
    profiles = {name: name.lower() for name in experiment.profiles}
    yield from _alike(("profiles",), profiles, "would share a results folder where case does not count")
    count, size = count_cells(experiment), count_cells(experiment) * grid.most_seeds
    if count > MAX_CELLS or size > MAX_MEMBERS:
        yield Inconsistency(
            ("grid",),
            f"the grid has {count:,} cells and {size:,} members",
            f"at most {MAX_CELLS:,} cells and {MAX_MEMBERS:,} members in one file",
            stops=True,
        )


def _stages_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within two stages of seeds, and between them and the grid."""
    grid, stages = experiment.grid, experiment.grid.stages
    if stages is None:
        return
    if stages.at_most < stages.first:
        yield Inconsistency(
            ("grid", "seeds", "at_most"),
            f"at most {stages.at_most} seeds are fewer than the {stages.first} of the first stage",
            f"at_most: {stages.first} or more, or a smaller `from`",
        )
    count = count_cells(experiment) // len(grid.depth or (0,))
    if stages.of == "effect" and count == 1:
        yield Inconsistency(
            ("grid", "seeds", "of"),
            "an effect is the difference between two variants, and the grid has only one",
            "of: cell, or grid.variants that differ in what is to be compared",
        )


def _axis_name_problems(axis: str) -> Iterator[Inconsistency]:
    """What is wrong with the name of an axis with named levels."""
    if axis in (*LABELS, GRID):
        yield Inconsistency(
            ("grid", "axes", axis), f"{axis} is what every member is called by already", "another name for the axis"
        )
    elif not re.fullmatch(AXIS_NAME, axis):
        yield Inconsistency(
            ("grid", "axes", axis),
            f"{shorten(repr(axis), 80)} is no name for an axis with named levels, each of which names the fields "
            "that it sets",
            "at most 60 letters, digits and _, a letter first, such as width: {narrow: {model.layers: ...}}",
        )


def _search_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within a search, and between it and the rest of the spec."""
    search = experiment.search
    if search is None:
        return
    if experiment.grid.stages is not None:
        message = "seeds in two stages are for an ablation, whose cells are known before it runs"
        yield Inconsistency(("grid", "seeds"), message, "a list of seeds, or no search", ("grid.seeds", "search"))
    if not experiment.data.validation:
        message = "a search ranks by validation images, and there are none"
        yield Inconsistency(("search",), message, "data.validation: the last so many training images", stops=True)
    if TRIAL in experiment.grid.axes:
        message = f"{TRIAL} is the name of the points of the search"
        yield Inconsistency(("grid", "axes", TRIAL), message, "another name", stops=True)
    for path in search.space:
        if path == "training.epochs" or path.split(".")[0] in ("data", "evaluation"):
            message = f"{path}: points are compared after the same training on the same images"
            remedy = "a path into model, objective or training, and not training.epochs"
            yield Inconsistency(("search", "space", path), message, remedy, stops=True)
    found = len(search.points())
    if found < search.trials:
        message = f"the space has {found} different points, and {search.trials} are asked for"
        yield Inconsistency(("search", "trials"), message, f"at most {found}", ("search.space",), stops=True)
    if search.halving is not None and search.halving.first >= experiment.training.epochs:
        message = f"the first rung of {search.halving.first} epochs is the whole training"
        remedy = f"fewer than training.epochs = {experiment.training.epochs}, or halving: null"
        yield Inconsistency(("search", "halving", "from"), message, remedy, ("training.epochs",))


def _as_seen(name: str) -> str:
    """A name as it is seen: accents may be parts of letters or stand after them, and blanks in a row are one."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _alike(path: Loc, names: dict[str, str], trouble: str) -> Iterator[Inconsistency]:
    """Names that share a form with one before them."""
    first: dict[str, str] = {}
    for name, form in names.items():
        if form in first:
            message = f"{first[form]!r} and {name!r} {trouble}"
            yield Inconsistency((*path, name), message, "names that differ in what is seen")
        first.setdefault(form, name)


def _repeated(path: Loc, values: Sequence[Any], word: str) -> Iterator[Inconsistency]:
    seen: dict[str, list[Any]] = {}
    for place, value in enumerate(values):
        # Equal numbers print alike once they are floats, so most pairs need no comparison.
        key = repr(float(value)) if isinstance(value, int | float) and abs(value) < 2**53 else repr(value)
        if any(same(value, other) for other in seen.setdefault(key, [])):
            yield Inconsistency((*path, place), f"{word} {value!r} is listed twice", f"each {word} once")
        seen[key].append(value)


def may_follow_from(inconsistency: Inconsistency, faulty: Sequence[Loc]) -> bool:
    """Whether a contradiction may come only of fields that are faulty in themselves."""
    return any(one[: len(two)] == two[: len(one)] for one in map(parse_path, inconsistency.reads) for two in faulty)


def combination_problems(experiment: Experiment, item: Combination) -> Iterator[Inconsistency]:
    """Contradictions between the grid and the model of one cell."""
    if experiment.grid.depth is not None and 0 < item.layers < item.depth:
        yield Inconsistency(
            ("grid", "depth", experiment.grid.depth.index(item.depth)),
            f"depth {item.depth} is more than the {item.layers} layers of the model",
            f"a depth from 1 to {item.layers}, or more entries in model.layers",
        )
    for source, path, before in item.twice:
        message = f"{path} beside {before}: they are two forms of one field"
        yield Inconsistency(source, message, "one of the two, or one axis with named levels in place of both")


def same_model(cells: list[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Pairs of cells that resolve to one and the same model under two names."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        plain = plainest(cell.member)
        hashes = cell.hashes if plain == cell.member else content_hashes(plain)
        key = hashes.digests(cell.member.seed).evaluation
        if key in seen:
            yield seen[key], cell
        else:
            seen[key] = cell

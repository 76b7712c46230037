"""Spec -> model and batches: what the choices of a spec are in PyTorch.

`hvae_spec.spec` knows no torch and `hvae_spec.nn` no spec. Besides this file, only what trains, evaluates or times
members knows both; `tests/test_house.py` lists these files.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_spec.data.batches import Batches
from hvae_spec.data.dataset import Dataset
from hvae_spec.data.labeled import LabeledBatches
from hvae_spec.errors import UserError
from hvae_spec.nn.auxiliary import Auxiliary
from hvae_spec.nn.flow import FLOWS, MakeFlow
from hvae_spec.nn.gaussian import MAPPINGS, Style
from hvae_spec.nn.hierarchy import Hierarchy, MakeAuxiliary, MakeLikelihood, MakePrior, Trace
from hvae_spec.nn.inference import Layer
from hvae_spec.nn.initialization import initialize
from hvae_spec.nn.likelihood import LIKELIHOODS
from hvae_spec.nn.marginal import Marginal
from hvae_spec.nn.nonlinearity import NONLINEARITIES
from hvae_spec.nn.norm import NORMS
from hvae_spec.nn.objective import ADDED_TERMS, TERMS, Objective, Term
from hvae_spec.nn.prior import PRIORS
from hvae_spec.nn.random import Streams
from hvae_spec.records.provenance import processor
from hvae_spec.spec.choice import ChoiceSection, name_and_settings
from hvae_spec.spec.choices.nonlinearity import name_and_parameters
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import ObjectiveSpec


def hierarchy(member: MemberSpec, pixels: int, members: int = 1) -> Hierarchy:
    """The networks of a spec for M members, not yet initialized."""
    spec = member.model
    chosen = spec.normalization
    make = NORMS[chosen.name]
    norm = None if make is None else partial(make, members, eps=spec.batch_norm_eps, **chosen.settings)
    name, settings = name_and_settings(spec.mapping)
    style = Style(
        members,
        nonlinearity(spec),
        norm,
        spec.variance_floor,
        spec.mean_clip,
        chosen.heads,
        partial(MAPPINGS[name], **settings),
        generative_skips=spec.generative_skips,
        inference_skips=spec.effective_skip == "both",
        sweeps=spec.sweeps,
        classes=member.classes,
        classifier=() if spec.classes is None else spec.classes.mlp,
    )
    layers = [
        Layer(layer.units, layer.mlp, layer.down, layer.top_down, flow(chosen))
        for layer, chosen in zip(spec.layers, spec.flows, strict=True)
    ]
    return Hierarchy(
        style,
        pixels,
        layers,
        inference=spec.inference,
        share_top_down=spec.share_top_down,
        observation=likelihood(member),
        prior=prior(spec),
        auxiliary=auxiliary(spec),
    )


def flow(chosen: str | ChoiceSection | None) -> MakeFlow | None:
    """What makes a chosen flow; None if it is none."""
    name, settings = ("none", {}) if chosen is None else name_and_settings(chosen)
    make = FLOWS[name]
    return None if make is None else partial(make, **settings)


def nonlinearity(spec: ModelSpec) -> Callable[[Tensor], Tensor]:
    """The nonlinearity of a model's MLPs."""
    name, parameters = name_and_parameters(spec.nonlinearity)
    return partial(NONLINEARITIES[name], **parameters) if parameters else NONLINEARITIES[name]


def likelihood(member: MemberSpec) -> MakeLikelihood:
    """What makes p(x|z_1) of a spec. Raises UserError as `observation` does."""
    name, settings = observation(member)
    return partial(LIKELIHOODS[name], **settings)


def prior(spec: ModelSpec) -> MakePrior:
    """What makes p(z_L)."""
    name, _ = name_and_settings(spec.prior)
    return partial(PRIORS[name], **spec.prior_model.arguments(spec.prior_settings))


def auxiliary(spec: ModelSpec) -> MakeAuxiliary | None:
    """What makes the auxiliary variable of q; None if it has none."""
    chosen = spec.auxiliary
    return None if chosen is None else partial(Auxiliary, units=chosen.units, widths=chosen.mlp)


def observation(member: MemberSpec) -> tuple[str, dict[str, Any]]:
    """The name of a spec's observation model and what it must know: its settings, and of a model of gray levels, how
    many there are.

    Raises:
        UserError: it is a model of gray levels, and the images are intensities.

    """
    name, settings = name_and_settings(member.model.observation)
    if OBSERVATIONS[name].x is not X.GRAY:
        return name, settings
    if member.data.levels is None:
        raise UserError(f"{member.data.name} holds intensities without levels, of which {name} is no model")
    return name, {**settings, "levels": member.data.levels}


def terms(spec: ObjectiveSpec) -> tuple[Term, ...]:
    """The terms of the log weight that is trained on."""
    found = (TERMS[name] for name in TERMS)
    return (*found, added_term(spec.term)) if spec.term is not None else tuple(found)


def added_term(chosen: str | ChoiceSection) -> Term:
    """The term that `objective.term` adds."""
    function = ADDED_TERMS[chosen.choice if isinstance(chosen, ChoiceSection) else chosen]
    arguments = (chosen.settings,) if isinstance(chosen, ChoiceSection) else ()

    def added(trace: Trace, beta: Tensor | float) -> Tensor:
        return function(trace, *arguments)

    return added


def objective(
    specs: Sequence[ObjectiveSpec], device: torch.device | str = "cpu", unlabeled_share: float | None = None
) -> Objective:
    """What the members of a pack, of one shape, maximize.

    Args:
        specs: theirs.
        device: where they are.
        unlabeled_share: the share of training images without a label, of members with classes; None: they have none.

    """
    first, shares = specs[0], [spec.elbo_share for spec in specs]
    floors = [spec.free_bits.nats for spec in specs if spec.free_bits is not None]
    return Objective(
        terms(first),
        first.estimator,
        torch.tensor(shares, device=device) if first.iw_samples > 1 and any(shares) else None,
        torch.tensor(floors, device=device) if floors else None,
        "unit" if first.free_bits is None else first.free_bits.per,
        None if unlabeled_share is None else Marginal(unlabeled_share, first.classification_weight),
    )


def initialized(specs: Sequence[MemberSpec], pixels: int, start: Batches | None = None) -> Hierarchy:
    """The networks of a pack of members of one shape, each initialized from its own seed and by its own scheme.

    Initial weights are drawn on the CPU, so they are the same on every device.

    Args:
        specs: the members.
        pixels: D.
        start: their training set. Without it what starts at training images, as a VampPrior does, is not a number.

    """
    model = hierarchy(specs[0], pixels, len(specs))
    singles = []
    for spec in specs:
        single = hierarchy(spec, pixels)
        streams, of_flows, of_classes = (
            Streams([spec.seed]).begin(purpose)
            for purpose in ("initialization", "initialization of flows", "initialization of the classifier")
        )
        one = spec.model
        top_down = one.inference_model.top_down
        initialize(
            single,
            one.initialization,
            one.variance_bias,
            streams.generators,
            top_down=top_down,
            flow_generators=of_flows.generators,
            class_generators=of_classes.generators,
        )
        images = None if start is None or not one.pseudo_inputs else _some_images(start, spec.seed, one.pseudo_inputs)
        single.generative.top.start(streams.generators[0], images)
        singles.append(single.state_dict())
    model.load_state_dict({name: torch.cat([single[name] for single in singles]) for name in singles[0]})
    return model


def _some_images(batches: Batches, seed: int, count: int) -> Tensor:
    """So many different training images as one member sees them, by its own stream, [D, count]."""
    streams = Streams([seed]).begin("pseudo-inputs")
    order = streams.permutations(batches.distinct)[0, :count].to(batches.images.device)
    return batches.observe(batches.images[order].cpu().unsqueeze(0), streams)[0].mT


def select(model: Hierarchy, spec: MemberSpec, m: int) -> Hierarchy:
    """Member `m` of a pack as a model of its own (M = 1), sharing its parameters' memory."""
    with torch.device("meta"):
        single = hierarchy(spec, model.pixels)
    state = {name: value[m : m + 1] for name, value in model.state_dict().items()}
    single.load_state_dict(state, assign=True)
    return single


def with_weights(spec: MemberSpec, pixels: int, weights: Mapping[str, NDArray[Any]]) -> Hierarchy:
    """One model (M = 1) with the parameters that a record holds; its batch-norm statistics are still to come.

    Raises:
        KeyError, RuntimeError: they are the parameters of another model.

    """
    model = hierarchy(spec, pixels)
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({name: torch.from_numpy(weights[name]) for name in names}, strict=False)
    return model


def parameters_of(model: Hierarchy, m: int = 0) -> dict[str, NDArray[Any]]:
    """The parameters of one member of a pack as arrays for its record, as those of a model of its own (M = 1)."""
    return {name: value[m : m + 1].detach().cpu().numpy().copy() for name, value in model.named_parameters()}


def statistics_of(model: Hierarchy) -> dict[str, NDArray[Any]]:
    """The batch-norm statistics of a model as arrays for a record; none without batch normalization."""
    return {name: value.detach().cpu().numpy().copy() for name, value in model.named_buffers()}


def set_statistics(model: Hierarchy, statistics: Mapping[str, NDArray[Any]]) -> None:
    """Put back what `statistics_of` returned. Raises KeyError or RuntimeError: they are those of another model."""
    for name, buffer in model.named_buffers():
        buffer.copy_(torch.from_numpy(statistics[name]))


def batches(spec: MemberSpec, dataset: Dataset, device: torch.device | str = "cpu") -> Batches:
    """The training set as a member's spec draws it.

    Raises:
        DataError: the classes of the images are not those that the spec needs.

    """
    settings: dict[str, Any] = {
        "observation": spec.model.observation_name,
        "redraw": spec.data.effective_redraw,
        "batch_size": spec.training.batch_size,
        "last_batch": spec.training.last_batch,
        "device": device,
    }
    labeled = spec.data.labeled
    if spec.model.classes is None or labeled is None:
        return Batches(dataset, **settings)
    dataset.check_labels(labeled, spec.classes)
    return LabeledBatches(
        dataset,
        labeled=labeled,
        labeled_batch=spec.data.labeled_batch,
        alone=spec.objective.classifies_alone,
        **settings,
    )


def device_name(device: torch.device) -> str:
    """What a GPU, or the processor, is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def pick_device(name: str) -> torch.device:
    """The device of a `--device` flag: `auto` is CUDA where there is one, else the CPU.

    Raises:
        UserError: there is no such device.

    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: expected auto, cpu, cuda or cuda:0 and so on") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r}: expected auto, cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: this machine has no CUDA device that PyTorch {torch.__version__} can use")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device

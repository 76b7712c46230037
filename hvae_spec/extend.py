"""The decorators with which a file of your own adds parts to the language (docs/extensions.md).

For instance::

    from hvae_spec import extend

    @extend.nonlinearity("snake", "a + sin(b * a)**2 / b", parameter="b", default=1.0)
    def snake(a, b):
        return a + torch.sin(b * a) ** 2 / b

A part is registered with what plans and reports must know of it, its description, and with what it computes. It is of
the same kind as the built-in ones, which stand in `hvae_spec.spec.choices`, `hvae_spec.nn` and `hvae_spec.training`.
All of these raise ValueError if the name is taken, or is no word.
"""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeVar

from pydantic import ValidationError, create_model

from hvae_spec.registry import Registry, running_extension
from hvae_spec.spec.base import Count, Fraction, Natural, NonNegative, Positive, Real
from hvae_spec.spec.base import SpecModel as Settings
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.choices.dataset import DATASETS, Dataset, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS, Estimator
from hvae_spec.spec.choices.flow import FLOWS, FlowModel
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel
from hvae_spec.spec.choices.initialization import INITIALIZATIONS, Initialization
from hvae_spec.spec.choices.mapping import MAPPINGS, DeterministicMapping
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, Nonlinearity
from hvae_spec.spec.choices.norm import NORMS, Norm
from hvae_spec.spec.choices.observation import OBSERVATIONS, Observation, X
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.spec.choices.prior import PRIORS, PriorModel
from hvae_spec.spec.choices.schedule import SCHEDULES, LearningRateSchedule, ScheduleSection
from hvae_spec.spec.choices.term import ADDED_TERMS, AddedTerm
from hvae_spec.spec.fields import NoStepCost, PerMember, fact
from hvae_spec.spec.mapping import Mapping

__all__ = [
    "Count",
    "FlowModel",
    "Fraction",
    "ImageCounts",
    "InferenceModel",
    "Mapping",
    "Natural",
    "NoStepCost",
    "NonNegative",
    "OptimizerSettings",
    "PerMember",
    "Positive",
    "PriorModel",
    "Real",
    "Settings",
    "X",
    "dataset",
    "estimator",
    "flow",
    "inference",
    "initialization",
    "mapping",
    "nonlinearity",
    "norm",
    "objective_term",
    "observation",
    "optimizer",
    "prior",
    "schedule",
]

Computed = TypeVar("Computed")
Decorator = Callable[[Computed], Computed]
Section = TypeVar("Section", bound=ChoiceSection)
_NAME = re.compile("[a-z][a-z0-9_]*")


def nonlinearity(
    name: str, equation: str, parameter: str | None = None, default: float | None = None, values: Any = Real
) -> Callable[[Computed], Computed]:
    """Register a function a -> f(a), of every entry of a tensor; it must allow for gradients.

    Args:
        name: in a spec, `model.nonlinearity: snake`, or with a parameter `{snake: 0.5}`.
        equation: f(a) as text, with the parameter's name for the parameter.
        parameter: name of the number that the function takes beside `a`; None if it takes none.
        default: the parameter that the name alone stands for.
        values: the type of the parameter, `extend.Positive` say.

    """
    section = None
    if parameter is not None:
        section = _chosen(ChoiceSection, name, values, default)
    return _both(NONLINEARITIES, "nn.nonlinearity:NONLINEARITIES", name, Nonlinearity(equation, parameter, section))


def mapping(name: str, equation: str, settings: type[Settings] | None = None) -> Callable[[type[Any]], type[Any]]:
    """Register a subclass of `hvae_spec.nn.gaussian.MLP` with a `forward` of its own, for `model.mapping`. It has the
    `linears` and `norms` of an MLP, each norm right after its linear map, and no other parameters.

    Args:
        name: in a spec, `model.mapping: residual`, or with settings `{residual: {...}}`.
        equation: its hidden layers as text, where h is what comes into one, W the layer's matrix, N the normalization
            (or the bias, if there is none) and f the nonlinearity: `each hidden layer is h + f(N(W h))`.
        settings: its settings, which the class takes as further arguments by their names; all have defaults. None: it
            takes none. A pack has them once, so that none can be `PerMember`.

    """
    default = _of_a_pack(name, settings, "a mapping", ("style", "inputs", "widths"))
    base = import_module("hvae_spec.nn.gaussian").MLP

    def checked(item: type[Any]) -> type[Any]:
        if isinstance(item, type) and issubclass(item, base):
            return item
        raise ValueError(f"{name}: expected a subclass of hvae_spec.nn.gaussian.MLP")

    return _both(MAPPINGS, "nn.gaussian:MAPPINGS", name, DeterministicMapping(equation, default), checked)


def norm(
    name: str,
    words: str,
    equation: str,
    *,
    heads: bool = False,
    of_units: bool = False,
    numbers_per_unit: int = 2,
    settings: type[Settings] | None = None,
) -> Callable[[type[Any]], type[Any]]:
    """Register a class of modules [M, U, S, B] -> [M, U, S, B], made from M, U and `eps` (the `model.batch_norm_eps` of
    a spec), for `model.norm`. Its statistics are not over a batch: what it gives for a sample of an image depends on no
    other one, in training as in evaluation.

    Args:
        name: in a spec, `model.norm: rms`, or with settings `{rms: {...}}`. Names of variants end in `+rms`.
        words: what it is called at the start of a sentence, `Root mean square normalization`.
        equation: N(a_j) as text, where ε is `eps`.
        heads: whether it normalizes the heads of the latents too.
        of_units: whether its statistics are over the units of a layer, so that there must be two at least.
        numbers_per_unit: trained numbers per unit of its parameters [M, U, 1]. Maps before it have no bias.
        settings: its settings, which the class takes as further arguments by their names; all have defaults. None: it
            takes none. A pack has them once, so that none can be `PerMember`.

    """
    default = _of_a_pack(name, settings, "a normalization", ("members", "units", "eps", "heads"))
    if not equation:
        raise ValueError(f"{name}: without an equation nothing would be normalized; expected N(a_j) as text")
    base = import_module("hvae_spec.nn.batch_norm").BatchNorm

    def checked(item: type[Any]) -> type[Any]:
        if isinstance(item, type) and not issubclass(item, base):
            return item
        raise ValueError(f"{name}: expected a class whose statistics are not over a batch; only `batch` has those")

    described = Norm(
        words, f"+{name}", equation, heads, of_units=of_units, numbers_per_unit=numbers_per_unit, default=default
    )
    return _both(NORMS, "nn.norm:NORMS", name, described, checked)


def observation(name: str, equation: str, heads: int, *, x: X = X.REAL) -> Callable[[Computed], Computed]:
    """Register a subclass of `hvae_spec.nn.likelihood.Likelihood`, for `model.observation`.

    Args:
        name: in a spec.
        equation: p(x|z_1) as text.
        heads: numbers that it predicts per pixel.
        x: what it is a model of: `X.BINARY`, zeros and ones; `X.GRAY`, the gray levels; `X.UNIT` and `X.REAL`,
            dequantized gray levels in [0, 1) and on the real line.

    """
    return _both(OBSERVATIONS, "nn.likelihood:LIKELIHOODS", name, Observation(equation, heads, x))


def inference(name: str, model: InferenceModel) -> Callable[[Computed], Computed]:
    """Register a subclass of `hvae_spec.nn.inference.InferenceNetwork`, for `model.inference`.

    Args:
        name: in a spec.
        model: its description: factors, equations, mappings.

    """
    return _both(INFERENCES, "nn.inference:INFERENCES", name, model)


def flow(name: str, model: FlowModel, settings: type[Settings] | None = None) -> Callable[[Computed], Computed]:
    """Register a subclass of `hvae_spec.nn.flow.Flow`, for `model.flow`.

    Args:
        name: in a spec, `model.flow: {name: {...}}`, or the name alone with default settings.
        model: its description: its equation and its mappings.
        settings: its settings, which the class takes by name; all have defaults. None: it takes none. A pack has them
            once, so that none can be `PerMember`.

    """
    default = _of_a_pack(name, settings, "a flow", ("style", "inputs", "units"))
    if default is not None:
        model.default = default
    return _both(FLOWS, "nn.flow:FLOWS", name, model)


def prior(name: str, model: PriorModel, settings: type[Settings] | None = None) -> Callable[[Computed], Computed]:
    """Register a subclass of `hvae_spec.nn.prior.Prior`, for `model.prior`.

    Args:
        name: in a spec, `model.prior: {name: {...}}`, or the name alone with default settings.
        model: its description: equation, mappings, what it needs.
        settings: its settings, which the class takes by name beside the style, the units of z_L and D; all have
            defaults. None: it takes none. A pack has them once, so that none can be `PerMember`.

    """
    default = _of_a_pack(name, settings, "a prior", ("style", "units", "pixels"))
    if default is not None:
        model.default = default
    return _both(PRIORS, "nn.prior:PRIORS", name, model)


def initialization(
    name: str, equation: str, *, normal: bool = True, draws_bias: bool = False
) -> Callable[[Computed], Computed]:
    """Register a function of a linear map's inputs and outputs (whole numbers) that gives the variance of its initial
    weights, for `model.initialization`.

    Args:
        name: in a spec.
        equation: the distribution as text.
        normal: normal rather than uniform.
        draws_bias: biases are uniform with the variance of the weights; otherwise they are 0.

    """
    made = import_module("hvae_spec.nn.initialization").Initialization
    return _both(
        INITIALIZATIONS,
        "nn.initialization:INITIALIZATIONS",
        name,
        Initialization(equation),
        lambda variance: made(variance, normal, draws_bias),
    )


def objective_term(name: str, equation: str, settings: type[Settings] | None = None) -> Callable[[Computed], Computed]:
    """Register a function of a `hvae_spec.nn.hierarchy.Trace` that gives what is added to log w in training, in a shape
    that broadcasts to [M, S, B], for `objective.term`.

    Args:
        name: in a spec, `objective.term: {name: {...}}`, or the name alone with default settings.
        equation: it as text, with its sign.
        settings: its settings, which the function takes beside the trace; all have defaults. None: it takes none. A
            pack has them once, so that none can be `PerMember`.

    """
    default = _of_a_pack(name, settings, "a term")
    return _both(ADDED_TERMS, "nn.objective:ADDED_TERMS", name, AddedTerm(equation, default))


def estimator(
    name: str,
    equation: str,
    *,
    is_path: bool = True,
    for_importance_weights: bool = True,
    for_layer_weights: bool = True,
    for_batch_norm: bool = True,
) -> Callable[[Computed], Computed]:
    """Register an estimator of the gradient of the bound, as those of `hvae_spec.nn.estimators`, for
    `objective.estimator`. The arguments are those of `hvae_spec.spec.choices.estimator.Estimator`.
    """
    description = Estimator(equation, is_path, for_importance_weights, for_layer_weights, for_batch_norm)
    return _both(ESTIMATORS, "nn.estimators:ESTIMATORS", name, description)


def optimizer(
    name: str, settings: type[OptimizerSettings], numbers_per_parameter: int
) -> Callable[[Computed], Computed]:
    """Register a function that makes a `torch.optim.Optimizer`, of the rows [P] of members by groups of equal settings
    (lists of tensors), and of these settings, one per group, for `training.optimizer`.

    Args:
        name: in a spec, `training.optimizer: {name: {lr: 1e-3}}`.
        settings: its settings, with a learning rate `lr`; all have defaults.
        numbers_per_parameter: numbers of state that it keeps per parameter.

    """
    default = _chosen(OptimizerSection, name, settings)
    return _both(OPTIMIZERS, "training.optimizer:OPTIMIZERS", name, Optimizer(default, numbers_per_parameter))


def schedule(name: str, settings: type[Settings]) -> Callable[[Computed], Computed]:
    """Register a function of its settings and an epoch, counted from 1, that gives the learning rate, for
    `training.schedule`. It depends on nothing else.

    Args:
        name: in a spec, `training.schedule: {name: {...}}`.
        settings: its settings; all have defaults.

    """
    default = _chosen(ScheduleSection, name, settings)
    return _both(
        SCHEDULES,
        "training.schedules:SCHEDULES",
        name,
        LearningRateSchedule(default),
        lambda rate: lambda section, epoch: rate(section.settings, epoch),
    )


def dataset(
    name: str,
    counts: ImageCounts,
    *,
    levels: int = 256,
    binary: bool = False,
    comes_with: str | None = None,
    classes: int | None = None,
) -> Callable[[Computed], Computed]:
    """Register a function without arguments that returns `hvae_spec.data.images.RawImages`, for `data.dataset`.

    Args:
        name: in a spec.
        counts: its pixels, training and test images.
        levels: gray levels; 2 for intensities in [0, 1], and for zeros and ones.
        binary: whether the images are zeros and ones, so that nothing is drawn.
        comes_with: the package that holds its images, if one does.
        classes: how many classes the images have, 0 if they have none; None: only the images tell.

    """
    description = Dataset(counts, levels, comes_with, binary, classes=classes)
    return _both(DATASETS, "data.dataset:LOADERS", name, description)


def _of_a_pack(
    name: str, settings: type[Settings] | None, whose: str, taken: Sequence[str] = ()
) -> ChoiceSection | None:
    """The default settings of what a pack has once, if it has settings; none has a name that is taken."""
    if settings is None:
        return None
    for key, info in settings.model_fields.items():
        if fact(info, PerMember) is not None:
            raise ValueError(f"{name}.{key}: {whose} has its settings once in a pack, so that none can be PerMember")
        if key in taken:
            raise ValueError(f"{name}.{key}: of {whose}, {', '.join(taken)} mean something else; expected another name")
    return _chosen(ChoiceSection, name, settings)


def _chosen(base: type[Section], name: str, settings: Any, default: Any = None) -> Section:
    """What the plain name of a choice stands for: it with its default settings, or its one parameter."""
    if isinstance(settings, type) and issubclass(settings, Settings):
        for key, info in settings.model_fields.items():
            if info.is_required():
                raise ValueError(f"{settings.__name__}.{key} has no default, which the plain name {name} stands for")
        default = settings
    try:
        return _section(base, name, settings)(**{name: default() if default is settings else default})
    except ValidationError as error:
        said = "; ".join(one["msg"] for one in error.errors())
        raise ValueError(f"{name}: the default is no value of it ({said})") from None


def _section(base: type[Section], name: str, settings: Any) -> type[Section]:
    """The section of a choice with settings: its name is its only key."""
    _check(name)
    title, fields = "".join(word.title() for word in name.split("_")), {name: (settings, ...)}
    made: type[Section] = create_model(title, __base__=base, **fields)  # type: ignore[call-overload]
    made.__doc__ = settings.__doc__ if isinstance(settings, type) else None
    return made


def _both(
    described: Registry[Any], where: str, name: str, description: Any, adapted: Callable[[Any], Any] = lambda item: item
) -> Callable[[Computed], Computed]:
    """A decorator that registers a description, and what it decorates as what is computed."""
    _check(name)
    module, _, attribute = where.partition(":")
    computed: Registry[Any] = getattr(import_module(f"hvae_spec.{module}"), attribute)

    def enter(item: Computed) -> Computed:
        # Not whatever is registered meanwhile: the file may be the first to import what holds the built-in parts.
        extension, made = running_extension(), adapted(item)
        described.add(name, description, extension)
        computed.add(name, made, extension)
        return item

    return enter


def _check(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: expected a name of lower-case letters, digits and _, beginning with a letter")

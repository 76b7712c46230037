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
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from pydantic import create_model

from hvae_spec.registry import Registry, running_extension
from hvae_spec.spec.base import Count, Fraction, Natural, NonNegative, Positive, Real
from hvae_spec.spec.base import SpecModel as Settings
from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.choices.dataset import DATASETS, Dataset, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS, Estimator
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel
from hvae_spec.spec.choices.initialization import INITIALIZATIONS, Initialization
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, Nonlinearity
from hvae_spec.spec.choices.observation import OBSERVATIONS, Observation, X
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.spec.choices.schedule import SCHEDULES, LearningRateSchedule, ScheduleSection
from hvae_spec.spec.choices.term import ADDED_TERMS, AddedTerm
from hvae_spec.spec.fields import NoStepCost, PerMember, fact

__all__ = [
    "Count",
    "Fraction",
    "ImageCounts",
    "InferenceModel",
    "Natural",
    "NoStepCost",
    "NonNegative",
    "OptimizerSettings",
    "PerMember",
    "Positive",
    "Real",
    "Settings",
    "X",
    "dataset",
    "estimator",
    "inference",
    "initialization",
    "nonlinearity",
    "objective_term",
    "observation",
    "optimizer",
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
        section = _section(ChoiceSection, name, values)(**{name: default})
    return _both(NONLINEARITIES, "nn.nonlinearity:NONLINEARITIES", name, Nonlinearity(equation, parameter, section))


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
    for key, info in settings.model_fields.items() if settings is not None else ():
        if fact(info, PerMember) is not None:
            raise ValueError(f"{name}.{key}: a term has its settings once in a pack, so that none can be PerMember")
    default = None if settings is None else _section(ChoiceSection, name, settings)(**{name: settings()})
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
    default = _section(OptimizerSection, name, settings)(**{name: settings()})
    return _both(OPTIMIZERS, "training.optimizer:OPTIMIZERS", name, Optimizer(default, numbers_per_parameter))


def schedule(name: str, settings: type[Settings]) -> Callable[[Computed], Computed]:
    """Register a function of its settings and an epoch, counted from 1, that gives the learning rate, for
    `training.schedule`. It depends on nothing else.

    Args:
        name: in a spec, `training.schedule: {name: {...}}`.
        settings: its settings; all have defaults.

    """
    default = _section(ScheduleSection, name, settings)(**{name: settings()})
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
        extension = running_extension()
        described.add(name, description, extension)
        computed.add(name, adapted(item), extension)
        return item

    return enter


def _check(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: expected a name of lower-case letters, digits and _, beginning with a letter")

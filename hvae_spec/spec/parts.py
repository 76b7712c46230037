"""The parts of extensions that a member uses: what its spec says of them, and how it is read without their code."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from hvae_spec.registry import RecordedName, Registry, has_extensions, standing_in
from hvae_spec.spec.base import SpecModel
from hvae_spec.spec.choice import ChoiceSection, Named, OneOf
from hvae_spec.spec.choices.dataset import DATASETS, Dataset, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS, Estimator
from hvae_spec.spec.choices.flow import FLOWS, FlowModel, RecordedFlow
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel, RecordedInference
from hvae_spec.spec.choices.initialization import INITIALIZATIONS, Initialization
from hvae_spec.spec.choices.mapping import MAPPINGS, DeterministicMapping
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, Nonlinearity
from hvae_spec.spec.choices.norm import NORMS, Norm
from hvae_spec.spec.choices.observation import OBSERVATIONS, Observation, X
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Optimizer, OptimizerSection
from hvae_spec.spec.choices.prior import PRIORS, PriorModel, RecordedPrior
from hvae_spec.spec.choices.schedule import SCHEDULES, LearningRateSchedule, ScheduleSection
from hvae_spec.spec.choices.term import ADDED_TERMS, AddedTerm
from hvae_spec.spec.fields import Affects, fact

Path = tuple[str, ...]
Described = TypeVar("Described")
DESCRIPTIONS: dict[str, tuple[Registry[Any], type[Any]]] = {
    registry.kind: (registry, description)
    for registry, description in (
        (NONLINEARITIES, Nonlinearity),
        (MAPPINGS, DeterministicMapping),
        (NORMS, Norm),
        (OBSERVATIONS, Observation),
        (INFERENCES, RecordedInference),
        (FLOWS, RecordedFlow),
        (PRIORS, RecordedPrior),
        (INITIALIZATIONS, Initialization),
        (ADDED_TERMS, AddedTerm),
        (ESTIMATORS, Estimator),
        (OPTIMIZERS, Optimizer),
        (SCHEDULES, LearningRateSchedule),
        (DATASETS, Dataset),
    )
}
"""What can be a part of an extension, by its kind: the registry, and the class of what is looked up there."""


class Part(SpecModel):
    """A part of an extension that a member uses."""

    file: str
    """Name of the file."""
    sha256: str
    """Of the file, in hexadecimal."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What its description says, so that a record can be read without the file."""
    affects: dict[str, str] = Field(default_factory=dict)
    """Those of its settings that affect something else than a training step itself, and what (see `Affects`)."""


Parts = dict[str, Part]
"""By kind and name: `observation beta`."""
_PARTS: TypeAdapter[Parts] = TypeAdapter(Parts)


def choices(section: BaseModel, above: Path = ()) -> Iterator[tuple[Path, Registry[Any], str, Any]]:
    """Every choice in a section and the sections below, those of lists too: its path, registry, name and value."""
    for key, info in type(section).model_fields.items():
        value, path = getattr(section, key), (*above, key)
        chosen = fact(info, Named) or fact(info, OneOf)
        if chosen is not None and value is not None:
            name = value.choice if isinstance(value, ChoiceSection) else value
            yield path, chosen.registry, name, value
        elif isinstance(value, BaseModel):
            yield from choices(value, path)
        elif isinstance(value, tuple):
            for place, entry in enumerate(value):
                if isinstance(entry, BaseModel):
                    yield from choices(entry, (*path, str(place)))


def parts_in_use(section: BaseModel) -> Parts:
    """The parts of extensions that a member's spec chooses."""
    found: Parts = {}
    if not has_extensions():  # thousands of members are looked at
        return found
    for _, registry, name, value in choices(section):
        extension = registry.extension(name)
        if extension is not None:
            settings = value.settings if isinstance(value, ChoiceSection) else None
            found[f"{registry.kind} {name}"] = Part(
                file=extension.name, sha256=extension.sha256, facts=_facts(registry[name]), affects=_affects(settings)
            )
    return found


def those_in_use(parts: Parts, section: BaseModel) -> Parts:
    """Those of some parts that a section chooses."""
    names = {f"{registry.kind} {name}" for _, registry, name, _ in choices(section)}
    return {key: part for key, part in parts.items() if key in names}


def description(tree: Mapping[str, Any], registry: Registry[Described], name: str) -> Described:
    """The description of what a member's spec chooses, as a tree: of a part of an extension, in the version of it that
    the tree states.

    Raises:
        UserError: there is none of that name.

    """
    part = (tree.get("parts") or {}).get(f"{registry.kind} {name}")
    return registry[name if part is None else RecordedName.of(name, part["sha256"])]


def _facts(description: Any) -> dict[str, Any]:
    """What a description says, as plain values."""
    if isinstance(description, InferenceModel):
        description = RecordedInference.of(description)
    if isinstance(description, FlowModel):
        description = RecordedFlow()
    if isinstance(description, PriorModel):
        description = RecordedPrior.of(description)
    fields = {field.name: getattr(description, field.name) for field in dataclasses.fields(description)}
    plain = {key: value.value if isinstance(value, Enum) else value for key, value in fields.items()}
    return {key: value for key, value in plain.items() if key != "default"}


def _affects(settings: Any) -> dict[str, str]:
    if not isinstance(settings, BaseModel):
        return {}
    stated = ((name, fact(info, Affects)) for name, info in type(settings).model_fields.items())
    return {name: affects.part for name, affects in stated if affects is not None}


def _described(key: str, part: Part) -> Any:
    """The description of a part, without its code."""
    _, description = DESCRIPTIONS[key.rpartition(" ")[0]]
    facts = dict(part.facts)
    if facts.get("counts") is not None:
        facts["counts"] = ImageCounts(*facts["counts"])
    if description is Observation:
        facts["x"] = X(facts["x"])
    if description is Optimizer:
        facts["default"] = OptimizerSection()
    if description is LearningRateSchedule:
        facts["default"] = ScheduleSection()
    return description(**facts)


@contextmanager
def read_without_code(stated: Any) -> Iterator[None]:
    """Within this context, the parts that a spec states and whose files have not run are read as plain values.

    Raises:
        PydanticCustomError: what it states are no parts.

    """
    versions = {}
    try:
        for key, part in _PARTS.validate_python(stated).items():
            kind, _, name = key.rpartition(" ")
            registry, _ = DESCRIPTIONS[kind]
            extension = registry.extension(name)
            if extension is None or extension.sha256 != part.sha256:
                registry.stand_in(RecordedName.of(name, part.sha256), _described(key, part))
                versions[kind, name] = part.sha256
    except (ValidationError, KeyError, TypeError) as error:
        raise PydanticCustomError("parts", "the parts of extensions that the member uses") from error
    with standing_in(versions):
        yield

"""Facts about a field of a spec, stated beside its declaration and read from there by everything that must know them.

A fact is metadata of the field's annotation, outermost: `warm_up: Annotated[Natural, Affects("schedule")] = 0`. What a
field does not state holds by default, and the defaults are the safe ones: a field affects every training step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hvae_spec.spec.choice import OneOf

Part = Literal["trajectory", "schedule", "length", "evaluation", "nothing"]
"""What of a member a field affects. `trajectory`: a training step itself. `schedule`: a training step through the
values that the schedule has in its epoch. `length`: how many epochs there are. `evaluation`: the final evaluation.
`nothing`: no number of a result (speed, memory, or which points a learning curve has)."""
Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Affects:
    """Which part of a member's life a field affects; a field that does not say affects the `trajectory`."""

    part: Part


def fields(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every field below a section, with its path: `("model", "layers", "units")`, list indices left out. Fields of all
    choices are among them: `("training", "optimizer", "adam", "lr")`.
    """
    for name, info in model.model_fields.items():
        yield (name,), info
        chosen = fact(info, OneOf)
        for section in chosen.sections.values() if chosen else _sections(info.annotation):
            yield from (((name, *path), inner) for path, inner in fields(section))


def fact(info: FieldInfo, kind: type[Fact]) -> Fact | None:
    """The fact of a kind that a field states; None if it states none."""
    return next((item for item in info.metadata if isinstance(item, kind)), None)


@cache
def paths_affecting(model: type[BaseModel], part: Part) -> frozenset[tuple[str, ...]]:
    """Paths of the fields that say that they affect a part (`Affects`)."""
    stated = ((path, fact(info, Affects)) for path, info in fields(model))
    return frozenset(path for path, affects in stated if affects is not None and affects.part == part)


@cache
def choices_with_settings(model: type[BaseModel]) -> dict[tuple[str, ...], OneOf]:
    """The fields that hold a choice with its settings, by path: of the mapping there, one key names the choice."""
    stated = ((path, fact(info, OneOf)) for path, info in fields(model))
    return {path: chosen for path, chosen in stated if chosen is not None}


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections within an annotation: through Annotated, unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _sections(part)

"""Fields whose value is a choice from a registry: a name, or a name with settings, `{name: settings}`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic_core import CoreSchema, PydanticCustomError, ValidationError, core_schema

from hvae_spec.registry import RecordedName, Registry
from hvae_spec.spec.base import SpecModel


class ChoiceSection(SpecModel):
    """A choice with its settings: a section of one key, which is the choice's name."""

    _recorded: ClassVar[RecordedName | None] = None
    alone: ClassVar[str] = "value"
    """What the settings are called where they are a single value and no section of their own."""

    @property
    def choice(self) -> str:
        """The choice's name."""
        return self._recorded or next(iter(type(self).model_fields))

    @property
    def settings(self) -> Any:
        """What stands under it."""
        return getattr(self, self.choice)


def name_and_settings(chosen: str | ChoiceSection) -> tuple[str, dict[str, Any]]:
    """A choice's name and its settings by name: `("gaussian", {"variance": 0.1})`, `("planar", {"steps": 10})`,
    `("bernoulli", {})`.
    """
    if isinstance(chosen, str):
        return chosen, {}
    settings = chosen.settings
    return chosen.choice, settings.model_dump() if isinstance(settings, BaseModel) else {chosen.alone: settings}


def words(chosen: str | ChoiceSection) -> str:
    """A choice with its settings in a text: `bernoulli`, `gaussian, variance 0.1`."""
    name, settings = name_and_settings(chosen)
    return ", ".join([name, *(f"{key} {value}" for key, value in settings.items())])


class PlainSettings(BaseModel):
    """The settings of a part of an extension that is read without its code: plain values."""

    model_config = ConfigDict(frozen=True, extra="allow")


def plain_section(name: RecordedName, settings: Any, base: type[ChoiceSection]) -> ChoiceSection:
    """A choice of an extension that is read without its code, with plain values for settings."""
    section = create_model(str(name), __base__=base, **{str(name): (Any, ...)})  # type: ignore[call-overload]
    section._recorded = name
    given = PlainSettings(**settings) if isinstance(settings, dict) else settings
    found: ChoiceSection = section.model_construct(**{name: given})
    return found


class Described(Protocol):
    """A description of a choice that may have settings."""

    @property
    def default(self) -> ChoiceSection | None:
        """The choice with its default settings; None for one without settings."""


@dataclass(frozen=True)
class Either:
    """The type of a field that has two forms, told apart by the type of what is given, so that messages are of the form
    that was meant: `Annotated[Natural | Cycles, Either((dict, Cycles), TypeAdapter(Cycles), TypeAdapter(Natural))]`.
    """

    types: tuple[type, ...]
    of_these: TypeAdapter[Any]
    of_others: TypeAdapter[Any]

    def validate(self, value: Any) -> Any:
        """The value.

        Raises:
            ValidationError: it has neither form.

        """
        form = self.of_these if isinstance(value, self.types) else self.of_others
        return form.validate_python(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(self.of_others.core_schema), handler(self.of_these.core_schema)]}


@dataclass(frozen=True)
class Named:
    """The type of a field that holds a name of a registry: `Annotated[str, Named(INFERENCES)]`.

    Names are looked up when a value is validated or a JSON Schema is made, and not before.
    """

    registry: Registry[Any]

    def validate(self, value: Any) -> str:
        """The name.

        Raises:
            PydanticCustomError: it is none of the registry's.

        """
        recorded = self.registry.recorded(value)
        if recorded is not None:
            return recorded
        if isinstance(value, str) and value in self.registry:
            return value
        raise _unknown(list(self.registry))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self.registry), "type": "string"}


@dataclass(frozen=True)
class WordOr:
    """The type of a field that holds a word or a number. Text is judged as a word and all else as a number, so that
    messages are of what was meant.
    """

    words: tuple[str, ...]
    number: TypeAdapter[float]
    what: str
    """The number in words: `a number greater than 0`."""

    def validate(self, value: Any) -> str | float:
        """The value.

        Raises:
            PydanticCustomError, ValidationError: it is neither.

        """
        if not isinstance(value, str):
            return self.number.validate_python(value)
        if value in self.words:
            return value
        raise _unknown([*self.words, self.what])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.words), "type": "string"}, handler(self.number.core_schema)]}


@dataclass(frozen=True)
class OneOf:
    """The type of a field that holds one choice with its settings, `{adam: {lr: 1e-3}}`, or, where `by_name`, also a
    name alone: of a choice without settings, or of one with its default settings; or, where `or_null`, nothing. Where
    `kept_by_name`, a choice with its default settings is its name, however it was written.

    A validated value is a name, a `ChoiceSection` or None. Choices are looked up as by `Named`.
    """

    registry: Registry[Any]
    by_name: bool = False
    or_null: bool = False
    kept_by_name: bool = False

    @property
    def sections(self) -> dict[str, type[ChoiceSection]]:
        """The choices that have settings, and the type of the section that holds them."""
        described = ((name, self.registry[name].default) for name in self.registry)
        return {name: type(default) for name, default in described if default is not None}

    @property
    def forms(self) -> list[str]:
        """All ways to write a choice."""
        if not self.by_name:
            return [_form(section) for section in self.sections.values()]
        values = [self.registry[name].default.model_dump(mode="json") for name in self.sections]
        return [*self.registry, *(json.dumps(value).replace('"', "") for value in values)]

    def _kept(self, section: ChoiceSection) -> str | ChoiceSection:
        """A valid section as the value of the field."""
        is_default = section == self.registry[section.choice].default
        return section.choice if self.kept_by_name and is_default else section

    def validate(self, value: Any) -> str | ChoiceSection | None:
        """The choice.

        Raises:
            PydanticCustomError, PydanticKnownError, ValidationError: it is none of the registry's, or its settings are
                invalid.

        """
        if value is None and self.or_null:
            return value
        if isinstance(value, ChoiceSection):
            return self._kept(value)
        stated = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else value
        recorded = self.registry.recorded(stated)
        if recorded is not None and isinstance(value, dict):
            known = self.registry[recorded].default
            return plain_section(recorded, value[recorded], ChoiceSection if known is None else type(known))
        if recorded is not None and self.by_name:
            return recorded
        if self.by_name and isinstance(value, str) and value in self.registry:
            default: ChoiceSection | None = self.registry[value].default
            return value if default is None else self._kept(default)
        if not isinstance(value, dict):
            raise _unknown(self.forms)
        if not value:
            raise PydanticCustomError("no_choice", "nothing is chosen", {"expected": one_of(self.forms)})
        sections = self.sections
        chosen = next((name for name in value if name in sections), None)
        if chosen is not None:
            return self._kept(sections[chosen].model_validate(value))
        raise ValidationError.from_exception_data(
            self.registry.kind,
            [{"type": "extra_forbidden", "loc": (str(name),), "input": given} for name, given in value.items()],
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        options: list[Any] = [handler(section.__pydantic_core_schema__) for section in self.sections.values()]
        if self.by_name and len(self.registry):
            options.insert(0, {"enum": list(self.registry), "type": "string"})
        if self.or_null:
            options.append({"type": "null"})
        return options[0] if len(options) == 1 else {"oneOf": options}


def one_of(options: Sequence[str]) -> str:
    """What is expected where one of some choices is: their names or forms, if there are any in the house."""
    return f"one of {', '.join(options)}" if options else "a name that a file under `extensions` registers"


def _unknown(options: Sequence[str]) -> PydanticCustomError:
    return PydanticCustomError("unknown_choice", "{expected}", {"expected": one_of(options), "options": options})


def _form(section: type[ChoiceSection]) -> str:
    """How a choice with settings is written, as far as it must be: `{cosine: {over: ...}}`, `{adam: {...}}`."""
    ((name, info),) = section.model_fields.items()
    settings = info.annotation
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        return f"{{{name}: ...}}"
    required = [f"{key}: ..." for key, inner in settings.model_fields.items() if inner.is_required()]
    return f"{{{name}: {{{', '.join(required) or '...'}}}}}"

"""Numbers that callers of Python functions give: refused where a spec refuses them, and with what was expected."""

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from hvae_spec.errors import UserError, shorten
from hvae_spec.spec.base import SpecModel

Section = TypeVar("Section", bound=SpecModel)


def number(name: str, value: Any, kind: Any, expected: str = "") -> Any:
    """A number of a kind.

    Args:
        name: the argument's.
        value: what was given for it; scalars of NumPy and PyTorch are the numbers that they hold.
        kind: `Count`, `Seed`, `NonNegative` or another type of `hvae_spec.spec.base`.
        expected: what is expected, where the kind alone does not say it.

    Raises:
        UserError: it is none.

    """
    adapter = TypeAdapter(kind)
    value = _plain(value)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _refusal(name, value, expected or _expected(error, adapter.json_schema())) from None


def settings(section: Section, **given: Any) -> Section:
    """A section of a spec with other numbers.

    Args:
        section: where what is not given comes from.
        given: arguments with names of its fields; None: not given.

    Raises:
        UserError: a number that the section refuses.

    """
    changes = {name: _plain(value) for name, value in given.items() if value is not None}
    try:
        return type(section).model_validate({**section.model_dump(), **changes})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        schema = type(section).model_json_schema()["properties"][name]
        raise _refusal(name, changes[name], _expected(error, schema)) from None


def _plain(value: Any) -> Any:
    """A scalar of NumPy or PyTorch as a number of Python."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _refusal(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{name} {shorten(repr(value), 80)}: expected {expected}")


def _expected(error: ValidationError, schema: dict[str, Any]) -> str:
    """What a kind of numbers takes; the largest, which few meet, is named to those alone who go beyond it."""
    details = error.errors()[0]
    if details["type"] == "float32":
        return str(details["msg"])
    return _words(schema) + (f", at most {details['ctx']['le']:,}" if details["type"] == "less_than_equal" else "")


def _words(schema: dict[str, Any]) -> str:
    """The JSON schema of a number in words: `a whole number greater than 0`."""
    what = "a whole number" if schema["type"] == "integer" else "a number"
    if "exclusiveMinimum" in schema:
        return f"{what} greater than {schema['exclusiveMinimum']:g}"
    return f"{what} of {schema['minimum']:g} or more"

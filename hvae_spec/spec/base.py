"""The rules that every part of a spec obeys: no unknown keys, no silent conversions, no changes after reading."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

Loc = tuple[str | int, ...]
"""Keys and indices from the root of a spec to one of its values."""

LARGEST_COUNT = 10**9
LARGEST_SEED = 2**63 - 1
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What names must match that become parts of the names of files and folders."""
SMALLEST = 1.1754944e-38
"""The smallest positive number that float32 holds with all its digits. Smaller ones lose them, and then are 0."""
LARGEST = 3.4028235e38
"""The largest number of float32; larger ones are infinite."""
BELOW_ONE = 0.99999994
"""The largest number of float32 below 1. What lies between is 1."""


@dataclass(frozen=True)
class InFloat64:
    """A fact of a field (see `hvae_spec.spec.fields`): its numbers are computed with in float64, on the host, so that
    they may be of any size. Those of all other fields end up in float32, and are refused where they would vanish there.
    """

    reason: str


def _unsigned_zero(value: float) -> float:
    """`value`, but 0.0 for -0.0: the two are one number, and would else be two spellings of it."""
    return value + 0.0


def _count_or_all(value: object) -> object:
    """A number of images, if it is one, so that what is none has one message and not one for each kind."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_COUNT
    if value != "all" and not is_count:
        raise PydanticCustomError("labels", "a whole number greater than 0, or all")
    return value


Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(gt=0, le=LARGEST_COUNT)]
CountOrAll = Annotated[Count | Literal["all"], BeforeValidator(_count_or_all)]
Natural = Annotated[int, Strict(), Field(ge=0, le=LARGEST_COUNT)]
Seed = Annotated[int, Strict(), Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), AfterValidator(_unsigned_zero)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False), AfterValidator(_unsigned_zero)]
Fraction = Annotated[
    float, Strict(), Field(ge=0, lt=1, le=BELOW_ONE, allow_inf_nan=False), AfterValidator(_unsigned_zero)
]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False), AfterValidator(_unsigned_zero)]


class SpecModel(BaseModel):
    """A section of a spec: frozen, refuses keys it does not know, never turns text into a number or a flag, and takes
    no number that would vanish or overflow in float32, but in a field that is `InFloat64`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section with nothing under it (all commented out, say) is an empty one."""
        return {} if value is None else value

    @field_validator("*", mode="after")
    @classmethod
    def _in_float32(cls, value: Any, info: ValidationInfo) -> Any:
        """The value, if float32 holds its numbers."""
        if isinstance(value, float | tuple) and not cls._is_in_float64(str(info.field_name)):
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float):
                    _check_float32(number)
        return value

    @classmethod
    def _is_in_float64(cls, name: str) -> bool:
        return any(isinstance(fact, InFloat64) for fact in cls.model_fields[name].metadata)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema with the bounds of float32 for every number of a field that is in float32."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found)["properties"]
        for name, info in cls.model_fields.items():
            node = properties[info.alias or name]
            if not cls._is_in_float64(name):
                for option in (node, *node.get("anyOf", ())):
                    if option.get("type") == "number":
                        _add_bounds(option)
        return found


def _check_float32(number: float) -> None:
    """Raise PydanticCustomError for a number that float32 takes for 0, for infinite, or with fewer digits."""
    bound, word = ("least", "most") if number > 0 else ("most", "least")
    sign = "" if number > 0 else "-"
    if 0 < abs(number) < SMALLEST:
        message = f"a number of at {bound} {sign}{SMALLEST:.9g}: nearer 0, float32 loses it"
        raise PydanticCustomError("float32", message)
    if abs(number) > LARGEST:
        message = f"a number of at {word} {sign}{LARGEST:.9g}: beyond, float32 is infinite"
        raise PydanticCustomError("float32", message)


def _add_bounds(node: dict[str, Any]) -> None:
    """Add the bounds of float32 to the JSON Schema of a number."""
    node.setdefault("maximum", LARGEST)
    if "exclusiveMinimum" in node:
        node["minimum"] = SMALLEST
    else:
        node.setdefault("minimum", -LARGEST)
        node["not"] = {"exclusiveMinimum": 0, "exclusiveMaximum": SMALLEST}

"""The rules that every part of a spec obeys: no unknown keys, no silent conversions, no changes after reading."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator

Loc = tuple[str | int, ...]
"""Keys and indices from the root of a spec to one of its values."""

LARGEST_COUNT = 10**9
LARGEST_SEED = 2**63 - 1


def _unsigned_zero(value: float) -> float:
    """`value`, but 0.0 for -0.0: the two are one number, and would else be two spellings of it."""
    return value + 0.0


Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(gt=0, le=LARGEST_COUNT)]
Natural = Annotated[int, Strict(), Field(ge=0, le=LARGEST_COUNT)]
Seed = Annotated[int, Strict(), Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), AfterValidator(_unsigned_zero)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False), AfterValidator(_unsigned_zero)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1, allow_inf_nan=False), AfterValidator(_unsigned_zero)]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False), AfterValidator(_unsigned_zero)]


class SpecModel(BaseModel):
    """A section of a spec: frozen, refuses keys it does not know, and never turns text into a number or a flag."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """A section with nothing under it (all commented out, say) is an empty one."""
        return {} if value is None else value

"""The rules that every part of a spec obeys: no unknown keys, no silent conversions, no changes after reading."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(gt=0)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1, allow_inf_nan=False)]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class SpecModel(BaseModel):
    """A section of a spec: frozen, refuses keys it does not know, and never turns text into a number or a flag."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

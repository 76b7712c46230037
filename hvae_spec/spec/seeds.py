"""Seeds in two stages: as many as a confidence interval of a given width takes (Stein, 1945)."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict

from hvae_spec.spec.base import LARGEST_COUNT, Count, InFloat64, Positive, SpecModel


class StagedSeeds(SpecModel):
    """Seeds 0 to N - 1, of which the first stage runs first and says how many N are needed."""

    model_config = ConfigDict(serialize_by_alias=True)

    first: Annotated[int, Strict(), Field(ge=2, le=LARGEST_COUNT, alias="from")]
    """Seeds of the first stage. Their standard deviation alone decides how many seeds there are."""
    half_width: Annotated[Positive, InFloat64("statistics of results are computed in float64")]
    """Half the width of the 95% confidence intervals that is asked for, in nats per image."""
    of: Literal["cell", "effect"] = "cell"
    """Whose intervals: the mean test log-likelihood of every cell, or every paired effect on it."""
    at_most: Count
    """Seeds that a cell gets at most, whatever the half-width takes."""

"""A search: points of a space of settings, drawn before anything runs, of which the best on validation images is found.

The points are a scrambled Sobol sequence (Sobol, 1967; Owen, 1998), a pure function of the seed and the space, so that
a search that is read again is the same search, and one with more trials begins with the same points. With u in [0, 1)
for each setting, in the order of the space,

    uniform [a, b]:     a + (b - a) u,
    loguniform [a, b]:  a (b / a)^u,
    integers [a, b]:    a + floor((b - a + 1) u),
    choice [v_1 ...]:   v_{1 + floor(n u)},

where numbers are rounded to four digits, as they stand in tables. Points that are equal are drawn once.

With `halving` all points are trained for a few epochs, and on every rung the best of them go on, until few are left
that train to the end (successive halving: Karnin et al., 2013; Jamieson & Talwalkar, 2016).
"""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from hvae_spec.spec.base import LARGEST_COUNT, Count, InFloat64, Natural, Positive, Real, Seed, SpecModel

DIGITS = 4
"""Digits of the numbers that are drawn."""
MOST = 2**14
"""Points that are looked at until as many different ones are found as asked for."""
RUNG = "training.epochs"
"""The path of the axis whose levels are the rungs."""
SCORE = "validation_log_likelihood"
"""The field of an evaluation's result that points are ranked by."""
IN_FLOAT64 = InFloat64("the values between them are checked as values of the fields that they are drawn for")


class Distribution(SpecModel):
    """What the values of one setting are drawn from: one of these."""

    uniform: Annotated[tuple[Real, Real] | None, IN_FLOAT64] = None
    """Numbers between two: `[0, 0.5]`."""
    loguniform: Annotated[tuple[Positive, Positive] | None, IN_FLOAT64] = None
    """Positive numbers whose logarithm is uniform between two: `[1e-4, 1e-2]`."""
    integers: tuple[Annotated[int, Strict()], Annotated[int, Strict()]] | None = None
    """Whole numbers from the first to the last: `[0, 50]`."""
    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """Any of these values: `[vae, ladder]`."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "Distribution":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            expected = "one of uniform: [a, b], loguniform: [a, b], integers: [a, b], choice: [...]"
            raise PydanticCustomError("distribution", "{expected}", {"expected": expected})
        ends = getattr(self, given[0])
        if given[0] != "choice" and not ends[0] < ends[1]:
            raise PydanticCustomError("ends", "two numbers, the smaller one first")
        return self

    def at(self, u: float) -> Any:
        """The value at a point u of [0, 1).

        Examples:
            >>> Distribution(loguniform=(1e-4, 1e-2)).at(0.5), Distribution(integers=(1, 3)).at(0.99)
            (0.001, 3)

        """
        if self.choice is not None:
            return self.choice[int(u * len(self.choice))]
        if self.integers is not None:
            first, last = self.integers
            return first + int(u * (last - first + 1))
        if self.loguniform is not None:
            low, high = self.loguniform
            return _rounded(low * math.exp(u * math.log(high / low)), low, high)
        low, high = self.uniform or (0.0, 1.0)
        return _rounded(low + (high - low) * u, low, high)


class Halving(SpecModel):
    """All points are trained for a few epochs, and the best go on."""

    model_config = ConfigDict(serialize_by_alias=True)

    factor: Annotated[int, Strict(), Field(ge=2, le=100)] = 3
    """One in so many goes on from rung to rung, and each rung has so many times as many epochs as the one before."""
    first: Annotated[int, Strict(), Field(ge=1, le=LARGEST_COUNT, alias="from")]
    """Epochs of the first rung."""

    def rungs(self, epochs: int) -> list[int]:
        """Epochs at the end of every rung.

        Examples:
            >>> Halving.model_validate({"factor": 3, "from": 50}).rungs(1000)
            [50, 150, 450, 1000]

        """
        found: list[int] = []
        while (end := self.first * self.factor ** len(found)) < epochs:
            found.append(end)
        return [*found, epochs]

    def kept(self, trials: int) -> int:
        """How many of so many go on.

        Examples:
            >>> [Halving.model_validate({"factor": 3, "from": 1}).kept(trials) for trials in (40, 13, 4, 1)]
            [13, 4, 1, 1]

        """
        return max(1, trials // self.factor)


class SearchSpec(SpecModel):
    """Points of a space, ranked by the bound on validation images."""

    space: Annotated[dict[str, Distribution], Field(min_length=1)]
    """What is searched: dotted paths into the spec, and what the values of each are drawn from."""
    trials: Count
    """Points."""
    seed: Seed = 0
    """Of the points. The seeds of the members are those of the grid."""
    halving: Halving | None = None
    """Null: every point is trained to the end."""
    confirm: Natural = 3
    """The best point is measured anew on so many seeds that the search did not use."""

    def points(self) -> list[dict[str, Any]]:
        """The points in their order, each with a value for every path; fewer where the space has no more."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self.space), scramble=True, rng=self.seed)
        found: dict[str, dict[str, Any]] = {}
        count = 1 << max(0, self.trials - 1).bit_length()
        drawn: Sequence[Sequence[float]] = sequence.random(count)
        seen = count
        while True:
            for u in drawn:
                values = (item.at(float(one)) for item, one in zip(self.space.values(), u, strict=True))
                point = dict(zip(self.space, values, strict=True))
                found.setdefault(json.dumps(point), point)
            if len(found) >= self.trials or seen >= max(MOST, count):
                return list(found.values())[: self.trials]
            drawn, seen = sequence.random(seen), 2 * seen


def _rounded(value: float, low: float, high: float) -> float:
    return min(high, max(low, float(f"{value:.{DIGITS}g}")))

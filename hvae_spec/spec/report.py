"""What the report says of the results. It is of no member, so that no digest sees it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hvae_spec.spec.base import InFloat64, Positive, SpecModel

Quantity = Literal["test_log_likelihood", "active_units"]
COMPARED = InFloat64("it is compared with a difference of two float64")
TOLERANCE, TOLERANCES = 0.3, {"norb": 30.0}
"""Nats per image, where a spec says nothing, and on which data sets they are others."""
Compared = Annotated[list[Any], Field(min_length=2, max_length=2)]


FactorName = Annotated[str, Field(min_length=1)]
"""`variant`, `depth`, or an axis of the grid as `grid.axes` names it."""


class Layout(SpecModel):
    """Which factors of the grid stand where in the table and the figure over the axes."""

    x: FactorName | None = None
    """The factor along the horizontal axis of the figure and down the rows of the table. Null: it is chosen."""
    color: FactorName | None = None
    """The factor that lines differ in by color and marker; its levels are columns of the table. Null: it is chosen."""
    facet: FactorName | None = None
    """The factor of which every level has a panel of its own. Null: it is chosen."""

    @property
    def places(self) -> dict[str, str]:
        """The factors that are given a place, by its name."""
        return {place: factor for place, factor in self if factor is not None}


class ReportSpec(SpecModel):
    """What is asked of the grid, how its results are laid out, and how ours are judged beside the published values."""

    question: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """What the grid is to answer, in the author's words. Null: it is derived from the factors of the grid."""
    layout: Layout = Layout()
    """Which factors stand where: `{x: training.optimizer.adam.lr, color: variant}`. What is not named is chosen."""

    tolerance: Annotated[Positive | None, COMPARED] = None
    """How far a test log-likelihood may be from the published one and still agree, in nats per image. Null: 0.3, about
    what the ladder gains in the paper's Table 1 (0.27) and a third of what that table spans; on `norb`, whose values
    are densities of 1,024 pixels, 30, which is less than all steps but one from a row of Table 3 to the next."""
    active_units_tolerance: Annotated[Positive, COMPARED] = 2.0
    """The same for the number of active units of a layer, and of all layers."""
    reference: dict[str, Any] = Field(default_factory=dict)
    """The level that effects of a factor are measured from, by the dotted path of a field or the name of an axis:
    `{training.optimizer.adam.lr: 1e-3}`. Else it is what the paper compares with, or the first in the grid."""
    contrasts: dict[str, Compared] = Field(default_factory=dict)
    """Comparisons that the experiment is made for, from the first to the second: of two variants under a name of one's
    own, `{sharing: [separate, shared]}`, or of two levels of a field or an axis under its path or name. They are
    corrected for each other alone if they are planned before the first result."""

    def of(self, quantity: Quantity, dataset: str) -> float:
        """The tolerance of a quantity on a data set."""
        if quantity == "active_units":
            return self.active_units_tolerance
        return self.tolerance or TOLERANCES.get(dataset, TOLERANCE)

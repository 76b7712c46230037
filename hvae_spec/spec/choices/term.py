"""The terms of the log weight whose importance-weighted bound is maximized, and what an extension adds to them."""

from dataclasses import dataclass

from hvae_spec.registry import Registry
from hvae_spec.spec.choice import ChoiceSection


@dataclass(frozen=True)
class Term:
    """One term of log w."""

    equation: str


TERMS: Registry[Term] = Registry("term of the objective")
TERMS.add("likelihood", Term("log p(x|z_1)"))
TERMS.add("prior", Term("β Σ_i [log p(z_i|…) − log q(z_i|…)]"))


@dataclass(frozen=True)
class AddedTerm:
    """One term that `objective.term` adds to log w in training. Reported bounds are without it."""

    equation: str
    """It, with its sign: `- λ |z_1|²`."""
    default: ChoiceSection | None = None
    """It with its default settings; None for one without settings."""


ADDED_TERMS: Registry[AddedTerm] = Registry("added term")
"""Of extensions alone."""

"""The terms of the log weight whose importance-weighted bound is maximized."""

from dataclasses import dataclass

from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Term:
    """One term of log w."""

    equation: str
    field: str | None = None
    """The field of `objective` that it takes as an argument of that name. The term is absent while the field has its
    default. None: it takes none, and is always there."""


TERMS: Registry[Term] = Registry("term of the objective")
TERMS.add("likelihood", Term("log p(x|z_1)"))
TERMS.add("prior", Term("β Σ_i [log p(z_i|…) − log q(z_i|…)]"))

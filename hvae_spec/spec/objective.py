"""What is maximized: the bound and its warm-up (Eqs. 10-12 and 22)."""

from typing import Annotated, Any

from hvae_spec.spec.base import Count, Flag, Natural, SpecModel
from hvae_spec.spec.choices.term import TERMS
from hvae_spec.spec.fields import (
    Affects,
    AuthorsCode,
    Column,
    Factor,
    IdleWhere,
    NoStepCost,
    Paper,
    PerMember,
    ShortName,
)


class ObjectiveSpec(SpecModel):
    """The training bound: mean over M samples of log (1/K) sum_k w_k, its KL part weighted by beta."""

    warm_up: Annotated[
        Natural,
        Affects("schedule"),
        PerMember(),
        NoStepCost("beta is multiplied whatever it is"),
        Column("warm_up", "warm-up"),
        ShortName("warm-up"),
        Factor("+WU"),
        Paper(200, "Sec. 3", by_dataset={"norb": 1000}, fine_tuning=0, iwae=0, hinders="budget"),
    ] = 0
    """N_t: beta rises linearly from 0 in the first epoch to 1 in this one (Sec. 2.2); 0 is no warm-up."""
    mc_samples: Annotated[
        Count,
        Affects("schedule"),
        Column("training_mc_samples", "Monte Carlo samples in training"),
        Paper(1, "Sec. 3", is_varied_in_fine_tuning=True),
    ] = 1
    """M, Monte Carlo samples of the bound."""
    iw_samples: Annotated[
        Count,
        Affects("schedule"),
        Column("training_iw_samples", "importance samples in training"),
        Paper(1, "Sec. 3", is_varied_in_fine_tuning=True),
    ] = 1
    """K, importance samples inside the logarithm; K = 1 is the ELBO."""
    sample_ramp: Annotated[
        Flag,
        Affects("schedule"),
        NoStepCost("a step is measured with all samples"),
        IdleWhere({"training_mc_samples": 1, "training_iw_samples": 1}),
        AuthorsCode("`true`", True),
    ] = False
    """Epoch e uses min(M, e) and min(K, e) samples, as the authors' code does."""

    @property
    def terms(self) -> dict[str, dict[str, Any]]:
        """The terms of the log weight that are present, in order, each with the argument that it takes, by name."""
        found: dict[str, dict[str, Any]] = {}
        for name in TERMS:
            field = TERMS[name].field
            if field is None:
                found[name] = {}
            elif getattr(self, field) != type(self).model_fields[field].get_default():
                found[name] = {field: getattr(self, field)}
        return found

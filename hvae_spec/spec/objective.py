"""What is maximized: the bound and its warm-up (Eqs. 10-12 and 22)."""

import math
from typing import Annotated, Final, Literal

from pydantic import Field, Strict, TypeAdapter

from hvae_spec.spec.base import Count, Flag, Fraction, InFloat64, Natural, NonNegative, Positive, SpecModel
from hvae_spec.spec.choice import ChoiceSection, Either, Named, OneOf
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.term import ADDED_TERMS
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

Estimator = Annotated[str, Named(ESTIMATORS)]
AddedTerm = Annotated[str | ChoiceSection | None, OneOf(ADDED_TERMS, by_name=True, or_null=True)]


class Cycles(SpecModel):
    """Cyclical warm-up (Fu et al., 2019): in every cycle beta rises linearly to its final value, and stays there."""

    cycles: Count
    """How many cycles there are."""
    ramp: Annotated[float, Strict(), Field(gt=0, le=1), InFloat64("the weight that it leads to is what must count")] = (
        0.5
    )
    """The share of a cycle in which beta rises (Fu et al.: R = 0.5)."""
    over: Count
    """Epochs of all cycles together, a multiple of their number; after them beta is at its final value."""

    @property
    def length(self) -> int:
        """Epochs of a cycle."""
        return self.over // self.cycles

    @property
    def rising(self) -> float:
        """Epochs of a cycle until beta is at its final value, as N_t counts them (it need not be a whole number)."""
        return self.ramp * self.length


class FreeBits(SpecModel):
    """Free bits (Kingma et al., 2016): below a floor, KL costs nothing, so that no layer collapses for lack of use.

    The objective is E[log p(x|z_1)] - beta sum_j max(nats, KL_j), where KL_j is the mean of log q - log p over the
    images of the batch and their samples, of unit or layer j. Reported bounds have no floor.
    """

    nats: Annotated[Positive, PerMember(), NoStepCost("a number within a step that is done whatever it is")]
    """The floor of every KL_j, in nats."""
    per: Literal["unit", "layer"] = "unit"
    """What has a floor of its own: every unit of every layer, or every layer."""


Beta = Annotated[
    NonNegative | tuple[NonNegative, ...],
    Either(
        (list, tuple),
        TypeAdapter(Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=10)]),
        TypeAdapter(NonNegative),
    ),
]
ONLY: Final = "only"
Classification = Annotated[
    NonNegative | Literal["only"], Either((str,), TypeAdapter(Literal["only"]), TypeAdapter(NonNegative))
]
WarmUp = Annotated[Natural | Cycles, Either((dict, Cycles), TypeAdapter(Cycles), TypeAdapter(Natural))]


class ObjectiveSpec(SpecModel):
    """The training bound: mean over M samples of log (1/K) sum_k w_k, its KL part weighted by beta. With M and K above
    1 it is the multiply importance-weighted bound (MIWAE; Rainforth et al., 2018).
    """

    beta: Annotated[
        Beta,
        Affects("schedule"),
        PerMember(),
        NoStepCost("the KL part is multiplied by a weight whatever it is"),
        Column("beta"),
        Paper(1.0, "Sec. 2.2", iwae=1.0),
    ] = 1.0
    """The weight of the KL part at the end of warm-up (Higgins et al., 2017), or a list of a weight per layer, from z_1
    up, of which each depth keeps the lowest: log p(x|z_1) + sum_i beta_i [log p(z_i|z_{i+1}) - log q(z_i|...)].
    Reported bounds have a weight of 1 always."""
    warm_up: Annotated[
        WarmUp,
        Affects("schedule"),
        PerMember(),
        NoStepCost("beta is multiplied whatever it is"),
        Column("warm_up", "warm-up"),
        ShortName("warm-up"),
        Factor("+WU"),
        Paper(200, "Sec. 3", by_dataset={"norb": 1000}, fine_tuning=0, iwae=0, hinders="budget"),
    ] = 0
    """N_t: beta rises linearly from 0 in the first epoch to its final value in this one (Sec. 2.2); 0 is no warm-up.
    Or several rises one after another: `{cycles: 4, ramp: 0.5, over: 800}` (Fu et al., 2019)."""
    free_bits: Annotated[FreeBits | None, Column("free_bits", "free bits"), Paper(None, "Eq. 11", iwae=None)] = None
    """A floor below which KL costs nothing: `{nats: 0.5, per: unit}` (Kingma et al., 2016). It is for `iw_samples: 1`.
    Null: none."""
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
    elbo_share: Annotated[
        Fraction,
        Affects("schedule"),
        PerMember(),
        IdleWhere({"training_iw_samples": 1}),
        Column("elbo_share", "share of the ELBO"),
        Paper(0.0, "Eq. 12", iwae=0.0),
        NoStepCost("a number within a step that is done whatever it is"),
    ] = 0.0
    """The combined bound (CIWAE; Rainforth et al., 2018): share * ELBO + (1 - share) * the bound of K samples, both of
    the same samples."""
    estimator: Annotated[Estimator, Column("estimator"), Paper("reparameterized", "Sec. 2", iwae="reparameterized")] = (
        "reparameterized"
    )
    """How the gradient of the bound by the parameters of q is estimated. `reparameterized`: the whole gradient.
    `stl` (sticking the landing; Roeder et al., 2017): along the samples alone, so that it has no variance where q is
    the exact posterior; for `iw_samples: 1`. `dreg` (doubly reparameterized; Tucker et al., 2019): along the samples,
    with weights that make it unbiased for any K; with K = 1 it is `stl`. Both are unbiased without batch
    normalization, and with a term of an extension if that is a function of the samples and not of log q itself."""
    classification: Annotated[Classification, Column("classification", "weight of log q(y|x)")] = 0.1
    """Of a model with `classes`: alpha, the weight of the mean of log q(y|x) over labeled images, which is added to the
    bounds (Kingma et al., 2014). `only`: this mean alone is maximized, on the labeled images alone, so that neither p
    nor q(z|x, y) is trained: the supervised baseline. Idle without classes."""
    term: Annotated[AddedTerm, Column("added_term", "added term"), Paper(None, "Eq. 11", iwae=None)] = None
    """A term that is added to log w in training, by the name under which an extension registers it, or with settings,
    `{name: {...}}`. Reported bounds are without it. Null: none."""
    sample_ramp: Annotated[
        Flag,
        Affects("schedule"),
        NoStepCost("a step is measured with all samples"),
        IdleWhere({"training_mc_samples": 1, "training_iw_samples": 1}),
        AuthorsCode("`true`", True),
    ] = False
    """Epoch e uses min(M, e) and min(K, e) samples, as the authors' code does."""

    @property
    def read(self) -> "ObjectiveSpec":
        """The objective as far as a step reads it: where q(y|x) alone is trained, nothing of a bound."""
        return ObjectiveSpec(classification=ONLY) if self.classifies_alone else self

    @property
    def classifies_alone(self) -> bool:
        """Whether q(y|x) alone is trained, if there is one."""
        return self.classification == ONLY

    @property
    def classification_weight(self) -> float:
        """alpha; not a number where q(y|x) alone is trained."""
        return math.nan if isinstance(self.classification, str) else self.classification

    @property
    def layer_weights(self) -> float | tuple[float, ...]:
        """The final weight of the KL part: one number where all layers have the same."""
        if isinstance(self.beta, float):
            return self.beta
        return self.beta[0] if len(set(self.beta)) == 1 else self.beta

    @property
    def warm_epoch(self) -> int:
        """The epoch from which on beta is at its final value, counted from 1; 0 without warm-up."""
        if isinstance(self.warm_up, int):
            return self.warm_up if self.warm_up != 1 else 2
        last = (self.warm_up.cycles - 1) * self.warm_up.length
        return last + max(2, math.ceil(self.warm_up.rising))


OF_BOUND = tuple(name for name in ObjectiveSpec.model_fields if name != "classification")
"""The fields of a bound, of which none is read where q(y|x) alone is trained."""

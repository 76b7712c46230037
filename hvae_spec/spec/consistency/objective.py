"""Contradictions in what is maximized."""

from collections.abc import Iterator

from hvae_spec.spec.base import Loc
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import Cycles, ObjectiveSpec


def objective_problems(
    depth: int, objective: ObjectiveSpec, epochs: int, section: Loc, which: str
) -> Iterator[Inconsistency]:
    """Contradictions in what is maximized.

    Args:
        depth: number of layers.
        objective: of the training, or of the first phase.
        epochs: how many of them it has.
        section: where it stands.
        which: `training`, or `the first phase`.

    """
    path = ".".join(map(str, section))
    length = "training.epochs" if section == ("objective",) else f"{path}.epochs"

    def problem(field: str, message: str, remedy: str, *others: str) -> Inconsistency:
        return Inconsistency((*section, field), message, remedy, (f"{path}.{field}", *others))

    warm_up, estimator = objective.warm_up, ESTIMATORS[objective.estimator]
    ends = warm_up if isinstance(warm_up, int) else warm_up.over
    final = f"{objective.beta:g}" if isinstance(objective.beta, float) else "its final value"
    if ends > epochs and isinstance(warm_up, Cycles):
        yield problem(
            "warm_up",
            f"{warm_up.cycles} cycles of warm-up over {ends} epochs are longer than {which} ({epochs} epochs)",
            f"over: at most {epochs}, or {length} of at least {ends}",
            length,
        )
    elif ends > epochs:
        yield problem(
            "warm_up",
            f"warm-up of {ends} epochs is longer than {which} ({epochs} epochs): beta would never reach {final}",
            f"a warm_up of at most {epochs}, or {length} of at least {ends}",
            length,
        )
    if isinstance(warm_up, Cycles) and (warm_up.over % warm_up.cycles or warm_up.length < 2):
        yield problem(
            "warm_up",
            f"{warm_up.over} epochs make no {warm_up.cycles} cycles of two whole epochs or more",
            f"over: a multiple of {warm_up.cycles}, {max(2, warm_up.length) * warm_up.cycles} say",
        )
    if isinstance(objective.beta, tuple) and len(objective.beta) != depth:
        yield problem(
            "beta",
            f"{len(objective.beta)} weights of the KL for {depth} layer{'s' * (depth > 1)}",
            "a weight for every layer of model.layers (a smaller depth keeps the lowest), or one number",
            "model.layers",
            "grid.depth",
        )
    elif isinstance(objective.layer_weights, tuple) and not estimator.for_layer_weights:
        yield problem(
            "beta",
            f"a weight for every layer with the estimator {objective.estimator}, which is derived for one weight",
            "one number, or another estimator",
            f"{path}.estimator",
        )
    if objective.iw_samples > 1:
        samples = f"{objective.iw_samples} importance samples"
        if objective.free_bits is not None:
            yield problem(
                "free_bits",
                f"free bits with {samples}: the floor is one of the KL, which their bound has no term for",
                "iw_samples: 1, or free_bits: null",
                f"{path}.iw_samples",
            )
        if not estimator.for_importance_weights:
            unbiased = [name for name in ESTIMATORS if ESTIMATORS[name].for_importance_weights]
            yield problem(
                "estimator",
                f"the estimator {objective.estimator} with {samples}, for which it is biased",
                f"iw_samples: 1, or estimator: {' or '.join(unbiased)}",
                f"{path}.iw_samples",
            )
        if objective.term is not None and estimator.is_path:
            yield problem(
                "estimator",
                f"the estimator {objective.estimator} with {samples} and a term of an extension: its weights are "
                "derived for the log weights alone",
                "estimator: reparameterized, iw_samples: 1, or term: null",
                f"{path}.iw_samples",
                f"{path}.term",
            )
        if objective.elbo_share and estimator.is_path:
            yield problem(
                "elbo_share",
                f"a share of the ELBO with the estimator {objective.estimator}, whose weights are those of the bound "
                f"of {samples} alone",
                "elbo_share: 0, or estimator: reparameterized",
                f"{path}.estimator",
                f"{path}.iw_samples",
            )


def unit_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """A floor of every unit's KL where a layer has one KL as a whole."""
    model, first = member.model, member.training.first_phase
    whole = [f"z_{place}" for place, factorizes in enumerate(model.factorizes, start=1) if not factorizes]
    phases: list[tuple[Loc, ObjectiveSpec]] = [(("objective",), member.objective)]
    phases += [] if first is None else [(("training", "first_phase"), first)]
    for path, objective in phases:
        if whole and objective.free_bits is not None and objective.free_bits.per == "unit":
            yield Inconsistency(
                (*path, "free_bits"),
                f"free bits per unit, and the KL of {' and '.join(whole)} is of the layer as a whole: its p or q is no "
                "product over units",
                "per: layer",
                (".".join(map(str, path)) + ".free_bits", "model.prior", "model.flow", "model.layers"),
            )

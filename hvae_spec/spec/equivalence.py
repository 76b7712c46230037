"""The plainest way to write a member: without settings that change none of its numbers, though they have a digest of
their own, as what a pack and a record keep for them is another.
"""

from typing import Any

from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import ObjectiveSpec
from hvae_spec.spec.training import TrainingSpec


def plainest(member: MemberSpec) -> MemberSpec:
    """The same training and evaluation in fewer words: a schedule that never changes the rate is none, an average that
    is the last weights is none, a decay of 0 is none, and nothing floors or warms up a KL part of weight 0.

    Args:
        member: a resolved spec.

    """
    changes = {"objective": _objective(member.objective, member.training), "training": _training(member.training)}
    return member.model_copy(update=changes)


def _objective(objective: ObjectiveSpec, training: TrainingSpec) -> ObjectiveSpec:
    if objective.layer_weights != 0:
        return objective
    changes: dict[str, Any] = {"free_bits": None}
    if training.early_stopping is None:
        # Else evaluations count only after it.
        changes["warm_up"] = 0
    return objective.model_copy(update=changes)


def _training(training: TrainingSpec) -> TrainingSpec:
    changes: dict[str, Any] = {"optimizer": training.optimizer.plainest}
    for name in ("lr_decay", "schedule"):
        chosen = getattr(training, name)
        if chosen is not None and chosen.is_constant(training.epochs):
            changes[name] = None
    if training.ema == 0:
        changes["ema"] = None
    return training.model_copy(update=changes)

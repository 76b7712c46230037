"""The phases of a training, as contradictions look at them."""

from hvae_spec.spec.base import Loc
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import ObjectiveSpec


def objectives(member: MemberSpec) -> list[tuple[Loc, ObjectiveSpec]]:
    """What is maximized in every phase, and the section that says it."""
    first = member.training.first_phase
    own: tuple[Loc, ObjectiveSpec] = ("objective",), member.objective
    return [own] if first is None else [own, (("training", "first_phase"), first)]

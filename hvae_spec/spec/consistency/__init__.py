"""Inconsistencies: valid values that contradict each other or the data, found before anything runs."""

from hvae_spec.spec.consistency.data import CountImages
from hvae_spec.spec.consistency.grid import combination_problems, grid_problems, same_model
from hvae_spec.spec.consistency.inconsistency import Inconsistency, may_follow_from
from hvae_spec.spec.consistency.member import member_problems
from hvae_spec.spec.consistency.search import ranking_problems

__all__ = [
    "CountImages",
    "Inconsistency",
    "combination_problems",
    "grid_problems",
    "may_follow_from",
    "member_problems",
    "ranking_problems",
    "same_model",
]

"""Which members train together: those of one shape, in packs as large as pays, as small as keeps workers busy."""

import json
import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import chain, pairwise

from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import Path, PerMember, exclusion, fields
from hvae_spec.spec.grid import Member
from tune.plan.schedule import simulate

NEAR_IDEAL = 1.1
"""Packs are cut smaller while the whole takes longer than this times what it must take: the work shared evenly among
workers, or the longest member alone.
"""
LIMITS, LOWER = 60, 0.95
"""How many limits to the duration of packs are tried, and each by the one before it."""


def shape(member: MemberSpec) -> str:
    """What members of one pack have in common, as a string: every field of the spec but those that a pack applies
    member by member (`PerMember`); of some of these, whether they are null (`PerMember.null_apart`).
    """
    nulls = [path for path in _null_apart() if reduce(getattr, path, member) is None]
    return member.model_dump_json(exclude=exclusion(MemberSpec, PerMember)) + json.dumps(nulls)


@kept_until_a_choice_joins
def _null_apart() -> tuple[Path, ...]:
    """The fields of which members that have null are apart from those that have a value."""
    stated = ((item.path, item.fact(PerMember)) for item in fields(MemberSpec))
    return tuple(path for path, per_member in stated if per_member is not None and per_member.null_apart)


def group(
    members: Sequence[tuple[str, Member]],
    size_of: Callable[[MemberSpec], int],
    seconds_of: Callable[[MemberSpec, int], float],
    *,
    workers: int,
    begun: Sequence[float] = (),
) -> list[list[Member]]:
    """Packs of members: each shape cut into packs of nearly equal size, and into smaller ones where that would leave
    workers idle.

    Args:
        members: each with its shape.
        size_of: how many members a pack of this shape has at most.
        seconds_of: forecast of a pack of this shape and so many members.
        workers: packs that run at a time.
        begun: seconds of the packs that run beside these.

    """
    shapes: dict[str, list[Member]] = {}
    for key, member in members:
        shapes.setdefault(key, []).append(member)
    counts = {key: math.ceil(len(one) / size_of(one[0].spec)) for key, one in shapes.items()}
    while sum(counts.values()) < workers - len(begun):
        cuttable = [key for key, one in shapes.items() if counts[key] < len(one)]
        if not cuttable:
            break
        counts[max(cuttable, key=lambda key: len(shapes[key]) / counts[key])] += 1
    counts = _balanced(shapes, counts, seconds_of, workers, begun)
    return [part for key, one in shapes.items() for part in _cut(one, counts[key])]


def _balanced(
    shapes: dict[str, list[Member]],
    counts: dict[str, int],
    seconds_of: Callable[[MemberSpec, int], float],
    workers: int,
    begun: Sequence[float],
) -> dict[str, int]:
    """Numbers of packs with which all workers end at about the same time: no pack may take longer than a limit,
    which is lowered as long as that helps by the forecast.
    """

    def seconds(key: str, count: int) -> list[float]:
        smaller, larger = divmod(len(shapes[key]), count)
        spec = shapes[key][0].spec
        long = [seconds_of(spec, smaller + 1)] * larger if larger else []
        return long + [seconds_of(spec, smaller)] * (count - larger)

    durations = {key: seconds(key, count) for key, count in counts.items()}
    schedule = simulate([*begun, *chain(*durations.values())], workers)
    # No cutting makes it faster than this.
    least = max(schedule.total / workers, *begun, *(seconds_of(one[0].spec, 1) for one in shapes.values()), 0.0)
    best, shortest, limit = dict(counts), schedule.makespan, schedule.longest
    counts = dict(counts)
    for _ in range(LIMITS):
        if shortest <= NEAR_IDEAL * least:
            break
        limit *= LOWER
        for key, one in shapes.items():
            while durations[key][0] > limit and counts[key] < len(one):
                # The next number of packs with which the largest of them is smaller.
                counts[key] = math.ceil(len(one) / (math.ceil(len(one) / counts[key]) - 1))
                durations[key] = seconds(key, counts[key])
        span = simulate([*begun, *chain(*durations.values())], workers).makespan
        if span < 0.99 * shortest:
            best, shortest = dict(counts), span
    return best


def _cut(members: list[Member], parts: int) -> list[list[Member]]:
    edges = [round(place * len(members) / parts) for place in range(parts + 1)]
    return [members[start:end] for start, end in pairwise(edges)]

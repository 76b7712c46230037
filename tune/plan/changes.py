"""How the members that a results folder holds differ from those that a spec plans, field by field."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hvae_spec.records.index import IndexedRecord, spec_of
from hvae_spec.records.plan import GridFile
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from tune.plan.needs import Need

MOST_FIELDS = 4
"""Fields that are named of one difference at most."""
MOST_CELLS = 50
"""Distinct specs that a record without a counterpart is compared with at most."""

FATES = (("leaves the tables", "leave the tables"), ("continues", "continue"))
"""What becomes of one record, and of several: whether a member of the plan goes on from them."""


def changes(index: Mapping[str, IndexedRecord], before: GridFile | None, needs: Sequence[Need]) -> list[str]:
    """What becomes of records that the plan does not name: `training.epochs 200 -> 300: 33 members continue`.

    Args:
        index: the records of the results folder.
        before: the grid as it was planned before.
        needs: what the members of the present plan need.

    """
    planned = {need.member.digests.training for need in needs}
    others = {name: entry for name, entry in index.items() if entry.training not in planned}
    # A user's own weights are of no grid.
    left = {name: entry for name, entry in others.items() if "own_weights" not in entry.spec}
    if not left:
        return []
    continued = {need.extends.name for need in needs if need.extends is not None}
    labels = {} if before is None else {member.training: member.labels for member in before.members}
    by_labels = {_key(need.member.labels): need.member for need in needs}
    cells = list({_content_key(need.member.spec): need.member for need in needs}.values())[:MOST_CELLS]
    known: dict[str, str] = {}
    counts: Counter[tuple[str, bool]] = Counter()
    for name, entry in left.items():
        counterpart = by_labels.get(_key(labels.get(entry.training, {})))
        key = repr({**entry.spec, "seed": 0}) + (_content_key(counterpart.spec) if counterpart else "")
        if key not in known:
            spec = spec_of(entry)
            known[key] = "a spec of another version" if spec is None else _difference(spec, counterpart, cells)
        counts[known[key], name in continued] += 1
    return [f"{what}: {members_that(count, *FATES[continues])}" for (what, continues), count in counts.items()]


def members_that(count: int, one: str, several: str) -> str:
    """`1 member continues`, `33 members continue`: a number of members with the verb for one or for several."""
    return f"{count:,} member {one}" if count == 1 else f"{count:,} members {several}"


def differences(old: Any, new: Any, path: str = "") -> Iterable[str]:
    """`training.epochs 200 -> 300` for every field in which two trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, two, f"{path}.{place}")
    elif old != new:
        yield f"{path} {_shown(old)} -> {_shown(new)}"


def _difference(old: MemberSpec, counterpart: Member | None, cells: Sequence[Member]) -> str:
    tree = _trained(old)
    candidates = [counterpart] if counterpart is not None else cells
    found = [list(differences(tree, _trained(candidate.spec))) for candidate in candidates]
    nearest = min(found, key=len, default=[])
    if not nearest:
        return "no longer in the grid (another seed, or a cell that is left out)"
    more = len(nearest) - MOST_FIELDS
    return ", ".join(nearest[:MOST_FIELDS]) + (f" and {more} more fields" if more > 0 else "")


def _trained(spec: MemberSpec) -> dict[str, Any]:
    """What a training reads of a spec, but for its seed."""
    return spec.model_dump(mode="json", exclude={"seed": True, "evaluation": True, "data": {"test_images"}})


def _content_key(spec: MemberSpec) -> str:
    return repr(_trained(spec))


def _key(labels: Mapping[str, Any]) -> str:
    return repr(sorted(labels.items()))


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return f"a list of {len(value)}"
    return f"{value:g}" if isinstance(value, float) else str(value)

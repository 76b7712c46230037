"""Fields in two forms, a short and a long one (`hvae_spec.spec.fields.ShortFor`), where layers of a spec are merged:
base, file, profile, `--set`, level of an axis, variant. The later layer that gives either form counts, and within one
layer no mapping gives both.
"""

from collections.abc import Iterator
from itertools import combinations

from hvae_spec.errors import Problem
from hvae_spec.spec.base import Loc
from hvae_spec.spec.grid import names_of, other_forms
from hvae_spec.spec.yaml import Node

NO_SETTINGS: tuple[Loc, ...] = (("report",), ("grid", "exclude"))
"""Parts of a file that name fields without setting them."""
FACTORS: tuple[Loc, ...] = (("grid", "axes"), ("search", "space"))
"""Mappings of which a cell has one value per key. Which of them cannot stand together is known cell by cell (see
`hvae_spec.spec.grid.Combination.twice`).
"""

ONE_FORM = "one of the two; of several layers (base, file, profile, --set, level, variant) the later one counts"


def drop_other_forms(node: Node, section: Loc, key: str) -> None:
    """Drop from a mapping what gives another form of the field that a later layer gives by one of its keys.

    Args:
        node: the mapping.
        section: its path.
        key: the key of the later layer.

    """
    for other in () if _names_alone(section) else other_forms((*section, key)):
        for beside in [name for name in node.value if _is_within((*section, name), other)]:
            del node.value[beside]
            node.keys.pop(beside, None)


def twice(node: Node, path: Loc = ()) -> Iterator[Problem]:
    """The fields that one mapping of a file gives in two forms. Their second form is dropped.

    Args:
        node: the file, or a part of it.
        path: of the part.

    """
    if _names_alone(path):
        return
    if isinstance(node.value, list):
        for index, entry in enumerate(node.value):
            yield from twice(entry, (*path, index))
    elif isinstance(node.value, dict):
        given = [key for key, child in node.value.items() if child.value is not None]
        for first, second in combinations(given, 2) if path not in FACTORS else ():
            others = other_forms((*path, second)) if second in node.value else []
            if any(_is_within((*path, first), other) for other in others):
                place = node.keys[first]
                message = f"{second} beside {first} ({place}): they are two forms of one field"
                yield Problem("inconsistent", node.value.pop(second).place, message, ONE_FORM, spoils=(place,))
        for key, child in node.value.items():
            yield from twice(child, (*path, key))


def _names_alone(path: Loc) -> bool:
    """Whether a path leads into a part of a file that sets nothing."""
    return any(path[: len(part)] == part for part in NO_SETTINGS)


def _is_within(path: Loc, other: Loc) -> bool:
    """Whether a path leads to or into what another one names."""
    return names_of(path)[: len(other)] == other

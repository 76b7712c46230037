"""Fields in two forms, a short and a long one (`hvae_spec.spec.fields.ShortFor`), where layers of a spec are merged:
base, file, profile, `--set`, level of an axis, variant. The later layer that gives either form counts, and within one
layer no mapping gives both. Null gives nothing: in a later layer it takes away what the earlier ones give in either
form, and beside a value of the other form in its own layer it says nothing.
"""

from collections.abc import Iterable, Iterator

from hvae_spec.errors import Problem
from hvae_spec.spec.base import Loc
from hvae_spec.spec.grid import form_of
from hvae_spec.spec.yaml import Node

NO_SETTINGS: tuple[Loc, ...] = (("report",), ("grid", "exclude"))
"""Parts of a file that name fields without setting them."""
FACTORS: tuple[Loc, ...] = (("grid", "axes"), ("search", "space"))
"""Mappings of which a cell has one value per key. Which of them cannot stand together is known cell by cell (see
`hvae_spec.spec.grid.Combination.twice`).
"""

ONE_FORM = "one of the two; of several layers (base, file, profile, --set, level, variant) the later one counts"


def drop_other_forms(node: Node, section: Loc, later: Iterable[str]) -> None:
    """Drop from a mapping what gives other forms of the fields that a later layer gives, be it null.

    Args:
        node: the mapping.
        section: its path.
        later: the keys of the later layer.

    """
    if _names_alone(section):
        return
    given: dict[Loc, set[Loc]] = {}
    for own, long in (form for key in later for form in _forms_of((*section, key))):
        given.setdefault(long, set()).add(own)
    for key in list(node.value) if given else ():
        if any(long in given and own not in given[long] for own, long in _forms_of((*section, key))):
            del node.value[key]
            node.keys.pop(key, None)


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
        given: dict[Loc, tuple[Loc, str]] = {}
        for key in [] if path in FACTORS else [key for key, child in node.value.items() if child.value is not None]:
            for own, long in _forms_of((*path, key)):
                form, first = given.setdefault(long, (own, key))
                if form != own:
                    place = node.keys[first]
                    message = f"{key} beside {first} ({place}): they are two forms of one field"
                    yield Problem("inconsistent", node.value.pop(key).place, message, ONE_FORM, spoils=(place,))
        for key, child in node.value.items():
            yield from twice(child, (*path, key))


def _forms_of(path: Loc) -> list[tuple[Loc, Loc]]:
    """The form that a path leads to or into, and its long form, if it has several."""
    form = form_of(path)
    return [] if form is None else [form]


def _names_alone(path: Loc) -> bool:
    """Whether a path leads into a part of a file that sets nothing."""
    return any(path[: len(part)] == part for part in NO_SETTINGS)

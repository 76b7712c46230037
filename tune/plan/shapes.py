"""The shapes of a grid, each as fast as a measurement says, and what each is called."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Cell
from hvae_spec.spec.labels import level_label
from tune.measure.cache import shape_name, step_shape

NAMED = 3
"""How many variants, or levels of an axis, a name lists."""


@dataclass(frozen=True)
class Shape:
    """Members that are equally fast."""

    name: str
    """One of its own: `mnist L1 VAE (plain)`."""
    member: MemberSpec
    """One of them."""


def key_of(member: MemberSpec) -> str:
    """The same for all members that are equally fast (`step_shape`)."""
    return json.dumps(step_shape(member), sort_keys=True)


def shapes(cells: Iterable[Cell]) -> dict[str, Shape]:
    """The distinct shapes of some cells, by `key_of`. Where several have one `shape_name`, the variants and the levels
    of axes in which they differ follow in parentheses.
    """
    by_key: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_key[key_of(cell.member)].append(cell)
    by_name: dict[str, list[list[Cell]]] = defaultdict(list)
    for own in by_key.values():
        by_name[shape_name(own[0].member)].append(own)
    found: dict[str, Shape] = {}
    taken: Counter[str] = Counter()
    for key, own in by_key.items():
        name = shape_name(own[0].member)
        if len(by_name[name]) > 1:
            name = f"{name} ({_differing(own, by_name[name])})"
        taken[name] += 1
        # Two grids may call different cells the same.
        found[key] = Shape(name if taken[name] == 1 else f"{name} #{taken[name]}", own[0].member)
    return found


def _differing(own: list[Cell], every: list[list[Cell]]) -> str:
    """In what the cells of a shape differ from those of others with its name; if in nothing, what they are called."""
    parts = [_parts(cells) for cells in every]
    mine = _parts(own)
    told = {part: words for part, words in mine.items() if any(other.get(part) != words for other in parts)}
    return ", ".join(" / ".join(_shortened(list(words))) for words in (told or mine).values())


def _parts(cells: list[Cell]) -> dict[str, dict[str, None]]:
    """The variants of cells, and their levels of every axis, in words."""
    found: dict[str, dict[str, None]] = {"variant": {cell.variant: None for cell in cells}}
    for cell in cells:
        for axis, level in cell.factors.items():
            found.setdefault(axis, {})[level_label(axis, level, cell.factors)] = None
    return found


def _shortened(words: list[str]) -> list[str]:
    return words if len(words) <= NAMED else [*words[:NAMED], f"{len(words) - NAMED} more"]

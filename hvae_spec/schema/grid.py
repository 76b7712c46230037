"""From an experiment to its cells: depths x variants x axes, each a resolved spec."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from hvae_spec.schema.experiment import Experiment, Member

Path = tuple[str | int, ...]
SECTIONS = ("data", "model", "objective", "training", "evaluation")


class UnknownPath(KeyError):
    """A dotted path that leads nowhere in the spec. `known` holds the keys at the point where it goes wrong."""

    def __init__(self, path: str, key: str, known: list[str]) -> None:
        super().__init__(path)
        self.path, self.key, self.known = path, key, known


@dataclass(frozen=True)
class Cell:
    """One variant at one depth on one data set, with its place on every axis; seeds are its replicates."""

    variant: str
    depth: int
    axes: dict[str, Any]
    member: Member = field(repr=False)
    """The resolved spec of the cell's first seed."""
    seeds: tuple[int, ...]

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.member.data.dataset

    @property
    def members(self) -> list["GridMember"]:
        """The cell's members, one a seed."""
        return [GridMember(self, self.member.model_copy(update={"seed": seed})) for seed in self.seeds]


@dataclass(frozen=True)
class GridMember:
    """One (cell, seed): the resolved spec together with its labels in the grid."""

    cell: Cell
    spec: Member

    @cached_property
    def digest(self) -> str:
        """See `Member.digest`."""
        return self.spec.digest

    @property
    def seed(self) -> int:
        """The replicate."""
        return self.spec.seed

    @property
    def labels(self) -> dict[str, Any]:
        """What tables and figures call this member: dataset, depth, variant, seed, and its place on every axis."""
        cell = self.cell
        factors = {path: value for path, value in cell.axes.items() if path != "data.dataset"}
        return {"dataset": cell.dataset, "depth": cell.depth, "variant": cell.variant, "seed": self.seed, **factors}

    @property
    def folder(self) -> str:
        """Name of the record's folder, readable and unique: `mnist-L5-prob-ladder-bn-wu-s0-<digest>`."""
        words = [self.cell.dataset, f"L{self.cell.depth}", slug(self.cell.variant)]
        words += [
            slug(f"{path.rsplit('.', 1)[-1]}-{value}")
            for path, value in self.cell.axes.items()
            if path != "data.dataset"
        ]
        return "-".join([*filter(None, words), f"s{self.seed}", self.digest[:12]])


def slug(text: str) -> str:
    """`text` in lower case, all but letters, digits and decimal points replaced by dashes; safe in a file name."""
    return re.sub(r"((?<!\d)\.|\.(?!\d)|[^a-z0-9.])+", "-", text.lower()).strip("-.")[:60]


def parse_path(path: str) -> Path:
    """`model.layers.0.units` -> ("model", "layers", 0, "units")."""
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def set_path(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set `path` in a full spec tree (every field present) to `value`.

    Raises:
        UnknownPath: the path does not exist in the tree.

    """
    parts = parse_path(path)
    node: Any = tree
    for position, part in enumerate(parts):
        if isinstance(node, dict):
            known: list[str] = list(node) if position else list(SECTIONS)
        elif isinstance(node, list):
            known = [str(index) for index in range(len(node))]
        else:
            known = []
        if str(part) not in known:
            raise UnknownPath(path, str(part), known)
        key = part if isinstance(node, list) else str(part)
        if position == len(parts) - 1:
            node[key] = copy.deepcopy(value)
        else:
            node = node[key]


@dataclass(frozen=True)
class Combination:
    """A cell before it is validated: its labels and the spec tree that they resolve to."""

    variant: str | None
    depth: int
    axes: dict[str, Any]
    tree: dict[str, Any]
    overrides: tuple[tuple[Path, Path], ...]
    """(path in the resolved tree, path in the file whose value went there), in order of application."""


def combinations(experiment: Experiment) -> Iterator[Combination]:
    """Every cell of the grid before exclusion and validation.

    Raises:
        UnknownPath: a variant or an axis names a path that does not exist.

    """
    grid = experiment.grid
    base = experiment.model_dump(mode="json", exclude={"name", "grid"})
    names: list[str | None] = list(grid.variants) or [None]
    axes = list(grid.axes)
    for depth, name in itertools.product(grid.depth or (experiment.model.depth,), names):
        for places in itertools.product(*(range(len(grid.axes[axis])) for axis in axes)):
            tree = copy.deepcopy(base)
            tree["model"]["layers"] = tree["model"]["layers"][:depth]
            overrides: list[tuple[Path, Path]] = []
            if name is not None:
                for path, value in grid.variants[name].items():
                    set_path(tree, path, value)
                    overrides.append((parse_path(path), ("grid", "variants", name, path)))
            for axis, place in zip(axes, places, strict=True):
                set_path(tree, axis, grid.axes[axis][place])
                overrides.append((parse_path(axis), ("grid", "axes", axis, place)))
            values = {axis: grid.axes[axis][place] for axis, place in zip(axes, places, strict=True)}
            yield Combination(name, depth, values, tree, tuple(overrides))


def is_excluded(experiment: Experiment, combination: Combination) -> bool:
    """Whether an entry of `grid.exclude` names this cell."""
    labels = {"variant": combination.variant, "depth": combination.depth, **combination.axes}
    return any(matches(entry, labels) for entry in experiment.grid.exclude)


def matches(entry: dict[str, Any], labels: dict[str, Any]) -> bool:
    """Whether every label that `entry` names has the value that it names."""
    return bool(entry) and all(key in labels and labels[key] == value for key, value in entry.items())


def resolve(experiment: Experiment, combination: Combination) -> Cell:
    """The cell of a combination.

    Raises:
        pydantic.ValidationError: its overrides do not make a valid spec.

    """
    member = Member.model_validate({**combination.tree, "seed": experiment.grid.seeds[0]})
    variant = combination.variant if combination.variant is not None else member.label
    depth = member.model.depth
    return Cell(variant, depth, combination.axes, member, experiment.grid.seeds)


def cells(experiment: Experiment) -> list[Cell]:
    """The grid's cells, excluded ones left out, in the order depth, variant, axes.

    Raises:
        UnknownPath, pydantic.ValidationError: a variant or an axis makes no valid spec. `hvae_spec.load` finds these
            while reading, with their place in the file.

    """
    return [resolve(experiment, item) for item in combinations(experiment) if not is_excluded(experiment, item)]


def members(experiment: Experiment) -> list[GridMember]:
    """Every member of the grid: its cells times its seeds."""
    return [member for cell in cells(experiment) for member in cell.members]


__all__ = ["Cell", "Combination", "GridMember", "UnknownPath", "ValidationError", "cells", "combinations", "members"]

"""The architectures of a grid: each model once, with the variants that share it, at its greatest depth; and what they
are trained for: each objective once.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.frames import Frames
from hvae_spec.records.layout import Record
from hvae_spec.spec import equations
from hvae_spec.spec.experiment import MemberSpec


@dataclass(frozen=True)
class Architecture:
    """One model, and the variants that have it."""

    dataset: str
    variants: tuple[str, ...]
    """They differ only in how they are trained, for example in warm-up."""
    member: MemberSpec
    """The spec of one of its members."""


def architectures(frames: Frames) -> list[Architecture]:
    """The different models of the planned members that have begun, at the greatest depth of each variant.

    Models of less depth are the same with fewer layers.

    Args:
        frames: a grid.

    Raises:
        UserError: the spec of a record cannot be read.

    """
    members = _begun(frames)
    deepest = members.groupby(["dataset", "variant"], observed=True)["depth"].transform("max")
    cells = members[members["depth"] == deepest].drop_duplicates(["dataset", "variant", *frames.factors])
    found: dict[str, tuple[MemberSpec, dict[str, None]]] = {}
    for row in cells.to_dict("records"):
        member = Record(Path(row["folder"])).spec
        key = json.dumps([row["dataset"], member.content["model"]], sort_keys=True)
        found.setdefault(key, (member, {}))[1][str(row["variant"])] = None
    return [Architecture(member.data.name, tuple(names), member) for member, names in found.values()]


def objectives(frames: Frames) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The different objectives of the planned members that have begun, as their equations, and the variants that have
    them.

    Args:
        frames: a grid.

    Raises:
        UserError: the spec of a record cannot be read.

    """
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for row in _begun(frames).drop_duplicates(["dataset", "depth", "variant", *frames.factors]).to_dict("records"):
        lines = equations.objective(Record(Path(row["folder"])).spec.objective)
        found.setdefault(lines, {})[str(row["variant"])] = None
    return {lines: tuple(names) for lines, names in found.items()}


def _begun(frames: Frames) -> pd.DataFrame:
    """The planned members that have a spec that can be read."""
    members = frames.planned.members
    members = members[members["status"] != "damaged"]
    return members[[Record(Path(folder)).has_spec for folder in members["folder"]]]

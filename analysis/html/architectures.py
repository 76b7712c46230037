"""The architectures of a grid: each model once, with the variants that share it, at its greatest depth."""

import json
from dataclasses import dataclass
from pathlib import Path

from analysis.frames import Frames
from hvae_spec.records.layout import Record
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
    members = frames.planned.members
    members = members[members["folder"].map(lambda folder: (Path(folder) / "spec.yaml").exists()).astype(bool)]
    deepest = members.groupby(["dataset", "variant"], observed=True)["depth"].transform("max")
    cells = members[members["depth"] == deepest].drop_duplicates(["dataset", "variant", *frames.factors])
    found: dict[str, tuple[MemberSpec, dict[str, None]]] = {}
    for row in cells.to_dict("records"):
        member = Record(Path(row["folder"])).spec
        key = json.dumps([row["dataset"], member.content["model"]], sort_keys=True)
        found.setdefault(key, (member, {}))[1][str(row["variant"])] = None
    return [Architecture(member.data.name, tuple(names), member) for member, names in found.values()]

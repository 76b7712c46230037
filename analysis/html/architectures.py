"""The architectures of a grid: each model once, with the variants that share it, at its greatest depth; and what they
are trained for: each objective once.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.frames import Frames
from analysis.html.run_info import Rows
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.records.layout import Record
from hvae_spec.spec import equations
from hvae_spec.spec.choices import nonlinearity, observation
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.experiment import MemberSpec


@dataclass(frozen=True)
class Architecture:
    """One model, and the variants that have it."""

    dataset: str
    variants: tuple[str, ...]
    """They differ only in how they are trained, for example in warm-up."""
    member: MemberSpec
    """The spec of one of its members."""

    @property
    def depth(self) -> int:
        """Stochastic layers."""
        return self.member.model.depth

    @property
    def units(self) -> str:
        """`z_1: 64, z_2: 32`."""
        layers = enumerate(self.member.model.layers, start=1)
        return ", ".join(f"z_{place}: {layer.units}" for place, layer in layers)

    @property
    def observation(self) -> str:
        """The observation model."""
        return observation.words(self.member.model.observation)

    @property
    def normalization(self) -> str:
        """What is normalized, in words."""
        return self.member.model.normalization.words

    @property
    def nonlinearity(self) -> str:
        """The nonlinearity as an equation."""
        return nonlinearity.equation(self.member.model.nonlinearity)

    @property
    def equations(self) -> tuple[str, ...]:
        """The factorizations of p and q, and how their parameters come about."""
        model = self.member.model
        factors = f"p(x, z) = {equations.generative(model)}", f"q(z|x) = {equations.inference(model)}"
        return (*factors, *equations.equations(model))

    @property
    def mappings(self) -> Rows:
        """The widths and parameters of every mapping. Raises UserError if the number of pixels is not known here."""
        norm, pixels = self.member.model.normalization, image_pixels(self.member.data)
        rows = [(item.name, item.text("→"), f"{item.parameters(norm):,}") for item in mappings(self.member, pixels)]
        return [("mapping", "widths", "parameters"), *rows, ("total", "", f"{parameters(self.member, pixels):,}")]

    @property
    def unknown(self) -> str:
        """Why the widths are not known; empty where they are. The user's own images may have been removed."""
        try:
            image_pixels(self.member.data)
        except UserError as error:
            return f"Its widths are not known here: {error}"
        return ""


@dataclass(frozen=True)
class Models:
    """What a grid trains, and for what."""

    architectures: tuple[Architecture, ...]
    objectives: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    """Each objective once: its equations, and the variants that have it."""


def models(frames: Frames) -> Models:
    """The different models and objectives of a grid. Raises UserError if the spec of a record cannot be read."""
    return Models(tuple(architectures(frames)), tuple(objectives(frames).items()))


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

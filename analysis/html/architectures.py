"""The architectures of a grid: each model once, with the variants that share it, at its greatest depth; and what they
are trained for: each objective once.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.frames import Frames
from analysis.html.run_info import Rows
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.records.layout import Record
from hvae_spec.spec import equations
from hvae_spec.spec.choice import words
from hvae_spec.spec.choices import nonlinearity
from hvae_spec.spec.cost import forward_macs, inference, mappings, parameters
from hvae_spec.spec.experiment import MemberSpec

SIZES = (
    *("parameters", "of q(z|x) alone", "multiply-adds per image", "multiply-adds per sample of an image"),
    "multiply-adds of pseudo-inputs per step",
)
"""What stands beside the name of a model in the table of the models."""


@dataclass(frozen=True)
class Architecture:
    """One model, and the variants that have it."""

    dataset: str
    variants: tuple[str, ...]
    """Names of variants, with the levels of those axes that the model depends on. They differ only in how they are
    trained, for example in warm-up."""
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
        return words(self.member.model.observation)

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
        p, q = equations.joint(model)
        factors = f"{p} = {equations.generative(model)}", f"{q} = {equations.inference(model)}"
        return (*factors, *equations.equations(model))

    @property
    def mappings(self) -> Rows:
        """The widths and parameters of every mapping. Raises UserError if the number of pixels is not known here."""
        norm, pixels = self.member.model.normalization, image_pixels(self.member.data)
        rows = [(item.name, item.text("→"), f"{item.parameters(norm):,}") for item in mappings(self.member, pixels)]
        return [("mapping", "widths", "parameters"), *rows, ("total", "", f"{parameters(self.member, pixels):,}")]

    @property
    def size(self) -> tuple[str, ...]:
        """What `Models.sizes` says of it: the name, and a number for each of `SIZES`."""
        name = f"{', '.join(self.variants)} ({self.dataset}, L = {self.depth})"
        if self.unknown:
            return (name, *("?" for _ in SIZES))
        norm, pixels = self.member.model.normalization, image_pixels(self.member.data)
        of_q = sum(item.parameters(norm) for item in inference(self.member, pixels))
        once, each = forward_macs(self.member, pixels)
        counts = parameters(self.member, pixels), of_q, once, each, self.member.model.pseudo_inputs * once
        return (name, *(f"{count:,}" for count in counts))

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

    @property
    def sizes(self) -> Rows:
        """The models side by side: parameters, and multiply-adds of a forward pass; those of pseudo-inputs if any model
        has some.
        """
        rows = [("model", *SIZES), *(model.size for model in self.architectures)]
        has_pseudo_inputs = any(model.member.model.pseudo_inputs for model in self.architectures)
        return rows if has_pseudo_inputs else [row[:-1] for row in rows]


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
    specs = [Record(Path(folder)).spec for folder in cells["folder"]]
    keys = [
        json.dumps([dataset, spec.content["model"]], sort_keys=True)
        for dataset, spec in zip(cells["dataset"], specs, strict=True)
    ]
    found: dict[str, tuple[MemberSpec, dict[str, None]]] = {}
    for member, key, name in zip(specs, keys, _names(frames, cells, keys), strict=True):
        found.setdefault(key, (member, {}))[1][name] = None
    return [Architecture(member.data.name, tuple(names), member) for member, names in found.values()]


def objectives(frames: Frames) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The different objectives of the planned members that have begun, as their equations, and the variants that have
    them.

    Args:
        frames: a grid.

    Raises:
        UserError: the spec of a record cannot be read.

    """
    cells = _begun(frames).drop_duplicates(["dataset", "depth", "variant", *frames.factors])
    specs = [Record(Path(folder)).spec for folder in cells["folder"]]
    every = [equations.objective(spec.objective, spec.model) for spec in specs]
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for lines, name in zip(every, _names(frames, cells, every), strict=True):
        found.setdefault(lines, {})[name] = None
    return {lines: tuple(names) for lines, names in found.items()}


def _names(frames: Frames, cells: pd.DataFrame, keys: Sequence[Hashable]) -> list[str]:
    """What cells are called: their variants, with the levels of those axes that decide something about them.

    Args:
        frames: the grid.
        cells: one row for each.
        keys: what is to be decided, one for each.

    """
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    keyed = cells.assign(key=[places[key] for key in keys])
    labels, deciding = ["dataset", "depth", "variant"], []
    for factor in frames.factors:
        others = [*labels, *(other for other in frames.factors if other != factor)]
        if (keyed.groupby(others, observed=True, dropna=False)["key"].nunique() > 1).any():
            deciding.append(factor)
    rows = keyed.to_dict("records")
    return [", ".join([str(row["variant"]), *(frames.label(axis, row[axis]) for axis in deciding)]) for row in rows]


def _begun(frames: Frames) -> pd.DataFrame:
    """The planned members that have a spec that can be read."""
    members = frames.planned.members
    members = members[members["status"] != "damaged"]
    return members[[Record(Path(folder)).has_spec for folder in members["folder"]]]

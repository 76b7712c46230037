"""The whole file: an experiment, its grid, and the members that the grid resolves to."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field

from hvae_spec.schema.base import Count, Natural, SpecModel
from hvae_spec.schema.data import DataSpec
from hvae_spec.schema.evaluation import EvaluationSpec
from hvae_spec.schema.model import ModelSpec
from hvae_spec.schema.objective import ObjectiveSpec
from hvae_spec.schema.training import TrainingSpec

Unique = Annotated[str, Field(min_length=1)]


class Grid(SpecModel):
    """The ablation: depths x variants x axes x seeds, less what is excluded."""

    depth: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Depths L; each keeps the lowest L layers of the model. Null: the model as it is."""
    variants: dict[Unique, dict[str, Any]] = {}
    """Named settings: dotted paths into the spec and their values. Empty: one variant, named after what it uses."""
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """Further factors: a dotted path into the spec and the list of its values."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Cells to leave out: each entry names a `variant`, a `depth`, an axis, or several of them."""
    seeds: Annotated[tuple[Natural, ...], Field(min_length=1)] = (0,)
    """Seeds: the replicates of every cell."""


class Member(SpecModel):
    """One (cell, seed) of a grid, fully resolved: all that is needed to train and evaluate it."""

    data: DataSpec
    """Data set and random draw."""
    model: ModelSpec
    """Architecture."""
    objective: ObjectiveSpec = ObjectiveSpec()
    """Training bound."""
    training: TrainingSpec
    """Optimisation."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Measurement."""
    seed: Natural = 0
    """Seed of initialisation, shuffling, binarisation and noise."""

    @property
    def digest(self) -> str:
        """SHA-256 of what the member is, in hexadecimal.

        Taken over the resolved values that differ from their defaults, keys sorted: names, comments, order and the
        grid around a member change nothing, and neither does a field that a later version adds with its default.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["seed"] = self.seed
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """The paper's name for the model's settings: `VAE`, `VAE+BN`, `VAE+BN+WU`, `Prob. ladder+BN+WU`, ..."""
        style = "Prob. ladder" if self.model.inference == "ladder" else "VAE"
        norm = "+BN" if self.model.batch_norm else ""
        warm = "+WU" if self.objective.warm_up else ""
        return style + norm + warm


class Experiment(SpecModel):
    """A spec file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Names the results folder `results/<name>`: letters, digits, `.`, `_` and `-`."""
    data: DataSpec
    """Data set and random draw."""
    model: ModelSpec
    """Architecture."""
    objective: ObjectiveSpec = ObjectiveSpec()
    """Training bound."""
    training: TrainingSpec
    """Optimisation."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Measurement."""
    grid: Grid = Grid()
    """The ablation. Without it, the file is a grid of one."""

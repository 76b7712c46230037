"""Specs read and checked against the images that are there: `hvae_spec.spec` with `hvae_spec.data.counts`."""

from collections.abc import Sequence
from pathlib import Path

from hvae_spec.data.counts import stated_counts
from hvae_spec.spec import grids
from hvae_spec.spec import load as language
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.load import Reading


def load(path: str | Path, overrides: Sequence[str] = (), profile: str | None = None) -> Experiment:
    """The experiment of a spec file.

    Args:
        path: the YAML file.
        overrides: `dotted.path=value` strings, the value in YAML, as `--set` takes them.
        profile: one of the spec's `profiles`, applied before the overrides.

    Raises:
        SpecError: with every problem of the file, its bases and the overrides.
        UserError: the file names several grids, each of which is an experiment of its own.

    """
    return read(path, overrides, profile).experiment


def read(path: str | Path, overrides: Sequence[str] = (), profile: str | None = None) -> Reading:
    """The grid of a spec file with its resolved cells, or all grids that the file names. See `load`."""
    return grids.read(path, overrides, profile, count_images=stated_counts)


def loads(text: str, source: str = "<text>") -> Experiment:
    """The experiment of a spec given as text (without `base`). Raises SpecError."""
    return reads(text, source).experiment


def reads(text: str, source: str = "<text>", overrides: Sequence[str] = (), profile: str | None = None) -> Reading:
    """The grid of a spec given as text (without `base` and `grids`), with its resolved cells. See `load`."""
    return language.reads(text, source, overrides, profile, count_images=stated_counts)

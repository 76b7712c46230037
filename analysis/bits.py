"""Bits per dimension: what a bound is in the unit in which observation models of the same gray levels compare."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.columns import at
from hvae_spec.spec.choices.dataset import DATASETS, INTENSITIES
from hvae_spec.spec.choices.observation import OBSERVATIONS, X, name_of
from hvae_spec.spec.data import RescaledBy, published_counts, rescaling
from hvae_spec.spec.parts import description


def bits_per_dim(spec: Mapping[str, Any], data: Mapping[str, Any], bound: float | None) -> float | None:
    """A bound on the log-likelihood of the gray levels of an image, in bits per pixel; less is better.

        -L / (D ln 2)               of a mass of gray levels,
        -(L - D ln w) / (D ln 2)    of a density of (v + u) / w, of which L - D ln w is a bound on the log of v's mass.

    w is the number of levels, or what `data.rescaled_by` has in its place. None where x is zeros and ones or
    intensities without levels, and of records that do not say enough.

    Args:
        spec: the member's spec, as a tree.
        data: what its result says of its images (`hvae_spec.records.result.DataState`), as a tree.
        bound: L, in nats per image.

    """
    chosen, shape, levels = at(spec, "model.observation"), data.get("shape"), _levels(spec, data)
    if bound is None or not shape or levels is None:
        return None
    x, pixels = description(spec, OBSERVATIONS, name_of(chosen or "bernoulli")).x, math.prod(shape)
    if x is X.BINARY:
        return None
    width = {X.GRAY: 1, X.UNIT: levels}.get(x) or _rescaling(spec, data, levels)
    return None if width is None else (math.log(width) - bound / pixels) / math.log(2)


def _levels(spec: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """Gray levels of the images; None of intensities, and of the user's own images in older records."""
    if data.get("levels") is not None:
        return int(data["levels"])
    name = at(spec, "data.dataset")
    published = DATASETS[name].levels if name in published_counts() else INTENSITIES
    return None if published == INTENSITIES else published


def _rescaling(spec: Mapping[str, Any], data: Mapping[str, Any], levels: int) -> int | None:
    """What dequantized gray was divided by; None where an older record does not say."""
    by: RescaledBy = at(spec, "data.rescaled_by") or "levels"
    largest = data.get("training_maximum")
    return None if largest is None and by != "levels" else rescaling(by, levels, int(largest or 0))


def column(specs: Iterable[Mapping[str, Any]], results: Iterable[Mapping[str, Any]]) -> list[float]:
    """`bits_per_dim` of members' test bounds; NaN where there is none."""
    found = (
        bits_per_dim(spec, dict(result.get("data") or {}), result.get("test_log_likelihood"))
        for spec, result in zip(specs, results, strict=True)
    )
    return [math.nan if value is None else value for value in found]

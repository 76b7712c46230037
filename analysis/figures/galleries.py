"""The galleries that figures show: of each variant, that of the finished member of greatest depth and least seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from analysis.figures.style import greatest_depth, of_one_data_set, title_text
from analysis.frames import Frames
from analysis.layout import at_best
from hvae_spec.errors import RecordError
from hvae_spec.records.gallery_file import load_gallery
from hvae_spec.records.layout import GALLERY, EvaluationRecord


@dataclass(frozen=True)
class Gallery:
    """The gallery of one member."""

    variant: str
    seed: int
    depth: int
    arrays: dict[str, NDArray[Any]]
    """See `hvae_spec.records.gallery_file`."""
    shape: tuple[int, int]
    """Height and width of its images."""
    classes: Mapping[str, str]
    """Names of classes by label, of those that have one."""


def galleries(frames: Frames) -> list[Gallery]:
    """One gallery per variant, of the place of the best cell on the axes, at the greatest depth that has any, in the
    order of the grid: that of the least seed whose gallery is not damaged.

    Args:
        frames: the frames of one data set (see `Frames.groups`).

    Raises:
        ValueError: the frames hold several data sets.

    """
    return _galleries(frames)[0]


def damaged_galleries(frames: Frames) -> list[str]:
    """What is wrong with the galleries that the figures of a grid would show, and what fixes it."""
    groups = (group for grid in frames.grids or (frames,) for group in grid.groups())
    return list(dict.fromkeys(fault for group in groups for fault in _galleries(group.frames)[1]))


def _galleries(frames: Frames) -> tuple[list[Gallery], list[str]]:
    """The galleries, and what is wrong with those that could have been in their place."""
    members = _with_gallery(of_best_pictured(frames).members)
    members = members[members["depth"] == greatest_depth(members)].sort_values(["variant", "seed"], kind="stable")
    found: dict[str, Gallery] = {}
    faults: list[str] = []
    for row in members.to_dict("records"):
        variant = str(row["variant"])
        if variant not in found:
            try:
                found[variant] = _gallery(Path(row["evaluation_folder"]), variant, int(row["seed"]), int(row["depth"]))
            except RecordError as error:
                faults.append(str(error))
    return list(found.values()), faults


def of_best_pictured(frames: Frames) -> Frames:
    """The members at the place of the best cell on the axes, of those that have galleries."""
    return at_best(frames, _with_gallery(of_one_data_set(frames).members))


def _with_gallery(members: pd.DataFrame) -> pd.DataFrame:
    finished = members[members["status"] == "finished"]
    return finished[finished["evaluation_folder"].map(lambda folder: (Path(folder) / GALLERY).exists()).astype(bool)]


def _gallery(folder: Path, variant: str, seed: int, depth: int) -> Gallery:
    arrays = load_gallery(folder)
    result = EvaluationRecord(folder).result
    data = None if result is None else result.data
    shape = None if data is None else data.shape
    pixels = arrays["images"].shape[1]
    if data is None or shape is None or math.prod(shape) != pixels:
        stated = "no shape" if shape is None else f"a shape of {shape[0]} x {shape[1]}"
        raise RecordError(
            f"{folder / GALLERY}: images of {pixels} pixels, for which the result states {stated}; delete {folder} to "
            "have the member evaluated again"
        )
    return Gallery(variant, seed, depth, arrays, shape, data.classes)


def gallery_title(frames: Frames, shown: list[Gallery]) -> str:
    """The title of a figure of these galleries: `mnist, L = 5, seed 0`."""
    seeds = sorted({gallery.seed for gallery in shown})
    words = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return title_text(of_best_pictured(frames), f"L = {shown[0].depth}", words)

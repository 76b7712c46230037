"""What a figure shows, in numbers: the result that its caption begins with, and that stands for it where it cannot be
seen.
"""

import inspect
import re
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.by_factors import has_published
from analysis.figures.curves import is_another_objective
from analysis.frames import Frames
from analysis.layout import known, layout
from analysis.statistics import cells, mean_over_seeds
from analysis.statistics.over_seeds import what_errors_rest_on

SPREAD = re.compile("standard error|interval")
"""What the sentences of captions name that rests on the spread over seeds."""

HEADINGS = {
    "log_likelihood": "test log-likelihood",
    "learning_curves": "learning curves",
    "active_units": "active units by layer",
    "unit_kl": "KL of every unit over epochs",
    "kl_standard_normal": "KL to a standard normal by layer",
    "injected": "samples with noise injected at each layer",
    "latents": "principal components of the latents",
    "paired_effects": "paired effects",
    "bound_by_samples": "bound by number of importance samples",
    "reconstructions": "test images and reconstructions",
    "prior_samples": "samples of the models",
}
"""What every figure is of, in a few words."""


def shown(name: str, frames: Frames) -> str:
    """What the figure of this name shows of a group of members, as whole sentences; empty where there are no numbers.

    Args:
        name: a key of `analysis.figures.FIGURES`.
        frames: the frames of one group.

    """
    describe = _DESCRIPTIONS.get(name)
    return "" if describe is None else describe(frames)


def caption(figure: Callable[[Frames], Figure | None], name: str, frames: Frames) -> str:
    """What is said below a figure: what it shows, and how it is read, without what this one does not have.

    Args:
        figure: the function that draws it; its docstring says how figures of this name are read.
        name: its key in `analysis.figures.FIGURES`.
        frames: the frames of one group.

    """
    text = " ".join((inspect.getdoc(figure) or "").split())
    # A sentence ends with a period or a closing parenthesis and is followed by a capital letter.
    sentences = re.split(r"(?<=[.)]) (?=[A-Z])", text)
    lacks = [start for start, is_there in _ON_CONDITION.get(name, {}).items() if not is_there(frames)]
    kept = [sentence for sentence in sentences if not sentence.startswith(tuple(lacks))]
    errors = what_errors_rest_on(frames.stages) if any(SPREAD.search(sentence) for sentence in kept) else ()
    return " ".join(filter(None, (shown(name, frames), *kept, *errors)))


def _diverged(frames: Frames) -> bool:
    return bool((frames.members["status"] == "diverged").any())


_ON_CONDITION: dict[str, dict[str, Callable[[Frames], bool]]] = {
    "log_likelihood": {
        "Test log-likelihood by depth": lambda frames: not layout(frames).axes,
        "With further axes": lambda frames: False,
        "Hollow markers": lambda frames: has_published(frames.members),
        "A cross": _diverged,
    },
    "learning_curves": {
        "Where the objective is another": lambda frames: bool(is_another_objective(frames.epochs).any()),
        "Where the curve is of": lambda frames: bool(frames.members["curve_test_images"].notna().any()),
        "A diverged member": _diverged,
    },
}
"""Sentences of captions, by how they begin, that a figure has only where it shows what they are of."""


def _log_likelihood(frames: Frames) -> str:
    """Of a grid without further axes as `_at_greatest_depth`; else the best cell and the worst."""
    places = layout(frames)
    if not places.axes:
        return _at_greatest_depth(frames.members, "test_log_likelihood", "test log-likelihood", " nats", 2)
    by = [*places.rows, places.color]
    means = cells(known(frames.members, places.axes), by).dropna(subset=["mean"]).sort_values("mean", ascending=False)
    if means.empty:
        return ""
    first, last = (means.iloc[place].to_dict() for place in (0, -1))
    best, worst = (
        f"{row['mean']:.2f} nats ({', '.join(places.label(factor, row[factor]) for factor in by)})"
        for row in (first, last)
    )
    panels = f", a panel per {' and '.join(map(places.heading, places.facets))}" if places.facets else ""
    layout_words = f"Along the axis {places.heading(places.x)}, a line per {places.heading(places.color)}{panels}."
    values = f"Mean test log-likelihood from {best} down to {worst}." if len(means) > 1 else f"Mean: {best}."
    return f"{values} {layout_words}"


def _active_units(frames: Frames) -> str:
    return _at_greatest_depth(frames.members, "active_units", "active units", "", 1)


def _at_greatest_depth(members: pd.DataFrame, quantity: str, words: str, unit: str, decimals: int) -> str:
    """As in `Mean test log-likelihood at L = 5: VAE -87.30, VAE+BN -85.12 nats`."""
    if quantity not in members:
        return ""
    means = cells(members, ["depth", "variant"], quantity).dropna(subset=["mean"])
    if means.empty:
        return ""
    depth = means["depth"].max()
    own = means[means["depth"] == depth]
    values = ", ".join(f"{row.variant} {row.mean:.{decimals}f}" for row in own.itertuples())
    return f"Mean {words} at L = {depth}: {values}{unit}."


def _learning_curves(frames: Frames) -> str:
    """As in `At L = 5 the training bound ends at -80.12 (VAE), -79.03 (VAE+BN) nats`."""
    epochs = frames.epochs
    if epochs.empty or "train_bound_beta_1" not in epochs:
        return ""
    depth = epochs["depth"].max()
    finished = frames.members[frames.members["status"] == "finished"]["digest"]
    own = epochs[(epochs["depth"] == depth) & epochs["digest"].isin(finished)].dropna(subset=["train_bound_beta_1"])
    if own.empty:
        return ""
    last = own.loc[own.groupby("digest")["epoch"].idxmax()]
    means = mean_over_seeds(last, ["variant"], "train_bound_beta_1")
    values = ", ".join(f"{row.mean:.2f} ({row.variant})" for row in means.itertuples())
    return f"At L = {depth} the training bound ends at {values} nats."


def _bound_by_samples(frames: Frames) -> str:
    """As in `At L = 5 the bound rises from K = 1 to K = 5,000 by 2.31 (VAE) nats`."""
    if frames.bounds.empty:
        return ""
    bounds = frames.bounds[frames.bounds["depth"] == frames.bounds["depth"].max()]
    means = mean_over_seeds(bounds, ["variant", "iw_samples"], "bound")
    values, ends = [], (bounds["iw_samples"].min(), bounds["iw_samples"].max())
    for name, own in means.groupby("variant", sort=False, observed=True):
        by = own.set_index("iw_samples")["mean"]
        if {ends[0], ends[1]} <= set(by.index):
            values.append(f"{by[ends[1]] - by[ends[0]]:.2f} ({name})")
    span = f"from K = {ends[0]:,} to K = {ends[1]:,}"
    return f"At L = {bounds['depth'].max()} the bound rises {span} by {', '.join(values)} nats." if values else ""


_DESCRIPTIONS: dict[str, Callable[[Frames], str]] = {
    "log_likelihood": _log_likelihood,
    "learning_curves": _learning_curves,
    "active_units": _active_units,
    "bound_by_samples": _bound_by_samples,
}

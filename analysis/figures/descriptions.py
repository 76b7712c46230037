"""What a figure shows, in numbers: the result that its caption begins with, and that stands for it where it cannot be
seen.
"""

import inspect
import re
from collections.abc import Callable
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from analysis.caveats import CLASSIFIED_ALONE, best_by, different_x, is_classified_alone, why_unmeasured
from analysis.columns import FACTORS
from analysis.figures.by_factors import has_published
from analysis.figures.curves import is_another_objective
from analysis.figures.effects import listed, quantities_of
from analysis.figures.galleries import of_best_pictured
from analysis.figures.layers import of_best_watched
from analysis.figures.panels import MOST
from analysis.figures.style import of_one_data_set
from analysis.frames import Frames
from analysis.layout import DEPTH, Panels, at_one_depth, in_order, is_ordered, known, layout, split, varied
from analysis.statistics import cells, mean_over_seeds
from analysis.statistics.over_seeds import what_errors_rest_on

NAMED = 8
"""Places without a panel that a caption names, at most; the others are counted."""
WHERE = {
    "learning_curves": "`frames.epochs` in Python",
    "active_units": "the table active_units",
    "kl_standard_normal": "the table kl_standard_normal",
    "bound_by_samples": "the table bound_by_samples",
}
"""What has the places that figures have no panels for."""
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
    alone = (CLASSIFIED_ALONE,) if is_classified_alone(frames.members).any() else ()
    return " ".join(filter(None, (shown(name, frames), *alone, *kept, *errors)))


def _diverged(frames: Frames) -> bool:
    return bool((frames.members["status"] == "diverged").any())


def _has_axes(frames: Frames) -> bool:
    return bool(varied(frames.as_variants(FACTORS)))


def _has_both(frames: Frames) -> bool:
    """Whether there are effects on the bound and on active units, as far as there are effects."""
    return not _lacks_counts(frames) or {"test_log_likelihood", "active_units"} <= set(_drawn(frames))


def _drawn(frames: Frames) -> dict[str, bool]:
    """The quantities that the figure of effects shows; see `quantities_of`."""
    return quantities_of(of_one_data_set(frames).as_variants(FACTORS))


def _lacks_counts(frames: Frames) -> bool:
    """Whether a finished member has no number of active units."""
    members = frames.members
    return bool((members["active_units"].isna() & (members["status"] == "finished")).any())


_ON_CONDITION: dict[str, dict[str, Callable[[Frames], bool]]] = {
    "log_likelihood": {
        "Test log-likelihood by depth": lambda frames: not layout(frames).axes and layout(frames).x == DEPTH,
        "With further axes": lambda frames: False,
        "Lines join": lambda frames: False,
        "Hollow markers": lambda frames: has_published(frames.members),
        "A cross": _diverged,
    },
    "learning_curves": {
        "Where the objective is another": lambda frames: bool(is_another_objective(frames.epochs).any()),
        "Where the curve is of": lambda frames: bool(frames.members["curve_test_images"].notna().any()),
        "A diverged member": _diverged,
    },
    "paired_effects": {
        "What each setting adds": lambda frames: not _has_axes(frames),
        "Above on": lambda frames: not _has_axes(frames) and _has_both(frames),
        "What each factor adds": _has_axes,
        "Left on": lambda frames: _has_axes(frames) and _has_both(frames),
        "Of models with classes": lambda frames: "test_error" in _drawn(frames),
    },
}
"""Sentences of captions, by how they begin, that a figure has only where it shows what they are of."""


def _log_likelihood(frames: Frames) -> str:
    """Of a grid without further axes as `_of_cells`; else the best cell and the worst, and what stands where."""
    places = layout(frames)
    mark = "a line" if is_ordered(known(frames.members, places.axes), places.x) else "a color"
    along = f"Along the axis {places.heading(places.x)}, {mark}"
    if different_x(frames.members):
        panels = _panels(places, along) if places.axes else ""
        joined = ", and are joined" if mark == "a line" else ""
        return " ".join(filter(None, (panels, f"Only means of models of one x compare{joined}.")))
    if not places.axes:
        return _of_cells(
            _means(_deepest(frames), "test_log_likelihood"), _deepest(frames), "test log-likelihood", " nats"
        )
    by = [*places.rows, places.color]
    means = cells(known(frames.members, places.axes), by).dropna(subset=["mean"])
    return " ".join(filter(None, (_ends(means, places, by, "test log-likelihood", " nats"), _panels(places, along))))


def _active_units(frames: Frames) -> str:
    deepest = _deepest(frames, "active_units")
    return _over_the_axes(
        "active_units", deepest, _of_cells(_means(deepest, "active_units"), deepest, "active units", "", 1)
    )


def _kl_standard_normal(frames: Frames) -> str:
    return _over_the_axes("kl_standard_normal", _deepest(frames, "kl_standard_normal_1"))


def _learning_curves(frames: Frames) -> str:
    """As in `Mean training bound at the end at L = 5: VAE -80.12, VAE+BN -79.03 nats`."""
    epochs = frames.epochs
    if epochs.empty or "train_bound_beta_1" not in epochs:
        return ""
    deepest = frames.select(frames.members["depth"] == epochs["depth"].max())
    finished = deepest.members[deepest.members["status"] == "finished"]["digest"]
    own = deepest.epochs[deepest.epochs["digest"].isin(finished)].dropna(subset=["train_bound_beta_1"])
    last = own.loc[own.groupby("digest")["epoch"].idxmax()]
    places = at_one_depth(deepest)
    means = mean_over_seeds(known(last, frames.factors), [*places.rows, places.color], "train_bound_beta_1")
    return _over_the_axes("learning_curves", deepest, _of_cells(means, deepest, "training bound at the end", " nats"))


def _bound_by_samples(frames: Frames) -> str:
    """As in `Mean rise of the bound from K = 1 to K = 5,000 at L = 5: VAE 2.31 nats`."""
    if frames.bounds.empty:
        return ""
    deepest = frames.select(frames.members["depth"] == frames.bounds["depth"].max())
    places, bounds = at_one_depth(deepest), known(deepest.bounds, frames.factors)
    by = [*places.rows, places.color]
    first, last = (int(end) for end in (bounds["iw_samples"].min(), bounds["iw_samples"].max()))
    means = mean_over_seeds(bounds, [*by, "iw_samples"], "bound")
    ends = [means[means["iw_samples"] == count][[*by, "mean"]] for count in (first, last)]
    rises = (
        ends[1]
        .merge(ends[0], on=by, suffixes=("", "_first"))
        .assign(mean=lambda both: both["mean"] - both["mean_first"])
    )
    words = f"rise of the bound from K = {first:,} to K = {last:,}"
    return _over_the_axes("bound_by_samples", deepest, _of_cells(rises, deepest, words, " nats"))


def _paired_effects(frames: Frames) -> str:
    """What is too much for the figure, and why it has no effects on active units, or not all."""
    frames = frames.as_variants(FACTORS)
    said = []
    if varied(frames):
        left_out = [f"{count} {kind}" for kind, count in listed(frames)[1].items()]
        said += [f"Left out here: {' and '.join(left_out)}; the table paired_effects has them."] if left_out else []
    if _lacks_counts(frames) and quantities_of(of_one_data_set(frames)).get("active_units"):
        said += why_unmeasured(frames.members, "active_units")
    return " ".join(said)


def _of_best(place_of: Callable[[Frames], Frames], frames: Frames) -> str:
    """Which place on the axes a figure shows that can show one alone."""
    axes = varied(frames)
    if not axes:
        return ""
    place = place_of(frames).members.iloc[0]
    levels = ", ".join(frames.label(axis, place[axis]) for axis in axes)
    column, _ = best_by(frames.members)
    has_best = frames.members.loc[frames.members["status"] == "finished", column].notna().any()
    which = "the place of the best cell on the axes" if has_best else "the first place on the axes with any to show"
    return f"This is {which}: {levels}."


def _deepest(frames: Frames, quantity: str = "test_log_likelihood") -> Frames:
    """The members of the greatest depth at which one has finished with a quantity."""
    members = frames.members
    if quantity not in members:
        return frames.select(members["depth"] < 0)
    done = members[(members["status"] == "finished") & members[quantity].notna()]
    return frames.select(members["depth"] == done["depth"].max())


def _means(frames: Frames, quantity: str) -> pd.DataFrame:
    """The means of a quantity over the seeds of every cell of one depth."""
    if frames.members.empty:
        return pd.DataFrame()
    places = at_one_depth(frames)
    return cells(known(frames.members, frames.factors), [*places.rows, places.color], quantity).dropna(subset=["mean"])


def _of_cells(means: pd.DataFrame, frames: Frames, words: str, unit: str, decimals: int = 2) -> str:
    """As in `Mean test log-likelihood at L = 5: VAE -87.30, VAE+BN -85.12 nats`; where there are several places, the
    greatest and the least mean.
    """
    if means.empty:
        return ""
    places, depth = at_one_depth(frames), frames.members["depth"].max()
    if places.rows:
        return _ends(means, places, [*places.rows, places.color], f"{words} at L = {depth}", unit, decimals)
    values = (
        f"{places.label(places.color, row[places.color])} {row['mean']:.{decimals}f}"
        # As in the legend.
        for row in in_order(means, known(frames.members, frames.factors), [places.color]).to_dict("records")
    )
    return f"Mean {words} at L = {depth}: {', '.join(values)}{unit}."


def _ends(means: pd.DataFrame, places: Panels, by: list[str], words: str, unit: str, decimals: int = 2) -> str:
    """As in `Mean test log-likelihood from -85.12 nats (VAE+BN, wide) down to -87.30 nats (VAE, narrow)`."""
    if means.empty:
        return ""
    ordered = means.sort_values("mean", ascending=False).to_dict("records")
    best, worst = (
        f"{row['mean']:.{decimals}f}{unit} ({', '.join(places.label(factor, row[factor]) for factor in by)})"
        for row in (ordered[0], ordered[-1])
    )
    return f"Mean {words} from {best} down to {worst}." if len(means) > 1 else f"Mean {words}: {best}."


def _panels(places: Panels, line: str) -> str:
    """What has colors and panels, as in `A line per variant, a panel per lr and width`."""
    panels = f", a panel per {' and '.join(map(places.heading, places.facets))}" if places.facets else ""
    return f"{line} per {places.heading(places.color)}{panels}."


def _over_the_axes(name: str, deepest: Frames, numbers: str = "") -> str:
    """What a figure with a panel for each place says of its numbers, of what stands where, and of what is left out."""
    places = at_one_depth(deepest)
    if deepest.members.empty or not places.axes:
        return numbers
    _, left_out = split(known(deepest.members, deepest.factors), places, MOST)
    sentences = [numbers, _panels(places, "A color")]
    if left_out:
        titles = [places.panel(place) for place in left_out]
        titles = [*titles[:NAMED], *([f"{len(titles) - NAMED} more"] if len(titles) > NAMED else [])]
        sentences.append(
            f"The panels are of the {MOST} places with the best cells. Left out here: {'; '.join(titles)}."
        )
        sentences.append(f"All places: {WHERE[name]}.")
    return " ".join(filter(None, sentences))


_DESCRIPTIONS: dict[str, Callable[[Frames], str]] = {
    "log_likelihood": _log_likelihood,
    "learning_curves": _learning_curves,
    "active_units": _active_units,
    "kl_standard_normal": _kl_standard_normal,
    "bound_by_samples": _bound_by_samples,
    "paired_effects": _paired_effects,
    "unit_kl": partial(_of_best, of_best_watched),
    **dict.fromkeys(("injected", "latents", "reconstructions", "prior_samples"), partial(_of_best, of_best_pictured)),
}
"""What figures show, in numbers or in words, where their docstrings do not say it."""

"""Tables of means over seeds: test log-likelihood by depth and variant, and active units (Table 2 of the paper), KL and
the importance-weighted bound at each depth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import different_x, unit_text
from analysis.columns import FACTORS
from analysis.frames import Frames, Group
from analysis.layout import Layout, known, layout
from analysis.statistics import answers, over_seeds
from analysis.tables.building import by_depth, mean_table, placed
from analysis.tables.footnotes import BY_VARIANCE, CRITERION, MEANS, bound_footnotes, grid_footnotes, unknown_units
from analysis.tables.table import ABSENT, Table, TableSet

BEST = "Marked: the best cell, and those that a paired t test with Holm's correction does not tell from it."

CRITERIA = (("KL", "active_units"), ("variance", "active_units_by_variance"))
"""What makes a unit active, and the columns of `Frames.members` with the units that are."""

BITS = (
    "Of gray levels, less is better: -L / (D ln 2) of a mass, -(L - D ln w) / (D ln 2) of a density of gray that is "
    "dequantized and divided by w. Zeros and ones have none: –."
)


def log_likelihood(frames: Frames) -> TableSet:
    """Test log-likelihood in nats per image: one table per data set, by depth and variant, or, with further axes, by
    all factors of the grid that vary, as `analysis.layout` places them.
    """
    tables = []
    best = list(_best(frames, "test_log_likelihood"))
    for group in frames.groups():
        places, members = layout(group.frames), known(group.frames.members, frames.factors)
        table = mean_table(
            ("Test log-likelihood (nats per image)", places.subject(group)),
            places.row_heading(),
            placed(over_seeds.cells(members, [*places.rows, places.color]), members, places),
            (
                *bound_footnotes(group.frames),
                *different_x(group.frames.members),
                MEANS,
                *grid_footnotes(frames, group.frames),
            ),
        )
        tables.append(_marked(table, best, group, places))
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("test_log_likelihood", tuple(tables), over_seeds.cells(frames.planned.members, by))


def _best(frames: Frames, quantity: str) -> Iterator[dict[str, Any]]:
    """The labels of the best cells by a quantity on each data set, where there are several cells; none where axes are
    factors of the paper, as these are compared under other names, and where another quantity compares.
    """
    if frames.as_variants(FACTORS) is not frames:
        return
    for answer in answers(frames):
        # Where no cell can be told from the best, there is nothing to mark.
        if len(answer.best) < answer.compared and answer.best_by == quantity:
            yield from ({**answer.place, **cell.labels} for cell in answer.best)


def _marked(table: Table, best: Sequence[Mapping[str, Any]], group: Group, places: Layout) -> Table:
    """A table with the best cells marked, if it has some."""
    here = [labels for labels in best if all(labels[key] == value for key, value in group.place.items())]
    marked = {(places.row(labels), places.label(places.color, labels[places.color])) for labels in here}
    notes = (BEST, *table.footnotes) if marked else table.footnotes
    return replace(table, best=frozenset(marked), footnotes=notes)


def bits_per_dim(frames: Frames) -> TableSet:
    """The test log-likelihood in bits per dimension (`analysis.bits`), laid out as in nats; no table of a data set that
    has none.
    """
    tables = []
    best = list(_best(frames, "bits_per_dim")) if frames.planned.members["bits_per_dim"].notna().any() else []
    for group in frames.groups():
        places, members = layout(group.frames), known(group.frames.members, frames.factors)
        if members["bits_per_dim"].notna().any():
            title = ("Bits per dimension", places.subject(group))
            footnotes = (BITS, *bound_footnotes(group.frames), MEANS, *grid_footnotes(frames, group.frames))
            cells = over_seeds.cells(members, [*places.rows, places.color], "bits_per_dim")
            rows = placed(cells, members, places)
            table = mean_table(title, places.row_heading(), rows, footnotes, 3)
            tables.append(_marked(table, best, group, places))
    by = ["dataset", *frames.factors, "depth", "variant"]
    return TableSet("bits_per_dim", tuple(tables), over_seeds.cells(frames.planned.members, by, "bits_per_dim"))


def active_units(frames: Frames) -> TableSet:
    """Active units by layer and variant: one table per depth, the greatest depth first (Table 2 of the paper). Where
    members have them, also those by the criterion of Burda et al. (2016), the variance over images of a unit's mean.
    """
    by = ["dataset", *frames.factors, "depth", "variant"]
    every = [_of_units(frames.planned.members, by, quantity).assign(criterion=name) for name, quantity in CRITERIA]
    tables = []
    for own in by_depth(frames):
        parts = [
            layers.assign(row=[_name(layer) + words for layer in layers["layer"]])
            for words, quantity in (("", "active_units"), (", by variance", "active_units_by_variance"))
            for layers in (_of_units(own.members, own.by, quantity),)
        ]
        rows = pd.concat(parts, ignore_index=True)
        footnotes = (
            CRITERION,
            *unknown_units(parts[0], own.members, own.by),
            *([BY_VARIANCE] if len(parts[1]) else []),
            MEANS,
            *grid_footnotes(frames, own.group.frames),
        )
        title = ("Active units", own.subject)
        tables.append(mean_table(title, own.places.row_heading("layer"), own.placed(rows), footnotes, 1))
    return TableSet("active_units", tuple(tables), pd.concat(every, ignore_index=True))


def _of_units(members: pd.DataFrame, by: list[str], quantity: str) -> pd.DataFrame:
    """Cells by layer; of what no member knows but by KL, none."""
    layers = over_seeds.by_layer(members, by, quantity)
    return layers if quantity == "active_units" or layers["n"].any() else layers.iloc[:0]


def layer_kl(frames: Frames) -> TableSet:
    """KL(q(z_i|.)||p(z_i|.)) of every layer on the test set, in nats per image: one table per depth, the greatest depth
    first.
    """
    footnote = "KL(q||p) of a layer, on average over the test images and samples of the layers that it depends on."
    if frames.members[over_seeds.AUXILIARY].notna().any():
        footnote += (
            " Of an auxiliary variable a, which the layers depend on too, it is E_q[log q(a|x) - log r(a|x, z)], "
            "negative where z tells more of a than r lacks; the total is log p(x|z) less the ELBO."
        )
    return _by_layer(frames, "kl", "KL of the layers (nats per image)", footnote, 2)


def layer_kl_standard_normal(frames: Frames) -> TableSet:
    """KL(q(z_i|.)||N(0, I)) of every layer on the test set (Fig. 6a), in nats per image: one table per depth, the
    greatest depth first. Records that do not hold it make no table.
    """
    footnote = "KL of q(z_i|.) to a standard normal, on average over the test images and samples of what it depends on."
    return _by_layer(frames, "kl_standard_normal", "KL to N(0, I) of the layers (nats per image)", footnote, 2)


def _by_layer(frames: Frames, quantity: str, title: str, footnote: str, decimals: int) -> TableSet:
    """Tables of `<quantity>_i`; none where no member has it."""
    by = ["dataset", *frames.factors, "depth", "variant"]
    tidy = over_seeds.by_layer(frames.planned.members, by, quantity)
    tables = []
    for own in by_depth(frames):
        layers = over_seeds.by_layer(own.members, own.by, quantity)
        if quantity == "kl_standard_normal":
            # The distances of single layers; their sum is no divergence of the model.
            layers = layers[layers["layer"] != "total"]
        if layers["n"].any():
            rows = layers.assign(row=[_name(layer) for layer in layers["layer"]])
            footnotes = (footnote, MEANS, *grid_footnotes(frames, own.group.frames))
            heading = own.places.row_heading("layer")
            tables.append(mean_table((title, own.subject), heading, own.placed(rows), footnotes, decimals))
    return TableSet(quantity, tuple(tables), tidy)


def _name(layer: str) -> str:
    """What tables call a layer, an auxiliary variable, or the total."""
    return layer if layer in ("a", "total") else f"z_{layer}"


def bound_by_samples(frames: Frames) -> TableSet:
    """The importance-weighted bound (nats per image) against its number of samples K, and the effective sample size:
    one table per depth, the greatest depth first.
    """
    by = ["dataset", *frames.factors, "depth", "variant"]
    tables, tidies = [], []
    for own in by_depth(frames):
        bounds = frames.bounds[frames.bounds["digest"].isin(own.members["digest"])]
        if bounds.empty:
            continue
        rows = _bound_rows(own.members, bounds, by)
        title = ("Importance-weighted bound by K (nats per image)", own.subject)
        measured = (*_bound_footnotes(bounds), *_absence(rows, own.members[by]))
        footnotes = (*measured, MEANS, *grid_footnotes(frames, own.group.frames))
        tables.append(mean_table(title, own.places.row_heading("samples"), own.placed(rows), footnotes))
        tidies.append(rows.drop(columns="row"))
    tidy = pd.concat(tidies, ignore_index=True) if tidies else pd.DataFrame(columns=[*by, "mean", "se", "n"])
    return TableSet("bound_by_samples", tuple(tables), tidy)


def _bound_rows(members: pd.DataFrame, bounds: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Cells of the bound for every K, and of the effective sample size, with `quantity`, `iw_samples` and `row`."""
    parts: list[tuple[str, int | None, pd.DataFrame, str]] = []
    for count in sorted(bounds["iw_samples"].unique()):
        own = bounds[bounds["iw_samples"] == count].set_index("digest")["bound"]
        parts.append((f"K = {count:,}", int(count), members.assign(bound=members["digest"].map(own)), "bound"))
    parts.append(("effective samples", None, members, "effective_sample_size"))
    rows = []
    for row, count, having, quantity in parts:
        cells = over_seeds.cells(having, by, quantity)
        # A variant whose finished members were never evaluated with this K has no such cell.
        cells = cells[(cells["n"] > 0) | (cells["finished"] == 0)]
        rows.append(cells.assign(quantity=quantity, iw_samples=count, row=row))
    return pd.concat(rows)


def _absence(rows: pd.DataFrame, labels: pd.DataFrame) -> tuple[str, ...]:
    """What an empty cell means, if there is one of the cells with these labels."""
    full = rows["row"].nunique() * len(labels.drop_duplicates()) == len(rows)
    return () if full else (f"{ABSENT}: none of the finished members was evaluated with so many samples.",)


def _bound_footnotes(bounds: pd.DataFrame) -> tuple[str, ...]:
    worst = bounds["mc_se"].max()
    return (
        *(
            ()
            if np.isnan(worst)
            else (f"Monte Carlo error of a member's bound: at most {unit_text(worst, '.2g', 'nat')}.",)
        ),
        "Effective samples: (sum w)^2 / sum w^2 of the weights of the greatest K, on average over the test images.",
    )

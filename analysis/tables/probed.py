"""The table of linear probes: what each layer knows of the classes of the images."""

import re
from collections.abc import Iterator

import pandas as pd

from analysis.caveats import counts_text
from analysis.frames import Frames
from analysis.tables.building import Asked, AtDepth
from analysis.tables.table import TableSet
from hvae_spec.probing import SAMPLES

COLUMN = re.compile(r"probe_(?P<labels>\d+|all)_(?P<layer>\d+)")
"""A column of `Frames.members` with the accuracy on one layer."""


def probed(frames: Frames) -> TableSet:
    """The share of test images whose class a linear probe of each layer names, for each number of labels: one table per
    depth, the greatest depth first. None where no member has it.
    """
    return Asked(
        "probe",
        "What each layer knows: accuracy of a linear probe of the classes",
        "probe_classes",
        _rows,
        _footnotes,
        "none of the finished members was evaluated with `evaluation.probe` and so many labels.",
        decimals=3,
    ).tables(frames)


def _rows(members: pd.DataFrame) -> dict[str, str]:
    """The accuracies that members have, by number of labels and layer."""
    found = {}
    for column in members:
        match = COLUMN.fullmatch(str(column))
        if match and members[column].notna().any():
            labels = match["labels"] if match["labels"] == "all" else f"{int(match['labels']):,}"
            found[str(column)] = f"{labels} labels, z_{match['layer']}"
    return found


def _footnotes(own: AtDepth) -> tuple[str, ...]:
    """What the probe is, and what it would name without an image."""
    members = own.members
    return (
        f"A logistic regression on the standardized means of q(z_i|.), averaged over {SAMPLES} samples of the latents "
        "that they depend on; its regularization is chosen by cross-validation on the labels that it has, which are of "
        "as many training images of each class as can be. Accuracy is the share of "
        f"{counts_text(members['test_images'])} test images, of {counts_text(members['probe_classes'])} classes.",
        *_of_draws(own),
        "Naming the most frequent class of the training images every time has "
        f"{members['probe_largest_class'].max():.3f}.",
    )


def _of_draws(own: AtDepth) -> Iterator[str]:
    """Which layers have a flow, so that their means are estimates, and which have means of samples in their place, as
    an earlier version took them.
    """
    flowed = own.flowed().dropna(subset="probe_classes")
    is_estimated = flowed["probe_flow_draws"].notna()
    for draws, rows in flowed[is_estimated].groupby("probe_flow_draws"):
        yield (
            "Where q(z_i|.) has a flow, its mean has no closed form and is estimated with "
            f"{draws:,.0f} draws for each of these samples: {own.layers_in_words(rows)}."
        )
    if not is_estimated.all():
        yield (
            "An earlier version evaluated layers with a flow whose features are the means of "
            f"{SAMPLES} samples of z_i, which do not compare with posterior means: "
            f"{own.layers_in_words(flowed[~is_estimated])}."
        )

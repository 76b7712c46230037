"""The table of refined encodings: how much better the bounds are where q(z|x) is fitted to every image by itself."""

import pandas as pd

from analysis.caveats import counts_text
from analysis.frames import Frames
from analysis.tables.building import Asked, AtDepth
from analysis.tables.table import TableSet

ROWS = {
    "refine_elbo": "ELBO, amortized",
    "refined_elbo": "ELBO, refined",
    "refined_elbo_difference": "ELBO, difference",
    "refine_bound": "bound, amortized",
    "refined_bound": "bound, refined",
    "refined_bound_difference": "bound, difference",
}
"""Columns of `Frames.members`, and what the table calls them."""


def refined(frames: Frames) -> TableSet:
    """The ELBO and the importance-weighted bound of the first test images, amortized and after the encoder's output has
    been optimized for every image, in nats per image: one table per depth, the greatest depth first. None where no
    member has them.
    """
    return Asked(
        "refine",
        "Amortized and refined bounds (nats per image)",
        "refined_elbo",
        _rows,
        _footnotes,
        "none of the finished members was evaluated with `evaluation.refine`, or q of the layer is not of an image.",
    ).tables(frames)


def _rows(members: pd.DataFrame) -> dict[str, str]:
    """The quantities of members, those of single layers where several are refined jointly."""
    layers = members["refine_layers"].max()
    alone = range(1, int(layers) + 1) if layers > 1 else ()
    return {
        **ROWS,
        **{f"refined_elbo_difference_{layer}": f"ELBO, difference, z_{layer} alone" for layer in alone},
        **{f"refined_bound_difference_{layer}": f"bound, difference, z_{layer} alone" for layer in alone},
    }


def _footnotes(own: AtDepth) -> tuple[str, ...]:
    """What was optimized and how, and how sure the differences are."""
    members = own.members
    rates = " and ".join(f"{lr:g}" for lr in sorted(members["refine_lr"].unique()))
    footnotes = [
        "Refined: the means and variances that the encoder puts out for an image, optimized on the ELBO of that image "
        f"by {counts_text(members['refine_steps'])} steps of Adam (step size {rates}), all weights as they are; on the "
        f"first {counts_text(members['refine_images'])} test images. The difference estimates the amortization gap, "
        "and what further steps would find is not in it.",
        f"Bound: the importance-weighted bound with K = {counts_text(members['iw_samples'])}. Amortized and refined "
        "bounds have the same noise, which the optimization has not seen.",
        *_of_the_first_layer_alone(members),
        *_with_a_flow(own),
    ]
    errors = {"ELBO": "refined_elbo_difference_se", "bound": "refined_bound_difference_se"}
    largest = {name: members[column].max() for name, column in errors.items()}
    stated = [f"{name}: {value:.2g}" for name, value in largest.items() if not pd.isna(value)]
    if stated:
        footnotes.append(f"Largest standard errors over images of a member's difference, in nats: {'; '.join(stated)}.")
    return tuple(footnotes)


def _of_the_first_layer_alone(members: pd.DataFrame) -> tuple[str, ...]:
    """Whose upper layers have no part in it, if there are such variants."""
    few = members[members["refine_layers"] < members["depth"]]
    if few.empty:
        return ()
    names = ", ".join(dict.fromkeys(few["variant"].astype(str)))
    said = "q(z_1|x) alone is refined: q of the layers above depends on samples, and not on the image itself."
    return (f"{names}: {said}",)


def _with_a_flow(own: AtDepth) -> tuple[str, ...]:
    """Which refined layers have a flow, which is not refined itself, if any have."""
    flowed = own.flowed()
    layers = own.layers_in_words(flowed[flowed["layer"] <= flowed["refine_layers"]])
    said = (
        "Where q(z_i|.) has a flow, the means and variances before it are refined, and the flow's parameters stay as "
        "the encoder puts them out, so that the difference is a part of the amortization gap"
    )
    return (f"{said}: {layers}.",) if layers else ()

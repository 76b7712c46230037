"""The table of annealed importance sampling: how far the importance-weighted bound is from the likelihood."""

import pandas as pd

from analysis.caveats import counts_text
from analysis.frames import Frames
from analysis.tables.building import Asked, AtDepth
from analysis.tables.table import TableSet

ROWS = {
    "ais_bound": "bound",
    "ais_log_likelihood": "AIS",
    "ais_difference": "AIS less bound",
    "ais_gap": "gap",
    "ais_estimate": "AIS + gap",
}
"""Columns of `Frames.members`, and what the table calls them."""


def annealed(frames: Frames) -> TableSet:
    """The importance-weighted bound and annealed importance sampling on the same test images, and the gap of
    bidirectional Monte Carlo on simulated images, in nats per image: one table per depth, the greatest depth first.
    None where no member has them.
    """
    return Asked(
        "ais",
        "How far the bound is from the likelihood (nats per image)",
        "ais_log_likelihood",
        lambda members: ROWS,
        _footnotes,
        "none of the finished members was evaluated with `evaluation.ais`.",
    ).tables(frames)


def _footnotes(own: AtDepth) -> tuple[str, ...]:
    """What the rows are, what follows of them, and how sure they are."""
    members = own.members
    images = counts_text(members["ais_images"])
    footnotes = [
        f"Bound: the importance-weighted bound with K = {counts_text(members['iw_samples'])}. AIS: annealed importance "
        f"sampling with {_counted(members, 'chains')} and {_counted(members, 'steps')}. Both on the first {images} "
        "test images, and both lower bounds on the log-likelihood in expectation.",
        _distance(members),
        "Gap: reverse less forward AIS on as many images simulated from each model, for which forward AIS is in "
        "expectation no farther than this from the likelihood.",
        "AIS + gap: an estimate of the log-likelihood of the test images, if AIS is as far from it on them as on "
        "simulated ones. It is no bound.",
    ]
    errors = {
        "AIS, Monte Carlo": "ais_log_likelihood_mc_se",
        "gap, over simulated images": "ais_gap_se",
    }
    largest = {name: members[column].max() for name, column in errors.items()}
    stated = [f"{name}: {value:.2g}" for name, value in largest.items() if not pd.isna(value)]
    if stated:
        footnotes.append(f"Largest standard errors of a member, in nats: {'; '.join(stated)}.")
    acceptance = members["ais_acceptance"].dropna()
    if len(acceptance):
        footnotes.append(f"Mean acceptance of Hamiltonian Monte Carlo: {_range(acceptance)}.")
    return tuple(footnotes)


def _distance(members: pd.DataFrame) -> str:
    """What AIS less the bound says, in words: an estimate, whose standard error over images is given with it."""
    difference, errors = members["ais_difference"], members["ais_difference_se"].dropna()
    error = f" (standard error over images: at most {errors.max():.2g})" if len(errors) else ""
    if (difference >= 0).all():
        return (
            f"AIS is above the bound by {_range(difference)} nats{error}: an estimate of how far, at least, the "
            "log-likelihood is above it in expectation."
        )
    if (difference <= 0).all():
        return (
            f"AIS is below the bound by {_range(-difference)} nats{error}: by this estimate the bound is the tighter "
            "of the two, and AIS says nothing of how far it is from the likelihood."
        )
    return (
        f"AIS less the bound is between {difference.min():.2f} and {difference.max():.2f} nats{error}: where it is "
        "positive, it is an estimate of how far, at least, the log-likelihood is above the bound in expectation, and "
        "where it is negative, the bound is by this estimate the tighter of the two."
    )


def _counted(members: pd.DataFrame, things: str) -> str:
    """`16 chains`, `1 chain`."""
    count = counts_text(members[f"ais_{things}"])
    return f"{count} {things.removesuffix('s') if count == '1' else things}"


def _range(values: "pd.Series[float]") -> str:
    """`0.12 to 0.34`, or one value where the two are the same."""
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"

"""What stands below the tables: how the numbers were measured, on whose data, and what they leave out."""

from collections.abc import Sequence

import pandas as pd

from analysis.caveats import (
    CLASSIFIED_ALONE,
    NO_UNIT_KL,
    OF_THIS_TABLE,
    absences,
    counts_text,
    is_classified_alone,
    limits,
    mixed,
    not_canonical,
    unit_text,
)
from analysis.frames import Frames
from analysis.statistics.over_seeds import what_errors_rest_on
from analysis.tables.table import ABSENT
from hvae_spec.records.layout import ACTIVE, ACTIVE_VARIANCE

CRITERION = f"A unit is active if its KL is above {ACTIVE} nats, on average over the test images."
BY_VARIANCE = (
    f"By variance: a unit is active if the variance over test images of its mean E_q[z_u|x] is above {ACTIVE_VARIANCE} "
    "(Burda et al., 2016). Below the top layer a unit may be active by variance and have no KL, where the mean of p "
    "moves as that of q does, since the layer above knows it."
)
MEANS = "Mean ± standard error over seeds (number of seeds; n/planned where members are missing)."


def unknown_units(layers: pd.DataFrame, members: pd.DataFrame, by: Sequence[str]) -> tuple[str, ...]:
    """Why a table of active units has no number of some layers, if it lacks any.

    Args:
        layers: `by_layer` of the active units of these members.
        members: all that the table shows.
        by: columns that make a cell.

    """
    members = members[~is_classified_alone(members)]
    depths = members[list(dict.fromkeys((*by, "depth")))].drop_duplicates()["depth"]
    if len(layers) == (depths + 1).sum():
        return ()
    return (f"{NO_UNIT_KL} Which of these are active is known by variance alone ({ABSENT}).",)


def bound_footnotes(frames: Frames) -> tuple[str, ...]:
    """How the test log-likelihood of these members was measured: K, test images, Monte Carlo error (nats per image).

    Empty where no member has finished.
    """
    finished = frames.members[frames.members["status"] == "finished"]
    if finished.empty:
        return ()
    footnotes = [
        f"Importance-weighted bound with K = {counts_text(finished['iw_samples'])} samples "
        f"on {counts_text(finished['test_images'])} test images."
    ]
    errors = finished["test_log_likelihood_mc_se"].dropna()
    if len(errors):
        footnotes.append(f"Monte Carlo error of a member's bound: at most {unit_text(errors.max(), '.2g', 'nat')}.")
    return tuple(footnotes)


def data_footnotes(frames: Frames) -> tuple[str, ...]:
    """In what the data of these members are not those of their distributor, or not all of them."""
    footnotes = []
    for dataset, members in frames.members.groupby("dataset", sort=False):
        if not_canonical(members):
            footnotes.append(f"The files of {dataset} are not those of its distributor (their digests differ).")
        footnotes += [f"Limited to {text}." for text in limits(members)]
        footnotes += mixed(members)
    return tuple(footnotes)


def grid_footnotes(frames: Frames, group: Frames, *, has_errors: bool = True) -> tuple[str, ...]:
    """Whose data the cells of a group are of, and what they leave out.

    Args:
        frames: the whole grid, with the records that it no longer plans.
        group: the members that the table shows.
        has_errors: whether the table has standard errors, intervals or p values.

    """
    footnotes = [*data_footnotes(group), *(what_errors_rest_on(frames.stages) if has_errors else ())]
    if is_classified_alone(group.members).any():
        footnotes.append(CLASSIFIED_ALONE)
    status = group.members["status"]
    if status.isin(["diverged", "failed"]).any():
        footnotes.append("Diverged and failed members are excluded from the means.")
    damaged = int((status == "damaged").sum())
    if damaged:
        footnotes.append(
            f"Left out: {damaged} member{'s' * (damaged > 1)} whose record{'s are' if damaged > 1 else ' is'} damaged."
        )
    footnotes += absences(group, OF_THIS_TABLE)
    left_out = int((~frames.members["planned"]).sum())
    if left_out:
        footnotes.append(f"Left out: {left_out} record{'s' * (left_out > 1)} that the grid no longer plans.")
    labels = ["dataset", *frames.factors, "depth", "variant", "seed"]
    if group.members.duplicated(labels).any():
        footnotes.append("Some cells hold several records of one seed; without grid.json they cannot be distinguished.")
    return tuple(footnotes)

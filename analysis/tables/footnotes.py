"""What stands below the tables: how the numbers were measured, on whose data, and what is not in them."""

from collections.abc import Iterator

import pandas as pd

from analysis.frames import Frames
from hvae_spec.records.layout import ACTIVE
from hvae_spec.spec.choices.dataset import DATASETS

CRITERION = f"A unit is active if its KL is above {ACTIVE} nats, on average over the test images."
MEANS = "Mean ± standard error over seeds (number of seeds; n/planned where members are missing)."


def bound_notes(frames: Frames) -> tuple[str, ...]:
    """How the test log-likelihood of these members was measured: K, test images, Monte Carlo error."""
    finished = frames.members[frames.members["status"] == "finished"]
    if finished.empty:
        return ()
    notes = [
        f"Importance-weighted bound with K = {_values(finished['iw_samples'])} samples "
        f"on {_values(finished['test_images'])} test images."
    ]
    errors = finished["test_log_likelihood_mc_se"].dropna()
    if len(errors):
        notes.append(f"Monte Carlo error of a member's bound: at most {errors.max():.2g} nats.")
    return tuple(notes)


def data_notes(frames: Frames) -> tuple[str, ...]:
    """In what the data of these members are not those of their distributor, or not all of them."""
    notes = []
    for dataset, members in frames.members.groupby("dataset", sort=False):
        if not_canonical(members):
            notes.append(f"The files of {dataset} are not those of its distributor (their digests differ).")
        notes += [f"Limited to {text}." for text in limits(members)]
    return tuple(notes)


def not_canonical(members: pd.DataFrame) -> bool:
    """Whether any of these members is known to have seen files that are not the distributor's."""
    return bool((members["data_canonical"] == False).any())  # noqa: E712 (the column holds missing values too)


def limits(members: pd.DataFrame) -> Iterator[str]:
    """`512 of 60,000 training images`, where members of one data set have not seen all images."""
    name = str(members["dataset"].iloc[0])
    whole = DATASETS[name].counts if name in DATASETS else None
    if whole:
        for kind, column, count in zip(("training", "test"), ("train_images", "test_images"), whole[1:], strict=True):
            if (members[column] < count).any():
                yield f"{_values(members[column])} of {count:,} {kind} images"


def grid_notes(frames: Frames, group: Frames) -> tuple[str, ...]:
    """Whose data the cells of a group are of, and what is not in them."""
    notes = [*data_notes(group)]
    status = group.members["status"]
    if status.isin(["diverged", "failed"]).any():
        notes.append("Diverged and failed members are in no mean.")
    left_out = int((~frames.members["planned"]).sum())
    if left_out:
        notes.append(f"Left out: {left_out} record{'s' * (left_out > 1)} that the grid no longer plans.")
    labels = ["dataset", *frames.factors, "depth", "variant", "seed"]
    if group.members.duplicated(labels).any():
        notes.append("Some cells hold several records of one seed; without grid.json they cannot be told apart.")
    return tuple(notes)


def _values(column: "pd.Series[float]") -> str:
    """The different values of a column of counts: `5,000`, `100 and 5,000`."""
    return " and ".join(f"{value:,.0f}" for value in sorted(column.dropna().unique())) or "unknown"

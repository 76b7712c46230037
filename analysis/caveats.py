"""Whose image files the members have seen, and how many of the images.

Numbers on other files than the distributor's, or on a part of them, are not comparable with published ones; tables,
figures and the report say so in the words of this module.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.columns import chosen_name
from hvae_spec.errors import UserError
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.data import published_counts

if TYPE_CHECKING:
    from analysis.frames import Frames


def canonical(files: "pd.Series[Any]") -> bool | None:
    """Whether the files of all members are their distributor's, as far as they are known; None if none are.

    Args:
        files: the column `data_canonical` of members; missing where a record does not say.

    Examples:
        >>> import pandas as pd
        >>> canonical(pd.Series([True, None, True])), canonical(pd.Series([True, False])), canonical(pd.Series([None]))
        (True, False, None)

    """
    known = files.dropna()
    return bool(known.astype(bool).all()) if len(known) else None


def not_canonical(members: pd.DataFrame) -> bool:
    """Whether any of these members is known to have seen files that are not the distributor's.

    Args:
        members: one row per member, as `Frames.members`.

    """
    return canonical(members["data_canonical"]) is False


def left_out(frames: "Frames") -> "pd.Series[bool]":
    """Which members were left out, as files of their data set were missing: those that are planned and not done.

    Args:
        frames: of any members.

    """
    members = frames.members
    is_open = members["planned"] & ~members["status"].isin(["finished", "diverged", "failed", "damaged"])
    return is_open & members["dataset"].isin(list(frames.absent))


NO_UNIT_KL = (
    "Where q or p of a layer does not factorize over its units, these have no KL of their own, but the layer has."
)
CLASSIFIED_ALONE = (
    "Of members without a log-likelihood q(y|x) alone was trained, on the labeled images alone: they have a test error "
    "and nothing else."
)
"""What is said beside such members."""
OF_THIS_TABLE = " of this table"
"""What tells a table's own count of members that were left out from that of the whole folder."""


def absences(frames: "Frames", of: str = "") -> Iterator[str]:
    """What is said of the members that were left out: `57 members are left out: norb: ... are missing`.

    Args:
        frames: the members that are counted.
        of: what they are, if they are not all of a results folder (`OF_THIS_TABLE`).

    """
    left = frames.members[left_out(frames)]
    for name, count in left["dataset"].value_counts(sort=False).items():
        members = "member is" if count == 1 else "members are"
        yield f"{count:,} {members} left out{of}: {frames.absent[str(name)]}"


def limits(members: pd.DataFrame) -> Iterator[str]:
    """`512 of 60,000 training images`, for each set of images of which members have not seen all.

    Args:
        members: one row per member, as `Frames.members`, all on one data set. A data set of the user's own has no
            published size, so it has no limits.

    """
    whole = published_counts().get(str(members["dataset"].iloc[0]))
    if whole is None:
        return
    for kind, column, count in (("training", "train_images", whole.train), ("test", "test_images", whole.test)):
        if (members[column] < count).any():
            yield f"{counts_text(members[column])} of {count:,} {kind} images"


def mixed(members: pd.DataFrame) -> Iterator[str]:
    """What is said where published numbers are not all of the training images that a data set has here.

    Args:
        members: one row per member, as `Frames.members`, all on one data set.

    """
    name = str(members["dataset"].iloc[0])
    whole = published_counts().get(name)
    if whole is not None and (more := DATASETS[name].mixed_with):
        yield (
            f"Published numbers on {name} are of models trained on its {whole.train:,} training images, or on "
            f"{whole.train + more:,}, its validation images among them; these are trained on "
            f"{counts_text(members['train_images'])}."
        )


def x_of(observations: "pd.Series[Any]") -> dict[str, X]:
    """What the observation models of some members are models of, by their names; those that are known.

    Args:
        observations: the column `observation` of members; missing where a record does not say.

    """
    found = {}
    for name in map(chosen_name, observations.dropna().unique()):
        with contextlib.suppress(UserError):  # it may be one of a version to come
            found[name] = OBSERVATIONS[name].x
    return found


def is_of_x(quantity: str) -> bool:
    """Whether a column of `Frames.members` is the log of a density or a mass of x, so that it compares among models of
    one x alone.

    Examples:
        >>> is_of_x("test_log_likelihood"), is_of_x("bits_per_dim"), is_of_x("active_units")
        (True, False, False)

    """
    return quantity.endswith(("log_likelihood", "_elbo")) or quantity in ("ais_bound", "ais_estimate")


def best_by(members: pd.DataFrame, quantity: str = "test_log_likelihood") -> tuple[str, int]:
    """The column by which members compare, and 1 if more of it is better, -1 if less: bits per dimension in place of
    log-likelihoods of different x.

    Args:
        members: one row per member, as `Frames.members`.
        quantity: a column: a bound, say, or `test_error`, of which less is better.

    """
    if is_of_x(quantity) and different_x(members):
        return "bits_per_dim", -1
    return quantity, -1 if quantity == "test_error" else 1


def different_x(members: pd.DataFrame) -> tuple[str, ...]:
    """What is said where the observation models of members are models of different x; nothing where they are not.

    Args:
        members: one row per member, as `Frames.members`.

    Examples:
        >>> import pandas as pd
        >>> different_x(pd.DataFrame({"observation": ["gaussian", "gaussian", None]}))
        ()

    """
    found = x_of(members["observation"])
    if len(set(found.values())) < 2:
        return ()
    kinds = "; ".join(f"{name}: {x.value}" for name, x in found.items())
    return (f"Log-likelihoods of different x do not compare ({kinds}). Bits per dimension, of gray levels, do.",)


def counts_text(column: "pd.Series[float]") -> str:
    """The different values of a column of counts, in ascending order.

    Examples:
        >>> import pandas as pd
        >>> counts_text(pd.Series([5000, 100, 5000]))
        '100 and 5,000'
        >>> counts_text(pd.Series([float("nan")]))
        'unknown'

    """
    return " and ".join(f"{value:,.0f}" for value in sorted(column.dropna().unique())) or "unknown"


def unit_text(value: float, form: str, unit: str) -> str:
    """A number with its unit, in the singular where it is written `1`.

    Examples:
        >>> unit_text(1.0, "g", "nat"), unit_text(0.98, ".2g", "nat"), unit_text(1.02, ".2g", "nat")
        ('1 nat', '0.98 nats', '1 nat')

    """
    text = format(value, form)
    return f"{text} {unit}{'s' * (text != '1')}"


def is_classified_alone(members: pd.DataFrame) -> "pd.Series[bool]":
    """Of which members q(y|x) alone was trained, so that they have a test error and nothing else.

    Args:
        members: one row per member, as `Frames.members`.

    """
    is_done = members["status"] == "finished"
    return is_done & members["test_log_likelihood"].isna() & members["test_error"].notna()


def why_unmeasured(members: pd.DataFrame, quantity: str) -> tuple[str, ...]:
    """Why finished members do not have a quantity, and that there is no effect on it between them and others; but for
    those of `CLASSIFIED_ALONE`, which is said of them anyway.

    Args:
        members: one row per member, as `Frames.members`.
        quantity: one of its columns that effects are on.

    """
    lacking = members[(members["status"] == "finished") & members[quantity].isna()]
    alone = is_classified_alone(lacking)
    of_error = (members["status"] == "finished") & members["test_error"].isna()
    said = []
    if quantity == "test_error" and of_error.any():
        said.append("Members without classes have no test error.")
    if quantity == "active_units" and not alone.all():
        said.append(f"{NO_UNIT_KL} Where one side has such a layer there is no effect on the number of active units.")
    return tuple(said)

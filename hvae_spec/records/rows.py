"""Rows of learning curves, as epochs.jsonl and units.jsonl have them."""

from typing import Annotated, NotRequired

from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict

from hvae_spec.records.json_file import FileModel, Format, Number, Text, Whole


class EpochRow(TypedDict):
    """A line of epochs.jsonl: means over the steps of an epoch, and where it was evaluated the validation curve, or
    without a validation set the test curve.
    """

    format: Format
    epoch: Whole
    beta: Number
    train_bound: Number
    """The objective, whose KL has the weight beta."""
    train_bound_beta_1: NotRequired[Number]
    """The same bound with beta = 1, as it is on the test set. Missing in rows that were made before this was kept."""
    train_reconstruction: Number
    """log p(x|z_1)."""
    kl_per_layer: list[Number]
    auxiliary_nats: NotRequired[Number]
    """What the auxiliary variable of q takes from the bound beside the KLs; missing where q has none."""
    train_log_classes: NotRequired[Number]
    """The mean of log q(y|x) over the labeled images of the batches; with classes alone."""
    gradient_norm: Number
    seconds: Number
    ms_per_step: Number
    test_error: NotRequired[Number]
    """With classes: percent of the images whose likeliest class by q(y|x) is not theirs."""
    validation_error: NotRequired[Number]
    test_elbo: NotRequired[Number]
    test_log_likelihood: NotRequired[Number]
    test_iw_samples: NotRequired[Whole]
    test_images: NotRequired[Whole | None]
    """The first so many of the test images are those of the two bounds. Missing in rows that were made before this was
    kept, when it was all of them."""
    validation_elbo: NotRequired[Number]
    """With the noise that all points of the curve have, as the next."""
    validation_log_likelihood: NotRequired[Number]
    validation_iw_samples: NotRequired[Whole]
    validation_images: NotRequired[Whole]
    """The first so many of the validation images are those of the two bounds."""
    active_units: NotRequired[Whole]


class UnitsRow(TypedDict):
    """A line of units.jsonl: KL(q||p) of every unit at a point of the curve, and its standard error; of a layer whose
    units have no KL of their own, its KL alone.
    """

    format: Format
    epoch: Whole
    kl: list[list[Number]]
    kl_se: list[list[Number]]


EPOCH_ROWS: TypeAdapter[list[EpochRow]] = TypeAdapter(list[EpochRow])


def are_of_same_units(kl: list[list[Number]], kl_se: list[list[Number]]) -> bool:
    """Whether there is one error for each unit of each layer."""
    return [len(layer) for layer in kl] == [len(layer) for layer in kl_se]


def _same_units(row: UnitsRow) -> UnitsRow:
    if not are_of_same_units(row["kl"], row["kl_se"]):
        raise ValueError("kl and kl_se are not of the same units")
    return row


UNITS_ROWS: TypeAdapter[list[UnitsRow]] = TypeAdapter(list[Annotated[UnitsRow, AfterValidator(_same_units)]])


class CurveDigests(FileModel):
    """SHA-256 of every row of a member's curves (`hvae_spec.records.curves.digests_of_rows`), by its epoch."""

    epochs: dict[int, Text]
    units: dict[int, Text]

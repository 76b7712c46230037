"""How a trained member is measured: bounds, units and batch-norm statistics."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from hvae_spec.spec.base import LARGEST_COUNT, Count, CountOrAll, Positive, SpecModel
from hvae_spec.spec.choices.norm import is_not_of_batch
from hvae_spec.spec.fields import (
    Affects,
    AuthorsCode,
    Column,
    DecidesStopping,
    IdleWhere,
    Measured,
    NoBearing,
    NoStepCost,
    Paper,
)

CURVE = NoBearing("it says which points a learning curve has; published numbers are those of the end")
CURVE_COST = NoStepCost("how often a set is evaluated is counted, not measured")


COUNTED = NoStepCost("how many gradients it takes is counted, not measured")


class AisSpec(SpecModel):
    """Annealed importance sampling: how far the bound is from the likelihood, on the first test images and on as many
    images simulated from the model.
    """

    images: Annotated[Count, COUNTED, Column("planned_ais_images", "AIS images"), Measured("ais_images")] = 100
    """Test images, the first ones; at most those that there are."""
    chains: Annotated[Count, COUNTED, Column("planned_ais_chains", "AIS chains"), Measured("ais_chains")] = 16
    """Chains per image, whose weights are averaged."""
    steps: Annotated[Count, COUNTED, Column("planned_ais_steps", "AIS steps"), Measured("ais_steps")] = 1000
    """Temperatures from the prior to the posterior. More of them bring it nearer to the likelihood, which the gap on
    simulated images shows."""


class RefineSpec(SpecModel):
    """Fitting q(z|x) to each of the first test images by itself, beginning at what the encoder says: how much of the
    distance between the ELBO and the likelihood is amortization (Cremer et al., 2018).
    """

    steps: Annotated[
        Count, COUNTED, Column("planned_refine_steps", "steps of refinement"), Measured("refine_steps")
    ] = 20
    """Steps of Adam on the ELBO, with 10 new samples per image each."""
    lr: Annotated[Positive, COUNTED, Column("planned_refine_lr", "step size of refinement"), Measured("refine_lr")] = (
        0.05
    )
    """Their step size, of means and of log variances."""
    images: Annotated[Count, COUNTED, Column("planned_refine_images", "refined images"), Measured("refine_images")] = (
        100
    )
    """Test images, the first ones; at most those that there are."""


def _no_repetition(labels: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The numbers of labels, of which no two are the same."""
    if len(set(labels)) < len(labels):
        raise PydanticCustomError("repeated", "each number of labels once")
    return labels


class ProbeSpec(SpecModel):
    """A linear probe: what each layer knows of the classes of the images, which the model has not been told."""

    labels: Annotated[
        tuple[CountOrAll, ...],
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_no_repetition),
        COUNTED,
        Column("planned_probe_labels", "labels of the probe"),
    ] = (100, "all")
    """How many training images have a label, as many of each class as can be, drawn for every seed; `all`: all of
    them. There is a probe for each number."""

    def counts(self, images: int) -> list[int]:
        """The numbers of labels where there are so many training images."""
        return [images if count == "all" else count for count in self.labels]


class Redraws(SpecModel):
    """The test images are drawn from their gray values anew, to measure how much the bound depends on the one draw that
    it is taken on.
    """

    draws: Annotated[int, Strict(), Field(ge=2, le=LARGEST_COUNT)] = 5
    """How often."""
    images: Count = 1000
    """The first so many test images; all, if there are fewer."""


class EvaluationSpec(SpecModel):
    """Bounds at the end of training, on the test set, and along the way, on the validation set if there is one."""

    iw_samples: Annotated[
        Count,
        Affects("evaluation"),
        NoStepCost("an evaluation is measured as a rate of samples"),
        Column("planned_iw_samples", "importance samples"),
        Measured("iw_samples"),
        Paper(5000, "Sec. 3", hinders="budget"),
        NoBearing("the KL of a unit is taken without importance samples", ("active_units",)),
    ] = 5000
    """K of the final test log-likelihood, Eq. 12."""
    every: Annotated[
        Count | None,
        Affects("nothing"),
        DecidesStopping(),
        CURVE,
        CURVE_COST,
        Column("evaluation_every", "evaluation every"),
    ] = None
    """Evaluate every so many epochs, on the validation set (`data.validation`), or where there is none on the test set:
    a point of the curve and the KL of every unit. Null: no curve, but the final evaluation alone."""
    curve_iw_samples: Annotated[Count, Affects("nothing"), DecidesStopping(), CURVE, CURVE_COST] = 100
    """K of the points of the curve. The final evaluation, which is no point of it, has `iw_samples`."""
    curve_images: Annotated[Count | None, Affects("nothing"), DecidesStopping(), CURVE, CURVE_COST] = None
    """The bounds of every point of the curve are of the first so many images of its set, which makes a large K
    affordable; null, or a number that is not smaller: of all. The KL of every unit is of all images of the set in any
    case, and the final evaluation is of all and, for comparison with the curve, of these."""
    batch_norm_statistics: Annotated[
        Literal["whole_set", "batch_average"],
        Affects("evaluation"),
        DecidesStopping(),
        NoStepCost("the evaluation is measured after them"),
        IdleWhere({"norm": is_not_of_batch}),
        AuthorsCode("the whole training set, before every evaluation", "whole_set"),
    ] = "whole_set"
    """Batch-norm statistics, recomputed before every evaluation: from one pass of the whole training set as a single
    batch (the authors' way; it takes 0.8 GiB for the paper's largest model on MNIST, and with `model.classes`, where
    every image passes with every class, ten times as much), or as the average over training batches (where a moving
    average would settle)."""
    ais: Annotated[
        AisSpec | None, Affects("evaluation"), NoBearing("it measures a bound's distance, and changes no bound")
    ] = None
    """Annealed importance sampling: `{images: 100, chains: 16, steps: 1000}`. Null: none. It takes long: per image and
    chain some 30,000 gradients of the generative model, which the plan counts."""
    refine: Annotated[
        RefineSpec | None, Affects("evaluation"), NoBearing("it measures q(z|x), and changes no bound")
    ] = None
    """The bounds after the encoder's output for an image (means and log variances) has been optimized for that image,
    with all weights as they are: `{steps: 20, lr: 0.05, images: 100}`. Null: none. Of a ladder once all layers jointly
    and once each with the rest as it is; of a VAE q(z_1|x) alone, as no other factor of q is of one image. They stand
    beside the amortized bound, and never in its place."""
    probe: Annotated[
        ProbeSpec | None, Affects("evaluation"), NoBearing("it measures latents, and changes no bound")
    ] = None
    """What does layer i know? A linear probe of the classes on the posterior means of every layer, averaged over 10
    samples: `{labels: [100, all]}`. Null: none. Only with images that have classes."""
    redraws: Annotated[
        Redraws | None,
        Affects("evaluation"),
        NoStepCost("an evaluation is measured as a rate of images"),
        Column("redraws", "redraws of the test set"),
        NoBearing("it measures an error, and changes no number"),
    ] = None
    """After the final evaluation, binarize the first test images anew and take the bound with `iw_samples` on each
    draw: `{draws: 5, images: 1000}`. From its variance over draws comes the error that our one binarization of the test
    set, which all seeds share, adds to a difference from a published value. Null: it is not measured. Idle where x is
    not drawn as zeros and ones."""
    memory_gib: Annotated[
        Positive | None, Affects("nothing"), NoBearing("it changes speed and memory, and no number")
    ] = None
    """Memory that an evaluation may use for activations, in GiB: how many blocks of samples are computed together.
    Null: a 64th of a GPU's memory, so that packs can share it. It changes no draw. On a CPU, where more blocks at a
    time are no faster, one is computed at a time whatever this is."""

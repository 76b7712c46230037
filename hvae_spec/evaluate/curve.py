"""Points of learning curves: what a member is worth while it trains."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from hvae_spec.data.batches import Batches, draw_once
from hvae_spec.data.dataset import Dataset
from hvae_spec.evaluate.classify import classify, true_classes
from hvae_spec.evaluate.evaluation import Evaluation, evaluate, record_statistics
from hvae_spec.evaluate.log_weights import WORTH_COMPILING
from hvae_spec.evaluate.member import total
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.random import stream_seed
from hvae_spec.records.json_file import FORMAT
from hvae_spec.records.rows import EpochRow, UnitsRow
from hvae_spec.spec.cost import UNIT_SAMPLES, curve_images
from hvae_spec.spec.experiment import MemberSpec

CurvePart = Literal["validation", "test"]


@dataclass(frozen=True)
class CurvePoint:
    """A point of a member's learning curve."""

    part: CurvePart
    """The set that its images are of."""
    bounds: Evaluation | None
    """With the K and on the images of the curve. None where q(y|x) alone is trained."""
    units: Evaluation | None
    """Of its units, on all images of the set. None where there are no bounds."""
    error: float | None
    """Percent of the images of the set whose likeliest class by q(y|x) is not theirs."""
    has_labels: bool
    """Whether there is such an error, which is None where q(y|x) is not finite."""

    def add_to(self, row: EpochRow) -> None:
        """Write it into the row of its epoch."""
        is_validation, bounds = self.part == "validation", self.bounds
        if self.has_labels and is_validation:
            row["validation_error"] = self.error
        elif self.has_labels:
            row["test_error"] = self.error
        if bounds is None or self.units is None:
            return
        elbo, bound, images = float(bounds.elbo.mean()), float(bounds.log_likelihood.mean()), len(bounds.log_likelihood)
        if is_validation:
            row["validation_elbo"], row["validation_log_likelihood"] = elbo, bound
            row["validation_iw_samples"], row["validation_images"] = bounds.iw_samples, images
        else:
            row["test_elbo"], row["test_log_likelihood"] = elbo, bound
            row["test_iw_samples"], row["test_images"] = bounds.iw_samples, images
        if (active := total(self.units.active_units)) is not None:
            row["active_units"] = active

    def units_row(self, epoch: int) -> UnitsRow | None:
        """The KL of every unit at an epoch."""
        if self.units is None:
            return None
        kl, kl_se = [kl.tolist() for kl in self.units.kl], [se.tolist() for se in self.units.kl_se]
        return {"format": FORMAT, "epoch": epoch, "kl": kl, "kl_se": kl_se}


@dataclass(frozen=True)
class CurveEvaluation:
    """How the learning curves of members of one shape are measured: on the validation set where there is one, and never
    on the test set then.
    """

    spec: MemberSpec
    """Whose settings of the curve, and whose images, hold."""
    dataset: Dataset
    """Its data set."""

    @property
    def part(self) -> CurvePart:
        """The set that is evaluated on."""
        return "validation" if self.spec.data.validation else "test"

    @cached_property
    def images(self) -> Tensor:
        """All images of that set [N, D], as every point sees them."""
        return draw_once(self.dataset, self.part, self.spec.model.observation_name)

    @cached_property
    def classes(self) -> Tensor | None:
        """The class of each image of that set [N], where they have labels."""
        return true_classes(self.dataset, self.part)

    def point(
        self,
        model: Hierarchy,
        member: MemberSpec,
        epoch: int,
        batches: Batches,
        *,
        compiled: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> CurvePoint:
        """Evaluate a member as it stands, with batch-norm statistics recomputed.

        On a validation set, whose points are compared with each other, all noise is the same at every point.

        Args:
            model: the member (M = 1).
            member: its spec.
            epoch: epochs trained so far.
            batches: its training set.
            compiled: whether long evaluations are compiled.
            progress: called with the fraction done.

        """
        settings, images, is_validation = self.spec.evaluation, self.images, self.part == "validation"
        seed = stream_seed(member.seed, "validation") if is_validation else member.seed
        epoch = 0 if is_validation else epoch
        record_statistics(model, batches, member.seed, epoch, settings.batch_norm_statistics)
        classes = self.classes if member.classes else None
        found = None if classes is None else classify(model, images, classes)
        error, has_labels = None if found is None else found.error, classes is not None
        if member.classifies_alone:
            return CurvePoint(self.part, None, None, error, has_labels)

        def evaluated(x: Tensor, samples: int) -> Evaluation:
            return evaluate(
                model,
                x,
                samples,
                seed=seed,
                epoch=epoch,
                memory_gib=settings.memory_gib,
                compiled=compiled and samples * len(x) >= WORTH_COMPILING,
                progress=progress,
            )

        shown = images[: curve_images(self.spec, len(images))]
        bounds = evaluated(shown, settings.curve_iw_samples)
        units = bounds if len(shown) == len(images) else evaluated(images, UNIT_SAMPLES)
        return CurvePoint(self.part, bounds, units, error, has_labels)

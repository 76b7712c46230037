"""Contradictions in how a member is evaluated."""

from collections.abc import Iterator

from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.experiment import MemberSpec


def measured_images_problems(member: MemberSpec, there: int) -> Iterator[Inconsistency]:
    """Annealed importance sampling or a refinement of more test images than are in use."""
    evaluation = member.evaluation
    for key, words, asked in (
        ("ais", "annealed importance sampling", evaluation.ais),
        ("refine", "a refinement", evaluation.refine),
    ):
        if asked is not None and asked.images > there:
            yield Inconsistency(
                ("evaluation", key, "images"),
                f"{asked.images} images for {words} of {there} test images",
                f"at most {there}",
                (f"evaluation.{key}.images", "data.test_images", "data.dataset", "data.own"),
            )


def probe_problems(member: MemberSpec, there: int) -> Iterator[Inconsistency]:
    """A linear probe without classes, with more labels than training images that differ, or too few for the classes."""
    probe, data = member.evaluation.probe, member.data
    if probe is None:
        return
    classes = DATASETS[data.dataset].classes
    reads = ("evaluation.probe", "data.dataset", "data.own")
    if classes == 0:
        yield Inconsistency(
            ("evaluation", "probe"),
            f"a probe of classes, of which the images of {data.name} have none",
            "probe: null, or a data set with classes",
            reads,
        )
        return
    for place, count in enumerate(probe.labels):
        if count != "all" and count > there:
            message = f"{count} labels for the probe of {there} different training images"
            path = ("evaluation", "probe", "labels", place)
            yield Inconsistency(path, message, f"at most {there}, or all", (*reads, "data.train_images"))
        elif count != "all" and classes is not None and count < 2 * classes:
            message = f"{count} labels for the probe of {classes} classes"
            remedy = f"at least two for each class, {2 * classes}"
            yield Inconsistency(("evaluation", "probe", "labels", place), message, remedy, reads)

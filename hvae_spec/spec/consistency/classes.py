"""Contradictions in what a spec says of the classes of images, and between it and the images that are there."""

from collections.abc import Iterator

from hvae_spec.spec.base import Loc
from hvae_spec.spec.choice import name_and_settings
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.consistency.phases import objectives
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.objective import ObjectiveSpec

CLASSES, LABELED = ("model", "classes"), ("data", "labeled")
READS = ("model.classes", "data.labeled")
WHOLE_GRADIENT = ObjectiveSpec.model_fields["estimator"].default
"""The estimator that the sum over classes has."""
IMAGES = ("data.dataset", "data.own", "data.train_images", "data.validation")


def class_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """Labels without a model of classes or the other way round, and what there is no marginal over classes for."""
    data, own = member.data, member.model.classes
    if own is None:
        if data.labeled is not None:
            yield Inconsistency(
                LABELED,
                "labeled images, and a model without classes that would read their labels",
                "model.classes: {mlp: [64]}, or labeled: null",
                READS,
            )
        for path, objective in objectives(member):
            if objective.classifies_alone:
                yield Inconsistency(
                    (*path, "classification"),
                    "only q(y|x) is to be trained, and the model has no classes",
                    "model.classes: {mlp: [64]}, or a number",
                    (_dotted(*path, "classification"), "model.classes"),
                )
        return
    if data.labeled is None:
        yield Inconsistency(
            CLASSES,
            "a model of classes, of which no image has a label",
            "data.labeled: a number of images, or all; or classes: null",
            READS,
        )
    yield from _count_problems(member)
    yield from _beside_classes(member)
    yield from _alone_problems(member)


def labeled_problems(member: MemberSpec, there: int) -> Iterator[Inconsistency]:
    """More labels than training images in use, of which there are so many, or no whole number of each class."""
    labeled, classes = member.data.labeled, DATASETS[member.data.dataset].classes or member.classes
    if member.model.classes is None or not isinstance(labeled, int) or not classes:
        return
    if labeled >= there:
        yield Inconsistency(
            LABELED,
            f"{labeled} labeled images of {there} training images, which leave none without a label",
            f"fewer than {there}, or all",
            (*READS, *IMAGES),
        )
    elif labeled % classes:
        more = -(-labeled // classes) * classes
        yield Inconsistency(
            LABELED,
            f"{labeled} labeled images are not as many of each of {classes} classes",
            f"a multiple of {classes}, {more} say, or all",
            (*READS, *IMAGES),
        )


def _dotted(*path: str | int) -> str:
    return ".".join(map(str, path))


def _count_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """Another number of classes than a data set has, or none that is known."""
    data, own = member.data, member.model.classes
    known, stated = DATASETS[data.dataset].classes, None if own is None else own.count
    reads = ("model.classes", "data.dataset", "data.own")
    if known == 0:
        yield Inconsistency(
            CLASSES,
            f"a model of classes, of which the images of {data.name} have none",
            "classes: null, or a data set with classes",
            reads,
        )
    elif known is None and stated is None:
        yield Inconsistency(
            CLASSES,
            f"a model of the classes of {data.name}, and only its images tell how many these are",
            "count: the number of classes beside mlp",
            reads,
        )
    elif (known or stated) == 1:
        yield Inconsistency(CLASSES, "a single class, which says nothing of an image", "classes: null", reads)
    elif known is not None and stated is not None and stated != known:
        yield Inconsistency(
            (*CLASSES, "count"), f"{stated} classes, but {data.name} has {known}", f"count: {known}, or null", reads
        )


def _beside_classes(member: MemberSpec) -> Iterator[Inconsistency]:
    """What a model with classes cannot have."""
    model, data, evaluation = member.model, member.data, member.evaluation

    def refused(path: Loc, what: str, remedy: str, *others: str) -> Inconsistency:
        return Inconsistency(path, f"{what} beside model.classes", remedy, ("model.classes", _dotted(*path), *others))

    if not INFERENCES[model.inference].takes_classes:
        others = " or ".join(name for name in INFERENCES if INFERENCES[name].takes_classes)
        yield refused(("model", "inference"), f"{model.inference} inference, which takes no y,", f"inference: {others}")
    if model.prior_model.needs_encoder:
        prior = name_and_settings(model.prior)[0]
        what = f"the prior {prior}, whose pseudo-inputs have no y for q(z_{model.depth}|x, y),"
        yield refused(("model", "prior"), what, "another prior, or classes: null")
    if model.sweeps > 1:
        what = "several sweeps of inference, of which all but the last would be of a class that q(y|x) is to tell,"
        yield refused(("model", "inference_steps"), what, "inference_steps: 1, or classes: null")
    if model.auxiliary is not None:
        what = "an auxiliary variable, of which r(a|x, z) would have to take y,"
        yield refused(("model", "auxiliary"), what, "auxiliary: null, or classes: null")
    for path, objective in objectives(member):
        if objective.estimator != WHOLE_GRADIENT:
            what = f"the estimator {objective.estimator}, which is derived for a bound without a sum over y,"
            yield refused((*path, "estimator"), what, f"estimator: {WHOLE_GRADIENT}, or classes: null")
        if objective.free_bits is not None:
            what = "free bits, whose floor is one of a KL without a sum over y,"
            yield refused((*path, "free_bits"), what, "free_bits: null, or classes: null")
        if objective.term is not None:
            what = "a term of an extension, which would be added for every class, with equal weights,"
            yield refused((*path, "term"), what, "term: null, or classes: null")
    if data.copies > 1:
        what = "copies of training images, of which one would have a label and another none,"
        yield refused(("data", "copies"), what, "copies: 1, or classes: null")
    for key, asked, words in (
        ("ais", evaluation.ais, "annealed importance sampling, which moves numbers and no classes,"),
        ("refine", evaluation.refine, "a refinement, which moves numbers and no classes,"),
        ("probe", evaluation.probe, "a probe of classes that the model has been told"),
    ):
        if asked is not None:
            yield refused(("evaluation", key), words, f"{key}: null, or classes: null")


def _alone_problems(member: MemberSpec) -> Iterator[Inconsistency]:
    """What q(y|x) alone, in the training or in its first phase, cannot be trained with."""
    model, data, sections = member.model, member.data, objectives(member)
    alone = [path for path, objective in sections if objective.classifies_alone]
    if len(alone) == 1 < len(sections):
        (path,), (other,) = alone, [path for path, _ in sections if path not in alone]
        where = ("objective", "training.first_phase")
        yield Inconsistency(
            (*path, "classification"),
            f"only q(y|x) is trained in {_dotted(*path)}, and not in {_dotted(*other)}: one phase trains weights that "
            "the other leaves as they are",
            "only in both phases, or in neither",
            ("model.classes", *(f"{one}.classification" for one in where)),
        )
    if alone and member.training.early_stopping is not None:
        yield Inconsistency(
            ("training", "early_stopping"),
            "early stopping by a bound, and only q(y|x) is trained, which has none",
            "early_stopping: null, or a number for objective.classification",
            ("training.early_stopping", "objective.classification", "model.classes"),
        )
    if alone and model.normalization.of_batch and data.adds_labeled and data.labeled_batch == 1:
        yield Inconsistency(
            ("data", "labeled_batch"),
            "batch normalization needs more than one image in a batch",
            "a labeled_batch of 2 or more, or model.norm: layer or none",
            ("data.labeled_batch", "model.batch_norm", "model.norm", "objective.classification"),
        )

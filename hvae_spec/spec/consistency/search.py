"""Contradictions within a search, and between it and the rest of the spec."""

from collections.abc import Iterator

from hvae_spec.spec.consistency.inconsistency import Inconsistency
from hvae_spec.spec.experiment import Experiment, MemberSpec
from hvae_spec.spec.grid import TRIAL


def search_problems(experiment: Experiment) -> Iterator[Inconsistency]:
    """Contradictions within a search, and between it and the rest of the spec."""
    search = experiment.search
    if search is None:
        return
    if experiment.grid.stages is not None:
        message = "seeds in two stages are for an ablation, whose cells are known before it runs"
        yield Inconsistency(("grid", "seeds"), message, "a list of seeds, or no search", ("grid.seeds", "search"))
    if not experiment.data.validation:
        message = "a search ranks by validation images, and there are none"
        yield Inconsistency(("search",), message, "data.validation: the last so many training images", stops=True)
    if TRIAL in experiment.grid.axes:
        message = f"{TRIAL} is the name of the points of the search"
        yield Inconsistency(("grid", "axes", TRIAL), message, "another name", stops=True)
    for path in search.space:
        if path == "training.epochs" or path.split(".")[0] in ("data", "evaluation"):
            message = f"{path}: points are compared after the same training on the same images"
            remedy = "a path into model, objective or training, and not training.epochs"
            yield Inconsistency(("search", "space", path), message, remedy, stops=True)
    found = len(search.points())
    if found < search.trials:
        message = f"the space has {found} different points, and {search.trials} are asked for"
        yield Inconsistency(("search", "trials"), message, f"at most {found}", ("search.space",), stops=True)
    if search.halving is not None and search.halving.first >= experiment.training.epochs:
        message = f"the first rung of {search.halving.first} epochs is the whole training"
        remedy = f"fewer than training.epochs = {experiment.training.epochs}, or halving: null"
        yield Inconsistency(("search", "halving", "from"), message, remedy, ("training.epochs",))


def ranking_problems(experiment: Experiment, member: MemberSpec) -> Iterator[Inconsistency]:
    """A point of a search, in one of the grid's cells, that has nothing to be ranked by."""
    if experiment.search is not None and member.classifies_alone:
        message = "a search ranks by the bound of validation images, and where q(y|x) alone is trained there is none"
        reads = ("objective.classification", "model.classes", "search")
        yield Inconsistency(("objective", "classification"), message, "a number, or no search", reads)

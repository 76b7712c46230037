"""The shipped specs: each reads, alone and with every profile of its own, and holds what its members continue from."""

from pathlib import Path

import pytest

from analysis.columns import at
from hvae_spec.data.counts import image_counts
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.spec.cost import macs
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import OPEN, AuthorsCode, BeforeFineTuning, Paper, settings
from hvae_spec.training.schedules import learning_rate
from tune.execute.phases import check_first_phases
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))
PAPER = SPECS[0].parent / "paper.yaml"
CASES = [
    (path, profile)
    for path in SPECS
    for profile in ((None, "tenth", "quick") if path == PAPER else (None, *read(path).experiment.profiles))
]


@pytest.mark.parametrize(("path", "profile"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_reads_with_every_profile(path, profile, tmp_path):
    reading = read(path, (), profile)
    assert reading.name == path.stem + (f"-{profile}" if profile else "")
    assert reading.members
    results = Results(tmp_path)
    plan = make_plan(reading, Ledger(results), RunInfo(tmp_path, "cpu"), Machine(2, 0))
    check_first_phases(plan)


@pytest.mark.parametrize("path", [path for path in SPECS if path.stem != "quickstart"], ids=lambda path: path.stem)
def test_a_quick_profile_costs_less_than_a_hundredth_of_the_paper_s_budget(path):
    def steps(profile):
        members = read(path, (), profile).members
        return sum(member.spec.training.epochs * image_counts(member.spec.data).train for member in members)

    # The active units are looked at with a tenth of the paper's budget already.
    assert steps("quick") < steps(None) / {"frey_gaussian": 4, "mnist_active_units": 10}.get(path.stem, 100)


TENTHS = [path for path, profile in CASES if profile == "tenth" and path.stem != "mnist_active_units"]
EPOCHS = {
    *("training.epochs", "objective.warm_up", "objective.warm_up.over", "training.lr_decay.every"),
    *("training.first_phase.epochs", "training.first_phase.warm_up"),
    *("training.schedule.cosine.over", "training.schedule.cosine.ramp"),
}
"""What is counted in epochs."""


def tenth_of(value, path=""):
    """A tree of settings with a tenth of all epochs."""
    if isinstance(value, dict):
        return {name: tenth_of(inner, f"{path}.{name}" if path else name) for name, inner in value.items()}
    if path in EPOCHS and value is not None:
        assert value % 10 == 0
        return value // 10
    return value


@pytest.mark.parametrize("path", TENTHS, ids=lambda path: path.stem)
def test_a_tenth_is_the_same_with_a_tenth_of_all_epochs(path):
    whole, tenth = (read(path, (), profile).members for profile in (None, "tenth"))
    assert [member.seed for member in tenth] == [member.seed for member in whole]
    for short, long in zip(tenth, whole, strict=True):
        found, wanted = short.spec.model_dump(mode="json"), tenth_of(long.spec.model_dump(mode="json"))
        own, its = found.pop("evaluation"), wanted.pop("evaluation")
        assert found == wanted
        assert own["iw_samples"] == its["iw_samples"]


def test_a_tenth_of_the_paper_in_one_file_is_that_of_each_of_its_grids():
    assert len(read(PAPER, (), "tenth").members) == len(read(PAPER).members)


def test_the_quick_profile_of_norb_costs_no_more_than_that_of_mnist():
    """Its header promises a time by this; learning rate and share of warm-up are the paper's."""

    def cost(name):
        members = read(SPECS[0].parent / f"{name}.yaml", (), "quick").members
        return sum(macs(member.spec, image_counts(member.spec.data)) for member in members)

    assert cost("norb_grid") / cost("mnist_grid") == pytest.approx(0.84, abs=0.05)
    paper, quick = (read(SPECS[0].parent / "norb_grid.yaml", (), name).experiment for name in (None, "quick"))
    assert quick.training.optimizer == paper.training.optimizer
    assert quick.objective.warm_up / quick.training.epochs == paper.objective.warm_up / paper.training.epochs


@pytest.mark.parametrize("path", [path for path in SPECS if path.stem.startswith("mnist")], ids=lambda path: path.stem)
def test_gray_of_mnist_is_as_in_the_published_numbers_that_a_spec_answers(path):
    # One variant of the spec on active units is there to show what the other divisor does.
    members = [member for member in read(path).members if member.labels["variant"] != "gray / 255"]
    divisors = {member.spec.data.grey_divisor for member in members}
    assert divisors == {"largest" if path.stem in ("mnist_iwae", "mnist_estimators") else "levels"}


def of(name, profile=None, variant=None):
    members = read(SPECS[0].parent / f"{name}.yaml", (), profile).members
    return [member.spec for member in members if variant in (None, member.labels["variant"])]


def facts_of(kind):
    stated = ((item, item.fact(kind)) for item in settings(MemberSpec) if not item.fact(BeforeFineTuning))
    return {item.dotted: one for item, one in stated if one is not None}


def test_the_authors_code_has_every_value_that_is_stated_of_it():
    tree = of("mnist_authors_code", variant="Authors' code")[0].model_dump(mode="json")
    stated = {path: code.value for path, code in facts_of(AuthorsCode).items() if code.value is not OPEN}
    assert {path: at(tree, path) for path in stated} == stated
    assert {"model.initialization", "model.mean_clip", "training.optimizer.adam.eps"} <= stated.keys()


def test_the_autoencoder_of_burda_is_trained_as_they_did_or_as_the_paper_trains():
    burda = of("mnist_iwae", "burda", "IWAE K = 50")[0]
    tree = burda.model_dump(mode="json")
    for path, paper in facts_of(Paper).items():
        wanted = paper.iwae_by_dataset.get("mnist", paper.iwae)
        # What is no section of this member has no value; of layers there are two.
        found = (
            [at(layer, path.split(".")[-1]) for layer in tree["model"]["layers"]]
            if "layers" in path
            else at(tree, path)
        )
        found = next(iter(found)) if path == "training.optimizer" else found
        assert wanted is OPEN or found in (wanted, [None, None]), path
    rates = [learning_rate(burda.training, epoch) for epoch in range(1, 3281)]
    assert burda.training.epochs == sum(3**i for i in range(8)) == 3280
    for stage in range(8):
        begin, end = (3**stage - 1) // 2, (3 ** (stage + 1) - 1) // 2
        (rate,) = set(rates[begin:end])
        assert rate == pytest.approx(1e-4 * round(10 ** (1 - stage / 7), 1))
        assert rate == pytest.approx(1e-3 * 10 ** (-stage / 7), abs=5.1e-6)
    paper = of("mnist_iwae", variant="IWAE K = 50")[0].training
    assert (paper.epochs, paper.batch_size, paper.schedule) == (2000, 256, None)


def test_norb_of_the_authors_code_differs_from_norb_as_the_paper_says_in_its_images_alone():
    code, paper = of("norb_authors_code"), of("norb_grid")
    assert {(spec.data.copies, spec.data.redraw, spec.data.rescaled_by) for spec in code} == {
        (2, "once", "training_maximum")
    }
    assert [spec.model_copy(update={"data": paper[0].data}) for spec in code] == paper


@pytest.mark.parametrize(
    "name", ["mnist_grid", "mnist_finetune", "mnist_shared_top_down", "omniglot_grid", "norb_grid"]
)
def test_the_test_curves_of_the_paper_s_grids_are_those_of_fig_4(name):
    """With 5000 samples, which is affordable on a part of the test images alone."""
    paper, quick = (read(SPECS[0].parent / f"{name}.yaml", (), profile).experiment for profile in (None, "quick"))
    assert (paper.evaluation.curve_iw_samples, paper.evaluation.curve_images) == (5000, 500)
    assert (quick.evaluation.curve_iw_samples, quick.evaluation.curve_images) == (10, None)


def test_the_paper_in_one_file_is_the_union_of_its_grids():
    """57 members on each of three data sets; of the 30 fine-tuned ones and their first phases, six first phases are
    those of the MNIST grid, and so are the 12 ladders beside those that share their top-down path.
    """
    reading = read(PAPER)
    assert [(grid.name, len(grid.members)) for grid in reading.grids] == [
        *(("mnist_grid", 57), ("omniglot_grid", 57), ("norb_grid", 57)),
        *(("mnist_finetune", 30), ("mnist_shared_top_down", 24)),
    ]
    union = {member.digests.evaluation for grid in reading.grids for member in grid.members}
    assert len(reading.members) == len(union) == 57 * 3 + 24 + 12
    assert {member.digests.evaluation for member in reading.members} == union
    alone = {path: read(PAPER.parent / f"{path}.yaml") for path in ("mnist_grid", "norb_grid", "mnist_finetune")}
    assert [grid.members for grid in reading.grids if grid.name in alone] == [one.members for one in alone.values()]


def test_the_paper_s_grids_share_members_with_what_builds_on_them():
    grid = {member.digests.training for member in read(SPECS[0].parent / "mnist_grid.yaml").members}
    tuned = read(SPECS[0].parent / "mnist_finetune.yaml").members
    firsts = {member.spec.first_phase.digests.training for member in tuned if member.spec.first_phase}
    assert len(firsts) == 6
    assert firsts <= grid

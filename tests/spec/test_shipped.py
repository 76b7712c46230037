"""The shipped specs: each reads, alone and with every profile of its own, and holds what its members continue from."""

from pathlib import Path

import pytest

from hvae_spec.data.counts import image_counts
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.spec.cost import macs
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
    for profile in ((None, "quick") if path == PAPER else (None, *read(path).experiment.profiles))
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

    assert steps("quick") < steps(None) / (4 if path.stem == "frey_gaussian" else 100)


def test_the_quick_profile_of_norb_costs_no_more_than_that_of_mnist():
    """Its header promises a time by this; learning rate and share of warm-up are the paper's."""

    def cost(name):
        members = read(SPECS[0].parent / f"{name}.yaml", (), "quick").members
        return sum(macs(member.spec, image_counts(member.spec.data)) for member in members)

    assert cost("norb_grid") / cost("mnist_grid") == pytest.approx(0.84, abs=0.05)
    paper, quick = (read(SPECS[0].parent / "norb_grid.yaml", (), name).experiment for name in (None, "quick"))
    assert quick.training.optimizer == paper.training.optimizer
    assert quick.objective.warm_up / quick.training.epochs == paper.objective.warm_up / paper.training.epochs


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

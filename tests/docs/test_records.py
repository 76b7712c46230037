"""The records that docs/ keeps of long runs: they are of members of today's specs, and its page has their numbers."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan

ROOT = Path(__file__).parents[2]
TENTH = ROOT / "docs/records/mnist_grid-tenth"
RECORDS = Results(TENTH).records
ROW = re.compile(r"^\| (\d) \| (.+?) \| (\d) \| (-[\d.]+) \| (-[\d.]+) \| ([\d, ]+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def planned():
    """The members of the paper's MNIST grid at a tenth of its epochs, by training digest."""
    members = read(ROOT / "specs/mnist_grid.yaml", (), "tenth").members
    return {member.digests.training: member for member in members}


def test_they_are_finished_members_of_the_grid(planned):
    assert RECORDS
    grid = Results(TENTH).grid
    assert {member.training: member.labels for member in grid.members} == {
        digest: member.labels for digest, member in planned.items()
    }
    for record in RECORDS:
        member = planned[record.training.digest]
        assert record.status(member.digests.evaluation) == "finished"
        assert (record.training.epochs, record.training.data.canonical) == (200, True)
        assert len(record.curves(200).epochs) == 200
        assert not list(record.folder.rglob("*.safetensors"))
        result = record.evaluation(member.digests.evaluation).result
        # Of no use to anybody else: where the folders were on the machine.
        assert not [
            word for one in (*record.training.segments, result.segment) for word in one.command if word[0] == "/"
        ]


def test_a_run_on_a_copy_of_them_trains_the_others_alone(planned, tmp_path):
    results = shutil.copytree(TENTH, tmp_path / "results")
    reading = read(ROOT / "specs/mnist_grid.yaml", (), "tenth")
    plan = make_plan(reading, Ledger(Results(results)), RunInfo(results, "cpu"), Machine(cores=2))
    assert plan.counts == {"finished": len(RECORDS), "pending": len(planned) - len(RECORDS)}


def test_the_page_has_their_numbers(planned):
    said = {}
    for depth, variant, seed, bound, elbo, units in ROW.findall((ROOT / "docs/paper.md").read_text()):
        said[int(depth), variant, int(seed)] = (bound, elbo, units)
    found = {}
    for record in RECORDS:
        member = planned[record.training.digest]
        result = record.evaluation(member.digests.evaluation).result
        place = member.labels["depth"], member.labels["variant"], member.labels["seed"]
        units = ", ".join(map(str, result.active_units_per_layer))
        found[place] = f"{result.test_log_likelihood:.2f}", f"{result.test_elbo:.2f}", units
    assert said == found


def test_its_figures_are_of_these_members():
    figures = list((ROOT / "docs/figures").glob(f"{TENTH.name}-*.png"))
    assert figures
    kept = {evaluation.result.digest[:12] for record in RECORDS for evaluation in record.evaluations}
    for path in figures:
        with Image.open(path) as image:
            kind, *digests = image.info["Description"].split()
        assert kind == "members"
        assert digests
        assert set(digests) <= kept

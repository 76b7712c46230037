"""The paper's tables from several grids: each of the paper's cells once, from the grid that holds it."""

from pathlib import Path

import pytest

import analysis
from analysis.paper import across_grids, replication
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from tests.analysis.test_replication import as_published
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan

SPECS = Path(__file__).parents[2] / "specs"


@pytest.fixture
def paper(results):
    """Plan the paper's grids with five layers and one seed, and write results of all members; the frames."""

    def write(text=None):
        path = SPECS / "paper.yaml"
        if text is not None:
            path = results.root.parent / "all.yaml"
            path.write_text(text)
        reading = read(path, ["grid.seeds=[0]", "grid.depth=[5]"])
        results.root.mkdir()
        make_plan(reading, Ledger(Results(results.root)), RunInfo(results.root, "cpu"), Machine(1, 0)).prepare()
        for member in reading.members:
            results.record(member, as_published(results, member), with_curves=False)
        return analysis.load(results.root)

    return write


def texts(table_set):
    return {place: cell.text() for place, cell in table_set.tables[0].cells.items()}


def subjects(table_sets):
    return {one.name: [table.subject for table in one.tables] for one in table_sets}


def test_every_table_of_the_paper_is_there_once(paper):
    frames = paper()
    found = across_grids.tables(frames.grids)
    assert subjects(found) == {
        "table_1": ["mnist, L = 5 (mnist_finetune)"],
        "table_2": ["mnist, L = 5 (mnist_grid)"],
        "table_3": ["omniglot (omniglot_grid)", "norb (norb_grid)"],
        "figure_3": ["mnist (mnist_grid)"],
    }
    grid, _, norb, tuned, _ = frames.grids
    by_name = {one.name: one for one in found}
    for name, alone in (
        ("table_1", replication.table_1(tuned)),
        ("table_2", replication.table_2(grid)),
        ("figure_3", replication.figure_3(grid)),
    ):
        assert texts(by_name[name]) == texts(alone)
        assert by_name[name].tidy["mean"].tolist() == alone.tidy["mean"].tolist()
    third = by_name["table_3"].tidy
    assert third[third["grid"] == "norb_grid"]["mean"].tolist() == replication.table_3(norb).tidy["mean"].tolist()
    # Table 1's column `none` is of first phases that stand in the MNIST grid.
    cell = by_name["table_1"].tables[0].cells["VAE", "none"]
    (member,) = grid.members.query("depth == 5 and variant == 'VAE+BN+WU'").to_dict("records")
    assert cell.mean == member["test_log_likelihood"]


def test_cells_that_a_smaller_grid_has_to_itself_are_shown_whatever_the_order(paper):
    listed = ", ".join(str(SPECS / f"{name}.yaml") for name in ("mnist_finetune", "mnist_authors_code", "mnist_grid"))
    frames = paper(f"name: all\ngrids: [{listed}]\n")
    found = across_grids.tables(frames.grids)
    tables = {name: [subject.rpartition("(")[2][:-1] for subject in listed] for name, listed in subjects(found).items()}
    assert tables["table_1"] == ["mnist_finetune"]
    assert tables["table_2"] == tables["figure_3"] == ["mnist_authors_code", "mnist_grid"]

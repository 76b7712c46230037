"""The paper's tables from several grids: each of the paper's cells once, from the grid that holds it."""

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import analysis
from analysis import report as analysis_report
from analysis.paper import across_grids, replication
from analysis.tables import log_likelihood
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
        "verdicts": [
            *("mnist (mnist_grid)", "mnist (mnist_grid)", "mnist, L = 5 (mnist_grid)"),
            *("omniglot (omniglot_grid)", "norb (norb_grid)", "mnist (mnist_finetune)"),
        ],
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


@pytest.mark.usefixtures("without_figures")
def test_verdicts_of_all_grids_stand_first_each_with_its_grid(paper):
    listed = ", ".join(str(SPECS / f"{name}.yaml") for name in ("mnist_finetune", "mnist_grid"))
    frames = paper(f"name: all\ngrids: [{listed}]\n")
    report = analysis_report.write(frames.folder)
    every, of_the_grid = (
        pd.read_csv(folder / "tables" / "verdicts.csv")
        for folder in (frames.folder, frames.folder / "grids/mnist_grid")
    )
    # What fine-tuning starts from, and which of its layers collapse, is judged in the MNIST grid alone.
    assert set(every[every["grid"] == "mnist_finetune"]["table"]) == {"table_1"}
    own = every[every["grid"] == "mnist_grid"].reset_index(drop=True)
    assert set(own["table"]) == {"table_2", "figure_3", "collapse"}
    assert len(every) == len(own) + 10
    pd.testing.assert_frame_equal(own[of_the_grid.columns], of_the_grid)
    page = (frames.folder / "report.html").read_text()
    assert (
        page.index("table-verdicts-1") < page.index("table-table_1-1") < page.index("mnist_finetune-table-verdicts-1")
    )
    # The page opens with what each grid was asked, and its answer.
    first = page[: page.index('id="grids"')]
    for one in frames.grids:
        assert f'result">{one.name}</a>: ' in first
    assert first.count('class="answer"') >= 2
    console = Console(width=110, file=io.StringIO(), record=True)
    console.print(report)
    text = console.export_text()
    assert text.count("Fig. 3: test log-likelihood (nats per image), ours less the published") == 1
    # A table per grid, whose numbers have the space that they need.
    for name in ("mnist_grid: mnist", "mnist_finetune: mnist"):
        assert f"Test log-likelihood (nats per image): {name}" in text
    for one in frames.grids:
        for cell in log_likelihood(one).tables[0].cells.values():
            assert cell.text() in text


def test_cells_that_a_smaller_grid_has_to_itself_are_shown_whatever_the_order(paper):
    listed = ", ".join(str(SPECS / f"{name}.yaml") for name in ("mnist_finetune", "mnist_authors_code", "mnist_grid"))
    frames = paper(f"name: all\ngrids: [{listed}]\n")
    found = across_grids.tables(frames.grids)
    tables = {name: [subject.rpartition("(")[2][:-1] for subject in listed] for name, listed in subjects(found).items()}
    assert tables["table_1"] == ["mnist_finetune"]
    assert tables["table_2"] == tables["figure_3"] == ["mnist_authors_code", "mnist_grid"]

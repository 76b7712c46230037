"""The notebook runs from top to bottom on a small grid's results."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parents[2] / "analysis" / "paper.ipynb"


# The kernel's client leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def outputs(results, tmp_path, monkeypatch):
    """Run the notebook on the results; the outputs of all cells."""
    monkeypatch.setenv("HVAE_RESULTS", str(results.root))
    # The folder of the packages, wherever the tests run from, and nothing of the user's own Jupyter settings.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}})

    def run():
        client.execute()
        return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]

    return run


def pictures(found):
    return [output for output in found if "image/png" in output.get("data", {})]


def test_every_cell_runs_and_every_figure_is_drawn(results, small_spec, outputs):
    for member in results.grid(lambda m: results.result(m, -80.0 - m.seed), spec=small_spec):
        results.add_gallery(member)
    found = outputs()
    assert len(pictures(found)) == 11
    assert not [output for output in found if output.output_type in ("error", "stream")]


@pytest.mark.parametrize("diverged", [True, False])
def test_every_cell_runs_where_nothing_has_finished(results, small_spec, outputs, diverged):
    results.grid(results.diverged if diverged else lambda member: None, spec=small_spec)
    found = outputs()
    # Fig. 5 needs two evaluations, and a diverged member has one.
    assert len(pictures(found)) == int(diverged)
    assert not [output for output in found if output.output_type in ("error", "stream")]


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)

"""The notebooks are stored with outputs that are theirs, and `paper.ipynb` runs on the results of any grid."""

import asyncio
import copy

import nbformat
import pytest

from tests.notebooks import NOTEBOOKS, OUTPUTS_OF, code_cells, differences, execute, faults, kinds, read, source_digest

PAPER = NOTEBOOKS[0]
LARGEST = 600_000
"""Bytes of a stored notebook."""

# The kernel's client leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def outputs(results, tmp_path, monkeypatch):
    """Run the notebook on the results; the kinds of all outputs."""
    # Nothing of the user's own Jupyter settings.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = read(PAPER)

    def run():
        asyncio.run(execute(notebook, tmp_path, results.root))
        return [kind for found in kinds(notebook) for kind in found]

    return run


def pictures(found):
    return [kind for kind in found if "image/png" in kind]


def test_every_cell_runs_and_every_figure_is_drawn(results, small_spec, outputs):
    for member in results.grid(lambda m: results.result(m, -80.0 - m.seed), spec=small_spec):
        results.add_gallery(member)
    found = outputs()
    assert len(pictures(found)) == 11
    assert not {"error", "stdout", "stderr"} & set(found)


@pytest.mark.parametrize("diverged", [True, False])
def test_every_cell_runs_where_nothing_has_finished(results, small_spec, outputs, diverged):
    results.grid(results.diverged if diverged else lambda member: None, spec=small_spec)
    found = outputs()
    # Fig. 5 needs two evaluations, and a diverged member has one.
    assert len(pictures(found)) == int(diverged)
    assert not {"error", "stdout", "stderr"} & set(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_outputs_of_its_source_that_name_no_machine(path):
    notebook = read(path)
    assert faults(notebook) == []
    assert sum("image/png" in kind for found in kinds(notebook) for kind in found) >= 6
    assert path.stat().st_size < LARGEST


@pytest.fixture
def sound():
    """A notebook of two cells without a fault: an assignment, and a value that is shown."""
    cells = [nbformat.v4.new_code_cell("%matplotlib inline\nx = 1"), nbformat.v4.new_code_cell("x")]
    shown = nbformat.v4.new_output("execute_result", data={"text/plain": "1", "text/html": "<td>1/2</td>"})
    cells[1].outputs = [shown]
    for number, cell in enumerate(cells, start=1):
        cell.execution_count = number
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("words"), *cells])
    notebook.metadata[OUTPUTS_OF] = source_digest(notebook)
    assert faults(notebook) == []
    return notebook


def test_outputs_of_another_source_are_found(sound):
    code_cells(sound)[0].source = "x = 2"
    assert faults(sound) == ["the outputs are of another source: python -m tests.notebooks"]


def test_cells_run_out_of_order_are_found(sound):
    code_cells(sound)[1].execution_count = 7
    assert faults(sound) == ["code cell 2 was run as number 7"]


def test_a_value_that_is_not_shown_is_found(sound):
    code_cells(sound)[1].outputs = []
    assert faults(sound) == ["code cell 2 has no output"]


@pytest.mark.parametrize("source", ["x;", "%%capture\nx"])
def test_a_value_that_is_hidden_on_purpose_is_no_fault(sound, source):
    cell = code_cells(sound)[1]
    cell.source, cell.outputs = source, []
    sound.metadata[OUTPUTS_OF] = source_digest(sound)
    assert faults(sound) == []


def test_errors_and_warnings_are_found(sound):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])
    code_cells(sound)[0].outputs = [error, nbformat.v4.new_output("stream", name="stderr", text="a warning")]
    assert faults(sound) == ["code cell 1 has put out: error", "code cell 1 has put out: stderr"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("'/home/ada/results'", "an absolute path: '/home/ada/results'"),
        ("folder=/tmp/x-1", "an absolute path: '/tmp/x-1'"),
        (r"C:\Users\ada", r"an absolute path: 'C:\\U'"),
        ("at 2026-11-29", "a date or a time: '2026-11-29'"),
        ("[0:00:15] started", "a date or a time: '0:00:15'"),
        ("<Figure at 0x7f12ab34cd56>", "an address in memory: '0x7f12ab34cd56'"),
        ("12%\r13%", r"a control character: '\r'"),
    ],
)
@pytest.mark.parametrize("kind", ["stream", "display"])
def test_what_is_of_one_machine_or_one_run_is_found(sound, text, what, kind):
    as_stream = nbformat.v4.new_output("stream", name="stdout", text=text)
    as_display = nbformat.v4.new_output("display_data", data={"text/markdown": text})
    code_cells(sound)[0].outputs = [as_stream if kind == "stream" else as_display]
    assert faults(sound) == [f"code cell 1 shows {what}"]


@pytest.mark.parametrize(
    "text", ["results/shapes/report.html", "n/planned", "</td></tr>", "https://a.org/b/c", "1/2/3"]
)
def test_other_slashes_are_no_path_of_a_machine(sound, text):
    code_cells(sound)[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    assert faults(sound) == []


def test_an_output_of_another_kind_is_a_difference(sound):
    fresh = copy.deepcopy(sound)
    code_cells(fresh)[1].outputs[0].data["text/plain"] = "2"
    assert differences(sound, fresh) == []
    del code_cells(fresh)[1].outputs[0].data["text/html"]
    assert differences(sound, fresh) == [
        "code cell 2: ['text/html, text/plain'] is stored, and now it is ['text/plain']"
    ]

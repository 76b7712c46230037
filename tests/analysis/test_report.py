import io
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import analysis
from analysis import report
from analysis.figures import FIGURES as FIGURE_NAMES
from analysis.tables import log_likelihood
from hvae_spec.errors import MachineError, UserError
from hvae_spec.records import layout
from hvae_spec.records.json_file import read_file
from tune.show.summary import _checked


def tables_of(*quantities):
    return [
        *(f"tables/{name}.{ending}" for name in quantities for ending in ("md", "csv", "tex")),
        "tables/members.csv",
    ]


EMPTY = tables_of("test_log_likelihood", "active_units")
TABLES = tables_of(
    *("test_log_likelihood", "active_units", "kl", "kl_standard_normal", "bound_by_samples"),
    *("paired_effects", "ranking", "collapse"),
)
"""Tables of a grid that has not begun, and of one with finished members."""
FIGURES = [
    f"figures/{name}.{ending}"
    for name in (
        *("log_likelihood", "learning_curves", "active_units", "unit_kl", "kl_standard_normal"),
        *("paired_effects", "bound_by_samples"),
    )
    for ending in ("png", "pdf")
]
PAGE = "report.html"
COUNTED = "33 members"


def run(*arguments, cwd=None):
    command = [sys.executable, "-W", "error", "-m", "analysis.report", *map(str, arguments)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or root)


def test_the_command_writes_and_names_every_file(results):
    results.grid()
    done = run(results.root)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "-80.00 ± 0.00 (3)" in done.stdout
    assert f"{COUNTED}: 33 finished" in done.stdout
    paths = [line for line in done.stdout.splitlines() if line.startswith(str(results.root))]
    assert paths == [str(results.root / name) for name in [*TABLES, *FIGURES, PAGE]]
    for path in map(Path, paths):
        head = path.read_bytes()[:4]
        assert head.startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}.get(path.suffix, b"")), path
        assert head
    members = pd.read_csv(results.root / "tables" / "members.csv")
    assert members["test_log_likelihood"].tolist() == [-80.0] * 33


def test_a_report_and_the_end_of_a_run_read_each_result_once(results, without_figures, monkeypatch):
    grid = results.grid()
    read = Counter()

    def counted(path, *arguments):
        read[path.relative_to(results.root)] += path.name in ("training.json", "result.json")
        return read_file(path, *arguments)

    monkeypatch.setattr(layout, "read_file", counted)
    report.write(results.root)
    assert sum(read.values()) == len(+read) == 2 * len(grid)
    read.clear()
    for member in grid:
        assert _checked(results.record_of(member), member) == ("finished", [])
    assert sum(read.values()) == len(+read) == 2 * len(grid)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, place):
    done = run(tmp_path / place)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr
    assert done.stdout == ""


def test_help_says_what_is_written():
    done = run("--help")
    assert done.returncode == 0
    for word in ("members.csv", "report.html", "--out", *FIGURE_NAMES):
        assert word in done.stdout


def written(root, found):
    return sorted(str(path.relative_to(root)) for path in found.files)


def test_a_grid_that_has_not_begun(results):
    results.plan()
    found = report.write(results.root)
    assert found.summary == f"{COUNTED}: 33 pending"
    assert written(results.root, found) == sorted([*EMPTY, PAGE])
    assert "0/3" in (results.root / "tables" / "test_log_likelihood.md").read_text()


@pytest.mark.usefixtures("blank_figures")
def test_a_grid_that_has_diverged_throughout(results):
    results.grid(results.diverged)
    found = report.write(results.root)
    assert found.summary == f"{COUNTED}: 33 diverged"
    assert "0/3, diverged 3" in (results.root / "tables" / "test_log_likelihood.md").read_text()
    assert "figures/log_likelihood.png" not in written(results.root, found)


def test_a_grid_that_has_failed_before_it_began(results):
    for member in results.plan():
        training, _ = results.files(member, results.failed(member))
        results.record_of(member).fail(training, "Traceback:\nE")
    assert report.write(results.root).summary == f"{COUNTED}: 33 failed"


@pytest.mark.usefixtures("blank_figures")
def test_a_grid_in_the_middle_of_its_run(results):
    def outcome(member):
        return [results.result(member), results.diverged(member), None][member.seed]

    planned = results.grid(outcome)
    results.record(next(m for m in planned if m.seed == 2), None)
    found = report.write(results.root)
    assert found.summary == f"{COUNTED}: 11 finished, 11 diverged, 1 running, 10 pending"
    assert written(results.root, found) == sorted([*TABLES, *FIGURES, PAGE])


@pytest.mark.usefixtures("blank_figures")
def test_a_grid_of_one(results, spec):
    results.grid(spec=spec.split("grid:")[0])
    found = report.write(results.root)
    assert found.summary == "1 member: 1 finished"
    assert "-80.00 (1)" in (results.root / "tables" / "test_log_likelihood.md").read_text()


@pytest.mark.usefixtures("blank_figures")
def test_a_grid_with_axes_has_the_files_of_one_without_elsewhere_if_asked(results, small_spec, tmp_path):
    results.grid(spec=small_spec + "  axes: {training.batch_size: [32, 64]}\n")
    found = report.write(results.root, tmp_path / "out")
    assert written(tmp_path / "out", found) == sorted([*TABLES, *FIGURES, PAGE])
    assert not (results.root / "tables").exists()


@pytest.mark.usefixtures("without_figures")
def test_a_place_that_cannot_be_written_is_an_error(results, small_spec, tmp_path):
    results.grid(spec=small_spec)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report.write(results.root, tmp_path / "file")


@pytest.mark.usefixtures("without_figures")
def test_a_report_prints_its_table_notes_and_state(results, small_spec):
    results.grid(lambda member: None if member.seed else results.result(member, iw_samples=500), spec=small_spec)
    console = Console(width=100, file=io.StringIO())
    console.print(report.write(results.root))
    text = console.file.getvalue()
    assert re.search(r"VAE\+BN\+WU +-80\.00 \(1/3\)\s+Prob\. ladder\+BN\+WU +-80\.00 \(1/3\)", text)
    assert "K = 500 samples on 360 test images" in text
    assert "6 members: 2 finished, 4 pending" in text


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("canonical", [True, False])
def test_every_table_says_whose_data_and_how_much_of_them(results, canonical):
    def outcome(member):
        data = results.data(canonical=canonical, train_images=1437 if canonical else 1000)
        return results.result(member, -80.0 - member.seed, data=data)

    results.grid(outcome)
    report.write(results.root)
    for name in TABLES:
        text = (results.root / name).read_text()
        if name.endswith(".csv"):
            frame = pd.read_csv(io.StringIO(text))
            assert set(frame["data_canonical"]) == {canonical}, name
        else:
            assert ("digits are not those of its distributor" not in text) == canonical, name
            assert ("Limited to 1,000 of 1,437 training images" not in text) == canonical, name


@pytest.mark.usefixtures("without_figures")
def test_records_that_are_no_longer_planned_are_mentioned(results, small_spec):
    results.grid(spec=small_spec)
    results.plan(small_spec.replace("seeds: [0, 1, 2]", "seeds: [0]"))
    assert report.write(results.root).summary == "2 members: 2 finished; 4 more that the grid no longer plans"


AMBIENT = {
    "savefig.dpi": 30,
    "savefig.transparent": True,
    "font.size": 25,
    "axes.grid": True,
    "lines.linewidth": 9,
    "text.usetex": True,
    "figure.dpi": 20,
}
"""Settings that a user may have made, of which a report must know nothing; with LaTeX it could not be drawn here."""


def test_the_same_records_give_the_same_files_whatever_settings_of_plots_a_user_has_which_stay(
    results, small_spec, tmp_path
):
    import matplotlib as mpl
    import seaborn as sns

    results.grid(spec=small_spec)
    report.write(results.root, tmp_path / "plain")
    with mpl.rc_context():
        sns.set_theme("poster", "dark", "pastel", font="serif")
        mpl.rcParams.update(AMBIENT)
        before = dict(mpl.rcParams)
        report.write(results.root, tmp_path / "themed")
        assert dict(mpl.rcParams) == before
    sns.set_color_codes("reset")
    for path in sorted((tmp_path / "plain").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "themed" / path.relative_to(tmp_path / "plain")).read_bytes(), path


@pytest.mark.parametrize(
    "environment",
    [
        {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": "/proc/none", "PYTHONIOENCODING": "ascii"},
        {
            **{"MPLBACKEND": "module://matplotlib_inline.backend_inline", "DISPLAY": ""},
            **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/proc"},
        },
    ],
)
def test_a_report_is_written_in_any_environment(results, small_spec, tmp_path, environment):
    results.grid(spec=small_spec)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: no such font\n")
    code = (
        "import analysis.report as r; r.check()\n"
        "import analysis.figures.drawing as d; d.FIGURES = dict(list(d.FIGURES.items())[:1])"
    )
    command = [sys.executable, "-c", f"{code}\nraise SystemExit(r.main(['{results.root}']))"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert (results.root / "figures" / "log_likelihood.png").read_bytes().startswith(b"\x89PNG")
    narrow = environment.get("PYTHONIOENCODING") or environment.get("LC_ALL")
    assert ("-80.00 +- 0.00" if narrow else "-80.00 ± 0.00").encode() in done.stdout


def test_a_character_that_no_font_has_is_no_warning():
    from analysis.figures import drawing

    drawing.check()  # its title has one, and warnings are errors here


def test_a_report_that_cannot_be_drawn_is_one_line_before_anything_runs(monkeypatch):
    from analysis.figures import drawing

    def broken():
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr(drawing, "check", broken)
    with pytest.raises(MachineError, match=r"a report could not be drawn \(RuntimeError: no fonts at all\): see to"):
        report.check()


def test_whatever_a_report_raises_is_one_line_with_what_writes_it_again(results, small_spec, monkeypatch, capsys):
    results.grid(spec=small_spec)

    def broken(frames):
        raise ZeroDivisionError("in a\nfigure")

    monkeypatch.setattr("analysis.figures.drawing.render", broken)
    assert report.main([str(results.root)]) == 1
    again = f"`python -m analysis.report {results.root}` writes it again"
    traceback = results.root / report.FAILURE
    assert capsys.readouterr().err == (
        f"{results.root}: the report could not be written (ZeroDivisionError: in a figure); the members are safe, and "
        f"{again} (traceback: {traceback})\n"
    )
    assert "in broken" in traceback.read_text()
    monkeypatch.setattr("analysis.figures.drawing.render", lambda frames: iter(()))
    assert report.main([str(results.root)]) == 0
    assert not traceback.exists()


def test_a_report_that_a_full_disk_stops_names_the_file_and_another_folder(results, monkeypatch, without_figures):
    results.grid()

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(report, "write_atomically", full)
    with pytest.raises(MachineError) as error:
        report.write(results.root)
    assert str(error.value) == (
        f"{results.root}: the report cannot be written ({results.root}/tables/test_log_likelihood.md: No space left on "
        "device; make room on its disk, and run the same command again); "
        f"`python -m analysis.report {results.root} --out DIR` writes it into another folder"
    )
    assert error.value.exit_code == 1


def test_what_is_left_out_of_several_tables_is_one_sentence_of_the_whole_folder(results):
    results.grid(lambda member: None if member.labels["depth"] < 3 else results.result(member), with_curves=False)
    frames = replace(analysis.load(results.root), absent={"digits": "digits: files are missing"})
    # As two grids of one folder: the parts with one layer and with two, of nine and of twelve members.
    parts = [frames.select(frames.members["depth"] == depth) for depth in (1, 2)]
    shown = [table for part in parts for table in log_likelihood(part).tables]
    counts = [[note for note in table.footnotes if "left out" in note] for table in shown]
    assert counts == [[f"{count} members are left out of this table: digits: files are missing"] for count in (9, 12)]
    told = [note for note in report._footnotes_of(frames, shown) if "left out" in note]
    assert told == ["21 members are left out: digits: files are missing"]

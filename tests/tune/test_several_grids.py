"""Several grids as one run: members that they share are trained once, first phases come from the same run, a data set
without files is told or left out, and one report has all of it.
"""

import json
import re

import pandas as pd
import pytest

import analysis
from analysis.figures import FIGURES, drawing
from hvae_spec.errors import RecordError
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from tune.bench.__main__ import grid_shapes
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan
from tune.run import main

ONE = """
name: one
data: {dataset: digits, train_images: 64, test_images: 10}
model: {layers: [{units: 3, mlp: [6]}, {units: 2, mlp: [4]}], inference: ladder, batch_norm: true}
training: {epochs: 2, batch_size: 64}
evaluation: {iw_samples: 5, every: 1, curve_iw_samples: 2}
grid:
  depth: [1, 2]
  variants:
    VAE: {model.inference: vae}
    Ladder: {}
  exclude: [{variant: Ladder, depth: 1}]
"""
TUNED = """
base: one.yaml
name: tuned
training: {epochs: 3, first_phase: {epochs: 2}, lr_decay: {factor: 0.5, every: 1}}
grid:
  depth: [2]
  variants:
    first: {training.epochs: 2, training.first_phase: null, training.lr_decay: null}
    Ladder: {}
  exclude: []
"""
ELSEWHERE = """
base: one.yaml
name: elsewhere
data: {dataset: norb, test_images: 10}
model: {observation: gaussian}
grid: {depth: [1], variants: {VAE: {model.inference: vae}}, exclude: []}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path / "data"))
    # One figure of each grid is enough here.
    monkeypatch.setattr(drawing, "FIGURES", {"log_likelihood": FIGURES["log_likelihood"]})
    for name, text in (("one", ONE), ("tuned", TUNED), ("elsewhere", ELSEWHERE)):
        (tmp_path / f"{name}.yaml").write_text(text)

    def write(*names):
        (tmp_path / "all.yaml").write_text(f"name: all\ngrids: [{', '.join(f'{name}.yaml' for name in names)}]\n")
        return tmp_path / "all.yaml"

    return write


def run(path, root, *options):
    return main([str(path), "--serial", "--device", "cpu", "--cpus", "1", "--results", str(root), *options])


def test_grids_run_as_one_and_report_as_one(write, tmp_path, capsys):
    path, root = write("one", "tuned"), tmp_path / "out"
    assert run(path, root, "--plan") == 0
    planned = capsys.readouterr().out
    rows = [re.findall(r"[\w.]+", line) for line in planned.splitlines() if line.startswith("│")]
    assert ["one", "3", "3", "0", "3", "3"] in rows
    assert ["tuned", "2", "2", "1", "1", "1"] in rows
    assert ["together", "5", "5", "1", "4", "4"] in rows
    assert "Together" in planned
    assert run(path, root) == 0
    out = capsys.readouterr().out
    assert "4 of 4 members finished." in out
    # The member that both have was trained once, and what was tuned started from it.
    assert len(Results(root).records) == 4
    frames = analysis.load(root)
    one, tuned = frames.grids
    assert [(grid.name, len(grid.members)) for grid in (frames, one, tuned)] == [("all", 4), ("one", 3), ("tuned", 2)]
    (first,) = tuned.members.query("variant == 'first'").to_dict("records")
    (ladder,) = one.members.query("variant == 'Ladder'").to_dict("records")
    (after,) = tuned.members.query("variant == 'Ladder'").to_dict("records")
    assert (first["digest"], first["folder"]) == (ladder["digest"], ladder["folder"])
    assert after["continues"] == first["training_digest"]
    assert after["digest"] != ladder["digest"]
    # In the frames of the folder each is once, by the first grid that has it; their epochs belong to them.
    assert [tuple(row) for row in frames.members[["grid", "depth", "variant"]].values] == [
        *(("one", 1, "VAE"), ("one", 2, "VAE"), ("one", 2, "Ladder"), ("tuned", 2, "Ladder"))
    ]
    assert frames.epochs.groupby(["grid", "depth", "variant"], observed=True).size().to_dict() == {
        **{("one", 1, "VAE"): 2, ("one", 2, "VAE"): 2, ("one", 2, "Ladder"): 2, ("tuned", 2, "Ladder"): 3}
    }
    page = (root / "report.html").read_text()
    for name, variants in (("one", ["VAE", "Ladder"]), ("tuned", ["first", "Ladder"])):
        folder = root / "grids" / name
        table = pd.read_csv(folder / "tables" / "test_log_likelihood.csv")
        assert list(dict.fromkeys(table["variant"])) == variants
        assert (folder / "figures" / "log_likelihood.png").stat().st_size > 0
        assert f'<section id="{name}-result" class="result">' in page
        assert f'<figure id="{name}-log_likelihood" ' in page
    assert len(pd.read_csv(root / "tables" / "members.csv")) == 4
    assert "4 members: 4 finished" in page
    # Once more: nothing is left. With another seed: what is new, in both grids.
    assert run(path, root, "--plan") == 0
    assert "4 finished, 0 diverged, 0 to run." in capsys.readouterr().out
    assert run(path, root, "--set", "grid.seeds=[0,1]", "--plan") == 0
    assert "4 finished, 0 diverged, 4 to run." in capsys.readouterr().out


def test_a_data_set_without_files_is_told_before_anything_runs(write, tmp_path, capsys, monkeypatch):
    tried = []
    monkeypatch.setattr("pooch.retrieve", lambda url, *_, **__: tried.append(url) or offline())
    path, root = write("one", "elsewhere"), tmp_path / "out"
    assert run(path, root, "--plan") == 0
    out = capsys.readouterr().out
    assert (
        "Missing: 1 member needs files of norb: smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz and 3 more" in out
    )
    assert "`python -m hvae_spec.data fetch norb` downloads what is missing from https://cs.nyu.edu/~ylclab/" in out
    assert "4 to run." in out
    assert not tried
    assert run(path, root) == 2
    error = capsys.readouterr().err
    assert "norb: smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz is missing and could not be downloaded" in error
    assert (
        "All 4 files of norb that are missing: smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz, "
        "smallnorb-5x46789x9x18x6x2x96x96-training-cat.mat.gz, smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat.gz, "
        "smallnorb-5x01235x9x18x6x2x96x96-testing-cat.mat.gz.\n" in error
    )
    assert not root.exists()
    assert (
        "`python -m hvae_spec.data fetch norb` tries again.\n--skip-missing-data runs the members that need none"
        in error
    )
    assert tried
    assert not Results(root).records


def offline():
    raise OSError("no network")


def test_a_data_set_without_files_is_left_out(write, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pooch.retrieve", lambda *_, **__: pytest.fail("downloads"))
    path, root = write("one", "elsewhere"), tmp_path / "out"
    assert run(path, root, "--plan", "--skip-missing-data") == 0
    assert "0 finished, 0 diverged, 1 left out, 3 to run." in capsys.readouterr().out
    assert run(path, root, "--skip-missing-data") == 0
    out = capsys.readouterr().out
    assert "3 of 4 members finished, 1 left out." in out
    assert "Left out: norb: smallnorb-" in out
    page = (root / "report.html").read_text()
    assert "1 member is left out: norb: smallnorb-" in page
    assert "python -m hvae_spec.data fetch norb" in page
    assert "left out: files of norb are missing" in page
    assert "4 members: 3 finished, 1 pending, 1 of these left out, as files of their data set are missing" in page
    assert "1 member is left out" in (root / "grids/elsewhere/tables/test_log_likelihood.md").read_text()
    assert "left out" not in (root / "grids/one/tables/test_log_likelihood.md").read_text()
    # Without the option the data set is looked for again, and with nothing but it there is nothing to run.
    monkeypatch.setattr("pooch.retrieve", lambda *_, **__: offline())
    assert run(path, root) == 2
    capsys.readouterr()
    assert run(tmp_path / "elsewhere.yaml", tmp_path / "alone", "--skip-missing-data") == 2
    assert "so --skip-missing-data leaves nothing to run" in capsys.readouterr().err


def test_commands_that_want_one_grid_say_so(write, tmp_path, capsys):
    assert run(write("one", "tuned"), tmp_path / "out", "--print-spec") == 2
    assert "all: names several grids (one, tuned), each with a spec of its own" in capsys.readouterr().err


def test_grids_that_are_only_planned_have_frames_and_a_list_that_is_damaged_is_told(write, tmp_path):
    reading, root = read(write("one", "tuned")), tmp_path / "out"
    make_plan(reading, Ledger(Results(root)), RunInfo(root, "cpu"), Machine(1, 0)).prepare()
    assert [set(grid.members["status"]) for grid in analysis.load(root).grids] == [{"pending"}, {"pending"}]
    tree = json.loads((root / "grid.json").read_text())
    tree["grids"][0]["labels"]["nothing"] = tree["members"][0]["labels"]
    (root / "grid.json").write_text(json.dumps(tree))
    with pytest.raises(RecordError, match=r"one has a member that is none of all; run tune\.run again to rewrite it"):
        analysis.load(root)


def test_shapes_of_two_grids_with_the_same_names_are_all_measured(write):
    """The ladders of both grids have their names alone in common: one of them is trained in larger batches."""
    path = write("one", "other")
    (path.parent / "other.yaml").write_text("base: one.yaml\nname: other\ntraining: {batch_size: 32}\n")
    shapes = grid_shapes(read(path))
    assert [member.training.batch_size for _, member in shapes] == [64, 64, 64, 32, 32, 32]
    assert len(dict(shapes)) == 6

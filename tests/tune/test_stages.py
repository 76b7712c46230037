"""Grids whose seeds come in two stages, run through: as many seeds as the first stage says, and no training twice."""

import math
import shutil

import numpy as np
import pytest
from scipy import stats

import analysis
from hvae_spec.errors import SpecError
from hvae_spec.reading import loads
from hvae_spec.records.layout import Results
from tests.tune.planned import plan_of
from tune import run as tune_run

SPEC = """
name: stages
data: {dataset: digits, train_images: 64, test_images: 10}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 1, batch_size: 32}
evaluation: {iw_samples: 2}
grid:
  variants:
    plain: {}
    normal: {model.batch_norm: true}
  seeds: {from: 3, half_width: 1.0, of: effect, at_most: 3}
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "stages.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def run(spec, tmp_path, monkeypatch):
    """Run the grid into a folder, without a report."""
    monkeypatch.setattr(tune_run, "check_report", lambda: None)
    monkeypatch.setattr(tune_run, "report", lambda plan, console, compared: len(plan.needs))
    options = [str(spec), "--serial", "--device", "cpu", "--cpus", "1"]
    return lambda root, *more: tune_run.main([*options, "--results", str(root), *more])


def weights(root):
    """The weights of every member of the grid as last planned, by variant and seed."""
    results = Results(root)
    found = {}
    for member in results.grid.members:
        record = results.record(member.training, member.folder)
        assert record.status(member.digest) == "finished"
        found[member.labels["variant"], member.labels["seed"]] = record.weights.read_bytes()
    return found


def takes(root, width):
    """How many seeds the effect takes, by the first three pairs."""
    members = analysis.load(root).members.set_index(["variant", "seed"])["test_log_likelihood"]
    differences = [members["normal", seed] - members["plain", seed] for seed in range(3)]
    return max(3, math.ceil((stats.t.ppf(0.975, 2) * np.std(differences, ddof=1) / width) ** 2))


def test_a_grid_runs_as_many_seeds_as_its_first_stage_says(run, tmp_path, capsys):
    root, enough = tmp_path / "out", "grid.seeds.at_most=9"
    assert run(root) == 6  # no more than the first stage
    first = weights(root)
    assert set(first) == {(variant, seed) for variant in ("plain", "normal") for seed in range(3)}
    # A half-width for which the first stage says that there are to be five seeds.
    sd = math.sqrt(takes(root, 1e-3)) * 1e-3
    width = f"grid.seeds.half_width={sd / math.sqrt(4.5)}"
    capsys.readouterr()
    assert run(root, "--set", enough, "--set", width, "--plan") == 0
    assert "6 finished, 0 diverged, 4 to run." in capsys.readouterr().out
    # More may be had later: what is there stays.
    assert run(root, "--set", enough, "--set", width) == 10
    later = weights(root)
    assert set(later) == {(variant, seed) for variant in ("plain", "normal") for seed in range(5)}
    assert {key: later[key] for key in first} == first
    # In one run from the start, the same members come to the same bits.
    whole = tmp_path / "whole"
    assert run(whole, "--set", enough, "--set", width) == 10
    assert weights(whole) == later
    out = capsys.readouterr().out
    assert "Running 6 members in" in out
    assert "Running 4 members in" in out
    # Once more: nothing runs.
    assert run(whole, "--set", enough, "--set", width) == 10
    assert "Nothing is left to run." in capsys.readouterr().out
    # After a kill in the second stage, the first stage says the same, and what is lost is trained again.
    (lost,) = (
        member
        for member in Results(root).grid.members
        if (member.labels["variant"], member.labels["seed"]) == ("plain", 4)
    )
    shutil.rmtree(Results(root).record(lost.training, lost.folder).folder)
    assert run(root, "--set", enough, "--set", width) == 10
    assert weights(root)["normal", 4] == later["normal", 4]
    assert "Running 1 members in 1 packs" in capsys.readouterr().out


def test_a_plan_knows_no_more_than_the_first_stage_before_anything_has_run(spec, tmp_path, run, capsys):
    assert run(tmp_path / "none", "--plan", "--set", "grid.seeds.at_most=12") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Seeds of stages, for intervals of ±1 nats of every effect" in out
    assert "│ digits │ 1 │ 3 │ unknown │ 12 │" in out
    assert "0 finished, 0 diverged, 6 to run." in out
    assert not (tmp_path / "none").exists()


def test_a_folder_with_results_of_other_axes_is_planned_as_a_new_one(tmp_path, run, capsys):
    root, other = tmp_path / "results", tmp_path / "other.yaml"
    other.write_text(SPEC.replace("  seeds: {from: 3,", "  axes: {training.batch_size: [16, 32]}\n  seeds: {from: 3,"))
    options = ["--serial", "--device", "cpu", "--cpus", "1", "--results", str(root)]
    assert tune_run.main([str(other), *options]) == 12  # members
    capsys.readouterr()
    assert run(root, "--plan") == 0
    assert "to run" in capsys.readouterr().out


def test_grid_json_names_the_stages(tmp_path):
    plan = plan_of(SPEC, tmp_path)
    plan.prepare()
    stages = Results(tmp_path).grid.stages
    assert (stages.first, stages.half_width, stages.of, stages.at_most) == (3, 1.0, "effect", 3)
    assert '"from": 3' in (tmp_path / "grid.json").read_text()


def test_effects_that_the_grid_does_not_have_are_refused_before_anything_runs(run, tmp_path, capsys):
    assert (
        run(tmp_path / "out", "--set", "grid.variants.normal={training.batch_size: 16, training.last_batch: keep}") == 2
    )
    assert "no two variants of the grid differ in one setting alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seeds", "message", "expected"),
    [
        ("{from: 1, half_width: 1, at_most: 3}", "grid.seeds.from: 1 is not valid", "a number of at least 2"),
        ("{from: 3, half_width: 0, at_most: 3}", "grid.seeds.half_width: 0 is not valid", "a number greater than 0"),
        ("{from: 3, half_width: -1.0, at_most: 3}", "grid.seeds.half_width: -1.0", "a number greater than 0"),
        ("{from: 3, half_width: 1, at_most: 2}", "at most 2 seeds are fewer than the 3", "at_most: 3 or more"),
        ("{from: 3, half_width: 1, of: cells, at_most: 3}", "'cells' is not a choice", "did you mean cell?"),
        ("{from: 3, at_most: 3}", "grid.seeds.half_width is missing", "half_width: Half the width"),
        ("{first: 3, half_width: 1, at_most: 3}", "unknown key 'first' in grid.seeds", "one of from, half_width"),
    ],
)
def test_stages_that_cannot_be_are_refused_where_they_stand(seeds, message, expected):
    text = SPEC.replace("{from: 3, half_width: 1.0, of: effect, at_most: 3}", seeds)
    with pytest.raises(SpecError) as error:
        loads(text)
    assert message in str(error.value)
    assert expected in str(error.value)
    assert {problem.place.line for problem in error.value.problems} == {
        text.splitlines().index(f"  seeds: {seeds}") + 1
    }


def test_an_effect_needs_two_variants():
    text = SPEC.replace("    normal: {model.batch_norm: true}\n", "")
    with pytest.raises(SpecError, match="the grid has only one") as error:
        loads(text)
    assert error.value.problems[0].place.text[error.value.problems[0].place.column - 1 :].startswith("effect")
    # Values of an axis may be compared as well.
    loads(text.replace("  seeds:", "  axes: {model.batch_norm: [false, true]}\n  seeds:"))

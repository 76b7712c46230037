"""A search runs rung by rung, ranks on validation images, and resumes."""

import json
from pathlib import Path

import pytest

import analysis
from hvae_spec import loads
from hvae_spec.errors import SpecError
from hvae_spec.records.layout import Record, Results
from hvae_spec.spec.grid import cells
from tune.execute import serial
from tune.plan.search import _ranked as ranked
from tune.run import main as run_main

SPEC = """
name: searched
data: {dataset: digits, train_images: 200, test_images: 20, validation: 60}
model:
  layers: [{units: 2, mlp: [4]}]
objective: {warm_up: 1}
training: {epochs: 4, batch_size: 50}
evaluation: {iw_samples: 5}
search:
  space:
    training.optimizer.adam.lr: {loguniform: [1e-4, 3e-2]}
  trials: 4
  halving: {factor: 2, from: 1}
  confirm: 2
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "searched.yaml"
    path.write_text(SPEC)
    return path


def command(spec: Path, out: Path) -> list[str]:
    return [str(spec), "--serial", "--results", str(out)]


def outcomes(out: Path) -> dict[str, str]:
    """The bits of every member's weights and result, by training."""
    found = {}
    for member in json.loads((out / "grid.json").read_text())["members"]:
        record = Record(out / "members" / member["folder"])
        result = record.evaluation(member["digest"]).result
        assert record.training is not None
        assert result is not None
        found[member["training"]] = (record.training.weights_sha256, result.test_log_likelihood)
    return found


def test_every_rung_keeps_the_best_by_validation_and_the_best_is_measured_anew(spec, tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_main(command(spec, whole)) == 0
    frames = analysis.load(whole)
    members = frames.members
    by_rung = {int(epochs): own for epochs, own in members.groupby("planned_epochs")}
    assert {epochs: own["trial"].nunique() for epochs, own in by_rung.items()} == {1: 4, 2: 2, 4: 1}
    for first, second in ((1, 2), (2, 4)):
        ranked = by_rung[first].sort_values("validation_log_likelihood", ascending=False)["trial"]
        assert set(by_rung[second]["trial"]) == set(ranked[: by_rung[second]["trial"].nunique()])
    assert sorted(by_rung[4]["seed"]) == [0, 1, 2]
    # A rung goes on from the one before.
    assert (by_rung[2]["extended_from"].notna()).all()
    (table,) = analysis.tables.search(frames).tables
    assert table.rows[0] == str(by_rung[4]["trial"].iloc[0])
    tidy = analysis.tables.search(frames).tidy
    best = tidy[tidy["epochs"] == 4].iloc[0]
    new = by_rung[4][by_rung[4]["seed"] > 0]["test_log_likelihood"]
    assert best["test_mean"] == pytest.approx(new.mean())
    assert best["test_n"] == 2
    # Nothing is left to do, and effects are not tested.
    capsys.readouterr()
    assert run_main(command(spec, whole)) == 0
    assert "Nothing is left to run" in capsys.readouterr().out
    assert not (whole / "tables" / "paired_effects.csv").exists()

    # Cut short after the first rung and run again, it is the same search, bit for bit.
    real, calls = serial.run_serially, []

    def interrupted(jobs, listener):
        if calls:
            raise KeyboardInterrupt
        calls.append(jobs)
        real(jobs, listener)

    monkeypatch.setattr(serial, "run_serially", interrupted)
    assert run_main(command(spec, cut)) == 130
    assert len(Results(cut).records) == 4
    monkeypatch.setattr(serial, "run_serially", real)
    assert run_main(command(spec, cut)) == 0
    assert outcomes(cut) == outcomes(whole)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("trials: 4", "trials: 4\n  seed: -1", "12:9", "search.seed"),
        (", validation: 60", "", "9:3", "data.validation"),
        ("from: 1", "from: 4", "12:30", "fewer than training.epochs = 4"),
        ("adam.lr:", "adam.rate:", "10:5", "lr, beta1"),
        ("{loguniform: [1e-4, 3e-2]}", "{loguniform: [3e-2, 1e-4]}", "10:33", "the smaller one first"),
        ("{loguniform: [1e-4, 3e-2]}", "{uniform: [-1, 1]}", "10:33", "greater than 0"),
        ("{loguniform: [1e-4, 3e-2]}", "{choice: [1e-3]}", "11:11", "at most 1"),
        ("{loguniform: [1e-4, 3e-2]}", "{chioce: [1e-3]}", "10:34", "did you mean choice?"),
        ("training.optimizer.adam.lr:", "training.epochs:", "10:5", "a path into model, objective or training"),
    ],
)
def test_faults_of_a_search_are_named_where_they_stand(old, new, place, words):
    assert old in SPEC
    with pytest.raises(SpecError) as caught:
        loads(SPEC.replace(old, new).lstrip())
    text = str(caught.value)
    assert words in text
    assert f"{place}: " in text


def test_points_that_diverged_are_out_and_a_rung_waits_for_those_that_are_not_done():
    first, second, third = cells(loads(SPEC.lstrip()))[:3]
    assert ranked([first, second, third], [-80.0, float("-inf"), -79.0]) == [third, first]
    assert ranked([first, second, third], [-80.0, None, -79.0]) is None
    assert ranked([first, second], [float("-inf")] * 2) == []

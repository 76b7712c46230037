"""Damaged records and grids are errors that name the file, what is wrong with it, and what would mend it."""

import json

import pytest

import analysis
from hvae_spec.errors import UserError


def done(**fields):
    return json.dumps({"status": "finished", **fields})


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("epochs.jsonl", '{"epoch": 1}\n{"epo\n{"epoch": 3}\n', "epochs.jsonl:2:"),
        ("epochs.jsonl", '{"epoch": 1}\n[2]\n{"epoch": 3}\n', "epochs.jsonl:2:"),
        ("epochs.jsonl", '{"epoch": 1}\n{"beta": 1}\n', "epochs.jsonl:2:"),
        ("units.jsonl", '{"epoch": 1, "kl": [[0.1, 0.2]], "kl_se": [[0.1]]}\n', "units.jsonl:"),
        ("units.jsonl", '{"epoch": 1, "kl": 3}\n', "units.jsonl:"),
        ("epochs.jsonl", '{"epoch": 1}\n{"epoch": "a"}\n', "epochs.jsonl:2: epoch is not a whole number"),
        ("epochs.jsonl", '{"epoch": null}\n', "epochs.jsonl:1: epoch is not a whole number"),
        ("epochs.jsonl", '{"epoch": 1, "train_bound": "x"}\n', "epochs.jsonl:1: train_bound is not a number"),
        ("epochs.jsonl", '{"epoch": 1, "kl_per_layer": 3}\n', "epochs.jsonl:1: kl_per_layer is not a list of numbers"),
        ("units.jsonl", '{"epoch": 1.5, "kl": [[0.1]]}\n', "units.jsonl:1: epoch is not a whole number"),
        ("units.jsonl", '{"epoch": 1, "kl": [["x"]]}\n', "units.jsonl: not the KL of units"),
        ("result.json", done(test_log_likelihood="abc"), "result.json: test_log_likelihood is not a number"),
        ("result.json", done(wall_seconds=[1]), "result.json: wall_seconds is not a number"),
        ("result.json", done(active_units=True), "result.json: active_units is not a number"),
        ("result.json", done(active_units_per_layer=5), "result.json: active_units_per_layer is not a list of numbers"),
        ("result.json", done(kl_per_layer=["x"]), "result.json: kl_per_layer is not a list of numbers"),
        ("result.json", done(labels=[1]), "result.json: labels is not a mapping"),
        ("result.json", done(data=3), "result.json: data is not a mapping"),
        ("result.json", done(data={"canonical": "no"}), "result.json: data.canonical is not true or false"),
        ("result.json", done(data={"train_images": "x"}), "result.json: data.train_images is not a number"),
        ("result.json", done(divergence={"epoch": "x"}), "result.json: divergence.epoch is not a number"),
        ("result.json", done(failure=4), "result.json: failure is not text"),
        (
            "spec.yaml",
            "model: {layers: 5}",
            "spec.yaml: not the spec of a record (model.layers is not a list of layers",
        ),
        ("spec.yaml", "model: {layers: [{mlp: 3}]}", "spec.yaml: not the spec of a record (model.layers is not"),
        (
            "spec.yaml",
            "objective: {warm_up: x}",
            "spec.yaml: not the spec of a record (objective.warm_up is not a number",
        ),
        ("result.json", "{", "result.json:"),
        ("result.json", '{"status": "odd"}', "result.json:"),
        ("result.json", '{"status": "finished", "bound_by_samples": [1]}', "result.json:"),
        ("result.json", '{"status": "finished", "bound_by_samples": {"K": [1, 2]}}', "result.json:"),
        ("result.json", '{"status": "finished", "bound_by_samples": {"5": [1]}}', "result.json:"),
        ("spec.yaml", "{a: [", "spec.yaml:"),
        ("spec.yaml", "- 1", "spec.yaml:"),
    ],
)
def test_a_damaged_record_is_named_with_what_would_mend_it(results, name, content, place):
    folder = results.record(results.plan()[0], None)
    (folder / name).write_text(content)
    with pytest.raises(UserError, match="delete") as error:
        analysis.load(results.root)
    assert str(folder / place) in str(error.value)


@pytest.mark.parametrize("content", ["{", '{"members": [{"digest": "a"}]}', "[]", '{"members": 3}'])
def test_a_damaged_grid_is_named(results, content):
    results.plan()
    (results.root / "grid.json").write_text(content)
    with pytest.raises(UserError, match=r"grid\.json: not a grid .*run tune\.run again"):
        analysis.load(results.root)


@pytest.mark.parametrize("key", ["depth", "seed"])
def test_labels_that_are_not_counts_are_named(results, key):
    results.plan()
    grid = json.loads((results.root / "grid.json").read_text())
    grid["members"][0]["labels"][key] = "x"
    (results.root / "grid.json").write_text(json.dumps(grid))
    with pytest.raises(UserError, match=rf"grid\.json: labels whose {key} is not a whole number; run tune\.run again"):
        analysis.load(results.root)

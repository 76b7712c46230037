"""Damaged records and grids are errors of one line that names the file, what is wrong with it, and what fixes it."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

import analysis
import hvae_spec
from analysis import report
from analysis.figures import drawing
from analysis.figures.curves import learning_curves
from analysis.reader import read
from hvae_spec.errors import RecordError, UserError
from hvae_spec.records.index import indexed, read_index, write_index
from hvae_spec.records.layout import Results


def epoch(number=1, **fields):
    """A line of epochs.jsonl."""
    row = {
        "format": 1,
        "epoch": number,
        "beta": 1.0,
        "train_bound": -90.0,
        "train_reconstruction": -70.0,
        "kl_per_layer": [12.0],
        "gradient_norm": 5.0,
        "seconds": 0.3,
        "ms_per_step": 6.8,
    }
    return json.dumps(changed(row, fields))


def units(**fields):
    """A line of units.jsonl."""
    return json.dumps(changed({"format": 1, "epoch": 1, "kl": [[0.1]], "kl_se": [[0.1]]}, fields))


def changed(row, fields):
    """A mapping with some fields replaced; those that are `...` are left out."""
    return {name: value for name, value in {**row, **fields}.items() if value is not ...}


def named(results):
    """What is said of the damage: one line. It costs its member, and nobody else."""
    frames = analysis.load(results.root)
    assert frames.members["status"].tolist()[0] == "damaged"
    assert set(frames.members["status"].tolist()[1:]) <= {"pending"}
    (message,) = frames.faults
    assert len(message.splitlines()) == 1
    assert frames.members["failure"].tolist()[0] == message
    return message


def gap(results, *epochs):
    """What is said of damaged curves: one line for each fault. They cost these epochs, and no result."""
    frames = analysis.load(results.root)
    assert frames.members["status"].tolist()[0] == "finished"
    curve = frames.epochs.set_index("epoch").reindex(columns=["beta"])["beta"]
    assert curve.index.tolist() == list(range(1, 11))
    assert curve[curve.isna()].index.tolist() == list(epochs)
    assert not any("\n" in fault for fault in frames.faults)
    return frames.faults


def refused(results):
    """The message with which the folder is refused: one line, by every reader of it."""
    with pytest.raises(RecordError) as error:
        analysis.load(results.root)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    with pytest.raises(UserError) as again:
        report.write(results.root)
    assert str(again.value) == message
    return message


@pytest.fixture
def finished(results):
    """One finished member, planned with others that have not begun."""
    member = results.plan()[0]
    results.record(member, results.result(member))
    return member


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"epo', "not a JSON object"),
        ("[2]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("", None),
        (epoch(...), "epoch is missing"),
        (epoch("a"), "epoch: 'a' is not a whole number"),
        (epoch(None), "epoch: None is not a whole number"),
        (epoch(True), "epoch: True is not a whole number"),
        (epoch(11), "epoch 11, of which the training has none"),
        (epoch(0), "epoch 0, of which the training has none"),
        (epoch(4, train_bound="x"), "train_bound: 'x' is not a number"),
        (epoch(4, train_bound=...), "train_bound is missing"),
        (epoch(4, kl_per_layer=3), "kl_per_layer: 3 is not a list"),
        (epoch(4, kl_per_layer=["x"]), "kl_per_layer.0: 'x' is not a number"),
        (epoch(4, format=2), "format: 2 is not 1"),
        ('{"epoch": 4, "train_bound": -9.5}', "format is missing"),
        (epoch(4) + "," + epoch(4), "not a JSON object"),
    ],
)
def test_a_damaged_row_of_curves_is_a_gap_and_is_named(results, finished, line, words):
    folder = results.record_of(finished).folder
    path = folder / "epochs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
    tail = f"; the other rows are used; delete {folder} to have the member trained again"
    at = f"{path}:4: {words}{tail}"
    assert gap(results, 4) == ((at,) if words else ()) + (f"{path}: epoch 4 is missing{tail}",)


@pytest.mark.parametrize(
    ("line", "number", "words", "lost"),
    [
        (4, 3, {3: "epoch 3, more than once", 4: "epoch 3, more than once"}, [3, 4]),
        (2, 4, {2: "epoch 4, more than once", 3: "epoch 3, out of order", 4: "epoch 4, more than once"}, [2, 3, 4]),
    ],
)
def test_of_two_rows_of_one_epoch_neither_is_used(results, finished, line, number, words, lost):
    """Which of them has the epoch that it says is not known."""
    path = results.record_of(finished).folder / "epochs.jsonl"
    lines = path.read_text().splitlines()
    lines[line - 1] = lines[line - 1].replace(f'"epoch": {line}', f'"epoch": {number}')
    path.write_text("\n".join(lines) + "\n")
    faults = gap(results, *lost)
    found = {int(fault.split(":")[1]): fault.split(": ")[1].split(";")[0] for fault in faults[:-1]}
    assert found == words
    assert faults[-1].startswith(f"{path}: epochs {lost[0]} to {lost[-1]} are missing; ")


@pytest.mark.parametrize("name", ["epochs.jsonl", "units.jsonl"])
@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path)])
def test_curves_that_cannot_be_read_cost_no_other_member(results, name, make):
    first, second, *_ = results.plan()
    for member in (first, second):
        results.record(member, results.result(member))
    path = results.record_of(first).folder / name
    path.unlink()
    make(path)
    frames = analysis.load(results.root)
    assert frames.members["status"].tolist()[:2] == ["finished", "finished"]
    assert frames.faults[0].startswith(f"{path}: cannot be read (")
    assert len(frames.epochs.query("digest == @second.digests.evaluation").dropna(subset=["beta"])) == 10


@pytest.mark.parametrize("name", ["epochs.jsonl", "units.jsonl", "spec.yaml", "training.json"])
def test_what_the_disk_does_not_give_costs_its_record_alone(results, monkeypatch, name):
    first, second, *_ = results.plan()
    for member in (first, second):
        results.record(member, results.result(member))
    broken, read_bytes = results.record_of(first).folder / name, Path.read_bytes

    def failing(path):
        if path == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    frames = analysis.load(results.root)
    whole = name.endswith("jsonl")
    assert frames.members["status"].tolist()[:2] == ["finished" if whole else "damaged", "finished"]
    assert str(broken) in frames.faults[0]
    assert len(frames.epochs.query("digest == @second.digests.evaluation")) == 10


def test_a_running_member_whose_units_are_not_as_far_yet_is_whole(results):
    """A kill, or a look, between the two writes of its curves."""
    member = results.plan()[0]
    results.record(member, None)
    record = results.record_of(member)
    epochs, units = results.curves(member, -80.0, 8)
    for there in (units, units[:-1], units[:-2], []):
        record.write_curves(epochs, there)
        frames = analysis.load(results.root)
        assert frames.faults == ()
        assert frames.members["status"].tolist()[0] == "running"
    record.write_curves([row for row in epochs if row["epoch"] != 3], [units[0], *units[2:]])
    faults = analysis.load(results.root).faults  # nothing is to be deleted: the training goes on
    assert faults == (
        f"{record.folder / 'epochs.jsonl'}: epoch 3 is missing; the other rows are used",
        f"{record.folder / 'units.jsonl'}: epoch 4 is missing; the other rows are used",
    )


def test_an_index_of_which_a_value_was_changed_is_not_used(results, finished):
    entry = indexed(finished.spec, finished.digests)
    write_index(Results(results.root), {finished.folder: entry})
    path = results.root / "members" / "index.json"
    whole, before = path.read_text(), read(results.root).entries[0].spec
    path.write_text(whole.replace('"epochs": 10', '"epochs": 70'))
    assert path.read_text() != whole
    assert read_index(Results(results.root)) == {finished.folder: entry}
    assert read(results.root).entries[0].spec == before


@pytest.mark.parametrize(
    ("kept", "words", "lost"),
    [
        (range(1, 10), "epoch 10 is missing", [10]),
        ([1, 2, 5, 6, 7, 9, 10], "epochs 3 to 4, 8 are missing", [3, 4, 8]),
        ([], "epochs 1 to 10 are missing", range(1, 11)),
    ],
)
def test_rows_that_are_gone_are_a_gap(results, finished, kept, words, lost):
    """A line that is no longer there damages no other; the number of epochs in training.json says so."""
    path = results.record_of(finished).folder / "epochs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(lines[number - 1] + "\n" for number in kept))
    (fault,) = gap(results, *lost)
    assert fault.startswith(f"{path}: {words}; ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (units(epoch=1.5), "epoch: 1.5 is not a whole number"),
        (units(kl=3), "kl: 3 is not a list"),
        (units(kl=[["x"]]), "kl.0.0: 'x' is not a number"),
        (units(kl_se=...), "kl_se is missing"),
        (units(format=7), "format: 7 is not 1"),
        (units(kl=[[0.1, 0.2]]), "kl and kl_se are not of the same units"),
        (units(kl=[[0.1], [0.2]]), "kl and kl_se are not of the same units"),
    ],
)
def test_a_damaged_row_of_units_is_named(results, finished, line, words):
    path = results.record_of(finished).folder / "units.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    faults = gap(results)
    assert faults[0].startswith(f"{path}:2: {words}; ")
    assert faults[1].startswith(f"{path}: epoch 4 is missing; ")
    assert sorted(analysis.load(results.root).units["epoch"].unique()) == [2, 6, 8, 10]


def test_curves_that_were_changed_are_named(results, finished):
    """Each row can be read; only the digest in training.json knows."""
    record = results.record_of(finished)
    digests = record.write_curves(*results.curves(finished, -80.0))
    record.finish(record.training.model_copy(update=digests))
    assert analysis.load(results.root).faults == ()
    for name, number, other in (("epochs.jsonl", "5.0", "5.5"), ("units.jsonl", "0.001", "0.002")):
        path = record.folder / name
        whole = path.read_text()
        path.write_text(whole.replace(number, other, 1))
        (fault,) = gap(results)
        assert fault == (
            f"{path}: changed since it was written (its SHA-256 is not the one in training.json); "
            f"all of its rows are used, and may be wrong; delete {record.folder} to have the member trained again"
        )
        path.write_text(whole)


def test_a_curve_with_a_gap_is_drawn_with_one_and_the_report_says_so(results, finished, monkeypatch):
    monkeypatch.setattr(drawing, "FIGURES", {"learning_curves": learning_curves})
    path = results.record_of(finished).folder / "epochs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], *lines[5:]]) + "\n")
    written = report.write(results.root)
    assert written.is_whole  # no result is lost
    assert f"{path}: epoch 5 is missing" in (results.root / "report.html").read_text()
    figure = learning_curves(analysis.load(results.root).select(analysis.load(results.root).members["depth"] == 1))
    bound, test = figure.axes[0].lines[:2]
    assert [x for x, y in zip(*bound.get_data(), strict=True) if np.isnan(y)] == [5]
    assert test.get_xdata().tolist() == [2, 4, 6, 8, 10]
    assert not np.isnan(test.get_ydata()).any()


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("spec.yaml", "model: {layers: 5}", "spec.yaml: not the spec of a record ("),
        ("spec.yaml", "{a: [", "spec.yaml: not the spec of a record ("),
        ("spec.yaml", "- 1", "spec.yaml: not the spec of a record (not a mapping)"),
        ("spec.yaml", None, "spec.yaml: no such file"),
        ("training.json", "{", "training.json: damaged (not a JSON object)"),
        ("training.json", "", "training.json: damaged (not a JSON object)"),
        ("training.json", "[1]", "training.json: damaged (not a JSON object)"),
        ("training.json", "{}", "training.json: damaged (digest is missing)"),
    ],
)
def test_a_damaged_file_of_a_record_is_named_with_what_fixes_it(results, finished, name, content, place):
    folder = results.record_of(finished).folder
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content + "\n")
    message = named(results)
    assert message.startswith(str(folder / place))
    assert message.endswith(f"; delete {folder} to have the member trained again")


@pytest.mark.usefixtures("without_figures")
def test_the_others_of_a_grid_with_a_damaged_record_are_reported(results, small_spec):
    planned = results.plan(small_spec)
    for member in planned:
        results.record(member, results.result(member))
    path = results.evaluation_of(planned[0]).folder / "result.json"
    path.write_text(path.read_text().replace('"test_log_likelihood": -80.0', '"test_log_likelihood": -70.0'))
    written = report.write(results.root)
    assert not written.is_whole
    assert written.summary == f"{len(planned)} members: {len(planned) - 1} finished, 1 damaged"
    (fault,) = written.faults
    assert fault.startswith(f"{path}: damaged (its content is not that of its checksum); delete it")
    assert fault in (results.root / "report.html").read_text()
    assert "Left out: 1 member whose record is damaged." in written.footnotes
    (row,) = analysis.load(results.root).members.query("status == 'damaged'").to_dict("records")
    assert np.isnan(row["test_log_likelihood"])
    assert report.main([str(results.root)]) == 1


@pytest.mark.usefixtures("without_figures")
def test_a_record_whose_place_in_the_grid_is_unknown_is_missed(results, small_spec):
    planned = results.plan(small_spec)
    for member in planned:
        results.record(member, results.result(member))
    for path in (results.root / "grid.json", results.root / "members" / "index.json"):
        path.unlink(missing_ok=True)
    (results.record_of(planned[0]).folder / "spec.yaml").write_text("{")
    written = report.write(results.root)
    assert not written.is_whole
    assert len(written.faults) == 1


@pytest.mark.usefixtures("without_figures")
def test_the_command_that_repeats_a_report_names_the_results_and_the_other_folder(
    results, small_spec, tmp_path, monkeypatch, capsys
):
    for member in results.plan(small_spec):
        results.record(member, results.result(member))
    monkeypatch.setattr(report, "summary", lambda frames: 1 / 0)
    assert report.main([str(results.root), "--out", str(tmp_path / "other")]) == 1
    told = capsys.readouterr().err
    assert f"`python -m analysis.report {results.root} --out {tmp_path / 'other'}` writes it again" in told
    assert f"traceback: {tmp_path / 'other' / 'report_failure.txt'}" in told


def test_a_spec_that_was_changed_is_named(results, finished):
    record = results.record_of(finished)
    path = record.folder / "spec.yaml"
    path.write_text("# a comment changes nothing\n" + path.read_text())
    assert analysis.load(results.root).faults == ()
    tree = finished.spec.model_dump(mode="json")
    tree["training"]["epochs"] = 11
    path.write_text(yaml.safe_dump(tree))
    assert named(results).startswith(f"{path}: changed since it was written (it is the spec of ")
    with pytest.raises(RecordError, match="changed since it was written"):
        hvae_spec.load_record(record.folder)


@pytest.mark.parametrize("change", [{"objective": {"warm_up": "x"}}, {"model": {"layers": [{"mlp": 3}]}}])
def test_a_spec_that_is_none_is_named(results, finished, change):
    """In a complete spec, so that nothing else is wrong with it."""
    tree = finished.spec.model_dump(mode="json")
    folder = results.record_of(finished).folder
    (folder / "spec.yaml").write_text(yaml.safe_dump({**tree, **change}))
    (section,) = change
    assert named(results).startswith(f"{folder / 'spec.yaml'}: not the spec of a record ({section}.")


TRAINING = [
    ({"digest": ...}, "damaged (digest is missing)"),
    ({"status": "odd"}, "damaged (status: 'odd' is not 'trained', 'diverged' or 'failed')"),
    ({"status": "finished"}, "damaged (status: 'finished' is not 'trained', 'diverged' or 'failed')"),
    ({"parameters": "x"}, "damaged (parameters: 'x' is not a whole number)"),
    ({"training_seconds": [1]}, "damaged (training_seconds: [1] is not a number)"),
    ({"epochs": True}, "damaged (epochs: True is not a whole number)"),
    ({"epochs": 2.5}, "damaged (epochs: 2.5 is not a whole number)"),
    ({"failure": 4}, "damaged (failure: 4 is not text)"),
    ({"data": 3}, "damaged (data: 3 is not a mapping)"),
    (
        {"divergence": {"epoch": "x", "step": 1, "quantity": "q"}},
        "damaged (divergence.epoch: 'x' is not a whole number)",
    ),
    ({"divergence": {"epoch": 1}}, "damaged (divergence.step is missing)"),
    ({"segments": [{}]}, "damaged (segments.0.first_epoch is missing)"),
    ({"format": 2}, "written by another version (format 2, not 1)"),
    ({"format": "1"}, "written by another version (format '1', not 1)"),
    ({"format": ...}, "written by an earlier version (it has no format)"),
]


@pytest.mark.parametrize(("change", "fault"), TRAINING)
def test_a_damaged_training_is_named_with_what_fixes_it(results, finished, change, fault):
    folder = results.record_of(finished).folder
    path = folder / "training.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), change)))
    message = named(results)
    assert message.startswith(f"{path}: {fault}")
    assert message.endswith(f"; delete {folder} to have the member trained again")


EVALUATION = [
    ({"labels": [1]}, "damaged (labels: [1] is not a mapping)"),
    ({"labels": ...}, "damaged (labels is missing)"),
    ({"status": "trained"}, "damaged (status: 'trained' is not "),
    ({"test_log_likelihood": "abc"}, "damaged (test_log_likelihood: 'abc' is not a number)"),
    ({"test_log_likelihood": "-80.0"}, "damaged (test_log_likelihood: '-80.0' is not a number)"),
    ({"active_units": True}, "damaged (active_units: True is not a whole number)"),
    ({"active_units_per_layer": 5}, "damaged (active_units_per_layer: 5 is not a list)"),
    ({"kl_per_layer": ["x"]}, "damaged (kl_per_layer.0: 'x' is not a number)"),
    ({"evaluation_seconds": [1]}, "damaged (evaluation_seconds: [1] is not a number)"),
    ({"bound_by_samples": [1]}, "damaged (bound_by_samples: [1] is not a mapping)"),
    ({"bound_by_samples": {"K": [1, 2]}}, "damaged (bound_by_samples.K"),
    ({"bound_by_samples": {"5": [1]}}, "damaged (bound_by_samples.5"),
    ({"unit_kl": [["x"]]}, "damaged (unit_kl.0.0: 'x' is not a number)"),
    ({"unit_kl": [[0.1]]}, "damaged (unit_kl and unit_kl_se are not of the same units)"),
    ({"unit_kl_se": None}, "damaged (unit_kl and unit_kl_se are not of the same units)"),
    ({"data": {"dataset": "digits"}}, "damaged (data.train_sha256 is missing)"),
    ({"format": 2}, "written by another version (format 2, not 1)"),
    ({"format": ...}, "written by an earlier version (it has no format)"),
]


@pytest.mark.parametrize(("change", "fault"), EVALUATION)
def test_a_damaged_evaluation_is_named_with_what_fixes_it(results, finished, change, fault):
    path = results.evaluation_of(finished).folder / "result.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), change)))
    message = named(results)
    assert message.startswith(f"{path}: {fault}")
    # The training stands, so that nothing is trained again.
    assert message.endswith("; delete it to have it made again: the member is evaluated again")


@pytest.mark.parametrize("field", ["canonical", "train_images", "shape"])
@pytest.mark.parametrize("name", ["training.json", "result.json"])
def test_damaged_words_about_the_data_are_named(results, finished, name, field):
    folder = results.record_of(finished).folder if name == "training.json" else results.evaluation_of(finished).folder
    content = json.loads((folder / name).read_text())
    content["data"][field] = "x"
    (folder / name).write_text(json.dumps(content))
    assert named(results).startswith(f"{folder / name}: damaged (data.{field}: 'x' is not ")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "damaged (not a JSON object)"),
        ("[]", "damaged (not a JSON object)"),
        ('{"format": 1, "name": "a", "variants": [], "members": 3}', "damaged (members: 3 is not a list)"),
        (
            '{"format": 1, "name": "a", "variants": [], "members": [{"digest": "a"}]}',
            "damaged (members.0.training is missing)",
        ),
        ('{"name": "a", "variants": [], "members": []}', "written by an earlier version (it has no format)"),
        ('{"format": 3, "name": "a", "variants": [], "members": []}', "written by another version (format 3, not 1)"),
    ],
)
def test_a_damaged_grid_is_named(results, content, fault):
    results.plan()
    path = results.root / "grid.json"
    path.write_text(content)
    message = refused(results)
    assert message.startswith(f"{path}: {fault}")
    assert message.endswith("; run tune.run again to rewrite it")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"depth": "x"}, "labels whose depth is not a whole number"),
        ({"seed": True}, "labels whose seed is not a whole number"),
        ({"variant": ...}, "labels without variant"),
        ({"dataset": ..., "seed": ...}, "labels without dataset, seed"),
    ],
)
def test_labels_of_another_kind_are_named(results, change, fault):
    results.plan()
    path = results.root / "grid.json"
    grid = json.loads(path.read_text())
    grid["members"][0]["labels"] = changed(grid["members"][0]["labels"], change)
    path.write_text(json.dumps(grid))
    assert refused(results) == f"{path}: {fault}; run tune.run again to rewrite it"


def test_a_folder_of_an_earlier_version_is_refused_whole(results):
    """Records of 0.2 have result.json beside spec.yaml, and no file of them has a format."""
    folder = results.root / "members" / "digits-L1-vae-s0-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text("seed: 0\n")
    (folder / "result.json").write_text(json.dumps({"digest": "0123456789ab" + "0" * 52, "status": "finished"}))
    (results.root / "grid.json").write_text(json.dumps({"name": "old", "variants": ["VAE"], "members": []}))
    message = refused(results)
    assert message.startswith(f"{results.root}: holds records of an earlier version (0.2 or before)")
    assert "choose another folder with --results" in message
    (results.root / "grid.json").unlink()
    assert refused(results) == message


def test_a_model_is_loaded_from_a_member_and_not_from_its_evaluation(results, finished):
    with pytest.raises(RecordError, match=r"no record there \(it has no spec\.yaml\)"):
        hvae_spec.load_record(results.evaluation_of(finished).folder)
    folder = results.record_of(finished).folder
    (folder / "result.json").write_text("{}")
    with pytest.raises(RecordError, match="a record of an earlier version"):
        hvae_spec.load_record(folder)

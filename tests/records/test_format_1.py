"""Files of format 1, written once and kept: every later version reads them, or says in one line that it does not.

`format_1` is the results folder of a grid of two seeds of which one has finished and the other was killed in training.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import analysis
import hvae_spec
from hvae_spec.errors import RecordError
from hvae_spec.records.checkpoint import CheckpointHeader
from hvae_spec.records.index import IndexFile, read_index
from hvae_spec.records.layout import Results
from hvae_spec.records.plan import GridFile, PackFile, PlannedFile
from hvae_spec.records.result import EvaluationResult, TrainingResult
from tune.run import main

FROZEN = Path(__file__).parent / "format_1"
SPEC = """
name: frozen
data: {dataset: digits, train_images: 64, test_images: 10}
model: {layers: [{units: 2, mlp: [4]}], batch_norm: true}
training: {epochs: 2, batch_size: 32}
evaluation: {iw_samples: 5, every: 1}
grid: {seeds: [0, 1]}
"""


@pytest.fixture
def results(tmp_path):
    """A copy that may be changed."""
    shutil.copytree(FROZEN, tmp_path / "results")
    return Results(tmp_path / "results")


def finished(results):
    return next(record for record in results.records if record.training is not None)


def test_every_file_is_read(results):
    record = finished(results)
    assert isinstance(record.training, TrainingResult)
    assert record.training.status == "trained"
    (evaluation,) = record.evaluations
    assert isinstance(evaluation.result, EvaluationResult)
    assert isinstance(results.grid, GridFile)
    assert isinstance(results.planned, PlannedFile)
    (pack,) = results.packs
    assert isinstance(pack.content, PackFile)
    assert [row["epoch"] for row in record.epochs] == [row["epoch"] for row in record.units] == [1, 2]
    assert read_index(results).keys() == {folder.name for folder in results.folders}


def test_what_is_known_of_the_members_is_as_it_was():
    frames = analysis.load(FROZEN)
    assert frames.members["status"].tolist() == ["finished", "running"]
    row = frames.members.iloc[0]
    assert row["test_log_likelihood"] == pytest.approx(-45.417, abs=0.005)
    assert row["digest"].startswith("c45a49e4a833")
    assert len(frames.epochs) == 3
    assert len(frames.units) == 2 * 2 + 2
    assert hvae_spec.load_gallery(row["folder"])["images"].shape == (10, 64)


def test_quantities_that_had_another_name_are_read_under_their_own(results):
    """What is now the reconstruction was `train_log_likelihood`, and the bound at beta = 1 was not kept."""
    path = finished(results).folder / "epochs.jsonl"
    before = [json.loads(line) for line in path.read_text().splitlines()]
    frames = analysis.load(FROZEN)
    epochs = frames.epochs[frames.epochs["digest"] == frames.members["digest"].iloc[0]]
    assert epochs["train_reconstruction"].tolist() == [row["train_log_likelihood"] for row in before]
    assert epochs["train_bound_beta_1"].tolist() == [row["train_bound"] for row in before]  # without warm-up
    assert epochs["test_images"].tolist() == [10, 10]
    assert frames.faults == ()


def test_a_frozen_model_gives_its_numbers_again():
    record = finished(Results(FROZEN))
    model = hvae_spec.load_record(record.folder)
    again = float(model.evaluate(model.test_images()).log_likelihood.mean())
    # Another machine may round otherwise.
    assert again == pytest.approx(record.evaluations[0].result.test_log_likelihood, abs=1e-3)
    assert record.spec.digests.training == record.training.digest


@pytest.mark.usefixtures("no_report")
def test_a_frozen_grid_goes_on_from_its_checkpoint(results, tmp_path, capsys):
    spec = tmp_path / "frozen.yaml"
    spec.write_text(SPEC)
    options = ["--serial", "--cpus", "1", "--device", "cpu", "--results", str(results.root)]
    before = finished(results).weights.read_bytes()
    assert main([str(spec), *options, "--plan"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "goes on from its checkpoint" in out
    # It was evaluated before products were in float32 always.
    assert "1 member was evaluated by an earlier version of the evaluation than this one (2): the stored weights" in out
    assert "1 to evaluate, 1 to run." in out
    assert main([str(spec), *options]) == 0
    records = Results(results.root).records
    assert [record.training.status for record in records] == ["trained", "trained"]
    assert finished(results).weights.read_bytes() == before
    earlier, now = (one.result for one in finished(results).evaluations)
    assert (earlier.estimator, now.estimator) == (1, 2)
    assert now.test_log_likelihood == pytest.approx(earlier.test_log_likelihood, abs=1e-3)
    segments = records[1].training.segments
    assert [(one.first_epoch, one.last_epoch) for one in segments] == [(1, 1), (2, 2)]


def test_a_frozen_record_run_again_says_what_is_not_compared(capsys):
    folder = finished(Results(FROZEN)).folder
    assert main([str(folder), "--device", "cpu"]) in (0, 1)  # another machine may round otherwise
    assert "the record has none by this version of the evaluation" in " ".join(capsys.readouterr().out.split())


FILES = [
    ("grid.json", lambda results: results.grid),
    ("packs/planned.json", lambda results: results.planned),
    ("members/*s0*/training.json", lambda results: results.records[0].training),
    ("members/*s0*/evaluations/*/result.json", lambda results: results.records[0].evaluations),
    ("packs/*/pack.json", lambda results: results.packs[0].content),
]


@pytest.mark.parametrize(("pattern", "read"), FILES, ids=[name for name, _ in FILES])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, r"written by another version \(format 2, not 1\)"),
        ({"format": None}, r"written by another version \(format None, not 1\)"),
        (None, r"damaged \(not a JSON object\)"),
    ],
)
def test_a_file_of_another_format_is_one_line_that_names_it(results, pattern, read, change, said):
    (path,) = results.root.glob(pattern)
    path.write_text("[" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=said) as caught:
        read(results)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message  # the remedy


def test_a_file_without_a_format_is_of_an_earlier_version(results):
    (path,) = results.root.glob("grid.json")
    content = json.loads(path.read_text())
    del content["format"]
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="written by an earlier version"):
        _ = results.grid


def test_the_index_is_made_anew_where_it_is_damaged_or_gone(results):
    path = results.root / "members" / "index.json"
    whole = read_index(results)
    assert IndexFile.model_validate_json(path.read_bytes()).records == whole
    for content in ("", "[]", '{"format": 2, "records": {}}'):
        path.write_text(content)
        assert read_index(results) == whole
    path.unlink()
    assert read_index(results) == whole


def test_the_header_of_a_checkpoint_is_a_model():
    from safetensors import safe_open

    (path,) = FROZEN.glob("packs/*/checkpoint.safetensors")
    with safe_open(path, "np") as file:
        header = CheckpointHeader.model_validate_json(file.metadata()["pack"])
        rows = file.get_tensor("rows")
    assert header.epoch == 1
    assert rows.shape == (1, sum(int(np.prod(shape)) for shape in header.shapes))


def test_a_folder_of_version_0_2_is_refused_in_one_line(tmp_path, capsys):
    """Its records have their result at the top, without a format."""
    folder = tmp_path / "results" / "members" / "digits-L1-vae-bn-s0-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"status": "finished", "digest": "0123456789ab"}')
    (folder / "spec.yaml").write_text("data: {dataset: digits}\n")
    spec = tmp_path / "frozen.yaml"
    spec.write_text(SPEC)
    assert main([str(spec), "--serial", "--plan", "--results", str(tmp_path / "results")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "holds records of an earlier version (0.2 or before)" in message
    assert "choose another folder with --results" in message
    with pytest.raises(RecordError, match="of an earlier version"):
        analysis.load(tmp_path / "results")
    with pytest.raises(RecordError, match="of an earlier version"):
        hvae_spec.load_record(folder)

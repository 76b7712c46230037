"""`hvae_spec.train`: one member in this process."""

import gc
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import hvae_spec
from hvae_spec import single
from hvae_spec.data.given import stored
from hvae_spec.records.layout import Results
from hvae_spec.records.lock import locked
from tests.listeners.noted import TINY, Noted
from tests.listeners.test_notifier import WHOLE

ONE = TINY.replace("seeds: [0, 1]", "seeds: [3]")
BARE = ONE.replace("data: {dataset: digits, train_images: 64, test_images: 16}\n", "")
GRAYS = np.random.default_rng(0).integers(0, 256, (60, 4, 5), dtype=np.uint8)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def same(first, second):
    weights = first.module.state_dict(), second.module.state_dict()
    return all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_the_model_is_that_of_its_record_which_stays_in_a_results_folder_alone(tmp_path, scratch, capsys):
    noted = Noted()
    kept = hvae_spec.train(ONE, results=tmp_path / "out", listeners=[noted])
    ((name, _),) = noted.said.items()
    assert noted.outline(name) == WHOLE
    loaded = hvae_spec.load_record(tmp_path / "out" / "members" / name)
    assert same(kept, loaded)
    assert kept.epoch == 6
    x = kept.test_images()
    assert torch.equal(kept.evaluate(x).log_likelihood, loaded.evaluate(x).log_likelihood)
    (member,) = hvae_spec.members(hvae_spec.loads(ONE))
    assert name == member.folder
    gone = [hvae_spec.train(what, progress=False) for what in (member, member.spec)]
    assert all(same(kept, one) for one in gone)
    assert os.listdir(scratch) == []
    shown = capsys.readouterr()
    assert "digits L2 VAE+BN+WU" in shown.err
    assert "finished" in shown.err
    assert shown.out == ""
    before = (tmp_path / "out" / "members" / name / "training.json").read_bytes()
    assert same(hvae_spec.train(ONE, results=tmp_path / "out", listeners=[again := Noted()]), kept)
    assert again.said == {}  # nothing ran
    assert (tmp_path / "out" / "members" / name / "training.json").read_bytes() == before


def test_an_interrupted_training_goes_on_to_the_same_model(tmp_path, scratch, monkeypatch):
    from hvae_spec import pack

    monkeypatch.setattr(pack, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(pack, "CHECKPOINT_SHARE", 1e9)
    whole = hvae_spec.train(ONE, progress=False)

    class Stopping:
        def __call__(self, job, report):
            def stop(progress):
                if progress.epoch == 4:
                    raise KeyboardInterrupt

            pack.REPORT_SECONDS = 0.0
            pack.run_pack(job, stop)

    monkeypatch.setattr(pack, "REPORT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(single, "run_pack", Stopping())
        for results in (tmp_path / "out", None):
            with pytest.raises(KeyboardInterrupt):
                hvae_spec.train(ONE, results=results, progress=False)
    assert os.listdir(scratch) == []
    seen = []
    monkeypatch.setattr(single, "run_pack", lambda job, report: pack.run_pack(job, lambda one: seen.append(one.epoch)))
    assert same(hvae_spec.train(ONE, results=tmp_path / "out", progress=False), whole)
    assert min(seen) == 4


def test_images_that_are_given_are_those_of_the_model_and_of_its_record(tmp_path, scratch):
    model = hvae_spec.train(BARE, GRAYS, results=tmp_path / "out", progress=False)
    own = model.spec.data.own
    assert own.range == (0.0, 255.0)
    assert Path(own.file).parent == tmp_path / "out" / "data"
    assert np.array_equal(np.load(own.file)["train"], GRAYS)
    assert model.dataset().shape == (4, 5)
    assert len(model.dataset().test) == 12  # every fifth
    (folder,) = Results(tmp_path / "out").folders
    assert same(hvae_spec.load_record(folder), model)
    assert os.listdir(scratch) == []

    pair = (GRAYS[:40].astype(float) / 255, torch.from_numpy(GRAYS[40:]) / 255)
    (given,) = hvae_spec.members(hvae_spec.loads(ONE.replace("train_images: 64, test_images: 16", "test_images: 16")))
    other = hvae_spec.train(given, pair, progress=False)
    assert other.spec.data.own.range == (0.0, 1.0)
    assert len(other.dataset().test) == 16  # of the 20 that were given
    assert len(os.listdir(scratch)) == 1
    del other
    gc.collect()
    assert os.listdir(scratch) == []


def test_other_images_are_another_member(tmp_path):
    first = hvae_spec.train(BARE, GRAYS, results=tmp_path, progress=False)
    second = hvae_spec.train(BARE, GRAYS[::-1], results=tmp_path, progress=False)
    assert not same(first, second)
    assert len(Results(tmp_path).folders) == 2


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            np.zeros((3, 2, 2, 1)),
            r"data, train: has the shape \[3, 2, 2, 1\]; expected \[N, D\] or \[N, height, width\]",
        ),
        ((np.ones((9, 4)), np.ones((9, 3))), r"data: train has \[4\] and test has \[3\]; expected images of one shape"),
        ((np.ones((9, 4)),) * 3, r"data: a tuple of 3; expected an array of images, or a pair \(train, test\)"),
        (np.array([["a"]]), "data, train: holds <U1; expected numbers"),
        (np.full((9, 4), -0.5), "data: has values from -0.5 to -0.5; expected whole numbers from 0 to 255"),
        (np.full((9, 4), np.nan), "data: has values from nan to nan; expected whole numbers"),
        (np.full((9, 4), 256), "data: has values from 256 to 256; expected whole numbers"),
    ],
)
def test_what_is_no_images_is_refused_and_nothing_is_left(images, said, scratch):
    with pytest.raises(hvae_spec.DataError, match=said):
        hvae_spec.train(BARE, images)
    assert os.listdir(scratch) == []


def test_zeros_and_ones_are_no_dark_grays(tmp_path):
    for values in (GRAYS > 127, (GRAYS > 127).astype(np.uint8), (GRAYS > 127).astype(np.float32)):
        assert stored(values, tmp_path).range == (0, 1)
    assert stored(GRAYS.astype(np.float64), tmp_path).range == (0, 255)


def test_what_cannot_be_trained_is_refused(tmp_path, scratch):
    with pytest.raises(hvae_spec.UserError, match="tiny has 2 members: train one of them"):
        hvae_spec.train(TINY)
    with pytest.raises(hvae_spec.SpecError, match=r"<text>:6:23: unknown key .batch_sise. in"):
        hvae_spec.train(ONE.replace("batch_size: 32", "batch_sise: 32"))
    with locked(tmp_path / "out"), pytest.raises(hvae_spec.UserError, match="another run is at work in this folder"):
        hvae_spec.train(ONE, results=tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(hvae_spec.UserError, match=r"file: cannot be used as a results folder \(it is a file\)"):
        hvae_spec.train(ONE, results=tmp_path / "file")
    faulty = ONE.replace("batch_size: 32", "batch_size: 32, optimizer: {adam: {lr: 1.0e+30}}")
    noted = Noted()
    with pytest.raises(
        hvae_spec.RecordError, match=r"its training diverged in epoch \d \(.*\), so that there is no model"
    ):
        hvae_spec.train(faulty, listeners=[noted])
    ((*_, last),) = noted.said.values()
    assert last[:2] == ("finish", "diverged")
    assert os.listdir(scratch) == []
    assert json.dumps(noted.said.popitem()[1][0][1].settings)

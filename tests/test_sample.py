"""`python -m hvae_spec.sample`."""

import os

import numpy as np
import pytest
from PIL import Image

from hvae_spec import sample
from hvae_spec.model import Model, load_record
from hvae_spec.records.layout import Record
from hvae_spec.spec.experiment import MemberSpec
from tests.members import SMALL, member
from tune import hvae


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The record of a model with images of 3 x 4 pixels, which are nowhere."""
    own = {"name": "mine", "file": "nowhere.npz", "range": [0, 1], "shape": [3, 4]}
    model = {**SMALL["model"], "batch_norm": False}
    spec = MemberSpec.model_validate({**SMALL, "model": model, "data": {"dataset": "own", "own": own}})
    return Model(spec).save(tmp_path_factory.mktemp("records") / "mine")


def run(*arguments):
    return sample.main([*map(str, arguments)])


def as_bytes(images):
    return np.round(255 * images.numpy().clip(0, 1)).astype(np.uint8)


def test_the_picture_is_the_samples_in_a_square_of_gray_images(saved, tmp_path, capsys):
    out = tmp_path / "new" / "samples.png"
    assert run(saved, "--out", out, "--count", 5, "--seed", 3) == 0
    assert capsys.readouterr() == (f"{out}: 5 images of 3 x 4 pixels from the prior\n", "")
    assert os.listdir(out.parent) == ["samples.png"]
    with Image.open(out) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (3 * 4 + 2, 2 * 3 + 1))
        assert image.info["Title"].endswith("z from the prior, seed 3")
        assert image.info["Source"] == f"training {Record(saved).training.digest}"
        picture = np.asarray(image)
    expected = as_bytes(load_record(saved).sample(5, seed=3)).reshape(5, 3, 4)
    np.testing.assert_array_equal(picture[:3, :4], expected[0])
    np.testing.assert_array_equal(picture[:3, 10:14], expected[2])
    np.testing.assert_array_equal(picture[4:7, 5:9], expected[4])
    assert set(picture[3]) == set(picture[:, 4]) == {128}
    assert (picture[4:, 10:] == 128).all()


def test_latents_are_injected_at_a_layer_and_the_default_is_64_images(saved, tmp_path):
    out = tmp_path / "samples.PNG"
    out.write_text("an older picture")
    assert run(saved, "--out", out, "--layer", 2) == 0
    with Image.open(out) as image:
        assert image.size == (8 * 4 + 7, 8 * 3 + 7)
        picture = np.asarray(image)
    expected = as_bytes(load_record(saved).inject(2, 64)).reshape(64, 3, 4)
    np.testing.assert_array_equal(picture[:3, 5:9], expected[1])
    np.testing.assert_array_equal(picture[28:31, 35:39], expected[63])


def test_hvae_has_the_command(saved, tmp_path):
    assert hvae.main(["sample", str(saved), "--out", str(tmp_path / "a.png"), "--count", "1"]) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/nowhere", "--out", "{tmp}/a.png"], "nowhere: no record there"),
        (["{begun}", "--out", "{tmp}/a.png"], "has not finished training"),
        (["{saved}", "--out", "{tmp}/a.jpg"], "a.jpg: expected a file whose name ends in .png"),
        (["{saved}", "--out", "{tmp}/folder.png"], "folder.png: a folder, not a file"),
        (["{saved}", "--out", "{tmp}/a.png", "--layer", "4"], "layer 4: expected a stochastic layer of this model"),
        (["{saved}", "--out", "{tmp}/a.png", "--layer", "0"], "expected a whole number from 1 to"),
        (["{saved}", "--out", "{tmp}/a.png", "--count", "0"], "expected a whole number from 1 to 10000, not '0'"),
        (["{saved}", "--out", "{tmp}/a.png", "--seed", "x"], "expected a whole number from 0 to"),
        (["{saved}", "--out", "{tmp}/a.png", "--device", "tpu"], "device 'tpu': expected auto, cpu"),
        (["{saved}"], "the following arguments are required: --out"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(saved, tmp_path, capsys, arguments, words):
    (tmp_path / "folder.png").mkdir()
    Record(tmp_path / "begun").begin(member())
    given = [text.format(saved=saved, tmp=tmp_path, begun=tmp_path / "begun") for text in arguments]
    try:
        code = run(*given)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    out, err = capsys.readouterr()
    assert (words in err, out) == (True, "")
    assert not list(tmp_path.glob("a.*"))


def test_a_full_disk_is_the_machines_fault_and_the_older_picture_stays(saved, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a.png"
    out.write_text("an older picture")

    def full(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr(os, "replace", full)
    assert run(saved, "--out", out) == 1
    assert capsys.readouterr().err.startswith(f"{out}: No space left on device; make room on its disk")
    assert out.read_text() == "an older picture"
    assert os.listdir(tmp_path) == ["a.png"]


def test_batch_norm_statistics_that_were_not_saved_are_missed(tmp_path, capsys):
    folder = Model(member()).save(tmp_path / "mine")
    assert run(folder, "--out", tmp_path / "a.png") == 2
    assert "batch-norm statistics were never computed" in capsys.readouterr().err


def test_with_skip_connections_the_title_says_that_x_is_of_all_layers(tmp_path):
    every = {"model__skip": "generative", "model__batch_norm": False}
    for depth, mean in ((3, "E[x|z_1…z_3]"), (2, "E[x|z_1, z_2]"), (1, "E[x|z_1]")):
        folder = Model(member(depth, **every)).save(tmp_path / f"mine{depth}")
        assert run(folder, "--out", tmp_path / "a.png") == 0
        with Image.open(tmp_path / "a.png") as image:
            assert image.info["Title"].startswith(f"{mean} of ")

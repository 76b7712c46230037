"""Where a spec's own images are looked for, and what of them makes a member."""

import numpy as np
import pytest

from hvae_spec.data.counts import image_counts
from hvae_spec.errors import SpecError
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.spec.data import DataSpec

SPEC = """\
name: small
data: {dataset: own, own: {name: mine, file: images/a.npy, range: [0, 255]}}
model: {layers: [{units: 2, mlp: [4, 4]}], observation: gaussian}
training: {epochs: 1, batch_size: 3}
evaluation: {iw_samples: 5}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", np.random.default_rng(0).integers(0, 256, (20, 3, 4), dtype=np.uint8))
    (tmp_path / "a.yaml").write_text(SPEC)
    return tmp_path


def test_the_file_is_relative_to_the_spec_that_names_it(folder, monkeypatch):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "b.yaml").write_text("base: ../a.yaml\nname: b\ntraining: {epochs: 2}\n")
    for spec in ("a.yaml", "deeper/b.yaml"):
        (member,) = read(folder / spec).members
        assert image_counts(member.spec.data) == (12, 16, 4)
    monkeypatch.chdir(folder / "images")
    (member,) = read("../a.yaml", ["data.own.file=a.npy"]).members
    assert member.spec.data.own.file == str(folder / "images" / "a.npy")
    (folder / "c.yaml").write_text(SPEC + "grid: {axes: {data.own.file: [images/a.npy]}}\n")
    (member,) = read("../c.yaml").members
    assert image_counts(member.spec.data) == (12, 16, 4)


def test_neither_the_place_of_the_images_nor_what_is_idle_makes_another_member(folder, tmp_path_factory):
    digest = read(folder / "a.yaml").members[0].digests
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "images").mkdir()
    (folder / "images" / "a.npy").rename(other / "images" / "a.npy")
    (other / "a.yaml").write_text(SPEC)
    (member,) = read(other / "a.yaml").members
    assert member.digests == digest
    assert member.folder.startswith("mine-L1-")
    assert member.labels["dataset"] == "mine"
    for change in ("data.own.name=b", "data.own.range=[0, 256]", "data.copies=2", "data.own.shape=[3, 4]"):
        assert read(other / "a.yaml", [change]).members[0].digests != digest
    digits = read(other / "a.yaml", ["data.dataset=digits"]).members[0].digests
    assert read(other / "a.yaml", ["data={dataset: digits}"]).members[0].digests == digits


@pytest.fixture
def images(folder):
    """A folder of image files, `images/all`, of which the third test image stands in the training set, too."""
    from PIL import Image

    (folder / "images" / "all").mkdir()
    for number in range(15):
        gray = np.random.default_rng(min(number, 10)).integers(0, 256, (3, 4), dtype=np.uint8)
        Image.fromarray(gray).save(folder / "images" / "all" / f"{number:02d}.png")
    return folder


def test_the_range_of_image_files_may_be_left_out(images):
    given = read(images / "a.yaml", [f"data.own.file={images}/images/all"]).members[0]
    (images / "b.yaml").write_text(SPEC.replace("images/a.npy, range: [0, 255]", "images/all"))
    left_out = read(images / "b.yaml").members[0]
    assert left_out.spec.data.own.range == (0, 255)
    assert left_out.digests == given.digests
    # It is what it was before it could be left out.
    assert given.digests.trajectory.startswith("0e7e4bf8e45d")
    assert read(images / "b.yaml", ["data.own.range=[0, 256]"]).members[0].digests != given.digests
    with pytest.raises(SpecError, match=r"data.own.range is missing"):
        read(images / "b.yaml", [f"data.own.file={images}/images/a.npy"])


@pytest.mark.usefixtures("no_report")
def test_a_plan_and_a_run_say_what_was_found(images, tmp_path, capsys):
    from tune.run import main

    expected = [
        "mine: 12 training and 3 test images of 3 x 4 pixels, 256 gray levels",
        "  test set: every fifth of the images, as no others are set apart",
        "  passed over: 1 .txt file",
        "  1 of the 3 test images stand in the training set, too",
    ]
    (images / "images" / "all" / "notes.txt").write_text("")
    settings = ["--set", f"data.own.file={images}/images/all", "--set", "data.train_images=5"]
    command = [str(images / "a.yaml"), "--serial", *settings]
    for more in (["--plan"], ["--results", str(tmp_path / "r")]):
        assert main([*command, *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        start = lines.index(expected[0])
        assert lines[start : start + 4] == expected


def test_what_names_of_folders_and_files_hold_does_not_reach_the_terminal(images, capsys):
    from tune.run import main

    folder = images / "images" / "all"
    (folder / "a\x1b[31m\nb").mkdir()
    for file in sorted(folder.glob("*.png")):
        file.rename(folder / "a\x1b[31m\nb" / file.name)
    (folder / "notes.\x1b[32m").write_text("")
    assert main([str(images / "a.yaml"), "--serial", "--plan", "--set", f"data.own.file={folder}"]) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "  classes (training + test images): a?[31m?b (12 + 3)\n  passed over: 1 .?[32m file\n" in output


def test_a_plan_refuses_what_a_run_would_refuse(images, data_dir, capsys):
    from tests.data.formats import write_mnist
    from tune.run import main

    np.save(images / "images" / "a.npy", np.random.default_rng(0).random((20, 3, 4)))
    assert main([str(images / "a.yaml"), "--plan"]) == 2
    assert "write range: [0, 1]" in capsys.readouterr().err
    write_mnist(data_dir)
    (data_dir / "mnist" / "t10k-images-idx3-ubyte").write_bytes(b"damaged")
    command = [str(images / "a.yaml"), "--set", "data={dataset: mnist}", "--set", "model.observation=bernoulli"]
    assert main([*command, "--plan"]) == 2
    assert "t10k-images-idx3-ubyte: not an IDX file of bytes" in capsys.readouterr().err


def test_the_digest_goes_by_the_published_sizes_not_by_what_is_here(folder, data_dir):
    from tests.data.formats import characters, write_mat

    overrides = ["data={dataset: omniglot, train_images: 24345}", "model.observation=bernoulli"]
    published = read(folder / "a.yaml", overrides).members[0].digests
    assert (
        read(folder / "a.yaml", [overrides[0].replace(", train_images: 24345", ""), overrides[1]]).members[0].digests
        == published
    )
    write_mat(data_dir / "omniglot" / "chardata.mat", **characters()[0])
    assert image_counts(DataSpec(dataset="omniglot")) == (784, 12, 5)
    assert read(folder / "a.yaml", ["data={dataset: omniglot}", overrides[1]]).members[0].digests == published


@pytest.mark.usefixtures("no_report")
def test_a_run_on_own_images_records_what_they_were(folder, tmp_path):
    from hvae_spec.model import load_record
    from tune.run import main

    assert main([str(folder / "a.yaml"), "--serial", "--results", str(tmp_path / "r")]) == 0
    (record,) = Results(tmp_path / "r").records
    result = record.evaluations[0].result
    assert result.status == "finished"
    assert result.data.dataset == "mine"
    assert result.data.canonical is None
    assert (result.data.train_images, result.data.test_images) == (16, 4)
    assert load_record(record.folder).test_images().shape == (4, 12)


def test_images_of_the_same_name_elsewhere_are_not_taken_for_those_of_a_spec(folder, data_dir, capsys):
    from hvae_spec.model import compile as compiled
    from tune.run import main

    (member,) = read(folder / "a.yaml").members
    elsewhere = data_dir / "a.npy"
    (folder / "images" / "a.npy").rename(elsewhere)
    assert main([str(folder / "a.yaml"), "--plan"]) == 2
    assert f"{folder / 'images' / 'a.npy'}: no such file or folder" in capsys.readouterr().err
    # What was read while they were there finds them where they are now, as a record does that was moved.
    assert image_counts(member.spec.data) == (12, 16, 4)
    assert compiled(member).test_images().shape == (4, 12)


@pytest.mark.usefixtures("no_report")
def test_intensities_have_no_gray_levels_to_model(folder, tmp_path, capsys):
    from tune.run import main

    command = [str(folder / "a.yaml"), "--serial", "--results", str(tmp_path / "r")]
    gray = ["--set", "model.observation=discretized_logistic"]
    assert main([*command, *gray]) == 0
    # Fractions within whole numbers: only the file tells that these are no levels.
    np.save(folder / "images" / "a.npy", np.random.default_rng(0).random((20, 3, 4)))
    for options in (["--plan"], []):
        assert main([*command[:-1], str(tmp_path / "other"), *gray, "--set", "data.own.range=[0, 1]", *options]) == 2
        assert "mine: its pixels are intensities without levels" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main([*command, *gray, "--set", "data.own.range=[0, 1.5]", "--plan"]) == 2
    assert "mine holds intensities without levels, of which a discretized_logistic" in capsys.readouterr().err


def test_two_images_are_enough(folder, tmp_path):
    from tune.run import main

    np.save(folder / "images" / "a.npy", np.random.default_rng(0).integers(0, 256, (2, 3, 4), dtype=np.uint8))
    assert main([str(folder / "a.yaml"), "--serial", "--set", "training.batch_size=1", "--plan"]) == 0
    options = ["--serial", "--set", "training.batch_size=1", "--results", str(tmp_path / "r")]
    assert main([str(folder / "a.yaml"), *options]) == 0

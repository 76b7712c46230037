"""Static binarized MNIST: three files of zeros and ones as text."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.caveats import mixed
from hvae_spec import compiler
from hvae_spec.data import registry
from hvae_spec.data.__main__ import main
from hvae_spec.data.batches import draw_once
from hvae_spec.data.cache import Source
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import DataError, SpecError
from hvae_spec.nn.random import Streams
from hvae_spec.reading import loads
from hvae_spec.spec.data import DataSpec, published_counts
from hvae_spec.spec.grid import members
from tests.data.formats import amat, write_mnist, write_mnist_static
from tests.data.test_data_command import rows
from tune.bench import baseline_observations, comparison

SPEC = """
name: static
data: {dataset: mnist_static}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 4}
evaluation: {iw_samples: 4}
"""


def load():
    return load_dataset(DataSpec(dataset="mnist_static"))


def member_of(text=SPEC):
    (member,) = members(loads(text))
    return member


def test_the_three_parts_are_kept_apart(data_dir):
    images = write_mnist_static(data_dir)
    dataset = load()
    assert np.array_equal(dataset.train, images["train"])
    assert np.array_equal(dataset.validation, images["valid"])
    assert np.array_equal(dataset.test, images["test"])
    assert {part.dtype for part in (dataset.train, dataset.validation, dataset.test)} == {np.dtype(np.uint8)}
    assert (dataset.shape, dataset.levels, dataset.is_binary, dataset.canonical) == ((28, 28), 2, True, False)
    assert dataset.train_labels.tolist() == [0] * 7
    assert image_counts(DataSpec(dataset="mnist_static")) == (784, 7, 2)
    limited = load_dataset(DataSpec(dataset="mnist_static", train_images=4, test_images=1))
    assert (len(limited.train), len(limited.validation), len(limited.test)) == (4, 3, 1)


def test_other_data_sets_have_no_validation_images(data_dir):
    write_mnist(data_dir)
    assert load_dataset(DataSpec(dataset="mnist")).validation is None


def test_files_of_the_published_digests_are_canonical(data_dir, monkeypatch):
    write_mnist_static(data_dir)
    genuine = [
        Source("mnist_static", source.name, (), f"sha256:{hashlib.sha256(content).hexdigest()}")
        for source in registry.SOURCES["mnist_static"]
        for content in ((data_dir / "mnist_static" / source.name).read_bytes(),)
    ]
    monkeypatch.setitem(registry.SOURCES, "mnist_static", tuple(genuine))
    assert load().canonical is True
    path = data_dir / "mnist_static" / "binarized_mnist_valid.amat"
    path.write_bytes(amat(np.ones((3, 784), np.uint8)))
    assert load().canonical is False


def test_the_counts_are_those_of_the_files_without_reading_them(data_dir):
    """The published files have 78,400,000 and 2 x 15,680,000 bytes, as tensorflow/datasets lists them beside their
    digests: that many rows.
    """
    write_mnist_static(data_dir, 1, 1, 1)
    for part, size in (("train", 78_400_000), ("valid", 15_680_000), ("test", 15_680_000)):
        os.truncate(data_dir / "mnist_static" / f"binarized_mnist_{part}.amat", size)
    assert image_counts(DataSpec(dataset="mnist_static")) == (784, 50_000, 10_000)
    assert published_counts()["mnist_static"] == (784, 50_000, 10_000)


@pytest.mark.slow
def test_files_of_the_published_size_are_read(data_dir):
    folder = data_dir / "mnist_static"
    row = amat(np.tile([0, 1], (1, 392)))
    folder.mkdir()
    for part, count in (("train", 50_000), ("valid", 10_000), ("test", 10_000)):
        (folder / f"binarized_mnist_{part}.amat").write_bytes(row * count)
    dataset = load()
    assert (dataset.counts, len(dataset.validation)) == ((784, 50_000, 10_000), 10_000)
    assert dataset.train.sum() == 392 * 50_000


def test_the_last_line_may_lack_its_end(data_dir):
    images = write_mnist_static(data_dir)
    path = data_dir / "mnist_static" / "binarized_mnist_train.amat"
    path.write_bytes(path.read_bytes()[:-1])
    assert np.array_equal(load().train, images["train"])
    assert image_counts(DataSpec(dataset="mnist_static")) == (784, 7, 2)


ROW = b"0 1 " * 391 + b"0 1"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ROW[:-2], ":3: 783 values; expected 784 zeros and ones, a blank between two of them"),
        (ROW + b" 1", ":3: 785 values; expected 784"),
        (ROW.replace(b"1", b"2", 1), ":3:3: '2'; expected 784 zeros and ones"),
        (ROW[:-1] + b"x", ":3:1567: 'x'; expected"),
        (ROW.replace(b" ", b"  ", 1), ":3: other characters than single blanks between the values; expected"),
        (ROW.replace(b" ", b"\t", 1), ":3: other characters than single blanks between the values; expected"),
        (ROW.replace(b" ", b"", 1), ":3:1: '01'; expected"),
        (ROW * 3, ":3:1567: '10'; expected"),
        (b"1 " * 5000, ":3: a line of more than 3,136 bytes; expected"),
        (b"", ":3: 0 values; expected"),
        (b"\xff\xfe" + ROW[2:], ":3:1: '\ufffd\ufffd"),
    ],
)
def test_a_damaged_line_is_named(data_dir, line, words):
    write_mnist_static(data_dir)
    path = data_dir / "mnist_static" / "binarized_mnist_valid.amat"
    path.write_bytes(b"\n".join([ROW, ROW, line, ROW]) + b"\n")
    with pytest.raises(DataError) as caught:
        load()
    assert str(caught.value).startswith(f"{path}{words}")
    assert str(caught.value).endswith("delete it to download it again")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ": holds no images"),
        (b"<html><body>404 Not Found</body></html>", ":1:1: '<html><body>404'; expected 784 zeros and ones"),
        (amat(np.ones((3, 784), np.uint8))[:-700], ":3: 434 values; expected 784"),
    ],
)
def test_what_is_none_of_the_files_is_told_by_loading_and_by_fetch(data_dir, content, words, capsys):
    write_mnist_static(data_dir)
    path = data_dir / "mnist_static" / "binarized_mnist_test.amat"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load()
    assert str(caught.value).startswith(f"{path}{words}")
    if content:
        assert main(["fetch", "mnist_static"]) == 2
        assert capsys.readouterr().err.startswith(str(path))
        # A plan goes by the published sizes; loading says what is wrong.
        assert image_counts(DataSpec(dataset="mnist_static")) == published_counts()["mnist_static"]


def test_the_commands_know_it(data_dir, capsys, monkeypatch):
    monkeypatch.setattr("pooch.retrieve", lambda url, *_, **__: asked.append(url) or offline())
    asked = []
    assert main(["fetch", "mnist_static"]) == 2
    error = capsys.readouterr().err
    assert "mnist_static: binarized_mnist_train.amat is missing and could not be downloaded" in error
    place = "www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_train.amat"
    assert asked == [f"https://{place}", f"http://{place}"]
    write_mnist_static(data_dir)
    assert main([]) == 0
    assert rows(capsys.readouterr().out)["mnist_static"][1:8] == ["yes", "0.0", "MB", "no", "784", "7", "2"]


def offline():
    raise OSError("offline")


def test_a_gaussian_observation_is_refused(data_dir):
    with pytest.raises(SpecError, match="mnist_static holds zeros and ones, of which a gaussian observation") as caught:
        loads(SPEC.replace("model: {", "model: {observation: gaussian, "))
    (problem,) = caught.value.problems
    assert "observation: bernoulli, or another data set" in str(caught.value)
    assert problem.place.line == 4


@pytest.mark.parametrize(
    "setting",
    [
        "data: {redraw: once, ",
        "data: {grey_divisor: levels, ",
        "data: {rescaled_by: training_maximum, ",
        "evaluation: {redraws: {draws: 2, images: 1}, ",
    ],
)
def test_what_draws_from_gray_values_is_idle(data_dir, setting):
    write_mnist_static(data_dir)
    changed = SPEC.replace(setting.partition("{")[0] + "{", setting)
    assert changed != SPEC
    assert member_of(changed).digests == member_of().digests
    # On MNIST itself a Bernoulli observation reads all but one.
    texts = (text.replace("mnist_static", "mnist") for text in (changed, SPEC))
    digests = {member_of(text).digests for text in texts}
    assert len(digests) == (1 if "rescaled_by" in setting else 2)


def test_nothing_is_drawn(data_dir):
    images = write_mnist_static(data_dir, train=8)
    dataset, member = load(), member_of().spec
    assert draw_once(dataset, "test", "bernoulli").tolist() == images["test"].tolist()
    batches = compiler.batches(member, dataset)
    assert batches.fixed
    streams = Streams([0, 1])
    for epoch in (1, 2):
        streams.begin("training", epoch)
        for drawn in torch.cat([*batches.epoch(streams)], dim=1):
            assert sorted(drawn.int().tolist()) == sorted(images["train"].tolist())
    assert member.redraws is None


def test_the_plain_program_of_the_benchmark_draws_nothing_either(data_dir, monkeypatch):
    write_mnist_static(data_dir, train=8)
    seen = []
    monkeypatch.setattr(comparison, "plain_batches", lambda gray, size, draw: seen.append(draw) or [])
    comparison.epoch_seconds(member_of().spec, "cpu", 1)
    assert set(seen) == {baseline_observations.same}


def test_tables_say_that_published_numbers_mix_two_training_sets():
    frame = pd.DataFrame({"dataset": ["mnist_static"] * 2, "train_images": [50_000.0, 50_000.0]})
    assert list(mixed(frame)) == [
        "Published numbers on mnist_static are of models trained on its 50,000 training images, or on 60,000, its "
        "validation images among them; these are trained on 50,000."
    ]
    assert not list(mixed(frame.assign(dataset="mnist")))
    assert not list(mixed(frame.assign(dataset="galaxies")))

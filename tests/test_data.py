import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest
import requests
import scipy.stats
import torch

from hvae_spec.data import sources
from hvae_spec.data.batches import Batches, draw, draw_once
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.mnist import read_idx
from hvae_spec.errors import UserError
from hvae_spec.schema.data import DataSpec
from hvae_spec.streams import Streams


def batches(dataset, **options):
    defaults = {"observation": "bernoulli", "redraw": "every_epoch", "batch_size": 10, "last_batch": "drop"}
    return Batches(dataset, **(defaults | options))


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DataSpec(dataset="digits"))


def test_digits(digits):
    assert digits.train.shape == (1437, 64)
    assert digits.test.shape == (360, 64)
    assert digits.levels == 17
    assert digits.train.max() == 16
    assert digits.canonical
    assert DataSpec(dataset="digits").counts == (64, 1437, 360)
    limited = load_dataset(DataSpec(dataset="digits", train_images=50, test_images=9))
    assert np.array_equal(limited.train, digits.train[:50])
    assert np.array_equal(limited.test_labels, digits.test_labels[:9])
    assert limited.sha256 == digits.sha256


def test_binarisation_has_the_grey_values_as_probabilities():
    values = torch.tensor([0, 4, 8, 16], dtype=torch.uint8).expand(40_000, 4)
    x = draw(values, 17, "bernoulli", torch.rand(values.shape, generator=torch.Generator().manual_seed(0)))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean(0).tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=0.01)
    assert x[:, 0].max() == 0
    assert x[:, 3].min() == 1


def test_every_binarised_draw_of_training_has_the_grey_values_as_probabilities(digits):
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 768)
    grey = replace(digits, train=values.repeat(4000, 0), levels=256)
    parts = batches(grey, batch_size=4000)
    (x,) = parts.epoch(Streams([5]).begin("training", 1))
    p = torch.arange(256) / 255
    means = x[0].view(4000, 256, 3).mean((0, 2))
    assert ((means - p).abs() <= 5 * (p * (1 - p) / 12000).sqrt()).all()


def test_coarse_noise_is_uniform_and_independent():
    u = Streams([0, 1]).begin("test").coarse_uniform(100_001)
    assert u.shape == (2, 100_001)
    assert u.min() > 0
    assert u.max() < 1
    assert scipy.stats.kstest(u[0].numpy(), "uniform").pvalue > 1e-3
    for a, b in [(u[0], u[1]), (u[0, 1:], u[0, :-1]), (u[0, 4:], u[0, :-4])]:
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / 100_000**0.5


def test_dequantisation_is_uniform_within_a_grey_level():
    values = torch.arange(256, dtype=torch.uint8).expand(2000, 256)
    x = draw(values, 256, "gaussian", torch.rand(values.shape, generator=torch.Generator().manual_seed(0)))
    within = x.double() * 256 - values
    assert within.min() >= 0
    assert within.max() < 1 + 1e-4  # float32 may round up to the next level
    assert within.mean().item() == pytest.approx(0.5, abs=0.01)


def test_every_member_shuffles_and_draws_for_itself_and_anew_each_epoch(digits):
    parts = batches(digits)
    together = list(parts.epoch(Streams([0, 1]).begin("training", 1)))
    for index, seed in enumerate([0, 1]):
        alone = list(parts.epoch(Streams([seed]).begin("training", 1)))
        for both, single in zip(together, alone, strict=True):
            assert torch.equal(both[index], single[0])
    assert not torch.equal(together[0][0], together[0][1])
    later = next(iter(parts.epoch(Streams([0, 1]).begin("training", 2))))
    assert not torch.equal(later, together[0])


@pytest.mark.parametrize(("last_batch", "sizes"), [("drop", [400, 400, 400]), ("keep", [400, 400, 400, 237])])
def test_last_batch(digits, last_batch, sizes):
    parts = batches(digits, batch_size=400, last_batch=last_batch)
    assert [x.shape[1] for x in parts.epoch(Streams([0]).begin("training", 1))] == sizes
    assert parts.steps == len(sizes)


def test_an_epoch_visits_every_image_once(digits):
    parts = batches(digits, observation="gaussian", batch_size=100, last_batch="keep")
    x = torch.cat([batch[0] for batch in parts.epoch(Streams([0]).begin("training", 1))])
    seen = sorted(map(bytes, (x * 17).floor().to(torch.uint8).numpy()))
    assert seen == sorted(map(bytes, digits.train))


def test_redraw_once_keeps_one_draw(digits):
    parts = batches(digits, redraw="once", batch_size=1437)
    first = next(iter(parts.epoch(Streams([0]).begin("training", 1))))[0]
    second = next(iter(parts.epoch(Streams([1]).begin("training", 7))))[0]
    assert sorted(map(bytes, first.numpy())) == sorted(map(bytes, second.numpy()))
    assert torch.equal(parts.whole(Streams([0]))[0], draw_once(digits, "train", "bernoulli"))


def test_the_test_set_is_drawn_once(digits):
    assert torch.equal(draw_once(digits, "test", "bernoulli"), draw_once(digits, "test", "bernoulli"))
    mean = draw_once(digits, "test", "bernoulli").mean().item()
    assert mean == pytest.approx(digits.test.mean() / 16, abs=0.01)


def idx(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, compress=False, **changes):
    generator = np.random.default_rng(0)
    content = {}
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        content[f"{name}-images-idx3-ubyte"] = idx(generator.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        content[f"{name}-labels-idx1-ubyte"] = idx(generator.integers(0, 10, count, dtype=np.uint8))
    (folder / "mnist").mkdir()
    for name, data in (content | changes).items():
        path = folder / "mnist" / (name + (".gz" if compress else ""))
        path.write_bytes(gzip.compress(data, 1) if compress else data)


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("compress", [False, True])
def test_mnist_files_of_the_official_format(data_dir, compress):
    write_mnist(data_dir, compress)
    dataset = load_dataset(DataSpec(dataset="mnist"))
    assert dataset.train.shape == (60_000, 784)
    assert dataset.shape == (28, 28)
    expected = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), dtype=np.uint8)
    assert np.array_equal(dataset.train, expected.reshape(60_000, 784))
    assert not dataset.canonical


@pytest.mark.real_data
def test_real_mnist_is_canonical():
    dataset = load_dataset(DataSpec(dataset="mnist"))
    assert dataset.canonical
    assert dataset.train.shape == (60_000, 784)
    assert dataset.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-5], "incomplete"),
        (lambda data: b"PK\x03\x04" + data, "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
        (lambda data: data + b"x", "promises"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, damage, words):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(idx(np.zeros(10, np.uint8))))
    with pytest.raises(UserError, match=words) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


def test_a_truncated_gzip_file_is_named(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((5, 28, 28), np.uint8)))[:-9])
    with pytest.raises(UserError, match="damaged or incomplete") as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


class Response:
    """What requests gives pooch."""

    def __init__(self, content):
        self.content, self.headers = content, {"content-length": str(len(content))}

    def raise_for_status(self):
        pass

    def iter_content(self, chunk_size):
        yield self.content

    def close(self):
        pass


def test_downloads_are_checked_and_fall_back_to_the_next_mirror(data_dir, monkeypatch):
    good = idx(np.arange(10, dtype=np.uint8))
    import hashlib

    source = sources.Source("mnist", "file", ("https://a/file", "https://b/file"), hashlib.sha256(good).hexdigest())
    asked = []

    def get(url, **_):
        asked.append(url)
        return Response(b"tampered" if "//a/" in url else good)

    monkeypatch.setattr(requests, "get", get)
    path = sources.locate(source)
    assert asked == ["https://a/file", "https://b/file"]
    assert path.read_bytes() == good
    assert path == data_dir / "cache" / "data" / "mnist" / "file"
    assert sources.locate(source) == path
    assert len(asked) == 2
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_no_network_and_no_files_is_one_clear_message(data_dir, monkeypatch):
    def get(url, **_):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(UserError) as caught:
        load_dataset(DataSpec(dataset="mnist"))
    message = str(caught.value)
    assert str(data_dir / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz: no connection" in message
    assert "HVAE_DATA_DIR" in message

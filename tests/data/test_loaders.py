"""The loaders of published data sets on small files of the official formats, sound and damaged."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from hvae_spec.data import registry
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.formats.idx import read_idx
from hvae_spec.errors import UserError
from hvae_spec.spec.data import DataSpec, published_counts
from tests.data.formats import NORB, characters, idx, norb, norb_images, write, write_mat, write_mnist, write_norb


def load(name):
    return load_dataset(DataSpec(dataset=name))


def failure(name, path):
    """The message of a data set that cannot be loaded; it names the file."""
    with pytest.raises(UserError) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(data_dir, suffix):
    write_mnist(data_dir, suffix)
    dataset = load("mnist")
    generator = np.random.default_rng(0)
    expected = generator.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    assert np.array_equal(dataset.train, expected.reshape(60, 784))
    assert np.array_equal(dataset.train_labels, generator.integers(0, 10, 60, dtype=np.uint8))
    assert dataset.shape == (28, 28)
    assert dataset.canonical is False
    assert image_counts(DataSpec(dataset="mnist")) == (784, 60, 20)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-5], "incomplete"),
        (lambda data: b"PK\x03\x04" + data, "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
        (lambda data: data + b"x", "more follows than the 10 bytes its header promises"),
        (lambda data: data[:4] + b"\xff" * 4 + data[8:], "incomplete, as its header promises 4294967295 bytes"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, damage, words):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(idx(np.zeros(10, np.uint8))))
    with pytest.raises(UserError, match=words) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


def test_sizes_whose_product_overflows_are_told(tmp_path):
    """2^32 x 2^32 = 0 in 64 bits, which is what follows."""
    path = tmp_path / "images"
    header = bytes([0, 0, 8, 3]) + (2**31).to_bytes(4) * 2 + (4).to_bytes(4)
    path.write_bytes(header)
    with pytest.raises(UserError, match="incomplete, as its header promises 2147483648 x 2147483648 x 4 bytes"):
        read_idx(path, 3)


@pytest.mark.parametrize(
    ("file", "array", "words"),
    [
        ("t10k-images-idx3", np.zeros((20, 32, 32), np.uint8), "images of 32 x 32 pixels; expected 28 x 28"),
        ("train-images-idx3", np.zeros((0, 28, 28), np.uint8), "holds no images"),
        ("train-labels-idx1", np.zeros(59, np.uint8), "59 labels for the 60 images of train-images-idx3-ubyte"),
        ("t10k-labels-idx1", np.full(20, 77, np.uint8), "holds the label 77; expected digits from 0 to 9"),
    ],
)
def test_idx_files_that_are_not_those_of_mnist_are_told(data_dir, file, array, words):
    write_mnist(data_dir)
    path = data_dir / "mnist" / f"{file}-ubyte"
    path.write_bytes(idx(array))
    assert words in failure("mnist", path)


def test_a_truncated_gzip_file_is_named(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((5, 28, 28), np.uint8)))[:-9])
    with pytest.raises(UserError, match="damaged or incomplete") as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_omniglot(data_dir):
    matrices, images = characters()
    write_mat(data_dir / "omniglot" / "chardata.mat", **matrices)
    dataset = load("omniglot")
    # Columns are Fortran-ordered images; rows of the data set read as images do.
    assert np.array_equal(dataset.train.reshape(-1, 28, 28), images["train"].astype(np.float32))
    assert np.array_equal(dataset.test.reshape(-1, 28, 28), images["test"].astype(np.float32))
    assert dataset.train_labels.tolist() == list(range(12))
    assert (dataset.levels, dataset.shape, dataset.canonical) == (2, (28, 28), False)
    assert image_counts(DataSpec(dataset="omniglot")) == (784, 12, 5)


def changed(**changes):
    matrices, _ = characters()
    matrices.update(changes)
    return {name: matrix for name, matrix in matrices.items() if matrix is not None}


@pytest.mark.parametrize(
    ("matrices", "words"),
    [
        (changed(testdata=None), "holds no 'testdata' (it holds data, target"),
        (changed(data=np.zeros((783, 12))), "'data' is 783 x 12; expected 784 x N"),
        (changed(data=np.full((784, 12), 255.0)), "'data' has values from 255 to 255; expected intensities in [0, 1]"),
        (changed(data=np.full((784, 12), np.nan)), "'data' has values from nan to nan"),
        (changed(target=np.zeros((50, 11))), "'target' labels 11 images, but there are 12"),
        (changed(data="images"), "'data' is"),
        (changed(data=scipy.sparse.csc_array(np.ones((784, 12)))), "'data' is no dense matrix of real numbers"),
        (changed(data=np.ones((784, 12)) * 1j), "'data' is no dense matrix of real numbers"),
        (changed(target=np.zeros((0, 12))), "'target' is not one-hot; expected 50 x N"),
        (changed(target=np.zeros((50, 12))), "'target' is not one-hot"),
        (changed(target=np.full((50, 12), np.nan)), "'target' is not one-hot"),
        (changed(target=np.ones((1, 12))), "'target' is not one-hot"),
        (changed(testtarget=2 * np.eye(50)[:, :5]), "'testtarget' is not one-hot"),
        (changed(testtarget=np.eye(50)[:, :5] + np.eye(50)[:, 5:10]), "'testtarget' is not one-hot"),
    ],
)
def test_foreign_omniglot_files_are_told(data_dir, matrices, words):
    path = data_dir / "omniglot" / "chardata.mat"
    write_mat(path, **matrices)
    assert words in failure("omniglot", path)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: b"", lambda data: b"<html>" * 99],
)
@pytest.mark.parametrize(
    ("name", "file"), [("omniglot", "omniglot/chardata.mat"), ("frey", "freyfaces/frey_rawface.mat")]
)
def test_damaged_matlab_files_are_told(data_dir, name, file, damage):
    path = data_dir / file
    write_mat(
        path, **(characters()[0] if name == "omniglot" else {"ff": norb_images(35)[:, 0, 0, :64].reshape(560, -1)})
    )
    path.write_bytes(damage(path.read_bytes()))
    assert "not a MATLAB file, or incomplete" in failure(name, path)
    # A plan goes by the published sizes; loading says what is wrong.
    assert image_counts(DataSpec(dataset=name)) == published_counts()[name]


def test_frey_faces(data_dir):
    faces = np.random.default_rng(0).integers(0, 256, (560, 12), dtype=np.uint8)
    write_mat(data_dir / "freyfaces" / "frey_rawface.mat", ff=faces)
    dataset = load("frey")
    assert np.array_equal(dataset.test, faces.T[[0, 5, 10]])
    assert np.array_equal(dataset.train, faces.T[[1, 2, 3, 4, 6, 7, 8, 9, 11]])
    assert (dataset.levels, dataset.shape, dataset.canonical) == (256, (28, 20), False)
    assert image_counts(DataSpec(dataset="frey")) == (560, 9, 3)


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        (np.zeros((20, 28), np.uint8), "'ff' is 20 x 28; expected 560 x N"),
        (np.full((560, 10), 0.5), "other values than the whole numbers from 0 to 255"),
    ],
)
def test_foreign_frey_files_are_told(data_dir, faces, words):
    path = data_dir / "freyfaces" / "frey_rawface.mat"
    write_mat(path, ff=faces)
    assert words in failure("frey", path)


def bicubic(side, size):
    """The matrix of anti-aliased bicubic interpolation (Keys 1981, a = -1/2): its rows are weights, which sum to 1."""
    scale = side / size
    centers = (np.arange(size) + 0.5) * scale - 0.5
    t = np.abs((np.arange(side) - centers[:, None]) / scale)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_norb(data_dir, suffix):
    images = write_norb(data_dir, suffix)
    dataset = load("norb")
    matrix = bicubic(96, 32)
    for part, found in (("train", dataset.train), ("test", dataset.test)):
        exact = np.clip(matrix @ images[part][:, 0].astype(float) @ matrix.T, 0, 255)
        # Pillow rounds after each axis, and clips there too.
        assert np.abs(found.reshape(-1, 32, 32) - exact).max() < 2
    assert dataset.train_labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert (dataset.levels, dataset.shape, dataset.canonical) == (256, (32, 32), False)
    assert dataset.classes[4] == "car"
    assert image_counts(DataSpec(dataset="norb")) == (1024, 10, 5)
    assert image_counts(DataSpec(dataset="norb", copies=2)) == (1024, 20, 5)


def test_norb_is_canonical_by_its_content_however_compressed(data_dir, monkeypatch):
    write_norb(data_dir, ".gz")
    genuine = []
    for source in registry.SOURCES["norb"]:
        content = gzip.decompress((data_dir / "norb" / source.name).read_bytes())
        digest = f"md5:{hashlib.md5(content).hexdigest()}"
        genuine.append(type(source)(source.dataset, source.name, source.urls, source.digest, digest))
    monkeypatch.setitem(registry.SOURCES, "norb", tuple(genuine))
    assert load("norb").canonical is True
    images = norb_images(10, 1)
    images[3, 1, 0, 0] ^= 1  # even where nobody looks
    write(data_dir / "norb" / f"{NORB['train']}-dat.mat.gz", norb(images, 0x1E3D4C55))
    assert load("norb").canonical is False


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train-dat", norb(norb_images(10), 0x1E3D4C55)[:-1], "incomplete, as its header promises 10 x 2 x 96 x 96"),
        ("train-dat", norb(norb_images(10), 0x1E3D4C55)[:6], "not a small-NORB binary matrix (magic number 1E3D4C55"),
        ("test-dat", norb(norb_images(5), 0x1E3D4C55) + b"x", "more follows than the 5 x 2 x 96 x 96"),
        ("test-dat", norb(norb_images(5), 0x553D4C1E), "it begins with 1e4c3d55"),
        ("train-dat", b"", "it begins with nothing"),
        ("train-dat", norb(np.zeros((3, 32, 32), np.uint8), 0x1E3D4C55), "expected bytes of N x 2 x 96 x 96"),
        ("train-cat", norb(np.zeros(9, "<i4"), 0x1E3D4C54), "9 categories for the 10 images"),
        ("test-cat", norb(np.zeros((5, 4), "<i4"), 0x1E3D4C54), "expected N whole numbers"),
        ("test-cat", norb(np.zeros(5, "<i4"), 0x1E3D4C54)[:-2], "incomplete"),
    ],
)
def test_damaged_norb_files_are_told(data_dir, file, content, words):
    write_norb(data_dir)
    part, kind = file.split("-")
    path = data_dir / "norb" / f"{NORB[part]}-{kind}.mat"
    path.write_bytes(content)
    assert words in failure("norb", path)


@pytest.mark.parametrize("length", [-9, 5000, 0])
def test_truncated_norb_downloads_are_told(data_dir, length):
    write_norb(data_dir, ".gz")
    path = data_dir / "norb" / f"{NORB['train']}-dat.mat.gz"
    path.write_bytes(path.read_bytes()[:length])
    words = "damaged or incomplete" if length else "not a small-NORB binary matrix"
    assert words in failure("norb", path)


@pytest.mark.real_data
def test_real_mnist_is_canonical():
    dataset = load("mnist")
    assert dataset.canonical
    assert dataset.train.shape == (60_000, 784)
    assert dataset.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "folder"), [("omniglot", "omniglot"), ("frey", "freyfaces"), ("norb", "norb")])
def test_real_files(name, folder):
    if not (Path(os.environ["HVAE_DATA_DIR"]) / folder).is_dir():
        pytest.skip(f"needs {folder}/ in HVAE_DATA_DIR")
    dataset, spec = load(name), DataSpec(dataset=name)
    assert image_counts(spec) == (dataset.pixels, len(dataset.train), len(dataset.test))
    assert np.prod(dataset.shape) == dataset.pixels
    assert dataset.train.max() <= dataset.levels - 1
    if dataset.canonical:
        assert image_counts(spec) == published_counts()[name]
    # Neighboring pixels look alike, so the pixels stand in their order: in another one this would be the root of 2.
    images = dataset.train[:500].reshape(-1, *dataset.shape).astype(float)
    for axis in (1, 2):
        steps, spread = np.diff(images, axis=axis).std(), images.std()
        assert steps < spread

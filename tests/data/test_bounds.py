"""Files that promise more than they hold, or are no files: refused before they are read."""

import gzip
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from hvae_spec.data.__main__ import main
from hvae_spec.data.counts import check_headers, image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.formats import compressed
from hvae_spec.data.formats.idx import read_idx
from hvae_spec.errors import DataError
from hvae_spec.spec.data import DataSpec, published_counts
from tests.data.formats import idx, write_mnist, write_norb
from tests.faults.fuzz_data import fuzz
from tests.faults.hostile_data import npy


def own(path):
    return DataSpec.model_validate({"dataset": "own", "own": {"name": "mine", "file": str(path), "range": [0, 255]}})


def sparse(path, content, size):
    path.write_bytes(content)
    os.truncate(path, size)
    return path


def zipped(path, content, zeros=0):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("train.npy", "w") as member,
    ):
        member.write(content)
        for _ in range(zeros):
            member.write(bytes(1_000_000))
    return path


def linked(path, target):
    path.symlink_to(target)
    return path


def pipe(path):
    os.mkfifo(path)
    return path


MANY = (40_000_000, 784)
HOSTILE = [
    (lambda p: sparse(p / "a.npy", npy(MANY), 200), "its header promises 31,360,000,000 bytes, but 72 follow"),
    (lambda p: sparse(p / "a.npy", npy(MANY), len(npy(MANY)) + 784 * 40_000_000), "unfolds into 31,360,000,128 bytes"),
    (lambda p: sparse(p / "a.npy", npy((2, 20_000_000)), 40_000_128), "20,000,000 pixels, more than the 16,000,000"),
    (lambda p: zipped(p / "a.npz", npy(MANY)), "its header promises 31,360,000,000 bytes, but 0 follow"),
    (lambda p: zipped(p / "a.npz", npy((300_000, 1000)), zeros=300), "unfolds into 300,000,128 bytes, but at most"),
    (lambda p: linked(p / "a.npz", "/dev/zero"), "expected a file, but it is a device"),
    (lambda p: linked(p / "a.npy", "/dev/zero"), "expected a file, but it is a device"),
    (lambda p: pipe(p / "a.npy"), "expected a file, but it is a pipe"),
    (lambda p: pipe(p / "a.npz"), "expected a file, but it is a pipe"),
]


@pytest.mark.parametrize(("make", "words"), HOSTILE)
def test_arrays_that_cannot_be_held_are_refused(tmp_path, make, words):
    path = make(tmp_path)
    for use in (image_counts, load_dataset):
        with pytest.raises(DataError) as caught:
            use(own(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)


def test_more_bytes_than_an_array_promises_are_told(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10, 4), np.uint8))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="its header promises 40 bytes, but 41 follow"):
        load_dataset(own(path))


@pytest.mark.parametrize("name", ["val", "Test", "validation_labels", "test_images"])
def test_arrays_that_could_be_a_part_are_refused_and_others_are_named(tmp_path, name):
    images = np.zeros((10, 4), np.uint8)
    np.savez(tmp_path / "a.npz", train=images, names=np.arange(3))
    assert load_dataset(own(tmp_path / "a.npz")).found[1] == "passed over: names"
    np.savez(tmp_path / "a.npz", train=images, **{name: images})
    with pytest.raises(
        DataError, match=rf"'{name}' is no name of an array that is read; expected train, test, train_labels"
    ):
        load_dataset(own(tmp_path / "a.npz"))


@pytest.mark.parametrize("second", ["train.npy", "train"])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_arrays_of_one_name_are_refused(tmp_path, second):
    np.save(tmp_path / "a.npy", np.zeros((10, 4), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("train.npy", second):
            archive.write(tmp_path / "a.npy", name)
    for use in (image_counts, load_dataset):
        with pytest.raises(DataError, match=r"a\.npz: holds more than one array 'train'"):
            use(own(tmp_path / "a.npz"))


def test_an_array_whose_name_was_damaged_is_not_passed_over(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train=np.zeros((10, 4), np.uint8), test=np.ones((2, 4), np.uint8))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"test.npy")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a \.npz file of numbers, or incomplete \(File name in directory"):
        load_dataset(own(path))


def test_whole_numbers_of_8_bits_stay_so_in_memory(tmp_path):
    """Half of the images are kept for training and half for tests: no array is needed beside the two."""
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train=images, test=images)
    tracemalloc.start()
    dataset = load_dataset(own(tmp_path / "a.npz"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.train.dtype == np.uint8
    assert peak < 1.3 * 2 * images.nbytes


HUGE_IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 40_000_000, 28, 28)
HUGE_NORB = struct.pack("<Ii4i", 0x1E3D4C55, 4, 1_700_000, 2, 96, 96)


@pytest.mark.parametrize(
    ("dataset", "file", "content", "words"),
    [
        ("mnist", "train-images-idx3-ubyte", HUGE_IDX, "its header promises 40000000 x 28 x 28 bytes, more than any"),
        (
            "norb",
            "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat",
            HUGE_NORB,
            "promises 1700000 x 2 x 96 x 96 numbers",
        ),
        ("mnist", "train-images-idx3-ubyte", None, "expected a file, but it is a pipe"),
    ],
)
def test_published_files_that_cannot_be_held_are_refused_wherever_they_are_used(
    data_dir, capsys, dataset, file, content, words
):
    write_mnist(data_dir)
    write_norb(data_dir)
    path = data_dir / dataset / file
    path.unlink()
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    for use in (lambda: check_headers(dataset), lambda: load_dataset(DataSpec(dataset=dataset))):
        with pytest.raises(DataError) as caught:
            use()
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)
    assert main(["fetch", dataset]) == 2
    assert words in capsys.readouterr().err
    # What a model needs of them is known all the same.
    assert image_counts(DataSpec(dataset=dataset)) == published_counts()[dataset]


def test_a_file_larger_than_any_published_one_is_not_read(tmp_path):
    path = sparse(tmp_path / "images", idx(np.zeros((2, 28, 28), np.uint8)), 30 << 30)
    with pytest.raises(DataError, match="32,212,254,720 bytes, more than any published file has"):
        read_idx(path, 3)


def test_a_compressed_file_is_not_unfolded_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "LARGEST_PUBLISHED", 1000)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes(1001)))
    with compressed.opened(path) as stream:
        assert stream.read(1000) == bytes(1000)
        with pytest.raises(DataError, match="unfolds into more than 1,000 bytes, which no published file does"):
            stream.read(1000)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_damaged_files_of_every_format_are_refused_or_read_right(tmp_path, monkeypatch):
    """A sample of `python -m tests.faults.fuzz_data`."""
    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path))
    outcome = fuzz(tmp_path, trials=36, seed=1)
    assert (outcome.trials, outcome.lost) == (36, 0)

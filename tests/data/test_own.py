"""A user's own images: arrays and folders, their counts before they are read, and what can be wrong with them."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.own import in_both
from hvae_spec.errors import DataError, SpecError, UserError
from hvae_spec.evaluate.member import data_state
from hvae_spec.reading import loads
from hvae_spec.spec.data import DataSpec

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)


def own(path, limits=(0, 255), **more):
    return DataSpec.model_validate(
        {"dataset": "own", "own": {"name": "mine", "file": str(path), "range": list(limits), **more}}
    )


def loaded(spec):
    """The data set, whose counts the plan knew."""
    dataset = load_dataset(spec)
    assert image_counts(spec) == (dataset.pixels, len(dataset.train), len(dataset.test))
    assert image_pixels(spec) == dataset.pixels
    assert len(dataset.train_labels) == len(dataset.train)
    assert len(dataset.test_labels) == len(dataset.test)
    assert (dataset.name, dataset.canonical) == ("mine", None)
    return dataset


def test_npz_with_a_test_set_and_classes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train=GRAY[:9], test=GRAY[9:], train_labels=np.arange(9), test_labels=np.arange(3))
    dataset = loaded(own(path))
    assert np.array_equal(dataset.train, GRAY[:9].reshape(9, 20))
    assert np.array_equal(dataset.test, GRAY[9:].reshape(3, 20))
    assert dataset.train_labels.tolist() == list(range(9))
    assert (dataset.levels, dataset.shape) == (256, (5, 4))
    assert data_state(dataset, 0).classes == {}  # numbers are their own names


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_without_a_test_set_every_fifth_image_is_one(tmp_path, name):
    path = tmp_path / name
    if name == "a.npz":
        np.savez(path, train=GRAY)
    else:
        np.save(path, GRAY)
    dataset = loaded(own(path))
    assert np.array_equal(dataset.test, GRAY[[0, 5, 10]].reshape(3, 20))
    assert np.array_equal(dataset.train, np.delete(GRAY, [0, 5, 10], axis=0).reshape(9, 20))


def test_whole_numbers_are_levels_and_fractions_are_intensities(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, RNG.integers(-3, 5, (10, 9)))
    dataset = loaded(own(path, (-3, 4)))
    assert (dataset.levels, dataset.shape, dataset.train.dtype) == (8, (3, 3), np.uint8)
    assert np.array_equal(dataset.test, np.load(path)[::5] + 3)
    np.save(path, RNG.integers(0, 1000, (10, 9)))
    assert np.array_equal(loaded(own(path, (0, 4095))).test, np.load(path)[::5])
    values = RNG.uniform(-1, 1, (10, 9))
    np.save(path, values)
    dataset = loaded(own(path, (-1, 1)))
    assert (dataset.levels, dataset.train.dtype) == (2, np.float32)
    assert dataset.test == pytest.approx((values[::5] + 1) / 2, abs=1e-7)
    np.save(path, values > 0)
    assert loaded(own(path, (0, 1))).levels == 2


def test_a_shape_folds_flat_images(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, GRAY.reshape(12, 20))
    assert loaded(own(path)).shape == (1, 20)
    spec = own(path, shape=[5, 4])
    assert loaded(spec).shape == (5, 4)
    path.unlink()
    assert image_pixels(spec) == 20
    np.save(path, GRAY.reshape(12, 20))
    with pytest.raises(UserError, match=r"20 pixels, not the 3 x 4"):
        load_dataset(own(path, shape=[3, 4]))
    np.save(path, GRAY)
    with pytest.raises(UserError, match=r"5 x 4 pixels, not the 4 x 5 of data.own.shape"):
        load_dataset(own(path, shape=[4, 5]))


def stored(path, values, **more):
    np.savez(path, train=values, **more)
    return path


FLOATS = RNG.random((10, 9)).astype(np.float32)
WHOLE = RNG.integers(0, 256, (10, 9))


@pytest.mark.parametrize("limits", [(0, 255), (0, 2), (0, 1000.5), (-1, 1)])
def test_fractions_up_to_1_in_a_wide_range_are_refused(tmp_path, limits):
    for values in (FLOATS, FLOATS + 5e-7, FLOATS.astype(np.float16), np.round(FLOATS)):
        with pytest.raises(DataError, match=r"all nearly the same gray within .* write range: \[0, 1\]"):
            load_dataset(own(stored(tmp_path / "a.npz", values), limits))
    with pytest.raises(DataError, match=r"'test' has fractions from"):
        load_dataset(own(stored(tmp_path / "a.npz", 200 * FLOATS + 1, test=FLOATS), limits=(0, 1000)))


@pytest.mark.parametrize(
    ("values", "limits"),
    [(FLOATS, (0, 1)), (FLOATS, (0, 1.9)), (FLOATS * 1.001 / FLOATS.max(), (0, 2)), (2 * FLOATS - 1, (-1, 1))],
)
def test_fractions_that_their_range_is_for_are_intensities(tmp_path, values, limits):
    dataset = loaded(own(stored(tmp_path / "a.npz", values), limits))
    low, high = limits
    assert dataset.test == pytest.approx((values[::5] - low) / (high - low), abs=1e-6)
    assert (dataset.levels, dataset.train.dtype) == (2, np.float32)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-3, 300)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_whole_numbers_stored_as_floats_are_gray_levels(tmp_path, kind, low, high):
    dataset = loaded(own(stored(tmp_path / "a.npz", WHOLE.astype(kind)), (low, high)))
    whole = loaded(own(stored(tmp_path / "b.npz", WHOLE), (low, high)))
    assert dataset.levels == whole.levels == high - low + 1
    assert dataset.train.dtype == whole.train.dtype
    assert np.array_equal(dataset.train, np.delete(WHOLE, [0, 5], axis=0) - low)
    assert (dataset.train_sha256, dataset.test_sha256) == (whole.train_sha256, whole.test_sha256)
    assert dataset.found[-1] == f"values: floats that are all whole, so they are the gray levels {low}, ..., {high}"
    assert not [line for line in whole.found if "floats" in line]


def test_they_are_not_where_one_part_is_not_whole_or_the_range_is_not(tmp_path):
    whole = WHOLE.astype(np.float32)
    dataset = load_dataset(own(stored(tmp_path / "a.npz", whole, test=whole + np.float32(0.5)), (0, 256)))
    assert (dataset.levels, dataset.train.dtype) == (2, np.float32)
    assert dataset.test == pytest.approx((whole + 0.5) / 256)
    dataset = load_dataset(own(stored(tmp_path / "a.npz", whole), (0, 255.5)))
    assert dataset.test == pytest.approx(whole[::5] / 255.5)
    assert load_dataset(own(stored(tmp_path / "a.npz", whole, test=WHOLE), (0, 255))).levels == 256
    with pytest.raises(DataError, match="'train' and 'test' are not both whole numbers, or not both fractions"):
        load_dataset(own(stored(tmp_path / "a.npz", WHOLE, test=whole + np.float32(0.5)), (0, 256)))


def test_values_of_less_than_half_the_range_are_told_not_refused(tmp_path):
    dataset = load_dataset(own(stored(tmp_path / "a.npz", WHOLE % 17), (0, 255)))
    assert dataset.found[-1] == "values: from 0 to 16, less than half of data.own.range, [0, 255]"
    assert np.array_equal(dataset.test, WHOLE[::5] % 17)
    assert not [line for line in load_dataset(own(stored(tmp_path / "a.npz", WHOLE), (0, 255))).found if "half" in line]


def test_test_images_that_stand_in_the_training_set_are_counted(tmp_path):
    images = GRAY.reshape(12, 20)
    for order in ("C", "F"):
        path = stored(tmp_path / "a.npz", np.asarray(images[:9], order=order), test=images[[3, 3, 10, 8]])
        assert in_both(load_dataset(own(path))) == 3
    assert in_both(load_dataset(own(stored(tmp_path / "a.npz", images)))) == 0


@pytest.mark.parametrize(("low", "kind"), [(0, np.uint8), (0, np.int64), (-7, np.int16)])
def test_many_images_are_scaled_as_few_are(tmp_path, monkeypatch, low, kind):
    """Rows at a time, whether whole numbers or fractions."""
    whole = (RNG.integers(0, 200, (50, 9)) + low).astype(kind)
    for values in (whole, whole + 0.25):
        path = stored(tmp_path / "a.npz", values)
        dataset = load_dataset(own(path, (low, low + 255)))
        monkeypatch.setattr("hvae_spec.data.own.AT_ONCE", 20)
        again = load_dataset(own(path, (low, low + 255)))
        monkeypatch.undo()
        assert (dataset.train_sha256, dataset.test_sha256) == (again.train_sha256, again.test_sha256)
    assert dataset.test == pytest.approx((whole[::5] + 0.25 - low) / 255)


def pictures(folder, images, mode=None, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        picture = Image.fromarray(image)
        (picture.convert(mode) if mode else picture).save(folder / f"{number:02d}{suffix}")


@pytest.mark.parametrize("mode", [None, "RGB"])
def test_a_folder_of_images(tmp_path, mode):
    pictures(tmp_path / "all", GRAY, mode)
    (tmp_path / "all" / "notes.txt").write_text("not an image")
    dataset = loaded(own(tmp_path / "all"))
    assert np.array_equal(dataset.test, GRAY[[0, 5, 10]].reshape(3, 20))
    assert (dataset.levels, dataset.shape) == (256, (5, 4))


def test_folders_of_classes_and_of_a_test_set(tmp_path):
    pictures(tmp_path / "d" / "train" / "cats", GRAY[:3])
    pictures(tmp_path / "d" / "train" / "dogs", GRAY[3:7])
    pictures(tmp_path / "d" / "test" / "dogs", GRAY[7:])
    spec = own(tmp_path / "d")
    dataset = loaded(spec)
    assert np.array_equal(dataset.train, GRAY[:7].reshape(7, 20))
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert dataset.test_labels.tolist() == [1] * 5
    assert data_state(dataset, 0).classes == {"0": "cats", "1": "dogs"}
    # One more image is counted.
    pictures(tmp_path / "d" / "train" / "dogs", GRAY[3:8])
    os.utime(tmp_path / "d" / "train" / "dogs", (1e9, 1e9))  # some file systems know the time to a second only
    assert image_counts(spec).train == 8
    again = load_dataset(spec)
    assert again.train_sha256 != dataset.train_sha256
    assert again.test_sha256 == dataset.test_sha256


def test_validation_images_are_spread_over_the_classes(tmp_path):
    images = RNG.integers(0, 256, (90, 5, 4), dtype=np.uint8)
    for name, part in zip(("a", "b", "c"), images.reshape(3, 30, 5, 4), strict=True):
        pictures(tmp_path / "d" / "train" / name, part)
    pictures(tmp_path / "d" / "test" / "a", GRAY)
    whole = load_dataset(own(tmp_path / "d"))
    spec = own(tmp_path / "d").model_copy(update={"validation": 30})
    dataset = load_dataset(spec)
    assert image_counts(spec).train == len(dataset.train) == 60
    assert np.array_equal(dataset.validation, whole.train[2::3])
    assert np.bincount(dataset.train_labels).tolist() == [20, 20, 20]
    assert np.array_equal(np.delete(whole.train, np.s_[2::3], axis=0), dataset.train)


def arrays(path, **named):
    np.savez(path, **named)
    return path


FAULTS = [
    (lambda p: p / "none.npz", (0, 255), "no such file or folder"),
    (lambda p: arrays(p / "a.npz", images=GRAY), (0, 255), "holds no array 'train' (it holds images)"),
    (lambda p: arrays(p / "a.npz", train=GRAY, test=GRAY[:, :, :2]), (0, 255), "images of 5 x 4 in 'train'"),
    (lambda p: arrays(p / "a.npz", train=GRAY[0, 0]), (0, 255), "'train' has the shape [4]; expected [N, D]"),
    (lambda p: arrays(p / "a.npz", train=GRAY[None]), (0, 255), "'train' has the shape [1, 12, 5, 4]"),
    (lambda p: arrays(p / "a.npz", train=GRAY[:0]), (0, 255), "'train' has the shape [0, 5, 4]"),
    (lambda p: arrays(p / "a.npz", train=np.array([["a"]])), (0, 255), "expected numbers"),
    (lambda p: arrays(p / "a.npz", train=np.array([[None]])), (0, 255), "not a .npz file of numbers"),
    (lambda p: arrays(p / "a.npz", train=GRAY), (0, 9), "data.own.range promises 0 to 9"),
    (lambda p: arrays(p / "a.npz", train=GRAY / 0.0), (0, 9), "data.own.range promises 0 to 9"),
    (lambda p: arrays(p / "a.npz", train=GRAY), (0, 255.5), "must be two whole numbers"),
    (lambda p: arrays(p / "a.npz", train=GRAY, test=GRAY / 2), (0, 255), "not both whole numbers"),
    (lambda p: arrays(p / "a.npz", train=GRAY[:, 0], test=GRAY[:, 0] / 2), (0, 255), "not both whole numbers"),
    (lambda p: arrays(p / "a.npz", train=GRAY, train_labels=np.arange(3)), (0, 255), "'train_labels' must be 12"),
    (
        lambda p: arrays(p / "a.npz", train=GRAY, test=GRAY, train_labels=np.arange(12)),
        (0, 255),
        "holds 'train_labels', but 'test' is without labels; add 'test_labels'",
    ),
    (
        lambda p: arrays(p / "a.npz", train=GRAY, test=GRAY, test_labels=np.arange(12)),
        (0, 255),
        "holds 'test_labels', but 'train' is without labels; add 'train_labels'",
    ),
    (
        lambda p: arrays(p / "a.npz", train=GRAY, train_labels=np.arange(12), test_labels=np.arange(12)),
        (0, 255),
        "holds 'test_labels', but no 'test' that they belong to",
    ),
    (lambda p: (p / "a.npz").write_bytes(b"PK" * 9) and p / "a.npz", (0, 255), "not a .npz file"),
    (lambda p: ((p / "a.npy").write_bytes(b"") and None) or p / "a.npy", (0, 255), "not a .npy file"),
    (lambda p: (p / "a.csv").write_text("1,2") and p / "a.csv", (0, 255), "expected a .npz or .npy file, or a folder"),
    (lambda p: p, (0, 255), "no images in it"),
    (lambda p: pictures(p, [GRAY[0], GRAY[1].T]) or p, (0, 255), "4 x 5 pixels, but the images before it have 5 x 4"),
    (lambda p: pictures(p, [GRAY[0].astype(np.uint16)]) or p, (0, 255), "more than 8 bits per pixel"),
    (lambda p: (p / "a.png").write_bytes(b"x") and p, (0, 255), "not an image, or damaged"),
]


@pytest.mark.parametrize(("make", "limits", "words"), FAULTS, ids=[row[2] for row in FAULTS])
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_wrong_is_told_with_the_file(data_dir, make, limits, words):
    path = make(data_dir)
    with pytest.raises(UserError) as caught:
        load_dataset(own(path, limits))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_truncated_array_is_told(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, GRAY)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"not a \.npy file of numbers, or incomplete"):
        load_dataset(own(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_no_damaged_byte_of_a_header_is_a_traceback(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    stored = tmp_path / "stored.npy"
    np.save(stored, GRAY)
    sound, told = stored.read_bytes(), 0
    for place in range(128):
        for value in (0, ord("("), ord("'"), ord("9"), 255):
            damaged = sound[:place] + bytes([value]) + sound[place + 1 :]
            if suffix == ".npy":
                path.write_bytes(damaged)
            else:
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr("train.npy", damaged)
            try:
                load_dataset(own(path))
            except UserError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017
                told += 1
    assert told > 100


def test_images_that_were_moved_are_found_by_name(data_dir):
    np.save(data_dir / "a.npy", GRAY)
    assert loaded(own("/gone/to/elsewhere/a.npy")).pixels == 20


SPEC = """\
name: small
data: {{dataset: own, {own}}}
model: {{layers: [{{units: 2, mlp: [4, 4]}}]}}
training: {{epochs: 1, batch_size: 3}}
"""


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("redraw: once", "dataset: own says nothing of which images", 17),
        ("own: {{name: mnist, file: {file}, range: [0, 255]}}", "mnist is the name of another data set", None),
        ("own: {{name: a, file: {file}, range: [1, 1]}}", "a range from 1 to 1 holds no values", None),
        ("own: {{name: a, file: {file}x, range: [0, 1]}}", "no such file or folder", None),
        ("own: {{name: a b, file: {file}, range: [0, 1]}}", "data.own.name: the text 'a b' is not valid", None),
        ("own: {{name: a, range: [0, 1]}}", "data.own.file is missing", None),
        ("own: {{name: a, file: {file}}}", "data.own.range is missing", None),
        ("own: {{name: a, file: {file}, range: [0]}}", "data.own.range.1 is missing", None),
        ("own: {{name: a, file: {one}, range: [0, 255]}}", "a has no training images (0 training and 1 test", 43),
        (
            "train_images: 10, own: {{name: a, file: {file}, range: [0, 255]}}",
            "train_images is 10, but a has only 9",
            None,
        ),
    ],
)
def test_a_spec_that_makes_no_sense_is_told_before_anything_runs(tmp_path, text, message, column):
    np.save(tmp_path / "a.npy", GRAY)
    np.save(tmp_path / "one.npy", GRAY[:1])
    with pytest.raises(SpecError) as caught:
        loads(SPEC.format(own=text.format(file=tmp_path / "a.npy", one=tmp_path / "one.npy")))
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.place.line == 2
    assert column in (None, problem.place.column)

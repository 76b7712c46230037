from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.datasets import load_digits

from hvae_spec.data.batches import DRAWN_TOGETHER, Batches, draw_once
from hvae_spec.data.counts import available_counts, image_counts
from hvae_spec.data.dataset import LOADERS, load_dataset
from hvae_spec.data.draw import binarize, dequantize
from hvae_spec.data.images import RawImages
from hvae_spec.errors import DataError
from hvae_spec.evaluate.member import data_state
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.dataset import DATASETS, INTENSITIES
from hvae_spec.spec.choices.observation import OBSERVATIONS, X
from hvae_spec.spec.data import DataSpec


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
    assert image_counts(DataSpec(dataset="digits")) == (64, 1437, 360)
    limited = load_dataset(DataSpec(dataset="digits", train_images=50, test_images=9))
    assert np.array_equal(limited.train, digits.train[:50])
    assert np.array_equal(limited.test_labels, digits.test_labels[:9])
    assert (limited.train_sha256, limited.test_sha256) == (digits.train_sha256, digits.test_sha256)


def test_digits_are_those_that_scikit_learn_loads(digits):
    images, classes = load_digits(return_X_y=True)
    assert np.array_equal(np.concatenate([images[1:5], images[6:10]]), digits.train[:8])
    assert np.array_equal(images[::5], digits.test)
    assert np.array_equal(classes[::5], digits.test_labels)
    assert (digits.train.dtype, digits.test_labels.dtype) == (np.uint8, np.int64)


def test_binarization_has_the_gray_values_as_probabilities():
    values = torch.tensor([0, 4, 8, 16], dtype=torch.uint8).expand(40_000, 4)
    uniform = torch.rand(values.shape, generator=torch.Generator().manual_seed(0))
    x = binarize(values, 16, uniform)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean(0).tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=0.01)
    assert x[:, 0].max() == 0
    assert x[:, 3].min() == 1


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("grey_divisor", ["largest", "levels"])
@pytest.mark.parametrize("rescaled_by", ["levels", "training_maximum"])
def test_every_x_is_made_of_gray_values_as_its_kind_says(digits, observation, grey_divisor, rescaled_by):
    """With levels 0 ... 16, of which the training images have 0 ... 12."""
    train, test = (np.full((20_000, 3), values, dtype=np.uint8) for values in ([0, 5, 12], [0, 5, 16]))
    gray = replace(digits, train=train, test=test, grey_divisor=grey_divisor, rescaled_by=rescaled_by)
    x, kind = draw_once(gray, "test", observation), OBSERVATIONS[observation].x
    values = torch.tensor([0.0, 5.0, 16.0])
    expected = {
        X.BINARY: values / (16 if grey_divisor == "largest" else 17),
        X.GRAY: values / 16,
        X.UNIT: (values + 0.5) / 17,
        X.REAL: (values + 0.5) / (17 if rescaled_by == "levels" else 13),
    }[kind]
    # Five standard errors of a mean of numbers that are at most 1 apart.
    torch.testing.assert_close(x.mean(0), expected, rtol=0, atol=5 * 0.5 / 20_000**0.5)
    if kind in (X.BINARY, X.GRAY):
        assert set(x.unique().tolist()) == ({0.0, 1.0} if kind is X.BINARY else {0.0, 5 / 16, 1.0})
    else:
        assert (x.amax(0) - x.amin(0)).min() > 0.9 / 17
    assert kind is X.REAL or (x.min() >= 0 and x.max() <= 1)
    # Training has the same x; what is drawn again has other noise, and gray levels are what they are.
    first, second = (
        next(iter(batches(gray, observation=observation, batch_size=20_000).epoch(Streams([0]).begin("training", at))))
        for at in (1, 2)
    )
    assert torch.equal(first, second) is (kind is X.GRAY)
    torch.testing.assert_close(first[0].mean(0)[:2], expected[:2], rtol=0, atol=5 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize("redraw", ["every_epoch", "once"])
def test_gray_levels_take_a_byte_each_and_no_noise(digits, redraw):
    parts = batches(digits, observation="discretized_logistic", redraw=redraw, batch_size=1437)
    assert parts.images.dtype == torch.uint8
    streams = Streams([0]).begin("training", 1)
    order = Streams([0]).begin("training", 1).permutations(1437)[0]
    (x,) = parts.epoch(streams)
    assert torch.equal(x[0], torch.tensor(digits.train)[order] / 16)


def test_intensities_are_no_gray_levels(digits):
    intensities = replace(digits, train=(digits.train / 16).astype(np.float32), levels=2)
    message = "digits: its pixels are intensities without levels, and a discretized_logistic observation is a model of"
    with pytest.raises(DataError, match=message):
        batches(intensities, observation="discretized_logistic")
    with pytest.raises(DataError, match=message):
        draw_once(intensities, "test", "discretized_logistic")


@pytest.mark.parametrize(("grey_divisor", "divisor"), [("largest", 16), ("levels", 17)])
@pytest.mark.parametrize("redraw", ["every_epoch", "once"])
def test_gray_over_its_divisor_is_the_probability_of_a_one(digits, grey_divisor, divisor, redraw):
    values = np.full((40_000, 4), [0, 4, 8, 16], dtype=np.uint8)
    gray = replace(digits, train=values, test=values, grey_divisor=grey_divisor)
    parts = batches(gray, batch_size=40_000, redraw=redraw)
    expected = [0, 4 / divisor, 8 / divisor, 16 / divisor]
    for x in (*parts.epoch(Streams([5]).begin("training", 1)), draw_once(gray, "test", "bernoulli")):
        assert x.reshape(-1, 4).mean(0).tolist() == pytest.approx(expected, abs=5 * 0.5 / 200)


@pytest.mark.parametrize(("rescaled_by", "width"), [("levels", 17), ("training_maximum", 13)])
@pytest.mark.parametrize("redraw", ["every_epoch", "once"])
def test_dequantized_gray_is_divided_by_the_levels_or_by_what_it_stays_below_in_training(
    digits, rescaled_by, width, redraw
):
    train = np.full((4, 3), [0, 5, 12], dtype=np.uint8)
    gray = replace(digits, train=train, test=train + 4, rescaled_by=rescaled_by)
    parts = batches(gray, batch_size=4, redraw=redraw, observation="gaussian")
    (x,) = parts.epoch(Streams([5]).begin("training", 1))
    for drawn, values in ((x[0], train), (draw_once(gray, "test", "gaussian"), train + 4)):
        noise = drawn.double() * width - torch.from_numpy(values)
        assert noise.min() >= 0
        assert noise.max() < 1 + 1e-5
        assert noise.unique().numel() == noise.numel()


def test_a_record_says_the_largest_gray_value_of_the_training_images_in_use(digits):
    train = np.full((4, 64), 12, dtype=np.uint8)
    assert data_state(replace(digits, train=train), 0).training_maximum == 12
    assert data_state(replace(digits, train=train / 16, levels=INTENSITIES), 0).training_maximum is None


def test_intensities_are_probabilities_whatever_the_divisor(digits):
    values = np.full((40_000, 2), [0.25, 1.0], dtype=np.float32)
    x = draw_once(replace(digits, test=values, levels=2, grey_divisor="levels"), "test", "bernoulli")
    assert x.mean(0).tolist() == pytest.approx([0.25, 1], abs=5 * 0.5 / 200)
    assert x[:, 1].min() == 1


def test_every_binarized_draw_of_training_has_the_gray_values_as_probabilities(digits):
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 768)
    gray = replace(digits, train=values.repeat(4000, 0), levels=256)
    parts = batches(gray, batch_size=4000)
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


def test_dequantization_is_uniform_within_a_gray_level():
    values = torch.arange(256, dtype=torch.uint8).expand(2000, 256)
    x = dequantize(values, 256, torch.rand(values.shape, generator=torch.Generator().manual_seed(0)))
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


def test_intensities_are_probabilities_or_values_as_they_are():
    p = torch.tensor([0, 0.001, 0.35, 1]).expand(100_000, 4)
    x = binarize(p, 1, torch.rand(p.shape, generator=torch.Generator().manual_seed(0)))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean(0).tolist() == pytest.approx([0, 0.001, 0.35, 1], abs=0.005)
    assert torch.equal(dequantize(p, 2, torch.rand(p.shape)), p)


def test_training_binarizes_intensities_exactly(digits):
    p = np.linspace(0, 1, 101, dtype=np.float32)
    parts = batches(replace(digits, train=np.tile(p, (4000, 1)), levels=2), batch_size=4000)
    (x,) = parts.epoch(Streams([5]).begin("training", 1))
    means, sd = x[0].mean(0), np.sqrt(p * (1 - p) / 4000)
    assert (abs(means.numpy() - p) <= 5 * sd).all()


def test_copies_stand_in_the_training_set_and_are_drawn_apart(digits):
    twice = load_dataset(DataSpec(dataset="digits", copies=2))
    assert image_counts(DataSpec(dataset="digits", copies=2)) == (64, 2 * 1437, 360)
    assert np.array_equal(twice.train, np.concatenate([digits.train, digits.train]))
    assert np.array_equal(twice.train_labels, np.concatenate([digits.train_labels] * 2))
    assert np.array_equal(twice.test, digits.test)
    assert np.array_equal(twice.test_labels, digits.test_labels)
    assert (twice.train_sha256, twice.test_sha256) == (digits.train_sha256, digits.test_sha256)
    first, second = draw_once(twice, "train", "gaussian").split(1437)
    assert torch.equal((first * 17).floor(), (second * 17).floor())
    assert not torch.equal(first, second)
    few = DataSpec(dataset="digits", copies=2, train_images=1500)
    assert image_counts(few)[1] == len(load_dataset(few).train) == 1500


@pytest.mark.parametrize(
    ("fields", "distinct"),
    [
        ({}, 1437),
        ({"copies": 3}, 1437),
        ({"copies": 3, "train_images": 2000}, 1437),
        ({"copies": 3, "train_images": 500}, 500),
        ({"copies": 2, "validation": 100, "train_images": 2000}, 1337),
    ],
)
def test_how_many_training_images_are_different_ones_and_that_these_come_first(digits, fields, distinct):
    spec = DataSpec(dataset="digits", **fields)
    dataset = load_dataset(spec)
    assert spec.distinct(len(dataset.train), available_counts(spec)) == dataset.distinct == distinct
    assert len(np.unique(dataset.train[:distinct], axis=0)) == len(np.unique(dataset.train, axis=0)) == distinct


def test_the_last_training_images_are_the_validation_set_before_copies_and_limits(digits):
    spec = DataSpec(dataset="digits", validation=100, copies=2, train_images=2000)
    found = load_dataset(spec)
    assert image_counts(spec) == found.counts == (64, 2000, 360)
    assert image_counts(spec.model_copy(update={"train_images": None})).train == 2 * 1337
    assert np.array_equal(found.validation, digits.train[-100:])
    assert np.array_equal(found.train, np.concatenate([digits.train[:-100]] * 2)[:2000])
    assert np.array_equal(found.train_labels, np.concatenate([digits.train_labels[:-100]] * 2)[:2000])
    assert (found.train_sha256, found.test_sha256) == (digits.train_sha256, digits.test_sha256)
    # What batch-norm statistics are computed from holds none of them.
    assert len(batches(found).images) == 2000
    x = draw_once(found, "validation", "bernoulli")
    assert torch.equal(x, draw_once(replace(found, train=digits.train[:9]), "validation", "bernoulli"))
    assert not torch.equal(x, draw_once(replace(digits, test=found.validation), "test", "bernoulli"))
    assert digits.validation is None


def test_a_validation_set_of_the_distributor_leaves_all_training_images(digits, monkeypatch):
    raw = {field.name: getattr(digits, field.name) for field in fields(RawImages)}
    own = RawImages(**{**raw, "validation": digits.test[:50]})
    monkeypatch.setitem(LOADERS._items, "digits", lambda: own)
    monkeypatch.setitem(DATASETS._items, "digits", replace(DATASETS["digits"], mixed_with=50))
    found, spec = load_dataset(DataSpec(dataset="digits", validation=20)), DataSpec(dataset="digits", validation=20)
    assert np.array_equal(found.validation, digits.test[30:50])
    assert np.array_equal(found.train, digits.train)
    assert image_counts(spec).train == 1437
    assert len(load_dataset(DataSpec(dataset="digits")).validation) == 50  # there, and not in use
    with pytest.raises(DataError, match="validation is 51, but there are only 50 images"):
        load_dataset(DataSpec(dataset="digits", validation=51))


def test_a_validation_set_that_leaves_no_training_images_is_refused():
    assert len(load_dataset(DataSpec(dataset="digits", validation=1436)).train) == 1
    with pytest.raises(DataError, match="validation is 1,437, which leaves none of the 1,437 training images"):
        load_dataset(DataSpec(dataset="digits", validation=1437))


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
def test_batches_drawn_together_visit_the_same_images_in_the_same_order(digits, monkeypatch, last_batch):
    parts = batches(digits, observation="gaussian", batch_size=100, last_batch=last_batch)
    alone = list(parts.epoch(Streams([0, 1]).begin("training", 1)))
    monkeypatch.setitem(DRAWN_TOGETHER, "cpu", 4)
    together = list(parts.epoch(Streams([0, 1]).begin("training", 1)))
    assert len(together) == parts.steps
    for one, other in zip(alone, together, strict=True):
        assert torch.equal((one * 17).floor(), (other * 17).floor())

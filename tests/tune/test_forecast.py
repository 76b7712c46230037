"""Forecasts: sums that can be done by hand, and what planning makes of them."""

import pytest

from hvae_spec.data.counts import image_counts
from hvae_spec.spec.cost import mappings, parameters, steps_per_epoch, training_macs
from tests.members import member
from tests.tune.measured import Measured, measurement
from tune.measure.cache import save_measurement
from tune.plan.forecast import NOMINAL_FLOPS, START_UP, Forecaster, Measurable

SPEC = {"training__epochs": 10, "evaluation__every": 4, "evaluation__curve_iw_samples": 7}


def test_a_measured_pack_takes_what_its_parts_take():
    spec = member(**SPEC)  # 320 training images, 24 test images, batches of 32, K = 20
    found = measurement({1: 9.0, 4: 5.0}, samples_per_second=48.0, epoch=0.5, compiling=30.0, gib=2.0)
    forecast = Measured(found).pack(spec, 4, 1, compiled=False)
    assert forecast.training == pytest.approx(10 * (10 * 4 * 0.005 + 4 * 0.5))
    assert forecast.evaluation == pytest.approx(4 * 24 * (20 + 2 * 7) / 48)  # after epochs 4 and 8, and at the end
    again = member(**SPEC, evaluation__redraws={"draws": 3, "images": 8})
    redrawn = Measured(found).pack(again, 4, 1, compiled=False)
    assert redrawn.evaluation == pytest.approx(4 * (24 * (20 + 2 * 7) + 3 * 8 * 20) / 48)
    nominal = [Forecaster("cpu").pack(one, 4, 1, compiled=False).evaluation for one in (spec, again)]
    assert nominal[1] / nominal[0] == pytest.approx(redrawn.evaluation / forecast.evaluation)
    assert forecast.overhead == START_UP
    assert forecast.seconds == forecast.training + forecast.evaluation + forecast.overhead
    assert (forecast.bytes, forecast.measured, forecast.ms_per_member_step) == (8 * 2**30, True, 5.0)
    assert Measured(found).pack(spec, 4, 1, compiled=True).overhead == START_UP + 30
    assert Measured(found).pack(spec, 8, 1, compiled=False).bytes == 16 * 2**30


def test_an_unmeasured_pack_takes_what_its_multiply_adds_take_and_less_a_member_the_larger_it_is():
    spec = member(training__epochs=1000)
    counts = image_counts(spec.data)
    forecaster = Forecaster("cpu")
    one, four = (forecaster.pack(spec, members, 1, compiled=False) for members in (1, 4))
    products = 2 * training_macs(spec, counts) / NOMINAL_FLOPS["cpu"]
    overhead = one.training - products
    assert overhead > 0
    assert four.training == pytest.approx(4 * products + overhead)
    assert not one.measured
    # The images; for each member its parameters five times and, thrice, what a step's layers put out.
    size = parameters(spec, counts.pixels)
    outputs = 32 * sum(sum(mapping.widths[1:]) for mapping in mappings(spec, counts.pixels))
    assert one.bytes == 320 * 64 + 4 * (5 * size + 3 * outputs)
    assert four.bytes == 320 * 64 + 4 * (one.bytes - 320 * 64)
    fast = Forecaster("cpu", flops=2 * NOMINAL_FLOPS["cpu"]).pack(spec, 1, 1, compiled=False)
    assert fast.training == pytest.approx(products / 2 + overhead)
    given = Forecaster("cpu", ms_per_member_step=3.0).pack(spec, 5, 1, compiled=False)
    assert given.training == pytest.approx(1000 * steps_per_epoch(spec, counts.train) * 5 * 0.003)


def test_the_best_size_is_the_measured_one_that_fits_into_memory():
    times = {1: 9.0, 2: 6.0, 4: 4.0, 8: 3.0, 16: 5.0}
    forecaster = Measured(measurement(times))
    sizes = {gib: forecaster.best_size(member(), 1, False, gib * 2**30) for gib in (0.5, 1, 3, 7.9, 8, 100)}
    assert sizes == {0.5: 1, 1: 1, 3: 2, 7.9: 4, 8: 8, 100: 8}
    assert forecaster.best_size(member(), 1, False, None) == 8
    assert Forecaster("cpu").best_size(member(), 1, False, None) is None


def test_a_measurement_that_is_kept_is_found_for_this_many_threads_only():
    save_measurement(member(), "cpu", 2, False, measurement({1: 7.0}))
    forecaster = Forecaster("cpu")
    assert forecaster.pack(member(seed=5, training__epochs=8), 1, 2, compiled=False).ms_per_member_step == 7.0
    assert not forecaster.pack(member(), 1, 1, compiled=False).measured
    assert not forecaster.pack(member(model__batch_norm=False), 1, 2, compiled=False).measured
    # What is learned later on counts at once.
    forecaster.learn(Measurable(member(), 1, False), measurement({1: 8.0}))
    assert forecaster.pack(member(), 1, 1, compiled=False).ms_per_member_step == 8.0


def test_compiling_is_worth_its_price_in_long_training_only():
    forecaster = Measured(measurement({1: 10.0}))
    # 10 steps of 10 ms per epoch.
    assert not forecaster.is_worth_compiling(member(training__epochs=5900), 1, 1)
    assert forecaster.is_worth_compiling(member(training__epochs=6100), 1, 1)
    assert forecaster.is_worth_compiling(member(training__epochs=1600), 4, 1)
    # Each of two packs takes 1.13 times as long.
    assert not forecaster.is_worth_compiling(member(training__epochs=5300), 1, 1, sharing=2)
    assert forecaster.is_worth_compiling(member(training__epochs=5400), 1, 1, sharing=2)

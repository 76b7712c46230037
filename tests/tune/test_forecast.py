"""Forecasts: sums that can be done by hand, and what planning makes of them."""

import pytest

from hvae_spec.data.counts import image_counts
from hvae_spec.pack_job import PackJob
from hvae_spec.spec.cost import (
    UNIT_SAMPLES,
    evaluation_macs,
    mappings,
    parameters,
    steps_per_epoch,
    training_macs,
)
from hvae_spec.spec.grid import Member
from tests.members import member
from tests.tune.measured import Measured, measurement
from tune.measure.cache import save_measurement
from tune.measure.comparison import StepComparison, save_comparisons
from tune.plan.forecast import NOMINAL_FLOPS, START_UP, TRIAL_SECONDS, Forecaster, Measurable
from tune.plan.ways import Ways

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
    assert (forecast.bytes, forecast.ms_per_member_step) == (8 * 2**30, 5.0)
    assert (forecast.measured, forecast.measured_steps) == (True, True)
    assert Measured(found).pack(spec, 4, 1, compiled=True).overhead == START_UP + 30
    assert Measured(found).pack(spec, 8, 1, compiled=False).bytes == 16 * 2**30


def test_a_curve_on_few_images_costs_these_and_the_units_of_all():
    found = measurement({1: 9.0, 4: 5.0}, samples_per_second=48.0)
    spec = member(**SPEC, evaluation__curve_images=6)  # of 24 test images
    point = 6 * 7 + 24 * UNIT_SAMPLES
    forecast = Measured(found).pack(spec, 4, 1, compiled=False)
    assert forecast.curve == pytest.approx(4 * 2 * point / 48)
    assert forecast.evaluation == pytest.approx(4 * (24 * 20 + 2 * point) / 48)
    nominal = Forecaster("cpu").pack(spec, 4, 1, compiled=False)
    assert nominal.curve == pytest.approx(nominal.final * 2 * point / (24 * 20))
    # As many as there are, or more, are all of them.
    for images in (24, 500):
        every = Measured(found).pack(member(**SPEC, evaluation__curve_images=images), 4, 1, compiled=False)
        assert every.curve == pytest.approx(4 * 2 * 24 * 7 / 48)


def test_a_pack_that_evaluates_alone_draws_no_curve(tmp_path):
    forecaster, spec = Measured(measurement({1: 9.0})), member(**SPEC)
    one = Member(spec, spec.digests, {"dataset": "digits", "depth": 3, "variant": "V", "seed": 0}, "m")
    whole, half, alone = (
        forecaster.of(PackJob(f"{kind} {start}", (one,), tmp_path, kind=kind, start_epoch=start))
        for kind, start in (("train", 0), ("train", 5), ("evaluate", 0))
    )
    assert (half.curve, alone.curve) == (pytest.approx(whole.curve / 2), 0)
    assert whole.final == half.final == alone.final == alone.evaluation


def test_an_unmeasured_step_keeps_what_earlier_sweeps_put_out_of_each_image_and_pseudo_input():
    settings = {"model__prior": {"vamp": 6}, "objective__mc_samples": 4}
    one, three = (
        Forecaster("cpu").pack(member(model__inference_steps=steps, **settings), 1, 1, compiled=False).bytes
        for steps in (1, 3)
    )
    # d_2 and d_3, then t_1 and t_2, with the heads of their layers.
    outputs = (9 + 8 + 2 * 4) + (7 + 2 * 3) + (9 + 8 + 2 * 5) + (7 + 2 * 4)
    assert three - one == 4 * 3 * 2 * (32 + 6) * outputs


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


def test_the_gradients_of_annealed_importance_sampling_are_in_the_forecast():
    plain = member(model__batch_norm=False)
    annealed = member(model__batch_norm=False, evaluation__ais={"images": 10, "chains": 3, "steps": 50})
    counts = image_counts(plain.data)
    # Two preliminary runs of 4 chains and 400 steps, and three runs of 3 chains and 50 steps: 10 leapfrog steps after
    # each but the last, and one gradient at the start, which is a pass through p and one back.
    gradients = 10 * (2 * 4 * (1 + 10 * 399) + 3 * 3 * (1 + 10 * 49))
    generative = 5 * 12 + 12 * 10 + 10 * 64 + 4 * 9 + 9 * 8 + 8 * 2 * 5 + 3 * 7 + 7 * 2 * 4
    added = evaluation_macs(annealed, counts) - evaluation_macs(plain, counts)
    assert added == pytest.approx(2 * gradients * generative)
    one, other = (Forecaster("cpu").pack(spec, 2, 1, compiled=False) for spec in (plain, annealed))
    assert other.evaluation - one.evaluation == pytest.approx(2 * 2 * added / NOMINAL_FLOPS["cpu"])
    assert other.training == one.training
    per_sample = sum(mapping.macs for mapping in mappings(plain, counts.pixels) if mapping.per_sample)
    found = measurement({1: 9.0}, samples_per_second=48.0)
    one, other = (Measured(found).pack(spec, 2, 1, compiled=False) for spec in (plain, annealed))
    assert other.evaluation - one.evaluation == pytest.approx(2 * added / per_sample / 48)


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


def test_what_is_not_known_of_compiled_steps_is_tried_in_long_training_only():
    forecaster = Measured(measurement({1: 10.0}))
    # 10 steps of 10 ms per epoch.
    assert forecaster.way(member(training__epochs=5900), 1, 1) == "plain"
    assert forecaster.way(member(training__epochs=6100), 1, 1) == "trial"
    assert forecaster.way(member(training__epochs=1600), 4, 1) == "trial"
    assert forecaster.way(member(training__epochs=6100), 1, 1, start_epoch=200) == "plain"
    # Each of two packs takes 1.13 times as long.
    assert forecaster.way(member(training__epochs=5300), 1, 1, sharing=2) == "plain"
    assert forecaster.way(member(training__epochs=5400), 1, 1, sharing=2) == "trial"


def test_what_is_known_to_be_faster_is_compiled_where_it_saves_more_than_compiling_takes():
    # A pack of two saves 10 steps x 2 members x 3 ms per epoch, and compiling takes 48 s: 800 epochs.
    forecaster = Measured(measurement({2: 10.0}), measurement({2: 7.0}, compiling=48.0))
    assert forecaster.way(member(training__epochs=799), 2, 1) == "plain"
    assert forecaster.way(member(training__epochs=801), 2, 1) == "compiled"
    assert forecaster.way(member(training__epochs=1600), 2, 1, start_epoch=799) == "compiled"
    assert forecaster.way(member(training__epochs=1600), 2, 1, start_epoch=801) == "plain"
    # On another machine it may not be.
    assert forecaster.way(member(training__epochs=4000), 2, 1, here=False) == "trial"
    # The forecast has the same numbers.
    plain, compiled = (forecaster.pack(member(training__epochs=800), 2, 1, compiled=way) for way in (False, True))
    assert plain.seconds - compiled.seconds == pytest.approx(0)
    assert (plain.ms_per_member_step, compiled.ms_per_member_step) == (10.0, 7.0)


@pytest.mark.parametrize("ms", [12.6, 10.0, 9.6])
def test_what_is_no_faster_or_hardly_is_not_compiled_however_long_training_is(ms):
    forecaster = Measured(measurement({1: 10.0}), measurement({1: ms}))
    assert forecaster.way(member(training__epochs=10**6), 1, 1) == "plain"


def test_where_a_classifier_alone_is_trained_nothing_is_compiled():
    labels = {"data__labeled": "all", "model__classes": {"mlp": [6]}, "objective__classification": "only"}
    spec = member(training__epochs=10**6, **labels)
    assert spec.classifies_alone
    assert Measured(measurement({1: 10.0}), measurement({1: 5.0})).way(spec, 1, 1) == "plain"


def test_packs_that_evaluate_are_compiled_by_what_was_measured_where_they_run(tmp_path):
    spec = member()
    one = Member(spec, spec.digests, {"dataset": "digits", "depth": 3, "variant": "V", "seed": 0}, "m")
    job = PackJob("evaluates", (one,), tmp_path, kind="evaluate")
    for ms, here, expected in ((5.0, True, True), (9.9, True, False), (5.0, False, False)):
        forecaster = Measured(measurement({1: 10.0}), measurement({1: ms}))
        assert Ways(forecaster, "auto", here=here).decided(job).compiled == expected
    assert Ways(forecaster, "always", here=False).decided(job).compiled


def test_what_a_pack_has_found_is_known_to_forecasts_of_its_size_alone(tmp_path):
    found = StepComparison(4, 8.0, 6.0, 31.0)
    save_comparisons(member(), "cpu", 2, [found])
    forecaster = Forecaster("cpu")
    assert forecaster.comparison(member(seed=3, training__epochs=9), 2, 4) == found
    assert forecaster.comparison(member(), 2, 3) is None
    assert forecaster.comparison(member(), 1, 4) is None
    compiled, plain = (forecaster.pack(member(), 4, 2, compiled=way) for way in (True, False))
    assert (compiled.ms_per_member_step, plain.ms_per_member_step) == (6.0, 8.0)
    assert (compiled.overhead, plain.overhead) == (START_UP + 31, START_UP)
    # It says nothing of evaluation and memory, and nothing of packs of another size.
    assert [(one.measured_steps, one.measured) for one in (compiled, plain)] == [(True, False)] * 2
    assert not forecaster.pack(member(), 3, 2, compiled=False).measured_steps
    given = Forecaster("cpu", ms_per_member_step=2.0).pack(member(), 4, 2, compiled=False)
    assert (given.ms_per_member_step, given.measured_steps) == (2.0, False)


def test_a_pack_that_tries_compiling_takes_that_longer(tmp_path):
    one = Member(member(), member().digests, {"dataset": "digits", "depth": 3, "variant": "V", "seed": 0}, "m")
    jobs = [PackJob(f"{tries}", (one,), tmp_path, tries_compiling=tries) for tries in (False, True)]
    plain, tried = map(Measured(measurement({1: 10.0})).of, jobs)
    assert tried.overhead - plain.overhead == TRIAL_SECONDS
    assert tried.training == plain.training


def test_what_is_to_be_measured_is_plain_first_and_then_packs_of_their_sizes_both_ways_once(tmp_path):
    def job(members, **how):
        specs = [member(seed=seed) for seed in range(members)]
        labels = {"dataset": "digits", "depth": 3, "variant": "V"}
        all_of_it = tuple(Member(spec, spec.digests, {**labels, "seed": spec.seed}, str(spec.seed)) for spec in specs)
        return PackJob(f"{members} {how}", all_of_it, tmp_path, **how)

    jobs = [job(4, tries_compiling=True), job(3, tries_compiling=True), job(2), job(1, kind="evaluate", compiled=True)]
    forecaster = Forecaster("cpu")
    (plain,) = forecaster.unmeasured(jobs)
    assert (plain.compiled, plain.sizes) == (False, None)
    forecaster.learn(plain, measurement({1: 8.0}))
    (compiled,) = forecaster.unmeasured(jobs)
    assert (compiled.compiled, compiled.sizes) == (True, (3, 4))
    # A size that was left out, for its memory, is not measured again.
    forecaster.learn(compiled, measurement({3: 7.0}), [StepComparison(3, 8.0, 7.0, 5.0)])
    assert forecaster.unmeasured(jobs) == []
    assert forecaster.comparison(member(), 1, 3).times == 7 / 8

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from hvae_spec.data.counts import image_counts
from hvae_spec.spec.cost import mappings, parameters
from tests.members import member
from tune.measure import cache as measurement_cache
from tune.measure import timing
from tune.measure.cache import (
    NOT_COMPILED,
    ShapeMeasurement,
    StepTime,
    load_measurement,
    measure_beside,
    save_measurement,
    shape_name,
)
from tune.measure.comparison import comparisons
from tune.plan.forecast import _nominal_bytes
from tune.plan.planner import shape


def shape_of(*steps):
    return ShapeMeasurement("a shape", tuple(StepTime(m, ms, 1000 * m) for m, ms in steps), 5e4, 0.3, 1.5)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The file of measurements, in a folder of the test's own."""
    monkeypatch.setattr(measurement_cache, "cache_path", lambda: tmp_path / "cache" / "measurements.json")
    return tmp_path / "cache" / "measurements.json"


def test_the_best_pack_is_the_smallest_that_is_nearly_the_fastest():
    assert shape_of((1, 10.0), (2, 7.2), (4, 7.0), (8, 8.0)).best().members == 2
    assert shape_of((1, 10.0), (2, 7.3), (4, 7.0), (8, 8.0)).best().members == 4
    assert shape_of((1, 5.0), (2, 7.0)).best() == StepTime(1, 5.0, 1000)


def test_between_sizes_times_are_linear_in_log2_of_members_and_constant_beyond():
    measured = shape_of((2, 10.0), (4, 6.0), (16, 4.0))
    assert [measured.at(members) for members in (1, 2, 4, 16, 50)] == [10.0, 10.0, 6.0, 4.0, 4.0]
    assert measured.at(8) == pytest.approx(5.0)  # log2 8 lies half way from log2 4 to log2 16
    assert measured.at(3) == pytest.approx(10.0 - 4.0 * 0.5849625)
    values = [measured.at(members) for members in range(1, 20)]
    assert all(a >= b for a, b in pairwise(values))


def test_names():
    assert shape_name(member()) == "digits L3 ladder+BN"
    assert shape_name(member(2, model__share_top_down=True, model__batch_norm=False)) == "digits L2 ladder+shared"
    assert shape_name(member(2, model__inference="vae", model__batch_norm=False)) == "digits L2 VAE"
    assert shape_name(member(2, model__norm="layer")) == "digits L2 ladder+LN"
    assert shape_name(member(2, model__prior={"vamp": 500})) == "digits L2 ladder+BN+vamp 500"
    assert shape_name(member(2, model__prior="realnvp")) == "digits L2 ladder+BN+realnvp"
    assert shape_name(member(2, model__flow="planar")) == "digits L2 ladder+BN+planar 10"
    iaf = {"iaf": {"steps": 3, "mlp": [7]}}
    layers = [{"units": 3, "mlp": [4], "flow": flow} for flow in (iaf, None, iaf)]
    assert shape_name(member(model__layers=layers)) == "digits L3 ladder+BN+iaf steps 3 mlp 7"
    # With one layer the two are the same model.
    assert shape_name(member(1)) == "digits L1 VAE+BN"


@pytest.mark.parametrize(
    "same",
    [
        {"seed": 3},
        {"training__epochs": 50},
        {"objective__warm_up": 0},
        {"training__optimizer__adam__lr": 0.1},
        {"model__initialization": "glorot_normal"},
        {"evaluation__iw_samples": 7},
        {"data__test_images": 9},
    ],
    ids=str,
)
def test_what_changes_no_time_changes_no_key(cache, same):
    save_measurement(member(), "cpu", 2, False, shape_of((1, 5.0)))
    assert load_measurement(member(**same), "cpu", 2, False) == shape_of((1, 5.0))


@pytest.mark.parametrize(
    "other",
    [
        {"model__inference": "vae"},
        {"model__share_top_down": True},
        {"model__batch_norm": False},
        {"model__observation": "gaussian"},
        {"model__prior": {"vamp": 5}},
        {"model__nonlinearity": "tanh"},
        {"model__layers.0.mlp": [12, 11]},
        {"model__layers.1.mlp_down": [3]},
        {"model__layers.1.mlp_top_down": [3]},
        {"objective__iw_samples": 2},
        {"training__batch_size": 40},
        {"training__matmul_precision": "medium"},
        {"training__optimizer": {"sgd": {}}},
        {"training__ema": 0.9},
        {"data__redraw": "once"},
        {"data__train_images": 300},
        {"depth": 2},
    ],
    ids=str,
)
def test_what_changes_times_is_another_key_and_another_pack(cache, other):
    save_measurement(member(), "cpu", 2, False, shape_of((1, 5.0)))
    assert load_measurement(member(**other), "cpu", 2, False) is None
    assert shape(member(**other)) != shape(member())


def test_measurements_are_kept_by_machine(cache, monkeypatch):
    first, second = shape_of((1, 5.0), (2, 4.0)), shape_of((1, 6.0))
    assert load_measurement(member(), "cpu", 2, False) is None
    save_measurement(member(), "cpu", 2, False, first)
    save_measurement(member(), "cpu", 1, True, second)
    assert load_measurement(member(), "cpu", 2, False) == first
    assert load_measurement(member(), "cpu", 1, True) == second
    assert load_measurement(member(), "cpu", 1, False) is None
    newer = replace(first, samples_per_second=6e4)
    save_measurement(member(), "cpu", 2, False, newer)
    assert load_measurement(member(), "cpu", 2, False) == newer
    monkeypatch.setattr(measurement_cache, "device_name", lambda device: "another machine")
    assert load_measurement(member(), "cpu", 2, False) is None


@pytest.mark.parametrize("damage", ["", "{", "[1, 2]", "null", "\x00"])
def test_a_damaged_file_is_as_none_and_is_written_anew(cache, damage):
    save_measurement(member(), "cpu", 2, False, shape_of((1, 5.0)))
    cache.write_text(damage)
    assert load_measurement(member(), "cpu", 2, False) is None
    save_measurement(member(), "cpu", 2, False, shape_of((1, 6.0)))
    assert load_measurement(member(), "cpu", 2, False) == shape_of((1, 6.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", []),
        ("steps", None),
        ("steps", [{"members": 1}]),
        ("steps", [{"members": 1, "ms_per_member_step": 0.0, "bytes": 1}]),
        ("steps", [{"members": members, "ms_per_member_step": 1.0, "bytes": 1} for members in (2, 1)]),
        ("steps", [{"members": float("inf"), "ms_per_member_step": 1.0, "bytes": 1}]),
        ("samples_per_second", None),
        ("samples_per_second", 10**400),
        ("epoch_seconds_per_member", "long"),
    ],
)
def test_a_damaged_entry_is_as_none(cache, field, value):
    save_measurement(member(), "cpu", 2, False, shape_of((1, 5.0)))
    content = json.loads(cache.read_text())
    next(iter(content.values()))[field] = value
    cache.write_text(json.dumps(content))
    assert load_measurement(member(), "cpu", 2, False) is None


def test_where_nothing_can_be_written_nothing_is_kept(cache):
    cache.parent.write_text("a file where the folder should be")
    save_measurement(member(), "cpu", 2, False, shape_of((1, 5.0)))
    assert load_measurement(member(), "cpu", 2, False) is None


def test_times_are_medians_of_calls_that_take_turns(monkeypatch):
    called = []
    times = {"a": iter([9.0, 1.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 5.0, 6.0, 6.0, 60.0])}

    def timed(call, count, device):
        call()
        return next(times[called[-1]]) * count

    monkeypatch.setattr(timing, "timed", timed)
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    assert timing.interleaved(calls, 0.0, "cpu") == {"a": 2.0, "b": 6.0}
    # Each turn begins with a call that is not timed.
    assert "".join(called) == "aabb" + "aabb" * timing.ROUNDS


def test_measuring_leaves_threads_and_precision_as_they_were():
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with timing.settings(2, "medium"):
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (2, "medium")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


def test_a_small_member_is_measured():
    spec = member(2, evaluation__iw_samples=500)
    measured, *_ = measure_beside(spec, device="cpu", threads=1, sizes=(1, 3), seconds=0.1)
    assert measured.name == "digits L2 ladder+BN"
    assert [step.members for step in measured.steps] == [1, 3]
    # A step of 32 small images takes more than a tenth of a millisecond and less than a second on any machine.
    assert all(0.1 < step.members * step.ms_per_member_step < 1000 for step in measured.steps)
    assert 1e3 < measured.samples_per_second < 1e9
    assert 0 < measured.epoch_seconds_per_member < 1
    assert measured.compile_seconds == 0
    shared, each = timing.cpu_bytes(spec)
    assert [step.bytes for step in measured.steps] == [shared + each, shared + 3 * each]


def test_bytes_are_those_of_parameters_and_of_activations_by_the_image():
    sizes = [member(training__batch_size=images, data__train_images=160) for images in (32, 64, 128)]
    (shared, small), (_, middle), (_, large) = map(timing.cpu_bytes, sizes)
    assert shared == 160 * 64
    # Activations grow with the batch; what is left at a batch of none is the members' state.
    an_image = (middle - small) / 32
    assert large - middle == pytest.approx(64 * an_image, rel=0.02)
    assert small - 32 * an_image == pytest.approx(5 * 4 * parameters(member(), 64), rel=0.05)
    # At the least, the image and the outputs of all layers are kept: 64 pixels, and what follows them.
    assert an_image > 4 * (64 + 2 * (12 + 10 + 9 + 8 + 7))


@pytest.mark.parametrize(
    ("training", "more"), [({"sgd": {}}, -1), ({"adamw": {}}, 0), ({"adam": {}}, 0)], ids=["sgd", "adamw", "adam"]
)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_memory_knows_what_an_optimizer_keeps_and_averages(training, more, ema):
    other = member(training__optimizer=training, training__ema=ema)
    more = (more + (ema is not None)) * 4 * parameters(member(), 64)
    assert timing.cpu_bytes(other)[1] - timing.cpu_bytes(member())[1] == more
    counts = image_counts(member().data)
    assert _nominal_bytes(other, counts, 3) - _nominal_bytes(member(), counts, 3) == 3 * more


@pytest.mark.parametrize(
    ("prior", "times_real"),
    [
        ("standard_normal", 1.0),
        ({"vamp": 50}, 0.8),
        ({"vamp": 150}, 0.8),
        ({"mixture": 50}, 1.1),
        ({"mixture": 5000}, 1.7),
    ],
)
def test_memory_counts_pseudo_inputs_and_the_terms_of_a_mixture(prior, times_real):
    spec = member(model__prior=prior)
    counts, norms = image_counts(spec.data), spec.training.numbers_per_parameter
    state = 4 * norms * parameters(spec, counts.pixels)
    nominal = _nominal_bytes(spec, counts, 1) - counts.train * counts.pixels - state
    # A step keeps no term of a mixture in float64, but takes them for a while.
    assert nominal / (timing.cpu_bytes(spec)[1] - state) == pytest.approx(times_real, rel=0.1)
    # Of a component: 7 float64 of every unit, and 12 bytes of each of 32 images. Of a pseudo-input: its activations.
    plain = member()
    without = (
        _nominal_bytes(plain, counts, 1) - counts.train * counts.pixels - 4 * norms * parameters(plain, counts.pixels)
    )
    components = spec.model.prior_components
    once = sum(sum(mapping.widths[1:]) for mapping in mappings(plain, counts.pixels) if not mapping.per_sample)
    each = 7 * 8 * plain.model.layers[-1].units + 12 * 32
    assert nominal - without == components * each + spec.model.pseudo_inputs * 3 * 4 * once


def test_sizes_that_do_not_fit_are_left_out(monkeypatch):
    shared, each = timing.cpu_bytes(member())
    monkeypatch.setattr(timing, "MEMORY_SHARE", 0.0)
    assert [pack.members for pack in timing.packs(member(), (2, 4), "cpu", 1.0)] == [2]
    monkeypatch.setattr(timing, "MEMORY_SHARE", 1.0)
    available = type("Memory", (), {"available": 2 * shared + 3.5 * each})
    monkeypatch.setattr(timing.psutil, "virtual_memory", lambda: available)
    assert [pack.members for pack in timing.packs(member(), (1, 2, 4), "cpu", 1.0)] == [1, 2]


def test_sizes_that_take_too_long_are_left_out():
    assert [pack.members for pack in timing.packs(member(), (1, 2, 4), "cpu", 1e-9)] == [1]


def test_compiled_packs_of_every_size_are_measured_beside_the_same_ones_without(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    shape, beside, _ = measure_beside(
        member(2, evaluation__iw_samples=50), device="cpu", threads=1, sizes=(1, 3), seconds=0.01, compiled=True
    )
    found = comparisons(shape, beside)
    assert [each.members for each in found] == [1, 3]
    for each, step in zip(found, shape.steps, strict=True):
        assert each.compiled_ms == step.ms_per_member_step
        assert each.plain_ms == 1e3 * beside[each.members][NOT_COMPILED] / each.members
        assert each.compile_seconds == shape.compile_seconds > 0
    # Packs that are not compiled are compared with nothing.
    assert comparisons(shape, {1: {}, 3: {}}) == []


def test_sizes_of_an_earlier_measurement_stay():
    earlier, later = shape_of((2, 5.0), (8, 4.0)), replace(shape_of((4, 3.0), (8, 2.0)), samples_per_second=7e4)
    joined = later.joined(earlier)
    assert [(step.members, step.ms_per_member_step) for step in joined.steps] == [(2, 5.0), (4, 3.0), (8, 2.0)]
    assert joined.samples_per_second == 7e4
    assert later.joined(None) == later

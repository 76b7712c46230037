"""Bits per dimension, by their definition: what an image's gray levels cost to write down, over its pixels."""

import math

import pytest

import analysis
from analysis import tables
from analysis.bits import bits_per_dim
from analysis.statistics import answers

DATA = {"shape": (8, 8), "levels": 17, "training_maximum": 12}
PIXELS = 64


def spec_of(observation="gaussian", dataset="digits", **data):
    return {"data": {"dataset": dataset, **data}, "model": {"observation": observation}}


@pytest.mark.parametrize(
    ("spec", "bound"),
    [
        (spec_of("discretized_logistic"), -PIXELS * math.log(17)),
        (spec_of("continuous_bernoulli"), 0.0),
        (spec_of("continuous_bernoulli", rescaled_by="training_maximum"), 0.0),
        (spec_of("gaussian"), 0.0),
        (spec_of({"gaussian": {"variance": 0.1}}, rescaled_by="levels"), 0.0),
        # A density on [0, 17/13] that is the same everywhere.
        (spec_of("gaussian", rescaled_by="training_maximum"), PIXELS * math.log(13 / 17)),
    ],
)
def test_levels_that_are_all_alike_cost_their_logarithm(spec, bound):
    assert bits_per_dim(spec, DATA, bound) == pytest.approx(math.log2(17))
    # Twice as probable: a bit less for every pixel.
    assert bits_per_dim(spec, DATA, bound + PIXELS * math.log(2)) == pytest.approx(math.log2(17) - 1)


@pytest.mark.parametrize(
    ("spec", "data", "bound"),
    [
        (spec_of("bernoulli"), DATA, -30.0),
        (spec_of(), DATA, None),
        (spec_of(), {}, -30.0),
        (spec_of(dataset="omniglot"), {"shape": (8, 8), "levels": None}, -30.0),
        (spec_of(dataset="own"), {"shape": (8, 8)}, -30.0),
        (spec_of(dataset="a data set that is gone"), {"shape": (8, 8)}, -30.0),
        (spec_of(rescaled_by="training_maximum"), {"shape": (8, 8)}, -30.0),
    ],
    ids=["zeros and ones", "no bound", "no data", "intensities", "older record of own images", "unknown", "no maximum"],
)
def test_there_are_none_where_x_is_not_of_gray_levels_or_the_record_does_not_say(spec, data, bound):
    assert bits_per_dim(spec, data, bound) is None


def test_an_older_record_of_a_published_data_set_has_them_too():
    found = bits_per_dim({"data": {"dataset": "frey"}, "model": {"observation": "gaussian"}}, {"shape": (28, 20)}, 0.0)
    assert found == pytest.approx(8.0)


def test_own_gray_levels_have_their_own_number():
    assert bits_per_dim(spec_of(dataset="own"), {"shape": (1, 4), "levels": 4}, 0.0) == pytest.approx(2.0)


def mixed(spec, *observations):
    """A spec whose variants are observation models."""
    head, _ = spec.split("grid:")
    variants = "".join(f"    V{place}: {{model.observation: {name}}}\n" for place, name in enumerate(observations))
    return f"{head}grid:\n  depth: [2]\n  variants:\n{variants}  seeds: [0, 1]\n"


def test_the_column_and_the_table_of_a_grid(results, spec):
    digits = results.data(levels=17, training_maximum=16)
    results.grid(
        lambda item: results.result(item, -100.0 - item.seed, data=digits),
        spec=mixed(spec, "bernoulli", "gaussian", "discretized_logistic", "{gaussian: {variance: learned}}"),
        with_curves=False,
    )
    frames = analysis.load(results.root)
    found = frames.members.set_index(["variant", "seed"])["bits_per_dim"]
    assert math.isnan(found["V0", 0])
    for variant in ("V1", "V3"):
        assert found[variant, 1] == pytest.approx(math.log2(17) + 101 / 64 / math.log(2))
    assert found["V2", 0] == pytest.approx(100 / 64 / math.log(2))
    (table,) = tables.bits_per_dim(frames).tables
    assert [table.cells[f"V{place}", "L = 2"].text() for place in range(4)] == [
        *("0/2", "6.353 ± 0.011 (2)", "2.265 ± 0.011 (2)", "6.353 ± 0.011 (2)")
    ]


def test_zeros_and_ones_make_no_table_of_bits(results, small_spec):
    results.grid(spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    assert frames.members["bits_per_dim"].isna().all()
    assert tables.bits_per_dim(frames).tables == ()


def test_log_likelihoods_of_different_x_are_not_compared(results, spec):
    results.grid(
        lambda item: results.result(item, -100.0 - item.seed + 50 * (item.labels["variant"] == "V1")),
        spec=mixed(spec, "gaussian", "discretized_logistic"),
        with_curves=False,
    )
    frames = analysis.load(results.root)
    said = (
        "Log-likelihoods of different x do not compare (gaussian: dequantized gray levels; discretized_logistic: gray "
        "levels). Bits per dimension, of gray levels, do."
    )
    (table,) = tables.log_likelihood(frames).tables
    assert said in table.footnotes
    assert not table.best
    (found,) = answers(frames)
    assert tables.answer.answer(frames) == (said,)
    assert found.unlike == (said,)
    (active,) = (own for own in tables.paired_effects(frames).tables if "active" in own.title)
    assert said not in active.footnotes
    others = [own for own in tables.paired_effects(frames).tables if "active" not in own.title]
    assert others
    assert all(said in own.footnotes for own in others)
    assert all(said in own.footnotes for own in tables.ranking(frames).tables)


def test_models_of_one_x_are_compared(results, spec):
    results.grid(
        lambda item: results.result(item, -100.0 - item.seed + 50 * (item.labels["variant"] == "V1")),
        spec=mixed(spec, "gaussian", "{gaussian: {variance: 0.1}}"),
        with_curves=False,
    )
    (found,) = answers(analysis.load(results.root))
    assert found.unlike == ()

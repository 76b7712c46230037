"""Bits per dimension, by their definition: what an image's gray levels cost to write down, over its pixels."""

import io
import math

import pytest
import yaml
from rich.console import Console

import analysis
from analysis import report, tables
from analysis.bits import bits_per_dim
from analysis.figures.by_factors import log_likelihood
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
        *("–", "6.353 ± 0.011 (2)", "2.265 ± 0.011 (2)", "6.353 ± 0.011 (2)")
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
    assert tables.answer.answer(frames) == (
        f"{said} Best of 2 cells that have them: V1, with 1.14 [1.00, 1.28] bits per dimension (2 seeds). Not told "
        "apart from it, as every seed differs by the same, which leaves no spread to test against: V0. No effect is "
        "tested: no two cells differ in one setting alone and have one x.",
    )
    assert found.unlike == (said,)
    assert (found.best_by, found.best[0].mean) == ("bits_per_dim", pytest.approx(50.5 / 64 / math.log(2)))
    (active,) = (own for own in tables.paired_effects(frames).tables if "active" in own.title)
    assert said not in active.footnotes
    assert all("active" in own.title for own in tables.paired_effects(frames).tables)
    (ranked,) = tables.ranking(frames).tables
    assert said in ranked.footnotes
    assert ranked.footnotes[0].startswith("Rank by mean bits per dimension, of which less is better,")
    assert [ranked.cells["2", name].content for name in ("V0", "V1")] == ["2 (2)", "1 (2)"]


def test_models_of_one_x_are_compared(results, spec):
    results.grid(
        lambda item: results.result(item, -100.0 - item.seed + 50 * (item.labels["variant"] == "V1")),
        spec=mixed(spec, "gaussian", "{gaussian: {variance: 0.1}}"),
        with_curves=False,
    )
    (found,) = answers(analysis.load(results.root))
    assert found.unlike == ()


MIXED = "bernoulli, gaussian, {gaussian: {variance: learned}}, {gaussian: {variance: 0.1}}"


def over_observations(spec):
    """A spec with observation models along an axis, of two of which x is another one, and a factor beside it."""
    head, _ = spec.split("grid:")
    return (
        f"{head}grid:\n  depth: [2]\n  axes:\n    model.observation: [{MIXED}]\n"
        "  variants: {plain: {model.batch_norm: false}, normalized: {}}\n  seeds: [0, 1, 2]\n"
    )


def uneven(results):
    """Outcomes whose seeds differ unevenly, with known numbers of gray levels."""
    digits = results.data(levels=17, training_maximum=16)

    def outcome(item):
        observation = str(item.spec.model.observation_name) + str(item.labels.get("model.observation"))
        own = 10 * len(observation) + 3 * (item.labels["variant"] == "normalized")
        return results.result(item, -400.0 + own + 0.1 * item.seed**2 * len(observation) / 9, data=digits)

    return outcome


def test_effects_of_log_likelihoods_are_within_one_x(results, spec):
    results.grid(uneven(results), spec=over_observations(spec), with_curves=False)
    found = analysis.statistics.all_effects(analysis.load(results.root))
    kinds = {
        kind: set(zip(own["factor"], own["reference"].astype(str), own["level"].astype(str), strict=True))
        for kind, own in found.groupby("kind")
    }
    norm, name = ("model.batch_norm", "False", "True"), "model.observation"
    levels = dict.fromkeys(str(level) for level in found.loc[found["factor"] == name, "level"])
    within = {(name, "gaussian", level) for level in levels}
    assert len(levels) == 2
    assert kinds["simple"] == {norm, *within}
    # Batch normalization is at places of two x: it has no mean over them, nor do its effects compare between them.
    assert kinds["main"] == within
    assert kinds["interaction"] == {norm}
    crossed = found[found["kind"] == "interaction"]
    assert set(crossed["reference_2"]) == {"gaussian"}
    active = analysis.statistics.all_effects(analysis.load(results.root), "active_units")
    assert norm in set(zip(active["factor"], *(active[key].astype(str) for key in ("reference", "level")), strict=True))
    assert "bernoulli" in set(active["reference"])


@pytest.mark.usefixtures("without_figures")
def test_the_terminal_has_the_bits_that_the_answer_is_in(results, spec):
    results.grid(uneven(results), spec=over_observations(spec), with_curves=False)
    written = report.write(results.root)
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(written)
    said = console.export_text()
    assert "Best of 6 cells that have them: " in written.answer[1]
    assert said.count("Test log-likelihood (nats per image)") == 1
    assert said.count("Bits per dimension") >= 1


def test_no_line_joins_means_of_different_x(results, spec):
    results.grid(uneven(results), spec=over_observations(spec), with_curves=False)
    figure = log_likelihood(analysis.load(results.root))
    assert not joined(figure)
    names = "".join(
        f"      o {place}: {{model.observation: {own}}}\n" for place, own in enumerate(yaml.safe_load(f"[{MIXED}]"))
    )
    named = over_observations(spec).replace(f"    model.observation: [{MIXED}]\n", f"    observed:\n{names}")
    results.grid(uneven(results), spec=named, with_curves=False)
    figure = log_likelihood(analysis.load(results.root))
    assert sorted(map(len, joined(figure))) == [1, 1, 3, 3]


def joined(figure):
    """Where the lines between means are."""
    return [line.get_xdata() for line in figure.axes[0].lines if line.get_linestyle() == "-"]


def test_labels_that_would_overprint_are_slanted(results, spec):
    results.grid(uneven(results), spec=over_observations(spec), with_curves=False)
    figure = log_likelihood(analysis.load(results.root))
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_rotation() for label in labels} == {30.0}


def said_of(results, spec, values):
    """The answer of a grid of two variants with these log-likelihoods, by seed."""
    changed = spec.split("grid:")[0] + (
        "grid:\n  depth: [2]\n  variants: {plain: {model.batch_norm: false}, normalized: {}}\n  seeds: [0, 1]\n"
    )

    def outcome(item):
        value = values[item.labels["variant"]][item.seed]
        return None if value is None else results.result(item, value)

    results.grid(outcome, spec=changed, with_curves=False)
    (said,) = tables.answer.answer(analysis.load(results.root))
    return said


@pytest.mark.parametrize(
    ("values", "apart", "effect"),
    [
        pytest.param(
            {"plain": [-80.0, -81.0], "normalized": [-80.0, -81.0]},
            "as every seed differs by the same, which leaves no spread to test against",
            "1 is the same in every seed, which leaves no spread to test against",
            id="equal numbers",
        ),
        pytest.param(
            {"plain": [-80.0, -81.0], "normalized": [-79.0, None]},
            "as no two of its seeds can be compared",
            "that takes two finished seeds on both sides",
            id="one pair",
        ),
    ],
)
def test_why_nothing_is_tested(results, spec, values, apart, effect):
    said = said_of(results, spec, values)
    assert f"Not told apart from it, {apart}: " in said
    assert f"No effect is tested: {effect}." in said

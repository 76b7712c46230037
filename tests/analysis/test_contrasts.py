"""Main effects, interactions and simple effects of two axes and a variant, against closed forms and statsmodels."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM

import analysis
from analysis import tables
from analysis.statistics import all_effects, answers, holm
from analysis.statistics.contrasts import Outcomes
from analysis.tables.answer import _against, sentences

SPEC = """
name: question
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]}
training: {epochs: 4, batch_size: 32, optimizer: {adam: {lr: 0.001}}}
grid:
  variants: {VAE: {}, VAE+BN: {model.batch_norm: true}}
  axes:
    training.optimizer.adam.lr: [0.001, 0.0003]
    model.layers.0.units: [4, 6]
  seeds: [0, 1, 2]
"""
BATCH_NORM, RATE, WIDTH = FACTORS = ("batch normalization", "learning rate", "units of z_1")
SEEDS = range(3)
NOISE = np.random.default_rng(3).standard_normal((2, 2, 2, len(SEEDS)))
"""By batch normalization, learning rate, width and seed."""
VALUES = -90 + 0.3 * NOISE
VALUES[1] += 2
VALUES[1, 1] -= 1.5
VALUES[:, :, 1] += 1


def place(member):
    spec = member.spec
    return spec.model.batch_norm, spec.training.optimizer.adam.lr < 0.0005, spec.model.layers[0].units > 4, member.seed


def value(member):
    return float(VALUES[tuple(map(int, place(member)))])


def rows(results, kind):
    table = all_effects(analysis.load(results.root))
    return {row["effect"]: row for row in table[table["kind"] == kind].to_dict("records")}


def agrees(row, numbers):
    """Whether a row is Student's t over the seeds' numbers."""
    test = stats.ttest_1samp(numbers, 0)
    interval = test.confidence_interval(0.95)
    assert (row["n"], row["df"], row["planned"]) == (len(numbers), len(numbers) - 1, 3)
    assert row["mean"] == pytest.approx(np.mean(numbers))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["p"] == pytest.approx(test.pvalue)
    return True


@pytest.fixture
def question(results):
    results.grid(lambda member: results.result(member, value(member)), spec=SPEC, with_curves=False)
    return results


def test_main_effects_are_means_over_places_and_tested_over_seeds(question):
    found = rows(question, "main")
    assert tuple(found) == FACTORS
    for axis, name in enumerate(FACTORS):
        difference = np.take(VALUES, 1, axis) - np.take(VALUES, 0, axis)
        assert agrees(found[name], difference.mean(axis=(0, 1)))
        assert (found[name]["places"], found[name]["family"], found[name]["family_size"]) == (4, "main effects", 3)
    p = np.array([row["p"] for row in found.values()])
    assert [row["p_holm"] for row in found.values()] == pytest.approx(holm(p).tolist())


def test_interactions_are_differences_of_differences(question):
    found = rows(question, "interaction")
    pairs = list(itertools.combinations(range(3), 2))
    assert set(found) == {f"{FACTORS[one]} × {FACTORS[two]}" for one, two in pairs}
    for one, two in pairs:
        effect = np.diff(np.diff(VALUES, axis=two), axis=one).reshape(2, len(SEEDS))
        row = found[f"{FACTORS[one]} × {FACTORS[two]}"]
        assert agrees(row, effect.mean(axis=0))
        assert (row["places"], row["family"], row["family_size"]) == (2, "interactions", 3)


def test_pooled_effects_are_those_of_an_analysis_of_variance_of_repeated_measures(question):
    places = itertools.product(range(2), range(2), range(2), SEEDS)
    long = pd.DataFrame([(*at, VALUES[at]) for at in places], columns=["a", "b", "c", "seed", "y"])
    table = AnovaRM(long, "y", "seed", within=["a", "b", "c"]).fit().anova_table
    names = {"a": BATCH_NORM, "b": RATE, "c": WIDTH}
    names |= {":".join(pair): " × ".join(names[key] for key in pair) for pair in itertools.combinations("abc", 2)}
    found = rows(question, "main") | rows(question, "interaction")
    for theirs, ours in names.items():
        t = found[ours]["mean"] / found[ours]["se"]
        assert t**2 == pytest.approx(table.loc[theirs, "F Value"])
        assert found[ours]["p"] == pytest.approx(table.loc[theirs, "Pr > F"])


def test_simple_effects_stand_at_every_place(question):
    table = all_effects(analysis.load(question.root))
    own = table[(table["kind"] == "simple") & (table["effect"] == BATCH_NORM)]
    assert own["place"].tolist() == [f"lr {rate}, z_1 units {units}" for rate in ("1e-3", "3e-4") for units in (4, 6)]
    for row, at in zip(own.to_dict("records"), itertools.product(range(2), range(2)), strict=True):
        assert agrees(row, VALUES[1][at] - VALUES[0][at])
    assert set(table[table["kind"] == "simple"]["family_size"]) == {12}
    # Numbers of axes stay whole where some rows have none.
    assert own["layers_0_units"].tolist() == [4, 6, 4, 6]
    assert all(isinstance(units, int) for units in own["layers_0_units"])
    rate = table[(table["kind"] == "simple") & (table["effect"] == RATE)]
    assert rate["place"].tolist() == [f"{name}, z_1 units {units}" for units in (4, 6) for name in ("VAE", "VAE+BN")]
    assert (rate["reference"].tolist(), rate["level"].tolist()) == ([0.001] * 4, [0.0003] * 4)
    assert rate["without"].tolist() == rate["with"].tolist() == ["VAE", "VAE+BN"] * 2


def test_a_place_that_lacks_a_seed_leaves_the_average_for_all_seeds_and_is_listed(results):
    lost = (False, True, False, 1)
    results.grid(
        lambda member: results.diverged(member) if place(member) == lost else results.result(member, value(member)),
        spec=SPEC,
        with_curves=False,
    )
    row = rows(results, "main")[BATCH_NORM]
    kept = [(0, 0), (0, 1), (1, 1)]
    assert agrees(row, np.mean([VALUES[1][at] - VALUES[0][at] for at in kept], axis=0))
    assert (row["places"], row["all_places"], row["left_out"]) == (3, 4, "lr 3e-4, z_1 units 4")
    assert (row["diverged"], row["diverged_reference"], row["diverged_level"]) == (1, 1, 0)
    (answer,) = answers(analysis.load(results.root))
    assert dict(answer.missing) == {"diverged": 1}
    assert answer.is_complete
    assert set(answer.lost["kind"]) == {"main", "interaction", "simple"}
    (text,) = (text for text in sentences(answer) if "diverged" in text)
    assert text.startswith("1 member diverged (batch normalization: off → on, 1 → 0; ")
    assert text.endswith("what is said here is among the seeds that finished.")


def test_an_effect_at_one_place_is_told_once(results):
    spec = SPEC[: SPEC.index("  axes:")] + "  seeds: [0, 1, 2]\n"
    results.grid(lambda member: results.result(member, value(member)), spec=spec, with_curves=False)
    (answer,) = answers(analysis.load(results.root))
    assert [(factor.name, factor.levels) for factor in answer.factors] == [("model.batch_norm", (False, True))]
    numbers = VALUES[1, 0, 0] - VALUES[0, 0, 0]
    test = stats.ttest_1samp(numbers, 0)
    low, high = test.confidence_interval(0.95)
    assert test.pvalue < 0.05
    assert sentences(answer)[-1] == (
        f"The effect that is tested holds: batch normalization: off → on, {numbers.mean():+.1f} "
        f"[{low:+.1f}, {high:+.1f}] nats (p = {test.pvalue:.3f})."
    )
    # One table for each quantity: what is at one place is not averaged.
    assert len(tables.paired_effects(analysis.load(results.root)).tables) == 2


def test_seeds_that_no_place_has_yet_wait(results):
    results.grid(
        lambda member: results.result(member, value(member)) if member.seed < 2 else None, spec=SPEC, with_curves=False
    )
    row = rows(results, "main")[RATE]
    numbers = (VALUES[:, 1] - VALUES[:, 0]).mean(axis=(0, 1))[:2]
    assert agrees(row, numbers)
    assert (row["places"], row["left_out"]) == (4, "")


def test_one_seed_gives_pooled_effects_without_intervals(results):
    results.grid(
        lambda member: results.result(member, value(member)), spec=SPEC.replace("[0, 1, 2]", "[0]"), with_curves=False
    )
    row = rows(results, "main")[WIDTH]
    assert row["mean"] == pytest.approx((VALUES[:, :, 1] - VALUES[:, :, 0])[..., 0].mean())
    assert np.isnan([row[key] for key in ("se", "low", "high", "p", "p_holm")]).all()
    (answer,) = answers(analysis.load(results.root))
    # Without a test, nothing can be told from the best.
    assert (len(answer.best), answer.cells, answer.tested, len(answer.effects)) == (8, 8, 0, 0)


def test_the_tables_answer_the_question(question):
    pooled, simple, *_ = tables.paired_effects(analysis.load(question.root)).tables
    assert pooled.title == "Main effects and interactions on the test log-likelihood (nats per image): digits"
    row = rows(question, "interaction")[f"{BATCH_NORM} × {RATE}"]
    label = "batch normalization (off → on) × learning rate (1e-3 → 3e-4)"
    texts = {column: pooled.cells[label, column].text() for column in pooled.columns}
    assert texts == {
        "effect": f"{row['mean']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]",
        "p": f"p = {row['p_holm']:.3f} (of 3)",
        **{"seeds": "3", "places": "2", "diverged": "0"},
    }
    assert len(pooled.rows) == 6
    assert simple.columns == (
        "batch normalization: VAE → VAE+BN",
        "learning rate: 1e-3 → 3e-4",
        "units of z_1: 4 → 6",
    )
    assert len(simple.rows) == 12


def test_where_no_axis_names_a_place_that_is_the_other_way_round_its_variants_do():
    main = {"kind": "main", "effect": "EMA", "reference": "none", "level": "0.99", "mean": 0.4}
    main |= {"low": -0.1, "high": 0.3}
    simple = main | {"kind": "simple", "without": "cosine", "with": "both"}
    nameless, named = simple | {"place": "", "mean": -0.11}, simple | {"place": "lr 1e-3", "mean": -0.2}
    assert _against(main, [main, nameless, simple | {"place": "", "mean": 0.9}]) == ", but -0.11 from cosine to both"
    assert _against(main, [main, named]) == ", but -0.20 at lr 1e-3"


RATES = "report: {contrasts: {training.optimizer.adam.lr: [0.001, 0.0003]}}\n"


def test_a_named_contrast_of_several_places_is_an_average_and_says_where_it_is_the_other_way_round(results):
    """And it stands there once: not as a main effect of the same two levels, nor in the count of effects."""
    values = -90 + 0.01 * NOISE
    values[:, 1] -= 2
    values[1, 1, 0] += 5
    results.grid(
        lambda member: results.result(member, float(values[tuple(map(int, place(member)))])),
        spec=SPEC + RATES,
        with_curves=False,
    )
    (answer,) = answers(analysis.load(results.root))
    table = all_effects(analysis.load(results.root))
    assert answer.tested == table["p"].notna().sum() - 1
    assert not ((answer.effects["kind"] == "main") & (answer.effects["effect"] == RATE)).any()
    (said,) = (text for text in sentences(answer) if "these hold" in text)
    first = said.partition(": ")[2].partition(";")[0]
    difference = values[:, 1] - values[:, 0]
    name = "training.optimizer.adam.lr: 1e-3 → 3e-4"
    assert first.startswith(f"{name}, {difference.mean():+.2f} [")
    assert " nats on average (p" in first
    assert first.endswith(f", but {difference[1, 0].mean():+.2f} at VAE+BN, z_1 units 4")
    assert "learning rate: 1e-3" not in said


def test_a_main_effect_is_told_once_where_a_contrast_of_variants_is_the_same(results):
    values = -90 + 0.01 * NOISE
    values[1] += 2
    results.grid(
        lambda member: results.result(member, float(values[tuple(map(int, place(member)))])),
        spec=SPEC + "report: {contrasts: {mine: [VAE+BN, VAE]}}\n",
        with_curves=False,
    )
    (answer,) = answers(analysis.load(results.root))
    assert dict(answer.named_factors) == {"model.batch_norm": "mine"}
    assert answer.tested == all_effects(analysis.load(results.root))["p"].notna().sum() - 1
    (said,) = (text for text in sentences(answer) if "these hold" in text)
    assert "these hold: mine: VAE+BN → VAE, -2.0" in said
    assert " nats on average (p" in said
    assert BATCH_NORM + ": " not in said


def test_a_named_contrast_of_variants_says_where_it_is_the_other_way_round(results):
    """They may differ in anything, so that no simple effect is between them."""
    values = -90 + 0.01 * NOISE
    values[1] -= 2
    values[1, 0, 1] += 5
    spec = SPEC.replace("VAE+BN: {model.batch_norm: true}", "other: {model.batch_norm: true, objective.warm_up: 2}")
    results.grid(
        lambda member: results.result(member, float(values[tuple(map(int, place(member)))])),
        spec=spec + "report: {contrasts: {mine: [VAE, other]}}\n",
        with_curves=False,
    )
    (answer,) = answers(analysis.load(results.root))
    (said,) = (text for text in sentences(answer) if "these hold" in text)
    first = said.partition(": ")[2].partition(";")[0]
    difference = values[1] - values[0]
    assert first.startswith(f"mine: VAE → other, {difference.mean():+.2f} [")
    assert first.endswith(f", but {difference[0, 1].mean():+.2f} at lr 1e-3, z_1 units 6")


def test_the_best_cell_stands_with_those_that_cannot_be_told_from_it(question):
    (answer,) = answers(analysis.load(question.root))
    means = VALUES.mean(axis=-1)
    best = np.unravel_index(means.argmax(), means.shape)
    first, *others = answer.best
    assert (first.words, first.difference) == ("VAE+BN, lr 1e-3, z_1 units 6", 0.0)
    assert first.mean == pytest.approx(means.max())
    rest = [at for at in np.ndindex(2, 2, 2) if at != best]
    p = holm(np.array([stats.ttest_rel(VALUES[best], VALUES[at]).pvalue for at in rest]))
    alike = {at: own for at, own in zip(rest, p.tolist(), strict=True) if own >= 0.05}
    assert sorted(cell.p_holm for cell in others) == pytest.approx(sorted(alike.values()))
    assert [cell.mean for cell in others] == pytest.approx(sorted((means[at] for at in alike), reverse=True))
    assert sentences(answer)[0].startswith("Best of 8 cells: VAE+BN, lr 1e-3, z_1 units 6, with ")


def test_two_stages_of_seeds_share_their_rule_with_pooled_effects():
    def members(values):
        return pd.DataFrame(
            {
                "seed": range(len(values)),
                "stage": [1 if seed < 3 else 2 for seed in range(len(values))],
                "status": "finished",
                "data_canonical": True,
                "y": values,
            }
        )

    values = np.random.default_rng(5).standard_normal((4, 6))
    # The second place has a seed less.
    outcomes = Outcomes([members(own) for own in (values[0], values[1], values[2][:5], values[3][:5])], "y")
    found = outcomes.contrast([[(0, 1, 1)], [(2, 3, 1)]])
    numbers = ((values[1] - values[0] + values[3] - values[2]) / 2)[:5]
    se = numbers[:3].std(ddof=1) / np.sqrt(5)
    assert (found["n"], found["df"], found["planned"], found["places"]) == (5, 2, 5, 2)
    assert (found["mean"], found["se"]) == pytest.approx((numbers.mean(), se))
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(numbers.mean()) / se, 2))

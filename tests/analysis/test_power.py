"""How small an effect seeds can show: the power of the paired t test against SciPy's noncentral t."""

import math

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.statistics import detectable, detectable_effects, paired_effects, power_of


@pytest.mark.parametrize("tests", [1, 14])
@pytest.mark.parametrize("df", [1, 2, 4, 9, 30])
def test_power_is_that_of_the_noncentral_t_distribution(df, tests):
    threshold = stats.t.isf(0.025 / tests, df)
    effects = np.linspace(0, 2 * threshold, 40)
    theirs = stats.nct.sf(threshold, df, effects) + stats.nct.cdf(-threshold, df, effects)
    known = np.isfinite(theirs)
    assert known.sum() > 10
    assert [power_of(effect, df, tests) for effect in effects[known]] == pytest.approx(theirs[known], abs=2e-5)


def test_power_of_simulated_seeds_is_as_computed():
    n, effect = 4, 1.7
    differences = effect + np.random.default_rng(0).standard_normal((100_000, n))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(power_of(effect * math.sqrt(n), n - 1), abs=0.005)


@pytest.mark.parametrize(("n", "alone", "corrected"), [(3, 3.26, 12.25), (5, 1.68, 3.44), (10, 1.0, 1.56)])
def test_what_is_detectable_is_found_with_80_percent(n, alone, corrected):
    """Corrected for 14 effects, as many as a grid of the paper has."""
    assert (detectable(n), detectable(n, 14)) == pytest.approx((alone, corrected), abs=0.01)
    for tests in (1, 14):
        assert power_of(detectable(n, tests) * math.sqrt(n), n - 1, tests) == pytest.approx(0.8, abs=1e-6)
    assert detectable(1) == math.inf


def test_detectable_effects_rest_on_the_measured_spread_of_pairs(results):
    def value(member):
        return -90 + len(member.labels["variant"]) + math.sin(5 * len(member.labels["variant"]) + 7 * member.seed)

    results.grid(lambda member: results.result(member, value(member)), with_curves=False)
    frames = analysis.load(results.root)
    found = detectable_effects(frames)
    effects = paired_effects(frames)
    assert len(found) == len(effects) == 8
    spread = effects["se"] * math.sqrt(3)
    assert found["sd"].tolist() == pytest.approx(spread.tolist())
    assert found["detectable"].tolist() == pytest.approx((spread * detectable(3)).tolist())
    assert (found["tests"] == 8).all()
    assert found["detectable_holm"].tolist() == pytest.approx((spread * detectable(3, 8)).tolist())


def test_pairs_without_a_spread_say_nothing_of_what_is_detectable(results):
    results.grid(lambda member: results.result(member, -80.0), with_curves=False)
    found = detectable_effects(analysis.load(results.root))
    assert (found["sd"] == 0).all()
    assert found[["detectable", "detectable_holm"]].isna().all(axis=None)

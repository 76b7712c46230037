import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hvae_spec.nn.distribution import log_density_ratio
from hvae_spec.nn.gaussian import DiagonalGaussian, log_ratio, precision_weighted_merge

finite = st.floats(-5, 5)
variances = st.floats(0.01, 20)


def gaussian(mean, variance):
    return DiagonalGaussian(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([variance], dtype=torch.float64),
    )


@given(finite, variances, finite)
def test_log_prob_is_the_normal_density(mean, variance, z):
    expected = stats.norm(mean, math.sqrt(variance)).logpdf(z)
    value = gaussian(mean, variance).log_prob(torch.tensor([z], dtype=torch.float64))
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.builds(gaussian, finite, variances), st.builds(gaussian, finite, variances), finite, finite)
def test_merge_is_the_normalized_product(first, second, z1, z2):
    merged = precision_weighted_merge(first, second)

    def excess(z):
        z = torch.tensor([z], dtype=torch.float64)
        return (first.log_prob(z) + second.log_prob(z) - merged.log_prob(z)).item()

    # The product differs from the merged density by a constant, whatever z.
    assert excess(z1) == pytest.approx(excess(z2), rel=1e-7, abs=1e-7)
    assert 1 / merged.variance.item() == pytest.approx(1 / first.variance.item() + 1 / second.variance.item())


@given(finite, variances, finite, variances, finite)
def test_log_ratio_is_the_difference_of_densities(mean_p, variance_p, mean_q, variance_q, eps):
    p, q = gaussian(mean_p, variance_p), gaussian(mean_q, variance_q)
    noise = torch.tensor([eps], dtype=torch.float64)
    z = q.sample(noise)
    expected = (p.log_prob(z) - q.log_prob(z)).item()
    assert log_ratio(p, q, z, noise).item() == pytest.approx(expected, rel=1e-7, abs=1e-7)
    sample, log_prob = q.sample_and_log_prob(noise)
    assert sample.item() == z.item()
    assert log_prob.item() == pytest.approx(q.log_prob(z).item(), rel=1e-7, abs=1e-7)


def test_a_log_ratio_is_of_the_layer_where_a_density_is():
    per_unit, of_the_layer = torch.randn(2, 3, 4, 5), torch.randn(2, 1, 4, 5)
    assert torch.equal(log_density_ratio(per_unit, 2 * per_unit), -per_unit)
    torch.testing.assert_close(log_density_ratio(per_unit, of_the_layer), per_unit.sum(1, True) - of_the_layer)
    torch.testing.assert_close(log_density_ratio(of_the_layer, per_unit), of_the_layer - per_unit.sum(1, True))


def test_monte_carlo_kl_agrees_with_the_closed_form():
    p, q = gaussian(0.3, 2.0), gaussian(-0.5, 0.4)
    noise = torch.randn(200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    draws = -log_ratio(p, q, q.sample(noise), noise)
    error = draws.std().item() / math.sqrt(len(draws))
    assert draws.mean().item() == pytest.approx(q.kl(p).item(), abs=4 * error)
    assert q.kl(p).item() > 0
    assert q.kl(q).item() == pytest.approx(0, abs=1e-12)

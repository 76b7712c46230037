"""How uncertain a bound is: the jackknife against its definition, and against the spread over repetitions."""

import math

import pytest
import torch

from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.nn.bounds import jackknife_variance
from tests.evaluate.test_evaluation import member, trained


def bound(log_w):
    return log_w.logsumexp(0) - math.log(len(log_w))


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
def test_the_jackknife_is_the_scatter_of_the_bounds_without_one_sample(scale):
    log_w = scale * torch.randn(30, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 900
    without = torch.stack([bound(torch.cat([log_w[:k], log_w[k + 1 :]])) for k in range(30)])
    expected = (without - without.mean(0)).square().sum(0)
    torch.testing.assert_close(jackknife_variance(log_w), expected, rtol=1e-9, atol=1e-12)


def normal(generator, shape):
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def exponential(generator, shape):
    return torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)


@pytest.mark.parametrize(
    ("draw", "scale", "samples", "effective"),
    [
        (normal, 0.3, 200, (150, 200)),
        (normal, 1, 200, (60, 100)),
        (normal, 10, 200, (1, 2)),
        (exponential, 5, 200, (1, 2)),
        (normal, 0.3, 1000, (800, 1000)),
        (normal, 10, 1000, (1, 2)),
    ],
)
def test_the_stated_error_is_the_spread_over_repetitions_however_few_samples_carry_the_weight(
    draw, scale, samples, effective
):
    log_w = scale * draw(torch.Generator().manual_seed(1), (samples, 4000))
    weights = (log_w - log_w.max(0).values).exp()
    ess = weights.sum(0) ** 2 / weights.square().sum(0)
    assert effective[0] < ess.mean() < effective[1]
    spread = bound(log_w).std().item()
    stated = jackknife_variance(log_w).mean().sqrt().item()
    assert 0.95 < stated / spread < 1.2
    delta = (1 / ess - 1 / samples).mean().sqrt().item()
    if effective[0] > 50:
        assert stated == pytest.approx(delta, rel=0.05)
    else:
        assert delta < spread / 3


@pytest.mark.parametrize(("bias", "effective"), [(3.0, (5, 10)), (-5.0, (1, 2))])
def test_the_stated_error_of_an_evaluation_is_its_spread_over_seeds(bias, effective):
    """Where the likelihood's variance is small, a single sample carries the weight."""
    model, x = trained(member(model__batch_norm=False, model__observation="gaussian"))
    with torch.no_grad():
        model.generative.likelihood.head.linear.bias[:, x.shape[1] :] = bias
    repeats = [evaluate(model, x, 50, seed=seed) for seed in range(150)]
    ess = sum(repeat.effective_sample_size.mean().item() for repeat in repeats) / 150
    assert effective[0] < ess < effective[1]
    spread = torch.stack([repeat.log_likelihood.mean() for repeat in repeats]).std().item()
    stated = sum(repeat.log_likelihood_mc_se for repeat in repeats) / 150
    assert 0.85 < stated / spread < 1.3

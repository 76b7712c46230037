"""A linear-Gaussian hierarchy has an exact likelihood, and here an exact posterior too.

z_L ~ N(0, I), z_i = a_i * z_{i+1} + noise, x = W z_1 + b + noise, with orthogonal columns in W: the posterior then
factorizes over units, so that either inference network can represent it exactly.
"""

import math

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from tests.members import member

UNITS, PIXELS, IMAGES = 3, 64, 40


def head(linear, matrix, offset, variance, floor):
    """Make a linear head give the mean y @ matrix + offset and a constant variance."""
    width = matrix.shape[1]
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0, :width] = matrix.float().T
        linear.bias[0, :width, 0] = offset.float()
        linear.bias[0, width:, 0] = torch.log(torch.expm1((variance - floor).double())).float()


class LinearGaussian:
    """The generative model's numbers, its exact log-likelihood, and its exact posterior's numbers."""

    def __init__(self, depth):
        generator = torch.Generator().manual_seed(depth)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

        self.depth = depth
        self.scale = [uniform(0.5, 1.2, UNITS) for _ in range(depth - 1)]
        self.variance = [uniform(0.2, 0.8, UNITS) for _ in range(depth - 1)]
        basis, _ = torch.linalg.qr(torch.randn(PIXELS, UNITS, generator=generator, dtype=torch.float64))
        self.w = (basis * uniform(1.0, 2.0, UNITS)).T
        self.b = uniform(-0.2, 0.2, PIXELS)
        self.noise = torch.tensor(0.3, dtype=torch.float64)
        # Marginal variances of z_i, top down.
        self.marginal = [torch.ones(UNITS, dtype=torch.float64)]
        for a, v in zip(reversed(self.scale), reversed(self.variance), strict=True):
            self.marginal.insert(0, a**2 * self.marginal[0] + v)

    def log_likelihood(self, x):
        covariance = self.w.T @ torch.diag(self.marginal[0]) @ self.w + self.noise * torch.eye(PIXELS)
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(x.double())

    def sample(self, count):
        generator = torch.Generator().manual_seed(99)
        z = torch.randn(count, UNITS, generator=generator, dtype=torch.float64) * self.marginal[0].sqrt()
        x = z @ self.w + self.b
        return (x + self.noise.sqrt() * torch.randn(x.shape, generator=generator, dtype=torch.float64)).float()

    def evidence(self):
        """p(x|z_i) as a Gaussian function of each z_i: mean (x - b) @ matrix, and variance; z_1 first."""
        squares = (self.w**2).sum(1)
        matrix, variance = self.w.T / squares, self.noise / squares
        out = [(matrix, variance)]
        for a, v in zip(self.scale, self.variance, strict=True):
            matrix, variance = matrix / a, (variance + v) / a**2
            out.append((matrix, variance))
        return out


def compiled(depth, inference):
    """The member whose generative model is `LinearGaussian(depth)` and whose inference model is the exact posterior."""
    truth = LinearGaussian(depth)
    spec = member(
        1,
        model__layers=[{"units": UNITS, "mlp": []} for _ in range(depth)],
        model__inference=inference,
        model__batch_norm=False,
        model__observation="gaussian",
    )
    floor = spec.model.variance_floor
    model = compiler.initialized([spec], PIXELS)
    zero = torch.zeros(UNITS, dtype=torch.float64)
    head(model.generative.likelihood.head.linear, truth.w, truth.b, truth.noise.expand(PIXELS), floor)
    for mapping, a, v in zip(model.generative.conditionals, truth.scale, truth.variance, strict=True):
        head(mapping.head.linear, torch.diag(a), zero, v, floor)
    evidence = truth.evidence()
    if inference == "vae":
        matrix, variance = evidence[0]
        precision = 1 / variance + 1 / truth.marginal[0]
        matrix = matrix / (variance * precision)
        head(model.inference.up[0].head.linear, matrix, -truth.b @ matrix, 1 / precision, floor)
        for index, (a, v) in enumerate(zip(truth.scale, truth.variance, strict=True)):
            precision = a**2 / v + 1 / truth.marginal[index + 1]
            head(model.inference.up[index + 1].head.linear, torch.diag(a / (v * precision)), zero, 1 / precision, floor)
        return model, truth
    for index, (matrix, variance) in enumerate(evidence):
        top = index == depth - 1
        precision = 1 / variance + (1 if top else 0)
        gain = 1 / (variance * precision)  # the top merges with N(0, I), the others merge on the way down
        if index == 0:
            head(model.inference.up[0].head.linear, matrix * gain, -truth.b @ matrix * gain, 1 / precision, floor)
        else:
            head(
                model.inference.up[index].head.linear,
                torch.diag(gain / truth.scale[index - 1]),
                zero,
                1 / precision,
                floor,
            )
    for mapping, a, v in zip(model.inference.down, truth.scale, truth.variance, strict=True):
        head(mapping.head.linear, torch.diag(a), zero, v, floor)
    return model, truth


CASES = [(depth, inference) for depth in (1, 2, 3, 5) for inference in ("vae", "ladder")]


@pytest.mark.parametrize(("depth", "inference"), CASES)
def test_with_the_exact_posterior_every_log_weight_is_the_log_likelihood(depth, inference):
    model, truth = compiled(depth, inference)
    x = truth.sample(IMAGES)
    with torch.no_grad():
        log_w = log_weight(model(x[None], Streams([0]).begin("test").noise(7, IMAGES, model.units)))
    exact = truth.log_likelihood(x)
    torch.testing.assert_close(log_w[0].double(), exact.expand(7, IMAGES), rtol=1e-4, atol=5e-3)
    evaluation = evaluate(model, x, 30)
    torch.testing.assert_close(evaluation.log_likelihood, exact, rtol=1e-4, atol=5e-3)
    torch.testing.assert_close(evaluation.elbo, exact, rtol=1e-4, atol=5e-3)
    assert evaluation.effective_sample_size.min() > 29.9
    assert evaluation.log_likelihood_mc_se < 1e-3


@pytest.mark.parametrize(("depth", "inference"), CASES)
def test_elbo_below_importance_weighted_bound_below_log_likelihood(depth, inference):
    model, truth = compiled(depth, inference)
    # Spoil the posterior a little: wider, and off its mean.
    with torch.no_grad():
        linear = model.inference.up[0].head.linear
        linear.bias[0, :UNITS] += 0.15
        linear.bias[0, UNITS:] += 0.4
    x = truth.sample(IMAGES)
    exact = truth.log_likelihood(x).mean().item()
    elbos, tighter, tightest = (evaluate(model, x, k, seed=k) for k in (1000, 10, 4000))
    elbo, elbo_se = elbos.elbo.mean().item(), 0.01
    assert elbo < exact - 5 * elbo_se
    assert elbo + 0.01 < tighter.log_likelihood.mean().item() < exact + 4 * tighter.log_likelihood_mc_se
    # With many samples the bound closes in on the likelihood, within its stated Monte Carlo error.
    final = tightest.log_likelihood.mean().item()
    assert final == pytest.approx(exact, abs=5 * tightest.log_likelihood_mc_se + 5e-3)
    # Stated error against the spread over repetitions.
    repeats = [evaluate(model, x, 200, seed=seed) for seed in range(30)]
    values = torch.tensor([repeat.log_likelihood.mean() for repeat in repeats])
    stated = sum(repeat.log_likelihood_mc_se for repeat in repeats) / len(repeats)
    assert values.std().item() == pytest.approx(stated, rel=0.5)


def test_monte_carlo_unit_kl_equals_the_closed_form():
    model, truth = compiled(1, "ladder")
    x = truth.sample(IMAGES)
    evaluation = evaluate(model, x, 2000)
    with torch.no_grad():
        q = model.inference.encode(units_first(x[None]))[0]
        exact = q.kl(type(q)(torch.zeros(()), torch.ones(())))[0, :, 0].mean(1).double()
    error = (evaluation.kl[0] - exact) / evaluation.kl_se[0]
    assert error.abs().max() < 4.5
    assert evaluation.kl_se[0].max() < 0.01
    assert evaluation.active_units == [UNITS]


def test_the_training_bound_is_the_mean_over_monte_carlo_of_log_mean_weights():
    log_w = torch.randn(2, 6, 5, dtype=torch.float64) * 30 - 500
    for m, k in [(6, 1), (1, 6), (2, 3), (3, 2)]:
        value = bound(log_w, k)
        for member_index in range(2):
            for image in range(5):
                groups = log_w[member_index, :, image].view(m, k)
                naive = sum(
                    (group.max() + math.log(sum(math.exp(w - group.max()) for w in group) / k)).item()
                    for group in groups
                )
                assert value[member_index, image].item() == pytest.approx(naive / m)
    # More importance samples on the same weights never lower the bound (Jensen).
    assert (bound(log_w, 6) >= bound(log_w, 3) - 1e-9).all()
    assert (bound(log_w, 3) >= bound(log_w, 1) - 1e-9).all()

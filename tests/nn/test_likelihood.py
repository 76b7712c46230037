"""Every observation model is a distribution, and its mean is the mean of that distribution."""

import itertools
import math

import pytest
import scipy.integrate
import scipy.stats
import torch

from hvae_spec import compiler
from hvae_spec.nn.gaussian import Style
from hvae_spec.nn.initialization import initialize
from hvae_spec.nn.likelihood import LIKELIHOODS
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.observation import OBSERVATIONS, X, name_of
from tests.members import member
from tests.observations import FORMS, LEVELS, values_and_volume


def model_of(observation, variance_bias=0.0):
    """A model of one pixel with 3 latent units."""
    make = compiler.likelihood(member(model__observation=observation))
    model = make(Style(1, torch.tanh, None, 1e-6), 3, [8], 1)
    initialize(model, "glorot_normal", variance_bias, Streams([0]).begin("initialization").generators)
    return model


@pytest.mark.parametrize("observation", FORMS, ids=str)
def test_the_probabilities_of_a_pixel_sum_to_one_and_have_the_mean_that_is_given(observation):
    model = model_of(observation).double()
    values, volume = values_and_volume(observation, 1e-3)
    x = values.view(1, 1, 1, -1)
    for sample in 3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double():
        z = sample.view(1, 3, 1, 1).expand(-1, -1, -1, x.shape[3])
        with torch.no_grad():
            probability = model(z, x).exp() * volume
            mean = model.mean(z[..., :1])
        assert probability.sum().item() == pytest.approx(1, abs=1e-6)
        assert (probability * x[:, 0]).sum().item() == pytest.approx(mean.item(), abs=1e-6)


@pytest.mark.parametrize("observation", FORMS, ids=str)
def test_samples_have_the_mean_and_the_entropy_of_the_probabilities(observation):
    model = model_of(observation)
    values, volume = values_and_volume(observation, 1e-2)
    values = values.float()
    z = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1)
    noise = torch.randn(1, 1, 40_000, 1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        x = model.sample(z.expand(-1, -1, 40_000, -1), noise)
        found = torch.stack([x[0, 0], model(z.expand(-1, -1, 40_000, -1), x)[0]])
        log_p = model(z.expand(-1, -1, -1, len(values)), values.view(1, 1, 1, -1))[0, 0]
    p = log_p.exp() * volume
    expected = torch.stack([(p * values).sum(), (p * log_p).sum()])
    assert x.shape == noise.shape
    if OBSERVATIONS[name_of(observation)].x in (X.BINARY, X.GRAY):
        assert set(x.unique().tolist()) <= set(values.tolist())
    if OBSERVATIONS[name_of(observation)].x is X.UNIT:
        assert x.min() >= 0
        assert x.max() <= 1
    error = found.std(dim=(1, 2)) / 200
    assert ((found.mean(dim=(1, 2)) - expected).abs() < 4 * error).all()


def test_clipped_means_stay_within_their_limits_in_the_density_and_its_gradient():
    """log p of a one is max(log c, log mu) and of a zero max(log c, log(1 - mu)), at most log(1 - c)."""
    clip = 0.01
    model = LIKELIHOODS["bernoulli"](Style(1, torch.tanh, None, 1e-6, clip), 1, [], pixels=1).double()
    with torch.no_grad():
        model.logits.weight.fill_(1.0)
        model.logits.bias.zero_()
    logits = [-9.0, -1.0, 2.0, 9.0]
    z = torch.tensor(logits, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    mu = [min(max(1 / (1 + math.exp(-value)), clip), 1 - clip) for value in logits]
    assert model.mean(z).flatten().tolist() == pytest.approx(mu)
    for x, expected in ((1.0, [math.log(p) for p in mu]), (0.0, [math.log(1 - p) for p in mu])):
        log_p = model(z, torch.full((1, 1, 1, 4), x, dtype=torch.float64))
        assert log_p.flatten().tolist() == pytest.approx(expected)
        (slope,) = torch.autograd.grad(log_p.sum(), z)
        assert slope.flatten().tolist() == pytest.approx([0, x - mu[1], x - mu[2], 0])


def continuous_bernoulli(dtype=torch.float64):
    """A continuous Bernoulli whose natural parameter is z."""
    model = LIKELIHOODS["continuous_bernoulli"](Style(1, torch.tanh, None, 1e-6), 1, [], pixels=1).to(dtype)
    with torch.no_grad():
        model.logits.weight.fill_(1.0)
        model.logits.bias.zero_()
    return model


ETAS = [-40.0, -3.0, -0.11, -0.1, -0.09, -1e-3, -1e-9, 0.0, 1e-12, 1e-4, 0.05, 0.0999, 0.1001, 2.0, 15.0, 300.0]


@pytest.mark.parametrize("eta", ETAS)
def test_a_continuous_bernoulli_integrates_to_one_also_near_one_half(eta):
    """By quadrature of exp(eta x), shifted to a largest value of 1, and of x times it."""
    highest = max(eta, 0.0)
    ends = [0, min(1, 40 / abs(eta)) if eta else 1] if eta <= 0 else [max(0, 1 - 40 / eta), 1]
    options = {"epsabs": 0, "epsrel": 1e-12}
    whole, _ = scipy.integrate.quad(lambda x: math.exp(eta * x - highest), *ends, **options)
    first, _ = scipy.integrate.quad(lambda x: x * math.exp(eta * x - highest), *ends, **options)
    model, z = continuous_bernoulli(), torch.tensor(eta, dtype=torch.float64).view(1, 1, 1, 1).requires_grad_()
    for x in (0.0, 0.3, 1.0):
        log_p = model(z, torch.full_like(z, x))
        assert log_p.item() == pytest.approx(eta * x - highest - math.log(whole), rel=1e-12, abs=1e-12)
        # d log p / d eta = x - E[x].
        (slope,) = torch.autograd.grad(log_p.sum(), z)
        assert slope.item() == pytest.approx(x - first / whole, abs=1e-8)
    assert model.mean(z).item() == pytest.approx(first / whole, abs=1e-9)


def test_a_continuous_bernoulli_is_pytorchs():
    eta = torch.tensor([-12.0, -2.0, -0.3, 0.5, 1.0, 8.0], dtype=torch.float64).view(1, 1, 1, -1)
    theirs = torch.distributions.ContinuousBernoulli(logits=eta)
    model = continuous_bernoulli()
    for x in (0.0, 0.2, 0.9, 1.0):
        torch.testing.assert_close(model(eta, torch.full_like(eta, x)), theirs.log_prob(torch.tensor(x).double())[:, 0])
    torch.testing.assert_close(model.mean(eta), theirs.mean)
    # log C of the paper, 2 atanh(1 - 2 lambda) / (1 - 2 lambda).
    shrunk = 1 - 2 * torch.sigmoid(eta)
    log_c = torch.log(2 * torch.atanh(shrunk) / shrunk)
    torch.testing.assert_close(torch.log1p(eta.exp())[:, 0] + model(eta, torch.zeros_like(eta)), log_c[:, 0])
    noise = torch.randn(6, generator=torch.Generator().manual_seed(0)).double().view(1, 1, 1, -1)
    torch.testing.assert_close(model.sample(eta, noise), theirs.icdf(torch.special.ndtr(noise)))


def test_a_continuous_bernoulli_is_safe_in_float32():
    eta = torch.tensor([*ETAS, -1e4, 1e4, -1e30, 1e30]).view(1, 1, 1, -1).requires_grad_()
    for x in (0.0, 0.5, 1.0):
        log_p = continuous_bernoulli(torch.float32)(eta, torch.full_like(eta, x))
        exact = continuous_bernoulli()(eta.double(), torch.full_like(eta, x).double())
        torch.testing.assert_close(log_p.double(), exact, rtol=1e-5, atol=1e-5)
        (slope,) = torch.autograd.grad(log_p.sum(), eta)
        assert slope.isfinite().all()
        assert slope.abs().max() <= 1
    samples = continuous_bernoulli(torch.float32).sample(eta, torch.full_like(eta, 7.0))
    assert ((samples >= 0) & (samples <= 1)).all()


def discretized_logistic(levels=LEVELS):
    """A discretized logistic whose mean is z_1 and whose variance is softplus(z_2) + 1e-6."""
    model = LIKELIHOODS["discretized_logistic"](Style(1, torch.tanh, None, 1e-6), 2, [], 1, levels=levels)
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.eye(2))
        model.head.linear.bias.zero_()
    return model


@pytest.mark.parametrize("levels", [2, LEVELS, 256])
def test_a_discretized_logistic_has_the_masses_of_scipys_distribution_function(levels):
    """Differences of it at the ends of a level, 0 and 1 beyond the last ones; their sum is 1."""
    model, x = discretized_logistic(levels).double(), torch.arange(levels).double() / (levels - 1)
    for mean, before_softplus in ((0.4, 0.0), (-0.3, -2.0), (0.91, -6.0), (1.2, 3.0)):
        z = torch.tensor([mean, before_softplus], dtype=torch.float64).view(1, 2, 1, 1).expand(-1, -1, -1, levels)
        variance = math.log1p(math.exp(before_softplus)) + 1e-6
        law = scipy.stats.logistic(mean, math.sqrt(3 * variance) / math.pi)
        assert law.var() == pytest.approx(variance)
        ends = [0.0, *(law.cdf((level + 0.5) / (levels - 1)) for level in range(levels - 1)), 1.0]
        expected = [high - low for low, high in itertools.pairwise(ends)]
        masses = model(z, x.view(1, 1, 1, -1)).exp().flatten()
        assert masses.tolist() == pytest.approx(expected, rel=1e-7, abs=1e-14)
        assert masses.sum().item() == pytest.approx(1, abs=1e-12)
        mean_level = sum(p * level for level, p in enumerate(expected)) / (levels - 1)
        assert model.mean(z)[..., 0].item() == pytest.approx(mean_level, abs=1e-10)


def test_the_mean_of_many_levels_is_within_half_a_level_of_that_of_the_masses():
    levels = 1_000
    model, x = discretized_logistic(levels).double(), torch.arange(levels).double().view(1, 1, 1, -1) / (levels - 1)
    for mean, before_softplus in ((0.4, 0.0), (-0.3, -2.0), (0.91234, -14.0), (1.2, 3.0)):
        z = torch.tensor([mean, before_softplus], dtype=torch.float64).view(1, 2, 1, 1).expand(-1, -1, -1, levels)
        exact = (model(z, x).exp() * x[:, 0]).sum()
        assert model.mean(z)[..., 0].item() == pytest.approx(exact.item(), abs=0.5 / (levels - 1))


def test_the_ends_of_as_many_levels_as_float32_tells_apart_are_open():
    model, largest = discretized_logistic(2**24), 2**24 - 1
    z = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(-1, -1, -1, 4)
    log_p = model(z, torch.tensor([0.0, 1 / largest, (largest - 1) / largest, 1.0]).view(1, 1, 1, -1))[0, 0]
    assert (log_p[[0, 3]] > -2).all()
    assert (log_p[[1, 2]] < -15).all()


def test_a_discretized_logistic_is_safe_in_float32():
    """Where a difference of distribution functions would be 0, the log mass and its gradient are those of float64."""
    means = torch.tensor([-50.0, -1.0, 0.5, 2.0, 80.0])
    before_softplus = torch.tensor([-200.0, -9.0, 0.0, 30.0, 1e8])
    z = torch.cartesian_prod(means, before_softplus).T.view(1, 2, 1, -1).requires_grad_()
    for level in (0, 7, 255):
        x = torch.full((1, 1, 1, z.shape[3]), level / 255)
        log_p, exact = discretized_logistic(256)(z, x), discretized_logistic(256).double()(z.double(), x.double())
        torch.testing.assert_close(log_p.double(), exact, rtol=2e-5, atol=2e-5)
        (slope,) = torch.autograd.grad(log_p.sum(), z)
        (exact_slope,) = torch.autograd.grad(exact.sum(), z)
        torch.testing.assert_close(slope, exact_slope, rtol=1e-3, atol=1e-5)


def test_a_variance_for_all_pixels_is_learned_or_given():
    for variance, expected in (("learned", math.log1p(math.exp(0.7)) + 1e-6), (0.3, 0.3)):
        model = model_of({"gaussian": {"variance": variance}}, variance_bias=0.7)
        z = torch.randn(1, 3, 1, 5)
        mean, x = model.mean(z), torch.rand(1, 1, 1, 5)
        law = torch.distributions.Normal(mean, math.sqrt(expected))
        torch.testing.assert_close(model(z, x), law.log_prob(x)[:, 0])
        torch.testing.assert_close(model.sample(z, torch.ones_like(x)), mean + math.sqrt(expected))
        names = {name for name, _ in model.named_parameters()}
        assert ("head.before_softplus" in names) is (variance == "learned")


def test_a_learned_variance_comes_to_the_mean_squared_error():
    """The best sigma2 of a Gaussian for given means is their mean squared error (Rybkin et al., 2021, Eq. 4)."""
    model = model_of({"gaussian": {"variance": "learned"}}).double()
    z, x = torch.randn(1, 3, 1, 50).double(), torch.rand(1, 1, 1, 50).double()
    with torch.no_grad():
        error = (x - model.mean(z)).square().mean()
        model.head.before_softplus.fill_(math.log(math.expm1(error.item() - 1e-6)))
    model(z, x).sum().backward()
    assert model.head.before_softplus.grad.item() == pytest.approx(0, abs=1e-10)

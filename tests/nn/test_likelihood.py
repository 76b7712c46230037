"""Every observation model is a distribution, and its mean is the mean of that distribution."""

import math

import pytest
import torch

from hvae_spec.nn.gaussian import Style
from hvae_spec.nn.initialization import initialize
from hvae_spec.nn.likelihood import LIKELIHOODS
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.observation import OBSERVATIONS


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_probabilities_of_a_pixel_sum_to_one_and_have_the_mean_that_is_given(name):
    model = LIKELIHOODS[name](Style(1, torch.tanh, None, 1e-6), 3, [8], pixels=1)
    initialize(model, "glorot_normal", 0.0, Streams([0]).begin("initialization").generators)
    model.double()
    binary = OBSERVATIONS[name].binary
    step = 1.0 if binary else 1e-3
    values = torch.tensor([0.0, 1.0]) if binary else torch.arange(-40.0, 40.0, step)
    x = values.double().view(1, 1, 1, -1)
    for sample in torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double():
        z = sample.view(1, 3, 1, 1).expand(-1, -1, -1, x.shape[3])
        with torch.no_grad():
            probability = model(z, x).exp() * step
            mean = model.mean(z[..., :1])
        assert probability.sum().item() == pytest.approx(1, abs=1e-6)
        assert (probability * x[:, 0]).sum().item() == pytest.approx(mean.item(), abs=1e-6)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_have_the_mean_and_the_entropy_of_the_probabilities(name):
    model = LIKELIHOODS[name](Style(1, torch.tanh, None, 1e-6), 3, [8], pixels=1)
    initialize(model, "glorot_normal", 0.0, Streams([0]).begin("initialization").generators)
    binary = OBSERVATIONS[name].binary
    values = torch.tensor([0.0, 1.0]) if binary else torch.arange(-40.0, 40.0, 1e-2)
    z = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1)
    noise = torch.randn(1, 1, 40_000, 1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        x = model.sample(z.expand(-1, -1, 40_000, -1), noise)
        found = torch.stack([x[0, 0], model(z.expand(-1, -1, 40_000, -1), x)[0]])
        log_p = model(z.expand(-1, -1, -1, len(values)), values.view(1, 1, 1, -1))[0, 0]
    p = log_p.exp() * (1.0 if binary else 1e-2)
    expected = torch.stack([(p * values).sum(), (p * log_p).sum()])
    assert x.shape == noise.shape
    assert set(x.unique().tolist()) == {0.0, 1.0} or not binary
    error = found.std(dim=(1, 2)) / 200
    assert ((found.mean(dim=(1, 2)) - expected).abs() < 4 * error).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_description_and_the_torch_class_agree_on_what_x_is(name):
    assert LIKELIHOODS[name].binary == OBSERVATIONS[name].binary


@pytest.mark.parametrize("divisor", [16, 17])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_is_drawn_of_gray_values_has_their_intensity_as_its_mean(name, divisor):
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0, 5, 16], dtype=torch.uint8)
    uniform = torch.rand(20_000, 3, generator=generator)
    x = LIKELIHOODS[name].draw(values.expand(20_000, 3), 17, divisor, uniform)
    expected = values / divisor if OBSERVATIONS[name].binary else (values + 0.5) / 17
    # Five standard errors of a mean of numbers in [0, 1].
    torch.testing.assert_close(x.mean(0), expected.float(), rtol=0, atol=5 * 0.5 / 20_000**0.5)
    assert set(x.unique().tolist()) == {0.0, 1.0} if OBSERVATIONS[name].binary else x.min() >= 0 and x.max() < 1


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

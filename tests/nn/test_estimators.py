"""All estimators have one expectation; those along the samples have no variance where q is the exact posterior."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from hvae_spec import compiler
from hvae_spec.nn import estimators
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.estimators import ESTIMATORS
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from tests.members import member
from tests.nn.test_linear_gaussian import compiled as exact_posterior
from tests.nn.test_skip import compiled as exact_posterior_with_skips

NODES = {2: 40, 3: 22, 4: 18}
"""Points of the quadrature per number of noise, by how many there are: their expectations differ from those of more
points by 1e-9."""
MODELS = {"vae": ("vae", False), "ladder": ("ladder", False), "shared": ("ladder", True)}
OTHERS = {
    "top_down": ("top_down", False),
    "vae, skip": ("vae", False, "both"),
    "ladder, skip": ("ladder", False, "both"),
    "shared, skip": ("ladder", True, "both"),
    "top_down, skip": ("top_down", False, "both"),
}
"""Models of which three layers are there where there are skip connections, as with two q has none."""


def one_unit(kind, prior="standard_normal"):
    """A model of two or three layers of one unit each, smooth enough for a quadrature."""
    inference, shared, *skip = {**MODELS, **OTHERS}[kind]
    spec = member(
        model__layers=[{"units": 1, "mlp": [2]}] * (3 if skip else 2),
        model__inference=inference,
        model__share_top_down=shared,
        model__skip=skip[0] if skip else "none",
        model__batch_norm=False,
        model__nonlinearity="tanh",
        model__prior=prior,
    )
    model = compiler.initialized([spec], 2).double()
    with torch.no_grad():
        if spec.model.pseudo_inputs:
            model.generative.top.images.copy_(torch.tensor([[0.3, 0.9], [0.8, 0.1]]).view(1, 2, 1, 2))
        for parameter in model.parameters():
            parameter.mul_(0.5)
        if INFERENCES[inference].top_down:
            # q(z_1|z_2, x) is narrower than p(z_1|z_2): the less so, the fewer points does the quadrature need.
            model.inference.up[0].head.linear.bias[:, 1:] += 4
    return model


def quadrature(layers, samples):
    """Noise of L layers [1, 1, K, B] at every point of a Gauss-Hermite grid over its L K numbers, and the points'
    weights [B].
    """
    count = layers * samples
    points, weights = np.polynomial.hermite_e.hermegauss(NODES[count])
    grid = torch.tensor(list(itertools.product(points, repeat=count))).T.reshape(layers, 1, 1, samples, -1)
    each = torch.tensor(list(itertools.product(weights / weights.sum(), repeat=count))).prod(1)
    return list(grid), each


def gradients(model, estimate, beta, samples):
    """The expectation of the gradient of the bound for one image, by parameter."""
    noise, weights = quadrature(len(model.units), samples)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(1, len(weights), 2)
    beta = torch.tensor([beta], dtype=torch.float64)
    _, _, value = estimate(model, x, noise, partial(log_weight, beta=beta), beta, samples)
    found = torch.autograd.grad((value * weights).sum(), list(model.parameters()))
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.fixture
def tensor_detached(monkeypatch):
    """The easy version of the path gradient, which detaches the parameters of q as they are, and with them what they
    owe to the samples of the layer before.
    """
    right = estimators._trace

    def trace(model, x, encoding, top, draws):
        constant = [
            type(draw.posterior)(draw.posterior.mean.detach(), draw.posterior.variance.detach()) for draw in draws
        ]
        ratios = [
            model.generative.prior(layer, draws, top).log_prob(draw.z) - q.log_prob(draw.z)
            for layer, (draw, q) in enumerate(zip(draws, constant, strict=True))
        ]
        return replace(right(model, x, encoding, top, draws), log_ratios=ratios)

    monkeypatch.setattr(estimators, "_trace", trace)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("name", "samples"), [("stl", 1), ("dreg", 1), ("dreg", 2)])
def test_an_estimator_has_the_expectation_of_the_whole_gradient(name, samples, beta, kind):
    model = one_unit(kind)
    whole = gradients(model, estimators.reparameterized, beta, samples)
    estimate = gradients(model, ESTIMATORS[name], beta, samples)
    assert whole.abs().max() > 1e-2
    assert (estimate - whole).abs().max() < 1e-8


@pytest.mark.parametrize(
    ("name", "samples", "kind"),
    [("dreg", 2, "top_down"), *((name, 1, kind) for name in ("stl", "dreg") for kind in OTHERS)],
)
def test_an_estimator_has_the_expectation_of_the_whole_gradient_of_other_models_too(name, samples, kind):
    model = one_unit(kind)
    whole = gradients(model, estimators.reparameterized, 0.3, samples)
    assert whole.abs().max() > 1e-2
    assert (gradients(model, ESTIMATORS[name], 0.3, samples) - whole).abs().max() < 1e-8


@pytest.mark.usefixtures("tensor_detached")
@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_without_the_path_through_the_parameters_of_q_is_biased_for_importance_weights(kind):
    """For the ELBO it is not: given the samples of the layer before, a score has no expectation."""
    model = one_unit(kind)
    whole = gradients(model, estimators.reparameterized, 1.0, 1)
    assert (gradients(model, estimators.path, 1.0, 1) - whole).abs().max() < 1e-8
    whole = gradients(model, estimators.reparameterized, 1.0, 2)
    estimate = gradients(model, estimators.doubly_reparameterized, 1.0, 2)
    assert (estimate - whole).abs().max() > 1e-5


def test_the_path_gradient_of_an_importance_weighted_bound_is_biased():
    """Which is why `stl` is refused there."""
    model = one_unit("ladder")
    whole = gradients(model, estimators.reparameterized, 1.0, 2)
    assert (gradients(model, estimators.path, 1.0, 2) - whole).abs().max() > 1e-4


def gradient_of_q(model, estimate, samples):
    """The largest entry of the gradient by q's parameters of each of a few draws."""
    x = torch.rand(1, 8, 64, generator=torch.Generator().manual_seed(0))
    noise = Streams([0]).begin("test").noise(samples, 8, model.units)
    beta = torch.ones(1)
    _, _, value = estimate(model, x, noise, partial(log_weight, beta=beta), beta, samples)
    found = [
        torch.autograd.grad(each, list(model.inference.parameters()), retain_graph=True) for each in value.flatten()
    ]
    return torch.tensor([max(gradient.abs().max().item() for gradient in each) for each in found])


@pytest.mark.parametrize("inference", ["vae", "ladder"])
@pytest.mark.parametrize(("name", "samples"), [("stl", 1), ("dreg", 1), ("dreg", 3)])
def test_at_the_exact_posterior_the_gradient_of_q_is_zero_in_every_draw(name, samples, inference):
    model, _ = exact_posterior(3, inference)
    assert gradient_of_q(model, ESTIMATORS[name], samples).max() < 2e-4
    assert gradient_of_q(model, estimators.reparameterized, samples).min() > 1e-1


@pytest.mark.parametrize("inference", ["vae", "ladder", "top_down"])
@pytest.mark.parametrize(("name", "samples"), [("stl", 1), ("dreg", 3)])
def test_so_it_is_with_skip_connections(name, samples, inference):
    model, _ = exact_posterior_with_skips(inference, "both")
    assert gradient_of_q(model, ESTIMATORS[name], samples).max() < 2e-4
    assert gradient_of_q(model, estimators.reparameterized, samples).min() > 1e-1


@pytest.mark.usefixtures("tensor_detached")
@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_without_the_path_through_the_parameters_of_q_it_is_not(inference):
    model, _ = exact_posterior(3, inference)
    assert gradient_of_q(model, estimators.path, 1).min() > 1e-2


@pytest.mark.parametrize("kind", [*MODELS, *OTHERS])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_value_is_the_bound_whatever_the_estimator(name, kind):
    model = one_unit(kind)
    x = torch.ones(1, 5, 2, dtype=torch.float64)
    noise = [each.double() for each in Streams([1]).begin("test").noise(6, 5, model.units)]
    beta = torch.tensor([0.7], dtype=torch.float64)
    weigh = partial(log_weight, beta=beta)
    trace, log_w, value = ESTIMATORS[name](model, x, noise, weigh, beta, 3)
    expected = weigh(model(x, noise))
    torch.testing.assert_close(log_w, expected)
    torch.testing.assert_close(value, bound(expected, 3))
    torch.testing.assert_close(weigh(trace), expected)


@pytest.mark.parametrize(("kind", "prior"), [("vae", {"mixture": 2}), ("ladder", {"vamp": 2})], ids=str)
@pytest.mark.parametrize(("name", "samples"), [("stl", 1), ("dreg", 2)])
def test_an_estimator_has_the_expectation_of_the_whole_gradient_under_a_learned_prior(name, samples, kind, prior):
    """Also where the prior is made of q's own parameters: what they owe to p(z_L) is no score."""
    model = one_unit(kind, prior)
    whole = gradients(model, estimators.reparameterized, 0.3, samples)
    estimate = gradients(model, ESTIMATORS[name], 0.3, samples)
    assert (estimate - whole).abs().max() < 1e-6
    assert whole.abs().max() > 1e-3

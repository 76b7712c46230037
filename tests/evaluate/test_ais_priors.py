"""AIS with learned priors of z_L: against quadrature, and against the exact likelihood of a linear model."""

import math

import pytest
import torch

from hvae_spec import annealing, compiler
from hvae_spec.evaluate.ais import Target, ais, leapfrog
from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.random import CHOICES, image_streams
from tests.members import member
from tests.nn.test_linear_gaussian import PIXELS, compiled
from tests.nn.test_prior import grid, unlike_its_start


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer leapfrog steps and a shorter preliminary run: nothing here depends on how many there are."""
    monkeypatch.setattr(annealing, "LEAPFROG_STEPS", 3)
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 30)


def spread_out(prior, units):
    """A model of one layer in float32, whose prior is well apart and whose images depend on z."""
    model = unlike_its_start(prior, units).float()
    with torch.no_grad():
        model.generative.likelihood.logits.weight *= 4
        if "mixture" in prior:
            model.generative.top.mean *= 2
    return model.requires_grad_(False)


def binary(count):
    return (torch.rand(count, 64, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@pytest.mark.parametrize(
    ("prior", "units"),
    [({"mixture": 3}, 1), ({"vamp": 3}, 1), ({"realnvp": {"blocks": 3, "mlp": [5]}}, 2), ({"mixture": 3}, 2)],
    ids=str,
)
def test_ais_comes_to_the_likelihood_by_quadrature(prior, units):
    model, x = spread_out(prior, units), binary(8)
    z, volume = grid(units, end=12, points=601 if units == 1 else 121)
    z = z.float().movedim(3, 2)  # points as samples
    with torch.no_grad():
        log_prior = model.top().log_prob(z)[0, 0].double()
        terms = model.generative.likelihood(z.expand(-1, -1, -1, len(x)), units_first(x[None]))[0].double()
    exact = (terms + log_prior).logsumexp(0) + math.log(volume)
    found = ais(model, x, chains=48, steps=20)
    assert found.log_likelihood_mc_se < 0.15
    assert float((found.log_likelihood - exact).mean()) == pytest.approx(0, abs=4 * found.log_likelihood_mc_se)
    assert abs(found.gap) < 0.6
    bound = evaluate(model, x, 2000)
    assert float((bound.log_likelihood - exact).mean()) == pytest.approx(0, abs=5 * bound.log_likelihood_mc_se + 1e-3)


def linear_with_mixture():
    """A linear-Gaussian decoder under a mixture of two narrow Gaussians; and the exact log-likelihood of images."""
    model, truth = compiled(1, "ladder")
    units = model.units[0]
    spec = member(1, model__layers=[{"units": units, "mlp": []}], model__norm="none", model__prior={"mixture": 2})
    top = compiler.initialized([spec], 64).generative.top
    with torch.no_grad():
        top.mean.copy_(torch.tensor([-2.0, 1.0]).expand_as(top.mean))
        top.before_softplus.fill_(math.log(math.expm1(0.3)))
    model.generative.top = top.requires_grad_(False)
    variance = float(top.forward(None).variance.mean())

    def log_likelihood(x):
        covariance = variance * truth.w.T @ truth.w + truth.noise * torch.eye(PIXELS).double()
        each = [
            torch.distributions.MultivariateNormal(truth.b + mean * truth.w.sum(0), covariance).log_prob(x.double())
            for mean in (-2.0, 1.0)
        ]
        return torch.stack(each).logsumexp(0) - math.log(2)

    return model, log_likelihood


def test_ais_comes_to_the_exact_likelihood_of_a_linear_model_under_a_mixture():
    model, log_likelihood = linear_with_mixture()
    z = model.ancestral([torch.randn(1, model.units[0] + 1, 1, 30, generator=torch.Generator().manual_seed(4))])[0]
    pixels = torch.randn(1, PIXELS, 1, 30, generator=torch.Generator().manual_seed(2))
    x = model.generative.likelihood.sample(z, pixels)[0, :, 0].T.detach()
    exact = log_likelihood(x)
    found = ais(model, x, chains=24, steps=60)
    assert found.log_likelihood_mc_se < 0.15
    assert float((found.log_likelihood - exact).mean()) == pytest.approx(0, abs=4 * found.log_likelihood_mc_se)
    # Chains that stay with their component leave up to log K to the gap: down from the posterior none finds the others.
    assert -0.3 < found.gap < math.log(2) + 0.4


def test_positions_are_samples_of_the_prior_and_their_energy_is_its_density():
    model, x = spread_out({"mixture": 3}, 2), binary(4)
    target = Target(model, units_first(x[None]))
    noise, choice = torch.randn(1, 2, 5, 4), torch.randn(1, 1, 5, 4)
    position = target.position(noise, choice)
    z = target.top.sample(torch.cat([noise, choice], dim=1))
    torch.testing.assert_close(target.latents(position)[0], z)
    assert 0.3 < float(target.position(torch.randn(1, 2, 4000, 4), torch.randn(1, 1, 4000, 4)).std()) < 1.7
    state = target.at(position)
    torch.testing.assert_close(target.energy(state, 0.0), -target.top.log_prob(z)[:, 0])
    # The pull is the gradient of it, by differences, and leapfrog steps keep the energy.
    step = 1e-2
    for unit in range(2):
        moved = torch.zeros_like(position)
        moved[:, unit] = step
        difference = target.energy(target.at(position - moved), 0) - target.energy(target.at(position + moved), 0)
        torch.testing.assert_close(state.pull[:, unit], difference / (2 * step), rtol=2e-2, atol=2e-2)
    momentum = torch.randn_like(position)
    there, final = leapfrog(target, state, momentum, torch.full((1, 1, 1, 4), 1e-2), 0.7)
    before = target.energy(state, 0.7) + 0.5 * momentum.square().sum(1)
    after = target.energy(there, 0.7) + 0.5 * final.square().sum(1)
    torch.testing.assert_close(after, before, rtol=0, atol=2e-2)


def test_what_is_chosen_has_a_stream_of_its_own_and_depends_on_neither_memory_nor_other_images(monkeypatch):
    model, x = spread_out({"vamp": 3}, 2), binary(5)
    whole, purposes = ais(model, x, chains=3, steps=4), []
    monkeypatch.setattr("hvae_spec.evaluate.ais.ROWS", 12)

    def recorded(seed, purpose, *others):
        purposes.append(purpose)
        return image_streams(seed, purpose, *others)

    monkeypatch.setattr("hvae_spec.evaluate.ais.image_streams", recorded)
    found = ais(model, x, chains=3, steps=4)
    torch.testing.assert_close(found.log_likelihood, whole.log_likelihood, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.simulated_upper, whole.simulated_upper, rtol=1e-4, atol=1e-3)
    assert purposes.count(CHOICES["annealed importance sampling"]) == 3

"""AIS, BDMC and HMC against exact likelihoods: of linear-Gaussian hierarchies, and by quadrature."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import hvae_spec
from hvae_spec import annealing, compiler
from hvae_spec.evaluate.ais import CHAINS, Target, ais, anneal, bytes_per_chain, leapfrog, step_sizes, transition
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.random import image_streams
from tests.members import member
from tests.nn.test_linear_gaussian import PIXELS, UNITS, compiled
from tests.observations import FORMS, x_like

PURPOSE = "annealed importance sampling"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer leapfrog steps and a shorter preliminary run: nothing here depends on how many there are."""
    monkeypatch.setattr(annealing, "LEAPFROG_STEPS", 3)
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 30)


def simulated(depth, count):
    """A linear-Gaussian model, images that it made, the noise that made them and their exact log-likelihood."""
    model, truth = compiled(depth, "ladder")
    model.requires_grad_(False)
    exact = torch.randn(1, sum(model.units), 1, count, generator=torch.Generator().manual_seed(1))
    pixels = torch.randn(1, PIXELS, 1, count, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        z = model.ancestral(exact.split(model.units, dim=1))[0]
        x = model.generative.likelihood.sample(z, pixels)
    return Target(model, x), exact, truth.log_likelihood(x[0, :, 0].T)


def paths(target, steps):
    streams = image_streams(3, PURPOSE, range(target.x.shape[3]))
    sizes = step_sizes(target, steps, streams)
    return list(zip(annealing.temperatures(steps), sizes, strict=True)), streams


@pytest.mark.parametrize("depth", [1, 3])
def test_weights_are_unbiased_up_and_down_so_that_their_logs_are_bounds(depth):
    images, chains = 200, 8
    target, exact, log_likelihood = simulated(depth, images)
    up, streams = paths(target, 25)
    start = torch.randn(1, exact.shape[1], chains, images, generator=torch.Generator().manual_seed(5))
    lower = anneal(target, start, up, streams)[0] - log_likelihood
    upper = anneal(target, exact.expand_as(start), up[::-1], streams)[0] + log_likelihood
    for log_w in (lower, upper):
        # E[w] / p(x) and E[1/w] p(x), which are 1; and by Jensen the mean log is below 0.
        ratio, root = log_w.exp().mean(0), images**0.5
        assert ratio.std() / root < 0.1
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / root
        assert log_w.mean() < -4 * log_w.mean(0).std() / root


def test_with_more_steps_ais_comes_to_the_exact_likelihood_within_its_error_and_the_gap_says_how_near():
    model, truth = compiled(2, "ladder")
    x = truth.sample(30)
    exact = truth.log_likelihood(x)
    coarse, fine = ais(model, x, chains=4, steps=4), ais(model, x, chains=16, steps=50)
    lacks = [float((exact - found.log_likelihood).mean()) for found in (coarse, fine)]
    assert fine.log_likelihood_mc_se < 0.12
    assert abs(lacks[1]) < 4 * fine.log_likelihood_mc_se
    # The images are as the model makes them: what AIS lacks is no more than the gap, in expectation.
    for found, lacking in zip((coarse, fine), lacks, strict=True):
        error = math.hypot(found.gap_se, found.log_likelihood_mc_se)
        assert lacking < found.gap + 3 * error
        assert found.estimate > exact.mean() - 3 * error
    assert lacks[0] > 0.5
    assert coarse.gap > 1
    assert abs(fine.gap) < 0.3
    assert fine.acceptance == pytest.approx(0.65, abs=0.1)


def test_one_unit_and_binary_pixels_against_quadrature():
    spec = member(1, model__layers=[{"units": 1, "mlp": [4]}], model__batch_norm=False)
    model = compiler.initialized([spec], 64)
    with torch.no_grad():
        model.generative.likelihood.logits.weight *= 4
    x = (torch.rand(12, 64, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    z = torch.from_numpy(nodes).float().view(1, 1, -1, 1).expand(-1, -1, -1, len(x))
    with torch.no_grad():
        terms = model.generative.likelihood(z, units_first(x[None]))[0].double()
    exact = (terms + torch.from_numpy(np.log(weights / weights.sum())).unsqueeze(1)).logsumexp(0)
    found = ais(model, x, chains=64, steps=20)
    assert found.log_likelihood_mc_se < 0.04
    assert float((found.log_likelihood - exact).mean()) == pytest.approx(0, abs=4 * found.log_likelihood_mc_se)
    torch.testing.assert_close(found.log_likelihood, exact, rtol=0, atol=0.4)


@pytest.mark.parametrize("observation", [form for form in FORMS if form != "bernoulli"], ids=str)
def test_one_unit_and_pixels_of_every_other_kind_against_quadrature(observation):
    spec = member(1, model__layers=[{"units": 1, "mlp": [4]}], model__batch_norm=False, model__observation=observation)
    model = compiler.initialized([spec], 64)
    x = x_like(observation, torch.rand(6, 64, generator=torch.Generator().manual_seed(0)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    z = torch.from_numpy(nodes).float().view(1, 1, -1, 1).expand(-1, -1, -1, len(x))
    with torch.no_grad():
        terms = model.generative.likelihood(z, units_first(x[None]))[0].double()
    exact = (terms + torch.from_numpy(np.log(weights / weights.sum())).unsqueeze(1)).logsumexp(0)
    found = ais(model, x, chains=64, steps=20)
    assert found.log_likelihood_mc_se < 0.1
    assert float((found.log_likelihood - exact).mean()) == pytest.approx(0, abs=4 * found.log_likelihood_mc_se)
    assert abs(found.gap) < 0.5


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_hmc_leaves_its_target_as_it_is(temperature):
    target, _, _ = simulated(1, 1)
    truth = compiled(1, "ladder")[1]
    # The posterior at this temperature is Gaussian, with independent units.
    variance = 1 / (1 + temperature * (truth.w**2).sum(1) / truth.noise)
    mean = variance * temperature * (truth.w @ (target.x[0, :, 0, 0].double() - truth.b)) / truth.noise
    chains = 5_000
    noise = torch.randn(1, UNITS, chains, 1, generator=torch.Generator().manual_seed(7))
    column = mean.view(1, -1, 1, 1), variance.sqrt().view(1, -1, 1, 1)
    state = target.at((column[0] + column[1] * noise).float())
    streams = image_streams(0, PURPOSE, [0])
    moved = state.position
    for _ in range(3):
        state, probability = transition(target, state, torch.tensor([0.5 * temperature**-0.5]), temperature, streams)
    assert 0.4 < probability.mean() < 0.9
    assert ((state.position != moved).any(1)).double().mean() > 0.9
    standard = ((state.position - column[0]) / column[1])[0, :, :, 0]
    root = chains**0.5
    assert standard.mean(1).abs().max() < 4.5 / root
    assert (standard.square().mean(1) - 1).abs().max() < 4.5 * 2**0.5 / root


def test_leapfrog_is_reversible_and_preserves_volume():
    target, exact, _ = simulated(3, 5)
    target = Target(target.model.double(), target.x.double())
    units = exact.shape[1]
    momentum = torch.randn(1, units, 1, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = torch.full((1, 1, 1, 5), 0.2, dtype=torch.float64)
    state = target.at(exact.double())
    there, final = leapfrog(target, state, momentum, step, 0.7)
    assert (there.position - state.position).abs().mean() > 0.1
    back, returned = leapfrog(target, there, -final, step, 0.7)
    torch.testing.assert_close(back.position, state.position, rtol=0, atol=1e-10)
    torch.testing.assert_close(-returned, momentum, rtol=0, atol=1e-10)

    # Volume: the determinant of the map's derivative, by differences in every direction as one batch of chains.
    width, small = 2 * units, 1e-5
    point = torch.cat([exact.double(), momentum], dim=1)[:, :, :, :1]
    moves = small * torch.eye(width, dtype=torch.float64).view(1, width, width, 1)
    one = Target(target.model, target.x[..., :1])

    def mapped(points):
        state, momentum = leapfrog(one, one.at(points[:, :units]), points[:, units:], step[..., :1], 0.7)
        return torch.cat([state.position, momentum], dim=1)

    derivative = (mapped(point + moves) - mapped(point - moves))[0, :, :, 0] / (2 * small)
    assert torch.linalg.det(derivative).item() == pytest.approx(1, abs=1e-6)


def test_an_images_draws_depend_on_neither_memory_nor_the_other_images(monkeypatch):
    model, truth = compiled(2, "ladder")
    x = truth.sample(7)
    whole = ais(model, x, chains=4, steps=5, seed=2, epoch=9)
    monkeypatch.setattr("hvae_spec.evaluate.ais.ROWS", 24)
    in_chunks, first = (
        ais(model, x, chains=4, steps=5, seed=2, epoch=9),
        ais(model, x[:2], chains=4, steps=5, seed=2, epoch=9),
    )
    for name in ("log_likelihood", "log_likelihood_mc_variance", "simulated_lower", "simulated_upper"):
        torch.testing.assert_close(getattr(in_chunks, name), getattr(whole, name), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(getattr(first, name), getattr(whole, name)[:2], rtol=1e-4, atol=1e-3)
    assert in_chunks.acceptance == pytest.approx(whole.acceptance, abs=1e-4)


def test_it_is_reproducible_and_seeded():
    model, truth = compiled(1, "ladder")
    x = truth.sample(3)
    one, again, other, later = (
        ais(model, x, chains=2, steps=3, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    for name in ("log_likelihood", "simulated_lower", "simulated_upper"):
        assert torch.equal(getattr(one, name), getattr(again, name))
        assert not torch.isclose(getattr(one, name), getattr(other, name)).any()
        assert not torch.isclose(getattr(one, name), getattr(later, name)).any()


def test_more_chains_than_are_computed_together_are_all_weighed(monkeypatch):
    model, truth = compiled(1, "ladder")
    x = truth.sample(2)
    exact = truth.log_likelihood(x)
    monkeypatch.setattr("hvae_spec.evaluate.ais.CHAINS", 50)
    found = ais(model, x, chains=120, steps=8)
    assert found.chains == 120
    assert found.log_likelihood_mc_variance.max() < 0.1
    torch.testing.assert_close(found.log_likelihood, exact, rtol=0, atol=1.0)
    assert CHAINS == 256


def test_what_is_computed_is_what_plans_count_and_memory_bounds_it(monkeypatch):
    model, truth = compiled(2, "ladder")
    x = truth.sample(5)
    rows, fractions = [], []
    at = Target.at
    monkeypatch.setattr(
        Target, "at", lambda self, position: (rows.append(position[0, 0].numel()), at(self, position))[1]
    )
    monkeypatch.setattr("hvae_spec.evaluate.ais.ROWS", 16)
    ais(model, x, chains=4, steps=6, progress=fractions.append)
    assert sum(rows) == len(x) * annealing.gradients(4, 6)
    assert max(rows) <= 16
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert bytes_per_chain(model) == 4 * (6 * (2 * PIXELS + 2 * UNITS) + 12 * 2 * UNITS)


def test_a_single_step_is_importance_sampling_from_the_prior():
    model, truth = compiled(1, "ladder")
    x = truth.sample(3)
    found = ais(model, x, chains=5, steps=1)
    assert math.isnan(found.acceptance)
    # The same draws, less those that come before: the simulated images', and of the preliminary run.
    streams = image_streams(0, PURPOSE, [0, 2, 4])
    streams.normal(UNITS + PIXELS, 1)
    step_sizes(Target(model, units_first(x[None])), 1, streams)
    z = streams.normal(UNITS, 5).movedim(0, -1)[None]
    with torch.no_grad():
        terms = model.generative.likelihood(z, units_first(x[None]))[0].double()
    torch.testing.assert_close(found.log_likelihood, terms.logsumexp(0) - math.log(5), rtol=1e-5, atol=1e-4)
    assert math.isnan(ais(model, x, chains=1, steps=1).log_likelihood_mc_se)


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_the_path_goes_from_the_prior_to_the_posterior_and_is_slow_at_its_ends(steps):
    path = annealing.temperatures(steps)
    assert (len(path), path[0], path[-1]) == (steps + 1, 0, 1)
    assert all(low < high for low, high in pairwise(path))
    assert path == pytest.approx([1 - t for t in reversed(path)], abs=1e-12)
    places = [annealing.preliminary_step(k, steps) for k in range(1, steps)]
    assert places == sorted(places)
    assert all(1 <= place < annealing.PRELIMINARY_STEPS for place in places)


def test_a_model_measures_itself_in_float32_with_the_settings_of_its_spec(monkeypatch):
    spec = member(2, training__matmul_precision="medium")
    model = hvae_spec.compile(spec)
    model.record_statistics()
    used, forward = set(), Linear.forward

    def watched(self, *arguments):
        used.add(torch.get_float32_matmul_precision())
        return forward(self, *arguments)

    monkeypatch.setattr(Linear, "forward", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        found = model.ais(model.test_images()[:2], chains=2, steps=3)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert used == {"highest"}
    assert (found.chains, found.steps, len(found.log_likelihood)) == (2, 3, 2)
    assert found.log_likelihood.isfinite().all()

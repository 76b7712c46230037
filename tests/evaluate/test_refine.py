"""Refined encodings against the exact likelihood of linear-Gaussian hierarchies, and what they leave alone."""

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.counts import image_counts
from hvae_spec.evaluate import refine as module
from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.evaluate.refine import bytes_per_sample, refine
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.refinement import Descent, runs_of
from hvae_spec.spec.cost import evaluation_parts
from tests.members import member
from tests.nn.test_linear_gaussian import UNITS, compiled

LONG = Descent(steps=200, lr=0.01)
SHORT = Descent(steps=3, lr=0.05)


def spoiled(depth, inference, layers):
    """A linear-Gaussian model with the exact posterior, off its mean and wider in some layers, and 12 of its images."""
    model, truth = compiled(depth, inference)
    with torch.no_grad():
        for layer in layers:
            linear = model.inference.up[layer - 1].head.linear
            linear.bias[0, :UNITS] += 0.3
            linear.bias[0, UNITS:] += 0.5
    x = truth.sample(12)
    return model, x, truth.log_likelihood(x)


@pytest.mark.parametrize(("depth", "inference"), [(2, "vae"), (3, "ladder")])
def test_where_q_can_be_the_posterior_a_refined_elbo_comes_to_the_exact_log_likelihood(depth, inference):
    layers = range(1, depth + 1) if inference == "ladder" else (1,)
    model, x, exact = spoiled(depth, inference, layers)
    amortized = evaluate(model, x, 200)
    assert float((exact - amortized.elbo).mean()) > 0.25
    jointly = refine(model, x, LONG, 200)[0]
    assert jointly.layers == tuple(layers)
    torch.testing.assert_close(jointly.elbo, exact, rtol=0, atol=0.05)
    torch.testing.assert_close(jointly.log_likelihood, exact, rtol=0, atol=0.05)


def test_a_layer_alone_repairs_what_is_its_own_and_the_layers_of_a_vae_above_the_first_are_not_refined():
    model, x, exact = spoiled(2, "ladder", [2])
    jointly, first, second = refine(model, x, LONG, 200)
    assert [run.layers for run in (jointly, first, second)] == [(1, 2), (1,), (2,)]
    torch.testing.assert_close(second.elbo, exact, rtol=0, atol=0.05)
    # The other layer may make up for some of it, as it has the evidence of the image, but not for all.
    assert float((exact - first.elbo).mean()) > 0.1
    model, x, exact = spoiled(2, "vae", [2])
    (only,) = refine(model, x, LONG, 200)
    assert only.layers == (1,)
    assert float((exact - only.elbo).mean()) > 0.1


@pytest.mark.parametrize("steps", [1, 3])
def test_the_first_step_is_one_of_adam_on_the_elbo_of_every_image_by_itself(monkeypatch, steps):
    """Adam's first step moves every number by its step size, against the sign of its gradient. What is refined is the
    evidence of the last sweep.
    """
    spec = member(3, model__batch_norm=False, model__inference_steps=steps)
    model, x = compiler.initialized([spec], 64), torch.rand(5, 64, generator=torch.Generator().manual_seed(1)).round()
    seen = []
    bounds = module._bounds
    monkeypatch.setattr(module, "_bounds", lambda *args: (seen.append(args[2]), bounds(*args))[1])
    refine(model, x, Descent(steps=1, lr=0.01), 2)
    with torch.no_grad():
        encoding = model.inference.encode(units_first(x[None]))
    unrefined, *after = seen
    assert all(torch.equal(one.mean, other.mean) for one, other in zip(unrefined, encoding, strict=True))
    for run, layers in zip(after, runs_of(3), strict=True):
        for place, (before, after) in enumerate(zip(encoding, run, strict=True), start=1):
            moved = 0.01 if place in layers else 0.0
            means, logs = after.mean - before.mean, after.variance.log() - before.variance.log()
            for change in (means, logs):
                torch.testing.assert_close(change.abs(), torch.full_like(change, moved), rtol=0, atol=1e-5)


def test_neither_memory_nor_the_other_images_change_a_refinement_and_nothing_trained_is_touched(monkeypatch):
    spec = member(2, model__batch_norm=False)
    model = compiler.initialized([spec], 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(7, 64, generator=torch.Generator().manual_seed(1)).round()
    together = refine(model, x, SHORT, 70, seed=3)
    sizes = []
    noise = module._noise
    monkeypatch.setattr(
        module, "_noise", lambda streams, *args: (sizes.append(len(streams.seeds)), noise(streams, *args))[1]
    )
    memory = 2 * 64 * bytes_per_sample(model) / 2**30
    apart = refine(model, x, SHORT, 70, seed=3, memory_gib=memory)
    assert set(sizes) == {2, 1}
    fewer = refine(model, x[:3], SHORT, 70, seed=3)
    for one, other, first in zip(together, apart, fewer, strict=True):
        torch.testing.assert_close(one.log_likelihood, other.log_likelihood, rtol=0, atol=1e-3)
        torch.testing.assert_close(one.elbo[:3], first.elbo, rtol=0, atol=1e-3)
    assert not torch.allclose(together[0].elbo, refine(model, x, SHORT, 70, seed=4)[0].elbo, atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("depth", "inference"), [(2, "vae"), (3, "ladder")])
def test_a_refinement_that_moves_nothing_changes_no_bound_of_any_image(depth, inference):
    """The bounds that are compared have the same noise; that of another seed changes them by far more."""
    model, x, _ = spoiled(depth, inference, [1])
    runs = refine(model, x, Descent(steps=2, lr=1e-9), 20, seed=1)
    for run in runs:
        torch.testing.assert_close(run.log_likelihood, run.amortized_log_likelihood, rtol=0, atol=1e-4)
        torch.testing.assert_close(run.elbo, run.amortized_elbo, rtol=0, atol=1e-4)
        assert torch.equal(run.amortized_elbo, runs[0].amortized_elbo)
    other = refine(model, x, Descent(steps=1, lr=1e-9), 20, seed=2)[0]
    assert float((other.amortized_elbo - runs[0].amortized_elbo).abs().min()) > 1e-3
    # It is the bound that an evaluation takes, with other noise.
    many = refine(model, x, Descent(steps=1, lr=1e-9), 2000)[0]
    exact = evaluate(model, x, 2000)
    torch.testing.assert_close(many.amortized_elbo, exact.elbo, rtol=0, atol=0.2)


def test_progress_counts_every_sample_once():
    fractions = []
    model, x, _ = spoiled(2, "ladder", [1])
    refine(model, x, SHORT, 130, progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_multiply_adds_of_a_refinement():
    settings = {"steps": 7, "images": 10}
    first, above = 64 * 12 + 12 * 10 + 10 * 2 * 5, 5 * 9 + 9 * 8 + 8 * 2 * 4 + 4 * 7 + 7 * 2 * 3
    down, images = 4 * 9 + 9 * 8 + 8 * 2 * 5 + 3 * 7 + 7 * 2 * 4, 5 * 12 + 12 * 10 + 10 * 64
    for inference, runs, once, each in (
        ("ladder", 4, first + above, images + 2 * down),
        ("vae", 1, first, images + down + above),
    ):
        spec = member(model__inference=inference, model__batch_norm=False, evaluation__refine=settings)
        parts = evaluation_parts(spec, image_counts(spec.data))
        # A pass forward and one back for each of 10 samples and 7 steps, and 20 samples of the bound; 20 more before.
        assert parts["refine"] == 10 * (once + (runs * (2 * 7 * 10 + 20) + 20) * each)
        assert parts["ais"] == 0

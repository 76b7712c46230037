import math

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

import hvae_spec
from hvae_spec import compiler
from hvae_spec.data.batches import draw_once
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import (
    BLOCK_ROWS,
    BLOCKS,
    bytes_per_row,
    evaluate,
    kl_to_standard_normal,
    record_statistics,
    standard_error,
)
from hvae_spec.evaluate.log_weights import compiled_weigh
from hvae_spec.evaluate.member import metrics
from hvae_spec.nn.bounds import FEWER_SAMPLES, jackknife_variance
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.inference import Draw
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from tests.members import member
from tests.nn.test_linear_gaussian import compiled
from tests.reference import Reference


def trained(spec):
    """A model with statistics; initial weights will do, as no test here depends on learning, but for those of flows,
    which are identities at first.
    """
    model = compiler.initialized([spec], 64)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".flow." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    dataset = load_dataset(spec.data)
    record_statistics(model, compiler.batches(spec, dataset), spec.seed, 0, "whole_set")
    return model.eval(), draw_once(dataset, "test", spec.model.observation)


@pytest.mark.parametrize("flow", [None, "planar", "iaf"])
@pytest.mark.parametrize("inference", INFERENCES)
def test_streaming_equals_the_plain_computation_on_the_same_noise(inference, flow):
    spec = member(model__inference=inference)
    spec = member(
        model__layers=[
            {**layer.model_dump(), "flow": flow if place else None} for place, layer in enumerate(spec.model.layers)
        ],
        model__inference=inference,
    )
    model, x = trained(spec)
    assert [kl.shape[0] for kl in evaluate(model, x, 2).kl] == ([5, 4, 3] if flow is None else [5, 1, 1])
    k = 50
    evaluation = evaluate(model, x, k, seed=4, epoch=2)
    noise = Streams([4]).begin("evaluation", 2).noise(k, len(x), model.units)
    with torch.no_grad():
        trace = fuse_batch_norm(model)(x[None], noise)
    log_w = log_weight(trace)[0].double()
    torch.testing.assert_close(evaluation.log_likelihood, log_w.logsumexp(0) - math.log(k), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(evaluation.elbo, log_w.mean(0), rtol=1e-6, atol=1e-5)
    w = (log_w - log_w.max(0).values).exp()
    torch.testing.assert_close(evaluation.effective_sample_size, w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-4, atol=1e-4)
    for layer, ratio in enumerate(trace.log_ratios):
        draws = -ratio[0].double()
        torch.testing.assert_close(evaluation.kl[layer], draws.mean((1, 2)), rtol=1e-5, atol=1e-5)
        se = (draws.var(1, correction=1) / k).mean(1).div(len(x)).sqrt()
        torch.testing.assert_close(evaluation.kl_se[layer], se, rtol=1e-3, atol=1e-6)
        # The covariance over images of the means of every other sample and of the rest, unit by unit.
        z = trace.latents[layer][0].double()
        halves = zip(z[:, 0::2].mean(1), z[:, 1::2].mean(1), strict=True)
        expected = torch.stack([torch.stack(pair).cov()[0, 1] for pair in halves])
        torch.testing.assert_close(evaluation.mean_variance[layer], expected, rtol=1e-4, atol=1e-7)


def test_what_a_model_is_measured_by_is_in_float32_whatever_its_training_was(monkeypatch):
    spec = member(model__batch_norm=True, training__matmul_precision="medium")
    model = hvae_spec.compile(spec)
    used = []
    forward = Linear.forward

    def watched(self, *arguments):
        used.append(torch.get_float32_matmul_precision())
        return forward(self, *arguments)

    monkeypatch.setattr(Linear, "forward", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        model.record_statistics()
        x = model.test_images()
        model.evaluate(x, iw_samples=2)
        kl_to_standard_normal(model.module, x)
        model.gallery()
        model.sample(2)
        model.reconstruct(x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(used) == {"highest"}


def test_many_chunks_equal_one_stream(monkeypatch):
    spec = member(model__batch_norm=False)
    model, x = trained(spec)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.IMAGES", 7)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCK_ROWS", 40)
    chunked = evaluate(model, x, 600, seed=1)
    monkeypatch.undo()
    whole = evaluate(model, x, 600, seed=1)
    # Different noise, the same distribution: means agree within their Monte Carlo errors.
    error = math.hypot(chunked.log_likelihood_mc_se, whole.log_likelihood_mc_se)
    assert abs(chunked.log_likelihood.mean() - whole.log_likelihood.mean()) < 5 * error
    for a, b, sa, sb in zip(chunked.kl, whole.kl, chunked.kl_se, whole.kl_se, strict=True):
        assert ((a - b).abs() < 5 * torch.hypot(sa, sb)).all()
    assert len(chunked.log_likelihood) == len(x)
    assert (chunked.effective_sample_size >= 1).all()
    assert (chunked.effective_sample_size <= 600).all()


def seen_rows(monkeypatch, model):
    """Rows of every pass of samples through the model."""
    seen = []
    trace = type(model).trace

    def spy(self, x, encoding, noise, *given):
        seen.append(noise[0].shape[2] * noise[0].shape[3])
        return trace(self, x, encoding, noise, *given)

    monkeypatch.setattr(type(model), "trace", spy)
    return seen


def test_a_cpu_computes_block_by_block_whatever_the_memory(monkeypatch):
    model, x = trained(member())
    seen = seen_rows(monkeypatch, model)
    found = [evaluate(model, x, 500, memory_gib=memory) for memory in (None, 1e-9, 100.0)]
    assert max(seen) <= BLOCK_ROWS
    assert sum(seen) == 3 * 500 * len(x)
    for other in found[1:]:
        assert torch.equal(other.log_likelihood, found[0].log_likelihood)
        assert all(map(torch.equal, other.kl, found[0].kl))


def test_memory_decides_how_many_blocks_are_computed_together_and_no_draw(monkeypatch):
    model, x = trained(member())
    monkeypatch.setitem(BLOCKS, "cpu", 8)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCK_ROWS", 100)
    seen = seen_rows(monkeypatch, model)
    block = 100 // len(x) * len(x)
    for rows, blocks in ((50, 1), (2 * block, 2), (10**9, 8)):
        seen.clear()
        found = evaluate(model, x, 200, seed=3, memory_gib=(rows + 0.5) * bytes_per_row(model) / 2**30)
        assert max(seen) == blocks * block
        if rows == 50:
            alone = found
        torch.testing.assert_close(found.log_likelihood, alone.log_likelihood, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(found.elbo, alone.elbo, rtol=1e-6, atol=1e-5)


def test_the_sample_independent_part_runs_once_an_image(monkeypatch):
    model, x = trained(member())
    calls = []
    encode = type(model.inference).encode
    monkeypatch.setattr(type(model.inference), "encode", lambda self, x: (calls.append(x.shape[3]), encode(self, x))[1])
    evaluate(model, x, 3000)
    assert sum(calls) == len(x)


def test_an_images_bound_does_not_depend_on_its_neighbors():
    """Batch normalization must not see the test batch."""
    model, x = trained(member(1))
    alone = evaluate(model, x[:1], 4000, seed=1)
    together = evaluate(model, x, 4000, seed=2)
    error = math.hypot(*((1 / e.effective_sample_size[0] - 1 / 4000) ** 0.5 for e in (alone, together)))
    assert abs(alone.log_likelihood[0] - together.log_likelihood[0]) < 5 * error


def test_evaluation_is_reproducible_and_seeded():
    model, x = trained(member())
    first, again, other = (evaluate(model, x, 20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.log_likelihood, again.log_likelihood)
    assert not torch.equal(first.log_likelihood, other.log_likelihood)


def test_standard_error_over_images():
    assert standard_error(torch.tensor([1.0, 2.0, 3.0, 6.0])) == pytest.approx(math.sqrt(14 / 3) / 2)
    assert math.isnan(standard_error(torch.tensor([1.0])))


@pytest.mark.parametrize(("images", "k"), [(24, 100), (24, 120), (2, 5200)])
def test_bounds_with_fewer_samples_equal_the_plain_computation_on_the_same_noise(images, k):
    model, x = trained(member(model__batch_norm=False))
    x = x[:images]
    evaluation = evaluate(model, x, k, seed=4)
    streams, chunk = Streams([4]).begin("evaluation"), BLOCK_ROWS // images
    log_w = []
    for done in range(0, k, chunk):
        with torch.no_grad():
            trace = fuse_batch_norm(model)(x[None], streams.noise(min(chunk, k - done), images, model.units))
        log_w.append(log_weight(trace)[0].double())
    every = torch.cat(log_w)
    points = [samples for samples in FEWER_SAMPLES if samples < k]
    assert list(evaluation.bound_by_samples) == [*points, k]
    for samples in points:
        # Groups of K' samples, among the first 5000.
        groups = every[: min(k, 5000) // samples * samples].view(-1, samples, images)
        bounds = torch.stack([group.exp().mean(0).log() for group in groups])
        variance = bounds.var(0) / len(bounds) if len(bounds) > 1 else jackknife_variance(every[:samples])
        found = evaluation.bound_by_samples[samples]
        expected = bounds.mean().item(), variance.sum().sqrt().item() / images
        assert found == pytest.approx(expected, rel=1e-5)
    variance = jackknife_variance(every[:5000])
    torch.testing.assert_close(evaluation.log_likelihood_mc_variance, variance, rtol=1e-3, atol=1e-9)
    assert evaluation.bound_by_samples[k] == (evaluation.log_likelihood.mean(), evaluation.log_likelihood_mc_se)


def test_the_bound_rises_with_the_samples_from_the_elbo_up():
    model, x = trained(member(model__batch_norm=False))
    evaluation = evaluate(model, x, 500, memory_gib=10 * bytes_per_row(model) / 2**30)
    bounds = [bound for bound, _ in evaluation.bound_by_samples.values()]
    assert bounds[0] == pytest.approx(evaluation.elbo.mean().item(), rel=1e-12)
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0] + 0.1


def test_stated_errors_of_bounds_are_their_spread_over_repetitions():
    model, x = trained(member(model__batch_norm=False))
    repeats = [evaluate(model, x, 150, seed=seed).bound_by_samples for seed in range(60)]
    for samples in (1, 5, 10, 50):
        spread = torch.tensor([repeat[samples][0] for repeat in repeats]).std().item()
        stated = sum(repeat[samples][1] for repeat in repeats) / len(repeats)
        assert stated == pytest.approx(spread, rel=0.35), samples


def test_one_sample_states_the_spread_over_images_as_its_error():
    model, x = trained(member(model__batch_norm=False))
    evaluation = evaluate(model, x, 1)
    assert evaluation.bound_by_samples == {1: (evaluation.elbo.mean(), evaluation.elbo_se)}
    assert evaluation.log_likelihood_mc_se == evaluation.elbo_se > 0


@pytest.mark.parametrize("inference", INFERENCES)
def test_kl_to_the_standard_normal_is_that_of_the_slow_reference(inference, monkeypatch):
    spec = member(model__inference=inference)
    model, x = trained(spec)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.NORMALITY_IMAGES", 3)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.NORMALITY_SAMPLES", 4)
    found = kl_to_standard_normal(model, x, seed=2, epoch=5)
    noise = Streams([2]).begin("KL to the standard normal", 5).noise(4, 3, model.units)
    expected, reference = torch.zeros(3, dtype=torch.float64), Reference(model, spec)
    for sample in range(4):
        for image in range(3):
            _, q = reference.posterior(x[image].double(), [eps[0, :, sample, image].double() for eps in noise])
            for layer, (mu, sigma2) in enumerate(q):
                normal = torch.distributions.Normal(mu, sigma2.sqrt())
                kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
                expected[layer] += kl.sum() / 12
    assert found == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize("inference", INFERENCES)
def test_at_the_top_the_kl_to_the_standard_normal_is_the_kl_of_the_bound(inference, monkeypatch):
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.NORMALITY_SAMPLES", 1000)
    model, x = trained(member(model__inference=inference, model__batch_norm=False))
    evaluation = evaluate(model, x, 2000)
    found = kl_to_standard_normal(model, x)
    assert found[-1] == pytest.approx(evaluation.kl[-1].sum().item(), rel=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_evaluation_is_the_plain_one():
    model, x = trained(member())
    plain, fused = evaluate(model, x, 700), evaluate(model, x, 700, compiled=True)
    torch.testing.assert_close(fused.log_likelihood, plain.log_likelihood, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(fused.kl, plain.kl, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_evaluation_goes_on_where_compiling_fails(monkeypatch):
    def failing(function, dynamic):
        def compiled(*arguments):
            raise TorchDynamoException("no compiler")

        return compiled

    monkeypatch.setattr(torch, "compile", failing)
    compiled_weigh.cache_clear()
    model, x = trained(member())
    with pytest.warns(UserWarning, match="goes on without it: no compiler"):
        fused = evaluate(model, x, 700, compiled=True)
    compiled_weigh.cache_clear()
    assert torch.equal(fused.log_likelihood, evaluate(model, x, 700).log_likelihood)


class OfLayer:
    """A Gaussian that says of its log density only what the layer's is."""

    def __init__(self, gaussian):
        self.gaussian = gaussian

    def sample(self, noise):
        return self.gaussian.sample(noise)

    def sample_and_log_prob(self, noise):
        z, log_prob = self.gaussian.sample_and_log_prob(noise)
        return z, log_prob.sum(1, keepdim=True)

    def log_prob(self, z):
        return self.gaussian.log_prob(z).sum(1, keepdim=True)


def of_layer(model, layer):
    """The same model where q of a layer, by its index, does not factorize over its units as far as anyone is told."""
    sample = model.inference.sample

    def told(encoding, noise):
        draws = sample(encoding, noise)
        draws[layer] = Draw.of(OfLayer(draws[layer].posterior), noise[layer], draws[layer].prior)
        return draws

    model.inference.sample = told
    model.ratio_widths[layer] = 1
    return model


def test_a_layer_that_does_not_factorize_has_one_kl_and_active_units_by_variance_alone():
    spec = member(model__batch_norm=False)
    model, x = trained(spec)
    plain = evaluate(model, x, 60)
    found = evaluate(of_layer(compiler.initialized([spec], 64).eval(), 1), x, 60)
    torch.testing.assert_close(found.log_likelihood, plain.log_likelihood, rtol=1e-5, atol=1e-4)
    assert [len(kl) for kl in found.kl] == [5, 1, 3]
    torch.testing.assert_close(found.kl[1].sum(), plain.kl[1].sum(), rtol=1e-4, atol=1e-4)
    assert found.active_units == [plain.active_units[0], None, plain.active_units[2]]
    assert found.active_units_by_variance == plain.active_units_by_variance
    result = metrics(found)
    assert (result["active_units"], result["active_units_per_layer"]) == (None, found.active_units)
    assert result["kl_per_layer"] == pytest.approx(metrics(plain)["kl_per_layer"], rel=1e-4, abs=1e-4)
    assert result["active_units_by_variance"] == sum(plain.active_units_by_variance)
    assert len(result["unit_kl"][1]) == len(result["unit_kl_se"][1]) == 1


def test_activity_by_variance_is_that_of_the_exact_means_and_noise_makes_no_unit_active():
    """E_q[z|x] of a linear-Gaussian model is known. A unit whose q is N(0, 1) for every image has a mean that moves by
    1/K with the noise alone, which is more than the criterion where K is 20.
    """
    model, truth = compiled(2, "vae")
    with torch.no_grad():
        linear = model.inference.up[0].head.linear
        linear.weight[0, 0] = 0
        linear.bias[0, 0] = 0
        linear.bias[0, 3] = math.log(math.expm1(1.0))
    x = truth.sample(4000)
    evaluation = evaluate(model, x, 20)
    with torch.no_grad():
        first = model.inference.encode(units_first(x[None]))[0].mean
        second = model.inference.up[1](first).mean  # linear, so that the mean over z_1 is that at its mean
    for found, means in zip(evaluation.mean_variance, (first, second), strict=True):
        torch.testing.assert_close(found, means[0, :, 0].double().var(1), rtol=0.02, atol=4e-3)
    assert evaluation.active_units_by_variance == [2, 2]
    assert evaluate(model, x[:50], 1).active_units_by_variance is None
    assert evaluate(model, x[:1], 20).active_units_by_variance is None


def test_whose_half_a_sample_is_in_does_not_depend_on_memory(monkeypatch):
    spec = member(model__batch_norm=False)
    model, x = trained(spec)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCK_ROWS", 3 * len(x))
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCKS", {"cpu": 1})
    apart = evaluate(model, x, 21)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCKS", {"cpu": 4})
    together = evaluate(model, x, 21)
    for one, other in zip(apart.mean_variance, together.mean_variance, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)

"""With an auxiliary variable q(z|x) is a mixture, and where r is q(a|x, z) the weights are those of the mixture itself.

Linear Gaussians have closed forms of both: the posterior of a given x and z, and the density of z given x alone.
"""

import copy

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate import evaluation
from hvae_spec.evaluate.evaluation import evaluate, kl_to_standard_normal, record_statistics
from hvae_spec.nn import estimators
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.cost import forward_macs, mappings, parameters
from tests.members import member
from tests.nn.test_linear_gaussian import IMAGES, PIXELS, UNITS, head
from tests.nn.test_linear_gaussian import compiled as without_a

ZERO = torch.zeros(UNITS, dtype=torch.float64)
UNSEEN = torch.zeros(PIXELS, UNITS, dtype=torch.float64)


def uniform(low, high, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def linear_spec(depth, inference):
    return member(
        1,
        model__layers=[{"units": UNITS, "mlp": []} for _ in range(depth)],
        model__inference=inference,
        model__auxiliary={"units": UNITS, "mlp": []},
        model__batch_norm=False,
        model__observation="gaussian",
    )


def shared(model, plain):
    """Give a model the generative weights of one without a, and its inference weights but for those up into z_1."""
    ours = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in plain.named_parameters():
            if not name.startswith("inference.up.0."):
                ours[name].copy_(value)


def exact_mixture(depth, share=0.6):
    """A VAE of which q(z_1|x) is the exact posterior of `LinearGaussian(depth)`, a share of its variance by way of a,
    and r is q(a|x, z_1). Returns also that share of the variance of each unit, and the variance.
    """
    plain, truth = without_a(depth, "vae")
    spec = linear_spec(depth, "vae")
    floor, model = spec.model.variance_floor, compiler.initialized([spec], PIXELS)
    shared(model, plain)
    matrix, variance = truth.evidence()[0]
    total = 1 / (1 / variance + 1 / truth.marginal[0])
    gain = matrix * (total / variance)  # E[z_1|x] = (x - b) gain
    a_of_x, s = 0.3 * torch.eye(PIXELS, UNITS, dtype=torch.float64), uniform(0.5, 1.5, UNITS)
    scale = (share * total / s).sqrt()  # z_1 = E[z_1|x] + scale (a - E[a|x]) + noise
    v = total - scale**2 * s
    head(model.auxiliary.q.head.linear, a_of_x, ZERO, s, floor)
    of_x = gain - a_of_x * scale
    both = torch.cat([of_x, torch.diag(scale)])
    head(model.inference.up[0].head.linear, both, -truth.b @ gain, v, floor)
    posterior = 1 / (1 / s + scale**2 / v)
    of_z = posterior * scale / v  # E[a|x, z] = posterior (E[a|x] / s + scale (z_1 - the part of x) / v)
    r = torch.cat(
        [a_of_x * (posterior / s) - of_x * of_z, torch.diag(of_z), *[torch.zeros(UNITS, UNITS)] * (depth - 1)]
    )
    head(model.auxiliary.r.head.linear, r, truth.b @ gain * of_z, posterior, floor)
    return model, truth, total / v


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_with_the_posterior_of_a_and_an_exact_mixture_every_log_weight_is_the_log_likelihood(depth):
    model, truth, _ = exact_mixture(depth)
    x = truth.sample(IMAGES)
    with torch.no_grad():
        trace = model(x[None], model.noise(Streams([0]).begin("test"), 7, IMAGES))
    exact = truth.log_likelihood(x)
    assert trace.auxiliary.abs().mean() > 0.5  # a is no idle variable
    torch.testing.assert_close(log_weight(trace)[0].double(), exact.expand(7, IMAGES), rtol=1e-4, atol=5e-3)
    found = evaluate(model, x, 30)
    torch.testing.assert_close(found.log_likelihood, exact, rtol=1e-4, atol=5e-3)
    torch.testing.assert_close(found.elbo, exact, rtol=1e-4, atol=5e-3)
    assert found.effective_sample_size.min() > 29.9


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_r_that_ignores_z_costs_what_z_tells_of_a(share):
    """With r = q(a|x) the ELBO is log p(x) - I(a; z|x), the bound of K samples between the two, and both bounds."""
    model, truth, ratio = exact_mixture(2, share)
    with torch.no_grad():
        own, of_x = model.auxiliary.r.head.linear, model.auxiliary.q.head.linear
        own.weight.zero_()
        own.weight[:, :, :PIXELS] = of_x.weight
        own.bias.copy_(of_x.bias)
    x = truth.sample(IMAGES)
    information = 0.5 * ratio.log().sum().item()
    exact = truth.log_likelihood(x)
    few, many = evaluate(model, x, 5), evaluate(model, x, 3000)
    assert information > 0.4
    torch.testing.assert_close(many.elbo, exact - information, rtol=0, atol=0.15)
    assert many.elbo.mean().item() == pytest.approx(exact.mean().item() - information, abs=0.02)
    assert many.auxiliary == pytest.approx(0, abs=1e-4)
    assert many.elbo.mean() + 0.05 < few.log_likelihood.mean() < many.log_likelihood.mean()
    error = abs(many.log_likelihood.mean() - exact.mean()).item()
    assert error < 5 * many.log_likelihood_mc_se + 5e-3


@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_a_log_weight_with_the_posterior_of_a_is_that_of_the_marginal_inference_model(inference):
    """In the ladder z_1 and z_2 both depend on a, and r takes both. In float64, unit by unit."""
    spec = linear_spec(2, inference)
    model = compiler.initialized([spec], PIXELS).double()
    floor = spec.model.variance_floor
    s, h, v, v2 = (uniform(0.3, 1.2, UNITS, seed=seed) for seed in (1, 2, 3, 4))
    diagonal = torch.diag
    up = torch.cat([0.05 * torch.randn(PIXELS, UNITS), diagonal(h)])
    head(model.auxiliary.q.head.linear, 0.05 * torch.randn(PIXELS, UNITS), ZERO, s, floor)
    head(model.inference.up[0].head.linear, up, uniform(-1, 1, UNITS), v, floor)
    k = uniform(0.4, 1.1, UNITS, seed=5)
    head(model.inference.up[1].head.linear, diagonal(k), uniform(-1, 1, UNITS, seed=6), v2, floor)
    if inference == "vae":
        # In the order of sampling: z_1 = f_1 + h a + noise, z_2 = f_2 + k z_1 + noise.
        jump, noise = torch.stack([h, k * h]), torch.stack([v, k**2 * v + v2])
        cross = k * v
    else:
        t, c = uniform(0.3, 1.2, UNITS, seed=7), uniform(0.4, 1.1, UNITS, seed=8)
        head(model.inference.down[0].head.linear, diagonal(c), ZERO, t, floor)
        # z_2 = f_2 + k h a + noise, and z_1 = (v c z_2 + t (f_1 + h a)) / (v + t) + noise.
        down, own = v * c / (v + t), t / (v + t)
        jump = torch.stack([down * k * h + own * h, k * h])
        noise = torch.stack([down**2 * v2 + v * t / (v + t), v2])
        cross = down * v2
    # Given x: z = mean + jump (a - E[a|x]) + noise of covariance C, [U, 2, 2], so that both posteriors are known.
    covariance = diagonal(torch.ones(2)).double() * noise.T[:, :, None] + cross[:, None, None] * torch.eye(2).flip(0)
    precision = 1 / s + (jump.T[:, None] @ covariance.inverse() @ jump.T[:, :, None]).flatten()
    gain = (covariance.inverse() @ jump.T[:, :, None])[:, :, 0].T / precision  # of z_1 and z_2 in E[a|x, z]
    x = torch.randn(1, 5, PIXELS).double()

    def means(images):
        """E[a|x], E[z_1|x] and E[z_2|x], [N, U]: all noise zero."""
        with torch.no_grad():
            batch, nothing = units_first(images[None]), [torch.zeros(1, UNITS, 1, len(images)).double()] * 3
            drawn = model.draw(batch, model.known(batch), nothing)
        return [part[0, :, 0].T for part in (drawn.a.z, *drawn.latents)]

    # All are affine in x: their matrices from the unit images.
    at_zero, at_unit = means(torch.zeros(1, PIXELS).double()), means(torch.eye(PIXELS).double())
    affine = [(unit - zero, zero[0]) for zero, unit in zip(at_zero, at_unit, strict=True)]
    (a_x, a_0), (z1_x, z1_0), (z2_x, z2_0) = affine
    r = torch.cat([a_x - z1_x * gain[0] - z2_x * gain[1], diagonal(gain[0]), diagonal(gain[1])])
    head(model.auxiliary.r.head.linear, r, a_0 - z1_0 * gain[0] - z2_0 * gain[1], 1 / precision, floor)
    with torch.no_grad():
        trace = model(x, [eps.double() for eps in model.noise(Streams([0]).begin("test"), 6, 5)])
    z = torch.stack([each[0] for each in trace.latents], dim=-1).movedim(0, -2)  # [S, B, U, 2]
    _, *centers = means(x[0])
    marginal = covariance + s[:, None, None] * jump.T[:, :, None] * jump.T[:, None]
    q = torch.distributions.MultivariateNormal(torch.stack(centers, dim=-1), marginal)
    top = model.generative.top(None)
    p = [model.generative.conditional(0, trace.latents[1:]), top]
    log_p = sum(each.log_prob(latent).sum(1) for each, latent in zip(p, trace.latents, strict=True))
    expected = (trace.log_likelihood + log_p)[0] - q.log_prob(z).sum(-1)
    torch.testing.assert_close(log_weight(trace)[0], expected, rtol=1e-5, atol=1e-4)
    assert trace.auxiliary.std() > 0.3


@pytest.mark.parametrize("inference", ["vae", "ladder", "top_down"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_that_q_ignores_with_r_that_is_q_of_a_leaves_the_model_without_it(inference, norm):
    plain_spec = member(3, model__inference=inference, model__norm=norm)
    plain = compiler.initialized([plain_spec], 64)
    spec = member(3, model__inference=inference, model__norm=norm, model__auxiliary={"units": 6, "mlp": [7]})
    model = compiler.initialized([spec], 64)
    ours, first = dict(model.named_parameters()), "inference.up.0.mlp.linears.0.weight"
    with torch.no_grad():
        for name, value in plain.named_parameters():
            ours[name].zero_()[..., : value.shape[2]] = value
        for name, value in model.auxiliary.q.named_parameters():
            r = model.auxiliary.r.get_parameter(name)
            r.zero_()[..., : value.shape[2]] = value
    assert ours[first].shape[2] == 64 + 6
    x = torch.rand(1, 8, 64).round()
    noise = model.noise(Streams([3]).begin("evaluation", 2), 4, 8)
    # The noise of the latents is what it is without a.
    theirs = Streams([3]).begin("evaluation", 2).noise(4, 8, plain.units)
    assert all(torch.equal(one, other) for one, other in zip(noise[:-1], theirs, strict=True))
    trace = model(x, noise)
    torch.testing.assert_close(trace.auxiliary, torch.zeros(1, 4, 8), rtol=0, atol=1e-4)
    torch.testing.assert_close(log_weight(trace), log_weight(plain(x, theirs)), rtol=1e-5, atol=2e-3)


def test_the_noise_of_a_is_of_streams_beside_and_goes_on_with_them():
    model = compiler.initialized([member(2, seed, model__auxiliary={"units": 6, "mlp": []}) for seed in (0, 1)], 64)
    streams = Streams([0, 1]).begin("training", 3)
    first, second = model.noise(streams, 2, 4), model.noise(streams, 2, 4)
    assert [eps.shape for eps in first] == [(2, 5, 2, 4), (2, 4, 2, 4), (2, 6, 2, 4)]
    beside = Streams([0, 1]).begin("auxiliary variable of training", 3)
    for noise in (first, second):
        assert torch.equal(noise[-1], beside.normal(6 * 2 * 4).view(2, 6, 2, 4))
    again = model.noise(streams.begin("training", 3), 2, 4)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    alone = model.noise(Streams([1]).begin("training", 3), 2, 4)
    assert all(torch.equal(one[1:], other) for one, other in zip(first, alone, strict=True))
    with pytest.raises(RuntimeError, match="not begun"):
        _ = Streams([0]).auxiliary


@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_evaluation_in_chunks_encodes_anew_with_every_a(inference, monkeypatch):
    spec = member(2, model__inference=inference, model__auxiliary={"units": 6, "mlp": [7]}, model__batch_norm=False)
    model = compiler.initialized([spec], 64).eval()
    monkeypatch.setattr(evaluation, "BLOCK_ROWS", 8 * 3)
    x = torch.rand(8, 64).round()
    found = evaluate(model, x, 10, seed=4, epoch=2)
    streams = Streams([4]).begin("evaluation", 2)
    fused = fuse_batch_norm(model)
    with torch.no_grad():
        traces = [fused(x[None], fused.noise(streams, size, 8)) for size in (3, 3, 3, 1)]
    log_w = torch.cat([log_weight(trace) for trace in traces], dim=1)
    torch.testing.assert_close(found.log_likelihood, bound(log_w, 10)[0].double(), rtol=1e-5, atol=1e-4)
    of_a = torch.cat([trace.auxiliary for trace in traces], dim=1)
    assert found.auxiliary == pytest.approx(-of_a.mean().item(), abs=1e-4)
    assert of_a.std(1).min() > 0  # another a in every sample
    # What is recorded adds up.
    likelihood = torch.cat([trace.log_likelihood for trace in traces], dim=1).mean().item()
    total = likelihood - sum(float(kl.sum()) for kl in found.kl) - found.auxiliary
    assert found.elbo.mean().item() == pytest.approx(total, abs=1e-3)
    # KL to N(0, I) of every conditional, at the a that is drawn.
    monkeypatch.setattr(evaluation, "BLOCK_ROWS", 8 * 5)
    monkeypatch.setattr(evaluation, "NORMALITY_SAMPLES", 5)
    noise = fused.noise(Streams([4]).begin("KL to the standard normal", 2), 5, 8)
    with torch.no_grad():
        images = units_first(x[None])
        draws = fused.draw(images, fused.known(images), noise).layers
        standard = DiagonalGaussian(torch.zeros(()), torch.ones(()))
        expected = [draw.posterior.kl(standard).sum(1).mean().item() for draw in draws]
    assert draws[-1].posterior.mean.shape[2] == 5
    assert kl_to_standard_normal(model, x, seed=4, epoch=2) == pytest.approx(expected, rel=1e-5)


def test_statistics_reach_the_normalizations_of_q_of_a_and_of_r():
    spec = member(2, model__auxiliary={"units": 6, "mlp": [7]})
    model = compiler.initialized([spec], 64)
    record_statistics(model, compiler.batches(spec, load_dataset(spec.data)), 0, 0, "whole_set")
    assert {name for name, _ in model.auxiliary.named_buffers()} >= {"q.head.norm.mean", "r.mlp.norms.0.variance"}
    assert all(bool(value.isfinite().all()) for _, value in model.named_buffers())
    # Folded they are the same.
    x, noise = torch.rand(1, 4, 64).round(), model.noise(Streams([0]).begin("test"), 3, 4)
    with torch.no_grad():
        whole, folded = (log_weight(each.eval()(x, noise)) for each in (copy.deepcopy(model), fuse_batch_norm(model)))
    torch.testing.assert_close(folded, whole, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("inference", ["vae", "ladder", "top_down"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_parameters_and_work_are_those_of_the_networks(inference, norm):
    plain = member(3, model__inference=inference, model__norm=norm, model__flow={"planar": 2})
    spec = member(3, model__inference=inference, model__norm=norm, model__flow={"planar": 2}, model__auxiliary={})
    assert spec.model.auxiliary.model_dump() == {"units": 64, "mlp": (128,)}
    assert parameters(spec, 64) == sum(value.numel() for value in compiler.hierarchy(spec, 64).parameters())
    by_name = {mapping.name: mapping for mapping in mappings(spec, 64)}
    assert by_name["q(a|x)"].widths == (64, 128, 128)
    assert by_name["r(a|x, z_1…z_3)"].widths == (64 + 12, 128, 128)
    once, each = forward_macs(spec, 64)
    assert once == by_name["q(a|x)"].macs
    more = 64 * 12 + by_name["r(a|x, z_1…z_3)"].macs  # a into the first hidden layer, and r
    assert each == sum(forward_macs(plain, 64)) + more


def test_members_of_a_pack_have_an_auxiliary_variable_of_their_own():
    specs = [member(2, seed, model__auxiliary={"units": 6, "mlp": [7]}) for seed in (3, 4)]
    pack, alone = compiler.initialized(specs, 64), compiler.initialized(specs[1:], 64)
    x, noise = torch.rand(2, 8, 64).round(), pack.noise(Streams([3, 4]).begin("training"), 2, 8)
    expected = log_weight(alone(x[1:], [eps[1:] for eps in noise]))
    torch.testing.assert_close(log_weight(pack(x, noise))[1:], expected, rtol=1e-5, atol=1e-4)
    assert not torch.equal(pack.auxiliary.r.mlp.linears[0].weight[0], pack.auxiliary.r.mlp.linears[0].weight[1])


def test_the_weight_of_the_kl_is_that_of_a_too_and_no_weight_is_a_layers():
    model = compiler.initialized([member(2, model__auxiliary={"units": 6, "mlp": [7]})], 64)
    with torch.no_grad():
        trace = model(torch.rand(1, 8, 64).round(), model.noise(Streams([0]).begin("test"), 3, 8))
    latents = sum(ratio.sum(1) for ratio in trace.log_ratios)
    expected = trace.log_likelihood + 0.25 * (latents + trace.auxiliary)
    torch.testing.assert_close(log_weight(trace, torch.tensor([0.25])), expected, rtol=1e-5, atol=1e-3)
    with pytest.raises(ValueError, match="auxiliary variable"):
        log_weight(trace, torch.ones(1, 2))


def test_an_estimator_along_the_samples_has_no_auxiliary_variable():
    model = compiler.initialized([member(2, model__auxiliary={"units": 6, "mlp": [7]})], 64)
    noise = model.noise(Streams([0]).begin("test"), 1, 4)
    with pytest.raises(TypeError, match="an auxiliary variable has one too"):
        estimators.path(model, torch.rand(1, 4, 64).round(), noise, log_weight, torch.ones(1), 1)

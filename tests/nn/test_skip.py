"""Skip connections, and inference from the top down: a linear-Gaussian hierarchy with them has an exact likelihood, and
an exact posterior that the inference networks can represent.

For every unit, z_L ~ N(0, 1), z_i = sum_{j > i} a_ij z_j + noise, and x = basis (sum_i c_i z_i) + b + noise, with
orthonormal columns in the basis, so that y = basis^T (x - b) is all that x says of the unit.
"""

import itertools

import pytest
import torch

import hvae_spec
from hvae_spec import compiler
from hvae_spec.evaluate.ais import Target
from hvae_spec.evaluate.evaluation import evaluate
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from tests.members import member
from tests.nn.test_linear_gaussian import head

UNITS, PIXELS, IMAGES, DEPTH = 2, 64, 20, 3
SKIPS = ["none", "generative", "both"]


class LinearGaussian:
    """The generative model's numbers, and what follows from them.

    Args:
        skips: whether z_i depends on all layers above.
        skips_to_x: whether x depends on them.

    """

    def __init__(self, skips, skips_to_x):
        generator = torch.Generator().manual_seed(5)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

        self.a = [[uniform(0.3, 0.8, UNITS) for _ in range(DEPTH)] for _ in range(DEPTH)]
        for i, j in itertools.product(range(DEPTH), repeat=2):
            if j <= i or (j > i + 1 and not skips):
                self.a[i][j] = torch.zeros(UNITS, dtype=torch.float64)
        self.variance = [uniform(0.2, 0.8, UNITS) for _ in range(DEPTH - 1)] + [torch.ones(UNITS)]
        self.c = [
            uniform(0.8, 1.5, UNITS) if layer == 0 or skips_to_x else torch.zeros(UNITS) for layer in range(DEPTH)
        ]
        self.basis, _ = torch.linalg.qr(torch.randn(PIXELS, UNITS, generator=generator, dtype=torch.float64))
        self.b, self.noise = uniform(-0.2, 0.2, PIXELS), torch.tensor(0.3, dtype=torch.float64)
        # z = noise of z times this, per unit: [U, L, L], and with y's row the joint covariance [U, L + 1, L + 1].
        a = torch.stack([torch.stack(row, dim=-1) for row in self.a], dim=-2)
        mixing = torch.linalg.inv(torch.eye(DEPTH, dtype=torch.float64) - a)
        mixing = torch.cat([mixing, (torch.stack(self.c, dim=-1).double().unsqueeze(1) @ mixing)], dim=1)
        self.joint = mixing @ torch.diag_embed(torch.stack(self.variance, dim=-1).double()) @ mixing.mT
        self.signal = self.joint[:, -1, -1].clone()
        self.joint[:, -1, -1] += self.noise

    def log_likelihood(self, x):
        covariance = self.basis @ torch.diag(self.signal) @ self.basis.T + self.noise * torch.eye(PIXELS)
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(x.double())

    def sample(self, count):
        generator = torch.Generator().manual_seed(99)
        y = torch.randn(count, UNITS, generator=generator, dtype=torch.float64) * self.signal.sqrt()
        x = y @ self.basis.T + self.b
        return (x + self.noise.sqrt() * torch.randn(x.shape, generator=generator, dtype=torch.float64)).float()

    def conditional(self, layer, given):
        """Coefficients of some of the variables (z_1 ... z_L, y) in the mean of z at an index, a matrix each, and its
        variance.
        """
        of_given = self.joint[:, given][:, :, given]
        coefficients = torch.linalg.solve(of_given, self.joint[:, given, layer].unsqueeze(2)).squeeze(2)
        explained = (coefficients * self.joint[:, given, layer]).sum(1)
        return [torch.diag(each) for each in coefficients.T], self.joint[:, layer, layer] - explained


def compiled(inference, skip):
    """A member whose generative model is a linear-Gaussian hierarchy and whose inference model is its posterior."""
    spec = member(
        1,
        model__layers=[{"units": UNITS, "mlp": []} for _ in range(DEPTH)],
        model__inference=inference,
        model__skip=skip,
        model__batch_norm=False,
        model__observation="gaussian",
    )
    skips, is_vae = skip != "none", inference == "vae"
    # Given z_1, the posterior of a vae's z_2 is free of x only where x depends on z_1 alone.
    truth = LinearGaussian(skips and (skip == "both" or not is_vae), skips and not is_vae)
    floor, zero, y = spec.model.variance_floor, torch.zeros(UNITS), DEPTH
    model = compiler.initialized([spec], PIXELS)
    to_x = torch.cat([torch.diag(c).double() @ truth.basis.T for c in (truth.c if skips else truth.c[:1])])
    head(model.generative.likelihood.head.linear, to_x, truth.b, truth.noise.expand(PIXELS), floor)
    for layer, mapping in enumerate(model.generative.conditionals):
        above = truth.a[layer][layer + 1 :] if skips else truth.a[layer][layer + 1 : layer + 2]
        head(mapping.head.linear, torch.cat([*map(torch.diag, above)]), zero, truth.variance[layer], floor)
    up = [mapping.head.linear for mapping in model.inference.up]
    if is_vae:
        (gain,), variance = truth.conditional(0, [y])
        head(up[0], truth.basis @ gain, -truth.b @ truth.basis @ gain, variance, floor)
        for layer in range(1, DEPTH):
            below = list(range(layer))[::-1] if skip == "both" else [layer - 1]
            gains, variance = truth.conditional(layer, below)
            head(up[layer], torch.cat(gains), zero, variance, floor)
        return model, truth
    one = torch.ones(UNITS, dtype=torch.float64)
    halves = 2 if inference == "ladder" else 1
    scale = torch.eye(UNITS, dtype=torch.float64)  # mu_d of the layer below is y times this
    for layer in range(DEPTH):
        above = list(range(layer + 1, DEPTH))[: None if skip == "both" else 1]
        (*of_above, of_y), variance = truth.conditional(layer, [*above, y])
        is_top = layer == DEPTH - 1
        # The ladder's two Gaussians have twice the variance, so that their merge has the mean of their means.
        wanted = of_y if is_top else halves * of_y if inference == "ladder" else torch.eye(UNITS, dtype=torch.float64)
        evidence = variance if is_top else halves * variance if inference == "ladder" else one
        if layer == 0:
            head(up[0], truth.basis @ wanted, -truth.b @ truth.basis @ wanted, evidence, floor)
        else:
            head(up[layer], torch.linalg.inv(scale) @ wanted, zero, evidence, floor)
        scale = wanted
        if not is_top:
            rows = [halves * each for each in of_above]
            if inference == "top_down":
                rows = [of_y, torch.zeros_like(of_y), *rows]
            head(model.inference.down[layer].head.linear, torch.cat(rows), zero, halves * variance, floor)
    return model, truth


CASES = [*itertools.product(INFERENCES, SKIPS)]
EXACT = [case for case in CASES if case not in (("ladder", "generative"), ("top_down", "generative"))]
"""Where p has skip connections and q has not, q(z_i|z_{i+1}, x) is not the posterior."""


@pytest.mark.parametrize(("inference", "skip"), EXACT)
def test_with_the_exact_posterior_every_log_weight_is_the_log_likelihood(inference, skip):
    model, truth = compiled(inference, skip)
    x = truth.sample(IMAGES)
    with torch.no_grad():
        log_w = log_weight(model(x[None], Streams([0]).begin("test").noise(7, IMAGES, model.units)))
    exact = truth.log_likelihood(x)
    torch.testing.assert_close(log_w[0].double(), exact.expand(7, IMAGES), rtol=1e-4, atol=5e-3)
    evaluation = evaluate(model, x, 30)
    torch.testing.assert_close(evaluation.elbo, exact, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize(("inference", "skip"), CASES)
def test_elbo_below_importance_weighted_bound_below_log_likelihood(inference, skip):
    model, truth = compiled(inference, skip)
    with torch.no_grad():  # spoil the posterior a little: wider, and off its mean
        linear = model.inference.up[0].head.linear
        linear.bias[0, :UNITS] += 0.3
        linear.bias[0, UNITS:] += 0.4
    x = truth.sample(IMAGES)
    exact, found = truth.log_likelihood(x).mean().item(), evaluate(model, x, 4000)
    bound = found.log_likelihood.mean().item()
    assert found.elbo.mean().item() < bound - 0.01
    assert bound == pytest.approx(exact, abs=5 * found.log_likelihood_mc_se + 5e-3)


def test_the_target_of_annealed_importance_sampling_has_skip_connections():
    model, truth = compiled("ladder", "both")
    x, eps = truth.sample(5), torch.randn(1, DEPTH * UNITS, 3, 5)
    position = eps[0].double().requires_grad_()
    noise, z = position.split(UNITS), [None] * DEPTH
    for layer in reversed(range(DEPTH)):
        means = [truth.a[layer][above][:, None, None] * z[above] for above in range(layer + 1, DEPTH)]
        z[layer] = sum(means) + truth.variance[layer].sqrt()[:, None, None] * noise[layer]
    y = sum(c[:, None, None] * each for c, each in zip(truth.c, z, strict=True))
    mean = (truth.basis @ y.flatten(1)).view(PIXELS, 3, 5) + truth.b[:, None, None]
    expected = torch.distributions.Normal(mean, truth.noise.sqrt()).log_prob(x.T[:, None].double()).sum(0)
    (gradient,) = torch.autograd.grad(expected.sum(), position)
    state = Target(model.requires_grad_(False), units_first(x[None])).at(eps)
    torch.testing.assert_close(state.log_likelihood[0].double(), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(state.gradient[0].double(), gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("inference", "skip"), [case for case in CASES if case[1] != "none"])
def test_with_weights_of_zero_for_skipped_layers_the_model_is_the_plain_one(inference, skip, norm):
    skipping, plain = (
        compiler.initialized([member(model__inference=inference, model__norm=norm, model__skip=each)], PIXELS)
        for each in (skip, "none")
    )
    # The nearest come first, after the evidence where there is some: what is beyond, in every first map, is skipped.
    state = skipping.state_dict()
    with torch.no_grad():
        for name, value in plain.state_dict().items():
            if value.shape != state[name].shape:
                state[name][..., value.shape[2] :] = 0
                state[name] = state[name][..., : value.shape[2]]
            value.copy_(state[name])
    assert sum(p.numel() for p in skipping.parameters()) > sum(p.numel() for p in plain.parameters())
    x, noise = torch.rand(1, 8, PIXELS).round(), Streams([1]).begin("test").noise(3, 8, plain.units)
    with torch.no_grad():
        expected, found = plain(x, noise), skipping(x, noise)
    torch.testing.assert_close(log_weight(found), log_weight(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("skip", ["none", "generative"])
def test_injected_samples_depend_on_the_layers_above_by_skip_connections_alone(skip):
    model = hvae_spec.compile(member(model__batch_norm=False, model__skip=skip)).module
    noise = Streams([1]).begin("test").noise(1, 4, model.units)
    generative = model.generative

    def expected_x(noise, layer):
        with torch.no_grad():
            return generative.likelihood.mean(generative.seen(model.ancestral(noise, layer)))

    for layer, other in itertools.product((1, 2, 3), (1, 2, 3)):
        changed = [eps + (place == other) for place, eps in enumerate(noise, start=1)]
        is_same = torch.equal(expected_x(noise, layer), expected_x(changed, layer))
        assert is_same is (skip == "none" and other > layer)
    # The layers above are samples of the prior, and the injected one is its noise.
    latents, prior = model.ancestral(noise, 2), model.ancestral(noise)
    assert torch.equal(latents[1], noise[1])
    assert torch.equal(latents[2], prior[2])
    assert not torch.equal(latents[1], prior[1])

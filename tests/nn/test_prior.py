"""Densities, samples and starts of the priors of z_L; what batch statistics see of pseudo-inputs."""

import itertools
import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.ais import bytes_per_chain
from hvae_spec.evaluate.evaluation import bytes_per_row, evaluate, record_statistics
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.gaussian import DiagonalGaussian, log_ratio
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.prior import PRIORS, Coupling, GaussianMixture, Prior
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.dataset import ImageCounts
from hvae_spec.spec.cost import bound_macs, mappings, parameters, training_macs
from hvae_spec.training.trainer import Trainer, watched
from tests.members import member

LEARNED = [{"vamp": 6}, {"mixture": 4}, {"realnvp": {"blocks": 3, "mlp": [5]}}]


def compiled(spec, members=1):
    specs = [spec.model_copy(update={"seed": seed}) for seed in range(members)]
    return compiler.initialized(specs, 64, compiler.batches(spec, load_dataset(spec.data)))


def unlike_its_start(prior, units, **overrides):
    """A model of one layer in float64, whose prior is not what it starts with."""
    spec = member(1, model__layers=[{"units": units, "mlp": [4]}], model__prior=prior, model__norm="none", **overrides)
    model = compiled(spec).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.generative.top.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.7)
    return model


def mixture(members=2, units=3, components=5, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shape = members, units, 1, components
    mean = torch.randn(shape, generator=generator, dtype=dtype) * scale
    return GaussianMixture(mean, torch.rand(shape, generator=generator, dtype=dtype) + 0.1)


def slow_log_density(p, z):
    """[M, S, B], component by component."""
    each = [
        torch.distributions.Normal(p.mean[..., k : k + 1].double(), p.variance[..., k : k + 1].double().sqrt())
        .log_prob(z.double())
        .sum(1)
        for k in range(p.mean.shape[3])
    ]
    return torch.stack(each).logsumexp(0) - math.log(len(each))


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_the_density_of_a_mixture_is_that_of_a_slow_one_also_of_narrow_components_far_away(precision):
    p = mixture(scale=30.0)
    p = GaussianMixture(p.mean, p.variance * 1e-5)
    near = p.mean[..., :4] + p.variance[..., :4].sqrt() * torch.randn(2, 3, 7, 4)
    torch.set_float32_matmul_precision(precision)
    try:
        for z in (near, torch.randn(2, 3, 7, 4)):
            found, slow = p.log_prob(z), slow_log_density(p, z)
            assert found.shape == (2, 1, 7, 4)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found[:, 0].double(), slow, rtol=1e-6, atol=1e-5)
    finally:
        torch.set_float32_matmul_precision("highest")


def grid(units, end=14.0, points=701):
    line = torch.linspace(-end, end, points, dtype=torch.float64)
    every = torch.cartesian_prod(*[line] * units).reshape(-1, units).T
    return every.view(1, units, 1, -1), float(line[1] - line[0]) ** units


@pytest.mark.parametrize(("prior", "units"), [*itertools.product(LEARNED[:2], [1, 2]), (LEARNED[2], 2)], ids=str)
def test_densities_integrate_to_one(prior, units):
    p = unlike_its_start(prior, units).top()
    z, volume = grid(units)
    with torch.no_grad():
        density = p.log_prob(z)
    assert density.shape == (1, 1, *z.shape[2:])
    assert float(density.exp().sum()) * volume == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("units", [2, 5])
def test_the_log_determinant_of_coupling_layers_is_that_of_the_jacobian(units):
    model = unlike_its_start(LEARNED[2], units)
    p, noise = model.top(), torch.randn(1, units, 1, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda eps: p.sample(eps.view_as(noise)).flatten(), noise.flatten())
    z, log_density = p.sample_and_log_prob(noise)
    expected = (-0.5 * (noise.square() + math.log(2 * math.pi))).sum() - torch.linalg.slogdet(jacobian).logabsdet
    assert float(log_density.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(p.log_prob(z), log_density)
    assert (z - noise).abs().min() > 1e-4  # every unit is changed
    for coupling in p.couplings:
        assert isinstance(coupling, Coupling)
        torch.testing.assert_close(coupling.inverse(coupling(noise)[0])[0], noise)


def test_coupling_layers_start_as_the_standard_normal():
    model = compiled(member(2, model__prior=LEARNED[2]), members=2)
    noise = torch.randn(2, 4, 3, 5)
    z, log_density = model.top().sample_and_log_prob(noise)
    assert torch.equal(z, noise)
    torch.testing.assert_close(log_density, torch.distributions.Normal(0, 1).log_prob(noise).sum(1, keepdim=True))


@pytest.mark.parametrize("prior", LEARNED, ids=str)
def test_all_but_the_prior_starts_as_with_the_standard_normal(prior):
    plain, learned = (compiled(member(2, model__prior=each)).state_dict() for each in ("standard_normal", prior))
    assert all(torch.equal(learned[name].nan_to_num(), value.nan_to_num()) for name, value in plain.items())
    assert {name for name in learned if name not in plain} == {
        name for name in learned if name.startswith("generative.top.")
    }


def test_a_mixture_starts_with_components_apart_that_are_the_members_own():
    model = compiled(member(2, model__prior={"mixture": 4}), members=2)
    p = model.top()
    torch.testing.assert_close(p.variance, torch.ones(2, 4, 1, 4), rtol=0, atol=2e-6)
    assert torch.pdist(p.mean[0, :, 0].T).min() > 0.1
    assert (p.mean[0] - p.mean[1]).abs().min() > 1e-4


def test_one_component_is_a_gaussian():
    p, z = mixture(components=1), torch.randn(2, 3, 4, 5)
    gaussian = DiagonalGaussian(p.mean, p.variance)
    torch.testing.assert_close(p.log_prob(z), gaussian.log_prob(z).sum(1, keepdim=True))
    noise = torch.randn(2, 4, 4, 5)
    torch.testing.assert_close(p.sample(noise), gaussian.sample(noise[:, :3]))


@pytest.mark.parametrize("depth", [1, 2])
def test_the_vamp_prior_of_one_pseudo_input_is_the_posterior_of_that_image(depth):
    spec = member(depth, model__prior={"vamp": 1}, model__norm="layer")
    model = compiled(spec)
    image = model.generative.top.pseudo_inputs
    z = torch.randn(1, model.units[-1], 3, 2)
    expected = model.inference.encode(image)[-1].log_prob(z).sum(1, keepdim=True)
    torch.testing.assert_close(model.top().log_prob(z), expected)
    _, joint = model.encode(torch.rand(1, 64, 1, 2))
    torch.testing.assert_close(joint.log_prob(z), expected)


def test_a_mixture_draws_every_component_as_often_and_nothing_but_its_choice_chooses():
    p = mixture(members=1, units=1, components=4, dtype=torch.float64)
    quantiles = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    choice = torch.special.ndtri(quantiles).view(1, 1, -1, 1)
    centers = p.sample(torch.cat([torch.zeros_like(choice), choice], dim=1)).flatten()
    assert torch.equal(centers, p.mean.flatten().repeat_interleave(1000))
    extremes = torch.tensor([-40.0, 40.0]).view(1, 1, 2, 1)
    ends = p.sample(torch.cat([torch.zeros_like(extremes), extremes], dim=1).double())
    assert torch.equal(ends.flatten(), p.mean.flatten()[[0, -1]])
    noise = torch.randn(1, 2, 4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z, log_density = p.sample_and_log_prob(torch.cat([noise[:, :1], choice], dim=1))
    torch.testing.assert_close(log_density, p.log_prob(z))
    assert float(z.std() / p.deviation) == pytest.approx(1, abs=0.04)


def test_pseudo_inputs_start_at_training_images_of_the_members_own_stream_and_stay_within_their_range():
    spec = member(2, model__prior={"vamp": 20}, data__redraw="once")
    trainer = Trainer([spec, spec.model_copy(update={"seed": 1})], load_dataset(spec.data))
    images = trainer.batches.images.float()
    (top,) = (module for module in trainer.model.modules() if isinstance(module, Prior))
    inputs = top.pseudo_inputs[:, :, 0].mT
    for own in inputs:
        places = (own.unsqueeze(1) == images).all(2).nonzero()
        assert len(set(places[:, 0].tolist())) == 20
        assert len(set(places[:, 1].tolist())) == 20
    assert not torch.equal(*inputs)
    alone = compiled(spec.model_copy(update={"seed": 0}))
    assert torch.equal(alone.generative.top.images[0], top.images[0])
    for _ in range(2):
        trainer.train_epoch()
    with torch.no_grad():
        assert 0 <= float(top.images.min()) < float(top.images.max()) <= 1
        top.images[0, 0, 0, 0], top.images[0, 1, 0, 0] = -0.5, 1.5  # as an optimizer of one's own may leave them
        assert 0 <= float(top.pseudo_inputs.min()) < float(top.pseudo_inputs.max()) <= 1


def test_pseudo_inputs_start_at_different_images_where_the_training_set_has_copies(monkeypatch):
    spec = member(2, model__prior={"vamp": 500}, data__copies=3, data__train_images=None)
    batches = compiler.batches(spec, load_dataset(spec.data))
    monkeypatch.setattr(batches, "observe", lambda values, streams: values.float())  # draws of one image may differ
    model = compiler.initialized([spec], 64, batches)
    assert model.generative.top.images[0, :, 0].unique(dim=1).shape == (64, 500)


def test_without_images_pseudo_inputs_are_not_a_number():
    model = compiler.initialized([member(2, model__prior={"vamp": 3})], 64)
    assert model.generative.top.pseudo_inputs.isnan().all()


def test_images_are_normalized_as_if_there_were_no_pseudo_inputs_and_these_by_the_images_statistics():
    norm = BatchNorm(2, 3, 1e-5).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = torch.randn(2, 3, 1, 9, dtype=torch.float64)
    plain = norm(x[..., :5])
    norm.uncounted = 4
    found = norm(x)
    assert torch.equal(found[..., :5], plain)
    mean, variance = x[..., :5].mean((2, 3), keepdim=True), x[..., :5].var((2, 3), keepdim=True, correction=0)
    expected = (x - mean) / (variance + 1e-5).sqrt() * norm.weight.unsqueeze(3) + norm.bias.unsqueeze(3)
    torch.testing.assert_close(found, expected)
    # Gradients also go through the statistics, as the images' do.
    torch.autograd.gradcheck(norm, [x.requires_grad_()])
    with recording(norm):
        norm(x)
    torch.testing.assert_close(norm.mean, mean.view(2, 3).detach())
    torch.testing.assert_close(norm.variance, variance.view(2, 3).detach())
    norm.train()
    with pytest.raises(ValueError, match="no images that batch statistics could be taken from"):
        norm(x[..., :4])


def test_no_batch_statistic_sees_pseudo_inputs():
    """What an image's log weight is but for the prior's density, and what is recorded, with other pseudo-inputs."""
    spec = member(2, model__prior={"vamp": 5})
    model, batches = compiled(spec), compiler.batches(spec, load_dataset(spec.data))
    x, noise = torch.rand(1, 16, 64).round(), Streams([0]).begin("test").noise(1, 16, model.units)
    found = []
    for images in (model.generative.top.images.clone(), torch.rand(1, 64, 1, 5)):
        with torch.no_grad():
            model.generative.top.images.copy_(images)
        model.train()
        trace = model(x, noise)
        with torch.no_grad(), recording(model):
            model(x, noise)
        passed = [buffer.clone() for buffer in model.buffers()]
        record_statistics(model, batches, 0, 0, "whole_set")
        found.append([trace.log_likelihood, trace.log_ratios[0], *trace.latents, *passed, *model.buffers()])
        found[-1] = [tensor.detach().clone() for tensor in found[-1]]
        ratio = trace.log_ratios[1].detach()
        found[-1].append(ratio)
    for one, other in zip(*(these[:-1] for these in found), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(found[0][-1], found[1][-1])
    model.train()
    with pytest.raises(ValueError, match="no images"):
        model.top()


@pytest.mark.parametrize("prior", LEARNED, ids=str)
@pytest.mark.parametrize(("depth", "norm"), [(1, "none"), (2, "batch")])
def test_log_weights_are_those_of_densities_one_by_one(prior, depth, norm):
    model = compiled(member(depth, model__prior=prior, model__norm=norm), members=2)
    x, noise = torch.rand(2, 6, 64).round(), Streams([0, 1]).begin("test").noise(3, 6, model.units)
    trace = model(x, noise)
    encoding, top = model.encode(units_first(x))
    draws = model.inference.sample(encoding, noise)
    expected = trace.log_likelihood + top.log_prob(draws[-1].z)[:, 0]
    for layer, draw in enumerate(draws):
        expected = expected - draw.posterior.log_prob(draw.z).sum(1)
        if layer < depth - 1:
            expected = expected + model.generative.conditionals[layer](draws[layer + 1].z).log_prob(draw.z).sum(1)
    torch.testing.assert_close(log_weight(trace), expected, rtol=1e-4, atol=1e-3)
    assert [ratio.shape[1] for ratio in trace.log_ratios] == model.ratio_widths == [*model.units[:-1], 1]


def test_the_standard_normal_is_computed_as_before():
    model = compiled(member(2, model__norm="none"))
    x, noise = torch.rand(1, 6, 64).round(), Streams([0]).begin("test").noise(3, 6, model.units)
    draws = model.inference.sample(model.inference.encode(units_first(x)), noise)
    normal = DiagonalGaussian(torch.tensor(0.0), torch.tensor(1.0))
    assert torch.equal(model(x, noise).log_ratios[1], log_ratio(normal, draws[1].posterior, draws[1].z, noise[1]))
    assert not list(model.generative.top.parameters())


@pytest.mark.parametrize("prior", LEARNED, ids=str)
def test_an_evaluation_computes_the_components_once_and_memory_changes_no_number(prior, monkeypatch):
    spec = member(2, model__prior=prior)
    model = compiled(spec)
    record_statistics(model, compiler.batches(spec, load_dataset(spec.data)), 0, 0, "whole_set")
    x, count = torch.rand(20, 64).round(), []
    made = type(model.generative.top).forward
    monkeypatch.setattr(
        type(model.generative.top), "forward", lambda self, encoded: (count.append(1), made(self, encoded))[1]
    )
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.IMAGES", 7)
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCK_ROWS", 70)
    found = evaluate(model, x, 50)
    assert len(count) == 1
    monkeypatch.setattr("hvae_spec.evaluate.evaluation.BLOCKS", {"cpu": 3})
    torch.testing.assert_close(evaluate(model, x, 50).log_likelihood, found.log_likelihood, rtol=1e-5, atol=1e-4)
    assert (found.elbo <= found.log_likelihood + 1e-9).all()
    assert [len(kl) for kl in found.kl] == model.ratio_widths


def test_the_bound_comes_to_the_likelihood_where_z_does_not_reach_the_image():
    """Then p(x) is what the decoder says, and importance sampling has to integrate the prior to 1."""
    model = unlike_its_start({"mixture": 3}, 1).float()
    with torch.no_grad():
        for linear in model.generative.likelihood.mlp.linears:
            linear.weight.zero_()
        p = model.top()
        head = model.inference.up[0].head.linear
        head.weight.zero_()
        head.bias[:, 0], head.bias[:, 1] = p.mean.mean(), 3.0
        x = torch.rand(4, 64).round()
        exact = model.generative.likelihood(torch.zeros(1, 1, 1, 4), x.T[None, :, None])[0, 0]
        found = evaluate(model, x, 20_000)
    errors = found.log_likelihood_mc_variance.sqrt()
    assert ((found.log_likelihood - exact).abs() < 5 * errors + 1e-3).all()
    assert errors.max() < 0.05


def test_a_step_with_pseudo_inputs_is_one_graph_without_a_break():
    specs = [member(2, seed, model__prior={"vamp": 6}) for seed in (0, 1)]
    trainer = Trainer(specs, load_dataset(specs[0].data))
    x, noise = torch.rand(2, 16, 64).round(), torch.randn(2, 16 * sum(trainer.model.units))
    given = trainer.objective, trainer.model.train(), x, noise, torch.ones(2), 1
    _, seen = torch.compile(watched, dynamic=False, fullgraph=True, backend="eager")(*given)
    torch.testing.assert_close(seen, watched(*given)[1])


def test_memory_counts_the_components_as_they_are_held():
    rows, few, many = 3000, 2, 400
    models = [compiled(member(1, model__prior={"mixture": count}, model__norm="none")) for count in (few, many)]
    counted = [rows * bytes_per_row(model) for model in models]
    peaks = []
    for model in models:
        p, z = model.top(), torch.randn(1, 5, rows, 1)
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            p.log_prob(z)
        held = total = 0
        for event in found.profiler.kineto_results.events():
            if event.name() == "[memory]":
                total += event.nbytes()
                held = max(held, total)
        peaks.append(held)
    difference = counted[1] - counted[0]
    assert 0.5 * difference < peaks[1] - peaks[0] <= difference
    assert bytes_per_chain(models[1]) - bytes_per_chain(models[0]) == difference // rows


@pytest.mark.parametrize("prior", LEARNED, ids=str)
def test_a_pack_is_its_members_alone(prior):
    specs = [member(2, seed, model__prior=prior) for seed in (3, 4)]
    dataset = load_dataset(specs[0].data)
    pack = Trainer(specs, dataset)
    (rows,) = [pack.train_epoch()]
    for m, spec in enumerate(specs):
        alone = Trainer([spec], dataset)
        (row,) = alone.train_epoch()
        assert rows[m]["train_bound"] == pytest.approx(row["train_bound"], rel=1e-4)
        torch.testing.assert_close(pack.optimizer.rows[m], alone.optimizer.rows[0], rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", PRIORS)
def test_a_sample_of_the_prior_takes_the_same_noise_of_all_layers_whatever_chooses(name):
    spec = member(2, model__prior=name if name != "vamp" else {"vamp": 4}, model__norm="none")
    model, streams = compiled(spec).eval(), Streams([7])
    noise = model.prior_noise(streams, "prior samples", 2, 3)
    plain = streams.begin("prior samples").noise(2, 3, model.units)
    assert torch.equal(noise[0], plain[0])
    assert torch.equal(noise[1][:, : model.units[1]], plain[1])
    with torch.no_grad():
        z = model.ancestral(noise)[1]
    assert z.shape == (1, model.units[1], 2, 3)
    if noise[1].shape == plain[1].shape:
        torch.testing.assert_close(z, noise[1])  # coupling layers start at the identity
    injected = model.ancestral(noise, 1)
    assert torch.equal(injected[0], noise[0])


@pytest.mark.parametrize("prior", ["standard_normal", *LEARNED], ids=str)
@pytest.mark.parametrize(("depth", "norm"), [(1, "batch"), (2, "layer")])
def test_plans_count_the_parameters_that_there_are(prior, depth, norm):
    spec = member(depth, model__prior=prior, model__norm=norm)
    assert parameters(spec, 64) == sum(parameter.numel() for parameter in compiled(spec).parameters())


def test_plans_count_pseudo_inputs_in_every_step_and_evaluation_and_components_for_every_sample():
    counts, components, samples = ImageCounts(64, 320, 24), 6, 20
    plain, mixture, vamp = (member(2, model__prior=prior) for prior in ("standard_normal", {"mixture": 6}, {"vamp": 6}))
    per_sample = 2 * plain.model.layers[-1].units * components
    assert training_macs(mixture, counts) - training_macs(plain, counts) == 3 * 3 * 320 * per_sample
    assert bound_macs(mixture, counts) - bound_macs(plain, counts) == 24 * samples * per_sample
    once = sum(mapping.macs for mapping in mappings(plain, 64) if not mapping.per_sample)
    assert training_macs(vamp, counts) - training_macs(mixture, counts) == 3 * 3 * 10 * components * once
    assert bound_macs(vamp, counts) - bound_macs(mixture, counts) == components * once

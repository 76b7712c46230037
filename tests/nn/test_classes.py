"""The class y as a latent: the marginal over it, copies on the sample axis, and what a single class changes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import evaluate, kl_to_standard_normal, record_statistics
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.classes import DrawnClasses, EveryClass
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import GaussianHead
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.marginal import Marginal, mean_log_classes
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.training.trainer import Trainer
from tests.members import member

INFERENCES = ["vae", "ladder", "top_down"]


def labeled(depth=2, labeled=20, seed=0, **overrides):
    """A small member with classes."""
    given = {
        "data__train_images": 120,
        "data__labeled": labeled,
        "data__labeled_batch": 10,
        "model__classes": {"mlp": [6]},
        **overrides,
    }
    return member(depth, seed, **given)


def tiny(classes, inference="ladder", depth=2, **overrides):
    """A model of binary images of 4 pixels and `classes` classes with one unit a layer, in float64."""
    layers = [{"units": 1, "mlp": [3]}, {"units": 1, "mlp": [3]}][:depth]
    spec = labeled(
        2,
        model__layers=layers,
        model__inference=inference,
        model__norm="none",
        model__batch_norm=None,
        model__nonlinearity="tanh",
        model__classes={"mlp": [3], "count": classes},
        **overrides,
    )
    return spec, compiler.initialized([spec], 4).double().eval().requires_grad_(False)


def doubled(noise):
    return [each.double() for each in noise]


def given_class(spec, model, y):
    """The model without classes that a model with a known class y is: its first maps have y's column as a bias."""
    plain_spec = spec.model_copy(update={"model": spec.model.model_copy(update={"classes": None})})
    plain = compiler.initialized([plain_spec], 4).double().eval().requires_grad_(False)
    state, weights = {}, model.state_dict()
    for name, value in plain.state_dict().items():
        own = weights[name]
        bias = name.removesuffix("weight") + "bias"
        if own.shape != value.shape:
            state[bias] = weights[bias] + own[:, :, value.shape[2] + y, None]
            own = own[:, :, : value.shape[2]]
        state.setdefault(name, own)
    plain.load_state_dict(state)
    return plain


@pytest.mark.parametrize(("inference", "depth"), [*((name, 2) for name in INFERENCES), ("ladder", 1)])
@pytest.mark.parametrize("skip", ["none", "both"])
def test_each_class_has_the_bound_of_a_model_of_its_own(inference, depth, skip):
    spec, model = tiny(3, inference, depth, model__skip=skip)
    x = torch.tensor([[[1.0, 0, 0, 1], [0, 1, 1, 1]]], dtype=torch.float64)
    noise = doubled(Streams([0]).begin("training").noise(3 * 4, 2, model.units))
    trace = model(x, noise)
    by_class = bound(log_weight(trace).unflatten(1, (3, 4)).flatten(0, 1), 4)
    for y in range(3):
        own = [eps[:, :, 4 * y : 4 * (y + 1)] for eps in noise]
        alone = given_class(spec, model, y)(x, own)
        torch.testing.assert_close(by_class[y], bound(log_weight(alone), 4)[0])
        for ratio, one in zip(trace.log_ratios, alone.log_ratios, strict=True):
            torch.testing.assert_close(ratio[:, :, 4 * y : 4 * (y + 1)], one)
    # All labels known, the bound of the labeled images is exactly theirs, and log p(y).
    labels = torch.tensor([[2, 0]])
    objective = compiler.objective([spec.objective], unlabeled_share=0.0)
    value = objective.bounds(trace, log_weight(trace), 1.0, 4, labels)[0]
    torch.testing.assert_close(value, torch.stack([by_class[2, 0], by_class[0, 1]]) - math.log(3))


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_path_down_reads_y_and_one_of_its_own_does_not(share):
    spec, model = tiny(3, model__share_top_down=share)
    widths = [mapping.widths[0] for mapping in mappings(spec, 4) if mapping.name == "t_1"]
    assert widths == ([] if share else [1])
    assert model.generative.conditionals[0].mlp.linears[0].weight.shape[2] == 4
    # And log p(z_1|z_2, y), which the shared path has computed, is the generative model's.
    noise = doubled(Streams([0]).begin("training").noise(6, 2, model.units))
    x = torch.rand(1, 2, 4, dtype=torch.float64).round()
    trace, z = model(x, noise), None
    y = EveryClass(3, 2).one_hot(x.device)
    z = trace.latents
    expected = model.generative.conditional(0, z[1:], y).log_prob(z[0])
    encoding = model.inference.of_classes(model.inference.encode(units_first(x)), EveryClass(3, 2))
    draws = model.inference.sample(encoding, noise, y)
    log_q = draws[0].posterior.log_prob(z[0])
    torch.testing.assert_close(trace.log_ratios[0], expected - log_q)


def quadrature(points):
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return torch.tensor(nodes), torch.tensor(weights / weights.sum())


def log_likelihood(model, x, classes):
    """log p(x) by enumeration of y and Gauss-Hermite over z_2 and the noise of z_1, of images [B, 4]."""
    nodes, weights = quadrature(24)
    first, second = (t.flatten() for t in torch.meshgrid(nodes, nodes, indexing="ij"))
    log_weights = (weights[:, None] * weights[None]).log().flatten()
    total = []
    for y in range(classes):
        one = DrawnClasses(torch.full((1, len(first), 1), y), classes).one_hot(x.device)
        z = model.ancestral([each[None, None, :, None] for each in (first, second)], y=one)
        seen = model.generative.seen(z, one)
        image = units_first(x[None])
        log_p = model.generative.likelihood(seen.expand(-1, -1, -1, len(x)), image)[0]
        total.append((log_p + log_weights[:, None]).logsumexp(0))
    return torch.stack(total).logsumexp(0) - math.log(classes)


@pytest.mark.parametrize("inference", INFERENCES)
def test_elbo_bound_and_marginal_are_below_the_likelihood_in_this_order(inference):
    classes = 3
    spec, model = tiny(classes, inference)
    for parameter in model.generative.parameters():  # farther from the start, so that y and z say something of x
        parameter.mul_(2)
    for head in (module for module in model.inference.modules() if isinstance(module, GaussianHead)):
        head.linear.bias[:, 1:] += 2  # wider than the posterior, so that no sample outweighs all others
    every = torch.tensor([[i >> bit & 1 for bit in range(4)] for i in range(16)], dtype=torch.float64)
    exact = log_likelihood(model, every, classes)
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-9)  # as p(x) of all images is 1
    objective = compiler.objective([spec.objective], unlabeled_share=1.0)
    found = []
    samples = 2000
    trace = model(every[None], doubled(Streams([0]).begin("training").noise(classes * samples, 16, model.units)))
    for k in (1, 20):
        found.append(float(objective.bounds(trace, log_weight(trace), 1.0, k).mean()))
    assert found[0] < found[1] - 0.01 < found[1] < float(exact.mean())
    # y ~ q(y|x) within the logarithm leaves nothing of the KL of y: with many samples it is the likelihood.
    result = evaluate(model.float(), every.float(), 5000)
    z = (result.log_likelihood - exact) / result.log_likelihood_mc_variance.sqrt()
    assert float(z.abs().max()) < 4
    # The ELBO of drawn classes is that of the sum over them.
    assert float(result.elbo.mean()) == pytest.approx(found[0], abs=0.02)
    assert found[1] < float(result.log_likelihood.mean())


def test_the_marginal_is_exact_where_q_is_the_posterior_over_classes():
    # log p(x|y) of three models of their own, and q(y|x) their posterior: nothing is lost.
    by_class = torch.tensor([[[-3.0, -7.0], [-5.0, -2.0], [-4.0, -2.5]]], dtype=torch.float64)
    exact = by_class.logsumexp(1) - math.log(3)
    found = Marginal(1.0, 0.1).bounds(by_class, by_class.log_softmax(1), 1.0, None)
    torch.testing.assert_close(found, exact)
    other = Marginal(1.0, 0.1).bounds(by_class, (2 * by_class).log_softmax(1), 1.0, None)
    assert bool((other < exact).all())
    known = Marginal(0.0, 0.1).bounds(by_class, by_class.log_softmax(1), 1.0, torch.tensor([[1, 2]]))
    torch.testing.assert_close(known, torch.tensor([[-5.0, -2.5]], dtype=torch.float64) - math.log(3))


def test_the_marginal_is_the_sum_over_classes_with_each_kind_of_image_at_its_share():
    spec, model = tiny(3)
    x = torch.rand(1, 5, 4, dtype=torch.float64).round()
    trace = model(x, doubled(Streams([0]).begin("training").noise(6, 5, model.units)))
    labels = torch.tensor([[2, 0]])
    objective = replace(compiler.objective([spec.objective], unlabeled_share=0.75), marginal=Marginal(0.75, 0.3))
    q, w = trace.log_classes[0], log_weight(trace, 0.5)[0]
    by_class = [[float(w[2 * y : 2 * y + 2, image].logsumexp(0)) - math.log(2) for y in range(3)] for image in range(5)]
    unlabeled, known = [], []
    for image in range(3):
        total = 0.0
        for y in range(3):
            share = math.exp(float(q[y, image]))
            total += share * (by_class[image][y] + 0.5 * (-math.log(3) - math.log(share)))
        unlabeled.append(total)
    for image, y in ((3, 2), (4, 0)):
        known.append(by_class[image][y] - 0.5 * math.log(3))
    logs = (float(q[2, 3]) + float(q[0, 4])) / 2
    expected = 0.75 * sum(unlabeled) / 3 + 0.25 * sum(known) / 2 + 0.3 * logs
    beta = torch.tensor([0.5], dtype=torch.float64)
    noise = doubled(Streams([0]).begin("training").noise(6, 5, model.units))
    _, value = objective(model, x, noise, beta, 2, labels)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    assert float(mean_log_classes(trace.log_classes[:, :, 3:], labels)) == pytest.approx(logs)
    # A weight per layer: that of y is the one of z_L.
    layers = torch.tensor([[2.0, 0.5]], dtype=torch.float64)
    _, other = objective(model, x, noise, layers, 2, labels)
    per_layer = objective.bound(trace, log_weight(trace, layers), beta, 2, labels) + 0.3 * logs
    assert float(other) == pytest.approx(float(per_layer), rel=1e-12)


@pytest.mark.parametrize(("inference", "depth"), [*((name, 2) for name in INFERENCES), ("vae", 1)])
def test_a_single_class_is_the_model_without_classes_bit_for_bit(inference, depth):
    settings = {"model__inference": inference, "objective__mc_samples": 2, "objective__iw_samples": 3}
    settings["data__train_images"] = 96
    plain = member(depth, **settings)
    single = member(depth, model__classes={"mlp": [6], "count": 1}, **settings)
    dataset = load_dataset(plain.data)
    one, other = (Trainer([spec, spec.model_copy(update={"seed": 3})], dataset) for spec in (plain, single))
    for _ in range(2):
        rows = zip(one.train_epoch(), other.train_epoch(), strict=True)
        for row, same in rows:
            assert {name: same[name] for name in row if name not in ("seconds", "ms_per_step")} == {
                name: value for name, value in row.items() if name not in ("seconds", "ms_per_step")
            }
    for name, value in one.model.named_parameters():
        assert torch.equal(value, other.model.get_parameter(name)), name
    x = torch.from_numpy(dataset.test.astype(np.float32) / 16).round()
    models = [one.single(1), other.single(1)]
    for model, trainer in zip(models, (one, other), strict=True):
        record_statistics(model, trainer.batches, 3, 2, "whole_set")
    found, same = (evaluate(model, x, 7, seed=3) for model in models)
    assert torch.equal(found.log_likelihood, same.log_likelihood)
    assert found.fewer_samples == same.fewer_samples
    assert all(torch.equal(kl, like) for kl, like in zip(found.kl, same.kl, strict=True))
    first, second = (kl_to_standard_normal(model, x, seed=3) for model in models)
    assert first == second


@pytest.mark.parametrize("labels", [20, "all"])
@pytest.mark.parametrize("classification", [0.1, "only"])
def test_a_pack_is_its_members_alone(labels, classification):
    specs = [labeled(labeled=labels, seed=seed, objective__classification=classification) for seed in (0, 4)]
    dataset = load_dataset(specs[0].data)
    pack, alone = Trainer(specs, dataset), Trainer(specs[1:], dataset)
    for _ in range(2):
        together, single = pack.train_epoch()[1], alone.train_epoch()[0]
    for name in ("train_log_classes", "train_bound", "gradient_norm"):
        assert together[name] == (None if single[name] is None else pytest.approx(single[name], rel=1e-4))
    for name, value in alone.model.named_parameters():
        torch.testing.assert_close(pack.model.get_parameter(name)[1:], value, rtol=1e-3, atol=1e-5)


def test_the_supervised_baseline_trains_q_of_y_and_nothing_else():
    spec = labeled(3, objective__classification="only")
    trainer = Trainer([spec], load_dataset(spec.data))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    row = trainer.train_epoch()[0]
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    own = ("classifier.", "inference.up.0.", "inference.up.1.")
    assert moved
    assert all(name.startswith(own) for name in moved)
    assert not any(
        "head.linear.weight" in name and torch.equal(value, before[name])
        for name, value in trainer.model.named_parameters()
        if name.startswith("inference.up.0.")
    )
    assert row["train_bound"] is None
    assert row["train_log_classes"] < 0


@pytest.mark.parametrize("inference", INFERENCES)
def test_batch_statistics_are_of_one_distribution_in_training_and_in_recording(inference):
    spec = labeled(model__inference=inference, training__batch_size=100, data__labeled_batch=40)
    trainer = Trainer([spec], load_dataset(spec.data))
    streams = Streams([0]).begin("statistics", 5)
    (x,) = trainer.batches.epoch(streams)
    noise = streams.noise(trainer.model.copies, x.shape[1], trainer.model.units)
    with recording(trainer.model):
        # What training of the same batch normalizes by, but for the output layer, which has no statistics.
        trainer.model(x, noise)
    trained = {name: value.clone() for name, value in trainer.model.named_buffers()}
    record_statistics(trainer.model, trainer.batches, 0, 5, "batch_average")
    assert trained
    for name, value in trainer.model.named_buffers():
        torch.testing.assert_close(value, trained[name])
    whole = trainer.batches.whole(Streams([0]).begin("statistics", 5))
    assert whole.shape[1] == 100 + 40
    single = trainer.single(0)
    record_statistics(single, trainer.batches, 0, 5, "whole_set")
    assert not any(bool(module.mean.isnan().any()) for module in single.modules() if isinstance(module, BatchNorm))


def test_folded_batch_norm_classifies_alike():
    spec = labeled(3)
    trainer = Trainer([spec], load_dataset(spec.data))
    trainer.train_epoch()
    model = trainer.single(0)
    record_statistics(model, trainer.batches, 0, 1, "whole_set")
    x = units_first(next(trainer.batches.epoch(Streams([0]).begin("training", 2))))
    model.eval()
    folded = fuse_batch_norm(model)
    expected = model.log_classes(x, model.inference.encode(x))
    torch.testing.assert_close(folded.log_classes(x, folded.inference.encode(x)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("skip", ["none", "both"])
def test_counted_parameters_are_those_of_the_model(inference, depth, skip):
    spec = labeled(depth, model__inference=inference, model__skip=skip)
    model = compiler.hierarchy(spec, 64)
    assert parameters(spec, 64) == sum(parameter.numel() for parameter in model.parameters())


def test_classes_are_drawn_from_their_probabilities():
    log_q = torch.tensor([[[0.1, 0.0], [0.6, 1.0], [0.3, 0.0]]]).log()
    uniform = ((torch.arange(1000) + 0.5) / 1000)[None, :, None].expand(-1, -1, 2)
    drawn = DrawnClasses.of_levels(log_q, uniform)
    assert drawn.index[0, :, 0].bincount(minlength=3).tolist() == [100, 600, 300]
    assert drawn.index[0, :, 1].unique().tolist() == [1]
    assert torch.equal(drawn.log_density(log_q)[0, 99:101, 0], log_q[0, :2, 0])


def test_a_class_of_no_probability_is_never_drawn():
    # The least and the greatest number that a stream gives, where the first and the last class have none to speak of.
    uniform = torch.tensor([0.0, 1 - 2**-24])[None, :, None]
    p = torch.tensor([[1e-18, 0.3, 0.7 - 2**-20, 1e-18]]).unsqueeze(2)
    drawn = DrawnClasses.of_levels(p.log(), uniform)
    assert drawn.index.flatten().tolist() == [1, 2]


def test_weights_of_labeled_images_are_one_hot():
    marginal = Marginal(0.5, 0.1)
    log_q = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]]).log()
    weights = marginal.weights(log_q, torch.tensor([[1]]))
    torch.testing.assert_close(weights, torch.tensor([[[0.25, 0.0], [0.75, 1.0]]]))

"""Iterative inference: the ladder in several sweeps, of which the last draws."""

import itertools

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import record_statistics
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.flow import gaussian_of
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import precision_weighted_merge
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.cost import forward_macs, parameters
from tests.members import member
from tests.reference import Reference

PIXELS, IMAGES = 64, 6
SHAPES = [
    {"model__norm": "none"},
    {},
    {"model__norm": {"batch": {"heads": False}}},
    {"model__norm": "layer"},
    {"model__share_top_down": True},
    {"model__skip": "both"},
    {"model__skip": "both", "model__share_top_down": True},
    {"model__flow": {"planar": 2}},
]


def compiled(spec, members=1):
    model = compiler.initialized([spec.model_copy(update={"seed": seed}) for seed in range(members)], PIXELS)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return model


def noise_of(model, samples=1, images=IMAGES):
    return Streams(range(model.members)).begin("test").noise(samples, images, model.units)


def with_statistics(spec, model):
    record_statistics(model, compiler.batches(spec, load_dataset(spec.data)), 0, 0, "whole_set")
    return model.eval()


@pytest.mark.parametrize(("shape", "steps"), [*itertools.product(SHAPES, [2, 3])], ids=str)
def test_log_weights_equal_the_slow_reference(shape, steps):
    spec = member(**shape, model__inference_steps=steps)
    model = with_statistics(spec, compiled(spec))
    x, noise = torch.rand(1, 2, PIXELS).round(), noise_of(model, 2, 2)
    with torch.no_grad():
        fast = log_weight(model(x, noise), beta=0.7)
    slow = Reference(model, spec)
    for sample, image in itertools.product(range(2), range(2)):
        expected = slow.log_weight(x[0, image], [eps[0, :, sample, image] for eps in noise], beta=0.7)
        assert fast[0, sample, image].item() == pytest.approx(expected, rel=2e-5, abs=2e-4)


def test_the_second_sweep_of_two_layers_is_what_the_equations_say():
    model = compiled(member(2, model__norm="none", model__inference_steps=2))
    up, (down,), x = model.inference.up, model.inference.down, torch.rand(1, PIXELS, 1, IMAGES)
    d_1 = up[0](x)
    m_1 = precision_weighted_merge(down(up[1](d_1.mean).mean), d_1).mean
    for ours, expected in zip(model.inference.encode(x), (d_1, up[1](m_1)), strict=True):
        torch.testing.assert_close((ours.mean, ours.variance), (expected.mean, expected.variance), rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_number_of_sweeps_has_the_same_parameters(shape):
    one, *others = (member(**shape, model__inference_steps=steps) for steps in (1, 2, 4))
    first = compiler.initialized([one], PIXELS)
    for spec in others:
        model = compiler.initialized([spec], PIXELS)
        expected = dict(first.named_parameters())
        for name, value in model.named_parameters():
            assert torch.equal(value, expected.pop(name))
        assert not expected
        assert parameters(spec, PIXELS) == parameters(one, PIXELS) == sum(p.numel() for p in model.parameters())


def test_one_sweep_has_the_names_of_before():
    buffers = {name for name, _ in compiled(member(2)).named_buffers()}
    norms = {"inference.up.0.mlp.norms.0", "inference.up.0.mlp.norms.1", "inference.up.0.head.norm"}
    assert {name.rpartition(".")[0] for name in buffers if name.startswith("inference.up.0")} == norms
    assert {name.rpartition(".")[2] for name in buffers} == {"mean", "variance"}
    assert not any("earlier" in name for name in buffers)


def test_only_what_several_sweeps_use_has_statistics_for_each():
    model = compiled(member(3, model__inference_steps=3))
    apart = {name for name, module in model.named_modules() if isinstance(module, BatchNorm) and module.earlier}
    used = ("inference.up.1.", "inference.up.2.", "inference.down.")
    expected = {name for name, module in model.named_modules() if isinstance(module, BatchNorm)}
    assert apart == {name for name in expected if name.startswith(used)}
    assert all(
        len(module.earlier) == 2 for module in model.modules() if isinstance(module, BatchNorm) and module.earlier
    )


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_recorded_statistics_are_those_of_the_pass_in_every_sweep(shape):
    """Evaluation of the very images and noise that the statistics are of is the training pass."""
    model = compiled(member(**shape, model__inference_steps=3), members=2)
    x, noise = torch.rand(2, 20, PIXELS).round(), noise_of(model, images=20)
    with recording(model):
        model.visit_norms(x, noise)
    with torch.no_grad():
        trained = log_weight(model.train()(x, noise))
        evaluated = log_weight(model.eval()(x, noise))
    torch.testing.assert_close(evaluated, trained, rtol=1e-4, atol=1e-3)


def test_statistics_of_sweeps_differ_and_are_averaged_each_by_itself():
    model = compiled(member(2, model__inference_steps=2))
    norm, seen = model.inference.down[0].head.norm, []
    norm.register_forward_hook(lambda module, inputs, output: seen.append((module.sweep, inputs[0])))
    with recording(model):
        for images in (8, 20):
            model.visit_norms(torch.rand(1, images, PIXELS).round(), noise_of(model, images=images))
    for sweep, statistics in ((None, norm), (0, norm.earlier[0])):
        means = [y.mean((2, 3)) for place, y in seen if place == sweep]
        variances = [y.var((2, 3), correction=0) for place, y in seen if place == sweep]
        assert len(means) == 2
        torch.testing.assert_close(statistics.mean, sum(means) / 2)
        torch.testing.assert_close(statistics.variance, sum(variances) / 2)
    assert not torch.allclose(norm.mean, norm.earlier[0].mean)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_folded_model_computes_what_the_model_does_in_evaluation(shape):
    model = compiled(member(**shape, model__inference_steps=3), members=2)
    x, noise = torch.rand(2, 20, PIXELS).round(), noise_of(model, 3, 20)
    with recording(model):
        model(x, noise)
    with torch.no_grad():
        whole = fuse_batch_norm(model.eval())
        assert not any(isinstance(module, BatchNorm) for module in whole.modules())
        torch.testing.assert_close(log_weight(whole(x, noise)), log_weight(model(x, noise)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_p_enters_the_encoding_only_where_it_is_shared(shared):
    model = compiled(member(model__share_top_down=shared, model__inference_steps=3))
    encoding = model.inference.encode(units_first(torch.rand(1, IMAGES, PIXELS)))
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        sum(q.mean.square().sum() + q.variance.sum() for q in encoding), list(named.values()), allow_unused=True
    )
    reached = {name for name, value in zip(named, gradients, strict=True) if value is not None and value.any()}
    of_p = {name for name in named if name.startswith("generative.")}
    assert reached & of_p == {name for name in of_p if shared and name.startswith("generative.conditionals.")}
    # All of q's, in whichever sweep: t_1 and t_2 too, that no encoding in one sweep reaches.
    assert {name for name in named if name.startswith("inference.")} <= reached


def test_a_pack_of_two_is_two_models():
    spec = member(model__inference_steps=3)
    pack = compiled(spec, members=2)
    x, noise = torch.rand(2, 20, PIXELS).round(), noise_of(pack, images=20)
    with torch.no_grad():
        together = log_weight(pack(x, noise))
        with recording(pack):
            pack(x, noise)
        evaluated = log_weight(pack.eval()(x, noise))
        for m in range(2):
            alone = compiler.select(pack, spec, m)
            own = [eps[m : m + 1] for eps in noise]
            torch.testing.assert_close(log_weight(alone.train()(x[m : m + 1], own))[0], together[m])
            torch.testing.assert_close(log_weight(alone.eval()(x[m : m + 1], own))[0], evaluated[m])


def test_pseudo_inputs_go_through_all_sweeps():
    spec = member(model__prior={"vamp": 4}, model__inference_steps=3)
    model = compiler.initialized([spec], PIXELS, compiler.batches(spec, load_dataset(spec.data)))
    inputs, x = model.generative.top.pseudo_inputs, units_first(torch.rand(1, IMAGES, PIXELS).round())
    with torch.no_grad():  # they count in no statistics of the batch, of whichever sweep
        for alone, beside in zip(model.inference.encode(x), model.encode(x)[0], strict=True):
            torch.testing.assert_close(alone.mean, beside.mean, rtol=1e-3, atol=1e-4)
    with_statistics(spec, model)
    z = torch.randn(1, model.units[-1], 1, 5)
    with torch.no_grad():
        _, top = model.encode(x)
        posterior = gaussian_of(model.inference.encode(inputs)[-1])
        expected = posterior.log_prob(z.mT).sum(1).logsumexp(2)
        ours = top.log_prob(z)[0, 0, 0]
    torch.testing.assert_close(ours - ours[0], (expected - expected[:, :1])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_pass_in_several_sweeps_is_one_graph():
    """`torch.compile` sees which sweep it is in: a break in the graph would be an error here."""
    spec = member(2, model__prior={"vamp": 4}, model__inference_steps=3)
    model = compiler.initialized([spec], PIXELS, compiler.batches(spec, load_dataset(spec.data)))
    x, noise = torch.rand(1, 20, PIXELS).round(), noise_of(model, images=20)
    traced = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        assert torch.equal(log_weight(traced(x, noise)), log_weight(model(x, noise)))
    torch._dynamo.reset()


def test_a_sweep_costs_what_it_computes():
    one, three = (forward_macs(member(3, model__inference_steps=steps), PIXELS) for steps in (1, 3))
    layers = member(3).model.layers
    up = [(5, 9, 8, 2 * 4), (4, 7, 2 * 3)]  # d_2 and d_3
    down = [(layers[1].units, *layers[1].mlp, 2 * 5), (layers[2].units, *layers[2].mlp, 2 * 4)]  # t_1 and t_2
    sweep = sum(wide * out for widths in (*up, *down) for wide, out in itertools.pairwise(widths))
    assert (three[0] - one[0], three[1] - one[1]) == (2 * sweep, 0)
    shared = [
        forward_macs(member(3, model__inference_steps=steps, model__share_top_down=True), PIXELS) for steps in (1, 3)
    ]
    assert (shared[1][0] - shared[0][0], shared[1][1] - shared[0][1]) == (2 * sweep, 0)

"""The plain model that the benchmark compares with is the same model: equal weights and noise, equal log weights."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from hvae_spec import compiler
from hvae_spec.data.batches import draw_once
from hvae_spec.data.counts import image_pixels
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import evaluate, record_statistics
from hvae_spec.nn.bounds import bound as our_bound
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES
from hvae_spec.spec.cost import parameters
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.observations import FORMS, x_like
from tune.bench import baseline_flows
from tune.bench.baseline import LadderHVAE, bound, plain_log_likelihood, train_plain
from tune.bench.comparison import plain_model

WITH_A, NORMED = {"units": 5, "mlp": [7]}, ("none", "batch")
HIDDEN = {"batch": {"heads": False}}
CASES = [
    *itertools.product(INFERENCES, [False], ["none", "batch"], FORMS, [1, 3]),
    ("ladder", True, "batch", "bernoulli", 3),
    ("ladder", True, "none", "gaussian", 3),
    ("vae", False, HIDDEN, "bernoulli", 3),
    ("ladder", False, "layer", "gaussian", 3),
    *((inference, False, "batch", "bernoulli", 3, skip) for inference in INFERENCES for skip in ("generative", "both")),
    ("ladder", True, "batch", "bernoulli", 3, "both"),
    ("ladder", True, "batch", "bernoulli", 3, "none", 3),
    ("ladder", False, "batch", "bernoulli", 3, "both", 3),
    ("ladder", False, "none", "gaussian", 1, "none", 3),
    ("vae", False, "none", "gaussian", 1, "both"),
    *(
        (inference, False, norm, "bernoulli", 3, "none", 1, WITH_A)
        for inference in INFERENCES
        for norm in ("none", "batch")
    ),
    ("ladder", True, "batch", "gaussian", 2, "both", 1, WITH_A),
    ("vae", False, "layer", "bernoulli", 1, "none", 1, WITH_A),
]
NORMS = nn.BatchNorm1d | nn.LayerNorm
IMAGES = 16


def spec_of(inference, share, norm, observation, depth, skip="none", steps=1, auxiliary=None, **more):
    return member(
        depth,
        model__inference_steps=steps,
        model__inference=inference,
        model__share_top_down=share,
        model__norm=norm,
        model__observation=observation,
        model__skip=skip,
        model__auxiliary=auxiliary,
        **more,
    )


def ours(spec):
    model = compiler.initialized([spec], 64)
    with torch.no_grad():
        for parameter in model.parameters():  # batch normalization's scale and shift too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class Copy:
    """Gives modules of a plain model the weights of member 0 of ours, which stand under names in its state."""

    def __init__(self, model):
        self.state = {name: value[0] for name, value in model.state_dict().items()}

    def linear(self, module, name, heads=slice(None)):
        module.weight.copy_(self.state[f"{name}.weight"][heads])
        # Ours has no bias before a normalization.
        if module.bias is not None:
            bias = self.state.get(f"{name}.bias")
            module.bias.zero_() if bias is None else module.bias.copy_(bias[heads, 0])

    def norm(self, modules, name, heads=slice(None), sweep=""):
        for module in modules:
            module.weight.copy_(self.state[f"{name}.weight"][heads, 0])
            module.bias.copy_(self.state[f"{name}.bias"][heads, 0])
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.copy_(self.state[f"{name}{sweep}.mean"][heads])
                module.running_var.copy_(self.state[f"{name}{sweep}.variance"][heads])

    def mlp(self, modules, name, sweep=""):
        linears = [place for place, module in enumerate(modules) if isinstance(module, nn.Linear)]
        for place, at in enumerate(linears):
            self.linear(modules[at], f"{name}.linears.{place}")
            after = [m for m in modules[at + 1 : at + 2] if isinstance(m, NORMS)]
            self.norm(after, f"{name}.norms.{place}", sweep=sweep)

    def gaussian(self, layer, name, sweep=""):
        self.mlp(layer.mlp, f"{name}.mlp", sweep)
        units = layer.mu[0].out_features
        for head, heads in ((layer.mu, slice(None, units)), (layer.sigma2, slice(units, None))):
            self.linear(head[0], f"{name}.head.linear", heads)
            self.norm(head[1:], f"{name}.head.norm", heads, sweep)

    def gaussians(self, layers, name, sweep="", first=0):
        for index, layer in enumerate(layers, start=first):
            self.gaussian(layer, f"{name}.{index}", sweep)

    def flow(self, module, name):
        if isinstance(module, baseline_flows.Planar):
            self.linear(module.head, f"{name}.head")
            return
        self.linear(module.context, f"{name}.context")
        for place, made in enumerate(module.mades):
            *hidden, last = made.linears
            for at, masked in enumerate(hidden):
                self.linear(masked, f"{name}.mades.{place}.linears.{at}")
            self.linear(last, f"{name}.mades.{place}.head")

    def decoder(self, decoder, name):
        if hasattr(decoder, "logits"):
            self.mlp(decoder.mlp, f"{name}.mlp")
            self.linear(decoder.logits, f"{name}.logits")
        elif hasattr(decoder, "mu"):
            self.mlp(decoder.mlp, f"{name}.mlp")
            self.linear(decoder.mu, f"{name}.head.linear")
            if decoder.raw is not None:
                decoder.raw.copy_(self.state[f"{name}.head.before_softplus"].squeeze())
        else:
            self.gaussian(decoder.gaussian, name)


def copy_weights(model, plain):
    """Give a plain model the weights of member 0 of ours."""
    copy = Copy(model)
    with torch.no_grad():
        for index, layer in enumerate(plain.up):
            if layer.flow is not None:
                copy.flow(layer.flow, f"inference.up.{index}.flow")
        if plain.auxiliary:
            copy.gaussian(plain.q_of_a, "auxiliary.q")
            copy.gaussian(plain.r_of_a, "auxiliary.r")
        copy.gaussians(plain.up, "inference.up")
        copy.gaussians(plain.prior, "generative.conditionals")
        if plain.top_down and not plain.shared:
            copy.gaussians(plain.down, "inference.down")
        for sweep, (up, down) in enumerate(plain.earlier):
            copy.gaussians(up, "inference.up", f".earlier.{sweep}", first=1)
            copy.gaussians(down, "inference.down", f".earlier.{sweep}")
        copy.decoder(plain.decoder, "generative.likelihood")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_log_weights_and_gradients_equal_ours(case):
    spec = spec_of(*case)
    model, plain = ours(spec), plain_model(spec)
    copy_weights(model, plain)
    x = x_like(spec.model.observation, torch.rand(1, IMAGES, 64))
    noise = model.noise(Streams([0]).begin("test"), 6, IMAGES)
    log_w = log_weight(model(x, noise), 0.7)
    plain_log_w = plain.log_weight(x[0], 0.7, samples=6, noise=[eps[0].flatten(1).T for eps in noise])
    torch.testing.assert_close(plain_log_w, log_w[0], rtol=1e-4, atol=2e-3)
    # Two Monte Carlo samples of an importance-weighted bound of three.
    ours_value, value = our_bound(log_w, 3).mean(), bound(plain_log_w, 3)
    torch.testing.assert_close(value, ours_value, rtol=1e-4, atol=1e-3)
    ours_value.backward()
    value.backward()
    gradient = dict(model.named_parameters())["inference.up.0.mlp.linears.0.weight"].grad[0]
    torch.testing.assert_close(plain.up[0].mlp[0].weight.grad, gradient, rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in plain.parameters()) - idle_biases(plain) == parameters(spec, image_pixels(spec.data))


@pytest.mark.parametrize("prior", [{"vamp": 5}, {"mixture": 4}, {"realnvp": {"blocks": 3, "mlp": [6, 4]}}], ids=str)
@pytest.mark.parametrize("depth", [1, 2])
def test_log_weights_with_learned_priors_equal_ours(prior, depth):
    spec = member(depth, model__prior=prior, model__norm="layer")
    model, plain = compiler.initialized([spec], 64), plain_model(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        top = model.generative.top
        if "vamp" in prior:
            top.images.uniform_(-0.2, 1.2)
            plain.top.images.copy_(top.images[0, :, 0].T)
        elif "mixture" in prior:
            plain.top.mu.copy_(top.mean[0, :, 0].T)
            plain.top.raw.copy_(top.before_softplus[0, :, 0].T)
        for net, coupling in zip(getattr(plain.top, "nets", ()), getattr(top, "couplings", ()), strict=True):
            linears = [*(module for module in net[0] if isinstance(module, nn.Linear)), net[1]]
            for linear, theirs in zip(linears, [*coupling.mlp.linears, coupling.linear], strict=True):
                linear.weight.copy_(theirs.weight[0])
                linear.bias.copy_(theirs.bias[0, :, 0])
    copy_weights(model, plain)
    x, noise = torch.rand(1, IMAGES, 64).round(), Streams([0]).begin("test").noise(3, IMAGES, model.units)
    log_w = log_weight(model(x, noise), 0.7)[0]
    plain_log_w = plain.log_weight(x[0], 0.7, samples=3, noise=[eps[0].flatten(1).T for eps in noise])
    torch.testing.assert_close(plain_log_w, log_w, rtol=1e-4, atol=2e-3)
    ours, theirs = (
        torch.autograd.grad(value.mean(), list(of.top.parameters()))
        for value, of in ((log_w, model.generative), (plain_log_w, plain))
    )
    assert sum(map(torch.numel, ours)) == sum(map(torch.numel, theirs))
    assert float(sum(g.square().sum() for g in theirs)) == pytest.approx(
        float(sum(g.square().sum() for g in ours)), rel=1e-2
    )
    assert sum(p.numel() for p in plain.parameters()) - idle_biases(plain) == parameters(spec, 64)


PLANAR, IAF, LINEAR_IAF = {"planar": 7}, {"iaf": {"steps": 3, "mlp": [6, 8]}}, {"iaf": {"steps": 2, "mlp": []}}


@pytest.mark.parametrize(
    ("inference", "flows", "more"),
    [
        ("vae", [PLANAR, PLANAR, PLANAR], {}),
        ("vae", [IAF, IAF, IAF], {"model__skip": "both"}),
        ("vae", [None, LINEAR_IAF], {"model__observation": "gaussian"}),
        ("ladder", [PLANAR, PLANAR, PLANAR], {"model__share_top_down": True}),
        ("ladder", [IAF, IAF, IAF], {}),
        ("ladder", [PLANAR, None, IAF], {"model__observation": "gaussian"}),
        ("top_down", [LINEAR_IAF, PLANAR], {"model__skip": "generative"}),
    ],
    ids=str,
)
def test_log_weights_and_gradients_with_flows_equal_ours(inference, flows, more):
    spec = flowed(flows, model__inference=inference, model__norm="none", **more)
    model, plain = ours(spec), plain_model(spec)
    with torch.no_grad():
        for mapping in model.inference.up:
            for parameter in mapping.flow.parameters() if hasattr(mapping, "flow") else ():
                parameter.copy_(0.7 * torch.randn_like(parameter))
    copy_weights(model, plain)
    assert [layer.flow is None for layer in plain.up] == [flow is None for flow in flows]
    x = x_like(spec.model.observation, torch.rand(1, IMAGES, 64))
    noise = Streams([0]).begin("test").noise(6, IMAGES, model.units)
    log_w = log_weight(model(x, noise), 0.7)
    plain_log_w = plain.log_weight(x[0], 0.7, samples=6, noise=[eps[0].flatten(1).T for eps in noise])
    torch.testing.assert_close(plain_log_w, log_w[0], rtol=1e-4, atol=2e-3)
    our_bound(log_w, 3).mean().backward()
    bound(plain_log_w, 3).backward()
    assert sum(p.numel() for p in plain.parameters()) == parameters(spec, 64)
    # Our gradients, as the weights of a plain model, are the plain model's gradients.
    gradients, expected = copy.deepcopy(model), copy.deepcopy(plain)
    for own, copied in zip(model.parameters(), gradients.parameters(), strict=True):
        copied.data.copy_(own.grad)
    copy_weights(gradients, expected)
    for (name, parameter), value in zip(plain.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad, value.data, rtol=1e-3, atol=1e-3, msg=lambda text, of=name: of + text
        )
        assert ".flow." not in name or value.abs().max() > 0.01


@pytest.mark.parametrize("flow", [PLANAR, IAF, LINEAR_IAF], ids=str)
def test_a_plain_flow_is_the_identity_at_the_start_with_a_gradient(flow):
    plain = plain_model(flowed([flow, flow]))
    x, noise = torch.rand(IMAGES, 64).round(), [torch.randn(IMAGES, units) for units in (5, 4)]
    log_w = plain.log_weight(x, noise=noise)
    log_w.mean().backward()
    for layer in plain.up:
        assert max(parameter.grad.abs().max() for parameter in layer.flow.parameters()) > 1e-4
        layer.flow = None
    torch.testing.assert_close(log_w, plain.log_weight(x, noise=noise))


def flowed(flows, **more):
    """A member with these flows of its layers; None: none."""
    layers = zip(member(len(flows)).model.layers, flows, strict=True)
    tree = [{**layer.model_dump(mode="json"), "flow": flow} for layer, flow in layers]
    return member(len(flows), **{**more, "model__layers": tree})


def idle_biases(plain):
    """Biases that feed a normalization."""
    pairs = [pair for m in plain.modules() if isinstance(m, nn.Sequential) for pair in itertools.pairwise(m)]
    biases = {id(a.bias): a.bias for a, b in pairs if isinstance(a, nn.Linear) and isinstance(b, NORMS)}
    return sum(bias.numel() for bias in biases.values())


@pytest.mark.parametrize(("inference", "steps"), [("vae", 1), ("ladder", 1), ("ladder", 2)])
def test_evaluation_agrees_with_ours_within_monte_carlo_error(inference, steps):
    spec = spec_of(inference, False, "batch", "bernoulli", 3, steps=steps, training__optimizer__adam__lr=5e-3)
    dataset = load_dataset(spec.data)
    trainer = Trainer([spec], dataset)
    for _ in range(40):  # with half of them importance weights have such tails that the error depends on the processor
        trainer.train_epoch()
    model, plain = trainer.model, plain_model(spec)
    record_statistics(model, trainer.batches, 0, 0, "whole_set")
    copy_weights(model, plain)
    x = draw_once(dataset, "test", "bernoulli")
    evaluation = evaluate(model, x, 2000)
    torch.manual_seed(0)
    values = plain_log_likelihood(plain.eval(), x, 2000, rows=1000)
    assert values.shape == (len(x),)
    error = 5 * math.sqrt(2) * evaluation.log_likelihood_mc_se
    assert error < 0.5
    assert values.mean().item() == pytest.approx(evaluation.log_likelihood.mean().item(), abs=error)


def test_training_learns():
    gray = torch.tensor(load_dataset(member().data).train).float() / 16
    x = gray.round()[:100]

    def make():
        return LadderHVAE([4, 2], [[16], [8]], 64, norm="batch")

    before, after = (
        plain_log_likelihood(train_plain(make, gray, epochs, 2, seed=0, batch_size=32), x, 50).mean()
        for epochs in (0, 8)
    )
    assert after > before + 5


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities_are_ours(name):
    spec = member(model__nonlinearity=name)
    modules = [m for m in plain_model(spec).up[0].mlp if not isinstance(m, nn.Linear | nn.BatchNorm1d)]
    values = torch.linspace(-3, 3, 13)
    for module in modules:
        torch.testing.assert_close(module(values), compiler.nonlinearity(spec.model)(values))

import itertools

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.batches import Batches
from hvae_spec.data.counts import image_pixels
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import record_statistics
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.nonlinearity import NONLINEARITIES
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.norm import NORMS
from tests.members import member
from tests.observations import FORMS, x_like
from tests.reference import Reference

HIDDEN = {"batch": {"heads": False}}
CASES = [
    *((*case, "none") for case in itertools.product(INFERENCES, ["none", "batch"], FORMS, [1, 3])),
    *((*case, "none") for case in itertools.product(INFERENCES, [HIDDEN, "layer"], ["bernoulli"], [3])),
    *itertools.product(INFERENCES, ["none", "batch"], ["bernoulli"], [1, 2, 3, 4], ["generative", "both"]),
]
FOUR = [{"units": 5, "mlp": [12, 10]}, {"units": 4, "mlp": [9]}, {"units": 3, "mlp": []}, {"units": 2, "mlp": [6]}]


def compiled(spec, members=1):
    specs = [spec.model_copy(update={"seed": seed}) for seed in range(members)]
    return compiler.initialized(specs, image_pixels(spec.data))


def can_share(inference):
    return INFERENCES[inference].top_down and INFERENCES[inference].can_share


def with_statistics(spec, model):
    record_statistics(model, compiler.batches(spec, load_dataset(spec.data)), 0, 0, "whole_set")
    return model.eval()


def spec_of(inference, norm, observation, depth, skip, **more):
    layers = {"model__layers": FOUR} if depth == 4 else {}
    settings = {"inference": inference, "norm": norm, "observation": observation, "skip": skip}
    return member(depth, **layers, **{f"model__{name}": value for name, value in settings.items()}, **more)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_log_weights_equal_the_slow_reference(case):
    spec, observation = spec_of(*case), case[2]
    model = with_statistics(spec, compiled(spec))
    x = x_like(observation, torch.rand(1, 4, 64))
    noise = Streams([3]).begin("test").noise(2, 4, model.units)
    with torch.no_grad():
        fast = log_weight(model(x, noise), beta=0.7)
    slow = Reference(model, spec)
    for sample, image in itertools.product(range(2), range(4)):
        eps = [layer[0, :, sample, image] for layer in noise]
        expected = slow.log_weight(x[0, image], eps, beta=0.7)
        assert fast[0, sample, image].item() == pytest.approx(expected, rel=2e-5, abs=2e-4)


def test_ladder_with_shared_top_down_uses_the_generative_mappings():
    spec = member(model__batch_norm=False, model__share_top_down=True)
    model = compiled(spec)
    x, noise = torch.rand(1, 2, 64).round(), Streams([3]).begin("test").noise(1, 2, model.units)
    fast = log_weight(model(x, noise))
    separate = compiled(member(model__batch_norm=False))
    state = separate.state_dict()
    for name, value in model.state_dict().items():
        state[name] = value
        state[name.replace("generative.conditionals", "inference.down")] = value
    separate.load_state_dict(state)
    torch.testing.assert_close(fast, log_weight(separate(x, noise)))
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in separate.parameters())


def test_ladder_and_vae_are_the_same_model_with_one_layer():
    ladder = compiled(member(1, model__inference="ladder"))
    vae = compiled(member(1, model__inference="vae"))
    assert ladder.state_dict().keys() == vae.state_dict().keys()
    x, noise = torch.rand(1, 8, 64).round(), Streams([0]).begin("test").noise(3, 8, [5])
    torch.testing.assert_close(log_weight(ladder(x, noise)), log_weight(vae(x, noise)), rtol=0, atol=0)


@pytest.mark.parametrize("inference", INFERENCES)
def test_the_lowest_latents_see_the_image_and_the_likelihood_sees_only_them(inference):
    model = compiled(member(3, model__inference=inference, model__batch_norm=False))
    noise = Streams([0]).begin("test").noise(1, 1, model.units)
    x = torch.zeros(1, 64, 1, 1, requires_grad=True)
    z = model.inference.sample(model.inference.encode(x), noise)[0].z
    (gradient,) = torch.autograd.grad(z.sum(), x)
    assert gradient.abs().max() > 0
    trace = model(torch.zeros(1, 1, 64), noise)
    expected = model.generative.likelihood(trace.latents[0], x.detach())
    torch.testing.assert_close(trace.log_likelihood, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inference", "norm", "observation", "share"),
    [
        (inference, norm, observation, share)
        for inference, norm, observation in itertools.product(INFERENCES, NORMS, FORMS)
        for share in {False, can_share(inference)}
    ],
)
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_gradients_reach_every_parameter(inference, norm, observation, share, beta):
    spec = member(
        model__inference=inference,
        model__norm=norm,
        model__observation=observation,
        model__share_top_down=share,
    )
    model = compiled(spec)
    x, noise = torch.rand(1, 16, 64).round(), Streams([0]).begin("test").noise(1, 16, model.units)
    value = bound(log_weight(model(x, noise), beta)).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    # Only the KL feels p(z_i|z_{i+1}) and, going bottom-up, the layers above the first.
    only_in_kl = ["generative.conditionals"] if not share else []
    only_in_kl += ["inference.up.1", "inference.up.2"] if not INFERENCES[inference].top_down else []
    for name, gradient in zip(names, gradients, strict=True):
        reached = gradient is not None and bool(gradient.abs().max() > 0)
        silent = beta == 0 and any(name.startswith(prefix) for prefix in only_in_kl)
        assert reached is not silent, name


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("inference", INFERENCES)
def test_with_skip_connections_the_likelihood_alone_reaches_all_of_inference(inference, beta):
    model = compiled(member(model__inference=inference, model__skip="both", model__batch_norm=False))
    x, noise = torch.rand(1, 16, 64).round(), Streams([0]).begin("test").noise(1, 16, model.units)
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(bound(log_weight(model(x, noise), beta)).sum(), parameters, allow_unused=True)
    for name, gradient in zip(names, found, strict=True):
        reached = gradient is not None and bool((gradient != 0).any())
        assert reached is (beta == 1 or not name.startswith("generative.conditionals")), name
        if name.endswith("mlp.linears.0.weight") and reached:
            # Every number that it takes, those of skipped layers too.
            assert (gradient != 0).any(dim=1).all() or name == "inference.up.0.mlp.linears.0.weight", name


@pytest.mark.parametrize("depth", [1, 2, 5, 10])
@pytest.mark.parametrize("inference", INFERENCES)
def test_any_depth_and_any_number_of_hidden_layers(depth, inference):
    layers = [{"units": 11 - place, "mlp": [7] * (place % 4)} for place in range(depth)]
    layers[-1]["mlp_down"] = [3, 4, 5]
    spec = member(model__layers=layers, model__inference=inference)
    model = compiled(spec, members=2)
    noise = Streams([0, 1]).begin("test").noise(3, 4, model.units)
    trace = model(torch.rand(2, 4, 64).round(), noise)
    assert log_weight(trace).shape == (2, 3, 4)
    assert [z.shape[1] for z in trace.latents] == [11 - place for place in range(depth)]
    assert log_weight(trace).isfinite().all()


@pytest.mark.parametrize("skip", ["none", "generative"])
@pytest.mark.parametrize("top", [None, 1, 2, 3])
def test_generation_from_any_layer_down_equals_the_slow_reference(top, skip):
    spec = member(model__skip=skip)
    model = with_statistics(spec, compiled(spec))
    noise = Streams([3]).begin("test").noise(2, 4, model.units)
    with torch.no_grad():
        latents = model.ancestral(noise, top)
    assert len(latents) == 3
    slow = Reference(model, spec)
    expected = []
    for layer in reversed(range(3)):
        z = noise[layer][0, :, 1, 2].double()
        if layer != 2 and layer + 1 != top:
            mu, sigma2 = slow.prior(layer, expected)
            z = mu + sigma2.sqrt() * z
        expected.insert(0, z)
        torch.testing.assert_close(latents[layer][0, :, 1, 2].double(), z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities(name):
    spec = member(model__nonlinearity=name)
    model = compiled(spec)
    noise = Streams([0]).begin("test").noise(1, 4, model.units)
    assert log_weight(model(torch.rand(1, 4, 64).round(), noise)).isfinite().all()


def test_leaky_relu_has_the_slope_of_the_spec():
    values = torch.tensor([-2.0, 3.0])
    for slope, expected in [(0.1, -0.2), (0.01, -0.02)]:
        f = compiler.nonlinearity(member(model__nonlinearity={"leaky_relu": slope}).model)
        assert f(values).tolist() == pytest.approx([expected, 3.0])
    assert compiler.nonlinearity(member(model__nonlinearity="leaky_relu").model)(values).tolist() == pytest.approx(
        [-0.2, 3.0]
    )


def test_variances_go_below_one_and_keep_their_floor():
    spec = member(1, model__batch_norm=False, model__variance_floor=0.01)
    model = compiled(spec)
    with torch.no_grad():
        model.inference.up[0].head.linear.bias[:, 5:] = -30.0
        q = model.inference.encode(torch.zeros(1, 64, 1, 1))[0]
    assert q.variance.max() < 0.011
    assert q.variance.min() >= 0.01


def test_counted_parameters_are_the_compiled_ones():
    from hvae_spec.spec.cost import parameters

    for case in CASES:
        for share in {False, can_share(case[0]) and case[-1] != "generative"}:
            spec = spec_of(*case, model__share_top_down=share)
            assert parameters(spec, image_pixels(spec.data)) == sum(p.numel() for p in compiled(spec).parameters())


def test_batches_hold_the_specs_batch_size():
    spec = member()
    batches = compiler.batches(spec, load_dataset(spec.data))
    assert isinstance(batches, Batches)
    assert batches.batch_size == spec.training.batch_size

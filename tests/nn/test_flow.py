"""Flows of the latents: log determinants, densities that integrate to one, inverses, and the identity at the start."""

import itertools
import math

import pytest
import torch
from torch import nn

from hvae_spec import compiler
from hvae_spec.data.counts import image_pixels
from hvae_spec.nn import estimators
from hvae_spec.nn.flow import FLOWS, Flowed
from hvae_spec.nn.gaussian import DiagonalGaussian, Style
from hvae_spec.nn.hierarchy import log_ratio_of
from hvae_spec.nn.inference import Draw
from hvae_spec.nn.nonlinearity import NONLINEARITIES
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.cost import mappings, parameters
from tests.members import member
from tests.reference import Reference

FORMS = [
    ("planar", {"steps": 1}),
    ("planar", {"steps": 7}),
    ("iaf", {"steps": 1, "mlp": (8,)}),
    ("iaf", {"steps": 2, "mlp": (9, 4)}),
    ("iaf", {"steps": 3, "mlp": ()}),
]
SPECS = ["planar", {"planar": 3}, "iaf", {"iaf": {"steps": 3, "mlp": []}}, {"iaf": {"mlp": [7, 5]}}]
STYLE = Style(2, NONLINEARITIES["tanh"], None, 1e-6)


def flow_of(name, settings, units, inputs=6, scale=0.7):
    """A flow of two members with random weights, in float64."""
    flow = FLOWS[name](STYLE, inputs, units, **settings).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=scale)
    return flow


def flowed(name, settings, units, scale=0.4, images=1):
    torch.manual_seed(units)
    flow = flow_of(name, settings, units, scale=scale)
    shape = (2, units, 1, images)
    base = DiagonalGaussian(torch.randn(shape).double(), torch.rand(shape).double() + 0.3)
    return Flowed(base, flow, flow.amortize(torch.randn(2, 6, 1, images).double()).detach())


@pytest.mark.parametrize("units", [1, 2, 5])
@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_the_log_determinant_is_that_of_the_jacobian(name, settings, units):
    flow = flow_of(name, settings, units)
    h = flow.amortize(torch.randn(2, 6, 1, 3).double()).detach()
    z = torch.randn(2, units, 4, 3).double()
    _, log_det = flow(z, h)
    assert log_det.shape == (2, 1, 4, 3)
    for m, s, b in itertools.product(range(2), range(2), range(3)):

        def one(point, m=m, s=s, b=b):
            """The flow at one sample of one image of one member: the others stay."""
            whole = z.clone()
            whole[m, :, s, b] = point
            return flow(whole, h)[0][m, :, s, b]

        jacobian = torch.autograd.functional.jacobian(one, z[m, :, s, b])
        torch.testing.assert_close(log_det[m, 0, s, b], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("units", [1, 2, 5])
@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_the_inverse_gives_back_where_a_sample_came_from_and_its_density(name, settings, units):
    q = flowed(name, settings, units)
    noise = torch.randn(2, units, 30, 1).double()
    z, log_q = q.sample_and_log_prob(noise)
    start = q.base.sample(noise)
    torch.testing.assert_close(q.flow.inverse(z, q.parameters), start, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-7, atol=1e-7)
    expected = q.base.log_prob(start).sum(1, keepdim=True) - q.flow(start, q.parameters)[1]
    torch.testing.assert_close(log_q, expected)


@pytest.mark.parametrize(("name", "settings"), FORMS)
@pytest.mark.parametrize(("units", "half", "points"), [(1, 20.0, 4001), (2, 10.0, 241)])
def test_the_density_integrates_to_one(name, settings, units, half, points):
    # Without a hidden layer, s is linear in z: far out the density underflows to 0 over 0.
    q = flowed(name, settings, units, scale=0.1 if settings.get("mlp") == () else 0.3)
    axis = torch.linspace(-half, half, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*[axis] * units, indexing="ij")).flatten(1)
    with torch.no_grad():
        density = q.log_prob(grid[None, :, :, None].expand(2, -1, -1, -1)).exp()
    total = density.sum(2).flatten() * (axis[1] - axis[0]) ** units
    torch.testing.assert_close(total, torch.ones(2).double(), rtol=0, atol=2e-3)


def test_a_planar_flow_is_invertible_whatever_its_head_gives():
    """Also where w.u is far below -1, at which Rezende and Mohamed's condition would not hold for u itself."""
    flow = FLOWS["planar"](STYLE, 6, 3, steps=2).double()
    torch.manual_seed(0)
    h = 30 * torch.randn(2, 14, 1, 50).double()
    assert min(float(along.min()) for *_, along in flow._by_step(h)) > -1
    z = torch.randn(2, 3, 1, 50).double()
    moved, log_det = flow(z, h)
    assert log_det.isfinite().all()
    torch.testing.assert_close(flow.inverse(moved, h), z, rtol=1e-5, atol=1e-5)


def test_every_invertible_planar_map_is_that_of_one_u():
    """v with v.w = c > -1 comes of w.u = c (2 + c) / (2 (1 + c)), u being along v."""
    flow = FLOWS["planar"](STYLE, 1, 3, steps=1).double()
    unit, _ = flow._start(torch.zeros((), dtype=torch.float64))
    torch.manual_seed(0)
    for c in (-0.999, -0.5, -1e-3, 0.0, 0.7, 40.0):
        v, w = torch.randn(2, 3, 1, 1).double().unbind(0)
        v = v + (c - (v * w).sum()) * w / w.square().sum()
        u = v * (2 + c) / (2 * (1 + c))
        head = torch.cat([u, w - unit[0], torch.zeros(1, 1, 1)])[None].double()
        ((found, _, _, along),) = flow._by_step(head)
        torch.testing.assert_close(found[0], v)
        assert along.item() == pytest.approx(c, abs=1e-12)


def test_the_planar_constraint_is_smooth_at_w_0_and_at_u_0():
    """What the constants leave of w is 0 here; derivatives agree from both sides of w.u = 0."""
    flow = FLOWS["planar"](STYLE, 1, 2, steps=1).double()
    gradients = []
    for side in (0.0, 1e-9, -1e-9):
        h = torch.tensor([0.4, 0.3, -1 + side, 0.0, 0.0]).double()[None, :, None, None].requires_grad_()
        ((v, *_),) = flow._by_step(h)
        gradients.append(torch.autograd.grad(v.sum(), h)[0])
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-7)
    ((v, _, _, along),) = flow._by_step(torch.zeros(1, 5, 1, 1).double())
    assert not v.any()
    assert not along.any()


@pytest.mark.parametrize("units", [1, 2, 6])
@pytest.mark.parametrize("mlp", [(), (3,), (8, 5)])
def test_a_masked_network_sees_the_units_before_alone_and_the_order_is_reversed(mlp, units):
    flow = flow_of("iaf", {"steps": 2, "mlp": mlp}, units, scale=2.0)
    h = torch.randn(2, flow.context.weight.shape[1], 1, 1).double()
    for step, (made, context) in enumerate(zip(flow.mades, flow._contexts(h), strict=True)):
        for part in (0, 1):

            def one(z, made=made, context=context, part=part):
                return made(z.repeat(2, 1)[:, :, None, None], context)[part][0, :, 0, 0]

            jacobian = torch.autograd.functional.jacobian(one, torch.randn(units).double())
            sees = jacobian.abs() > 0
            before = torch.ones(units, units).tril(-1).bool()
            expected = before.flip(0, 1) if step else before
            assert not (sees & ~expected).any()
            if all(width >= units for width in mlp):
                assert torch.equal(sees, expected)
            assert sees[0 if step else -1].sum() == units - 1


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("flow", SPECS, ids=str)
def test_at_the_start_a_flow_changes_nothing_and_its_heads_have_gradients(flow, inference):
    specs = [member(3, seed, model__inference=inference) for seed in (0, 1)]
    changed = [member(3, seed, model__inference=inference, model__flow=flow) for seed in (0, 1)]
    plain, model = (compiler.initialized(each, 64) for each in (specs, changed))
    own = dict(model.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in plain.named_parameters())
    x, noise = torch.rand(2, 16, 64).round(), Streams([0, 1]).begin("training").noise(3, 16, model.units)
    ours, theirs = model(x, noise), plain(x, noise)
    assert all(torch.equal(z, other) for z, other in zip(ours.latents, theirs.latents, strict=True))
    assert torch.equal(log_weight(ours), log_weight(theirs))
    assert [ratio.shape[1] for ratio in ours.log_ratios] == model.ratio_widths == [1, 1, 1]
    heads = {id(head) for module in model.modules() if hasattr(module, "heads") for head in _list(module.heads)}
    names = [
        (name, parameter)
        for name, module in model.named_modules()
        if id(module) in heads
        for parameter in module.parameters()
    ]
    assert all(not parameter.any() for _, parameter in names)
    gradients = torch.autograd.grad(log_weight(ours).sum(), [parameter for _, parameter in names])
    for (name, _), gradient in zip(names, gradients, strict=True):
        # One unit has none before it, so that nothing but a context moves it: not so here, where z_3 has three.
        assert gradient.flatten(1).abs().amax(1).min() > 0, name


def _list(heads):
    return heads if isinstance(heads, list) else []


@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("flow", SPECS, ids=str)
def test_once_heads_have_moved_every_parameter_of_a_flow_has_a_gradient(flow, inference):
    model = moved(member(3, model__inference=inference, model__flow=flow))
    x, noise = torch.rand(1, 16, 64).round(), Streams([0]).begin("training").noise(3, 16, model.units)
    names, values = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(log_weight(model(x, noise)).sum(), values)
    assert all(bool(gradient.any()) for gradient in gradients), names


def moved(spec, scale=0.2):
    """A model whose flows are no identities."""
    model = compiler.initialized([spec], image_pixels(spec.data))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".flow." in name:
            nn.init.normal_(parameter, std=scale)
    return model


@pytest.mark.parametrize("flow", [{"planar": 7}, {"iaf": {"mlp": [7, 3]}}, {"iaf": {"steps": 3, "mlp": []}}], ids=str)
@pytest.mark.parametrize("inference", INFERENCES)
def test_log_weights_equal_the_slow_reference(inference, flow):
    model = moved(spec := member(3, model__inference=inference, model__flow=flow, model__batch_norm=False), 0.3)
    x = torch.rand(1, 3, 64).round()
    noise = Streams([3]).begin("training").noise(2, 3, model.units)
    with torch.no_grad():
        fast = log_weight(model(x, noise), beta=0.7)
    slow = Reference(model, spec)
    for sample, image in itertools.product(range(2), range(3)):
        eps = [layer[0, :, sample, image] for layer in noise]
        expected = slow.log_weight(x[0, image], eps, beta=0.7)
        assert fast[0, sample, image].item() == pytest.approx(expected, rel=2e-5, abs=2e-4)


@pytest.mark.parametrize("flow", SPECS, ids=str)
@pytest.mark.parametrize("inference", INFERENCES)
def test_log_ratios_are_log_p_less_log_q_of_the_inverse(inference, flow):
    model = moved(member(3, model__inference=inference, model__flow=flow, model__batch_norm=False)).double()
    x = torch.rand(1, 64, 1, 5).round().double()
    noise = [eps.double() for eps in Streams([0]).begin("training").noise(2, 5, model.units)]
    encoding = model.inference.encode(x)
    draws = model.inference.sample(encoding, noise)
    posteriors = model.inference(encoding, [draw.z for draw in draws])
    trace = model.trace(x, encoding, noise)
    for layer, (draw, q) in enumerate(zip(draws, posteriors, strict=True)):
        log_p = model.generative.prior(layer, draws, model.top()).log_prob(draw.z).sum(1, keepdim=True)
        torch.testing.assert_close(trace.log_ratios[layer], log_p - q.log_prob(draw.z), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(draw.log_prob, q.log_prob(draw.z), rtol=1e-6, atol=1e-6)


def test_the_log_ratio_of_a_gaussian_p_has_the_noise_in_it():
    q = flowed("planar", {"steps": 4}, 3, images=5)
    noise = torch.randn(2, 3, 4, 5).double()
    p = DiagonalGaussian(torch.randn(2, 3, 4, 5).double(), torch.rand(2, 3, 4, 5).double() + 0.1)
    draw = Draw.of(q, noise)
    v_q, v_p = q.base.variance, p.variance
    terms = noise**2 + v_q.log() - v_p.log() - (draw.z - p.mean) ** 2 / v_p
    expected = 0.5 * terms.sum(1, keepdim=True) + draw.log_det
    torch.testing.assert_close(log_ratio_of(p, draw, noise), expected)
    other = Flowed(p, q.flow, q.parameters)  # no Gaussian: by its log density
    direct = other.log_prob(draw.z) - q.log_prob(draw.z)
    torch.testing.assert_close(log_ratio_of(other, draw, noise), direct, rtol=1e-6, atol=1e-6)


def test_in_the_ladder_the_merged_gaussian_is_the_base_and_the_pass_up_goes_on_with_the_mean():
    spec = member(3, model__flow={"planar": 2})
    model, plain = moved(spec, 1.0), compiler.initialized([member(3)], 64)
    x = torch.rand(1, 64, 1, 8).round()
    ours, theirs = model.inference.encode(x), plain.inference.encode(x)
    for q, gaussian in zip(ours, theirs, strict=True):
        assert torch.equal(q.base.mean, gaussian.mean)
        assert q.parameters.shape[2] == 1  # once per image
    z = [torch.randn(1, units, 3, 8) for units in model.units]
    merged = zip(model.inference(ours, z), plain.inference(theirs, z), ours, strict=True)
    for q, gaussian, evidence in merged:
        assert torch.equal(q.base.mean, gaussian.mean)
        assert torch.equal(q.base.variance, gaussian.variance)
        assert q.parameters is evidence.parameters


def test_a_flow_of_one_layer_leaves_the_units_of_the_others():
    layers = [
        {"units": 5, "mlp": [12], "flow": None},
        {"units": 4, "mlp": [9], "flow": "planar"},
        {"units": 3, "mlp": [], "flow": None},
    ]
    model = compiler.initialized([member(model__layers=layers)], 64)
    assert model.ratio_widths == [5, 1, 3]
    off = [{**layer, "flow": "none" if place == 1 else None} for place, layer in enumerate(layers)]
    spec = member(model__layers=off, model__flow="iaf")
    assert compiler.initialized([spec], 64).ratio_widths == [1, 4, 1]


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("flow", SPECS, ids=str)
@pytest.mark.parametrize("inference", INFERENCES)
def test_counted_parameters_are_the_compiled_ones(inference, flow, norm):
    spec = member(3, model__inference=inference, model__flow=flow, model__norm=norm)
    model = compiler.hierarchy(spec, 64)
    assert parameters(spec, 64) == sum(parameter.numel() for parameter in model.parameters())
    own = [mapping for mapping in mappings(spec, 64) if mapping.name.startswith("flow_")]
    once = {mapping.name for mapping in own if not mapping.per_sample}
    heads = {f"flow_{layer}{'.context' * ('iaf' in str(flow))}" for layer in (1, 2, 3)}
    assert once == (heads if INFERENCES[inference].top_down else {name for name in heads if "_1" in name})


def test_members_of_a_pack_have_flows_of_their_own():
    specs = [member(2, seed, model__flow="iaf", model__inference="vae") for seed in (3, 4)]
    pack, alone = compiler.initialized(specs, 64), compiler.initialized(specs[1:], 64)
    x, noise = torch.rand(2, 8, 64).round(), Streams([3, 4]).begin("training").noise(2, 8, pack.units)
    expected = log_weight(alone(x[1:], [eps[1:] for eps in noise]))
    torch.testing.assert_close(log_weight(pack(x, noise))[1:], expected, rtol=1e-5, atol=1e-4)
    made = "inference.up.0.flow.mades.0.linears.0.weight"
    assert not torch.equal(pack.get_parameter(made)[0], pack.get_parameter(made)[1])
    assert torch.equal(pack.get_parameter(made)[1:], alone.get_parameter(made))


def test_an_estimator_along_the_samples_has_no_flow():
    model = moved(member(2, model__flow="planar"))
    noise = Streams([0]).begin("training").noise(1, 4, model.units)
    with pytest.raises(TypeError, match="inverse of a flow"):
        estimators.path(model, torch.rand(1, 4, 64).round(), noise, log_weight, torch.ones(1), 1)


def test_the_scale_of_an_autoregressive_step_is_one_at_zero_and_below_two():
    flow = FLOWS["iaf"](STYLE, 6, 2, steps=1, mlp=(3,))
    for parameter in flow.parameters():
        nn.init.zeros_(parameter)
    z = torch.randn(2, 2, 1, 4)
    same, log_det = flow(z, torch.zeros(2, 3, 1, 4))
    assert torch.equal(same, z)
    assert not log_det.any()
    nn.init.constant_(flow.mades[0].head.bias, 50.0)
    _, log_det = flow(z, torch.zeros(2, 3, 1, 4))
    assert log_det.max().item() == pytest.approx(2 * math.log(2))

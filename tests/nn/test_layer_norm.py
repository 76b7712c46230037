"""Layer normalization is PyTorch's, member by member, and what is normalized is what the spec says."""

import pytest
import torch
from torch.nn import functional as F

from hvae_spec import compiler
from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.layer_norm import LayerNorm
from hvae_spec.spec.choices.observation import OBSERVATIONS
from hvae_spec.spec.cost import parameters
from tests.members import member


def norm_of(members, units=6, eps=1e-3):
    norm = LayerNorm(members, units, eps)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("training", [True, False])
def test_it_equals_pytorchs_layer_norm_member_by_member(training):
    norm, x = norm_of(3).train(training), (torch.randn(3, 6, 2, 10) * 4 + 100).requires_grad_()
    y = norm(x)
    weights = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((weights * y).sum(), x)
    for m in range(3):
        units_last = x[m].detach().movedim(0, -1).requires_grad_()
        plain = F.layer_norm(units_last, (6,), norm.weight[m, :, 0], norm.bias[m, :, 0], eps=1e-3).movedim(-1, 0)
        torch.testing.assert_close(y[m], plain, rtol=1e-4, atol=1e-5)
        (expected,) = torch.autograd.grad((weights[m] * plain).sum(), units_last)
        torch.testing.assert_close(gradient[m], expected.movedim(-1, 0), rtol=1e-3, atol=1e-4)


def test_members_samples_and_images_share_no_statistics():
    norm, x = norm_of(3), torch.randn(3, 6, 2, 4)
    whole = norm(x)
    one = norm_of(1)
    one.load_state_dict({name: value[1:2] for name, value in norm.state_dict().items()})
    assert torch.equal(one(x[1:2]), whole[1:2])
    torch.testing.assert_close(one(x[1:2, :, 1:, 3:]), whole[1:2, :, 1:, 3:])
    x[0, 0, 0, 0] = torch.nan
    spoiled = norm(x)
    assert spoiled[0, :, 0, 0].isnan().all()
    assert torch.equal(spoiled[1:], whole[1:])
    assert int(spoiled.isnan().sum()) == 6


def test_a_shift_or_a_scale_of_all_units_changes_nothing():
    norm, x = norm_of(2, eps=1e-12).double(), torch.randn(2, 6, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(norm(3 * x - 7), norm(x))


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize(
    ("norm", "kind", "heads"),
    [("batch", BatchNorm, True), ({"batch": {"heads": False}}, BatchNorm, False), ("layer", LayerNorm, False)],
    ids=str,
)
def test_every_hidden_layer_is_normalized_and_heads_where_the_spec_says_so(norm, kind, heads, observation):
    spec = member(2, model__norm=norm, model__observation=observation)
    model = compiler.initialized([spec], 64)
    norms = {name for name, module in model.named_modules() if isinstance(module, BatchNorm | LayerNorm)}
    assert all(isinstance(module, kind) for name, module in model.named_modules() if name in norms)
    hidden = {name for name, _ in model.named_modules() if ".mlp.norms." in name}
    of_latents = {"inference.up.0", "inference.up.1", "inference.down.0", "generative.conditionals.0"}
    assert norms == hidden | ({f"{name}.head.norm" for name in of_latents} if heads else set())
    # A map has a bias where no normalization, whose shift is one, follows it.
    biases = {name.removesuffix(".bias") for name, _ in model.named_parameters() if name.endswith(".bias")} - norms
    output = {"generative.likelihood.logits", "generative.likelihood.head.linear"}
    assert biases - output == (set() if heads else {f"{name}.head.linear" for name in of_latents})
    assert sum(value.numel() for value in model.parameters()) == parameters(spec, 64)


def test_eps_is_that_of_the_spec():
    model = compiler.initialized([member(1, model__norm="layer", model__batch_norm_eps=0.5)], 64)
    assert {module.eps for module in model.modules() if isinstance(module, LayerNorm)} == {0.5}

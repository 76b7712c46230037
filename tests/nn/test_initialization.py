import math

import pytest
import torch

from hvae_spec import compiler
from hvae_spec.nn.gaussian import MLP, GaussianHead, Style
from hvae_spec.nn.initialization import initialize
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.initialization import INITIALIZATIONS
from tests.members import member

INPUTS, OUTPUTS = 300, 80


def drawn(module, scheme, variance_bias=0.0):
    initialize(module, scheme, variance_bias, Streams([0, 1]).begin("initialization").generators)
    return module


# Variance of a weight, and its largest size (None: normal).
SCHEMES = {
    "torch": (1 / (3 * INPUTS), INPUTS**-0.5),
    "glorot_uniform": (2 / (INPUTS + OUTPUTS), (6 / (INPUTS + OUTPUTS)) ** 0.5),
    "glorot_normal": (2 / (INPUTS + OUTPUTS), None),
    "he_uniform": (2 / INPUTS, (6 / INPUTS) ** 0.5),
    "he_normal": (2 / INPUTS, None),
    "lasagne": (2 / (INPUTS + OUTPUTS), None),  # a map alone is a head
}


@pytest.mark.parametrize("scheme", INITIALIZATIONS)
@pytest.mark.parametrize("heads", [1, 2])
def test_weights_have_the_variance_of_the_scheme(scheme, heads):
    """Two heads side by side are two maps of their own fan-out."""
    variance, largest = SCHEMES[scheme]
    linear = drawn(Linear(2, INPUTS, heads * OUTPUTS, heads=heads), scheme)
    for weight in linear.weight.detach():
        # The relative error of a sample variance is at most sqrt(2 / n), here 0.9 %.
        assert weight.var().item() == pytest.approx(variance, rel=0.04)
        assert weight.mean().abs() < 5 * (variance / weight.numel()) ** 0.5
        if largest is not None:
            assert 0.99 * largest < weight.abs().max() <= largest
    assert not torch.equal(linear.weight[0], linear.weight[1])
    bias = linear.bias.detach()
    if scheme == "torch":
        assert 0.9 * largest < bias.abs().max() <= largest
    else:
        assert not bias.any()


@pytest.mark.parametrize("scheme", ["torch", "he_normal"])
def test_the_variance_bias_is_that_of_variances_alone(scheme):
    style = Style(2, torch.relu, None, 1e-6)
    plain = drawn(GaussianHead(style, INPUTS, 5), scheme)
    biased = drawn(GaussianHead(style, INPUTS, 5), scheme, variance_bias=2.5)
    assert torch.equal(biased.linear.bias[:, :5], plain.linear.bias[:, :5])
    assert (biased.linear.bias[:, 5:] == 2.5).all()
    variances = biased(torch.zeros(2, INPUTS, 1, 1)).variance
    assert variances.flatten().tolist() == pytest.approx([math.log1p(math.exp(2.5))] * 10, rel=1e-5)


WIDE = [{"units": 60, "mlp": [200, 150]}, {"units": 40, "mlp": [120]}]


@pytest.mark.parametrize(
    ("inference", "depth", "is_uniform"), [("ladder", 2, True), ("ladder", 1, False), ("vae", 2, False)]
)
def test_lasagnes_hidden_layers_have_a_gain_and_the_ladders_latents_have_uniform_heads(inference, depth, is_uniform):
    spec = member(
        depth=2,
        model__layers=WIDE[:depth],
        model__inference=inference,
        model__batch_norm=False,
        model__initialization="lasagne",
        model__variance_bias=1.0,
    )
    model = compiler.initialized([spec], 64)
    hidden = {linear for mlp in model.modules() if isinstance(mlp, MLP) for linear in mlp.linears}
    heads = {linear for linear in model.modules() if isinstance(linear, Linear)} - hidden
    for linear in hidden | heads:
        weight = linear.weight.detach()[0]
        outputs, inputs = weight.shape[0] // linear.heads, weight.shape[1]
        variance = (4 if linear in hidden else 2) / (inputs + outputs)
        # Five relative errors of a sample variance.
        assert weight.var().item() == pytest.approx(variance, rel=5 * (2 / weight.numel()) ** 0.5)
        of_image = linear is model.generative.likelihood.logits
        beyond = bool(weight.abs().max() > (3 * variance) ** 0.5)
        assert beyond != (linear in heads and not of_image and is_uniform)
        half = outputs if linear in heads and not of_image else 0
        assert (linear.bias[0, half:] == bool(half)).all()
        assert not linear.bias[0, :half].any()


def test_other_schemes_draw_hidden_layers_and_heads_alike():
    for scheme in set(INITIALIZATIONS) - {"lasagne"}:
        one, other = (drawn(GaussianHead(Style(2, torch.relu, None, 1e-6), INPUTS, 5), scheme) for _ in range(2))
        initialize(other, scheme, 0.0, Streams([0, 1]).begin("initialization").generators, top_down=True)
        assert torch.equal(one.linear.weight, other.linear.weight)

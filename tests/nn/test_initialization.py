import math

import pytest
import torch

from hvae_spec.nn.gaussian import GaussianHead, Style
from hvae_spec.nn.initialization import initialize
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choices.initialization import INITIALIZATIONS

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

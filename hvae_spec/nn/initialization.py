"""Initial weights, drawn member by member from the members' own generators."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hvae_spec.nn.classes import Classifier
from hvae_spec.nn.flow import Flow, FlowedMapping
from hvae_spec.nn.gaussian import MLP, GaussianHead, GaussianMapping, MeanHead
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.prior import Prior
from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Initialization:
    """How the weights of a linear map are drawn."""

    variance: Callable[[int, int], float]
    """Variance of a weight, given the map's fan-in and fan-out. Its mean is 0."""
    normal: bool
    """Normal rather than uniform."""
    draws_bias: bool = False
    """Biases are uniform, with the variance of the weights; otherwise they are 0."""
    heads: "Initialization | None" = None
    """How the maps after the hidden layers are drawn; None: as all others."""
    latent_heads_with_top_down: "Initialization | None" = None
    """How the heads of the latents are drawn where inference has a path down; None: as all heads."""


INITIALIZATIONS: Registry[Initialization] = Registry("initialization in torch")
INITIALIZATIONS.add("torch", Initialization(lambda n_in, n_out: 1 / (3 * n_in), normal=False, draws_bias=True))
INITIALIZATIONS.add("glorot_normal", Initialization(lambda n_in, n_out: 2 / (n_in + n_out), normal=True))
INITIALIZATIONS.add("glorot_uniform", Initialization(lambda n_in, n_out: 2 / (n_in + n_out), normal=False))
INITIALIZATIONS.add("he_normal", Initialization(lambda n_in, n_out: 2 / n_in, normal=True))
INITIALIZATIONS.add("he_uniform", Initialization(lambda n_in, n_out: 2 / n_in, normal=False))
INITIALIZATIONS.add(
    "lasagne",
    Initialization(
        lambda n_in, n_out: 4 / (n_in + n_out),
        normal=True,
        heads=INITIALIZATIONS["glorot_normal"],
        latent_heads_with_top_down=INITIALIZATIONS["glorot_uniform"],
    ),
)


@torch.no_grad()
def initialize(
    model: nn.Module,
    scheme: str,
    variance_bias: float,
    generators: Sequence[torch.Generator],
    *,
    top_down: bool = False,
    flow_generators: Sequence[torch.Generator] = (),
    class_generators: Sequence[torch.Generator] = (),
) -> None:
    """Draw the initial weights of every linear map of every member.

    Args:
        model: a member-batched model.
        scheme: a name of `INITIALIZATIONS`.
        variance_bias: initial bias of the heads that give variances, and what a learned variance begins with before
            the softplus.
        generators: member m is drawn from generators[m] alone.
        top_down: whether inference has a path down.
        flow_generators: where the hidden maps of member m's flows are drawn from, as hidden layers are, so that all
            other weights are what they are without a flow. The heads of flows are 0.
        class_generators: where member m's q(y|x) is drawn from, likewise.

    """
    initialization = INITIALIZATIONS[scheme]
    heads = initialization.heads or initialization
    latent_heads = (initialization.latent_heads_with_top_down if top_down else None) or heads
    modules = list(model.modules())
    # Last, so that models of other priors have all else in common.
    of_prior = {id(module) for prior in modules if isinstance(prior, Prior) for module in prior.modules()}
    modules.sort(key=lambda module: id(module) in of_prior)
    hidden = {linear for module in modules if isinstance(module, MLP) for linear in module.linears}
    of_latents = {module.head.linear for module in modules if isinstance(module, GaussianMapping | FlowedMapping)}
    flows = [module for module in modules if isinstance(module, Flow)]
    of_flows = {linear for flow in flows for linear in flow.modules() if isinstance(linear, Linear)}
    zero = {head for flow in flows for head in flow.heads}
    classifiers = [module for module in modules if isinstance(module, Classifier)]
    of_classes = {linear for one in classifiers for linear in one.modules() if isinstance(linear, Linear)}
    for module in modules:
        if module in zero:
            for parameter in module.parameters():
                parameter.zero_()
        elif isinstance(module, Linear) and module in of_flows:
            for member, generator in enumerate(flow_generators):
                _draw(module, member, initialization, generator)
        elif isinstance(module, Linear):
            drawn = initialization if module in hidden else latent_heads if module in of_latents else heads
            for member, generator in enumerate(class_generators if module in of_classes else generators):
                _draw(module, member, drawn, generator)
    for module in model.modules():
        if isinstance(module, GaussianHead) and module.linear.bias is not None and variance_bias:
            half = module.linear.bias.shape[1] // 2
            module.linear.bias[:, half:] = variance_bias
        elif isinstance(module, MeanHead) and module.before_softplus is not None:
            module.before_softplus.fill_(variance_bias)


def _draw(linear: Linear, member: int, initialization: Initialization, generator: torch.Generator) -> None:
    _, outputs, fan_in = linear.weight.shape
    variance = initialization.variance(fan_in, outputs // linear.heads)
    linear.weight[member] = _noise((outputs, fan_in), variance, initialization.normal, generator)
    if linear.bias is not None:
        drawn = initialization.draws_bias
        linear.bias[member] = _noise((outputs, 1), variance, False, generator) if drawn else 0.0


def _noise(shape: tuple[int, int], variance: float, normal: bool, generator: torch.Generator) -> Tensor:
    """Normal or uniform noise of mean 0 and the given variance."""
    if normal:
        return torch.randn(shape, generator=generator) * math.sqrt(variance)
    return (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3 * variance)

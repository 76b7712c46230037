"""What one would write without this project: a deep hierarchical VAE as a plain PyTorch module with its training loop.

It is what `tune.bench` compares with, in speed and in learning, and shares no line with `hvae_spec`: `nn.Linear` (one
for each head), `nn.BatchNorm1d` or `nn.LayerNorm`, Adam and float32, all with PyTorch's defaults.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

Gaussian = tuple[Tensor, Tensor]
"""Mean and variance."""
Encoded = tuple[Tensor, ...]
"""The same, and what a flow takes from the image, where one follows."""
ROWS = 10_000
"""Samples times images that an evaluation has in memory: about the fastest for the paper's model on a CPU."""


NONLINEARITIES: dict[str, Callable[..., nn.Module]] = {
    # The names of a spec. A parameter, if there is one, comes first.
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
}
NORMS: dict[str, Callable[..., nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
"""Normalizations by name; None: nothing is normalized."""
MakeNorm = Callable[[int], nn.Module]


def hidden_layers(
    inputs: int, widths: Sequence[int], nonlinearity: Callable[[], nn.Module], norm: MakeNorm | None
) -> nn.Sequential:
    """Hidden layers: linear, normalized if there is a norm, nonlinearity. The linear maps keep their bias, PyTorch's
    default, also before a normalization. Before batch normalization it has no effect; before layer normalization it is
    a little more than our model has.
    """
    modules: list[nn.Module] = []
    for wide, width in pairwise([inputs, *widths]):
        modules += [nn.Linear(wide, width), *normalized(width, norm), nonlinearity()]
    return nn.Sequential(*modules)


MAPPINGS = {"mlp": hidden_layers}
"""Hidden layers by the name of a mapping: it has no others."""


def normalized(units: int, norm: MakeNorm | None) -> list[nn.Module]:
    """A normalization, or nothing."""
    return [] if norm is None else [norm(units)]


class GaussianLayer(nn.Module):
    """y -> mean and variance of z, and what a flow of z takes from the image, if there is one."""

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        units: int,
        *,
        nonlinearity: Callable[[], nn.Module],
        norm: MakeNorm | None,
        floor: float,
        normalize_heads: bool,
        flow: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        last, of_heads = [inputs, *widths][-1], norm if normalize_heads else None
        self.floor = floor
        self.mlp = hidden_layers(inputs, widths, nonlinearity, norm)
        self.mu = nn.Sequential(nn.Linear(last, units), *normalized(units, of_heads))
        self.sigma2 = nn.Sequential(nn.Linear(last, units), *normalized(units, of_heads))
        self.flow: Any = None if flow is None else flow(last, units, {"nonlinearity": nonlinearity})

    def forward(self, y: Tensor) -> Encoded:
        """[N, inputs] -> mean and variance, [N, units] each, and what a flow takes, [N, its parameters]."""
        d = self.mlp(y)
        gaussian = self.mu(d), F.softplus(self.sigma2(d)) + self.floor
        return gaussian if self.flow is None else (*gaussian, self.flow.amortize(d))


def with_own_statistics(layer: nn.Module) -> nn.Module:
    """A layer of the same parameters, whose batch normalization has running averages of its own."""
    return copy.deepcopy(layer, {id(parameter): parameter for parameter in layer.parameters()})


def log_normal(z: Tensor, mu: Tensor, sigma2: Tensor) -> Tensor:
    """log N(z; mu, sigma2), summed over units."""
    return (-0.5 * (math.log(2 * math.pi) + sigma2.log() + (z - mu) ** 2 / sigma2)).sum(-1)


def draw(q: Encoded, flow: Any, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """A reparametrized sample, through the flow if there is one, and log q of it."""
    mu, sigma2, *taken = q
    z = mu + sigma2.sqrt() * (torch.randn_like(mu) if noise is None else noise)
    log_q = log_normal(z, mu, sigma2)
    if flow is None:
        return z, log_q
    z, log_det = flow(z, *taken)
    return z, log_q - log_det


def merged(evidence: Encoded, t: Gaussian) -> Gaussian:
    """The evidence, without what a flow takes, and what comes from above, weighted by precision."""
    (mu_d, sigma2_d, *_), (mu_t, sigma2_t) = evidence, t
    sigma2 = 1 / (1 / sigma2_d + 1 / sigma2_t)
    return (mu_d / sigma2_d + mu_t / sigma2_t) * sigma2, sigma2


def joined(latents: Sequence[Tensor], skips: bool) -> Tensor:
    """The first of some latents, or with skip connections all of them in one."""
    return torch.cat([*latents], dim=1) if skips else latents[0]


class BernoulliDecoder(nn.Module):
    """p(x|z_1) = B(x | sigmoid(Linear(MLP(z_1))))."""

    def __init__(self, units: int, widths: Sequence[int], pixels: int, style: dict[str, Any]) -> None:
        super().__init__()
        self.mlp = hidden_layers(units, widths, style["nonlinearity"], style["norm"])
        self.logits = nn.Linear([units, *widths][-1], pixels)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x|z_1), summed over pixels: z [N, U], x [N, D] -> [N]."""
        return -F.binary_cross_entropy_with_logits(self.logits(self.mlp(z)), x, reduction="none").sum(-1)


class StandardNormal(nn.Module):
    """p(z_L) = N(0, I)."""

    def __init__(self, units: int, pixels: int, style: dict[str, Any]) -> None:
        super().__init__()

    def forward(self, z: Tensor, posterior: Callable[[Tensor], Gaussian]) -> Tensor:
        """log p(z_L), z [N, U] -> [N]; `posterior` is q(z_L|x) of images."""
        return log_normal(z, torch.zeros_like(z), torch.ones_like(z))


class PlainHVAE(nn.Module):
    """One deep hierarchical VAE, but for its inference model. All lists go from the data up.

    Args:
        units: latent units of z_1 ... z_L.
        widths: hidden widths of the mapping up into each z_i.
        pixels: width of x.
        down: hidden widths of the generative mapping out of each z_i; None for those of `widths`.
        top_down: hidden widths of the top-down inference mapping out of each z_i; None for those of `down`.
        share_top_down: the top-down mappings of inference, if it has some, are the generative ones.
        steps: sweeps of inference, where it has mappings from the top down that take no evidence.
        skip: `none`; `generative`: p takes the latents of all layers above; `both`: q too those of all before.
        norm: one of `NORMS`, of hidden layers.
        normalize_heads: whether the latents' heads have it too.
        observation: one of `tune.bench.baseline_observations.DECODERS`, with its settings.
        flows: of each z_i one of `tune.bench.baseline_flows.FLOWS`, with its settings; None: no layer has one.
        top_prior: one of `tune.bench.baseline_priors.PRIORS`, with its settings.
        auxiliary: units and hidden widths of an auxiliary variable of q; None: it has none.
        nonlinearity: one of `NONLINEARITIES`, with its number if it takes one.
        eps: of the normalization.
        floor: added to variances.

    """

    top_down = False
    """Whether inference has mappings from the top down."""
    takes_evidence = False
    """Whether these take the evidence beside the latents."""

    def __init__(
        self,
        units: Sequence[int],
        widths: Sequence[Sequence[int]],
        pixels: int,
        *,
        down: Sequence[Sequence[int]] | None = None,
        top_down: Sequence[Sequence[int]] | None = None,
        share_top_down: bool = False,
        steps: int = 1,
        skip: str = "none",
        norm: str = "none",
        normalize_heads: bool = True,
        observation: Callable[..., nn.Module] = BernoulliDecoder,
        flows: Sequence[Callable[..., nn.Module] | None] | None = None,
        top_prior: Callable[..., nn.Module] = StandardNormal,
        auxiliary: tuple[int, Sequence[int]] | None = None,
        nonlinearity: tuple[str, *tuple[float, ...]] = ("leaky_relu", 0.1),
        eps: float = 1e-5,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        down = widths if down is None else down
        top_down = down if top_down is None else top_down
        self.depth = len(units)
        self.shared = share_top_down
        self.p_skips, self.q_skips = skip != "none", skip == "both"
        name, *number = nonlinearity
        f = partial(NONLINEARITIES[name], *number)
        make = NORMS[norm]
        style: dict[str, Any] = {"nonlinearity": f, "floor": floor, "normalize_heads": normalize_heads}
        style["norm"] = None if make is None else partial(make, eps=eps)

        def layers(
            inputs: Sequence[int],
            hidden: Sequence[Sequence[int]],
            outputs: Sequence[int],
            flows: Sequence[Callable[..., nn.Module] | None] | None = None,
        ) -> nn.ModuleList:
            shapes = zip(inputs, hidden, outputs, flows or [None] * len(outputs), strict=False)
            made = (GaussianLayer(wide, middle, out, **style, flow=flow) for wide, middle, out, flow in shapes)
            return nn.ModuleList(made)

        def above(skips: bool) -> list[int]:
            return [sum(units[i:]) if skips else units[i] for i in range(1, len(units))]

        below = [sum(units[:i]) if self.q_skips and not self.top_down else units[i - 1] for i in range(1, len(units))]
        self.auxiliary = auxiliary is not None
        own, hidden = auxiliary or (0, ())
        if self.auxiliary:
            self.q_of_a, self.r_of_a = layers([pixels, pixels + sum(units)], [hidden, hidden], [own, own])
        self.up = layers([pixels + own, *below], widths, units, flows)
        self.prior = layers(above(self.p_skips), down[1:], units)
        if self.top_down and not self.shared:
            inputs = above(self.q_skips)
            if self.takes_evidence:
                inputs = [wide + 2 * own for wide, own in zip(inputs, units, strict=False)]
            self.down = layers(inputs, top_down[1:], units)
        paths = [self.up[1:], self.prior if self.shared else self.down] if steps > 1 else []
        self.earlier: Any = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(map(with_own_statistics, path)) for path in paths) for _ in range(steps - 1)
        )
        self.decoder = observation(sum(units) if self.p_skips else units[0], down[0], pixels, style)
        self.top = top_prior(units[-1], pixels, style)

    def log_top(self, z: Tensor) -> Tensor:
        """log p(z_L), [N]."""
        log_density: Tensor = self.top(z, lambda images: self.encode(images)[-1])
        return log_density

    def encode(self, x: Tensor) -> list[Encoded]:
        """What is known of x before anything is drawn, [B, U_i] each, and with it what flows take."""
        raise NotImplementedError

    def sample(self, encoding: list[Encoded], noise: Sequence[Tensor | None]) -> tuple[list[Tensor], Tensor]:
        """z_1 ... z_L and the summed log q - log p of all layers."""
        raise NotImplementedError

    def log_weight(
        self,
        x: Tensor,
        beta: float = 1.0,
        samples: int = 1,
        *,
        encoding: list[Encoded] | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """log w of some samples per image x [B, D], the KL part weighted by beta: [samples, B].

        Args:
            x: observations.
            beta: weight of the KL part.
            samples: how many per image.
            encoding: of x, where it is known already.
            noise: [samples * B, U_i] for each layer and the auxiliary variable, to be used instead of noise of its own.

        """
        if encoding is None:
            encoding = self.known(x)
        eps: Sequence[Tensor | None] = noise if noise is not None else [None] * (self.depth + 1)
        if samples > 1:
            encoding = [tuple(part.repeat(samples, 1) for part in parts) for parts in encoding]
        x = x.repeat(samples, 1)
        log_ratio: Tensor | float = 0.0
        if self.auxiliary:
            a, log_ratio = draw(encoding[0], None, eps[-1])
            encoding = self.encode(torch.cat([x, a], dim=1))
        z, kl = self.sample(encoding, eps[: self.depth])
        if self.auxiliary:
            log_ratio = log_ratio - log_normal(a, *self.r_of_a(torch.cat([x, *z], dim=1)))
        return (self.decoder(joined(z, self.p_skips), x) - beta * (kl + log_ratio)).view(samples, -1)

    def known(self, x: Tensor) -> list[Encoded]:
        """What is known of x before anything is drawn: with an auxiliary variable, its distribution alone."""
        return [self.q_of_a(x)] if self.auxiliary else self.encode(x)


class BottomUpHVAE(PlainHVAE):
    """q(z_1|x) q(z_2|z_1) ..., drawn from the bottom up."""

    def encode(self, x: Tensor) -> list[Encoded]:
        """q(z_1|x)."""
        return [self.up[0](x)]

    def sample(self, encoding: list[Encoded], noise: Sequence[Tensor | None]) -> tuple[list[Tensor], Tensor]:
        """See `PlainHVAE.sample`."""
        first, kl = draw(encoding[0], self.up[0].flow, noise[0])
        z = [first]
        for layer, eps in zip(self.up[1:], noise[1:], strict=True):
            drawn, log_q = draw(layer(joined(z[::-1], self.q_skips)), layer.flow, eps)
            z.append(drawn)
            kl = kl + log_q
        for index, prior in enumerate(self.prior):
            kl = kl - log_normal(z[index], *prior(joined(z[index + 1 :], self.p_skips)))
        return z, kl - self.log_top(z[-1])


class LadderHVAE(PlainHVAE):
    """The probabilistic ladder network: evidence from the bottom up, samples from the top down."""

    top_down = True

    def encode(self, x: Tensor) -> list[Encoded]:
        """The evidence of all layers, in the last sweep; those before it pass means in the place of samples."""
        first = self.up[0](x)
        means: list[Tensor] = []  # `list[Tensor]()` would part a compiled model in two
        for up, down in self.earlier:
            found = self.evidence(first, up, means)
            means = [found[-1][0]]
            for index in reversed(range(len(down))):
                t = down[index](joined(means, self.q_skips))
                means.insert(0, merged(found[index], t)[0])
        return self.evidence(first, self.up[1:], means)

    def evidence(self, first: Encoded, up: Any, means: Sequence[Tensor]) -> list[Encoded]:
        """The evidence of all layers from that of z_1: each of the one before it, or of means where there are some."""
        found = [first]
        for index, layer in enumerate(up):
            found.append(layer(means[index] if means else found[-1][0]))
        return found

    def sample(self, encoding: list[Encoded], noise: Sequence[Tensor | None]) -> tuple[list[Tensor], Tensor]:
        """See `PlainHVAE.sample`."""
        top, log_q = draw(encoding[-1], self.up[-1].flow, noise[-1])
        z, kl = [top], log_q - self.log_top(top)
        for index in reversed(range(len(encoding) - 1)):
            p = self.prior[index](joined(z, self.p_skips))
            mu_d, sigma2_d, *taken = encoding[index]
            q = self.conditional(index, (mu_d, sigma2_d), joined(z, self.q_skips), p)
            drawn, log_q = draw((*q, *taken), self.up[index].flow, noise[index])
            z.insert(0, drawn)
            kl = kl + log_q - log_normal(drawn, *p)
        return z, kl

    def conditional(self, index: int, evidence: Gaussian, above: Tensor, p: Gaussian) -> Gaussian:
        """q(z|z above, x) of a layer, which may need its prior p."""
        return merged(evidence, p if self.shared else self.down[index](above))


class TopDownHVAE(LadderHVAE):
    """The same without precision weighting: the evidence is an input of the mapping down."""

    takes_evidence = True

    def conditional(self, index: int, evidence: Gaussian, above: Tensor, p: Gaussian) -> Gaussian:
        """See `LadderHVAE.conditional`."""
        found: Gaussian = self.down[index](torch.cat([*evidence, above], dim=1))
        return found


MODELS: dict[str, type[PlainHVAE]] = {"vae": BottomUpHVAE, "ladder": LadderHVAE, "top_down": TopDownHVAE}
"""Models by the name of their inference model."""
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
TERMS = ("likelihood", "prior")
"""Terms of the objective, which are those that `PlainHVAE.log_weight` adds up."""


def bound(log_w: Tensor, iw_samples: int) -> Tensor:
    """The importance-weighted bound, averaged over Monte Carlo samples and images, of log weights [M * K, B]."""
    return (log_w.view(-1, iw_samples, log_w.shape[1]).logsumexp(1) - math.log(iw_samples)).mean()


def plain_step(
    model: PlainHVAE,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    *,
    beta: float = 1.0,
    mc_samples: int = 1,
    iw_samples: int = 1,
    average: AveragedModel | None = None,
) -> None:
    """One step of training on a batch x [B, D], and into the average of the weights, if there is one."""
    optimizer.zero_grad()
    (-bound(model.log_weight(x, beta, mc_samples * iw_samples), iw_samples)).backward()
    optimizer.step()
    if average is not None:
        average.update_parameters(model)


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Parameters as optimizers take them: matrices of linear maps, and all else, which does not decay."""
    ids = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    matrices = [parameter for parameter in model.parameters() if id(parameter) in ids]
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    return [{"params": matrices}, {"params": others, "weight_decay": 0.0}]


def binarized(gray: Tensor) -> Tensor:
    """Zeros and ones with intensities in [0, 1] as probabilities."""
    return torch.bernoulli(gray)


def plain_batches(gray: Tensor, batch_size: int, draw_pixels: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """One epoch of shuffled batches of gray values in [0, 1], [N, D], freshly drawn (by `torch.bernoulli`, say)."""
    order = torch.randperm(len(gray), device=gray.device)
    for step in range(len(gray) // batch_size):
        yield draw_pixels(gray[order[step * batch_size : (step + 1) * batch_size]])


def train_plain(
    make: Callable[[], PlainHVAE], gray: Tensor, epochs: int, warm_up: int, *, seed: int, batch_size: int = 256
) -> PlainHVAE:
    """Train on gray values in [0, 1], [N, D], binarized, with Adam at its defaults; ready for evaluation."""
    torch.manual_seed(seed)
    model = make()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for x in plain_batches(gray, batch_size, binarized):
            plain_step(model, adam, x, beta=min(1.0, epoch / warm_up) if warm_up else 1.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # the plain average over what follows
    with torch.no_grad():
        for images in gray.split(5000):
            model.log_weight(binarized(images))
    return model.eval()


@torch.no_grad()
def plain_log_likelihood(model: PlainHVAE, x: Tensor, samples: int, rows: int = ROWS) -> Tensor:
    """The importance-weighted bound of every image x [N, D]: images are encoded once, samples are drawn in chunks."""
    parts = []
    for images in x.split(100):
        encoding, chunk = model.known(images), max(1, rows // len(images))
        chunks = [min(chunk, samples - done) for done in range(0, samples, chunk)]
        log_w = torch.cat([model.log_weight(images, samples=count, encoding=encoding) for count in chunks])
        parts.append(log_w.logsumexp(0) - math.log(samples))
    return torch.cat(parts)

"""How far a bound is from the likelihood: annealed importance sampling (AIS) and bidirectional Monte Carlo (BDMC).

AIS (Neal, 2001, "Annealed importance sampling") walks from the prior of all latent layers to their posterior given x,
through p_t(z) ~ p(z) p(x|z)^t for t_0 = 0 < ... < t_T = 1, and multiplies up the weight

    w = prod_k p(x|z^(k-1))^(t_k - t_(k-1)),  z^(0) ~ p(z),  z^(k) from z^(k-1) by a transition that leaves p_(t_k) as
    it is.

E[w] = p(x), so that the log of the mean weight of some chains is a lower bound on log p(x) in expectation (Jensen),
whatever q(z|x) is: it says how much of the distance between the importance-weighted bound and the likelihood is q's.

How far AIS itself is from the likelihood, BDMC (Grosse et al., 2015, "Sandwiching the marginal likelihood using
bidirectional Monte Carlo") tells for images that are simulated from the model, as in Wu et al. (2017, "On the
quantitative analysis of decoder-based generative models"). The z that made such an image is an exact sample of its
posterior. Chains that start there and walk down to the prior have E[1/w] = 1 / p(x), and so give an upper bound in
expectation. The difference of the two is the gap, and what AIS lacks is no more than that in expectation. Whether
images of a test set are as hard as those that the model makes is an assumption: AIS on test images and the gap add up
to an estimate, and to no upper bound.

The transitions are Hamiltonian Monte Carlo (HMC; Neal, 2011) in the noise eps that makes the latents,
z_i = mu_i(z_(i+1)) + sigma_i(z_(i+1)) eps_i, with z_L = eps_L. In z the layers of a hierarchy have scales that depend
on one another, for which no single step size is right. In eps the prior is N(0, I) for every model, all that is
annealed is the likelihood, units that the data say nothing of stay standard normal, and the path begins at a target
that HMC samples well. The change of variables does not touch p(x).

Of a learned prior of z_L that is a smooth map of noise, eps_L is that noise. A mixture is none, as a sample chooses its
component: there z_L itself is moved, in units of the standard deviation of the mixture, and p_0 has log p(z_L). Between
components that lie apart HMC does not go. AIS takes them as the prior's samples have them, which is right; but chains
that walk down end where they began, so that K components may add up to log K to the gap.

Step sizes are found in a preliminary run, with noise of its own, and then stay as they are, for every image and
temperature: to adapt them to the chains that are weighted would bias E[w].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hvae_spec import annealing
from hvae_spec.backend.precision import full_precision
from hvae_spec.evaluate.evaluation import evaluation_bytes, standard_error
from hvae_spec.nn.bounds import jackknife_variance
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.random import CHOICES, Streams, image_streams

ACCEPTANCE = 0.65
"""The share of proposals that step sizes aim at."""
GAIN = 0.2
"""How much the log of a step size changes for a difference in that share, at each step of the preliminary run."""
JITTER = 0.2
"""Each chain's step size is scaled by a random factor within 1 +- this, so that no trajectory comes back to where it
began time after time (Neal, 2011)."""
ROWS = 4096
"""Chains that are computed together on a CPU, over all images: few enough for its cache."""
CHAINS = 256
"""Chains of an image that are computed together at the most."""
Advance = Callable[[int], None]
"""Called with how many gradients have been computed since, over all images and chains."""


@dataclass(frozen=True)
class AnnealedBounds:
    """What AIS and BDMC say of N images, in nats. Tensors are float64, on the CPU."""

    chains: int
    """S, chains per image."""
    steps: int
    """T, steps of the path."""
    log_likelihood: Tensor
    """Forward AIS on the images, the log of the mean weight over chains, [N]: in expectation a lower bound."""
    log_likelihood_mc_variance: Tensor
    """Its Monte Carlo variance, by the jackknife over chains, [N]. Not a number with a single chain."""
    simulated_lower: Tensor
    """Forward AIS on as many images simulated from the model, [N]: in expectation a lower bound."""
    simulated_upper: Tensor
    """Reverse AIS on these, from the latents that made them, [N]: in expectation an upper bound."""
    acceptance: float
    """The share of proposals that were accepted, over all transitions but those of the preliminary runs; not a number
    if there were none (T = 1)."""

    @property
    def log_likelihood_se(self) -> float:
        """Standard error over images of the mean of `log_likelihood`."""
        return standard_error(self.log_likelihood)

    @property
    def log_likelihood_mc_se(self) -> float:
        """Monte Carlo standard error of the mean of `log_likelihood`; not a number with a single chain."""
        return float(self.log_likelihood_mc_variance.sum().sqrt()) / len(self.log_likelihood)

    @property
    def gap(self) -> float:
        """The mean BDMC gap on simulated images, reverse less forward AIS: at least 0 in expectation."""
        return float((self.simulated_upper - self.simulated_lower).mean())

    @property
    def gap_se(self) -> float:
        """Standard error over simulated images of `gap`."""
        return standard_error(self.simulated_upper - self.simulated_lower)

    @property
    def estimate(self) -> float:
        """Forward AIS on the images plus the gap: an estimate of their mean log-likelihood if AIS is as far from the
        likelihood on them as it is on simulated images. No bound.
        """
        return float(self.log_likelihood.mean()) + self.gap


class State(NamedTuple):
    """Where the chains are, with what every transition needs of it."""

    position: Tensor
    """eps of all layers, z_1's first, or z_L in place of eps_L, [1, d, S, B]."""
    log_likelihood: Tensor
    """log p(x|z_1), [1, S, B]."""
    gradient: Tensor
    """Of log p(x|z_1) by the position, [1, d, S, B]."""
    log_prior: Tensor
    """log p_0 of the position up to a constant, [1, S, B]."""
    pull: Tensor
    """The gradient of that, [1, d, S, B]."""


@dataclass(frozen=True)
class Target:
    """p_t(eps) ~ N(eps; 0, I) p(x|z_1(eps))^t for a block of images, or the same of eps_1 ... eps_{L-1} and z_L.

    Args:
        model: one member without batch normalization, whose parameters ask for no gradient.
        x: the images, [1, D, 1, B].

    """

    model: Hierarchy
    x: Tensor

    @cached_property
    def top(self) -> Distribution:
        """p(z_L)."""
        with torch.no_grad():
            return self.model.top()

    @cached_property
    def scale(self) -> Tensor | None:
        """In which units z_L is moved; None where eps_L is."""
        top = self.model.generative.top
        return top.scale(self.top) if top.extra_noise else None

    def position(self, noise: Tensor, choice: Tensor) -> Tensor:
        """The position of a sample of the prior that noise [1, d, S, B] makes, and of a prior that chooses a number
        `choice` [1, e, S, B], which is empty else.
        """
        if self.scale is None:
            return noise
        *below, own = noise.split(self.model.units, dim=1)
        return torch.cat([*below, self.top.sample(torch.cat([own, choice], dim=1)) / self.scale], dim=1)

    def latents(self, position: Tensor) -> list[Tensor]:
        """z_1 ... z_L at a position."""
        *below, own = position.split(self.model.units, dim=1)
        return self.model.below(self.top.sample(own) if self.scale is None else own * self.scale, below)

    def at(self, position: Tensor) -> State:
        """The state at a position [1, d, S, B]."""
        with torch.enable_grad():
            position = position.detach().requires_grad_()
            latents = self.latents(position)
            log_likelihood = self.model.generative.likelihood(self.model.generative.seen(latents), self.x)
            (gradient,) = torch.autograd.grad(log_likelihood.sum(), position, retain_graph=self.scale is not None)
            log_prior, pull = -0.5 * position.square().sum(1), -position
            if self.scale is not None:
                units = sum(self.model.units[:-1])
                log_prior = self.top.log_prob(latents[-1])[:, 0] - 0.5 * position[:, :units].square().sum(1)
                (pull,) = torch.autograd.grad(log_prior.sum(), position)
        return State(position.detach(), log_likelihood.detach(), gradient, log_prior.detach(), pull.detach())

    def energy(self, state: State, temperature: float) -> Tensor:
        """-log p_t up to a constant, [1, S, B]."""
        return -state.log_prior - temperature * state.log_likelihood


def leapfrog(target: Target, state: State, momentum: Tensor, step: Tensor, temperature: float) -> tuple[State, Tensor]:
    """Some steps along the Hamiltonian dynamics of energy(position) + |momentum|^2 / 2. They are reversible, and
    preserve volume.

    Args:
        target: the target.
        state: where the chains are.
        momentum: [1, d, S, B].
        step: step sizes, [1, 1, S, B].
        temperature: t.

    Returns: where the chains come to, and their momentum there.

    """
    for _ in range(annealing.LEAPFROG_STEPS):
        momentum = momentum + 0.5 * step * (temperature * state.gradient + state.pull)
        state = target.at(state.position + step * momentum)
        momentum = momentum + 0.5 * step * (temperature * state.gradient + state.pull)
    return state, momentum


def transition(
    target: Target, state: State, step: Tensor, temperature: float, streams: Streams
) -> tuple[State, Tensor]:
    """One transition of HMC, which leaves p_t as it is and is its own reversal.

    Args:
        target: the target.
        state: where the chains are.
        step: step sizes of the images, [B].
        temperature: t.
        streams: a stream for each image.

    Returns: where the chains are now, and the probabilities of acceptance, [S, B].

    """
    units, chains = state.position.shape[1:3]
    momentum = _images_last(streams.normal(units, chains))
    scale, level = _images_last(streams.uniform(2, chains))[0]
    proposal, final = leapfrog(target, state, momentum, (1 + JITTER * (2 * scale - 1)) * step, temperature)
    before = target.energy(state, temperature) + 0.5 * momentum.square().sum(1)
    after = target.energy(proposal, temperature) + 0.5 * final.square().sum(1)
    # Where a trajectory has left what float32 can hold, it is rejected.
    probability = (before - after).clamp(max=0).exp().nan_to_num(nan=0.0)
    accepted = level < probability
    chosen = (
        torch.where(accepted.unsqueeze(1), proposal.position, state.position),
        torch.where(accepted, proposal.log_likelihood, state.log_likelihood),
        torch.where(accepted.unsqueeze(1), proposal.gradient, state.gradient),
        torch.where(accepted, proposal.log_prior, state.log_prior),
        torch.where(accepted.unsqueeze(1), proposal.pull, state.pull),
    )
    return State(*chosen), probability[0]


def anneal(
    target: Target,
    start: Tensor,
    path: Sequence[tuple[float, Tensor]],
    streams: Streams,
    advance: Advance = lambda computed: None,
) -> tuple[Tensor, Tensor]:
    """The log weights of chains along a path of temperatures, up from samples of the prior or down from those of the
    posterior.

    Args:
        target: the target.
        start: a sample of the path's first distribution for every chain, [1, d, S, B].
        path: temperatures, each with the step sizes [B] of transitions at it.
        streams: a stream for each image.
        advance: called as it goes on.

    Returns: log weights, and the probabilities of acceptance, of which the sum over transitions, [S, B] both, float64.

    """
    state = target.at(start)
    log_w = torch.zeros_like(state.log_likelihood[0], dtype=torch.float64)
    accepted = log_w.clone()
    advance(log_w.numel())
    last = len(path) - 1
    for place, ((before, _), (now, step)) in enumerate(pairwise(path), start=1):
        log_w += (now - before) * state.log_likelihood[0].double()
        if place < last:
            state, probability = transition(target, state, step, now, streams)
            accepted += probability
            advance(annealing.LEAPFROG_STEPS * log_w.numel())
    return log_w, accepted


def step_sizes(
    target: Target,
    steps: int,
    streams: Streams,
    choices: Streams | None = None,
    advance: Advance = lambda computed: None,
) -> list[Tensor]:
    """Step sizes for the temperatures t_0 ... t_T of a path, [B] each, by a preliminary run up the path in which those
    of every image follow the acceptance of its chains.

    Args:
        target: the target.
        steps: T.
        streams: a stream for each image.
        choices: another one for each, of a prior that chooses.
        advance: called as it goes on.

    """
    units = sum(target.model.units)
    state = target.at(start(target, annealing.PRELIMINARY_CHAINS, streams, choices))
    advance(state.log_likelihood.numel())
    size = torch.full(target.x.shape[3:], units**-0.25, device=target.x.device)
    sizes = [size]
    for temperature in annealing.temperatures(annealing.PRELIMINARY_STEPS)[1:-1]:
        sizes.append(size)
        state, probability = transition(target, state, size, temperature, streams)
        size = size * (GAIN * (probability.mean(0) - ACCEPTANCE)).exp()
        advance(annealing.LEAPFROG_STEPS * probability.numel())
    return [sizes[annealing.preliminary_step(k, steps)] for k in range(steps + 1)]


def start(target: Target, chains: int, streams: Streams, choices: Streams | None = None) -> Tensor:
    """Exact samples of the prior for so many chains of every image, [1, d, S, B]; arguments as in `step_sizes`."""
    noise = _images_last(streams.normal(sum(target.model.units), chains))
    extra = target.model.generative.top.extra_noise
    if choices is None or not extra:
        return target.position(noise, noise[:, :0])
    return target.position(noise, _images_last(choices.normal(extra, chains)))


@full_precision()
@torch.inference_mode(False)
@torch.no_grad()
def ais(
    model: Hierarchy,
    x: Tensor,
    *,
    chains: int,
    steps: int,
    seed: int = 0,
    epoch: int = 0,
    memory_gib: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> AnnealedBounds:
    """AIS on images, and BDMC on as many images simulated from the model.

    Every image has a random stream of its own, which depends on the seed, the epoch and its place in x alone, so that
    neither memory nor the other images change what is drawn for it.

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        x: observations [N, D].
        chains: S, chains per image.
        steps: T, steps of the path. There is a transition after each but the last.
        seed: the member's seed.
        epoch: epochs trained so far; selects the noise together with the seed.
        memory_gib: memory for activations on a GPU; None: a share of it (`EvaluationSpec.memory_gib`). It decides how
            many images are computed together, at least one.
        progress: called with the fraction done.

    """
    model = fuse_batch_norm(model).requires_grad_(False)
    size = _images_together(model, min(chains, CHAINS), memory_gib)
    done, total = 0, annealing.gradients(chains, steps) * len(x)

    def advance(computed: int) -> None:
        nonlocal done
        done += computed
        if progress is not None:
            progress(done / total)

    runs = []
    for start in range(0, len(x), size):
        block = x[start : start + size].to(model.device)
        places = range(start, start + len(block))
        # An image at i draws from stream 2i, and the image that is simulated beside it from stream 2i + 1.
        both = [*(2 * place for place in places), *(2 * place + 1 for place in places)]
        up = image_streams(seed, "annealed importance sampling", both, model.device, epoch)
        down = image_streams(seed, "reverse annealed importance sampling", places, model.device, epoch)
        choices = image_streams(seed, CHOICES["annealed importance sampling"], both, model.device, epoch)
        runs.append(_runs(model, block, (up, down, choices), chains, steps, advance))
    log_w, lower, upper, accepted = (torch.cat(parts, dim=1).cpu() for parts in zip(*runs, strict=True))
    mc_variance = jackknife_variance(log_w) if chains > 1 else torch.full_like(log_w[0], torch.nan)
    return AnnealedBounds(
        chains=chains,
        steps=steps,
        log_likelihood=_log_mean(log_w),
        log_likelihood_mc_variance=mc_variance,
        simulated_lower=_log_mean(lower),
        simulated_upper=-_log_mean(upper),
        acceptance=float(accepted.mean()) / (3 * (steps - 1)) if steps > 1 else math.nan,
    )


def _runs(
    model: Hierarchy, x: Tensor, streams: tuple[Streams, Streams, Streams], chains: int, steps: int, advance: Advance
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log weights of the run up for images x [B, D], and of those up and down for as many that are simulated; and the
    sum of their probabilities of acceptance. [S, B] each. `streams` are those for the runs up, of the images and then
    of the simulated ones, those for the run down, and those for what a prior chooses in the runs up.
    """
    (up, down, choices), images, units = streams, len(x), sum(model.units)
    # Drawn first, so that the simulated images depend on neither chains nor steps.
    noise = _images_last(up.normal(units + model.pixels, 1))[..., images:]
    exact, pixels = noise.split([units, model.pixels], dim=1)
    choice = _images_last(choices.normal(model.generative.top.extra_noise, 1))[..., images:]
    given = Target(model, units_first(x[None]))
    exact = given.position(exact, choice)
    z = model.generative.seen(given.latents(exact))
    simulated = Target(model, model.generative.likelihood.sample(z, pixels))
    target = Target(model, torch.cat([given.x, simulated.x], dim=3))
    sizes = step_sizes(target, steps, up, choices, advance)
    path = list(zip(annealing.temperatures(steps), sizes, strict=True))
    path_down = [(temperature, step[images:]) for temperature, step in reversed(path)]
    blocks = []
    for done in range(0, chains, CHAINS):
        count = min(CHAINS, chains - done)
        log_w, accepted = anneal(target, start(target, count, up, choices), path, up, advance)
        lower, accepted_lower = log_w[:, images:], accepted[:, images:]
        upper, accepted_upper = anneal(simulated, exact.expand(-1, -1, count, -1), path_down, down, advance)
        every = accepted[:, :images] + accepted_lower + accepted_upper
        blocks.append((log_w[:, :images], lower, upper, every))
    log_w, lower, upper, every = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return log_w, lower, upper, every


def _images_last(noise: Tensor) -> Tensor:
    """Noise of images, [B, d, S], as positions: [1, d, S, B]."""
    return noise.movedim(0, -1).unsqueeze(0).contiguous()


def _log_mean(log_w: Tensor) -> Tensor:
    """The log of the mean weight over chains, [S, B] -> [B]."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def _images_together(model: Hierarchy, chains: int, memory_gib: float | None) -> int:
    """How many images are computed together: as many as fit into memory, and on a CPU into its cache."""
    rows = int(evaluation_bytes(memory_gib, model.device) / bytes_per_chain(model))
    # With every image goes one that is simulated.
    return max(1, (rows if model.device.type == "cuda" else ROWS) // (2 * chains))


def bytes_per_chain(model: Hierarchy) -> int:
    """Bytes of activations that one chain of one image needs at the most: those of the generative model, which a
    gradient goes back through, each with what its nonlinearity or the likelihood holds beside it; positions; the
    latents that skip connections put together, and what comes back to them; and what the density of a mixture holds for
    every component.
    """
    generative = model.generative
    widths = sum(module.weight.shape[1] for module in generative.modules() if isinstance(module, Linear))
    joined = sum(generative.joined_units)
    return 4 * (6 * widths + 12 * sum(model.units) + 2 * joined + 6 * generative.top.components)

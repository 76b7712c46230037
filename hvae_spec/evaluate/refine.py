"""How much better a bound is where q(z|x) is fitted to every image by itself: the amortization gap.

Cremer et al. (2018, "Inference suboptimality in variational autoencoders") split the distance between the ELBO and the
log-likelihood in two: what no q of the family reaches, and what the encoder lacks, as one network serves all images.
For the second the parameters of the Gaussians that the encoder puts out for an image are optimized for it, beginning at
what the encoder says, and all weights are left as they are.

What is optimized is the encoding (`InferenceNetwork.encode`): of a ladder the means and variances of its deterministic
pass up, in all layers, so that the weights of its pass down apply to other evidence; of a bottom-up model q(z_1|x)
alone, as its further layers depend on samples and are functions that all images share.

The bound after it is taken with noise that the optimization has not seen: with the same noise it would be a bound that
is fitted to its samples. The amortized bound that it is compared with has that noise too, so that the difference of the
two is of the encodings and hardly of the noise. Nothing makes the refined one the larger. With few steps, or a large
step size, it may be below the amortized one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_spec.backend.precision import full_precision
from hvae_spec.evaluate.evaluation import evaluation_bytes
from hvae_spec.nn.distribution import Distribution
from hvae_spec.nn.flow import Posterior, gaussian_of, with_gaussian
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams, image_streams
from hvae_spec.refinement import SAMPLES, Descent, runs_of

CHUNK = 64
"""Samples of an image that are drawn and weighed together. It is part of which numbers are drawn."""
IMAGES = {"cpu": 64, "cuda": 256}
"""Images that are refined together, memory permitting."""
Advance = Callable[[int], None]
"""Called with how many samples have passed through the model since, over all images, those with a gradient thrice."""


@dataclass(frozen=True)
class Refined:
    """The bounds of N images after one optimization of their encodings, in nats. Tensors are float64, on the CPU."""

    layers: tuple[int, ...]
    """Layers whose parameters were optimized, 1 for z_1; those of the others stayed as the encoder gave them."""
    log_likelihood: Tensor
    """The importance-weighted bound, [N]."""
    elbo: Tensor
    """The mean log weight of the same samples, [N]."""
    amortized_log_likelihood: Tensor
    """The importance-weighted bound of the encoder's own q, with the same noise, [N]; the same in all runs."""
    amortized_elbo: Tensor
    """The ELBO of the encoder's own q, with the same noise, [N]."""


@dataclass(frozen=True)
class Encodings:
    """Encodings of some images as parameters: means and log variances, [1, U_i, 1, B] for each layer of `layers`. What
    flows take from an image stays as the encoder gave it.

    Args:
        encoding: what the encoder says.
        layers: indices of what is optimized of it.

    """

    encoding: Sequence[Posterior]
    layers: tuple[int, ...]

    def parameters(self) -> list[Tensor]:
        """The means and then the log variances of the layers, copies that ask for a gradient."""
        chosen = [gaussian_of(self.encoding[layer]) for layer in self.layers]
        smallest = torch.finfo(torch.float32).tiny
        starts = [q.mean for q in chosen] + [q.variance.clamp(min=smallest).log() for q in chosen]
        return [start.detach().clone().requires_grad_() for start in starts]

    def at(self, parameters: Sequence[Tensor]) -> list[Posterior]:
        """The encoding with these parameters in the place of the encoder's."""
        found = list(self.encoding)
        count = len(self.layers)
        for layer, mean, log_variance in zip(self.layers, parameters[:count], parameters[count:], strict=True):
            gaussian = DiagonalGaussian(mean, log_variance.exp())
            found[layer] = with_gaussian(found[layer], gaussian)
        return found


@full_precision()
@torch.inference_mode(False)
@torch.no_grad()
def refine(
    model: Hierarchy,
    x: Tensor,
    descent: Descent,
    iw_samples: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    memory_gib: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Refined]:
    """Optimize the encodings of images on the ELBO, and take the bounds before and after it with the same noise.

    Adam with `SAMPLES` new samples per image and step, on the sum over images: as its step sizes are those of
    every number by itself, no image has a say in another one's. Every image has random streams of its own, which depend
    on the seed, the epoch and its place in x alone, and which are the same in all runs, so that these compare.

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        x: observations [N, D].
        descent: steps and step size of Adam.
        iw_samples: K of the bounds.
        seed: the member's seed.
        epoch: epochs trained so far; selects the noise together with the seed.
        memory_gib: memory for activations; None: as in `evaluate`. It decides how many images are computed together, at
            least one.
        progress: called with the fraction done.

    Returns: the bounds of every run of `runs_of`.

    """
    model = fuse_batch_norm(model).requires_grad_(False)
    size = _images_together(model, memory_gib)
    runs = runs_of(len(model.inference.encode(units_first(x[None, :1].to(model.device)))))
    done, total = 0, len(x) * (len(runs) * (3 * descent.steps * SAMPLES + iw_samples) + iw_samples)

    def advance(computed: int) -> None:
        nonlocal done
        done += computed
        if progress is not None:
            progress(done / total)

    before: list[tuple[Tensor, Tensor]] = []
    after: list[list[tuple[Tensor, Tensor]]] = [[] for _ in runs]
    top = model.top()
    for start in range(0, len(x), size):
        block = units_first(x[None, start : start + size].to(model.device))
        encoding = model.inference.encode(block)
        places = range(start, start + block.shape[3])
        streams = image_streams(seed, "bound after refinement", places, model.device, epoch)
        before.append(_bounds(model, block, encoding, top, iw_samples, streams, advance))
        for run, layers in enumerate(runs):
            streams = image_streams(seed, "refinement", places, model.device, epoch)
            chosen = Encodings(encoding, tuple(layer - 1 for layer in layers))
            refined = _optimized(model, block, chosen, top, descent, streams, advance)
            streams = image_streams(seed, "bound after refinement", places, model.device, epoch)
            after[run].append(_bounds(model, block, refined, top, iw_samples, streams, advance))
    amortized = _joined(before)
    return [Refined(layers, *_joined(blocks), *amortized) for layers, blocks in zip(runs, after, strict=True)]


def _joined(blocks: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The bounds and the ELBOs of all images, [N] each on the CPU, from those of blocks of them."""
    bounds, elbos = zip(*blocks, strict=True)
    return torch.cat(bounds).cpu(), torch.cat(elbos).cpu()


def _optimized(
    model: Hierarchy,
    x: Tensor,
    chosen: Encodings,
    top: Distribution,
    descent: Descent,
    streams: Streams,
    advance: Advance,
) -> list[Posterior]:
    """The encoding of images x [1, D, 1, B] after some steps of Adam on the ELBO."""
    parameters = chosen.parameters()
    optimizer = torch.optim.Adam(parameters, lr=descent.lr)
    for _ in range(descent.steps):
        noise = _noise(streams, model.units, SAMPLES)
        with torch.enable_grad():
            loss = -log_weight(model.trace(x, chosen.at(parameters), noise, top)).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance(3 * SAMPLES * x.shape[3])
    return chosen.at(parameters)


def _bounds(
    model: Hierarchy,
    x: Tensor,
    encoding: Sequence[Posterior],
    top: Distribution,
    iw_samples: int,
    streams: Streams,
    advance: Advance,
) -> tuple[Tensor, Tensor]:
    """The importance-weighted bound of images x [1, D, 1, B] that are encoded already, and their ELBO: [B] each."""
    images = x.shape[3]
    log_sum = torch.full((images,), -math.inf, dtype=torch.float64, device=x.device)
    total = torch.zeros_like(log_sum)
    for start in range(0, iw_samples, CHUNK):
        samples = min(CHUNK, iw_samples - start)
        log_w = log_weight(model.trace(x, encoding, _noise(streams, model.units, samples), top))[0].double()
        log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
        total += log_w.sum(0)
        advance(samples * images)
    return log_sum - math.log(iw_samples), total / iw_samples


def _noise(streams: Streams, units: Sequence[int], samples: int) -> list[Tensor]:
    """Noise of images that have a stream each, [1, U_i, S, B] for each layer."""
    flat = streams.normal(sum(units), samples).movedim(0, -1).unsqueeze(0)
    return [part.contiguous() for part in flat.split(list(units), dim=1)]


def _images_together(model: Hierarchy, memory_gib: float | None) -> int:
    """How many images are computed together: as many as fit into memory, with a gradient through samples of them all
    and with the samples of a chunk.
    """
    rows = evaluation_bytes(memory_gib, model.device) / bytes_per_sample(model)
    most = IMAGES.get(model.device.type, IMAGES["cpu"])
    return max(1, min(most, int(rows / max(CHUNK, SAMPLES))))


def bytes_per_sample(model: Hierarchy) -> int:
    """Bytes of activations that one sample of one image needs at the most: those of all mappings, which a gradient goes
    back through, each with what its nonlinearity or the likelihood holds beside it; latents; and what the density of a
    mixture holds for every component.
    """
    widths = sum(module.weight.shape[1] for module in model.modules() if isinstance(module, Linear))
    return 4 * (6 * widths + 12 * sum(model.units) + 6 * model.generative.top.components)

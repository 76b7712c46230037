"""Bounds, effective sample size and unit KLs of one trained member, any K in bounded memory. All in nats.

Products are in float32 here, whatever precision the member was trained with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_spec.backend.memory import EVALUATION_GIB, EVALUATION_SHARE
from hvae_spec.backend.precision import full_precision
from hvae_spec.data.batches import Batches
from hvae_spec.evaluate.log_weights import Weigh, compiled_weigh, weigh
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.bounds import FEWER_SAMPLES, jackknife_variance, nested_bounds
from hvae_spec.nn.distribution import Distribution, log_density_ratio
from hvae_spec.nn.folding import fuse_batch_norm
from hvae_spec.nn.gaussian import STANDARD_NORMAL, DiagonalGaussian
from hvae_spec.nn.hierarchy import Hierarchy, units_first
from hvae_spec.nn.inference import Draw
from hvae_spec.nn.random import CLASSES, Streams
from hvae_spec.records.layout import ACTIVE, ACTIVE_VARIANCE

IMAGES = 256
"""Images encoded at a time."""
BLOCK_ROWS = 4096
"""Rows (samples x images) of a block, for which noise is drawn together: few enough for a CPU's cache."""
BLOCKS = {"cpu": 1, "cuda": 64}
"""Blocks that are computed together, memory permitting: enough for full-speed products."""
NORMALITY_IMAGES, NORMALITY_SAMPLES = 1000, 20
"""What KL(q||N(0, I)) is averaged over: samples enough that their noise is well below that of the choice of images."""


@dataclass(frozen=True)
class Evaluation:
    """What K samples per image say about N images. Per-image values are float64, [N]."""

    iw_samples: int
    """K."""
    log_likelihood: Tensor
    """The importance-weighted bound, Eq. 12."""
    log_likelihood_mc_variance: Tensor
    """Its Monte Carlo variance, by the jackknife over the first 5000 samples: with more of them, that of the bound with
    5000, which is larger. Not a number with K = 1."""
    elbo: Tensor
    """The mean log weight, Eq. 10."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, between 1 and K."""
    kl: list[Tensor]
    """KL(q||p) of every unit, averaged over images: one [U_i] per layer, z_1 first; [1], of the layer as a whole, where
    q or p does not factorize over its units."""
    kl_se: list[Tensor]
    """Monte Carlo standard error of `kl`."""
    mean_variance: list[Tensor]
    """The variance over images of E_q[z_u|x] of every unit: one [U_i] per layer, z_1 first. It is the covariance of the
    means of two halves of the samples, so that their noise is not in it. Not a number with one image or K = 1."""
    fewer_samples: dict[int, tuple[float, float]]
    """The mean over images of the importance-weighted bound with K' samples, and its Monte Carlo standard error, for
    every K' of `FEWER_SAMPLES` below K."""
    auxiliary: float | None = None
    """What the auxiliary variable a of q takes from the ELBO beside the KL of the layers: the mean over images of
    E_q[log q(a|x) - log r(a|x, z)], which is negative where z tells more of a than r lacks. None: q has none."""

    @property
    def log_likelihood_se(self) -> float:
        """Standard error over images of the mean importance-weighted bound."""
        return standard_error(self.log_likelihood)

    @property
    def elbo_se(self) -> float:
        """Standard error over images of the mean ELBO."""
        return standard_error(self.elbo)

    @property
    def log_likelihood_mc_se(self) -> float:
        """Monte Carlo standard error of the mean bound, by the jackknife, which errs on the safe side where few samples
        carry the weight. With K = 1, which says nothing of it, the spread over images, which bounds it from above.
        """
        if self.iw_samples == 1:
            return self.log_likelihood_se
        return _error_of_mean(self.log_likelihood_mc_variance)

    @property
    def bound_by_samples(self) -> dict[int, tuple[float, float]]:
        """`fewer_samples`, and K itself."""
        all_samples = float(self.log_likelihood.mean()), self.log_likelihood_mc_se
        return {**self.fewer_samples, self.iw_samples: all_samples}

    @property
    def active_units(self) -> list[int | None]:
        """Units of each layer whose KL is above 0.01 nats, z_1 first; None where its units have no KL of their own."""
        pairs = zip(self.kl, self.mean_variance, strict=True)
        return [int((kl > ACTIVE).sum()) if len(kl) == len(units) else None for kl, units in pairs]

    @property
    def active_units_by_variance(self) -> list[int] | None:
        """Units of each layer whose `mean_variance` is above 0.01 (Burda et al., 2016), z_1 first; None where it is not
        known.
        """
        if not all(bool(variance.isfinite().all()) for variance in self.mean_variance):
            return None
        return [int((variance > ACTIVE_VARIANCE).sum()) for variance in self.mean_variance]


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of independent values; not a number for a single one."""
    return float(values.std(correction=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _error_of_mean(variances: Tensor) -> float:
    """Standard error of the mean of independent values with these variances."""
    return float(variances.sum().sqrt()) / len(variances)


@full_precision()
def record_statistics(model: Hierarchy, batches: Batches, seed: int, epoch: int, method: str) -> None:
    """Recompute a member's batch-norm statistics over the training set.

    Args:
        model: one member (M = 1).
        batches: its training set.
        seed: its seed.
        epoch: epochs trained so far, which selects the noise.
        method: `whole_set` (one pass of all images as a single batch) or `batch_average` (over training batches).

    """
    if not any(isinstance(module, BatchNorm) for module in model.modules()):
        return
    streams = Streams([seed], model.device).begin("statistics", epoch)
    with recording(model):
        for x in [batches.whole(streams)] if method == "whole_set" else batches.epoch(streams):
            if batches.alone:
                model.visit_classifier(x)
            else:
                model.visit_norms(x, model.noise(streams, model.copies, x.shape[1]))


@full_precision()
@torch.inference_mode()
def evaluate(
    model: Hierarchy,
    x: Tensor,
    iw_samples: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    memory_gib: float | None = None,
    compiled: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Evaluate a member on images.

    The inference network's sample-independent part runs once per image; samples are streamed through the rest. With an
    auxiliary variable a that part is q(a|x) alone: every sample draws an a of its own, and x is encoded anew with it.

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        x: observations [N, D].
        iw_samples: K.
        seed: the member's seed.
        epoch: epochs trained so far; selects the noise together with the seed. With classes, y ~ q(y|x) of every
            sample comes from a stream of its own.
        memory_gib: memory for activations on a GPU; None: a share of it (`EvaluationSpec.memory_gib`). It decides how
            many blocks are computed together, at least one. Noise is drawn block by block, so that it changes no draw.
        compiled: fuse the operations with `torch.compile`, for long evaluations: it costs half a minute for each shape.
        progress: called with the fraction done.

    """
    model = fuse_batch_norm(model)
    fast = compiled_weigh() if compiled else weigh
    streams = Streams([seed], model.device).begin("evaluation", epoch)
    of_classes = Streams([seed], model.device).begin(CLASSES["evaluation"], epoch)
    room = _rows_in_memory(model, memory_gib)
    top, blocks = model.top(), []
    for start in range(0, len(x), IMAGES):
        block = x[start : start + IMAGES].to(model.device)
        tally = _Tally(len(block), model, iw_samples)
        is_usual = len(block) == min(IMAGES, len(x))
        tally.add_samples(model, top, block, room, (streams, of_classes), fast=fast if is_usual else weigh)
        blocks.append(tally)
        if progress is not None:
            progress(min(1.0, (start + len(block)) / len(x)))
    return _summary(blocks, iw_samples)


@full_precision()
@torch.inference_mode()
def kl_to_standard_normal(model: Hierarchy, x: Tensor, *, seed: int = 0, epoch: int = 0) -> list[float]:
    """KL(q(z_i|.) || N(0, I)) of each layer in nats, z_1 first: how far inference is from the mean-field approximation
    (Fig. 6a).

    The closed form of every conditional q(z_i|.), summed over units, averaged over the first `NORMALITY_IMAGES` images
    of x [N, D] and over `NORMALITY_SAMPLES` samples per image of the latents that it depends on, and of an auxiliary
    variable, or with classes of y ~ q(y|x); where q(z_i|.) is no Gaussian, log q(z_i|.) - log N(z_i; 0, I) of the
    samples. Other arguments as in `evaluate`.
    """
    model, x = fuse_batch_norm(model), x[:NORMALITY_IMAGES]
    streams = Streams([seed], model.device).begin("KL to the standard normal", epoch)
    of_classes = Streams([seed], model.device).begin(CLASSES["KL to the standard normal"], epoch)
    sums = torch.zeros(len(model.units), dtype=torch.float64, device=model.device)
    for block in x.split(BLOCK_ROWS // NORMALITY_SAMPLES):
        images = units_first(block.to(model.device)[None])
        noise = model.noise(streams, NORMALITY_SAMPLES, len(block))
        uniform = of_classes.uniform(NORMALITY_SAMPLES, len(block)) if model.classes else None
        draws = model.draw(images, model.known(images), noise, uniform).layers
        for layer, draw in enumerate(draws):
            # [1, S, B], or [1, 1, B] where q depends on no sample.
            sums[layer] += _from_standard_normal(draw).double().sum(1).mean(1).sum()
    return (sums / len(x)).tolist()


def _from_standard_normal(draw: Draw) -> Tensor:
    """KL(q || N(0, I)) of a layer, or log q(z) - log N(z; 0, I) where q is no Gaussian, as wide as a log ratio is."""
    if isinstance(draw.posterior, DiagonalGaussian):
        return draw.posterior.kl(STANDARD_NORMAL)
    log_q = draw.posterior.log_prob(draw.z) if draw.log_prob is None else draw.log_prob
    return -log_density_ratio(STANDARD_NORMAL.log_prob(draw.z), log_q)


def _rows_in_memory(model: Hierarchy, memory_gib: float | None) -> int:
    """Rows (samples x images) that may be in memory at a time."""
    return int(evaluation_bytes(memory_gib, model.device) / bytes_per_row(model))


def evaluation_bytes(memory_gib: float | None, device: torch.device) -> float:
    """Bytes of activations that an evaluation may have in memory at a time.

    Args:
        memory_gib: what the spec says, in GiB; None: it leaves it open.
        device: where it is computed.

    """
    if memory_gib is not None:
        return memory_gib * 2**30
    if device.type == "cuda":
        return EVALUATION_SHARE * torch.cuda.get_device_properties(device).total_memory
    return EVALUATION_GIB * 2**30


def bytes_per_row(model: Hierarchy) -> int:
    """Bytes of activations that one sample of one image needs at the most: the widest mapping, with what its
    nonlinearity and the likelihood hold beside it, and the latents of all layers, once more where skip connections put
    them together; what the density of a mixture holds for every component; and with an auxiliary variable, what is put
    together with it, what is known then, and itself.
    """
    widths, generative = [parameter.shape[1] for parameter in model.parameters()], model.generative
    joined = max(generative.joined_units, default=0)
    of_a = 0
    if model.auxiliary is not None:
        # x with a or with the latents, 2 numbers per unit of what inference makes of x and a, and a.
        own, units = model.auxiliary.units, sum(model.units)
        of_a = model.pixels + max(own, units) + 2 * units + 8 * own
    return 4 * (6 * max(widths) + 8 * sum(model.units) + joined + 6 * generative.top.components + of_a)


class _Tally:
    """Running sums over samples for a block of images."""

    def __init__(self, images: int, model: Hierarchy, iw_samples: int) -> None:
        device, self.iw_samples = model.device, iw_samples
        self.log_sum = torch.full((images,), -math.inf, dtype=torch.float64, device=device)
        self.log_sum_squares = self.log_sum.clone()
        self.mc_variance = torch.full_like(self.log_sum, math.nan)
        self.total = torch.zeros(images, dtype=torch.float64, device=device)
        # Sum and sum of squares over samples of log q - log p, per image and unit, or layer (`Hierarchy.ratio_widths`);
        # those of an auxiliary variable come last.
        self.layers = len(model.units)
        widths = [*model.ratio_widths, *([] if model.auxiliary is None else [1])]
        self.kl = [torch.zeros(images, width, dtype=torch.float64, device=device) for width in widths]
        self.kl_squares = [torch.zeros_like(kl) for kl in self.kl]
        # Sums of z over the first sample and every other one from there, and over the rest, per image and unit.
        self.halves = [torch.zeros(2, images, units, dtype=torch.float64, device=device) for units in model.units]
        # Bounds with fewer samples, and the variance of each: [points, images].
        points = sum(samples < iw_samples for samples in FEWER_SAMPLES)
        self.bounds = torch.zeros(points, images, dtype=torch.float64, device=device)
        self.variances = torch.zeros_like(self.bounds)

    def add_samples(
        self,
        model: Hierarchy,
        top: Distribution,
        x: Tensor,
        room: int,
        streams: tuple[Streams, Streams],
        *,
        fast: Weigh,
    ) -> None:
        """K samples of the images x [B, D], some blocks at a time; `top` is p(z_L), `fast` is `weigh` for chunks of
        full size, `room` how many rows may be in memory, `streams` those of the noise and those of the classes.
        """
        images, iw_samples = len(x), self.iw_samples
        x = units_first(x[None])
        encoding = model.known(x)
        log_q = model.log_classes(x, encoding) if model.classes else None
        block = max(1, BLOCK_ROWS // images)
        chunk = block * max(1, min(BLOCKS[model.device.type], room // (block * images)))
        first = x.new_empty(min(iw_samples, FEWER_SAMPLES[-1]), images)
        for done in range(0, iw_samples, chunk):
            samples = min(chunk, iw_samples - done)
            noise = _drawn_in_blocks(model, streams[0], samples, block, images)
            uniform = None if log_q is None else _uniform_in_blocks(streams[1], samples, block, images)
            drawn = None if log_q is None or uniform is None else (log_q, uniform)
            log_w, sums, squares, halves = (fast if samples == chunk else weigh)(model, x, encoding, top, noise, drawn)
            first[done : done + samples] = log_w[: max(0, len(first) - done)]
            log_w = log_w.double()
            self.log_sum = torch.logaddexp(self.log_sum, log_w.logsumexp(0))
            self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * log_w).logsumexp(0))
            self.total += log_w.sum(0)
            for part, (total, square) in enumerate(zip(sums, squares, strict=True)):
                self.kl[part] -= total
                self.kl_squares[part] += square
            for layer, half in enumerate(halves):
                # Which half a sample is in does not depend on how many are computed together.
                self.halves[layer] += half.flip(0) if done % 2 else half
        for point, (bound, variance) in enumerate(nested_bounds(first, len(self.bounds))):
            self.bounds[point], self.variances[point] = bound, variance
        if iw_samples > 1:
            self.mc_variance = jackknife_variance(first.double())


def _drawn_in_blocks(model: Hierarchy, streams: Streams, samples: int, block: int, images: int) -> Tensor:
    """Flat noise for some samples (see `Hierarchy.flat_noise`), the same however many of them are drawn by one call."""
    if samples <= block:
        return model.flat_noise(streams, samples, images)
    drawn = [model.noise(streams, size, images) for size in _blocks_of(samples, block)]
    return torch.cat([torch.cat(layer, dim=2).flatten(1) for layer in zip(*drawn, strict=True)], dim=1)


def _uniform_in_blocks(streams: Streams, samples: int, block: int, images: int) -> Tensor:
    """Uniform noise [M, S, B] for some samples, drawn in the same way."""
    return torch.cat([streams.uniform(size, images) for size in _blocks_of(samples, block)], dim=1)


def _blocks_of(samples: int, block: int) -> list[int]:
    return [min(block, samples - start) for start in range(0, samples, block)]


def _summary(blocks: list[_Tally], iw_samples: int) -> Evaluation:
    def joined(name: str) -> Tensor:
        return torch.cat([getattr(block, name) for block in blocks], dim=-1).cpu()

    log_sum = joined("log_sum")
    kl, kl_se = [], []
    for part in range(len(blocks[0].kl)):
        sums = torch.cat([block.kl[part] for block in blocks]).cpu() / iw_samples
        squares = torch.cat([block.kl_squares[part] for block in blocks]).cpu() / iw_samples
        images = len(sums)
        kl.append(sums.mean(0))
        if iw_samples > 1:
            variance = (squares - sums.square()).clamp(min=0).mean(0) / ((iw_samples - 1) * images)
        else:
            # One sample per image: the spread over images bounds the Monte Carlo error from above.
            variance = sums.var(0, correction=0) / max(1, images - 1)
        kl_se.append(variance.sqrt())
    layers = blocks[0].layers
    halves = [torch.cat([block.halves[layer] for block in blocks], dim=1).cpu() for layer in range(layers)]
    fewer = zip(FEWER_SAMPLES, joined("bounds"), joined("variances"), strict=False)
    return Evaluation(
        iw_samples=iw_samples,
        log_likelihood=log_sum - math.log(iw_samples),
        log_likelihood_mc_variance=joined("mc_variance"),
        elbo=joined("total") / iw_samples,
        effective_sample_size=(2 * log_sum - joined("log_sum_squares")).exp(),
        kl=kl[:layers],
        kl_se=kl_se[:layers],
        mean_variance=[_variance_of_means(sums, iw_samples) for sums in halves],
        fewer_samples={samples: (float(bound.mean()), _error_of_mean(variance)) for samples, bound, variance in fewer},
        auxiliary=float(kl[layers]) if len(kl) > layers else None,
    )


def _variance_of_means(sums: Tensor, samples: int) -> Tensor:
    """The variance over images of a mean over so many samples, of which the sums over two halves are [2, N, U]: their
    covariance, [U]. The halves are independent given an image, so that what they have in common is the image's.
    """
    if samples == 1 or sums.shape[1] < 2:
        return torch.full(sums.shape[2:], math.nan, dtype=torch.float64)
    first, second = sums[0] / ((samples + 1) // 2), sums[1] / (samples // 2)
    return ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)

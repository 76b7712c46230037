"""Bounds, effective sample size and unit KLs of one trained member, any K in bounded memory. All in nats."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_spec.data.batches import Batches
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.folding import folded
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.objective import log_weight
from hvae_spec.records import ACTIVE
from hvae_spec.streams import Streams

IMAGES = 256
"""Images encoded at a time."""
ROWS = {"cpu": 2048, "cuda": 2**18}
"""Rows (samples x images) in flight, memory permitting: enough for full-speed products; on a CPU few enough for the
cache."""


@dataclass(frozen=True)
class Evaluation:
    """What K samples an image tell about N images. Per-image values are float64, [N]."""

    iw_samples: int
    """K."""
    log_likelihood: Tensor
    """The importance-weighted bound, Eq. 12."""
    elbo: Tensor
    """The mean log weight, Eq. 10."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, between 1 and K."""
    kl: list[Tensor]
    """KL(q||p) of every unit, averaged over images: one [U_i] a layer, z_1 first."""
    kl_se: list[Tensor]
    """Monte Carlo standard error of `kl`."""

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
        """Monte Carlo standard error of the mean bound: by the delta method, the variance of log(mean w) is
        1/ESS - 1/K an image.
        """
        variance = (1 / self.effective_sample_size - 1 / self.iw_samples).clamp(min=0)
        return float(variance.sum().sqrt()) / len(variance)

    @property
    def active_units(self) -> list[int]:
        """Active units of each layer, z_1 first."""
        return [int((kl > ACTIVE).sum()) for kl in self.kl]


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of independent values; not a number for a single one."""
    return float(values.std(correction=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


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
            model.visit_norms(x, streams.noise(1, x.shape[1], model.units))


@torch.inference_mode()
def evaluate(
    model: Hierarchy,
    x: Tensor,
    iw_samples: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    memory_gib: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Evaluate a member on images.

    The inference network's sample-independent part runs once an image; samples are streamed through the rest.

    Args:
        model: one member (M = 1), its batch-norm statistics recorded.
        x: observations [N, D].
        iw_samples: K.
        seed: the member's seed.
        epoch: epochs trained so far; selects the noise together with the seed.
        memory_gib: memory for activations. It changes the result (within Monte Carlo error) only if it is so small that
            fewer than `ROWS` rows fit.
        progress: called with the fraction done.

    """
    model = folded(model)
    streams = Streams([seed], model.device).begin("evaluation", epoch)
    rows = max(1, min(ROWS[model.device.type], int(memory_gib * 2**30 / bytes_per_row(model))))
    blocks = []
    for start in range(0, len(x), IMAGES):
        block = x[start : start + IMAGES].to(model.device)
        tally = _Tally(len(block), model.units, model.device)
        for images in block.split(min(rows, len(block))):
            tally.add_images(model, images, iw_samples, rows, streams)
        blocks.append(tally)
        if progress is not None:
            progress(min(1.0, (start + len(block)) / len(x)))
    return _summary(blocks, iw_samples)


def bytes_per_row(model: Hierarchy) -> int:
    """Bytes of activations that one sample of one image needs at the most: the widest mapping, with what its
    nonlinearity and the likelihood hold beside it, and the latents of all layers.
    """
    widths = [parameter.shape[-1] for parameter in model.parameters()]
    return 4 * (6 * max(widths) + 8 * sum(model.units))


class _Tally:
    """Running sums over samples for a block of images."""

    def __init__(self, images: int, units: Sequence[int], device: torch.device) -> None:
        self.done = 0
        self.log_sum = torch.full((images,), -math.inf, dtype=torch.float64, device=device)
        self.log_sum_squares = self.log_sum.clone()
        self.total = torch.zeros(images, dtype=torch.float64, device=device)
        # Sum and sum of squares over samples of log q - log p, per image and unit.
        self.kl = [torch.zeros(images, width, dtype=torch.float64, device=device) for width in units]
        self.kl_squares = [torch.zeros_like(kl) for kl in self.kl]

    def add_images(self, model: Hierarchy, x: Tensor, iw_samples: int, rows: int, streams: Streams) -> None:
        """K samples of the next images x [B, D]."""
        here = slice(self.done, self.done + len(x))
        x = x[None, None]
        encoding = model.inference.encode(x)
        chunk = max(1, rows // x.shape[2])
        for done in range(0, iw_samples, chunk):
            samples = min(chunk, iw_samples - done)
            trace = model.trace(x, encoding, streams.noise(samples, x.shape[2], model.units))
            log_w = log_weight(trace)[0].double()
            self.log_sum[here] = torch.logaddexp(self.log_sum[here], log_w.logsumexp(0))
            self.log_sum_squares[here] = torch.logaddexp(self.log_sum_squares[here], (2 * log_w).logsumexp(0))
            self.total[here] += log_w.sum(0)
            for layer, ratio in enumerate(trace.log_ratios):
                self.kl[layer][here] -= ratio[0].sum(0)
                self.kl_squares[layer][here] += ratio[0].square().sum(0)
        self.done += x.shape[2]


def _summary(blocks: list[_Tally], iw_samples: int) -> Evaluation:
    def joined(name: str) -> Tensor:
        return torch.cat([getattr(block, name) for block in blocks]).cpu()

    log_sum = joined("log_sum")
    kl, kl_se = [], []
    for layer in range(len(blocks[0].kl)):
        sums = torch.cat([block.kl[layer] for block in blocks]).cpu() / iw_samples
        squares = torch.cat([block.kl_squares[layer] for block in blocks]).cpu() / iw_samples
        images = len(sums)
        kl.append(sums.mean(0))
        if iw_samples > 1:
            variance = (squares - sums.square()).clamp(min=0).mean(0) / ((iw_samples - 1) * images)
        else:
            # One sample an image: the spread over images bounds the Monte Carlo error from above.
            variance = sums.var(0, correction=0) / max(1, images - 1)
        kl_se.append(variance.sqrt())
    return Evaluation(
        iw_samples=iw_samples,
        log_likelihood=log_sum - math.log(iw_samples),
        elbo=joined("total") / iw_samples,
        effective_sample_size=(2 * log_sum - joined("log_sum_squares")).exp(),
        kl=kl,
        kl_se=kl_se,
    )

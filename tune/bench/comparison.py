"""The plain program (`tune.bench.baseline`) at a member's shape: step, evaluation, batches as calls, and rounding."""

from collections.abc import Callable

import torch

from hvae_spec import compiler
from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.experiment import Member
from hvae_spec.spec.model import ELU, LeakyReLU
from tune.bench.baseline import PlainHVAE, plain_batches, plain_log_likelihood, plain_step
from tune.measure import timing

ROWS = {"cpu": 10_000, "cuda": 200_000}
"""Samples times images in flight in the plain evaluation."""


def plain_model(member: Member) -> PlainHVAE:
    """The plain model of a member's shape."""
    model = member.model
    return PlainHVAE(
        [layer.units for layer in model.layers],
        [layer.mlp for layer in model.layers],
        image_pixels(member.data),
        down=[layer.down for layer in model.layers],
        top_down=[layer.top_down for layer in model.layers],
        inference=model.inference,
        share_top_down=model.share_top_down,
        batch_norm=model.batch_norm,
        observation=model.observation,
        nonlinearity=_nonlinearity(member),
        eps=model.batch_norm_eps,
        floor=model.variance_floor,
    )


def _nonlinearity(member: Member) -> tuple[str, float] | tuple[str]:
    chosen = member.model.nonlinearity
    if isinstance(chosen, LeakyReLU):
        return "leaky_relu", chosen.leaky_relu
    return ("elu", chosen.elu) if isinstance(chosen, ELU) else (chosen,)


def step(member: Member, device: str) -> timing.Call:
    """A step of plain training, as a call."""
    model = plain_model(member).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=member.training.optimizer.adam.lr)
    images = min(member.training.batch_size, image_counts(member.data).train)
    x = torch.rand(images, image_pixels(member.data), device=device).round()
    objective = member.objective
    return lambda: plain_step(model, adam, x, mc_samples=objective.mc_samples, iw_samples=objective.iw_samples)


def evaluation(member: Member, device: str) -> timing.Call:
    """The plain evaluation of as many images and samples as `tune.measure.timing` evaluates, as a call."""
    model = plain_model(member).to(device).eval()
    x, (_, samples) = timing.evaluation_images(member, device), timing.evaluation_size(member, device)
    rows = ROWS[device.partition(":")[0]]
    return lambda: plain_log_likelihood(model, x, samples, rows)


def epoch_seconds(member: Member, device: str, threads: int) -> float:
    """Seconds to shuffle and draw all batches of an epoch in the plain program: the second time."""
    dataset = timing.dataset(member)
    grey = torch.tensor(dataset.train, device=device).float() / (dataset.levels - 1)
    draw: Callable[[torch.Tensor], torch.Tensor] = torch.bernoulli
    if member.model.observation == "gaussian":
        draw = dequantised
    if member.data.redraw == "once":
        grey, draw = draw(grey), same

    def epoch() -> None:
        for _ in plain_batches(grey, member.training.batch_size, draw):
            pass

    with timing.settings(threads, member.training.matmul_precision):
        timing.timed(epoch, 1, device)
        return timing.timed(epoch, 1, device)


def dequantised(grey: torch.Tensor) -> torch.Tensor:
    """Grey values with noise below their last digit."""
    return (255 * grey + torch.rand_like(grey)) / 256


def same(grey: torch.Tensor) -> torch.Tensor:
    """What was drawn once."""
    return grey


def rounding(member: Member, device: str) -> tuple[float, float]:
    """Median difference, in nats, of a freshly initialised model's log weights in float32 from the same in float64:
    ours, and the plain one's.
    """
    images, samples, pixels = 256, 4, image_pixels(member.data)
    x = torch.rand(images, pixels, generator=torch.Generator().manual_seed(0)).round().to(device)
    with timing.settings(torch.get_num_threads(), member.training.matmul_precision), torch.no_grad():
        ours = compiler.initialized([member], pixels).to(device)
        noise = Streams([0], device).begin("rounding").noise(samples, images, ours.units)
        single = log_weight(ours(x[None], noise))
        double = log_weight(ours.double()(x[None].double(), [eps.double() for eps in noise]))
        torch.manual_seed(0)
        plain = plain_model(member).to(device)
        drawn = [eps[0].flatten(1).T.contiguous() for eps in noise]
        plain_single = plain.log_weight(x, samples=samples, noise=drawn)
        plain_double = plain.double().log_weight(x.double(), samples=samples, noise=[eps.double() for eps in drawn])
    return median_size(single - double), median_size(plain_single - plain_double)


def median_size(errors: torch.Tensor) -> float:
    """The median of absolute values (the mean would be that of a few very unlikely samples)."""
    return float(errors.double().abs().median())

"""The plain program (`tune.bench.baseline`) at a member's shape: step, evaluation, batches as calls, and rounding."""

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hvae_spec import compiler
from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.errors import UserError
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.spec.choice import ChoiceSection, name_and_settings
from hvae_spec.spec.choices.nonlinearity import name_and_parameters
from hvae_spec.spec.choices.optimizer import OptimizerSettings
from hvae_spec.spec.choices.term import TERMS
from hvae_spec.spec.experiment import MemberSpec
from tune.bench import baseline, baseline_flows, baseline_observations, baseline_priors
from tune.bench.baseline import PlainHVAE, parameter_groups, plain_batches, plain_log_likelihood, plain_step
from tune.measure import timing

ROWS = {"cpu": 10_000, "cuda": 200_000}
"""Samples times images in flight in the plain evaluation."""


def plain_model(member: MemberSpec) -> PlainHVAE:
    """The plain model of a member's shape. Raises UserError if there is none."""
    model = member.model
    if model.classes is not None:
        raise UserError("the plain program has no classes: compare without model.classes and data.labeled")
    name, parameters = name_and_parameters(model.nonlinearity)
    kind: type[PlainHVAE] = _plain(baseline.MODELS, model.inference, "inference model")
    observation, settings = compiler.observation(member)
    _check(baseline_observations.DECODERS, observation, "observation model")
    _check(baseline.MAPPINGS, name_and_settings(model.mapping)[0], "mapping")
    _check(baseline.NONLINEARITIES, name, "nonlinearity")
    _check(baseline.NORMS, model.normalization.name, "normalization")
    prior, _ = name_and_settings(model.prior)
    _check(baseline_priors.PRIORS, prior, "prior")
    return kind(
        [layer.units for layer in model.layers],
        [layer.mlp for layer in model.layers],
        image_pixels(member.data),
        down=[layer.down for layer in model.layers],
        top_down=[layer.top_down for layer in model.layers],
        share_top_down=model.share_top_down,
        steps=model.sweeps,
        skip=model.skip,
        norm=model.normalization.name,
        normalize_heads=model.normalization.heads,
        observation=partial(baseline_observations.DECODERS[observation], **settings),
        flows=[None if flow is None else _flow(flow) for flow in model.flows],
        auxiliary=None if model.auxiliary is None else (model.auxiliary.units, model.auxiliary.mlp),
        top_prior=partial(baseline_priors.PRIORS[prior], **model.prior_model.arguments(model.prior_settings)),
        nonlinearity=(name, *parameters.values()),
        eps=model.batch_norm_eps,
        floor=model.variance_floor,
    )


def _flow(chosen: str | ChoiceSection) -> Callable[..., nn.Module]:
    """What makes a chosen flow."""
    name, settings = name_and_settings(chosen)
    return partial(_plain(baseline_flows.FLOWS, name, "normalizing flow"), **settings)


def _plain(known: Mapping[str, Any], name: str, kind: str) -> Any:
    """What the plain program has for a choice.

    Raises:
        UserError: it has nothing.

    """
    _check(known, name, kind)
    return known[name]


def _check(known: Container[str], name: str, kind: str) -> None:
    """Raise UserError if the plain program has nothing for a choice."""
    if name not in known:
        raise UserError(f"the plain program has no {kind} {name}: add it to tune/bench/baseline*.py to compare with it")


def step(member: MemberSpec, device: str) -> timing.Call:
    """A step of plain training, as a call."""
    model, objective = plain_model(member).to(device), member.objective
    if objective.term is not None:
        raise UserError("the plain program has no added term of an extension: compare without objective.term")
    for term in TERMS:
        _check(baseline.TERMS, term, "term of the objective")
    adam, x, average = optimizer(model, member), batch(member, device), weights_average(model, member)
    samples = {"mc_samples": objective.mc_samples, "iw_samples": objective.iw_samples}
    return lambda: plain_step(model, adam, x, **samples, average=average)


def optimizer(model: PlainHVAE, member: MemberSpec, *, fused: bool = False) -> torch.optim.Optimizer:
    """The member's optimizer of a plain model's parameters, fused into one operation if that is asked for."""
    chosen = member.training.optimizer
    kind = _plain(baseline.OPTIMIZERS, chosen.choice, "optimizer")
    made: torch.optim.Optimizer = kind(parameter_groups(model), **_options(chosen.settings), fused=fused or None)
    return made


def batch(member: MemberSpec, device: str) -> torch.Tensor:
    """A batch of noise, [B, D]."""
    images = min(member.training.batch_size, image_counts(member.data).train)
    return torch.rand(images, image_pixels(member.data), device=device).round()


def _options(settings: OptimizerSettings) -> dict[str, Any]:
    """An optimizer's settings by PyTorch's names, which are a spec's but for the two betas."""
    options = settings.model_dump()
    betas = tuple(options.pop(name) for name in ("beta1", "beta2") if name in options)
    return {**options, "betas": betas} if betas else options


def weights_average(model: PlainHVAE, member: MemberSpec) -> AveragedModel | None:
    """The plain average of a model's weights; None where the member has none."""
    ema = member.training.ema
    if ema is None:
        return None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    average.update_parameters(model)  # the first time it copies, and ours starts at the initial weights
    return average


def evaluation(member: MemberSpec, device: str) -> timing.Call:
    """The plain evaluation of as many images and samples as `tune.measure.timing` evaluates, as a call."""
    model = plain_model(member).to(device).eval()
    x, (_, samples) = timing.evaluation_images(member, device), timing.evaluation_size(member, device)
    rows = ROWS[device.partition(":")[0]]
    return lambda: plain_log_likelihood(model, x, samples, rows)


def epoch_seconds(member: MemberSpec, device: str, threads: int) -> float:
    """Seconds to shuffle and draw all batches of an epoch in the plain program: the second time."""
    dataset = timing.dataset(member)
    gray = torch.tensor(dataset.train, device=device).float() / (dataset.levels - 1)
    draw = _plain(baseline_observations.DRAWS, member.model.observation_name, "observation model")
    if member.data.effective_redraw == "once":
        gray, draw = draw(gray), baseline_observations.same

    def epoch() -> None:
        for _ in plain_batches(gray, member.training.batch_size, draw):
            pass

    with timing.settings(threads, member.training.matmul_precision):
        timing.timed(epoch, 1, device)
        return timing.timed(epoch, 1, device)


def rounding(member: MemberSpec, device: str) -> tuple[float, float]:
    """Median difference, in nats, of a freshly initialized model's log weights in float32 from the same in float64:
    ours, and the plain one's.
    """
    images, samples, pixels = 256, 4, image_pixels(member.data)
    x = torch.rand(images, pixels, generator=torch.Generator().manual_seed(0)).round().to(device)
    with timing.settings(torch.get_num_threads(), member.training.matmul_precision), torch.no_grad():
        ours = compiler.initialized([member], pixels, compiler.batches(member, timing.dataset(member))).to(device)
        noise = ours.noise(Streams([0], device).begin("rounding"), samples, images)
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

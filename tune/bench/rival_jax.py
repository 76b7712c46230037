"""A rival: the paper's models as one would write them in JAX. `python -m tune.bench.rival_jax` does what
`tune.bench.turns` says.

A step, with its noise, is one function that `jax.jit` compiles, whose parameters and optimizer's state are donated;
several members are `jax.vmap` of it. Optax's Adam sees all parameters as one vector (`optax.flatten`), which makes a
step of a small model faster and leaves that of a large one as it is.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tune.bench.turns import WARM_UP, Block, Make, serve

Parameters = dict[str, Any]
"""Of a linear map: `weight` [inputs, outputs], and `bias`, or `scale` and `shift` where batch normalization follows. Of
a mapping: those of its hidden layers, `mlp`, and of its `head`. Of a model: the mappings `up` into each z_i from the
data on, those down into it in p, `prior`, and in the ladder's q, `down`, and the `decoder`."""
Gaussian = tuple[Array, Array]
"""Mean and variance, [S, B, U]; S is 1 where there are no samples yet."""


@dataclass(frozen=True)
class Settings:
    """A model and its training. Lists go from the data up."""

    units: list[int]
    """Latent units of z_1 ... z_L."""
    widths: list[list[int]]
    """Hidden widths of the mapping up into each z_i."""
    down: list[list[int]]
    """Hidden widths of the generative mapping out of each z_i."""
    top_down: list[list[int]]
    """Hidden widths of the top-down inference mapping out of each z_i."""
    pixels: int
    """Width of x."""
    is_ladder: bool
    """Whether inference is the probabilistic ladder network, and else goes from the bottom up."""
    batch_norm: bool
    """Whether hidden layers have batch normalization."""
    normalizes_heads: bool
    """Whether the heads of the latents have it too, if there is one."""
    slope: float
    """Of the leaky ReLU."""
    eps: float
    """Of the normalization."""
    floor: float
    """Added to variances."""
    mc_samples: int
    """M."""
    iw_samples: int
    """K."""
    batch_size: int
    """Images in a step."""
    lr: float
    """Adam's learning rate."""
    beta1: float
    """Decay rate of its first moment."""
    beta2: float
    """Decay rate of its second moment."""
    adam_eps: float
    """Its epsilon."""


def initial(key: Array, settings: Settings) -> Parameters:
    """Parameters as PyTorch initializes them: uniform on +-1/sqrt(inputs)."""
    keys = iter(jax.random.split(key, 1000))
    units, norm = settings.units, settings.batch_norm

    def linear(inputs: int, outputs: int, is_normalized: bool) -> Parameters:
        end = inputs**-0.5
        made = {"weight": jax.random.uniform(next(keys), (inputs, outputs), minval=-end, maxval=end)}
        if is_normalized:
            return made | {"scale": jnp.ones(outputs), "shift": jnp.zeros(outputs)}
        return made | {"bias": jax.random.uniform(next(keys), (outputs,), minval=-end, maxval=end)}

    def mapping(inputs: int, widths: Sequence[int], outputs: int, normalizes_head: bool) -> Parameters:
        hidden = [linear(wide, width, norm) for wide, width in pairwise([inputs, *widths])]
        return {"mlp": hidden, "head": linear([inputs, *widths][-1], outputs, normalizes_head)}

    def gaussians(inputs: Sequence[int], widths: Sequence[Sequence[int]]) -> list[Parameters]:
        shapes = zip(inputs, widths, units, strict=False)
        return [mapping(wide, hidden, 2 * out, norm and settings.normalizes_heads) for wide, hidden, out in shapes]

    made: Parameters = {
        "up": gaussians([settings.pixels, *units], settings.widths),
        "prior": gaussians(units[1:], settings.down[1:]),
        "decoder": mapping(units[0], settings.down[0], settings.pixels, False),
    }
    return made | {"down": gaussians(units[1:], settings.top_down[1:])} if settings.is_ladder else made


def linear(own: Parameters, y: Array, settings: Settings) -> Array:
    """[S, B, inputs] -> [S, B, outputs], batch-normalized over samples and images where there is a scale."""
    y = y @ own["weight"]
    if "bias" in own:
        return y + own["bias"]
    mean, variance = y.mean((0, 1)), y.var((0, 1))
    return (y - mean) * (jax.lax.rsqrt(variance + settings.eps) * own["scale"]) + own["shift"]


def mapped(own: Parameters, y: Array, settings: Settings) -> Array:
    """[S, B, inputs] -> what the head gives, [S, B, outputs]."""
    for hidden in own["mlp"]:
        y = jax.nn.leaky_relu(linear(hidden, y, settings), settings.slope)
    return linear(own["head"], y, settings)


def gaussian(own: Parameters, y: Array, settings: Settings) -> Gaussian:
    """[S, B, inputs] -> a Gaussian."""
    mean, raw = jnp.split(mapped(own, y, settings), 2, axis=-1)
    return mean, jax.nn.softplus(raw) + settings.floor


def draw(q: Gaussian, noise: Array) -> Array:
    """The reparametrized sample."""
    return q[0] + jnp.sqrt(q[1]) * noise


def merged(evidence: Gaussian, t: Gaussian) -> Gaussian:
    """Both, weighted by precision."""
    (mu_d, variance_d), (mu_t, variance_t) = evidence, t
    total = variance_d + variance_t
    return (mu_d * variance_t + mu_t * variance_d) / total, variance_d * (variance_t / total)


def posteriors(
    own: Parameters, x: Array, noise: Sequence[Array], settings: Settings
) -> tuple[list[Gaussian], list[Array]]:
    """q of every layer and a sample of each, of images x [1, B, D]."""
    first, *others = own["up"]
    q, z = [gaussian(first, x, settings)], list[Array]()
    if settings.is_ladder:
        for up in others:
            q.append(gaussian(up, q[-1][0], settings))
        z = [draw(q[-1], noise[-1])]
        for index in reversed(range(len(others))):
            q[index] = merged(q[index], gaussian(own["down"][index], z[0], settings))
            z.insert(0, draw(q[index], noise[index]))
    else:
        z = [draw(q[0], noise[0])]
        for up, eps in zip(others, noise[1:], strict=True):
            q.append(gaussian(up, z[-1], settings))
            z.append(draw(q[-1], eps))
    return q, z


def log_weight(own: Parameters, x: Array, noise: Sequence[Array], beta: Array, settings: Settings) -> Array:
    """log w of every sample, the KL part weighted by beta, [S, B].

    Args:
        own: the model's parameters.
        x: images [B, D].
        noise: [S, B, U_i] for each layer.
        beta: weight of the KL part.
        settings: the model.

    """
    q, z = posteriors(own, x[None], noise, settings)
    logits = mapped(own["decoder"], z[0], settings)
    log_w = (x * logits - jax.nn.softplus(logits)).sum(-1)
    for index, ((_, variance), latent, eps) in enumerate(zip(q, z, noise, strict=True)):
        log_q = -0.5 * (jnp.square(eps) + jnp.log(variance))
        if index + 1 == len(z):
            log_p = -0.5 * jnp.square(latent)
        else:
            mean_p, variance_p = gaussian(own["prior"][index], z[index + 1], settings)
            log_p = -0.5 * (jnp.square(latent - mean_p) / variance_p + jnp.log(variance_p))
        log_w = log_w + beta * (log_p - log_q).sum(-1)
    return log_w


def bound(own: Parameters, x: Array, noise: Sequence[Array], beta: Array, settings: Settings) -> Array:
    """The importance-weighted bound, averaged over Monte Carlo samples and images."""
    log_w = log_weight(own, x, noise, beta, settings)
    if settings.iw_samples == 1:
        return log_w.mean()
    several = log_w.reshape(settings.mc_samples, settings.iw_samples, -1)
    return (jax.nn.logsumexp(several, axis=1) - jnp.log(settings.iw_samples)).mean()


def adam(settings: Settings) -> optax.GradientTransformation:
    """The optimizer."""
    return optax.flatten(optax.adam(settings.lr, settings.beta1, settings.beta2, settings.adam_eps))


def update(
    own: Parameters, state: Any, x: Array, noise: Sequence[Array], beta: Array, settings: Settings
) -> tuple[Parameters, Any, Array]:
    """One step of training on given noise: the parameters and the optimizer's state after it, and the bound."""
    value, gradients = jax.value_and_grad(lambda at: -bound(at, x, noise, beta, settings))(own)
    changes, state = adam(settings).update(gradients, state, own)
    return optax.apply_updates(own, changes), state, -value


def step(
    own: Parameters, state: Any, key: Array, x: Array, beta: Array, settings: Settings
) -> tuple[Parameters, Any, Array, Array]:
    """`update` on noise of its own: also returns the key of the next step."""
    key, *keys = jax.random.split(key, 1 + len(settings.units))
    samples = settings.mc_samples * settings.iw_samples
    noise = [
        jax.random.normal(one, (samples, settings.batch_size, units))
        for one, units in zip(keys, settings.units, strict=True)
    ]
    own, state, value = update(own, state, x, noise, beta, settings)
    return own, state, key, value


def program(settings: Settings, members: int) -> Callable[[], Array]:
    """A step of so many members, as a call; the bound that it returns may not be there yet."""

    def first(key: Array) -> tuple[Parameters, Any, Array, Array]:
        own = initial(key, settings)
        x = jax.random.bernoulli(key, shape=(settings.batch_size, settings.pixels)).astype(jnp.float32)
        return own, adam(settings).init(own), key, x

    def one(own: Parameters, state: Any, key: Array, x: Array, beta: Array) -> tuple[Parameters, Any, Array, Array]:
        return step(own, state, key, x, beta, settings)

    if members == 1:
        *kept, x = first(jax.random.key(0))
        whole: Callable[..., Any] = one
    else:
        *kept, x = jax.vmap(first)(jax.random.split(jax.random.key(0), members))
        whole = jax.vmap(one, in_axes=(0, 0, 0, 0, None))
    compiled, beta = jax.jit(whole, donate_argnums=(0, 1, 2)), jnp.float32(1.0)

    def call() -> Array:
        nonlocal kept
        *kept, value = compiled(*kept, x, beta)
        return value

    return call


def start(order: Any) -> Make:
    """See `tune.bench.turns.serve`; the settings are those of `Settings` by name."""
    jax.config.update("jax_default_matmul_precision", "highest")
    # Else the next step is prepared in one thread while another computes this one.
    jax.config.update("jax_cpu_enable_async_dispatch", os.environ.get("NPROC") != "1")
    settings = Settings(**order)

    def make(members: int) -> Block:
        call = program(settings, members)

        def block(steps: int) -> float:
            begun = time.perf_counter()
            for _ in range(steps):
                value = call()
            value.block_until_ready()
            return time.perf_counter() - begun

        block(WARM_UP)
        return block

    return make


if __name__ == "__main__":
    serve(start)

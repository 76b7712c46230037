"""A rival: the plain model (`tune.bench.baseline`) trained as one would who knows PyTorch well, with `torch.compile`
and fused Adam. `python -m tune.bench.rival_torch` does what `tune.bench.turns` says.

What is compiled is the objective, and with it its gradient, of batches of one shape; the noise is drawn before. That
was the fastest of three: to draw it within, or to compile the optimizer's step in the place of the fused one, took
longer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hvae_spec.spec.experiment import MemberSpec
from tune.bench import comparison
from tune.bench.baseline import PlainHVAE, bound
from tune.bench.turns import WARM_UP, Block, Make, serve
from tune.measure.timing import Call, set_up, timed

Objective = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""Of a batch x [B, D], the weight of the KL part and noise of every layer, [S * B, U_i]: what is minimized."""


def objective(model: PlainHVAE, member: MemberSpec, backend: str = "inductor") -> Objective:
    """What is minimized, compiled.

    Args:
        model: the plain model of the member's shape.
        member: the member.
        backend: of `torch.compile`.

    """
    mc_samples, iw_samples = member.objective.mc_samples, member.objective.iw_samples

    def of_batch(x: Tensor, beta: Tensor, noise: Sequence[Tensor]) -> Tensor:
        # Beta is a tensor, as a number would be compiled in.
        return -bound(model.log_weight(x, beta, mc_samples * iw_samples, noise=noise), iw_samples)  # type: ignore[arg-type]

    compiled: Objective = torch.compile(of_batch, fullgraph=True, dynamic=False, backend=backend)
    return compiled


def update(
    minimized: Objective, optimizer: torch.optim.Optimizer, x: Tensor, beta: Tensor, noise: Sequence[Tensor]
) -> None:
    """One step of training on given noise."""
    optimizer.zero_grad()
    minimized(x, beta, noise).backward()
    optimizer.step()


def step(member: MemberSpec, device: str) -> Call:
    """A step of training on noise of its own, as a call."""
    model = comparison.plain_model(member).to(device)
    optimizer = comparison.optimizer(model, member, fused=True)
    average = comparison.weights_average(model, member)
    minimized, x = objective(model, member), comparison.batch(member, device)
    beta = torch.tensor(1.0, device=device)
    rows = len(x) * member.objective.mc_samples * member.objective.iw_samples
    # The noise of the auxiliary variable comes last, and is one for all samples.
    units = [layer.units for layer in member.model.layers]
    own = [] if member.model.auxiliary is None else [member.model.auxiliary.units]

    def one() -> None:
        update(minimized, optimizer, x, beta, [torch.randn(rows, width, device=device) for width in (*units, *own)])
        if average is not None:
            average.update_parameters(model)

    return one


def start(order: Any) -> Make:
    """See `tune.bench.turns.serve`; the settings are a member, a device and a number of threads."""
    member = MemberSpec.model_validate(order["member"])
    device = order["device"]
    set_up(order["threads"], member.training.matmul_precision)

    def make(members: int) -> Block:
        if members != 1:
            raise ValueError("it trains one member at a time")
        one = step(member, device)
        timed(one, WARM_UP, device)
        return lambda count: timed(one, count, device)

    return make


if __name__ == "__main__":
    serve(start)

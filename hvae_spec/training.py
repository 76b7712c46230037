"""Training of a pack: many members in one stream, none of which notices another."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvae_spec import compiler
from hvae_spec.data.dataset import Dataset
from hvae_spec.objective import bound, log_weight, warm_up
from hvae_spec.optimizer import PackAdam
from hvae_spec.schema.experiment import Member
from hvae_spec.streams import Streams


@dataclass(frozen=True)
class Divergence:
    """When a member's training bound stopped being finite, and the first quantity that did."""

    epoch: int
    step: int
    quantity: str


class Trainer:
    """A pack in training: parameters, optimiser, epoch, and which members have diverged.

    The loss is minus the sum over members of each one's bound, averaged over its own batch, so that a member's gradient
    is what it would be alone. Clipping is a member's own too. A member that diverges is frozen: its parameters are
    updated no more, and it stays in the pack so that its neighbours' arithmetic does not change.

    Args:
        specs: members of one shape (`tune.planner.shape` tells which belong together).
        dataset: their images.
        device: where to train.

    """

    def __init__(self, specs: Sequence[Member], dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self.specs, self.device = list(specs), torch.device(device)
        self.model = compiler.initialized(specs, dataset.pixels).to(self.device)
        self.batches = compiler.batches(specs[0], dataset, self.device)
        self.streams = Streams([spec.seed for spec in specs], self.device)
        self.parameters = list(self.model.parameters())
        self.optimizer = PackAdam([spec.training for spec in specs], self.parameters)
        self.epoch = 0
        self.divergences: list[Divergence | None] = [None] * len(self.specs)
        depth = specs[0].model.depth
        self.quantities = [*(f"KL of z_{layer}" for layer in range(1, depth + 1)), "log p(x|z_1)", "bound", "gradient"]

    def samples(self, epoch: int) -> tuple[int, int]:
        """(M, K): Monte Carlo and importance samples of an epoch."""
        objective = self.specs[0].objective
        limit = epoch if objective.sample_ramp else max(objective.mc_samples, objective.iw_samples)
        return min(objective.mc_samples, limit), min(objective.iw_samples, limit)

    def train_epoch(self) -> list[dict[str, Any]]:
        """Train the next epoch. Returns one row of learning curves a member (see `hvae_spec.records`)."""
        epoch = self.epoch + 1
        start = time.perf_counter()
        betas = [warm_up(epoch, spec.objective.warm_up) for spec in self.specs]
        beta = torch.tensor(betas, device=self.device)
        samples = self.samples(epoch)
        self.model.train()
        self.streams.begin("training", epoch)
        # One transfer from the device an epoch: quantities stay there until its end.
        seen = torch.stack([self.step(x, beta, *samples) for x in self.batches.epoch(self.streams)]).cpu()
        seconds = time.perf_counter() - start
        self.epoch = epoch
        rows = []
        for member, values in enumerate(seen.unbind(1)):
            if self.divergences[member] is None:
                self.divergences[member] = self.find_divergence(values, epoch)
                rows.append(self.row(values, epoch, betas[member], seconds))
            else:
                rows.append({})
        return rows

    def step(self, x: Tensor, beta: Tensor, mc_samples: int, iw_samples: int) -> Tensor:
        """One optimisation step on a batch x [M, B, D]. Returns the quantities named in `self.quantities`, [M, Q]."""
        noise = self.streams.noise(mc_samples * iw_samples, x.shape[1], self.model.units)
        trace = self.model(x, noise)
        value = bound(log_weight(trace, beta), iw_samples).mean(1)
        gradients = torch.autograd.grad(-value.sum(), self.parameters)
        norms = self.optimizer.step(gradients, [divergence is not None for divergence in self.divergences])
        kls = [-ratio.detach().sum(-1).mean((1, 2)) for ratio in trace.log_ratios]
        return torch.stack([*kls, trace.log_likelihood.detach().mean((1, 2)), value.detach(), norms], dim=1)

    def find_divergence(self, values: Tensor, epoch: int) -> Divergence | None:
        """The first quantity of an epoch [steps, Q] that is not finite, if there is one."""
        bad = (~values.isfinite()).nonzero()
        if not len(bad):
            return None
        step, quantity = (int(index) for index in bad[0])
        return Divergence(epoch, step + 1, self.quantities[quantity])

    def row(self, values: Tensor, epoch: int, beta: float, seconds: float) -> dict[str, Any]:
        """A line of learning curves from an epoch's quantities [steps, Q]."""
        means = values.double().mean(0).tolist()
        members, steps = len(self.specs), len(values)
        return {
            "epoch": epoch,
            "beta": beta,
            "train_bound": means[-2],
            "train_log_likelihood": means[-3],
            "kl_per_layer": means[:-3],
            "gradient_norm": means[-1],
            "seconds": seconds,
            "ms_per_step": 1e3 * seconds / (steps * members) if steps else math.nan,
        }

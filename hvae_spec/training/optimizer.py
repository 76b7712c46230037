"""The optimizer of a pack: every member's parameters are one row, with settings, clipping and state of its own.

One row per member makes the norm, the clipping and PyTorch's fused step one operation each instead of one per
parameter, which is what a step of these small models mostly costs. The model's parameters are views of the rows, so an
update of the rows is one of the parameters. Members of equal settings are one group, which a GPU updates in one launch.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hvae_spec.registry import Registry
from hvae_spec.spec.choices.optimizer import Adam
from hvae_spec.spec.training import TrainingSpec
from hvae_spec.training.schedules import learning_rate

OPTIMIZER = "optimizer"
"""Names of the optimizer's state begin with this, the member's index and a slash each."""

OUTSIDE_GROUPS = {"clip_norm", "clip_value"}
"""Training settings in which the members of one parameter group may differ."""
Groups = list[dict[str, Any]]
"""Parameter groups as `torch.optim` takes them: tensors under `params`, options beside them."""
OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer in torch")
"""Functions that make an optimizer: of the rows [P] of members by groups of equal settings, and of these settings, one
per group. Its state must consist of tensors by name for every row."""


@OPTIMIZERS.register("adam")
def adam(groups: Sequence[Sequence[Tensor]], settings: Sequence[Adam]) -> torch.optim.Optimizer:
    """PyTorch's fused Adam."""
    options: Groups = [
        {"params": list(rows), "lr": one.lr, "betas": (one.beta1, one.beta2), "eps": one.eps}
        for rows, one in zip(groups, settings, strict=True)
    ]
    # Capturable: on a CUDA device a step may become part of a graph.
    return torch.optim.Adam(options, fused=True, capturable=groups[0][0].is_cuda)


def optimizer_of(state: Mapping[str, Tensor], m: int) -> dict[str, Tensor]:
    """What an optimizer's state holds of the member with index m, by the names of a pack of one."""
    prefix = f"{OPTIMIZER}/{m}/"
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def state_of(state: Mapping[str, Tensor], members: Sequence[int]) -> dict[str, Tensor]:
    """What the state of a pack is of a pack of some of its members alone, by their indices in their new order."""
    part = {"rows": state["rows"][list(members)]}
    for new, old in enumerate(members):
        part |= {f"{OPTIMIZER}/{new}/{name}": value for name, value in optimizer_of(state, old).items()}
    return part


class PackOptimizer:
    """One optimizer of PyTorch for all members that chose it, with one parameter group for all of the same settings.

    Args:
        settings: the members' training settings.
        parameters: the pack's parameters, [M, ...] each. They become views of `rows`.

    """

    def __init__(self, settings: Sequence[TrainingSpec], parameters: Sequence[Tensor]) -> None:
        self.settings = list(settings)
        self.rows = torch.cat([parameter.detach().flatten(1) for parameter in parameters], dim=1)
        """[M, P]."""
        self.gradients = torch.empty_like(self.rows)
        for parameter, block in zip(parameters, self._blocks(self.rows, parameters), strict=True):
            parameter.data = block
        self.by_member = self.rows.is_cuda
        self.slots = self._parts(self._blocks(self.gradients, parameters))
        """The parts of `gradients` that the parameters' gradients are copied to."""
        self.members = list(self.rows)
        """Each member's row, [P]."""
        alike: dict[str, dict[str, list[int]]] = {}
        for m, training in enumerate(settings):
            # What is left out is applied member by member (`step`); all else, also a field yet to come, parts groups.
            same = training.model_dump_json(exclude=OUTSIDE_GROUPS)
            alike.setdefault(training.optimizer.choice, {}).setdefault(same, []).append(m)
        self.groups = {name: list(groups.values()) for name, groups in alike.items()}
        """Members of the same settings, by the optimizer's name."""
        self.optimizers = {
            name: OPTIMIZERS[name](
                [[self.members[m] for m in group] for group in groups],
                [self.settings[group[0]].optimizer.settings for group in groups],
            )
            for name, groups in self.groups.items()
        }

    @staticmethod
    def _blocks(rows: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The parts of rows [M, P] that are the parameters', [M, ...] each."""
        parts = rows.split([parameter[0].numel() for parameter in parameters], dim=1)
        return [part.unflatten(1, parameter.shape[1:]) for part, parameter in zip(parts, parameters, strict=True)]

    def _parts(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Blocks [M, ...] as they are, or on a GPU member by member: of contiguous tensors one launch copies many."""
        return [part for block in blocks for part in block] if self.by_member else list(blocks)

    def begin_epoch(self, epoch: int) -> None:
        """Set every member's learning rate for an epoch (counted from 1)."""
        for name, optimizer in self.optimizers.items():
            for members, group in zip(self.groups[name], optimizer.param_groups, strict=True):
                group["lr"] = learning_rate(self.settings[members[0]], epoch)

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of every group in the current epoch."""
        return [group["lr"] for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], frozen: Sequence[bool]) -> Tensor:
        """Clip and apply the gradients of every member that is not frozen.

        Args:
            gradients: [M, ...] per parameter.
            frozen: which members keep their parameters.

        Returns: each member's gradient norm before clipping, [M].

        """
        torch._foreach_copy_(self.slots, self._parts(gradients))
        norms = torch.linalg.vector_norm(self.gradients, dim=1)
        for m, training in enumerate(self.settings):
            row = self.gradients[m]
            if training.clip_norm is not None:
                row.mul_((training.clip_norm / norms[m]).clamp(max=1))
            if training.clip_value is not None:
                row.clamp_(-training.clip_value, training.clip_value)
            self.members[m].grad = None if frozen[m] else row
        for optimizer in self.optimizers.values():
            optimizer.step()
        return norms

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold: the parameters, `rows`, and what the optimizer keeps for member m,
        `optimizer/<m>/<name>`.
        """
        tensors = {"rows": self.rows}
        for name, optimizer in self.optimizers.items():
            for m in chain(*self.groups[name]):
                for key, value in optimizer.state.get(self.members[m], {}).items():
                    if isinstance(value, Tensor):  # an empty entry may be None
                        tensors[f"{OPTIMIZER}/{m}/{key}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned.

        Raises:
            KeyError, ValueError, RuntimeError: the tensors are those of another pack.

        """
        self.rows.copy_(tensors["rows"])
        known: dict[int, dict[str, Tensor]] = {m: {} for m in range(len(self.members))}
        for name, value in tensors.items():
            if name != "rows":
                _, m, key = name.split("/")
                known[int(m)][key] = value
        for name, optimizer in self.optimizers.items():
            content: dict[str, Any] = optimizer.state_dict()
            # PyTorch counts parameters group by group.
            members = chain(*self.groups[name])
            content["state"] = {place: known[m] for place, m in enumerate(members) if known[m]}
            optimizer.load_state_dict(content)

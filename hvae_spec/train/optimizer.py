"""Adam for a pack: every member's parameters are one row, with settings, clipping and state of its own.

A row a member makes the norm, the clipping and PyTorch's fused Adam one operation each instead of one a parameter,
which is what a step of these small models mostly costs. The model's parameters are views of the rows, so an update of
the rows is one of the parameters. Members of equal settings are one group, which a GPU updates in one launch.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hvae_spec.spec.training import TrainingSpec
from hvae_spec.train.schedules import learning_rate

OPTIMIZER = "optimizer"
"""Names of the optimizer's state begin with this, the member's index and a slash each."""


class PackAdam:
    """Adam with one parameter group for all members of the same settings.

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
        alike: dict[str, list[int]] = {}
        for member, training in enumerate(settings):
            alike.setdefault(training.model_dump_json(include={"optimizer", "lr_decay"}), []).append(member)
        self.groups = list(alike.values())
        groups = []
        for group in self.groups:
            adam = settings[group[0]].optimizer.adam
            rows = [self.members[member] for member in group]
            groups.append({"params": rows, "lr": adam.lr, "betas": (adam.beta1, adam.beta2), "eps": adam.eps})
        # Capturable: on a CUDA device a step may become part of a graph.
        self.adam = torch.optim.Adam(groups, fused=True, capturable=self.rows.is_cuda)

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
        for members, group in zip(self.groups, self.adam.param_groups, strict=True):
            training = self.settings[members[0]]
            group["lr"] = learning_rate(training, epoch)

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of every group in the current epoch."""
        return [group["lr"] for group in self.adam.param_groups]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], frozen: Sequence[bool]) -> Tensor:
        """Clip and apply the gradients of every member that is not frozen.

        Args:
            gradients: [M, ...] a parameter.
            frozen: which members keep their parameters.

        Returns: each member's gradient norm before clipping, [M].

        """
        torch._foreach_copy_(self.slots, self._parts(gradients))
        norms = torch.linalg.vector_norm(self.gradients, dim=1)
        for member, training in enumerate(self.settings):
            row = self.gradients[member]
            if training.clip_norm is not None:
                row.mul_((training.clip_norm / norms[member]).clamp(max=1))
            if training.clip_value is not None:
                row.clamp_(-training.clip_value, training.clip_value)
            self.members[member].grad = None if frozen[member] else row
        self.adam.step()
        return norms

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold, parameters included."""
        tensors = {"rows": self.rows}
        for member, row in enumerate(self.members):
            tensors.update(
                {f"{OPTIMIZER}/{member}/{name}": value for name, value in self.adam.state.get(row, {}).items()}
            )
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned.

        Raises:
            KeyError, ValueError, RuntimeError: the tensors are those of another pack.

        """
        self.rows.copy_(tensors["rows"])
        content: dict[str, Any] = self.adam.state_dict()
        content["state"] = {}
        # PyTorch counts parameters group by group.
        places = {member: place for place, member in enumerate(chain(*self.groups))}
        for name, value in tensors.items():
            if name.startswith(f"{OPTIMIZER}/"):
                _, member, field = name.split("/")
                content["state"].setdefault(places[int(member)], {})[field] = value
        self.adam.load_state_dict(content)

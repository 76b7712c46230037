"""Adam for a pack: every member's parameters are one row, with settings, clipping and state of its own.

A row a member makes the norm, the clipping and PyTorch's fused Adam one operation each instead of one a parameter,
which is what a step of these small models mostly costs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hvae_spec.schema.training import TrainingSpec


class PackAdam:
    """Adam with one parameter group a member.

    Args:
        settings: the members' training settings.
        parameters: the pack's parameters, [M, ...] each; updated in place.

    """

    def __init__(self, settings: Sequence[TrainingSpec], parameters: Sequence[Tensor]) -> None:
        self.settings, self.parameters = list(settings), list(parameters)
        self.sizes = [parameter[0].numel() for parameter in parameters]
        self.rows = flatten(parameters)
        groups = []
        for row, training in zip(self.rows, settings, strict=True):
            adam = training.optimizer.adam
            groups.append({"params": [row], "lr": adam.lr, "betas": (adam.beta1, adam.beta2), "eps": adam.eps})
        self.adam = torch.optim.Adam(groups, fused=True)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], frozen: Sequence[bool]) -> Tensor:
        """Clip and apply the gradients of every member that is not frozen.

        Args:
            gradients: [M, ...] a parameter.
            frozen: which members keep their parameters.

        Returns: each member's gradient norm before clipping, [M].

        """
        rows = flatten(gradients)
        norms = torch.linalg.vector_norm(rows, dim=1)
        for member, (training, group) in enumerate(zip(self.settings, self.adam.param_groups, strict=True)):
            row = rows[member]
            if training.clip_norm is not None:
                row.mul_((training.clip_norm / norms[member]).clamp(max=1))
            if training.clip_value is not None:
                row.clamp_(-training.clip_value, training.clip_value)
            group["params"][0].grad = None if frozen[member] else row
        self.adam.step()
        self.publish()
        return norms

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the rows into the parameters."""
        for parameter, part in zip(self.parameters, self.rows.split(self.sizes, dim=1), strict=True):
            parameter.copy_(part.view_as(parameter))

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold, parameters included."""
        tensors = {"rows": self.rows}
        for member, values in self.adam.state_dict()["state"].items():
            tensors.update({f"adam/{member}/{name}": value for name, value in values.items()})
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
        for name, value in tensors.items():
            if name.startswith("adam/"):
                _, member, field = name.split("/")
                content["state"].setdefault(int(member), {})[field] = value
        self.adam.load_state_dict(content)
        self.publish()


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """[M, ...] each -> rows [M, P]."""
    return torch.cat([tensor.detach().flatten(1) for tensor in tensors], dim=1)

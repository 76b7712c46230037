"""The optimizer of a pack: every member's parameters are one row, with settings, clipping and state of its own.

One row per member makes the norm, the clipping and PyTorch's fused step one operation each instead of one per
parameter, which is what a step of these small models mostly costs. The model's parameters are views of the rows, so an
update of the rows is one of the parameters. Members of equal settings are one group, which a GPU updates in one launch.

Beside the rows may stand their exponential moving averages (`training.ema`), which are evaluated in their place.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hvae_spec.registry import Registry
from hvae_spec.spec.choices.optimizer import SGD, Adam, AdamW
from hvae_spec.spec.training import TrainingSpec
from hvae_spec.training.adam import FusedAdam
from hvae_spec.training.schedules import learning_rate

OPTIMIZER = "optimizer"
"""Names of the optimizer's state begin with this, the member's index and a slash each."""

ROWS, AVERAGES = "rows", "averages"
"""Names of the parameters of all members, and of their averages, in the optimizer's state."""
RAW = "raw"
"""What the state of one member calls its parameters where its weights are their average."""
L2, SHRINKAGE = "l2", "shrinkage"
"""Options of a parameter group beside PyTorch's, which apply to matrices of linear maps alone: what of them is added to
their gradient, and what of them, times the learning rate, they lose before the optimizer's step. (PyTorch's own
`weight_decay` would decay all of a row.)"""
OUTSIDE_GROUPS = {"clip_norm", "clip_value"}
"""Training settings in which the members of one parameter group may differ."""
Groups = list[dict[str, Any]]
"""Parameter groups as `torch.optim` takes them: tensors under `params`, options beside them."""

Optimizer = FusedAdam | torch.optim.Optimizer
OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimizer in torch")
"""Functions that make an optimizer: of the rows [P] of members by groups of equal settings, and of these settings, one
per group. Its state must consist of tensors by name for every row, and its groups may have the options `L2` and
`SHRINKAGE`."""


@OPTIMIZERS.register("adam")
def adam(groups: Sequence[Sequence[Tensor]], settings: Sequence[Adam]) -> FusedAdam:
    """PyTorch's fused Adam."""
    return FusedAdam(_of(groups, [{"lr": one.lr, "betas": (one.beta1, one.beta2), "eps": one.eps} for one in settings]))


@OPTIMIZERS.register("adamw")
def adamw(groups: Sequence[Sequence[Tensor]], settings: Sequence[AdamW]) -> FusedAdam:
    """PyTorch's fused Adam, before whose steps the matrices shrink."""
    options: Groups = [
        {"lr": one.lr, "betas": (one.beta1, one.beta2), "eps": one.eps, SHRINKAGE: one.weight_decay} for one in settings
    ]
    return FusedAdam(_of(groups, options))


@OPTIMIZERS.register("sgd")
def sgd(groups: Sequence[Sequence[Tensor]], settings: Sequence[SGD]) -> torch.optim.Optimizer:
    """PyTorch's fused SGD."""
    options: Groups = [
        {"lr": one.lr, "momentum": one.momentum, "nesterov": one.nesterov, L2: one.weight_decay} for one in settings
    ]
    return torch.optim.SGD(_of(groups, options), fused=True)


def _of(groups: Sequence[Sequence[Tensor]], options: Groups) -> Groups:
    """Parameter groups of rows and of options, one per group."""
    return [{"params": list(rows), **one} for rows, one in zip(groups, options, strict=True)]


def optimizer_of(state: Mapping[str, Tensor], m: int) -> dict[str, Tensor]:
    """What an optimizer's state holds of the member with index m beside its weights, by the names of a pack of one:
    what the optimizer keeps, and where the weights are averaged the parameters, `RAW`.
    """
    own = _kept_of(state, m)
    return {**own, RAW: state[ROWS][m]} if AVERAGES in state else own


def state_with(weights: Tensor, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The state of a pack of the members' weights [M, P] and what `optimizer_of` gave of each."""
    raw = [part[RAW] for part in parts if RAW in part]
    rows = {ROWS: torch.stack(raw).to(weights.device), AVERAGES: weights} if raw else {ROWS: weights}
    own = {f"{OPTIMIZER}/{m}/{name}": value for m, part in enumerate(parts) for name, value in part.items()}
    return rows | {name: value for name, value in own.items() if not name.endswith(f"/{RAW}")}


def state_of(state: Mapping[str, Tensor], members: Sequence[int]) -> dict[str, Tensor]:
    """What the state of a pack is of a pack of some of its members alone, by their indices in their new order."""
    part = {name: state[name][list(members)] for name in (ROWS, AVERAGES) if name in state}
    for new, old in enumerate(members):
        part |= {f"{OPTIMIZER}/{new}/{name}": value for name, value in _kept_of(state, old).items()}
    return part


def _kept_of(state: Mapping[str, Tensor], m: int) -> dict[str, Tensor]:
    """What the optimizer keeps for the member with index m."""
    prefix = f"{OPTIMIZER}/{m}/"
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class PackOptimizer:
    """One optimizer of PyTorch for all members that chose it, with one parameter group for all of the same settings.

    Args:
        settings: the members' training settings.
        parameters: the pack's parameters, [M, ...] each. They become views of `rows`.
        are_matrices: which of them are matrices of linear maps, the only ones to decay. None: all.

    """

    def __init__(
        self,
        settings: Sequence[TrainingSpec],
        parameters: Sequence[Tensor],
        are_matrices: Sequence[bool] | None = None,
    ) -> None:
        self.settings = list(settings)
        self.shapes = [parameter.shape[1:] for parameter in parameters]
        self.rows = torch.cat([parameter.detach().flatten(1) for parameter in parameters], dim=1)
        """[M, P]."""
        self.gradients = torch.empty_like(self.rows)
        for parameter, block in zip(parameters, self.as_parameters(self.rows), strict=True):
            parameter.data = block
        self.averages = None if all(one.ema is None for one in settings) else self.rows.clone()
        """[M, P]."""
        self.decaying = torch.ones_like(self.rows[0])
        """1 for entries of matrices of linear maps, else 0, [P]."""
        if are_matrices is not None:
            for is_matrix, block in zip(are_matrices, self.as_parameters(self.decaying[None]), strict=True):
                block.fill_(is_matrix)
        self.by_member = self.rows.is_cuda
        self.slots = self._parts(self.as_parameters(self.gradients))
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
        for group in self._parameter_groups():
            # On the device, so that a captured step reads it anew; there PyTorch wants float32. Elsewhere in float64,
            # in which it is computed.
            number = torch.float32 if self.rows.is_cuda else torch.float64
            group["lr"] = torch.tensor(group["lr"], dtype=number, device=self.rows.device)

    def _parameter_groups(self) -> Groups:
        """PyTorch's groups, in the order of `groups`."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def as_parameters(self, rows: Tensor) -> list[Tensor]:
        """The parts of rows [M, P] that are the parameters', [M, ...] each."""
        parts = rows.split([shape.numel() for shape in self.shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _parts(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Blocks [M, ...] as they are, or on a GPU member by member: of contiguous tensors one launch copies many."""
        return [part for block in blocks for part in block] if self.by_member else list(blocks)

    def begin_epoch(self, epoch: int) -> None:
        """Set every member's learning rate for an epoch (counted from 1)."""
        for members, group in zip(chain(*self.groups.values()), self._parameter_groups(), strict=True):
            group["lr"].fill_(learning_rate(self.settings[members[0]], epoch))

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of every group in the current epoch."""
        return [float(group["lr"]) for group in self._parameter_groups()]

    def weights(self, m: int) -> Tensor:
        """The parameters of the member with index m that are evaluated and kept, [P]: their average, where there is
        one.
        """
        return self.members[m] if self.averages is None or self.settings[m].ema is None else self.averages[m]

    def average_from_here(self) -> None:
        """Let averages start at the present parameters."""
        if self.averages is not None:
            self.averages.copy_(self.rows)

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
        groups = [[m for m in members if not frozen[m]] for members in chain(*self.groups.values())]
        for members, group in zip(groups, self._parameter_groups(), strict=True):
            self._decay(members, group)
        for optimizer in self.optimizers.values():
            optimizer.step()
        for members in filter(None, groups):
            self._average(members, self.settings[members[0]].ema)
        return norms

    def _decay(self, members: Sequence[int], group: Mapping[str, Any]) -> None:
        """Weight decay of the matrices of some members of a group, by its options."""
        rows = [self.members[m] for m in members]
        if rows and group.get(L2):
            gradients = [self.gradients[m] for m in members]
            torch._foreach_addcmul_(gradients, rows, [self.decaying] * len(rows), value=group[L2])
        if rows and group.get(SHRINKAGE):
            lost = self.decaying * (group["lr"] * group[SHRINKAGE])
            torch._foreach_addcmul_(rows, rows, [lost] * len(rows), value=-1.0)

    def _average(self, members: Sequence[int], ema: float | None) -> None:
        """Take the present parameters of some members into their averages."""
        if self.averages is not None and ema is not None:
            averages = [self.averages[m] for m in members]
            torch._foreach_lerp_(averages, [self.members[m] for m in members], 1 - ema)

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must hold: the parameters, `ROWS`, their averages, `AVERAGES`, if there are any,
        and what the optimizer keeps for member m, `optimizer/<m>/<name>`.
        """
        tensors = self._whole()
        for name, optimizer in self.optimizers.items():
            for m in chain(*self.groups[name]):
                for key, value in optimizer.state.get(self.members[m], {}).items():
                    if isinstance(value, Tensor):  # an empty entry may be None
                        tensors[f"{OPTIMIZER}/{m}/{key}"] = value
        return tensors

    def _whole(self) -> dict[str, Tensor]:
        """The tensors of all members, by their names in the state."""
        return {ROWS: self.rows} | ({} if self.averages is None else {AVERAGES: self.averages})

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned.

        Raises:
            KeyError, ValueError, RuntimeError: the tensors are those of another pack.

        """
        whole = self._whole()
        for name, own in whole.items():
            own.copy_(tensors[name])
        known: dict[int, dict[str, Tensor]] = {m: {} for m in range(len(self.members))}
        for name, value in tensors.items():
            if name not in whole:
                _, m, key = name.split("/")
                known[int(m)][key] = value
        for name, optimizer in self.optimizers.items():
            content: dict[str, Any] = optimizer.state_dict()
            # PyTorch counts parameters group by group.
            members = chain(*self.groups[name])
            content["state"] = {place: known[m] for place, m in enumerate(members) if known[m]}
            optimizer.load_state_dict(content)

"""Training of a pack: many members in one stream, none of which notices another."""

import math
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_spec import compiler
from hvae_spec.backend.compile import NotCompiledError, fusing
from hvae_spec.backend.cuda_graph import CudaGraph
from hvae_spec.backend.gpu import in_one_kernel
from hvae_spec.data.dataset import Dataset
from hvae_spec.nn.hierarchy import Hierarchy
from hvae_spec.nn.linear import are_matrices
from hvae_spec.nn.marginal import classification, mean_log_classes
from hvae_spec.nn.objective import Objective, log_weight
from hvae_spec.nn.random import Streams, split_noise
from hvae_spec.records.arrays import Arrays
from hvae_spec.records.checkpoint import Stopping
from hvae_spec.records.json_file import FORMAT
from hvae_spec.records.result import Divergence
from hvae_spec.records.rows import EpochRow
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.training.optimizer import PackOptimizer, state_of, state_with
from hvae_spec.training.schedules import samples, schedule

Watched = Callable[..., tuple[Tensor, Tensor]]
"""See `watched`."""
LOG_CLASSES = "log q(y|x)"
"""What of labeled images is watched."""
OF_A = "log q(a|x) - log r(a|x, z)"
"""What of an auxiliary variable is watched."""


class Trainer:
    """A pack in training: parameters, optimizer, epoch, and which members have diverged.

    The loss is minus the sum over members of each one's bound, averaged over its own batch, so that a member's gradient
    is what it would be alone. Clipping is a member's own too. A member that diverges is frozen: its parameters are
    updated no more, and it stays in the pack so that its neighbors' arithmetic does not change. So is one that early
    stopping has stopped, until half of the members in the step are frozen: then the others go on alone (`cut`).

    Args:
        specs: members of one shape (`tune.plan.grouping.shape` says which belong together).
        dataset: their images.
        device: where to train. On a CUDA device a step is captured once as a graph and replayed.
        compiled: fuse the operations of a step with `torch.compile`. It costs the better part of a minute, and changes
            results by no more than rounding.

    """

    def __init__(
        self,
        specs: Sequence[MemberSpec],
        dataset: Dataset,
        device: torch.device | str = "cpu",
        *,
        compiled: bool = False,
    ) -> None:
        self.specs, self.device = list(specs), torch.device(device)
        if self.device.type == "cuda":
            in_one_kernel()
        self.pixels, self.is_to_compile = dataset.pixels, compiled
        self.batches = compiler.batches(specs[0], dataset, self.device)
        self.build(list(range(len(self.specs))))
        self.epoch = 0
        first = specs[0].training.first_phase
        self.epochs_before = 0 if first is None else first.epochs
        """Epochs of the phase that this one continues, whose random numbers are not drawn again."""
        self.divergences: list[Divergence | None] = [None] * len(self.specs)
        self.stopping = [Stopping()] * len(self.specs)
        self.best: dict[int, Tensor] = {}
        """With early stopping, the best weights of every member so far [P], by its index."""
        depth = specs[0].model.depth
        kls = [f"KL of z_{layer}" for layer in range(1, depth + 1)]
        of_a = [] if specs[0].model.auxiliary is None else [OF_A]
        self.quantities = [*kls, *of_a, "log p(x|z_1)", "bound", "bound at beta = 1", "gradient"]
        if self.model.classes:
            self.quantities.insert(-1, LOG_CLASSES)
        if self.classifies_alone:
            self.quantities = [LOG_CLASSES, "gradient"]

    @property
    def classifies_alone(self) -> bool:
        """Whether q(y|x) alone is trained."""
        return self.specs[0].objective.classifies_alone

    def build(self, in_step: list[int]) -> None:
        """Make the step of some of the members, by their indices, freshly initialized."""
        self.in_step = in_step
        """The members that are trained, in the order in which the model and the optimizer have them."""
        specs = [self.specs[m] for m in in_step]
        self.model = compiler.initialized(specs, self.pixels, self.batches).to(self.device)
        unlabeled = self.batches.unlabeled_share if self.model.classes else None
        self.objective = compiler.objective([spec.objective for spec in specs], self.device, unlabeled)
        self.streams = Streams([spec.seed for spec in specs], self.device)
        self.parameters = list(self.model.parameters())
        self.optimizer = PackOptimizer([spec.training for spec in specs], self.parameters, are_matrices(self.model))
        # What trains q(y|x) alone is small.
        self.use(self.compile() if self.is_to_compile and not self.classifies_alone else None)

    def use(self, compiled: Watched | None) -> None:
        """Make steps with a compiled objective from now on, which `compile` has made, or with the plain one."""
        self.compiled, self.is_to_compile = compiled, compiled is not None
        self.graph = CudaGraph(self.update) if self.device.type == "cuda" else None

    def cut(self, members: list[int]) -> None:
        """Go on with some of the members in the step alone, by their indices. They go on as they are but for rounding,
        as a step of fewer members may add up in another order.
        """
        state = state_of(self.optimizer.state(), [self.in_step.index(m) for m in members])
        self.build(members)
        self.optimizer.restore(state)

    def cut_half(self) -> None:
        """Go on without the frozen members if they are half of those in the step or more, and not all."""
        going_on = [m for m in self.in_step if not self.is_frozen(m)]
        if going_on and 2 * len(going_on) <= len(self.in_step):
            self.cut(going_on)

    def watch(self, m: int, bound: float) -> None:
        """Early stopping after an evaluation of the member with index m, which counts from the end of warm-up on: keep
        its weights if its validation bound at beta = 1 is the best so far, and stop it if its patience is over.
        """
        settings = self.specs[m].training.early_stopping
        if settings is None or self.epoch < self.specs[m].objective.warm_epoch:
            return
        self.stopping[m] = self.stopping[m].after(self.epoch, bound, settings.patience)
        if self.stopping[m].best_epoch == self.epoch:
            self.best[m] = self.optimizer.weights(self.in_step.index(m)).clone()

    def single(self, m: int) -> Hierarchy:
        """The member with index m, which is in the step, as a model of its own that shares its memory; where weights
        are averaged, the memory of the averages.
        """
        place = self.in_step.index(m)
        single = compiler.select(self.model, self.specs[m], place)
        kept = self.optimizer.as_parameters(self.optimizer.weights(place)[None])
        by_parameter = dict(zip(map(id, self.parameters), kept, strict=True))
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            single.get_parameter(name).data = by_parameter[id(parameter)]
        return single

    def weights(self, m: int) -> Arrays:
        """What the record of the member with index m keeps as its parameters, averaged or not: the best ones with early
        stopping, else the last.
        """
        row = self.best[m] if m in self.best else self.optimizer.weights(self.in_step.index(m))
        names = [name for name, _ in self.model.named_parameters()]
        parts = self.optimizer.as_parameters(row[None])
        return {name: part.cpu().numpy().copy() for name, part in zip(names, parts, strict=True)}

    @torch.no_grad()
    def start_from(self, weights: Sequence[Arrays]) -> None:
        """Start from the weights of another phase, of one model (M = 1) per member.

        Raises:
            KeyError, RuntimeError: they are those of another shape.

        """
        names = [name for name, _ in self.model.named_parameters()]
        joined = {name: torch.cat([torch.from_numpy(single[name]) for single in weights]) for name in names}
        self.model.load_state_dict(joined, strict=False)
        self.optimizer.average_from_here()

    @torch.no_grad()
    def extend(self, epoch: int, weights: Sequence[Arrays], optimizer: Sequence[Arrays]) -> None:
        """Go on from the end of shorter trainings, as if there had been no end.

        Args:
            epoch: the epochs that these have.
            weights: of one model (M = 1) per member.
            optimizer: its optimizer's state and, where the weights are averaged, those that are not; one per member.

        Raises:
            KeyError, RuntimeError, ValueError: they are those of another shape.

        """
        self.start_from(weights)
        states = [{name: torch.from_numpy(value) for name, value in own.items()} for own in optimizer]
        self.optimizer.restore(state_with(self.optimizer.rows.clone(), states))
        self.epoch = epoch

    def samples(self, epoch: int) -> tuple[int, int]:
        """(M, K): Monte Carlo and importance samples of an epoch, the same for all members of a pack."""
        return samples(self.specs[0].objective, epoch)

    def betas(self, epoch: int) -> list[float | tuple[float, ...]]:
        """The weight of the KL part of every member in the step in an epoch, or of each of its layers."""
        return [schedule(self.specs[m], epoch).beta for m in self.in_step]

    def beta(self, epoch: int) -> Tensor:
        """The same as one tensor, [M], or [M, L] where any member has weights of its own for each layer."""
        betas = self.betas(epoch)
        layers = next((len(beta) for beta in betas if isinstance(beta, tuple)), None)
        if layers is None:
            return torch.tensor(betas, device=self.device)
        rows = [beta if isinstance(beta, tuple) else (beta,) * layers for beta in betas]
        return torch.tensor(rows, device=self.device)

    def train_epoch(self) -> list[EpochRow | None]:
        """Train the next epoch. Returns one row of learning curves per member; None for those that were frozen."""
        epoch = self.epoch + 1
        start = time.perf_counter()
        betas, beta = self.betas(epoch), self.beta(epoch)
        samples = self.samples(epoch)
        self.model.train()
        self.optimizer.begin_epoch(epoch)
        self.streams.begin("training", self.epochs_before + epoch)
        # One transfer from the device an epoch: quantities stay there until its end.
        batches = self.batches.labeled_epoch(self.streams)
        seen = torch.stack([self.step(x, beta, *samples, labels) for x, labels in batches]).cpu()
        seconds = time.perf_counter() - start
        self.epoch = epoch
        rows: list[EpochRow | None] = [None] * len(self.specs)
        for m, beta_now, values in zip(self.in_step, betas, seen.unbind(1), strict=True):
            if not self.is_frozen(m):
                self.divergences[m] = self.find_divergence(values, epoch)
                rows[m] = self.row(values, epoch, beta_now, seconds)
        return rows

    def step(self, x: Tensor, beta: Tensor, mc_samples: int, iw_samples: int, labels: Tensor | None = None) -> Tensor:
        """One optimization step on a batch x [M, B, D], the last images of which have labels [M, labeled] if there are
        any. Returns the quantities named in `self.quantities`, [M, Q].
        """
        noise = self.model.flat_noise(self.streams, self.copies(mc_samples * iw_samples), x.shape[1])
        if self.graph is None:
            return self.update(x, noise, beta, iw_samples, labels)
        return self.graph(x, noise, beta, iw_samples, labels, key=tuple(self.frozen))

    def copies(self, samples: int) -> int:
        """Samples of an image in a step that has so many of each class: none where q(y|x) alone is trained."""
        return 0 if self.classifies_alone else self.model.copies * samples

    def update(self, x: Tensor, noise: Tensor, beta: Tensor, iw_samples: int, labels: Tensor | None = None) -> Tensor:
        """The step on given noise: a function of tensors alone, so that it can be captured."""
        value, seen = self.choose(x, noise)(self.objective, self.model, x, noise, beta, iw_samples, labels)
        # Where q(y|x) alone is trained, the gradient by all that is not in it is 0.
        alone = self.classifies_alone
        gradients = torch.autograd.grad(-value.sum(), self.parameters, allow_unused=alone, materialize_grads=alone)
        norms = self.optimizer.step(gradients, self.frozen)
        self.model.generative.top.project()
        return torch.cat([seen, norms[:, None]], dim=1)

    def is_frozen(self, m: int) -> bool:
        """Whether the member with index m has diverged or was stopped early."""
        return self.divergences[m] is not None or self.stopping[m].stopped_epoch is not None

    @property
    def frozen(self) -> list[bool]:
        """Which of the members in the step are frozen."""
        return [self.is_frozen(m) for m in self.in_step]

    def choose(self, x: Tensor, noise: Tensor) -> Watched:
        """The compiled objective for full batches of the full number of samples, of which there are many; the plain
        one for what is rare (a smaller last batch, the first epochs of a ramp), as each shape is compiled on its own.
        """
        if self.classifies_alone:
            return classified
        is_full = x.shape[1] == self.batches.full and noise.shape[1] == self.full_noise
        return self.compiled if self.compiled is not None and is_full else watched

    @property
    def full_noise(self) -> int:
        """Numbers of noise of a member in a step of the full number of samples."""
        settings = self.specs[0].objective
        return self.copies(settings.mc_samples * settings.iw_samples) * self.batches.full * sum(self.model.noise_units)

    def compile(self) -> Watched | None:
        """The objective with its operations fused, forward and backward; None where that fails."""
        members = len(self.in_step)
        x = torch.zeros(members, self.batches.full, self.model.pixels, device=self.device)
        known = self.batches.labels_per_step
        labels = torch.zeros(members, known, dtype=torch.int64, device=self.device) if known else None
        noise = torch.zeros(members, self.full_noise, device=self.device)
        beta = self.beta(1)
        try:
            with fusing():
                torch.compiler.reset()  # what was compiled for another pack would count against PyTorch's limit
                compiled: Watched = torch.compile(watched, dynamic=False)
                samples = self.specs[0].objective.iw_samples
                value, _ = compiled(self.objective, self.model.train(), x, noise, beta, samples, labels)
                torch.autograd.grad(-value.sum(), self.parameters)
        except NotCompiledError as error:
            warnings.warn(f"torch.compile failed, training goes on without it: {error}", stacklevel=2)
            return None
        return compiled

    def find_divergence(self, values: Tensor, epoch: int) -> Divergence | None:
        """The first quantity of an epoch [steps, Q] that is not finite, if there is one."""
        bad = (~values.isfinite()).nonzero()
        if not len(bad):
            return None
        step, quantity = (int(index) for index in bad[0])
        return Divergence(epoch=epoch, step=step + 1, quantity=self.quantities[quantity])

    def row(self, values: Tensor, epoch: int, beta: float | tuple[float, ...], seconds: float) -> EpochRow:
        """A line of learning curves from an epoch's quantities [steps, Q]."""
        means = dict(zip(self.quantities, values.double().mean(0).tolist(), strict=True))
        members, steps = len(self.in_step), len(values)
        # Of q(y|x) alone there is no bound.
        row: EpochRow = {
            "format": FORMAT,
            "epoch": epoch,
            "beta": beta if isinstance(beta, float) else max(beta),
            "train_bound": means.get("bound"),
            "train_bound_beta_1": means.get("bound at beta = 1"),
            "train_reconstruction": means.get("log p(x|z_1)"),
            "kl_per_layer": [means.get(f"KL of z_{layer}") for layer in range(1, len(self.model.units) + 1)],
            "gradient_norm": means["gradient"],
            "seconds": seconds,
            "ms_per_step": 1e3 * seconds / (steps * members) if steps else math.nan,
        }
        if OF_A in means:
            row["auxiliary_nats"] = means[OF_A]
        if LOG_CLASSES in means:
            row["train_log_classes"] = means[LOG_CLASSES]
        return row


def watched(
    objective: Objective,
    model: Hierarchy,
    x: Tensor,
    noise: Tensor,
    beta: Tensor,
    iw_samples: int,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Each member's objective, averaged over its batch, [M]; and what is watched, averaged likewise, [M, L + 3]: the
    KLs, log p(x|z_1), that objective, and the bound with beta = 1, which takes no part in the gradient. With an
    auxiliary variable, what it takes from the bound comes after the KLs. With classes, log q(y|x) of the labeled images
    in addition, 0 without any.

    Args:
        objective: what is maximized.
        model: a pack.
        x: [M, B, D].
        noise: flat, see `Hierarchy.flat_noise`.
        beta: [M] or [M, L].
        iw_samples: K, of which S is a multiple.
        labels: classes of the last images, [M, labeled]; None: no image has one.

    """
    images = x.shape[1]
    samples = noise.shape[1] // (images * sum(model.noise_units))
    trace, value = objective(model, x, split_noise(noise, samples, images, model.noise_units), beta, iw_samples, labels)
    with torch.no_grad():
        kls = [-objective.average(ratio.sum(1), trace, labels) for ratio in trace.log_ratios]
        kls += [] if trace.auxiliary is None else [-objective.average(trace.auxiliary, trace, labels)]
        value_beta_1 = objective.bound(trace, log_weight(trace), 1.0, iw_samples, labels)
        seen = [*kls, objective.average(trace.log_likelihood, trace, labels), value, value_beta_1]
        if trace.log_classes is not None:
            seen.append(torch.zeros_like(value) if labels is None else mean_log_classes(trace.log_classes, labels))
        return value, torch.stack(seen, dim=1)


def classified(
    objective: Objective,
    model: Hierarchy,
    x: Tensor,
    noise: Tensor,
    beta: Tensor,
    iw_samples: int,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `watched` is where q(y|x) alone is trained: the mean of log q(y|x) over the images, which all have labels,
    [M], and the same as what is watched, [M, 1]. Nothing is read of what else a step is given.
    """
    if labels is None:
        raise ValueError("there is nothing to learn without labels")
    value = classification(model, x, labels)
    return value, value.detach()[:, None]

"""The rivals of the benchmark: other programs that train the same models, each in a process of its own
(`tune.bench.turns`): the plain model compiled by PyTorch, and the paper's models in JAX, where it is installed.
"""

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Self

from hvae_spec.data.counts import image_counts, image_pixels
from hvae_spec.errors import UserError
from hvae_spec.spec.choices.nonlinearity import name_and_parameters
from hvae_spec.spec.choices.optimizer import Adam
from hvae_spec.spec.experiment import MemberSpec
from tune.bench.turns import FailedError, Pack, Turns
from tune.plan.devices import can_compile

JAX = ("jax", "optax")
"""What the program in JAX needs."""
JAX_TAKES = {
    "model": {
        "layers", "inference", "norm", "batch_norm", "batch_norm_eps", "nonlinearity", "initialization",
        "variance_bias", "variance_floor",
    },
    "objective": {"beta", "warm_up", "mc_samples", "iw_samples", "sample_ramp"},
    "training": {
        "epochs", "batch_size", "optimizer", "lr_decay", "schedule", "first_phase", "early_stopping", "last_batch",
    },
}  # fmt: skip
"""The fields, by their section, that a step in JAX may have with a value other than the default, or that change no
step."""


@dataclass(frozen=True)
class Rival:
    """One rival."""

    words: str
    """What tables call it."""
    module: str
    """Its program."""
    settings: Callable[[MemberSpec, str, int], Any]
    """What the program takes, of a member, a device and a number of threads. Raises UserError: it has no such
    model."""
    environment: Callable[[int], dict[str, str]]
    """Variables that give it so many threads."""
    check: Callable[[str], None]
    """Raises UserError if it cannot run on a device."""
    packs: bool
    """Whether it trains several members at once."""


def torch_settings(member: MemberSpec, device: str, threads: int) -> dict[str, Any]:
    """What `tune.bench.rival_torch` takes. It has the models that the plain program has."""
    return {"member": member.model_dump(mode="json"), "device": device, "threads": threads}


JAX_INFERENCES = {"vae": False, "ladder": True}
"""Inference models that the program in JAX has, and which of them is its ladder."""
JAX_NORMS, JAX_NONLINEARITIES = ("none", "batch"), ("leaky_relu",)
"""Normalizations and nonlinearities that it has."""


def jax_settings(member: MemberSpec, device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """What `tune.bench.rival_jax` takes.

    Raises:
        UserError: it lacks something that the member has; the message names the fields.

    """
    lacking = jax_lacks(member)
    if lacking:
        raise UserError(f"the program in JAX lacks {', '.join(lacking)}: add it to tune/bench/rival_jax.py to compare")
    model, objective, adam = member.model, member.objective, member.training.optimizer.settings.model_dump()
    _, parameters = name_and_parameters(model.nonlinearity)
    return {
        "units": [layer.units for layer in model.layers],
        "widths": [layer.mlp for layer in model.layers],
        "down": [layer.down for layer in model.layers],
        "top_down": [layer.top_down for layer in model.layers],
        "pixels": image_pixels(member.data),
        "is_ladder": JAX_INFERENCES[model.effective_inference],
        "batch_norm": model.normalization.of_batch,
        "normalizes_heads": model.normalization.heads,
        "slope": parameters["slope"],
        "eps": model.batch_norm_eps,
        "floor": model.variance_floor,
        "mc_samples": objective.mc_samples,
        "iw_samples": objective.iw_samples,
        "batch_size": min(member.training.batch_size, image_counts(member.data).train),
        "lr": adam["lr"],
        "beta1": adam["beta1"],
        "beta2": adam["beta2"],
        "adam_eps": adam["eps"],
    }


def jax_lacks(member: MemberSpec) -> list[str]:
    """The fields, by their paths, with values that the program in JAX does not have."""
    model, content = member.model, member.content
    lacking = [
        f"{section}.{name}"
        for section, taken in JAX_TAKES.items()
        for name in content.get(section, {})
        if name not in taken
    ]
    of_values = {
        "model.inference": model.effective_inference in JAX_INFERENCES,
        "model.norm": model.normalization.name in JAX_NORMS,
        "model.nonlinearity": name_and_parameters(model.nonlinearity)[0] in JAX_NONLINEARITIES,
        "model.layers.flow": all(flow is None for flow in model.flows) or "model.flow" in lacking,
        "objective.beta": isinstance(member.objective.layer_weights, float),
        "training.optimizer": type(member.training.optimizer.settings) is Adam,
    }
    return lacking + [path for path, is_there in of_values.items() if not is_there]


def jax_environment(threads: int) -> dict[str, str]:
    """What XLA reads when it is imported. `NPROC` is the size of its pools; one thread computes without any."""
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {}
    return {"JAX_PLATFORMS": "cpu", "NPROC": str(threads), **flags}


def check_torch(device: str) -> None:
    """Raise UserError if the plain model cannot be compiled."""
    if not can_compile(device.partition(":")[0]):
        raise UserError("what torch.compile needs is not there")


def check_jax(device: str) -> None:
    """Raise UserError if the program in JAX cannot run."""
    absent = [name for name in JAX if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"{' and '.join(absent)} not installed: pip install 'hvae-spec[jax]'")
    if device != "cpu":
        raise UserError("it is compared on a CPU alone: --device cpu")


RIVALS = {
    "torch": Rival(
        "compiled PyTorch",
        "tune.bench.rival_torch",
        torch_settings,
        lambda threads: {"OMP_NUM_THREADS": str(threads)},
        check_torch,
        packs=False,
    ),
    "jax": Rival("JAX", "tune.bench.rival_jax", jax_settings, jax_environment, check_jax, packs=True),
}
"""By their names in `--json`."""


def versions() -> dict[str, str]:
    """Of the libraries of the rivals that are installed, by name, PyTorch's apart."""
    return {name: metadata.version(name) for name in JAX if importlib.util.find_spec(name)}


class Competition:
    """The rivals in their turns beside the packs of one member's shape.

    Args:
        member: the member.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of each.
        note: is told which are left out, and why.

    """

    def __init__(self, member: MemberSpec, device: str, threads: int, note: Callable[[str], None]) -> None:
        self.member, self.device, self.threads, self.note = member, device, threads, note
        self.running: dict[str, Turns] = {}
        self.ready: dict[tuple[str, int], Pack | None] = {}
        self.left_out: list[dict[str, Any]] = []
        """Each with its name, the number of members, null if it is there for none, and the reason."""
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        """Start all that can train the member."""
        with ExitStack() as stack:
            for name, rival in RIVALS.items():
                try:
                    rival.check(self.device)
                    settings = rival.settings(self.member, self.device, self.threads)
                    turns = Turns(rival.module, settings, rival.environment(self.threads), self.threads)
                    self.running[name] = stack.enter_context(turns)
                except (UserError, FailedError) as reason:
                    self.leave_out(name, None, reason)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def leave_out(self, name: str, members: int | None, reason: Exception) -> None:
        """Say that one is not there, or not with so many members."""
        of = "" if members is None else f", {members} members at once"
        self.note(f"  {RIVALS[name].words}{of} left out: {reason}")
        self.left_out.append({"rival": name, "members": members, "reason": str(reason)})

    def steps(self, members: int) -> dict[str, Pack]:
        """A step of each beside a pack of so many members: of as many, or of one where it trains one at a time."""
        found = {name: self.pack(name, members if RIVALS[name].packs else 1) for name in self.running}
        return {name: pack for name, pack in found.items() if pack is not None}

    def pack(self, name: str, members: int) -> Pack | None:
        """The step of so many members, compiled the first time; None if that failed."""
        if (name, members) not in self.ready:
            self.ready[name, members] = Pack(self.running[name], members)
            try:
                self.running[name].seconds(members, 1)
            except FailedError as reason:
                self.ready[name, members] = None
                self.leave_out(name, members, reason)
        return self.ready[name, members]

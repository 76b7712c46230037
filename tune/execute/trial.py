"""Whether a pack's steps are to be compiled: the pack finds out, on its own device and beside its neighbors."""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch

from hvae_spec.backend.compile import NotCompiledError
from hvae_spec.backend.cuda_graph import CudaGraph
from hvae_spec.pack_job import PackJob
from hvae_spec.training.trainer import Trainer, Watched
from tune.measure import timing
from tune.measure.cache import shape_name
from tune.measure.comparison import WORTH_TRYING, StepComparison, load_comparison, save_comparisons
from tune.plan.devices import can_compile

FIRST_SECONDS = 0.5
"""Time for the plain steps alone, which may be too fast to go on."""
MOST_SECONDS, SHARE = 60.0, 0.01
"""Time for the steps of both ways, and its share of training in between: what is chosen stays for all of it."""
LEAST_STEPS = 1500
"""Steps from which it pays to find out: a trial makes 64 or more."""
ROUNDS = 9
"""Least number of turns."""
Way = tuple[Watched | None, CudaGraph | None]
"""The objective that a step is made with, None for the plain one, and on a CUDA device the captured step."""
Turns = Callable[[Mapping[bool, timing.Call], float, str], dict[bool, list[float]]]
"""Seconds of steps in every turn, by whether they are compiled: of calls, in about so many seconds, on a device."""


def turns(calls: Mapping[bool, timing.Call], seconds: float, device: str) -> dict[bool, list[float]]:
    """Seconds of each call in every turn."""
    return timing.turns(calls, seconds, device, rounds=ROUNDS)


def choose_steps(job: PackJob, trainer: Trainer, steps: int, take_turns: Turns = turns) -> str:
    """Have a trainer go on with compiled steps or with plain ones, whichever is faster by what is known of its shape on
    this machine. What is not known is measured, and kept. Returns in words what is known; nothing if training is too
    short to find out, or nothing compiles here.

    Args:
        job: the pack.
        trainer: the pack before its first step. It goes on as if none had been made.
        steps: how many it is to make.
        take_turns: measures steps.

    """
    member, device, threads, members = job.members[0].spec, trainer.device.type, job.threads, len(job.members)
    name = f"{shape_name(member)} x {members}"
    if not can_compile(device):
        return ""
    found = load_comparison(member, device, threads, members)
    try:
        if found is None:
            found = compare_steps(trainer, steps, take_turns)
            if found is None:
                return ""
            save_comparisons(member, device, threads, [found])
            if not found.is_faster:
                trainer.use(None)
        elif found.pays(steps):
            compile_step(trainer)
    except NotCompiledError as error:
        return f"the step of {name} cannot be compiled ({error}): training goes on without"
    return in_words(name, found, is_compiled=trainer.is_to_compile)


def in_words(name: str, found: StepComparison, *, is_compiled: bool) -> str:
    """What was found of a pack of this name, and what follows."""
    way, why = ("with it" if is_compiled else "without"), ""
    if not is_compiled and found.times < 1:
        why = ", too few steps to pay for compiling" if found.is_faster else ", too little to tell from noise"
    return f"the compiled step of {name} takes {found.times:.2f} times as long{why}: training goes on {way}"


def compile_step(trainer: Trainer) -> None:
    """Have a trainer make compiled steps. Raises NotCompiledError."""
    trainer.use(trainer.compile())
    if trainer.compiled is None:
        raise NotCompiledError("torch.compile failed")


def compare_steps(trainer: Trainer, steps: int, take_turns: Turns) -> StepComparison | None:
    """Compile a trainer's step, and measure it beside the plain one. The trainer is as before, and goes on with
    compiled steps. None if its steps are so few, or so few and fast, that this does not pay; then nothing is
    compiled.

    Raises:
        NotCompiledError: it does not compile.

    """
    if steps < LEAST_STEPS:
        trainer.use(None)
        return None
    members, device = len(trainer.in_step), str(trainer.device)
    before = {name: value.clone() for name, value in trainer.optimizer.state().items()}
    try:
        calls = timing.Steps(trainer)
        warm_up = timing.WARM_UP[trainer.device.type]
        timing.timed(calls.step, warm_up, device)
        training = median(take_turns({False: calls.step}, FIRST_SECONDS, device)[False]) * steps
        if training <= WORTH_TRYING:
            trainer.use(None)
            return None
        eager: Way = None, trainer.graph

        def fuse() -> None:
            compile_step(trainer)
            timing.timed(calls.step, warm_up, device)

        compile_seconds = timing.timed(fuse, 1, device)
        fused: Way = trainer.compiled, trainer.graph

        def step(way: Way) -> None:
            trainer.compiled, trainer.graph = way
            calls.step()

        seconds = min(MOST_SECONDS, SHARE * training)
        found = take_turns({False: partial(step, eager), True: partial(step, fused)}, seconds, device)
        trainer.use(fused[0])
    except torch.OutOfMemoryError:
        trainer.use(None)
        raise NotCompiledError("out of memory") from None
    finally:
        trainer.optimizer.restore(before)
    plain_ms = 1e3 * median(found[False]) / members
    # Within a turn both meet the same company.
    times = median(one / other for one, other in zip(found[True], found[False], strict=True))
    return StepComparison(members, plain_ms, times * plain_ms, compile_seconds)

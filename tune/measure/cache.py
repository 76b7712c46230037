"""How fast a shape of member trains and is evaluated on this machine, measured once and kept on disk.

What is measured is the program's own step and evaluation, on images of noise, so that nothing need be downloaded (what
is in the images changes no time). Loading a measurement needs no torch.
"""

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hvae_spec.data.cache import user_cache
from hvae_spec.data.counts import image_counts
from hvae_spec.records import provenance
from hvae_spec.records.files import write_json
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import NoStepCost, paths_stating, without
from hvae_spec.spec.labels import beside_inference
from hvae_spec.spec.model import SKIP_LABELS

SIZES = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64)}
"""Members of the packs that are measured."""
SECONDS = 3.0
"""Time for a shape, its set-up apart."""
NOT_COMPILED = "not compiled"
"""What steps are called that are not compiled, beside those that are."""
NEARLY_BEST = 1.03
"""A smaller pack is as good as the fastest if its member-step takes no more than this times the fastest's."""


@dataclass(frozen=True)
class StepTime:
    """One optimization step of a pack of some size."""

    members: int
    """M."""
    ms_per_member_step: float
    """Milliseconds of a step, divided by M. Drawing the batch is not part of it."""
    bytes: int
    """Peak memory of the pack in training: on a CUDA device measured, on a CPU counted (see `tune.measure.timing`)."""


@dataclass(frozen=True)
class ShapeMeasurement:
    """What a shape costs on a machine."""

    name: str
    """`mnist L5 ladder+BN`, say."""
    steps: tuple[StepTime, ...]
    """By ascending M."""
    samples_per_second: float
    """Images times importance samples that the evaluation of one member does in a second."""
    epoch_seconds_per_member: float
    """Shuffling and drawing the batches of an epoch: what an epoch takes beyond its steps."""
    compile_seconds: float = 0.0
    """What a pack pays before its first fast step, for being compiled."""

    def joined(self, earlier: "ShapeMeasurement | None") -> "ShapeMeasurement":
        """This measurement, and the sizes of an earlier one that are not in it."""
        steps = {step.members: step for step in (*(() if earlier is None else earlier.steps), *self.steps)}
        return replace(self, steps=tuple(steps[members] for members in sorted(steps)))

    def best(self) -> StepTime:
        """The smallest pack that is about as fast per member-step as any."""
        fastest = min(step.ms_per_member_step for step in self.steps)
        return next(step for step in self.steps if step.ms_per_member_step <= NEARLY_BEST * fastest)

    def at(self, members: int) -> float:
        """Milliseconds per member-step of a pack of any size: linear in log2 M between the sizes that were measured,
        and constant beyond them.
        """
        if members <= self.steps[0].members:
            return self.steps[0].ms_per_member_step
        for low, high in pairwise(self.steps):
            if members <= high.members:
                share = math.log2(members / low.members) / math.log2(high.members / low.members)
                return (1 - share) * low.ms_per_member_step + share * high.ms_per_member_step
        return self.steps[-1].ms_per_member_step


def shape_name(member: MemberSpec) -> str:
    """A shape's name in tables: data set, depth, inference and its steps, skip connections, normalization, flows, an
    auxiliary variable and a learned prior.
    """
    model = member.model
    shared = "+shared" if model.shares_top_down else ""
    inference = model.inference_model.short + shared + SKIP_LABELS[model.effective_skip]
    return f"{member.data.name} L{model.depth} {inference}{model.normalization.label}{beside_inference(model)}"


def step_shape(member: MemberSpec) -> dict[str, Any]:
    """What a member's speed depends on: every field of the spec but those that cost no time (`NoStepCost`), and the
    pixels and training images that there are. Coarser than `tune.plan.grouping.shape`: epochs, say, are not in it.
    """
    pixels, train, _ = image_counts(member.data)
    fields = without(member.model_dump(mode="json"), paths_stating(MemberSpec, NoStepCost))
    return {**fields, "images": [pixels, train]}


def device_name(device: str) -> str:
    """The processor's or the GPU's name, for `cpu`, `cuda` or `cuda:N`."""
    if device == "cpu":
        return provenance.processor()
    # The driver says it without torch, unless the machine has GPUs of several kinds.
    files = Path("/proc/driver/nvidia/gpus").glob("*/information")
    lines = [line for path in files for line in path.read_text().splitlines() if line.startswith("Model:")]
    names = {line.partition(":")[2].strip() for line in lines}
    if len(names) == 1:
        return names.pop()
    from tune.measure import timing

    return timing.cuda_name(device)


def cache_path() -> Path | None:
    """Where measurements are kept; None where a user has no home, and nothing is kept."""
    cache = user_cache()
    return None if cache is None else cache / "measurements.json"


def load_measurement(member: MemberSpec, device: str, threads: int, compiled: bool) -> ShapeMeasurement | None:
    """What has been measured of a member's shape on this machine, with this version; None if nothing has."""
    try:
        return _parse(kept(machine_key(member, device, threads, compiled)))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def save_measurement(
    member: MemberSpec, device: str, threads: int, compiled: bool, measurement: ShapeMeasurement
) -> None:
    """Keep a measurement. Where nothing can be written, it is not kept."""
    keep(machine_key(member, device, threads, compiled), asdict(measurement))


def machine_key(member: MemberSpec, device: str, threads: int, what: bool | str) -> str:
    """What is kept of a member's shape on this machine, with this version, by: whether a measurement is of compiled
    steps, or the name of what else is kept.
    """
    versions = provenance.versions()
    machine = [device_name(device), threads, versions["torch"], versions["hvae_spec"], what]
    return json.dumps({"machine": machine, **step_shape(member)}, sort_keys=True)


def kept(key: str) -> Any:
    """What was kept by this key; None if nothing was."""
    return _read_cache().get(key)


def keep(key: str, value: Any) -> None:
    """Keep a value in place of what was kept by this key, of two that are kept at a time the last. Where nothing can be
    written, it is not kept.
    """
    if (path := cache_path()) is not None:
        with contextlib.suppress(OSError):
            write_json(path, _read_cache() | {key: value})


def _read_cache() -> dict[str, Any]:
    path = cache_path()
    try:
        content = {} if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _parse(content: Any) -> ShapeMeasurement:
    """A measurement from JSON. Raises KeyError, TypeError, ValueError or OverflowError: it is none."""
    steps = tuple(
        StepTime(int(step["members"]), float(step["ms_per_member_step"]), int(step["bytes"]))
        for step in content["steps"]
    )
    numbers = ("samples_per_second", "epoch_seconds_per_member", "compile_seconds")
    measurement = ShapeMeasurement(str(content["name"]), steps, *(float(content[name]) for name in numbers))
    sizes = [step.members for step in steps]
    times = [step.ms_per_member_step for step in steps] + [measurement.samples_per_second]
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1 or not all(0 < time < math.inf for time in times):
        raise ValueError(f"no measurement: {content}")
    return measurement


@dataclass(frozen=True)
class Others:
    """Other programs that are timed in turn with packs."""

    steps: Callable[[int], Mapping[str, Callable[[], object]]] = lambda members: {}
    """Steps beside a pack of so many members, by name. One that is there beside several is timed once."""
    evaluations: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    """Evaluations, by name."""
    awake: bool = False
    """Whether they have threads of their own in other processes (see `tune.measure.timing.settings`)."""


def measure_beside(
    member: MemberSpec,
    *,
    device: str,
    threads: int,
    sizes: Sequence[int] | None = None,
    seconds: float = SECONDS,
    compiled: bool = False,
    others: Others = Others(),
) -> tuple[ShapeMeasurement, dict[int, dict[str, float]], dict[str, float]]:
    """Measure a member's shape on images of noise, and in turn with it, steps and evaluations of other programs.

    Sizes take turns, so that a change in the machine's speed meets all alike; every time is a median. Sizes that would
    not fit into memory, or whose steps are so long that the others' time would go to them, are left out.

    Args:
        member: any member of the shape.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads of the process.
        sizes: packs to measure, ascending; the first is always measured. None: the usual ones of the device.
        seconds: time to spend, set-up apart.
        compiled: whether packs are compiled.
        others: the other programs.

    Returns:
        The measurement; median seconds of the others' steps by name, beside a pack of each size; and those of their
        evaluations. Beside compiled steps are those of the same pack without, `NOT_COMPILED`, where there is memory for
        both.

    """
    from hvae_spec.backend.memory import keep_freed_memory
    from tune.measure import timing

    keep_freed_memory()  # as a pack does
    sizes = sizes or SIZES[device.partition(":")[0]]
    with timing.settings(threads, member.training.matmul_precision, awake=others.awake):
        packs = timing.packs(member, sizes, device, seconds, compiled=compiled)
        measured: list[StepTime] = []
        beside: dict[int, dict[str, float]] = {}
        compile_seconds = epoch_seconds = 0.0
        # Packs take turns, but for compiled ones: to compile one makes PyTorch forget the others.
        for group in ([pack] for pack in packs) if compiled else [list(packs)]:
            steps = {pack.members: dict(others.steps(pack.members)) for pack in group}
            if compiled and (same := timing.pack_if_it_fits(member, group[0].members, device)) is not None:
                steps[group[0].members][NOT_COMPILED] = same.step
            calls: dict[Any, Callable[[], object]] = {pack.members: pack.step for pack in group}
            calls |= {call: call for named in steps.values() for call in named.values()}
            share = 0.7 * seconds / (len(sizes) if compiled else 1)
            times = timing.interleaved(calls, share, device)
            for pack in group:
                beside[pack.members] = {name: times[call] for name, call in steps[pack.members].items()}
                measured.append(StepTime(pack.members, 1e3 * times[pack.members] / pack.members, pack.bytes))
                compile_seconds = max(compile_seconds, pack.ready_seconds if compiled else 0.0)
            epoch_seconds = epoch_seconds or group[0].epoch_seconds() / group[0].members
        evaluation = {"ours": timing.evaluation(member, device, compiled=compiled), **others.evaluations}
        evaluation_times = timing.interleaved(evaluation, 0.3 * seconds, device)
    images, samples = timing.evaluation_size(member, device)
    rate = images * samples / evaluation_times.pop("ours")
    shape = ShapeMeasurement(shape_name(member), tuple(measured), rate, epoch_seconds, compile_seconds)
    return shape, beside, evaluation_times

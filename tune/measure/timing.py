"""Calls timed in turn, and the steps and evaluations of packs as calls. Whatever `hvae_spec` may change about training
and evaluation concerns `Pack` and `evaluation` here, and no other part of the benchmark.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import cycle, islice
from statistics import median
from typing import TypeVar

import numpy as np
import psutil
import torch

from hvae_spec import compiler
from hvae_spec.backend.waiting import considerate
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import Dataset
from hvae_spec.evaluate.evaluation import evaluate, record_statistics
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.training.trainer import Trainer
from tune.measure.remote import Remote

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)

BLOCK_SECONDS = 0.05
ROUNDS = 3
"""Least number of turns."""
BATCHES = 4
"""Different batches that steps take in turn."""
WARM_UP = {"cpu": 2, "cuda": 5}
"""Steps until a pack runs at its speed: on a CUDA device, until it is a graph that is replayed."""
EVALUATED = {"cpu": 80_000, "cuda": 2_560_000}
"""Images times samples of a timed evaluation."""
MEMORY_SHARE = 0.5
"""Of the free memory that packs may take on a CPU."""


def synchronize(device: str) -> None:
    """Wait until a CUDA device has done all that it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def cuda_name(device: str) -> str:
    """The name of a CUDA device."""
    return torch.cuda.get_device_name(device)


def set_up(threads: int, precision: str) -> None:
    """Threads, precision of products and denormal numbers as in a pack's worker, from now on."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@contextmanager
def settings(threads: int, precision: str, *, awake: bool = False) -> Iterator[None]:
    """All of `set_up`, and how threads wait, as in a pack's worker, in this context.

    Args:
        threads: CPU threads.
        precision: of products, as `torch.set_float32_matmul_precision` has it.
        awake: whether threads wait awake whatever else runs, because that is other programs in their turns.

    """
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    set_up(threads, precision)
    try:
        with nullcontext() if awake else considerate(threads):
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def interleaved(
    calls: Mapping[Name, Call],
    seconds: float,
    device: str,
    *,
    block: float = BLOCK_SECONDS,
    typical: Callable[[Sequence[float]], float] = median,
) -> dict[Name, float]:
    """Seconds of each call, the median of many, taken in turn (`turns`).

    Args:
        calls: what to time, by name.
        seconds: for how long.
        device: where the calls work.
        block: short calls are timed several at a time, for about so many seconds.
        typical: what to take of a call's times.

    """
    return {name: typical(values) for name, values in turns(calls, seconds, device, block=block).items()}


def turns(
    calls: Mapping[Name, Call],
    seconds: float,
    device: str,
    *,
    block: float = BLOCK_SECONDS,
    rounds: int = ROUNDS,
) -> dict[Name, list[float]]:
    """Seconds of each call in every turn. They take turns for `seconds`, and `rounds` times at the least.

    Args:
        calls: what to time, by name.
        seconds: for how long.
        device: where the calls work.
        block: short calls are timed several at a time, for about so many seconds.
        rounds: the least number of turns.

    """
    lengths: dict[Name, int] = {}
    for name, call in calls.items():
        timed(call, 1, device)
        lengths[name] = max(1, round(block / timed(call, 1, device)))
    times: dict[Name, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    turn = 0
    while turn < rounds or time.perf_counter() < end:
        turn += 1
        for name, call in calls.items():
            call()  # the one before has left its own in the caches
            times[name].append(timed(call, lengths[name], device) / lengths[name])
    return times


def timed(call: Call, count: int, device: str) -> float:
    """Seconds that some calls take together."""
    if isinstance(call, Remote):
        return call.seconds(count)
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize(device)
    return time.perf_counter() - start


@cache
def noise_images(name: str, levels: int, counts: ImageCounts, classes: int = 1) -> Dataset:
    """A data set of the right sizes, with pixels of noise, and classes in turn."""
    rng = np.random.default_rng(0)
    pixels, train, test = counts
    return Dataset(
        train=rng.integers(0, levels, (train, pixels), dtype=np.uint8),
        test=rng.integers(0, levels, (test, pixels), dtype=np.uint8),
        train_labels=np.arange(train) % classes,
        test_labels=np.zeros(test, dtype=np.int64),
        levels=levels,
        shape=(1, pixels),
        canonical=False,
        name=name,
        train_sha256="",
        test_sha256="",
        distinct=train,
        every_class=tuple(range(classes)),
    )


def dataset(member: MemberSpec, most: int | None = None) -> Dataset:
    """Noise in the place of a member's images, `most` of them at the most."""
    pixels, train, test = image_counts(member.data)
    counts = ImageCounts(pixels, min(train, most or train), min(test, most or test))
    levels = DATASETS[member.data.dataset].levels
    return noise_images(member.data.name, levels, counts, max(1, member.classes))


class Steps:
    """A pack in training, a step of which can be called again and again: on full batches, with as many samples as at
    its end.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.trainer.model.train()
        self.beta = torch.ones_like(self.trainer.beta(1))
        self.samples = self.trainer.samples(10**9)
        self.trainer.streams.begin("training", 1)
        epoch = self.trainer.batches.labeled_epoch(self.trainer.streams)
        drawn = [(x.clone(), labels) for x, labels in islice(epoch, BATCHES)]
        full = [(x, labels) for x, labels in drawn if x.shape[1] == self.trainer.batches.full]
        self.batches = cycle(full or drawn)

    def step(self) -> None:
        """One optimization step."""
        x, labels = next(self.batches)
        self.trainer.step(x, self.beta, *self.samples, labels)


class Pack(Steps):
    """A pack of members of one shape, on images of noise."""

    def __init__(self, member: MemberSpec, members: int, device: str, *, compiled: bool = False) -> None:
        start, base = time.perf_counter(), _peak(device)
        specs = [member.model_copy(update={"seed": seed}) for seed in range(members)]
        more = {"compiled": True} if compiled else {}
        self.members, self.device = members, device
        super().__init__(Trainer(specs, dataset(member), device, **more))
        self.bytes = 0
        timed(self.step, WARM_UP[device.partition(":")[0]], device)
        self.ready_seconds = time.perf_counter() - start
        self.step_seconds = min(timed(self.step, 1, device) for _ in range(2))
        if device != "cpu":
            self.bytes = torch.cuda.max_memory_allocated(device) - base

    def epoch_seconds(self) -> float:
        """Seconds to draw all batches of an epoch: the second time, when memory has been found."""

        def draw() -> None:
            self.trainer.streams.begin("training", 1)
            for _ in self.trainer.batches.epoch(self.trainer.streams):
                pass

        timed(draw, 1, self.device)
        return timed(draw, 1, self.device)


def _peak(device: str) -> int:
    """Bytes in use on a CUDA device, from where on its peak is counted."""
    if device == "cpu":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def packs(
    member: MemberSpec, sizes: Sequence[int], device: str, seconds: float, *, compiled: bool = False
) -> Iterator[Pack]:
    """Packs of ascending sizes, warm, as far as memory and time allow."""
    shared, each = cpu_bytes(member) if device == "cpu" else (0, 0)
    room, taken = MEMORY_SHARE * psutil.virtual_memory().available, 0
    for members in sizes:
        is_first, count = members == sizes[0], shared + members * each
        if not is_first and taken + count > room:
            return
        try:
            pack = Pack(member, members, device, compiled=compiled)
        except torch.cuda.OutOfMemoryError:
            if is_first:
                raise
            return
        if not is_first and pack.step_seconds > seconds:
            return
        if device == "cpu":
            pack.bytes, taken = count, taken + count
        yield pack


def pack_if_it_fits(member: MemberSpec, members: int, device: str) -> Pack | None:
    """A pack that is not compiled; None where a CUDA device has not enough memory for it."""
    try:
        return Pack(member, members, device)
    except torch.cuda.OutOfMemoryError:
        return None


def cpu_bytes(member: MemberSpec) -> tuple[int, int]:
    """Bytes of a pack in training on a CPU: of the images, which members share, and of each member: what training holds
    for its parameters, and the activations that a step keeps for its backward pass.
    """
    pack = Pack(member, 1, "cpu")
    parameters = list(pack.trainer.model.parameters())
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pack.step()
    state = member.training.numbers_per_parameter * sum(parameter.nbytes for parameter in parameters)
    return dataset(member).train.nbytes, state + sum(kept.values())


def evaluation_size(member: MemberSpec, device: str) -> tuple[int, int]:
    """Images and samples of a timed evaluation: the member's K, and as few images as make a fair measurement."""
    samples = member.evaluation.iw_samples
    images = -(-EVALUATED[device.partition(":")[0]] // samples)
    return min(images, image_counts(member.data).test), samples


def evaluation_images(member: MemberSpec, device: str) -> torch.Tensor:
    """Observations of noise to evaluate, [N, D]."""
    images, _ = evaluation_size(member, device)
    return torch.rand(images, image_counts(member.data).pixels).round().to(device)


def evaluation(member: MemberSpec, device: str, *, compiled: bool = False) -> Call:
    """The evaluation of one freshly initialized member, as a call."""
    labeled = member.data.labeled if isinstance(member.data.labeled, int) else 0
    images = dataset(member, most=max(1024 + labeled, member.model.pseudo_inputs))
    batches = compiler.batches(member, images, device)
    model = compiler.initialized([member], images.pixels, batches).to(device)
    record_statistics(model, batches, member.seed, 0, "whole_set")
    model.eval()
    x, (_, samples) = evaluation_images(member, device), evaluation_size(member, device)
    memory = member.evaluation.memory_gib
    return lambda: evaluate(model, x, samples, seed=member.seed, memory_gib=memory, compiled=compiled)

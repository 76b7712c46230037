"""How the threads of a training step wait for each other: awake on cores of their own, asleep where others want these.

A step of a small model is hundreds of parallel regions, each of some ten microseconds, at the end of which its threads
wait for each other. Awake (spinning), that costs nothing on cores of one's own, while an idle core takes longer to wake
than the region lasts: asleep, a step takes twice as long. Beside other work it is the reverse: a thread that spins uses
up the time on a core that the other one needs to get there, and a step takes ten or thirty times as long.

PyTorch's threads are libgomp's on Linux, which decides by environment variables, when it is loaded, how long a thread
spins, with one exception: while there are more of its threads than cores, none spins for long. So where other work
wants the cores, a team of threads is started that does nothing else than exist.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

INTERVAL = 1.0
"""Seconds between looks at the load of the machine."""
SPARE = 0.5
"""Cores that other work may take of those that the threads want, before they sleep while they wait."""


@contextmanager
def considerate(threads: int) -> Iterator[None]:
    """Within this context, parallel work of this process leaves cores that others want while it waits. No number of a
    result depends on it. Where PyTorch does not use libgomp, it does nothing.

    Args:
        threads: that the work has. One thread waits for nobody.

    """
    cores = usable_cores()
    if threads == 1 or not has_libgomp():
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(threads, cores, ended), daemon=True, name="watch of the cores")
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def has_libgomp() -> bool:
    """Whether libgomp is loaded: on Linux, with PyTorch."""
    return os.name == "posix" and hasattr(ctypes.CDLL(None), "GOMP_parallel")


def usable_cores() -> Sequence[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def is_crowded(threads: int, cores: int, busy: float, own: float) -> bool:
    """Whether other work wants cores that the threads of this process want.

    Args:
        threads: that this process works with.
        cores: that it may use.
        busy: how many of these cores had work, on average.
        own: how many cores' work was this process's.

    """
    return busy - own > cores - threads + SPARE


def _watch(threads: int, cores: Sequence[int], ended: threading.Event) -> None:
    """Look at the load again and again, and have the idle team exist while the cores are crowded."""
    dismissed: threading.Event | None = None
    before = _times(cores)
    while not ended.wait(INTERVAL):
        now = _times(cores)
        seconds, busy, own = (later - earlier for later, earlier in zip(now, before, strict=True))
        before = now
        crowded = is_crowded(threads, len(cores), busy / seconds, own / seconds)
        if crowded and dismissed is None:
            dismissed = threading.Event()
            idle = threading.Thread(target=_idle_team, args=(len(cores) + 1, dismissed), daemon=True, name="idle team")
            idle.start()
        elif not crowded and dismissed is not None:
            dismissed.set()
            dismissed = None
    if dismissed is not None:
        dismissed.set()


def _times(cores: Sequence[int]) -> tuple[float, float, float]:
    """The time, the seconds that these cores have been busy, and those that this process has used."""
    each = psutil.cpu_times(percpu=True)
    busy = 0.0
    for core in cores:
        if core < len(each):
            # What a guest of this machine uses is part of `user`; what the host of this machine takes is others' work.
            taken = each[core]
            busy += taken.user + taken.nice + taken.system + getattr(taken, "steal", 0.0)
    return time.monotonic(), busy, time.process_time()


def _idle_team(threads: int, dismissed: threading.Event) -> None:
    """A team of libgomp's threads, which asks each of them for an absolute value once, and sleeps until dismissed."""
    libraries = ctypes.CDLL(None)
    libraries.GOMP_parallel(libraries.abs, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    dismissed.wait()

"""How long packs of known durations take on several workers: list scheduling, the longest pack first, which is what Ray
does with the order that it is given (Graham, 1969: at most 4/3 of the shortest possible time).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Packs on workers."""

    workers: int
    makespan: float
    """Seconds until the last pack ends."""
    total: float
    """Seconds of all packs together."""
    longest: float
    """Seconds of the longest pack."""

    @property
    def ideal(self) -> float:
        """What no schedule of these packs is faster than."""
        return max(self.total / self.workers, self.longest)

    @property
    def ratio(self) -> float:
        """Makespan by ideal; 1 is perfect."""
        return self.makespan / self.ideal if self.ideal else 1.0

    @property
    def utilization(self) -> float:
        """Share of the workers' time in which they work."""
        return self.total / (self.makespan * self.workers) if self.makespan else 1.0


def makespan(durations: Sequence[float], workers: int) -> float:
    """Seconds until all packs are done, each taken up in this order by the worker that is free first."""
    free = [0.0] * min(workers, len(durations))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free, default=0.0)


def simulate(durations: Sequence[float], workers: int) -> Schedule:
    """Run packs, the longest first."""
    ordered = sorted(durations, reverse=True)
    return Schedule(workers, makespan(ordered, workers), sum(ordered), ordered[0] if ordered else 0.0)

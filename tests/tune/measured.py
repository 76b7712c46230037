"""Measurements that nobody made."""

from tune.measure.cache import ShapeMeasurement, StepTime
from tune.measure.comparison import StepComparison
from tune.plan.forecast import Forecaster


def measurement(times, samples_per_second=1e9, epoch=0.0, compiling=0.0, gib=1.0):
    """From milliseconds of a member-step by members; memory grows by `gib` per member."""
    steps = tuple(StepTime(members, ms, int(members * gib * 2**30)) for members, ms in sorted(times.items()))
    return ShapeMeasurement("shape", steps, samples_per_second, epoch, compiling)


class Measured(Forecaster):
    """Every shape has the same measurement."""

    def __init__(self, eager, compiled=None, device="cpu"):
        super().__init__(device)
        self.eager, self.compiled = eager, compiled

    def measurement(self, member, threads, compiled):
        return self.compiled if compiled else self.eager

    def comparison(self, member, threads, members):
        if self.compiled is None:
            return None
        times = (measured.at(members) for measured in (self.eager, self.compiled))
        return StepComparison(members, *times, self.compiled.compile_seconds)

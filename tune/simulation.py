"""How long packs of known durations take on several workers, simulated: list scheduling, the longest pack first, which
is what Ray does with the order that it is given.

`python -m tune.simulation SPEC --workers 1,8,64` prints it for a grid.
"""

import argparse
import heapq
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hvae_spec.errors import UserError

NOMINAL = (
    "What has not been measured goes by nominal speed, which may be off by a factor of two or three: "
    "python -m tune.run SPEC --plan --measure measures it."
)


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
    def utilisation(self) -> float:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    from hvae_spec.reading import read
    from hvae_spec.records.layout import Results
    from tune.plan.forecast import NOMINAL_FLOPS, Forecaster
    from tune.plan.needs import Ledger
    from tune.plan.packs import RunInfo
    from tune.plan.planner import Machine, make_plan

    parser = argparse.ArgumentParser(
        prog="python -m tune.simulation",
        description="Simulate a whole grid on several numbers of workers (CPU cores, or GPUs with --device cuda).",
    )
    parser.add_argument("spec", metavar="SPEC", help="the YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as for tune.run")
    parser.add_argument("--workers", type=_numbers, default=(1, 8, 64), metavar="N,N", help="(default: 1,8,64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    parser.add_argument(
        "--ms-per-member-step",
        type=_positive,
        metavar="X",
        help="duration of every member's step, whatever its shape (default: as measured by tune.run --measure; else "
        "from multiply-adds)",
    )
    parser.add_argument(
        "--gflops",
        type=_positive,
        metavar="X",
        help="speed of a worker where nothing is measured "
        f"(default: {NOMINAL_FLOPS['cpu'] / 1e9:g} on a core, {NOMINAL_FLOPS['cuda'] / 1e9:g} on a GPU)",
    )
    options = parser.parse_args(arguments)
    try:
        reading = read(options.spec, options.set)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    table = Table(title=f"{reading.experiment.name}: {len(reading.members)} members on {options.device}, simulated")
    for name in ("workers", "packs", "largest", "wall time", "ideal", "ratio", "utilisation", "measured"):
        table.add_column(name, justify="right")
    for workers in options.workers:
        forecaster = Forecaster(
            options.device,
            flops=options.gflops and options.gflops * 1e9,
            ms_per_member_step=options.ms_per_member_step,
        )
        machine = Machine(workers, workers if options.device == "cuda" else 0)
        nowhere = Path(os.devnull)
        plan = make_plan(
            reading, Ledger(Results(nowhere)), RunInfo(nowhere, options.device), machine, forecaster=forecaster
        )
        forecasts = [forecaster.of(job) for job in plan.jobs]
        schedule = simulate([forecast.seconds for forecast in forecasts], workers)
        table.add_row(
            str(workers),
            str(len(plan.jobs)),
            str(max(len(job.members) for job in plan.jobs)),
            f"{schedule.makespan / 3600:,.2f} h",
            f"{schedule.ideal / 3600:,.2f} h",
            f"{schedule.ratio:.3f}",
            f"{schedule.utilisation:.1%}",
            f"{sum(forecast.measured for forecast in forecasts) / len(forecasts):.0%}",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if not all(forecast.measured for forecast in forecasts):
        console.print(NOMINAL)
    return 0


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, not {text!r}")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers greater than 0 and commas, not {text!r}")
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tune.simulation SPEC --cpus 1,8,64`: how long a grid would take on several numbers of workers."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from hvae_spec.command import run_command
from hvae_spec.output import code_of_output
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from tune.cli import console, positive_integers, positive_number, spec_parser
from tune.plan.devices import Machine
from tune.plan.forecast import NOMINAL, NOMINAL_FLOPS, Forecaster
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan
from tune.plan.schedule import simulate


@dataclass(frozen=True)
class SimulationOptions:
    """What the command was asked for."""

    spec: str
    overrides: Sequence[str]
    profile: str | None
    cpus: Sequence[int]
    device: str
    ms_per_member_step: float | None
    gflops: float | None


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tune.simulation") -> int:
    """The command. Returns the exit code."""
    return run_command(lambda: simulation(parse(arguments, prog)))


def parse(arguments: Sequence[str] | None, prog: str) -> SimulationOptions:
    """The options that a command line gives."""
    parser = spec_parser(prog, "Simulate a whole grid on several numbers of workers.")
    parser.add_argument(
        "--cpus",
        "--workers",
        type=positive_integers,
        default=(1, 8, 64),
        metavar="N,...",
        help="CPU cores, or GPUs with --device cuda, of which each runs a pack at a time (default: 1,8,64)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    parser.add_argument(
        "--ms-per-member-step",
        type=positive_number,
        metavar="X",
        help="duration of every member's step, whatever its shape (default: as measured by tune.run --measure; else "
        "from multiply-adds)",
    )
    parser.add_argument(
        "--gflops",
        type=positive_number,
        metavar="X",
        help="speed of a worker where nothing is measured "
        f"(default: {NOMINAL_FLOPS['cpu'] / 1e9:g} on a core, {NOMINAL_FLOPS['cuda'] / 1e9:g} on a GPU)",
    )
    return SimulationOptions(**vars(parser.parse_args(arguments)))


def simulation(options: SimulationOptions) -> int:
    """Print a row for every number of workers. Returns the exit code.

    Raises:
        UserError: the spec is not valid.

    """
    reading = read(options.spec, options.overrides, options.profile)
    table = Table(title=f"{reading.name}: {len(reading.members)} members on {options.device}, simulated")
    for name in ("workers", "packs", "largest", "wall time", "ideal", "ratio", "utilization", "measured"):
        table.add_column(name, justify="right")
    all_measured = True
    for workers in options.cpus:
        forecaster = Forecaster(
            options.device,
            flops=options.gflops and options.gflops * 1e9,
            ms_per_member_step=options.ms_per_member_step,
        )
        machine = Machine(workers, workers if options.device == "cuda" else 0)
        nowhere = Path(os.devnull)
        run = RunInfo(nowhere, options.device)
        plan = make_plan(reading, Ledger(Results(nowhere)), run, machine, forecaster=forecaster)
        forecasts = [forecaster.of(job) for job in plan.jobs]
        schedule = simulate([forecast.seconds for forecast in forecasts], workers)
        measured = sum(forecast.measured for forecast in forecasts)
        all_measured = all_measured and measured == len(forecasts)
        table.add_row(
            str(workers),
            str(len(plan.jobs)),
            str(max(len(job.members) for job in plan.jobs)),
            f"{schedule.makespan / 3600:,.2f} h",
            f"{schedule.ideal / 3600:,.2f} h",
            f"{schedule.ratio:.3f}",
            f"{schedule.utilization:.1%}",
            f"{measured / len(forecasts):.0%}",
        )
    terminal = console()
    terminal.print(table)
    if not all_measured:
        terminal.print(NOMINAL)
    return code_of_output()


if __name__ == "__main__":
    sys.exit(main())

"""`hvae slurm SPEC`: print the script of a SLURM job that trains a grid, or submit it."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hvae_spec.command import CommandParser, run_command
from hvae_spec.errors import MachineError, UserError, harmless
from hvae_spec.output import code_of_output
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.records.lock import check_is_folder
from hvae_spec.spec.load import Reading
from tune.cli import positive_integer, spec_parser, whole_number
from tune.execute.data_check import missing_lines
from tune.execute.phases import check_sources
from tune.options import add_options_of_members
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import Packing, Plan, make_plan
from tune.slurm.proposal import CPUS, propose
from tune.slurm.script import SHORTEST, JobScript, check_option, clock, seconds_of
from tune.slurm.submission import check_can_be_read_again, grid_digest

EPILOG = f"""\
examples:
  hvae slurm specs/mnist_grid.yaml > job.sh
  hvae slurm specs/mnist_grid.yaml --nodes 2 --cpus-per-task 32 --partition long --submit
  hvae slurm specs/mnist_grid.yaml --gpus-per-node 4 --setup 'module load cuda' --sbatch=--mem=64G

Nodes and time that are not given are proposed from the plan's forecast, with {CPUS} cores per node; `hvae plan SPEC
--measure` makes it one that is measured. A job whose time is up requeues itself until the grid is finished, so that a
short time costs no more than a start now and then. The results folder and the data must be on storage that every node
sees.

exit codes: 0 the script was printed or submitted; 1 the machine failed; 2 bad input, or sbatch refuses it.
"""
KEPT = ("HVAE_DATA_DIR", "RAY_TMPDIR")
"""Variables of the environment that mean the same in the job."""
ASKS_FOR_GPUS = re.compile(r"--gpus|-G|--gres=(.*[,/])?gpu\b")
"""Options of sbatch that ask for GPUs in other words."""
WITH_PATHS = ("results", "records")
"""Options that the run gets with whole paths."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tune.slurm") -> int:
    """The command. Returns the exit code."""
    return run_command(lambda: _run(arguments, prog))


def _run(arguments: Sequence[str] | None, prog: str) -> int:
    parser = spec_parser(
        prog, "Print the script of a SLURM job that trains and evaluates a grid, or submit it.", EPILOG
    )
    _add_job(parser)
    add_options_of_members(members := CommandParser(add_help=False))
    add_options_of_members(parser)
    options = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else list(arguments)
    script = job_script(options, f"{prog} {shlex.join(words)}", members.parse_args([]))
    if options.submit:
        sys.stdout.write(f"Submitted job {submit(script.text())}.\n")
    else:
        sys.stdout.write(script.text())
    return code_of_output()


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--submit", action="store_true", help="submit the script with sbatch, and print the job's number"
    )
    parser.add_argument(
        "--nodes", type=_nodes, metavar="N", help="nodes, or the fewest and the most, 1-4 (default: by the forecast)"
    )
    parser.add_argument(
        "--cpus-per-task",
        type=positive_integer,
        default=CPUS,
        metavar="N",
        help=f"CPU cores per node (default: {CPUS})",
    )
    parser.add_argument("--gpus-per-node", type=positive_integer, metavar="N", help="GPUs per node (default: none)")
    parser.add_argument(
        "--time",
        type=_time,
        metavar="T",
        help="time of one job, as SLURM writes it: 90 (minutes), 2:00:00, 1-12:00:00 (default: by the forecast, at "
        "most a day)",
    )
    parser.add_argument("--partition", metavar="NAME", help="the partition to run in")
    parser.add_argument("--account", metavar="NAME", help="the account to charge")
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="any further option of sbatch, e.g. --sbatch=--mem=64G (repeatable)",
    )
    parser.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="LINE",
        help="a line of shell code that the job runs first, e.g. 'module load cuda' (repeatable)",
    )
    parser.add_argument(
        "--max-requeues",
        type=whole_number,
        default=50,
        metavar="N",
        help="how often a job whose time is up goes back into the queue; 0: never, also after the loss of a node "
        "(default: 50)",
    )


def _nodes(text: str) -> str:
    match = re.fullmatch(r"([1-9]\d*)(?:-([1-9]\d*))?", text, re.ASCII)
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise argparse.ArgumentTypeError(
            f"expected a number of nodes, or the fewest and the most as in 1-4, not {text!r}"
        )
    return text


def _time(text: str) -> int:
    try:
        seconds = seconds_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a time as SLURM writes it, 90 (minutes), 2:00:00 or 1-12:00:00, not {text!r}"
        ) from None
    if seconds < SHORTEST:
        raise argparse.ArgumentTypeError(
            f"expected {clock(SHORTEST)} or more, not {text!r}: two minutes before the end the run is told to end, "
            "and its start takes a minute"
        )
    return seconds


def job_script(options: argparse.Namespace, command: str, usual: argparse.Namespace) -> JobScript:
    """The script that options ask for.

    Args:
        options: as they were parsed.
        command: the command line.
        usual: the options of the run, as they are where none is given.

    Raises:
        UserError: the spec, an option or the results folder is not valid.

    """
    for flag in ("partition", "account"):
        if (value := getattr(options, flag)) is not None:
            check_option(value, f"--{flag}")
    for option in options.sbatch:
        check_option(option, "--sbatch")
        if not option.startswith("-"):
            raise UserError(f"--sbatch {option}: expected an option of sbatch, such as --sbatch=--mem=64G")
        if not options.gpus_per_node and ASKS_FOR_GPUS.match(option):
            raise UserError(
                f"--sbatch {option}: the run would not use these GPUs; say with --gpus-per-node how many each node has"
            )
    check_can_be_read_again(options.spec)
    reading = read(options.spec, options.overrides, options.profile)
    results = _absolute(options.results or Path("results") / reading.name)
    check_is_folder(results)
    check_sources(options.records)
    gpus = options.gpus_per_node or 0

    def plan_on(nodes: int) -> Plan:
        return _plan(options, reading, results, nodes)

    # Nodes that compute often have no way to the internet.
    for line in missing_lines(plan_on(1)):
        sys.stderr.write(f"{line}\n")
    proposal = propose(plan_on, options.nodes, options.time)
    named = [f"--{flag}={value}" for flag in ("partition", "account") if (value := getattr(options, flag)) is not None]
    return JobScript(
        name=reading.name,
        command=command,
        forecast=proposal.forecast,
        nodes=proposal.nodes,
        cpus=options.cpus_per_task,
        gpus=gpus,
        seconds=proposal.seconds,
        sbatch=[*named, *options.sbatch],
        setup=options.setup,
        variables={name: value for name in KEPT if (value := os.environ.get(name))},
        folder=Path.cwd(),
        python=_absolute(Path(sys.executable)),
        spec=_absolute(Path(options.spec)),
        results=results,
        grid=grid_digest(reading),
        options=[f"--device={'cuda' if gpus else 'cpu'}", *_of_run(options, usual)],
        max_requeues=options.max_requeues,
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _plan(options: argparse.Namespace, reading: Reading, results: Path, nodes: int) -> Plan:
    """The plan on so many nodes."""
    gpus = nodes * (options.gpus_per_node or 0)
    machine = Machine(nodes * options.cpus_per_task, gpus, options.packs_per_gpu or 1, nodes=nodes)
    ledger = Ledger(Results(results), [Results(source) for source in options.records])
    run = RunInfo(results, machine.kind)
    return make_plan(
        reading, ledger, run, machine, Packing(options.pack_size, False, options.compile), retrain=options.retrain
    )


def _of_run(options: argparse.Namespace, usual: argparse.Namespace) -> Iterator[str]:
    """The options of the run, a word each, with whole paths."""
    yield from () if options.profile is None else (f"--profile={options.profile}",)
    yield from (f"--set={override}" for override in options.overrides)
    yield from (f"--records={_absolute(folder)}" for folder in options.records)
    for name, value in vars(usual).items():
        if name not in WITH_PATHS and getattr(options, name) != value:
            yield from _words(f"--{name.replace('_', '-')}", getattr(options, name))


def _words(flag: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield from (flag,) if value else ()
    else:
        yield from (f"{flag}={one}" for one in (value if isinstance(value, list) else [value]) if one is not None)


def submit(script: str) -> str:
    """Submit a script. Returns the job's number.

    Raises:
        UserError: SLURM refuses it.
        MachineError: there is no sbatch here.

    """
    try:
        done = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MachineError(
            "sbatch: no such command here; run this on a node from which jobs are submitted, or print the script "
            "without --submit and take it there"
        ) from None
    if done.returncode:
        raise UserError(f"sbatch refuses the job: {harmless(' '.join(done.stderr.split()))}")
    return done.stdout.strip().partition(";")[0]


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tune.run SPEC`: run an ablation grid, or what is left of it."""

import argparse
import glob
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from hvae_spec.errors import UserError
from hvae_spec.reading import read
from hvae_spec.records import Results
from tune.cluster import RayDiedError
from tune.planner import Plan, make_plan, write_pack
from tune.signals import Interrupted, Interruption
from tune.summary import print_plan, report

EPILOG = """\
examples:
  python -m tune.run specs/quickstart.yaml
  python -m tune.run specs/mnist_grid.yaml --plan
  python -m tune.run specs/mnist_grid.yaml --set training.epochs=20 --set objective.warm_up=5 --set grid.seeds=[0,1]

Run the same command again to go on after any kind of interruption, or after adding seeds, depths or variants: members
that are done are never repeated, and packs that were running continue from their last checkpoint.

exit codes: 0 all members finished; 1 some failed; 2 bad input; 3 some diverged and none failed; 130, 143 interrupted.
Data are looked for in HVAE_DATA_DIR, then in a per-user cache, and downloaded there if need be.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    options = parse(arguments)
    interruption = Interruption()
    console = Console(width=None if sys.stdout.isatty() else 120, soft_wrap=False)
    try:
        with interruption:
            return run(options, console, interruption)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except RayDiedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or 'a file'}: {error.strerror or error}\n")
        return 1
    except Interrupted as signal:
        sys.stderr.write(f"\nInterrupted ({signal}). The same command goes on from the last checkpoints.\n")
        return 128 + signal.number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.run",
        description="Train and evaluate every member of a spec's grid, and write tables and figures of the results.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="the YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a field of the spec, e.g. training.epochs=20 (repeatable; checked like the file)",
    )
    parser.add_argument("--plan", action="store_true", help="check everything, print what would run, and stop")
    parser.add_argument(
        "--serial", action="store_true", help="run without Ray, one pack after another, in this process"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto (CUDA where there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="results folder (default: results/<name>)")
    parser.add_argument(
        "--address", metavar="A", help="run on an existing Ray cluster (`auto` finds one on this machine)"
    )
    parser.add_argument("--cpus", type=_positive, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument(
        "--pack-size", type=_positive, metavar="N", help="most members to train in one pack (default: by cost)"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number greater than 0, not {text!r}")
    return int(text)


def run(options: argparse.Namespace, console: Console, interruption: Interruption) -> int:
    """Plan, and unless only the plan is wanted, run it and report. Returns the exit code.

    Raises:
        UserError: the spec, a flag, the data or the results folder will not do.
        Interrupted: by a signal.

    """
    reading = read(options.spec, options.set)
    results = Results(options.results or Path("results") / reading.experiment.name)
    _check_flags(options, results)
    plan = _plan(options, results, reading)
    if options.plan:
        print_plan(plan, console)
        return 0
    with locked(results.root):
        # Planned again now that nobody else writes there.
        plan = _plan(options, Results(results.root), reading)
        _check_data(plan)
        plan.write_grid()
        for job in plan.jobs:
            write_pack(job)
        _run(plan, options, console, interruption)
        return report(plan, console)


def _check_flags(options: argparse.Namespace, results: Results) -> None:
    """Refuse a device that is none, and a results folder that is no folder, before anything is planned."""
    try:
        is_file = results.root.exists() and not results.root.is_dir()
    except OSError as error:
        raise UserError(f"{results.root}: cannot be used as a results folder ({error.strerror})") from None
    if is_file:
        raise UserError(f"{results.root}: cannot be used as a results folder (it is a file)")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise UserError(f"--device {options.device}: expected auto, cpu, cuda or cuda:0 and so on")
    if options.device.startswith("cuda") and not options.plan and not options.address:
        from hvae_spec.compiler import pick_device

        pick_device(options.device)
        if options.device != "cuda" and not options.serial:
            # Ray shows each worker its own device only, under the name `cuda`.
            os.environ["CUDA_VISIBLE_DEVICES"] = options.device.removeprefix("cuda:")
            options.device = "cuda"


def _plan(options: argparse.Namespace, results: Results, reading: Any) -> Plan:
    cores, gpus = options.cpus or len(os.sched_getaffinity(0)), _gpus(options.device)
    from hvae_spec.provenance import git_state

    return make_plan(
        reading,
        results,
        device=options.device if gpus or options.address else "cpu",
        cores=cores,
        gpus=gpus,
        pack_size=options.pack_size,
        serial=options.serial,
        git=None if options.plan else git_state(),
    )


def _gpus(device: str) -> int:
    """CUDA devices to use, told without torch: those that the driver shows and CUDA_VISIBLE_DEVICES allows."""
    if device == "cpu":
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(glob.glob("/dev/nvidia[0-9]*"))
    if visible is not None:
        present = min(present, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    return min(present, 1) if device.startswith("cuda:") else present


def _check_data(plan: Plan) -> None:
    """Load every data set once, so that what is missing is downloaded, or told, before anything runs."""
    from hvae_spec.data.dataset import load_dataset

    specs = {member.spec.data for job in plan.jobs for member in job.members}
    for name in sorted({spec.dataset for spec in specs}):
        load_dataset(next(spec for spec in specs if spec.dataset == name))


def _run(plan: Plan, options: argparse.Namespace, console: Console, interruption: Interruption) -> None:
    from tune.display import Display

    if not plan.jobs:
        console.print("Nothing is left to run.")
        return
    members = sum(not member.is_done(Results(job.results)) for job in plan.jobs for member in job.members)
    done = plan.counts["finished"] + plan.counts["diverged"]
    already = f" ({done} are done already)" if done else ""
    console.print(f"Running {members} members in {len(plan.jobs)} packs, {plan.workers} at a time{already}.")
    with Display(plan, console) as display:
        if options.serial:
            from tune.serial import run_serially

            run_serially(plan.jobs, display)
        else:
            from tune.cluster import run_on_ray

            cores = options.cpus or len(os.sched_getaffinity(0))
            gpus = _gpus(options.device)
            run_on_ray(plan.jobs, display, interruption, cores=cores, gpus=gpus, address=options.address)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other runs out of a results folder.

    Raises:
        UserError: another run is at work there, or the folder cannot be written.

    """
    import filelock

    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(root / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{root}: another run is at work in this folder{_holder(root)}; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise UserError(f"{root}: cannot be used as a results folder ({error.strerror})") from None
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    try:
        (root / ".holder.json").write_text(json.dumps(holder))
        for scratch in root.glob(".ray-*"):
            shutil.rmtree(scratch, ignore_errors=True)
        yield
    finally:
        (root / ".holder.json").unlink(missing_ok=True)
        lock.release()


def _holder(root: Path) -> str:
    try:
        holder = json.loads((root / ".holder.json").read_text())
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return ""


if __name__ == "__main__":
    sys.exit(main())

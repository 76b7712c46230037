"""`python -m tune.run SPEC`: run an ablation grid, or what is left of it."""

import argparse
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

import yaml
from rich.console import Console

from hvae_spec.errors import UserError
from hvae_spec.reading import read
from hvae_spec.records.layout import SPEC, Record, Results
from hvae_spec.records.provenance import source_state
from hvae_spec.spec.load import Reading
from tune.execute.cluster import RayDiedError
from tune.execute.data_check import check_data
from tune.execute.phases import check_first_phases, rounds
from tune.execute.signals import Interrupted, Interruption
from tune.plan import devices
from tune.plan.forecast import Forecaster
from tune.plan.measuring import measure_all
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import COMPILING, Machine, Packing, Plan, make_plan
from tune.rerun import rerun
from tune.show.summary import print_adopted, print_plan, report

EPILOG = """\
examples:
  python -m tune.run specs/quickstart.yaml
  python -m tune.run specs/mnist_grid.yaml --plan --measure
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
    parser.add_argument(
        "spec", metavar="SPEC", help="the YAML file; or a member's folder, whose pack is run again and compared with it"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a field of the spec, e.g. training.epochs=20 (repeatable; checked like the file)",
    )
    parser.add_argument("--profile", metavar="NAME", help="apply one of the spec's profiles, e.g. quick (before --set)")
    parser.add_argument("--plan", action="store_true", help="check everything, print what would run, and stop")
    parser.add_argument(
        "--print-spec",
        action="store_true",
        help="print the resolved spec of the grid, or of a member's folder, and stop",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train members again whose learning curves have other settings than asked for (evaluation.every, "
        "evaluation.curve_iw_samples); their records are moved to retired/",
    )
    parser.add_argument(
        "--keep-optimizer",
        choices=("yes", "no"),
        default="yes",
        help="keep the optimizer's state, twice the size of the weights, with which a longer training goes on from a "
        "finished one (default: yes)",
    )
    parser.add_argument(
        "--serial", action="store_true", help="run without Ray, one pack after another, in this process"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto (CUDA where there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="results folder (default: results/<name>)")
    parser.add_argument(
        "--records",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another results folder: members that are finished there are not trained again, their records are copied; "
        "and fine-tuned members may find their first phase there (repeatable)",
    )
    parser.add_argument(
        "--address", metavar="A", help="run on an existing Ray cluster (`auto` finds one on this machine)"
    )
    parser.add_argument("--cpus", type=_positive, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument(
        "--pack-size",
        type=_positive,
        metavar="N",
        help="most members to train in one pack (default: as many as make a member-step cheapest)",
    )
    parser.add_argument(
        "--packs-per-gpu",
        type=_positive,
        metavar="N",
        help="packs that share a GPU (default: as many as there are cores for each GPU, at most 16, where NVIDIA's MPS "
        "runs; else 1)",
    )
    parser.add_argument(
        "--compile",
        choices=COMPILING,
        default="auto",
        help="compile training steps with torch.compile: auto is where it pays, in long training (default: auto)",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="first measure, for seconds each (a minute where compiled), the shapes not yet measured on this machine: "
        "pack sizes, the time left, and with --plan a forecast of times and memory rest on it",
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
    if (Path(options.spec) / SPEC).exists():
        return _one_record(options, console)
    reading = read(options.spec, options.set, options.profile)
    if options.print_spec:
        tree = reading.experiment.model_dump(mode="json", exclude={"profiles"})
        sys.stdout.write(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return 0
    results = Results(options.results or Path("results") / reading.experiment.name)
    _check_flags(options, results)
    check_first_phases(reading, results, options.records)
    if options.plan:
        print_plan(_plan(options, results, reading, console), console)
        return 0
    with locked(results.root):
        plan = _plan(options, results, reading, console)
        check_data(plan)
        print_adopted(plan, console)
        plan.prepare()
        _run(plan, options, console, interruption)
        return report(plan, console)


def _one_record(options: argparse.Namespace, console: Console) -> int:
    """What the command does for a member's folder: print its spec, or run its pack again."""
    folder = Path(options.spec)
    if options.print_spec:
        tree = Record(folder).spec.model_dump(mode="json")
        name, seed = folder.resolve().name, tree.pop("seed")
        text = yaml.safe_dump({"name": name, **tree, "grid": {"seeds": [seed]}}, sort_keys=False, allow_unicode=True)
        sys.stdout.write(text)
        return 0
    return rerun(folder, options.device, console)


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


def _plan(options: argparse.Namespace, results: Results, reading: Reading, console: Console) -> Plan:
    """The plan, with --measure after everything that it rests on has been measured."""
    gpus, cores = devices.gpus(options.device), options.cpus or devices.cores()
    kind = "cuda" if gpus else "cpu"
    if options.packs_per_gpu is None:
        options.packs_per_gpu = 1 if options.address else devices.packs_per_gpu(gpus, cores)
    if options.compile == "always" and not devices.can_compile(kind):
        needed = "a C++ compiler (g++, clang++ or $CXX)" if kind == "cpu" else "the package triton"
        raise UserError(f"--compile always: torch.compile needs {needed}, which is not there")
    forecaster = Forecaster(kind)
    sources = [Results(source) for source in options.records]
    run = RunInfo(
        results.root.resolve(),
        options.device if gpus or options.address else "cpu",
        tuple(sys.argv),
        None if options.plan else source_state(results),
        options.keep_optimizer == "yes",
        tuple(source.resolve() for source in options.records),
    )
    machine = Machine(cores, gpus, options.packs_per_gpu, None if options.address else devices.memory(kind))
    packing = Packing(options.pack_size, options.serial, options.compile)
    ledger = Ledger(results, sources)

    def plan_now() -> Plan:
        return make_plan(reading, ledger, run, machine, packing, forecaster=forecaster, retrain=options.retrain)

    plan = plan_now()
    # How long a shape takes decides what of it is compiled, and that what else is to be measured.
    while options.measure and (missing := forecaster.unmeasured(plan.jobs)):
        measure_all(missing, forecaster, console)
        plan = plan_now()
    return plan


def _run(plan: Plan, options: argparse.Namespace, console: Console, interruption: Interruption) -> None:
    from tune.show.display import Display

    if not plan.jobs:
        console.print("Nothing is left to run.")
        return
    members = sum(need.what in ("training", "evaluation") for need in plan.needs)
    done = plan.counts["finished"] + plan.counts["diverged"]
    already = f" ({done} are done already)" if done else ""
    console.print(f"Running {members} members in {len(plan.jobs)} packs, {plan.workers} at a time{already}.")
    if 0 < plan.machine.gpus < len(plan.jobs) and not options.serial and not options.address and not devices.has_mps():
        console.print(
            "Packs on a GPU take turns. With NVIDIA's MPS (nvidia-cuda-mps-control -d) they run side by side."
        )
    with Display(plan, console) as display:
        for jobs in rounds(plan.jobs, display):
            if options.serial:
                from tune.execute.serial import run_serially

                run_serially(jobs, display)
            else:
                from tune.execute.cluster import run_on_ray

                run_on_ray(
                    jobs,
                    display,
                    interruption,
                    cores=options.cpus or devices.cores(),
                    gpus=plan.machine.gpus,
                    workers=plan.workers,
                    packs_per_gpu=options.packs_per_gpu,
                    address=options.address,
                )


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
        for scratch in (*root.glob(".ray-*"), *root.glob(".adopted-*")):
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

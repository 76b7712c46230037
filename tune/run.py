"""`python -m tune.run SPEC`: run an ablation grid, or what is left of it. From Python: `grid`."""

import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from hvae_spec.command import check_packages, working_folder_left_out
from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.listeners.follower import Follower
from hvae_spec.listeners.listener import Listener
from hvae_spec.listeners.notifier import Notifier, in_words, notified
from hvae_spec.output import code_of_output, fault
from hvae_spec.reading import read, reads
from hvae_spec.records.extensions import files, folders_of
from hvae_spec.records.layout import SHORT, Record, Results
from hvae_spec.records.lock import check_is_folder, locked
from hvae_spec.records.provenance import source_state
from hvae_spec.records.result import DONE
from hvae_spec.spec.experiment import MAX_NAME, Experiment
from hvae_spec.spec.load import Reading
from hvae_spec.spec.yaml import dump
from tune.cli import check_device, console, run_interruptible
from tune.execute.pack_listener import MembersOfPacks
from tune.execute.phases import check_first_phases, check_sources, rounds
from tune.execute.ray_job import check_is_kept, cluster_of_job
from tune.execute.signals import Interrupted, Interruption, hangups_ignored
from tune.listener_option import listener_of
from tune.options import RunOptions, not_of_a_record, parse, parse_call
from tune.plan import devices
from tune.plan.devices import Machine
from tune.plan.forecast import Forecaster
from tune.plan.measuring import measure_all
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import Packing, Plan, make_plan
from tune.show.summary import (
    check_report,
    print_adopted,
    print_faults,
    print_found,
    print_plan,
    print_rungs,
    print_seeds,
    report,
)

if TYPE_CHECKING:
    from analysis.frames import Frames

TENSORBOARD = "tensorboard"
"""The folder in a results folder that `--tensorboard` writes."""
TEXT = "<text>"
"""What messages call a spec that is no file."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tune.run") -> int:
    """The command. Returns the exit code."""
    return run_interruptible(
        lambda interruption: run(parse(arguments, prog), console(), interruption),
        advice="The same command goes on from the last checkpoints.",
    )


def run(options: RunOptions, console: Console, interruption: Interruption) -> int:
    """Plan, and unless only the plan is wanted, run it and report. Returns the exit code.

    Raises:
        UserError: the spec, a flag, the data or the results folder is not valid.
        Interrupted: by a signal.

    """
    if Record(Path(options.spec)).has_spec:
        return _one_record(options, console)
    reading = read(options.spec, options.overrides, options.profile)
    if options.print_spec:
        return _print(reading.experiment.model_dump(mode="json", exclude={"profiles"}))
    return run_reading(reading, options, console, interruption)


def grid(
    spec: str | Path | Experiment,
    results: str | Path | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    profile: str | None = None,
    **options: Any,
) -> "Frames":
    """Run a grid, or what is left of it, as `python -m tune.run` does: show progress, write the report, and go on from
    the last checkpoints where an earlier call or command was interrupted. Nothing that is done is run twice.

    For instance::

        import tune.run

        frames = tune.run.grid("specs/quickstart.yaml", set={"training.epochs": 20, "grid.seeds": [0, 1]}, serial=True)
        frames.members.groupby(["depth", "variant"]).test_log_likelihood.mean()

    Args:
        spec: a spec's path; the spec itself as text, of several lines or in braces; or an experiment
            (`hvae_spec.load`). What a text names lies relative to the working folder.
        results: the results folder; None: results/<name>.
        set: fields of the spec to override, by dotted path, after the profile. They are checked like the file.
        profile: one of the spec's profiles.
        options: those of the command, with `_` for `-`: `serial=True` runs in this process, without Ray;
            `device="cpu"`, `cpus=2`, `records=["results/other"]`, `retrain=True`, ... A script that runs without
            `serial=True` does so under `if __name__ == "__main__":`.

    Returns:
        What the results folder holds then (`analysis.load`). Members that diverged or failed are there with that
        status; the summary that is printed names them.

    Raises:
        UserError: what ends the command with exit code 2, such as a bad spec, option or data set, or a folder in which
            another run is at work; as MachineError also what the disk refuses.
        KeyboardInterrupt: by Ctrl-C, or a notebook's button. The same call goes on from the last checkpoints.

    """
    path = TEXT if isinstance(spec, Experiment) or _is_text(spec) else os.fspath(spec)
    chosen = parse_call(path, results, set, profile, options)
    interruption = Interruption(may_leave=False)
    try:
        check_packages()
        with working_folder_left_out(), interruption:
            if path != TEXT and Record(Path(chosen.spec)).has_spec:
                raise UserError(f"{chosen.spec}: a member's folder, not a grid; hvae_spec.load_record loads it")
            reading = _read(spec, chosen)
            run_reading(reading, chosen, console(), interruption)
    except OSError as error:
        raise MachineError(refusal(chosen.spec, error)) from None
    except Interrupted:
        pass
    if interruption.number is not None:
        signal.raise_signal(interruption.number)  # as if nothing had watched for it
        raise KeyboardInterrupt
    import analysis

    return analysis.load(_results(reading, chosen))


def _is_text(spec: str | Path) -> bool:
    """Whether this is a spec, and not the path of one."""
    return isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("{"))


def _read(spec: str | Path | Experiment, options: RunOptions) -> Reading:
    """The grid of a spec's path, text or experiment. Raises SpecError."""
    if isinstance(spec, Experiment):
        spec = dump(spec.model_dump(mode="json"))
    if _is_text(spec):
        return reads(str(spec), options.spec, options.overrides, options.profile)
    return read(options.spec, options.overrides, options.profile)


def _results(reading: Reading, options: RunOptions) -> Path:
    return options.results or Path("results") / reading.name


def run_reading(reading: Reading, options: RunOptions, console: Console, interruption: Interruption) -> int:
    """Plan a grid that has been read, and unless only the plan is wanted, run it and report. Returns the exit code.

    Raises:
        UserError: a flag, the data or the results folder is not valid.
        Interrupted: by a signal.

    """
    results = Results(_results(reading, options))
    check_is_folder(results.root)
    check_is_kept(results.root)
    options = _with_device(_with_cluster(options))
    machine = _machine(options)
    check_sources(options.records)
    from tune.execute.data_check import check_data, check_left_out, found_images, missing_lines

    if options.plan:
        plan = _plan(options, machine, results, reading, console)
        print_plan(plan, console, [*found_images(plan), *missing_lines(plan)])
        return code_of_output()

    listeners = _listeners(options, results)
    with hangups_ignored(), locked(results.root), notified(listeners, lambda line: _say(line, console)) as notifiers:
        plan = _plan(options, machine, results, reading, console)
        check_left_out(plan)
        found = [*check_data(plan), *missing_lines(plan)]
        check_report()
        print_found(found, console)
        print_adopted(plan, console)
        print_faults(plan.faults, console)
        plan.prepare()
        if options.tensorboard:
            folder = results.root / TENSORBOARD
            words = f"Curves and images as they come: tensorboard --logdir {shlex.quote(str(folder))}"
            console.print(words, soft_wrap=True)
            _write_done(plan, folder, console)
        compared = _run(plan, options, machine, console, interruption, notifiers)
        while plan.awaits_records:
            further = _plan(options, machine, Results(results.root), reading, console)
            print_seeds(further, console)
            print_rungs(further, console)
            if len(further.needs) == len(plan.needs):
                break
            plan = further
            plan.prepare()
            compared |= _run(plan, options, machine, console, interruption, notifiers)
        code = report(plan, console, compared)
        if (lost := fault()) is not None:
            sys.stderr.write(f"standard output: {lost.strerror}, so that some of it is lost; the run is complete\n")
        return code


def _one_record(options: RunOptions, console: Console) -> int:
    """What the command does for a member's folder: print its spec, or run its pack again.

    Raises:
        UserError: an option was given that does not apply to it.

    """
    folder = Path(options.spec)
    if extra := not_of_a_record(options):
        raise UserError(
            f"{folder}: {', '.join(extra)} cannot be given with a member's folder, which is run again as it is "
            "recorded; to train it otherwise, print its spec (--print-spec) and run that"
        )
    if not options.print_spec:
        from tune.rerun import rerun

        return rerun(folder, options.device, console, options.records)
    record = Record(folder)
    spec = record.spec
    tree = spec.model_dump(mode="json", exclude={"own_weights", "parts"})
    seed = tree.pop("seed")
    if spec.parts:
        tree = {"extensions": files(spec, folders_of(record)), **tree}
    name = folder.resolve().name
    if len(name) > MAX_NAME:
        # The end is what differs among members.
        name = f"{name[: MAX_NAME - SHORT - 1]}-{name[-SHORT:]}"
    return _print({"name": name, **tree, "grid": {"seeds": [seed]}})


def _print(spec: dict[str, Any]) -> int:
    """Print a spec as YAML that can be read again. Returns the exit code."""
    sys.stdout.write(dump(spec))
    return code_of_output()


def _with_cluster(options: RunOptions) -> RunOptions:
    """The options with the address of the cluster whose job this is, if it is one and they have none."""
    if options.address or options.serial:
        return options
    return replace(options, address=cluster_of_job())


def _with_device(options: RunOptions) -> RunOptions:
    """The options with the device by the name that workers know it by.

    Raises:
        UserError: there is no such device.

    """
    check_device(options.device)
    if not options.device.startswith("cuda") or options.plan or options.address:
        return options
    from hvae_spec.compiler import pick_device

    pick_device(options.device)
    if options.device == "cuda" or options.serial:
        return options
    # Ray shows each worker its own device only, under the name `cuda`.
    os.environ["CUDA_VISIBLE_DEVICES"] = options.device.removeprefix("cuda:")
    return replace(options, device="cuda")


def _machine(options: RunOptions) -> Machine:
    """What packs may use of this machine, or of the cluster.

    Raises:
        UserError: steps cannot be compiled here.

    """
    gpus, cores = devices.gpus(options.device), options.cpus or devices.cores()
    kind = "cuda" if gpus else "cpu"
    if options.compile == "always" and not devices.can_compile(kind):
        needed = "a C++ compiler (g++, clang++ or $CXX)" if kind == "cpu" else "the package triton"
        raise UserError(f"--compile always: torch.compile needs {needed}, which is not there")
    shared = 1 if options.address else devices.packs_per_gpu(gpus, cores)
    memory = None if options.address else devices.memory(kind)
    return Machine(cores, gpus, options.packs_per_gpu or shared, memory, options.nodes)


def _plan(options: RunOptions, machine: Machine, results: Results, reading: Reading, console: Console) -> Plan:
    """The plan, with --measure after everything that it rests on has been measured."""
    from tune.execute.data_check import absent_data

    ledger = Ledger(results, [Results(source) for source in options.records])
    forecaster = Forecaster(machine.kind)
    run = RunInfo(
        results.root.resolve(),
        options.device if machine.gpus or options.address else "cpu",
        options.command,
        None if options.plan else source_state(results),
        options.keep_optimizer == "yes",
        tuple(source.resolve() for source in options.records),
    )
    packing = Packing(options.pack_size, options.serial, options.compile, here=options.address is None)

    absent = absent_data(reading.cells) if options.skip_missing_data else {}

    def plan_now() -> Plan:
        return make_plan(
            reading, ledger, run, machine, packing, forecaster=forecaster, retrain=options.retrain, absent=absent
        )

    plan = plan_now()
    # How long a shape takes decides how large its packs are and which may be compiled, and that what else is measured.
    while options.measure and (missing := forecaster.unmeasured(plan.jobs)):
        measure_all(missing, forecaster, reading.cells, console)
        plan = plan_now()
    check_first_phases(plan, options.records)
    return plan


def _listeners(options: RunOptions, results: Results) -> list[Listener]:
    """Those that were asked for.

    Raises:
        UserError: there is no such listener, or it cannot be made.

    """
    found = [listener_of(text) for text in options.listener]
    if options.tensorboard:
        from hvae_spec.listeners.tensorboard import TensorBoard

        found.append(TensorBoard(results.root / TENSORBOARD))
    return found


def _write_done(plan: Plan, folder: Path, console: Console) -> None:
    """Write for TensorBoard the members that were done before this run, as far as they are not written."""
    from hvae_spec.listeners.tensorboard import TensorBoard

    board = TensorBoard(folder)
    running = {member.digests.evaluation for job in plan.jobs for member in job.members}
    for member in (need.member for need in plan.needs):
        record, digest = Record(plan.results.root / "members" / member.folder), member.digests.evaluation
        if digest not in running and not board.has(member.folder) and record.status(digest) in DONE:
            try:
                Follower(member, record).tell(board)
            except Exception as error:  # what is drawn is no reason not to train
                _say(f"TensorBoard, {member.folder}: {in_words(error)}", console)


def _say(line: str, console: Console) -> None:
    console.print(Text(line, style="yellow"), soft_wrap=True)


def _run(
    plan: Plan,
    options: RunOptions,
    machine: Machine,
    console: Console,
    interruption: Interruption,
    notifiers: Sequence[Notifier],
) -> dict[str, None]:
    """Run a plan. Returns what packs found of compiled steps, in words."""
    from tune.show.display import Display

    if not plan.jobs:
        console.print("Nothing is left to run.")
        return {}
    members = sum(need.what in ("training", "evaluation") for need in plan.needs)
    done = plan.counts["finished"] + plan.counts["diverged"]
    already = f" ({done} are done already)" if done else ""
    console.print(f"Running {members} members in {len(plan.jobs)} packs, {plan.workers} at a time{already}.")
    if 0 < machine.gpus < len(plan.jobs) and not options.serial and not options.address and not devices.has_mps():
        console.print(
            "Packs on a GPU take turns. With NVIDIA's MPS (nvidia-cuda-mps-control -d) they run side by side."
        )
    with Display(plan, console, interruption) as display:
        listener = MembersOfPacks({job.pack_id: job for job in plan.jobs}, display, notifiers)
        for jobs in rounds(plan.jobs, listener, plan.workers, lambda job: plan.forecaster.of(job).seconds):
            if options.serial:
                from tune.execute.serial import run_serially

                run_serially(jobs, listener)
            else:
                from tune.execute.trials import run_on_ray

                where = f"joining the Ray cluster at {options.address}" if options.address else "starting Ray"
                display.line(f"{where} ...")
                run_on_ray(
                    jobs,
                    listener,
                    interruption,
                    machine=machine,
                    workers=plan.workers,
                    grace=options.grace,
                    say=display.line,
                    address=options.address,
                )
    return display.found


if __name__ == "__main__":
    sys.exit(main())

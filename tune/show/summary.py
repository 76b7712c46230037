"""What a command prints before and after a grid runs: the plan, and the truth about its results."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice

from rich.console import Console
from rich.table import Table

from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Record, Results
from hvae_spec.records.result import DONE, Status
from hvae_spec.spec.cost import parameters
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import Member
from hvae_spec.spec.labels import headings, level_text
from tune.measure.cache import shape_name
from tune.plan.forecast import NOMINAL, UPPER_BOUND, Forecast
from tune.plan.planner import Plan
from tune.plan.schedule import simulate
from tune.plan.shapes import Shape, key_of, shapes
from tune.show.display import clock_time

CELLS, PACKS, MEMBERS = 100, 20, 20
TRIALS = 8
"""Most rows that are printed of each."""


def print_plan(plan: Plan, console: Console, found: Sequence[str] = ()) -> None:
    """Print grids, cells, which images were found, packs, what is done, what becomes of other records, and a
    forecast.
    """
    if len(plan.reading.grids) > 1:
        _print_grids(plan, console)
    _print_cells(plan, console)
    print_seeds(plan, console)
    print_rungs(plan, console)
    print_found(found, console)
    print_adopted(plan, console)
    for note in plan.notes:
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    print_faults(plan.faults, console)
    if plan.jobs:
        _print_packs(plan, console)
        _print_compiling(plan, console)
        _print_forecast(plan, console)
    console.print(to_do(plan) + ".", soft_wrap=True, highlight=False)
    console.print(f"Results: {plan.results.root}", soft_wrap=True, highlight=False)


def print_found(found: Sequence[str], console: Console) -> None:
    """Print what was found where images of the user's own are."""
    for line in found:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def to_do(plan: Plan) -> str:
    """What is done and what is to do, in words: `5 finished, 0 diverged, 33 trained, 33 to evaluate, 7 to run`."""
    counts = Counter(need.what for need in plan.needs)
    continued = sum(need.extends is not None for need in plan.needs if need.what == "training")
    parts = [f"{plan.counts['finished']} finished", f"{plan.counts['diverged'] + counts['divergence']} diverged"]
    if counts["evaluation"]:
        parts += [f"{plan.counts['trained']} trained", f"{counts['evaluation']} to evaluate"]
    parts += [f"{plan.counts[status]} {status}" for status in ("failed", "damaged") if plan.counts[status]]
    if plan.left_out:
        parts.append(f"{len(plan.left_out)} left out")
    parts.append(f"{counts['training']} to run" + f" ({continued} from a shorter training)" * bool(continued))
    return ", ".join(parts)


def print_adopted(plan: Plan, console: Console) -> None:
    """Print how many members are taken from which other results folders."""
    taken = Counter((need.status, need.adopted.folder.parent.parent) for need in plan.needs if need.adopted is not None)
    for (status, folder), count in taken.items():
        console.print(f"{count} {status} in {folder}: taken from there.", soft_wrap=True, highlight=False)


def print_faults(faults: Sequence[str], console: Console) -> None:
    """Print what is damaged."""
    for fault in faults[:MEMBERS]:
        console.print(f"Damaged: {fault}", soft_wrap=True, highlight=False, markup=False)
    _more(len(faults), MEMBERS, "damaged files", console)


def _table(title: str, columns: Iterable[str], left: Iterable[str] = ()) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def _more(count: int, limit: int, noun: str, console: Console) -> None:
    if count > limit:
        console.print(f"... and {count - limit:,} more {noun}", highlight=False)


def _print_grids(plan: Plan, console: Console) -> None:
    """How many members each of several grids has, how many of them grids above it have, too, and the union."""
    grids, total = plan.reading.grids, len(plan.statuses)
    title = f"{plan.reading.name}: {len(grids)} grids, {total} members"
    table = _table(title, ("grid", "cells", "members", "in grids above", "of its own", "to run"), left=("grid",))
    asked = {need.member.digests.evaluation: need.what for need in plan.needs}
    above: set[str] = set()
    every = 0
    for grid in grids:
        digests = {member.digests.evaluation for member in grid.members}
        new = digests - above
        run = sum(asked[digest] in ("training", "evaluation") for digest in new)
        table.add_row(grid.name, *map(str, (len(grid.cells), len(digests), len(digests & above), len(new), run)))
        above |= digests
        every += len(digests)
    table.add_section()
    run = sum(what in ("training", "evaluation") for what in asked.values())
    table.add_row("together", *map(str, (len(plan.reading.cells), every, every - total, total, run)))
    console.print(table)


def _print_cells(plan: Plan, console: Console) -> None:
    cells = plan.reading.cells
    axes = headings(dict.fromkeys(axis for cell in cells for axis in cell.factors))
    grids = [grid.name for grid in plan.reading.grids for _ in grid.cells]
    several = len(plan.reading.grids) > 1
    labels = (
        *(("grid",) if several else ()),
        *("data set", "depth", "variant"),
        *axes.values(),
    )
    of_grids = f" in {len(plan.reading.grids)} grids" if several else ""
    title = f"{plan.reading.name}: {len(cells)} cells{of_grids}, {len(plan.statuses)} members"
    asked = {need.member.digests.evaluation: need.what for need in plan.needs}
    again = ("to evaluate",) if "evaluation" in asked.values() else ()
    columns = (*labels, "parameters", "seeds", "finished", "diverged", "failed", *again, "to run")
    table = _table(title, columns, left=("grid", "data set", "variant"))
    for grid, cell in zip(grids[:CELLS], cells, strict=False):
        statuses = [plan.statuses[member.digests.evaluation] for member in cell.members]
        places = [level_text(cell.factors[axis]) if axis in cell.factors else "" for axis in axes]
        wanted = [asked[member.digests.evaluation] for member in cell.members]
        counts = [statuses.count(status) for status in ("finished", "diverged", "failed")]
        counts[1] += wanted.count("divergence")
        counts += [wanted.count("evaluation")] * len(again) + [wanted.count("training")]
        numbers = [str(count or "") for count in counts]
        size = f"{parameters(cell.member, image_pixels(cell.member.data)):,}"
        own = (grid,) if several else ()
        table.add_row(*own, cell.dataset, str(cell.depth), cell.variant, *places, size, str(len(statuses)), *numbers)
    console.print(table)
    _more(len(cells), CELLS, "cells", console)


def print_seeds(plan: Plan, console: Console) -> None:
    """Print how many seeds there are where they come in two stages: at first, as far as is known, and at most."""
    for grid in plan.reading.grids:
        stages, blocks = grid.experiment.grid.stages, plan.blocks.get(grid.name, [])
        if stages is None:
            continue
        axes = headings(dict.fromkeys(key for block in blocks for key in block.place))
        title = f"Seeds of {grid.name}, for intervals of ±{stages.half_width:g} nats of every {stages.of}"
        labels = ("data set", "depth", *axes.values())
        table = _table(title, (*labels, "from", "expected", "at most"), left=("data set",))
        for block in blocks[:CELLS]:
            places = [level_text(block.place[key]) for key in ("dataset", "depth", *axes)]
            expected = "unknown" if block.seeds is None else str(block.seeds)
            if block.takes is not None and block.takes != block.seeds:
                # Pandas and SciPy take a second to import.
                from analysis.statistics.two_stages import takes_text

                expected += f" (takes {takes_text(block.takes)})"
            table.add_row(*places, str(stages.first), expected, str(stages.at_most))
        console.print(table)
        _more(len(blocks), CELLS, "rows", console)


def print_rungs(plan: Plan, console: Console) -> None:
    """Print the rungs of searches, as far as they are reached, and what is to come."""
    for grid in plan.reading.grids:
        search, rungs = grid.experiment.search, plan.rungs.get(grid.name, [])
        if search is None:
            continue
        axes = list(dict.fromkeys(key for rung in rungs for key in rung.place))
        places = [key for key in axes if len({str(rung.place[key]) for rung in rungs}) > 1]
        title = f"Search of {grid.name}: {search.trials} points of {len(search.space)} settings"
        table = _table(
            title, (*(key.rsplit(".", 1)[-1] for key in places), "epochs", "points", "go on"), left=("go on",)
        )
        for rung in rungs[:CELLS]:
            kept = "not known yet" if rung.kept is None else _names(rung.kept) or "none"
            table.add_row(*(str(rung.place[key]) for key in places), str(rung.epochs), str(rung.trials), kept)
        console.print(table)
        _more(len(rungs), CELLS, "rungs", console)
        console.print(_search_to_come(grid.experiment), highlight=False)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:TRIALS])
    return shown if len(names) <= TRIALS else f"{shown} and {len(names) - TRIALS} more"


def _search_to_come(experiment: Experiment) -> str:
    """As in `40 points to epoch 50, 13 to 150, 4 to 450; then the best on 3 new seeds`."""
    search, epochs = experiment.search, experiment.training.epochs
    if search is None:
        return ""
    ends = [epochs] if search.halving is None else search.halving.rungs(epochs)
    count, parts = search.trials, list[str]()
    for end in ends:
        parts.append(f"{count} {'points ' * (not parts)}to epoch {end}")
        count = count if search.halving is None else search.halving.kept(count)
    return f"{', '.join(parts)}; then the best on {search.confirm} new seeds."


def _print_packs(plan: Plan, console: Console) -> None:
    title = f"{len(plan.jobs)} packs to run, {plan.workers} at a time"
    table = _table(title, ("pack", "members", "threads", "compiled", "state"), left=("pack", "state"))
    names = Counter(job.name for job in plan.jobs)
    for job in plan.jobs[:PACKS]:
        seeds = f" (seed{'s' * (len(job.members) > 1)} {', '.join(map(str, job.seeds))})" if names[job.name] > 1 else ""
        state = "goes on from its checkpoint" if job.pack_id in plan.begun else "new"
        compiled = "yes" if job.compiled else "tried" if job.tries_compiling else ""
        table.add_row(job.name + seeds, str(len(job.members)), str(job.threads), compiled, state)
    console.print(table)
    _more(len(plan.jobs), PACKS, "packs", console)


def _print_compiling(plan: Plan, console: Console) -> None:
    """Which shapes have compiled steps, which have not as these are no faster, and which will be tried."""
    names = shapes(plan.reading.cells)
    compiled: dict[str, None] = {}
    slower: dict[str, None] = {}
    tried: dict[str, None] = {}
    for job in plan.jobs:
        name = f"{_name(job, names)} x {len(job.members)}"
        if job.compiled:
            compiled[name] = None
        elif job.tries_compiling:
            tried[name] = None
        elif job.pack_id in plan.slower:
            slower[f"{name} ({plan.slower[job.pack_id].times:.2f} times as long)"] = None
    for words, found in (
        ("Compiled", compiled),
        ("Not compiled, as the compiled step was measured to be no faster", slower),
        ("Tried before the first epoch, and compiled where that is faster", tried),
    ):
        if found:
            more = f" and {len(found) - MEMBERS} more" * (len(found) > MEMBERS)
            line = f"{words}: {', '.join(islice(found, MEMBERS))}{more}."
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _name(job: PackJob, names: Mapping[str, Shape]) -> str:
    """What a pack's shape is called."""
    member = job.members[0].spec
    shape = names.get(key_of(member))
    return shape.name if shape else shape_name(member)


def _print_forecast(plan: Plan, console: Console) -> None:
    """What each shape and the whole will take; packs that have begun are counted as if they had not."""
    forecasts = [plan.forecaster.of(job) for job in plan.jobs]
    columns = (
        *("shape", "speed", "members", "packs", "of up to", "ms/member-step", "training", "evaluation", "memory"),
    )
    table = _table("Forecast", columns, left=("shape", "speed"))

    names = shapes(plan.reading.cells)

    def name(job: PackJob) -> str:
        return _name(job, names) + ", compiled" * job.compiled + ", tried" * job.tries_compiling

    for shape, group in groupby(sorted(plan.jobs, key=name), key=name):
        table.add_row(shape, *_forecast_row(plan, list(group)))
    console.print(table)
    schedule = simulate([forecast.seconds for forecast in forecasts], plan.workers)
    gpus = plan.machine.gpus
    hours = sum(job.threads * plan.forecaster.of(job).seconds for job in plan.jobs) / 3600
    if gpus:
        hours = schedule.total * gpus / plan.workers / 3600
    memory = sum(sorted((forecast.bytes for forecast in forecasts), reverse=True)[: plan.workers])
    console.print(
        f"Together {clock_time(schedule.makespan)} with {plan.workers} packs at a time "
        f"({schedule.utilization:.0%} of the workers' time used): {hours:,.1f} {'GPU' if gpus else 'core'}-hours, "
        f"at most {gibibytes(memory)} in use at a time.",
        highlight=False,
    )
    if any(member.spec.training.early_stopping is not None for job in plan.jobs for member in job.members):
        console.print(UPPER_BOUND, highlight=False)
    if not all(forecast.measured for forecast in forecasts):
        console.print(NOMINAL, highlight=False)


def _forecast_row(plan: Plan, jobs: Sequence[PackJob]) -> tuple[str, ...]:
    """The forecast of the packs of one shape: by which speed, how many, and how long they take together."""
    forecasts = [plan.forecaster.of(job) for job in jobs]
    members = sum(len(job.members) for job in jobs)
    steps = sum(forecast.ms_per_member_step * len(job.members) for job, forecast in zip(jobs, forecasts, strict=True))
    return (
        _speed(forecasts),
        str(members),
        str(len(jobs)),
        str(max(len(job.members) for job in jobs)),
        f"{steps / members:.2f}",
        clock_time(sum(forecast.training + forecast.overhead for forecast in forecasts)),
        clock_time(sum(forecast.evaluation for forecast in forecasts)),
        gibibytes(max(forecast.bytes for forecast in forecasts)),
    )


def _speed(forecasts: Sequence[Forecast]) -> str:
    """What the forecasts of the packs of one shape rest on."""
    if all(forecast.measured for forecast in forecasts):
        return "measured"
    return "steps measured" if all(forecast.measured_steps for forecast in forecasts) else "nominal"


def gibibytes(count: float) -> str:
    """An amount of memory."""
    return f"{count / 2**30:.1f} GiB"


def check_report() -> None:
    """Make sure that a report can be drawn when everything has run. Raises MachineError if it cannot."""
    from analysis import report as analysis_report

    analysis_report.check()


def report(plan: Plan, console: Console, compared: Iterable[str] = ()) -> int:
    """Print the final table, what was written, and what packs found of compiled steps. Returns the exit code: judged by
    the records alone, but for a report that could not be written, which is said in one line.
    """
    results = Results(plan.results.root)
    members = plan.reading.members
    records = [results.record(member.digests.training, member.folder) for member in members]
    is_written = _write_report(results, console)
    statuses: list[Status] = []
    faults: list[str] = []
    for record, member in zip(records, members, strict=True):
        status, found = _checked(record, member)
        statuses.append(status)
        faults += found
    print_faults(list(dict.fromkeys(faults)), console)
    counts = Counter(statuses)
    finished, failed, diverged, damaged = (counts[end] for end in ("finished", "failed", "diverged", "damaged"))
    left_out = len(plan.left_out)
    missing = len(statuses) - finished - failed - diverged - damaged - left_out
    parts = [f"{finished} of {len(statuses)} members finished"]
    parts += [
        f"{count} {word}"
        for count, word in (
            *((diverged, "diverged"), (failed, "failed"), (damaged, "damaged"), (missing, "missing")),
            (left_out, "left out"),
        )
        if count
    ]
    for words in compared:
        console.print(f"Measured: {words}.", soft_wrap=True, highlight=False, markup=False)
    console.print(", ".join(parts) + ".")
    pruned = sum(
        status == "finished" and not record.has_arrays for record, status in zip(records, statuses, strict=True)
    )
    if pruned:
        words = "their results count, but no model can be loaded, evaluated anew or trained further from them."
        console.print(f"Without weights: {pruned} of the finished; {words}", soft_wrap=True, highlight=False)
    for line in dict.fromkeys(need.absent for need in plan.left_out):
        console.print(f"Left out: {line}", soft_wrap=True, highlight=False)
    skipped = {need.member.digests.evaluation for need in plan.left_out}
    others = [
        (record, status)
        for record, status, member in zip(records, statuses, members, strict=True)
        if status != "finished" and member.digests.evaluation not in skipped
    ]
    for record, status in islice(others, MEMBERS):
        console.print(f"  {status}: {record.folder}", soft_wrap=True, highlight=False)
    _more(len(others), MEMBERS, "members that have not finished", console)
    return 1 if failed or damaged or missing or not is_written else 3 if diverged else 0


def _checked(record: Record, member: Member) -> tuple[Status, list[str]]:
    """A member's status, `damaged` if a file of its result is not as it was written, and what is wrong with its files.
    One that cannot be read is wrong, too, and takes nothing from the other members.
    """
    evaluation = member.digests.evaluation
    try:
        state = record.state(evaluation)
        if state.damage:
            return "damaged", [state.damage]
        is_pruned = state.status in DONE and not record.has_arrays
        found = [] if is_pruned else record.damaged_arrays(state.training, state.result)
        curves = record.curves_of(state.training, member.spec.training.epochs)
        faults = [record.in_full(fault) for fault in curves.faults]
        return "damaged" if found else state.status, found + faults
    except UserError as error:
        return "damaged", [str(error)]


def _write_report(results: Results, console: Console) -> bool:
    """Write the report and print its table and where it is. False if it could not be written: every other line is then
    still printed, and the records are as they are.
    """
    from analysis import report as analysis_report

    try:
        written = analysis_report.write(results.root)
    except Exception as error:  # whatever it is, the hours of training before it are not lost
        sys.stderr.write(f"{analysis_report.failure(results.root, error)}\n")
        return False
    for line in written.answer:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    console.print(written.table)
    for footnote in written.footnotes:
        console.print(footnote, highlight=False)
    if written.verdicts is not None:
        console.print(written.verdicts, highlight=False)
    alone = [path for path in written.files if path.parent == results.root]
    for folder in dict.fromkeys(path.parent for path in written.files if path.parent != results.root):
        names = dict.fromkeys(path.stem for path in written.files if path.parent == folder)
        console.print(f"  {folder}: {', '.join(names)}", highlight=False)
    for path in alone:
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    return True

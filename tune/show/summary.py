"""What a command prints before and after a grid runs: the plan, and the truth about its results."""

from collections import Counter
from collections.abc import Iterable
from itertools import groupby, islice

from rich.console import Console
from rich.table import Table

from hvae_spec.data.counts import image_pixels
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.spec.cost import parameters
from tune.measure.cache import shape_name
from tune.plan.planner import Plan
from tune.show.display import clock_time
from tune.simulation import simulate

CELLS, PACKS, MEMBERS = 100, 20, 20
"""Most rows that are printed of each."""


def print_plan(plan: Plan, console: Console) -> None:
    """Print cells, packs, what is done, and a forecast where everything is measured."""
    _print_cells(plan, console)
    print_adopted(plan, console)
    if plan.jobs:
        _print_packs(plan, console)
        _print_forecast(plan, console)
    to_run = sum(len(job.members) for job in plan.jobs)
    console.print(f"{plan.counts['finished']} finished, {plan.counts['diverged']} diverged, {to_run} to run.")
    console.print(f"Results: {plan.results.root}", soft_wrap=True, highlight=False)


def print_adopted(plan: Plan, console: Console) -> None:
    """Print how many members are taken from which other results folders."""
    folders = Counter(record.folder.parent.parent for record in plan.adopted.values())
    for folder, count in folders.items():
        console.print(f"{count} finished in {folder}: taken from there.", soft_wrap=True, highlight=False)


def _table(title: str, columns: Iterable[str], left: Iterable[str] = ()) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def _more(count: int, limit: int, noun: str, console: Console) -> None:
    if count > limit:
        console.print(f"... and {count - limit:,} more {noun}", highlight=False)


def _print_cells(plan: Plan, console: Console) -> None:
    cells = plan.reading.cells
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.axes if axis != "data.dataset"))
    labels = ("data set", "depth", "variant", *(axis.rsplit(".", 1)[-1] for axis in axes))
    title = f"{plan.reading.experiment.name}: {len(cells)} cells, {len(plan.statuses)} members"
    columns = (*labels, "parameters", "seeds", "finished", "diverged", "failed", "to run")
    table = _table(title, columns, left=("data set", "variant"))
    for cell in cells[:CELLS]:
        statuses = [plan.statuses[member.digest] for member in cell.members]
        places = [str(cell.axes.get(axis, "")) for axis in axes]
        counts = [statuses.count(status) for status in ("finished", "diverged", "failed")]
        to_run = len(statuses) - counts[0] - counts[1]
        numbers = [str(count or "") for count in (*counts, to_run)]
        size = f"{parameters(cell.member, image_pixels(cell.member.data)):,}"
        table.add_row(cell.dataset, str(cell.depth), cell.variant, *places, size, str(len(statuses)), *numbers)
    console.print(table)
    _more(len(cells), CELLS, "cells", console)


def _print_packs(plan: Plan, console: Console) -> None:
    title = f"{len(plan.jobs)} packs to run, {plan.workers} at a time"
    table = _table(title, ("pack", "members", "threads", "compiled", "state"), left=("pack", "state"))
    for job in plan.jobs[:PACKS]:
        state = "goes on from its checkpoint" if job.pack_id in plan.begun else "new"
        compiled = "yes" if job.compiled else ""
        table.add_row(job.name, str(len(job.members)), str(job.threads), compiled, state)
    console.print(table)
    _more(len(plan.jobs), PACKS, "packs", console)


def _print_forecast(plan: Plan, console: Console) -> None:
    """What each shape and the whole will take; packs that have begun are counted as if they had not."""
    forecasts = [plan.forecaster.of(job) for job in plan.jobs]
    unmeasured = sum(not forecast.measured for forecast in forecasts)
    if unmeasured:
        part = "None" if unmeasured == len(forecasts) else "Not all"
        console.print(f"{part} of this has been measured on this machine: --plan --measure forecasts times and memory.")
        return
    columns = (
        "shape",
        "members",
        "packs",
        "of up to",
        "ms a member-step",
        "training",
        "evaluation",
        "memory a pack",
    )
    table = _table("Forecast", columns, left=("shape",))

    def name(job: PackJob) -> str:
        return shape_name(job.members[0].spec) + (", compiled" if job.compiled else "")

    for shape, group in groupby(sorted(plan.jobs, key=name), key=name):
        jobs = list(group)
        of_shape = [plan.forecaster.of(job) for job in jobs]
        members = sum(len(job.members) for job in jobs)
        steps = [forecast.ms_per_member_step * len(job.members) for job, forecast in zip(jobs, of_shape, strict=True)]
        table.add_row(
            shape,
            str(members),
            str(len(jobs)),
            str(max(len(job.members) for job in jobs)),
            f"{sum(steps) / members:.2f}",
            clock_time(sum(forecast.training + forecast.overhead for forecast in of_shape)),
            clock_time(sum(forecast.evaluation for forecast in of_shape)),
            gibibytes(max(forecast.bytes or 0 for forecast in of_shape)),
        )
    console.print(table)
    schedule = simulate([forecast.seconds for forecast in forecasts], plan.workers)
    hours = sum(job.threads * plan.forecaster.of(job).seconds for job in plan.jobs) / 3600
    if plan.gpus:
        hours = schedule.total * plan.gpus / plan.workers / 3600
    memory = sum(sorted((forecast.bytes or 0 for forecast in forecasts), reverse=True)[: plan.workers])
    console.print(
        f"Together {clock_time(schedule.makespan)} with {plan.workers} packs at a time "
        f"({schedule.utilisation:.0%} of the workers' time used): {hours:,.1f} {'GPU' if plan.gpus else 'core'}-hours, "
        f"at most {gibibytes(memory)} in use at a time.",
        highlight=False,
    )


def gibibytes(count: float) -> str:
    """An amount of memory."""
    return f"{count / 2**30:.1f} GiB"


def report(plan: Plan, console: Console) -> int:
    """Print the final table and what was written. Returns the exit code, judged by the records alone."""
    from analysis import report as analysis_report

    results = Results(plan.results.root)
    members = plan.reading.members
    statuses = [results.status(member.digest) for member in members]
    written = analysis_report.write(results.root)
    console.print(written.table)
    for footnote in written.footnotes:
        console.print(footnote, highlight=False)
    alone = [path for path in written.files if path.parent == results.root]
    for folder in dict.fromkeys(path.parent for path in written.files if path.parent != results.root):
        names = dict.fromkeys(path.stem for path in written.files if path.parent == folder)
        console.print(f"  {folder}: {', '.join(names)}", highlight=False)
    for path in alone:
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    finished, failed, diverged = (statuses.count(status) for status in ("finished", "failed", "diverged"))
    missing = len(statuses) - finished - failed - diverged
    parts = [f"{finished} of {len(statuses)} members finished"]
    parts += [
        f"{count} {word}" for count, word in ((diverged, "diverged"), (failed, "failed"), (missing, "missing")) if count
    ]
    console.print(", ".join(parts) + ".")
    others = [(member, status) for member, status in zip(members, statuses, strict=True) if status != "finished"]
    for member, status in islice(others, MEMBERS):
        where = results.record(member.digest, member.folder).folder
        console.print(f"  {status or 'missing'}: {where}", soft_wrap=True, highlight=False)
    _more(len(others), MEMBERS, "members that have not finished", console)
    return 1 if failed or missing else 3 if diverged else 0

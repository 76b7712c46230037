"""What a command prints before and after a grid runs: the plan, and the truth about its results."""

from rich.console import Console
from rich.table import Table

from hvae_spec.records import Results
from hvae_spec.schema.counts import parameters
from tune.planner import Plan


def print_plan(plan: Plan, console: Console) -> None:
    """Print cells, packs and what is done."""
    cells = plan.reading.cells
    table = Table(title=f"{plan.reading.experiment.name}: {len(cells)} cells, {len(plan.statuses)} members")
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.axes if axis != "data.dataset"))
    labels = ("data set", "depth", "variant", *(axis.rsplit(".", 1)[-1] for axis in axes))
    for name in (*labels, "parameters", "seeds", "finished", "diverged", "failed", "to run"):
        table.add_column(name, justify="left" if name in ("data set", "variant") else "right")
    for cell in cells:
        statuses = [plan.statuses[member.digest] for member in cell.members]
        places = [str(cell.axes.get(axis, "")) for axis in axes]
        counts = [statuses.count(status) for status in ("finished", "diverged", "failed")]
        to_run = len(statuses) - counts[0] - counts[1]
        numbers = [str(count or "") for count in (*counts, to_run)]
        size = f"{parameters(cell.member):,}"
        table.add_row(cell.dataset, str(cell.depth), cell.variant, *places, size, str(len(statuses)), *numbers)
    console.print(table)
    packs = Table(title=f"{len(plan.jobs)} packs to run, {plan.workers} at a time")
    for name in ("pack", "members", "threads", "state"):
        packs.add_column(name, justify="left" if name in ("pack", "state") else "right")
    for job in plan.jobs:
        begun = (plan.results.pack(job.pack_id) / "checkpoint.safetensors").exists()
        packs.add_row(
            job.name, str(len(job.members)), str(job.threads), "goes on from its checkpoint" if begun else "new"
        )
    if plan.jobs:
        console.print(packs)
    to_run = sum(len(job.members) for job in plan.jobs)
    console.print(f"{plan.counts['finished']} finished, {plan.counts['diverged']} diverged, {to_run} to run.")
    console.print(f"Results: {plan.results.root}", soft_wrap=True, highlight=False)


def report(plan: Plan, console: Console) -> int:
    """Print the final table and what was written. Returns the exit code, judged by the records alone."""
    from analysis import report as analysis_report

    results = Results(plan.results.root)
    statuses = [results.record(member.digest, member.folder).status for member in plan.reading.members]
    written = analysis_report.write(results.root)
    console.print(written.table)
    for note in written.notes:
        console.print(note, highlight=False)
    for path in written.files:
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    finished, failed, diverged = (statuses.count(status) for status in ("finished", "failed", "diverged"))
    missing = len(statuses) - finished - failed - diverged
    parts = [f"{finished} of {len(statuses)} members finished"]
    parts += [
        f"{count} {word}" for count, word in ((diverged, "diverged"), (failed, "failed"), (missing, "missing")) if count
    ]
    console.print(", ".join(parts) + ".")
    for member, status in zip(plan.reading.members, statuses, strict=True):
        if status != "finished":
            where = results.record(member.digest, member.folder).folder
            console.print(f"  {status or 'missing'}: {where}", soft_wrap=True, highlight=False)
    return 1 if failed or missing else 3 if diverged else 0

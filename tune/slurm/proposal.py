"""How many nodes and how much time to ask SLURM for, from the forecast of a plan."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tune.plan.forecast import UPPER_BOUND
from tune.plan.planner import Plan
from tune.plan.schedule import simulate

CPUS = 8
"""Cores of a node's part, where the user names none."""
SLACK_MEASURED, SLACK_NOMINAL = 1.5, 3.0
"""By how much time goes beyond the forecast: nominal speed may be off by a factor of two or three."""
HOURS_OF_A_NODE = 12
"""How long one node may take before another one is proposed."""
START_SECONDS = 300
"""What a job takes for its start and its end."""
TIMES = tuple(round(3600 * hours) for hours in (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 18, 24))
"""Seconds that are proposed. Longer grids go on in the next job, as the script requeues itself."""


@dataclass(frozen=True)
class Proposal:
    """What a job asks for."""

    nodes: str
    """As SLURM writes it, `2` or `1-4`."""
    seconds: int
    """Of one job, until it is requeued."""
    forecast: str
    """What it rests on, in words."""


def propose(plan_on: Callable[[int], Plan], nodes: str | None, seconds: int | None) -> Proposal:
    """What to ask for.

    Args:
        plan_on: gives the plan on so many nodes.
        nodes: as the user asks for; None: by the forecast.
        seconds: of one job, as the user asks for; None: by the forecast.

    """
    plan = plan_on(1 if nodes is None else least(nodes))
    if nodes is None and (count := _nodes(plan)) > 1:
        plan, nodes = plan_on(count), str(count)
    makespan = _makespan(plan)
    wanted = makespan * _slack(plan) + START_SECONDS
    return Proposal(nodes or "1", seconds or next((time for time in TIMES if time >= wanted), TIMES[-1]), _words(plan))


def least(nodes: str) -> int:
    """The fewest nodes of `2` or `2-4`."""
    return int(nodes.partition("-")[0])


def _nodes(plan: Plan) -> int:
    """How many nodes to ask for, from a plan on one: no more than have something to do."""
    hours = _unit_hours(plan) * _slack(plan)
    units = plan.machine.gpus or plan.machine.cores
    slots = max(1, plan.machine.gpus * plan.machine.packs_per_gpu or plan.machine.cores)
    members = sum(len(job.members) for job in plan.jobs)
    return max(1, min(math.ceil(hours / units / HOURS_OF_A_NODE), math.ceil(members / slots)))


def _is_measured(plan: Plan) -> bool:
    return all(plan.forecaster.of(job).measured for job in plan.jobs)


def _slack(plan: Plan) -> float:
    return SLACK_MEASURED if _is_measured(plan) else SLACK_NOMINAL


def _makespan(plan: Plan) -> float:
    return simulate([plan.forecaster.of(job).seconds for job in plan.jobs], plan.workers).makespan


def _unit_hours(plan: Plan) -> float:
    """Core-hours, or GPU-hours where there are GPUs."""
    if plan.machine.gpus:
        return sum(plan.forecaster.of(job).seconds for job in plan.jobs) * plan.machine.gpus / plan.workers / 3600
    return sum(job.threads * plan.forecaster.of(job).seconds for job in plan.jobs) / 3600


def _words(plan: Plan) -> str:
    if not plan.jobs:
        return "nothing is left to run"
    unit = "GPU" if plan.machine.gpus else "core"
    how = "measured" if _is_measured(plan) else "nominal (hvae plan SPEC --measure measures it)"
    more = " " + UPPER_BOUND if any(_stops_early(plan)) else ""
    later = " What is known now; which members follow shows when these are done." if plan.awaits_records else ""
    return f"{_unit_hours(plan):,.1f} {unit}-hours, {how}.{more}{later}"


def _stops_early(plan: Plan) -> list[bool]:
    return [member.spec.training.early_stopping is not None for job in plan.jobs for member in job.members]

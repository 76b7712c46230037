"""What a user sees while a grid runs: a live view in a terminal, plain lines elsewhere."""

import math
import time
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hvae_spec.jobs import PackJob, Progress
from tune.planner import Plan, cost

PLAIN_SECONDS = 15.0
"""Time between lines of overall progress where there is no terminal."""


@dataclass
class PackState:
    """A pack as the display knows it."""

    job: PackJob
    cost: float
    status: str = "waiting"
    """`waiting`, `running`, `finished` or `failed`."""
    progress: Progress | None = None
    first_done: float | None = None
    """Fraction done when this run took the pack up."""
    first_seen: float = 0.0

    @property
    def done(self) -> float:
        """Fraction done."""
        if self.status in ("finished", "failed"):
            return 1.0
        return self.progress.done if self.progress else 0.0


@dataclass
class Clock:
    """Estimates what is left from what has been measured: the rate of multiply-adds of the packs that have run."""

    measured_cost: float = 0.0
    measured_seconds: float = 0.0
    states: list[PackState] = field(default_factory=list)

    def rate(self, now: float) -> float:
        """Multiply-adds a second of one worker."""
        amount, seconds = self.measured_cost, self.measured_seconds
        for state in self.states:
            if state.status == "running" and state.first_done is not None:
                amount += state.cost * (state.done - state.first_done)
                seconds += now - state.first_seen
        return amount / seconds if seconds > 0 else 0.0

    def remaining(self, now: float, workers: int) -> float | None:
        """Seconds until all packs are done: the work that is left, shared among the workers, but no less than the
        longest single pack needs. None until something has been measured.
        """
        left = [state.cost * (1 - state.done) for state in self.states]
        rate = self.rate(now)
        if rate <= 0:
            return None if any(left) else 0.0
        return max(sum(left) / workers, max(left, default=0.0)) / rate


class Listener(Protocol):
    """What a runner tells while it works."""

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack."""

    def progressed(self, progress: Progress) -> None:
        """A pack reports."""

    def ended(self, pack_id: str) -> None:
        """All members of a pack have their results."""

    def failed(self, pack_id: str, reason: str, *, final: bool) -> None:
        """A pack raised or its worker died; unless `final`, it will be tried again."""


class Display:
    """Listens to a runner and shows a plan's progress."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.states = {job.pack_id: PackState(job, cost(job.members)) for job in plan.jobs}
        self.clock = Clock(states=list(self.states.values()))
        self.start = self.told = time.monotonic()
        self.diverged: set[str] = set()
        self.live: Live | None = None

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def line(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(Text(f"[{clock_time(time.monotonic() - self.start)}] {text}", style=style), soft_wrap=True)

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack."""
        state = self.states[pack_id]
        state.status = "running"
        if self.live is None:
            self.line(f"{state.job.name}: started")

    def progressed(self, progress: Progress) -> None:
        """A pack reports."""
        state = self.states[progress.pack_id]
        now = time.monotonic()
        if state.first_done is None:
            state.first_done, state.first_seen = progress.done, now
        state.progress = progress
        for words in progress.diverged:
            if words not in self.diverged:
                self.diverged.add(words)
                self.line(words, "yellow")
        if self.live is None and now - self.told >= PLAIN_SECONDS:
            self.told = now
            self.line(self.overall())
            for other in self.running():
                self.line(f"  {other.job.name}: {describe(other.progress)}")

    def ended(self, pack_id: str) -> None:
        """All members of a pack have their results."""
        self._close(pack_id, "finished")
        self.line(f"{self.states[pack_id].job.name}: finished. {self.overall()}", "green")

    def failed(self, pack_id: str, reason: str, *, final: bool) -> None:
        """A pack raised or its worker died."""
        what = "failed" if final else "failed and will be tried again"
        if final:
            self._close(pack_id, "failed")
        self.line(f"{self.states[pack_id].job.name}: {what}: {reason}", "red")

    def _close(self, pack_id: str, status: str) -> None:
        state = self.states[pack_id]
        if state.first_done is not None:
            self.clock.measured_cost += state.cost * (1 - state.first_done)
            self.clock.measured_seconds += time.monotonic() - state.first_seen
        state.status = status

    def running(self) -> list[PackState]:
        """Packs at work."""
        return [state for state in self.states.values() if state.status == "running"]

    def overall(self) -> str:
        """Overall progress in words."""
        states = list(self.states.values())
        total = sum(state.cost for state in states)
        done = sum(state.cost * state.done for state in states) / total if total else 1.0
        ended = sum(state.status in ("finished", "failed") for state in states)
        left = self.clock.remaining(time.monotonic(), self.plan.workers)
        eta = "ETA unknown yet" if left is None else f"ETA {clock_time(left)}"
        return f"{done:.0%} of the grid, {ended} of {len(states)} packs, {eta}"

    def view(self) -> Group:
        """The live view."""
        states = list(self.states.values())
        total = sum(state.cost for state in states)
        done = sum(state.cost * state.done for state in states) / total if total else 1.0
        head = Table.grid(padding=(0, 1))
        elapsed = clock_time(time.monotonic() - self.start)
        head.add_row(ProgressBar(total=1.0, completed=done, width=30), f"{self.overall()}, elapsed {elapsed}")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("pack", "epoch", "beta", "training bound", "ms/step", "done"):
            table.add_column(name, justify="left" if name == "pack" else "right")
        for state in self.running():
            table.add_row(state.job.name, *columns(state.progress))
        failures = [state for state in states if state.status == "failed"]
        notes = [Text(f"{len(failures)} packs failed", style="red")] if failures else []
        return Group(head, table, *notes)


def columns(progress: Progress | None) -> tuple[str, ...]:
    """A pack's row in the live view."""
    if progress is None:
        return ("starting", "", "", "", "")
    epoch = f"{progress.epoch}/{progress.epochs}" + (" evaluating" if progress.phase == "evaluating" else "")
    return (
        epoch,
        ", ".join(format(beta, ".2f") for beta in progress.betas) or "-",
        number(progress.train_bound, ".2f"),
        number(progress.ms_per_step, ".2f"),
        f"{progress.done:.0%}",
    )


def describe(progress: Progress | None) -> str:
    """A pack's progress in words."""
    epoch, beta, train_bound, speed, done = columns(progress)
    if progress is None:
        return epoch
    return f"epoch {epoch}, beta {beta}, training bound {train_bound}, {speed} ms/step, {done}"


def number(value: float, form: str) -> str:
    """A number, or a dash for none."""
    return "-" if math.isnan(value) else format(value, form)


def clock_time(seconds: float) -> str:
    """`0:00:42`, or `3 d 04:00:00`."""
    total = round(seconds)
    days, rest = divmod(total, 86400)
    hours, minutes = divmod(rest // 60, 60)
    text = f"{hours}:{minutes:02}:{rest % 60:02}"
    return f"{days} d {text}" if days else text

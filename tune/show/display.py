"""What a user sees while a grid runs: a live view in a terminal, plain lines elsewhere."""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hvae_spec.pack_job import PackJob, Progress
from tune.execute.signals import Interruption
from tune.execute.terminal import without_echo
from tune.plan.forecast import Forecast
from tune.plan.planner import Plan
from tune.plan.schedule import makespan
from tune.show.names import cut, label, member_names

NOTHING = "-"
"""Stands for a number that there is none of."""
HEADINGS = ("pack", "epoch", "beta", "training bound", "ms/step", "done")
"""Columns of the live view."""
PLAIN_SECONDS = 15.0
"""Time between lines of overall progress where there is no terminal."""
SLOW = 3.0
"""How many times as long as measured a pack's steps take before that is told."""
SLOW_EPOCHS = 2
"""For how many epochs: the first of a run also warms up."""
TRIAL = (
    "before its first epoch a pack measures whether compiled steps are faster, unless that is known: a minute or two"
)
"""What is said while packs start of which each may be the one that finds out."""


@dataclass
class PackState:
    """A pack as the display knows it."""

    job: PackJob
    cost: float
    """Seconds that it was forecast to take."""
    status: str = "waiting"
    """`waiting`, `running`, `finished` or `failed`."""
    progress: Progress | None = None
    first_done: float | None = None
    """Fraction done when this run took the pack up."""
    first_seen: float = 0.0
    measured_ms: float | None = None
    """Per member-step, if its steps were measured on this machine."""
    slow_epochs: set[int] = field(default_factory=set)
    """In which the steps took several times as long."""

    @classmethod
    def of(cls, job: PackJob, forecast: Forecast) -> "PackState":
        """A pack that waits, with what was forecast of it."""
        return cls(job, forecast.seconds, measured_ms=forecast.ms_per_member_step if forecast.measured_steps else None)

    def slowness(self) -> float | None:
        """How many times as long as measured its steps take, once, when they have for `SLOW_EPOCHS` epochs; else
        None.
        """
        if self.measured_ms is None or self.progress is None or self.progress.phase != "training":
            return None
        times = self.progress.ms_per_step / self.measured_ms
        if not times > SLOW or self.progress.epoch in self.slow_epochs:
            return None
        self.slow_epochs.add(self.progress.epoch)
        return times if len(self.slow_epochs) == SLOW_EPOCHS else None

    @property
    def is_trying(self) -> bool:
        """Whether it starts by measuring its compiled step, if no other pack has done so by then."""
        return self.status == "running" and self.progress is None and self.job.tries_compiling

    @property
    def done(self) -> float:
        """Fraction done."""
        if self.status in ("finished", "failed"):
            return 1.0
        return self.progress.done if self.progress else 0.0


@dataclass
class Clock:
    """Estimates what is left from what was forecast, corrected by how fast the packs that have run turned out to be."""

    states: dict[str, PackState]
    is_measured: bool = False
    """Whether the forecasts come from measurements, and can be believed before anything has run."""
    measured_cost: float = 0.0
    measured_seconds: float = 0.0

    def rate(self, now: float) -> float:
        """Forecast seconds that one worker does in a second."""
        amount, seconds = self.measured_cost, self.measured_seconds
        for state in self.states.values():
            if state.status == "running" and state.first_done is not None:
                amount += state.cost * (state.done - state.first_done)
                seconds += now - state.first_seen
        if amount > 0 and seconds > 0:
            return amount / seconds
        return 1.0 if self.is_measured else 0.0

    def remaining(self, now: float, workers: int) -> float | None:
        """Seconds until all packs are done: those that run go on, and the others follow, the longest first. None until
        something has been measured.
        """
        running = [state.cost * (1 - state.done) for state in self.states.values() if state.status == "running"]
        waiting = sorted((state.cost for state in self.states.values() if state.status == "waiting"), reverse=True)
        left = makespan([*running, *waiting], workers)
        rate = self.rate(now)
        if rate <= 0:
            return None if left else 0.0
        return left / rate


class Display:
    """Listens to a runner and shows a plan's progress."""

    def __init__(self, plan: Plan, console: Console, interruption: Interruption | None = None) -> None:
        self.plan, self.console, self.interruption = plan, console, interruption
        forecasts = {job.pack_id: plan.forecaster.of(job) for job in plan.jobs}
        self.states = {job.pack_id: PackState.of(job, forecasts[job.pack_id]) for job in plan.jobs}
        self.clock = Clock(self.states, all(forecast.measured for forecast in forecasts.values()))
        self.start = self.told = time.monotonic()
        self.said: set[str] = set()
        """What packs reported in words: each is printed once."""
        self.found: dict[str, None] = {}
        """What packs found of compiled steps, in words."""
        self.live: Live | None = None
        self.terminal = ExitStack()

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.terminal.enter_context(without_echo(self.console.file))
            # What it shows is gone at the end: lines that stay are printed above it.
            self.live = Live(get_renderable=self.view, console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
            self._show_notice(is_shown=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.live is not None:
            self._show_notice(is_shown=False)
            self.live.stop()
            self.terminal.close()
        if kind is not None:
            self.line(f"stopped at {self.reached()}", "yellow")

    def _show_notice(self, *, is_shown: bool) -> None:
        if self.interruption is not None:
            self.interruption.is_shown = is_shown

    def line(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(Text(f"[{clock_time(time.monotonic() - self.start)}] {text}", style=style), soft_wrap=True)

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack."""
        state = self.states[pack_id]
        state.status = "running"
        if self.live is None:
            self.line(f"{label(state.job)}: started")
            if state.is_trying and TRIAL not in self.said:
                self.said.add(TRIAL)
                self.line(TRIAL)

    def progressed(self, progress: Progress) -> None:
        """A pack reports."""
        state = self.states[progress.pack_id]
        now = time.monotonic()
        if state.first_done is None:
            state.first_done, state.first_seen = progress.done, now
        state.progress = progress
        for words in (*progress.diverged, *progress.notes, *progress.stopped):
            if words not in self.said:
                self.said.add(words)
                self.line(words, "yellow")
        if progress.found and progress.found not in self.found:
            self.found[progress.found] = None
            self.line(progress.found)
        if (times := state.slowness()) is not None:
            speed = f"{progress.ms_per_step:.3g} ms a step, {times:.1f} times as long as measured on this machine"
            self.line(f"{label(state.job)}: {speed}; does other work want its cores?", "yellow")
        if self.live is None and now - self.told >= PLAIN_SECONDS:
            self.told = now
            self.line(self.overall())
            for other in self.running():
                self.line(f"  {label(other.job)}: {describe(other.progress)}")
            if len(self.running()) == 1 and (rows := member_rows(self.running()[0])):
                self.line(f"  training bounds: {', '.join(f'{row.name} {row.bound}' for row in rows)}")

    def ended(self, pack_id: str) -> None:
        """All members of a pack have their results."""
        self._close(pack_id, "finished")
        self.line(f"{label(self.states[pack_id].job)}: finished. {self.overall()}", "green")

    def failed(self, pack_id: str, reason: str, *, final: bool) -> None:
        """A pack raised or its worker died."""
        what = "failed" if final else "failed and will be tried again"
        if final:
            self._close(pack_id, "failed")
        self.line(f"{label(self.states[pack_id].job)}: {what}: {reason}", "red")

    def split(self, pack_id: str, halves: list[PackJob]) -> None:
        """A pack ran out of memory."""
        state = self.states.pop(pack_id)
        self.states |= {half.pack_id: PackState.of(half, self.plan.forecaster.of(half)) for half in halves}
        sizes = " + ".join(str(len(half.members)) for half in halves)
        words = f"out of memory with {len(state.job.members)} members: split into {sizes}"
        self.line(f"{label(state.job)}: {words}", "yellow")

    def reduced(self, pack_id: str, rest: PackJob | None, reasons: list[str]) -> None:
        """Members of a pack cannot run."""
        if rest is None:
            self._close(pack_id, "failed")
        else:
            del self.states[pack_id]
            self.states[rest.pack_id] = PackState.of(rest, self.plan.forecaster.of(rest))
        for reason in reasons:
            self.line(reason, "red")

    def _close(self, pack_id: str, status: str) -> None:
        state = self.states[pack_id]
        if state.first_done is not None:
            self.clock.measured_cost += state.cost * (1 - state.first_done)
            self.clock.measured_seconds += time.monotonic() - state.first_seen
        state.status = status

    def running(self) -> list[PackState]:
        """Packs at work."""
        return [state for state in self.states.values() if state.status == "running"]

    def done(self) -> float:
        """Fraction of the grid that is done."""
        total = sum(state.cost for state in self.states.values())
        return sum(state.cost * state.done for state in self.states.values()) / total if total else 1.0

    def reached(self) -> str:
        """How far the grid is, in words."""
        states = self.states.values()
        ended = sum(state.status in ("finished", "failed") for state in states)
        return f"{self.done():.0%} of the grid, {ended} of {len(states)} packs"

    def overall(self) -> str:
        """Overall progress in words."""
        left = self.clock.remaining(time.monotonic(), self.plan.workers)
        return f"{self.reached()}, {'ETA unknown yet' if left is None else f'ETA {clock_time(left)}'}"

    def view(self) -> Group:
        """The live view, no wider and no higher than the terminal: lines of a higher one would be left behind."""
        width, height = self.console.size
        words = f"{self.overall()}, elapsed {clock_time(time.monotonic() - self.start)}"
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self.done(), width=max(1, min(30, width - len(words) - 2)))
        head.add_row(bar, Text(words, no_wrap=True, overflow="ellipsis"))
        notes = self._notes()
        running = self.running()
        values = [columns(state.progress) for state in running]
        taken = [max(map(len, column)) for column in zip(HEADINGS[1:], *values, strict=True)]
        space = width - sum(taken) - 2 * len(taken)
        rows = [(label(state.job, space), *row) for state, row in zip(running, values, strict=True)]
        if len(running) == 1:
            rows += [(f"  {cut(row.name, space - 2)}", "", "", row.bound, "", "") for row in member_rows(running[0])]
        room = max(1, height - 3 - len(notes))
        if len(rows) > room:
            rows = [*rows[: room - 1], (f"... and {len(rows) - room + 1} more", *[""] * len(taken))]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in HEADINGS:
            table.add_column(name, justify="left" if name == "pack" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        return Group(head, *([table] if rows else []), *notes)

    def _notes(self) -> list[Text]:
        """Lines below the table of the live view."""
        failed = sum(state.status == "failed" for state in self.states.values())
        notice = "" if self.interruption is None else self.interruption.notice
        said = [
            (TRIAL if any(state.is_trying for state in self.running()) else "", ""),
            (f"{failed} packs failed" if failed else "", "red"),
            *((words, "yellow") for words in sentences(notice)),
        ]
        return [Text(words, style, no_wrap=True, overflow="ellipsis") for words, style in said if words]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each of which has a line."""
    return text.replace(". ", ".\n").split("\n")


class MemberRow(NamedTuple):
    """What is shown of a member."""

    name: str
    bound: str
    """Its training bound in words."""


def member_rows(state: PackState) -> list[MemberRow]:
    """The members of a pack of several, as far as it has reported."""
    bounds = () if state.progress is None else state.progress.member_bounds
    if len(bounds) < 2:
        return []
    return [MemberRow(name, number(bound, ".2f")) for name, bound in zip(member_names(state.job), bounds, strict=True)]


def columns(progress: Progress | None) -> tuple[str, ...]:
    """A pack's row in the live view, without its name."""
    if progress is None:
        return ("starting", "", "", "", "")
    epoch = f"{progress.epoch}/{progress.epochs}" + (" evaluating" if progress.phase == "evaluating" else "")
    return (
        epoch,
        ", ".join(format(beta, ".2f") for beta in progress.betas) or NOTHING,
        number(progress.train_bound, ".2f"),
        number(progress.ms_per_step, ".2f"),
        f"{progress.done:.0%}",
    )


def describe(progress: Progress | None) -> str:
    """A pack's progress in words."""
    epoch, beta, train_bound, speed, done = columns(progress)
    if progress is None:
        return epoch
    told = {"beta": beta, "training bound": train_bound}
    known = [f"{name} {text}" for name, text in told.items() if text != NOTHING]
    return ", ".join([f"epoch {epoch}", *known, *([f"{speed} ms/step"] if speed != NOTHING else []), done])


def number(value: float, form: str) -> str:
    """A number, or a dash for none."""
    return NOTHING if math.isnan(value) else format(value, form)


def clock_time(seconds: float) -> str:
    """`0:00:42`, or `3 d 04:00:00`."""
    total = round(seconds)
    days, rest = divmod(total, 86400)
    hours, minutes = divmod(rest // 60, 60)
    text = f"{hours}:{minutes:02}:{rest % 60:02}"
    return f"{days} d {text}" if days else text

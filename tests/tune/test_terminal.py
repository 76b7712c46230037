"""The live view in a terminal: what it shows, and that nothing of it is left behind."""

import fcntl
import io
import math
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from dataclasses import replace

import pytest
from rich.console import Console

from hvae_spec.pack_job import Progress
from tests.tune.measured import Measured, measurement
from tests.tune.planned import GRID, plan_of
from tests.tune.screen import Screen
from tune.execute.signals import Interruption
from tune.show.display import TRIAL, Display, describe
from tune.show.names import label, member_names

LIVE = """
import sys, time
from pathlib import Path
from tests.tune.planned import GRID, plan_of
from tests.tune.test_terminal import progress
from tune.cli import console, run_interruptible
from tune.show.display import Display

def run(interruption):
    plan = plan_of(GRID, Path(sys.argv[1]))
    terminal = console()
    with interruption.deferred("Ray to end its workers"), Display(plan, terminal, interruption) as display:
        display.line("starting Ray ...")
        job = next(job for job in plan.jobs if len(job.members) > 1)
        display.started(job.pack_id)
        for epoch in range(1, 2000):
            display.progressed(progress(job, epoch))
            time.sleep(0.01)
            if interruption.pressed > 1 and {last}:
                for _ in range(60):  # the view says what is waited for
                    time.sleep(0.01)
                interruption.check()
    return 0

sys.exit(run_interruptible(run, "Go on."))
"""


def progress(job, epoch=1, **changes):
    bounds = tuple(-20.0 - m for m in range(len(job.members)))
    return replace(
        Progress(job.pack_id, "training", epoch, 4000, (0.25, 1.0), -20.0, 3.0, 0.5, member_bounds=bounds), **changes
    )


def in_terminal(text, folder, keys, columns=80):
    """Run a program in a terminal and press keys, each once the program has shown what comes before it. Returns the
    exit code, all that was shown, and whether the terminal echoes afterwards.
    """
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", text, str(folder)])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen, left, end, echoes = b"", list(keys), time.monotonic() + 60, None
    while time.monotonic() < end:
        if select.select([master], [], [], 0.05)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
            echoes = bool(termios.tcgetattr(master)[3] & termios.ECHO)
        if left and re.search(left[0][0], seen):
            os.write(master, left.pop(0)[1])
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    return code, seen, echoes


def test_keys_and_ctrl_c_leave_nothing_of_the_live_view_behind(tmp_path):
    keys = [(rb"\d\d/4000", b"\r"), (rb"[1-9]\d\d/4000", b"x\r\x03"), (b"Ctrl-C twice", b"\x03")]
    code, seen, echoes = in_terminal(LIVE.replace("{last}", "True"), tmp_path, keys)
    assert code == 130
    assert echoes
    screen = Screen()
    screen.write(seen.decode())
    first, stopped, *rest = screen.shown
    assert re.fullmatch(r"\[0:0\d:\d\d\] starting Ray \.\.\.", first)
    assert re.fullmatch(r"\[0:0\d:\d\d\] stopped at \d+% of the grid, 0 of \d packs", stopped)
    assert rest == ["", "Interrupted (SIGINT). Go on."]
    assert b"Waiting for Ray to end its workers." in seen
    assert b"Ctrl-C once more leaves at once; what is written is safe." in seen


def test_the_third_ctrl_c_gives_the_terminal_its_echo_back(tmp_path):
    keys = [(rb"\d\d/4000", b"\x03"), (b"Ctrl-C twice", b"\x03"), (b"Ctrl-C once more", b"\x03")]
    code, seen, echoes = in_terminal(LIVE.replace("{last}", "False"), tmp_path, keys)
    assert code == 130
    assert echoes
    assert seen.rstrip().endswith(b"\x1b[?25h")


def shown(display, width, height):
    """The live view at a size, as lines."""
    display.console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    display.console.print(display.view())
    lines = display.console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < height
    return [line.rstrip() for line in lines]


@pytest.fixture
def display(tmp_path):
    return Display(plan_of(GRID, tmp_path, pack_size=3), Console(file=io.StringIO()), Interruption())


def test_a_pack_that_runs_alone_shows_the_bound_of_every_member(display):
    job = next(job for job in display.plan.jobs if len(job.members) == 3)
    display.started(job.pack_id)
    display.progressed(progress(job, member_bounds=(-20.5, float("nan"), -22.125)))
    _, _, pack, *members = shown(display, 80, 24)
    assert pack.startswith(label(job, 30))
    variant = job.members[0].labels["variant"]
    assert [line.split() for line in members] == [
        [variant, "seed", "0", "-20.50"],
        [variant, "seed", "1", "-"],
        [variant, "seed", "2", "-22.12"],
    ]
    other = next(one for one in display.plan.jobs if one is not job)
    display.started(other.pack_id)
    assert len(shown(display, 80, 24)) == 4  # no room for members of several packs


def test_that_packs_may_try_compilation_is_said_until_they_report(tmp_path):
    long = GRID.replace("epochs: 4,", "epochs: 6000,")
    plan = plan_of(long, tmp_path, pack_size=1, forecaster=Measured(measurement({1: 50.0})))
    display = Display(plan, Console(file=io.StringIO()), Interruption())
    tries, other = plan.jobs[:2]
    assert tries.tries_compiling
    display.started(tries.pack_id)
    _, _, pack, note = shown(display, 80, 24)
    assert pack == f"{label(tries, 30)}  starting"
    assert TRIAL.startswith(note.removesuffix("…"))
    display.progressed(progress(tries))
    assert "compiled" not in " ".join(shown(display, 80, 24))
    # One that is decided, or waits, does not.
    display.states[other.pack_id].job = replace(other, tries_compiling=False)
    display.started(other.pack_id)
    assert "compiled" not in " ".join(shown(display, 80, 24))


def test_the_live_view_is_no_wider_and_no_higher_than_its_terminal(display):
    for job in display.plan.jobs:
        display.started(job.pack_id)
        display.progressed(progress(job, epoch=4000, phase="evaluating"))
    for width in (60, 80, 200):
        for height in (6, 9, 24):
            shown(display, width, height)
    *_, last = shown(display, 80, 9)
    count = len(display.plan.jobs)
    assert last == f"... and {count - 5} more"
    display.interruption.number = 2
    *_, first, second = shown(display, 80, 24)
    assert first == "Waiting for files to be closed."
    assert second == "Ctrl-C twice leaves at once; what is written is safe."


def test_labels_of_packs_fit_and_say_what_is_in_them(tmp_path):
    axes = "\n  axes: {training.optimizer.adam.lr: [0.001, 0.003]}\n"
    plan = plan_of(GRID.replace("\n  exclude", axes + "  exclude"), tmp_path, pack_size=32)
    job = max(plan.jobs, key=lambda job: len(job.members))
    variants = list(dict.fromkeys(member.labels["variant"] for member in job.members))
    assert len(variants) == 2
    assert label(job, 200) == job.name == f"digits L2 {', '.join(variants)} x {len(job.members)}"
    assert label(job, 30) == f"digits L2 2 variants x {len(job.members)}"
    assert label(job, 16) == "digits ...s x 12"
    names = member_names(job)
    assert len(set(names)) == len(names)
    assert all(str(member.labels["variant"]) in name for member, name in zip(job.members, names, strict=True))
    assert names[0].endswith("seed 0")


def test_where_there_is_no_terminal_the_bounds_stand_in_a_line(display, monkeypatch):
    monkeypatch.setattr("tune.show.display.PLAIN_SECONDS", 0.0)
    job = next(job for job in display.plan.jobs if len(job.members) == 3)
    display.started(job.pack_id)
    display.progressed(progress(job))
    said = display.console.file.getvalue()
    variant = job.members[0].labels["variant"]
    expected = ", ".join(f"{variant} seed {m} {-20 - m}.00" for m in range(3))
    assert f"training bounds: {expected}" in " ".join(said.split())


def test_the_progress_of_an_evaluation_has_no_numbers_of_training(display):
    job = display.plan.jobs[0]
    training = describe(progress(job, epoch=7))
    assert training == "epoch 7/4000, beta 0.25, 1.00, training bound -20.00, 3.00 ms/step, 50%"
    later = progress(job, epoch=4000, phase="evaluating", betas=(), train_bound=math.nan, ms_per_step=math.nan)
    assert describe(later) == "epoch 4000/4000 evaluating, 50%"

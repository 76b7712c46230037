"""Kills a grid under Ray at random moments: its driver, the driver's process group, a worker, or Ray's scheduler; or
sends the driver SIGINT, SIGTERM or SIGHUP. Then the same command is run to its end, and its records are compared.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.grids import RAY, Run, fault_of_rerun, undisturbed
from tests.faults.outcome import Outcome, write

LONGEST = 6.0
"""Seconds after the first pack has begun within which a fault falls; about what the packs take."""


def _children(run: Run, name: str) -> list[psutil.Process]:
    """The processes of a run whose command begins with a name."""
    found = []
    for child in psutil.Process(run.process.pid).children(recursive=True):
        try:
            if Path((child.cmdline() or [""])[0]).name.startswith(name):
                found.append(child)
        except psutil.Error:
            continue
    return found


def _kill_one(name: str) -> Callable[[Run], None]:
    def kill(run: Run) -> None:
        for child in _children(run, name)[:1]:
            child.kill()

    return kill


FAULTS: dict[str, tuple[str, Callable[[Run], None], set[int | None]]] = {
    "driver": ("SIGKILL of the driver", lambda run: run.process.kill(), {-9}),
    "group": ("SIGKILL of the driver's process group", lambda run: os.killpg(run.process.pid, signal.SIGKILL), {-9}),
    "worker": ("SIGKILL of a worker", _kill_one("ray::ImplicitFunc"), {0}),
    "raylet": ("SIGKILL of Ray's scheduler", _kill_one("raylet"), {1}),
    "INT": ("SIGINT of the driver", lambda run: run.process.send_signal(signal.SIGINT), {130}),
    "TERM": ("SIGTERM of the driver", lambda run: run.process.send_signal(signal.SIGTERM), {143}),
    "HUP": ("SIGHUP of the driver", lambda run: os.killpg(run.process.pid, signal.SIGHUP), {0}),
}
"""By name: what is done in words, how, and the exit codes that are right. A run that has ended already exits with 0."""


def trial(name: str, folder: Path, seconds: float, expected: dict[object, object]) -> str:
    """Disturb a run once, this long after its first pack has begun. Returns what is wrong; nothing if nothing is."""
    _, disturb, codes = FAULTS[name]
    results = folder / "disturbed"
    shutil.rmtree(results, ignore_errors=True)
    run = Run(results, RAY)
    run.wait_for_packs()
    time.sleep(seconds)
    if run.process.poll() is None:
        with suppress(psutil.Error, ProcessLookupError):  # it may end in this moment
            disturb(run)
    code = run.code()
    if code not in codes | {0}:
        return f"exit code {code}: {run.said[-3:]}"
    if any("Traceback" in line for line in run.said):
        return f"a traceback: {run.said[-1]}"
    return fault_of_rerun(results, RAY, expected)


def main() -> int:
    """The command. Returns 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="faults in all; the kinds take turns (default: 50)")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=list(FAULTS), help="(default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the rows in docs/faults/ray_faults.json")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    wrong: dict[str, list[str]] = {name: [] for name in options.kinds}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        expected = undisturbed(folder)
        for number in range(options.count):
            kind = options.kinds[number % len(options.kinds)]
            seconds = draw.uniform(0, LONGEST)
            wrong[kind].append(trial(kind, folder, seconds, expected))
            sys.stdout.write(f"{kind} after {seconds:.1f} s: {wrong[kind][-1] or 'as undisturbed'}\n")
            sys.stdout.flush()
    rows = [
        Outcome(
            f"{FAULTS[kind][0]} at a random moment under Ray",
            len(found),
            found.count(""),
            len(found) - found.count(""),
            "the exit code is right, and the same command then ends bit for bit as undisturbed",
            f"python -m tests.faults.ray_faults --count {options.count} --seed {options.seed}",
        )
        for kind, found in wrong.items()
        if found
    ]
    if options.write:
        write("ray_faults", rows)
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())

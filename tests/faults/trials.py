"""Runs of a command in children of this process, so that imports are paid once, and what their folders hold."""

import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.operations import Operations, watched

SPECS = Path(__file__).parent / "specs"
KILLED = 9
"""Exit code of a child that died at an operation."""
CRASHED = 98
"""Exit code of a child that raised."""
TIMES = frozenset(
    (
        *("seconds", "ms_per_step", "training_seconds", "curve_seconds", "evaluation_seconds"),
        *("started_at", "finished_at"),
    )
)
CHECKSUM = "checksum"
"""Of what holds times."""
PASSING = (".lock", "packs/planned.json")
"""Files that say nothing of results: the lock, and which packs the last command still had to run."""


def prepare(*, with_report: bool, cache: Path) -> None:
    """Import and set up what every child needs: a checkpoint at every epoch, no measured speeds, and, unless it is
    wanted, no report (whose judgment of the records stays).
    """
    os.environ |= {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    import tune.execute.serial
    import tune.run  # noqa: F401
    from hvae_spec import pack
    from hvae_spec.data.digits import digits

    digits()
    pack.CHECKPOINT_SECONDS, pack.CHECKPOINT_SHARE = 0.0, 1e9
    from analysis import report

    if with_report:
        import seaborn  # noqa: F401

        import analysis.figures.drawing
        import analysis.html.page  # noqa: F401
    else:
        from rich.table import Table

        empty = report.Report(Table(), (), "", ())
        report.write = lambda results, out=None: empty  # type: ignore[assignment]


def draw_once(root: Path) -> None:
    """Draw the figures of a finished grid here, so that its reports, in every child, only write them."""
    from analysis import frames
    from analysis.figures import drawing

    drawings = list(drawing.render(frames.load(root)))
    drawing.render = lambda frames: iter(drawings)


def run_spec(spec: Path, root: Path, *options: str) -> Callable[[], int]:
    """The command that runs a grid in this process, one pack after another."""
    fixed = ("--serial", "--cpus", "1", "--device", "cpu", "--results", str(root))

    def command() -> int:
        from tune.run import main

        return main([str(spec), *fixed, *options])

    return command


def start(
    command: Callable[[], int], log: Path, operations: Operations | None = None, names: Path | None = None
) -> int:
    """Run a command in a child; returns its process id.

    Args:
        command: returns an exit code.
        log: file that its output goes to.
        operations: of which it dies at one, with the exit code `KILLED`.
        names: file that the names of its operations go to, if it lives.

    """
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)
    code = CRASHED
    try:
        if operations is None:
            code = command()
        else:
            operations.die = lambda what: os._exit(KILLED)
            with watched(operations):
                code = command()
            if names is not None:
                names.write_text("\n".join(operations.names))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(command: Callable[[], int], log: Path, operations: Operations | None = None, names: Path | None = None) -> int:
    """Run a command in a child to its end; returns its exit code."""
    return wait(start(command, log, operations, names))


def renew(root: Path, state: Path | None) -> None:
    """Make a results folder what it was in a saved state; empty, if there is none."""
    shutil.rmtree(root, ignore_errors=True)
    if state is not None:
        shutil.copytree(state, root)


def timeless(value: Any, *without: str) -> Any:
    """A JSON value without times and further keys, and with segments as the epochs that they cover, as a kill divides
    them.
    """
    if isinstance(value, list):
        return [timeless(item, *without) for item in value]
    if not isinstance(value, dict):
        return value
    left_out = TIMES | {CHECKSUM, "segments", *without}
    kept = {key: timeless(item, *without) for key, item in value.items() if key not in left_out}
    if "segments" in value:
        kept["segments"] = _covered((one["first_epoch"], one["last_epoch"]) for one in value["segments"])
    return kept


def _covered(ranges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Ranges of epochs, with those joined that follow one another."""
    joined: list[list[int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] + 1 == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return joined


def snapshot(root: Path, *without: str) -> dict[str, str]:
    """All that a results folder holds but times: files by their paths, and folders of packs that are left over.

    Args:
        root: the folder.
        without: further keys of JSON files that are left out.

    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if path.parent == root / "packs":
                found[name] = "left over"
        elif name not in PASSING:
            found[name] = _content(path, *without)
    return found


def _content(path: Path, *without: str) -> str:
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return json.dumps(timeless(json.loads(content), *without), sort_keys=True)
        if path.suffix == ".jsonl":
            return json.dumps([timeless(json.loads(line), *without) for line in content.splitlines()])
    except ValueError:
        pass
    return hashlib.sha256(content).hexdigest()


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of what is not the same in two snapshots."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def say(text: str) -> None:
    """Print a line at once, so that a campaign in the background can be followed."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def lines(log: Path, count: int = 3) -> str:
    """The last lines of a log."""
    shown: Sequence[str] = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(shown[-count:])

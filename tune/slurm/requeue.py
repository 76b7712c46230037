"""Whether a job goes back into the queue when its run has ended, and how far the grid is."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hvae_spec.errors import RecordError, UserError, refusal
from hvae_spec.records.json_file import read_file
from hvae_spec.records.layout import EPOCHS, RESULT, TRAINING, Results
from hvae_spec.records.plan import PlannedMember
from hvae_spec.records.result import DONE, EvaluationResult, Status, TrainingResult
from tune.slurm.job_folder import IDLE, TOKEN, job_folder
from tune.slurm.squeue import JobState, state_of

FINISHED, REFUSED, SOME_DIVERGED = 0, 2, 3
"""Exit codes of a run: all members finished; bad input, or another run in the folder; some diverged and none failed."""
FRUITLESS = 2
"""After how many jobs in a row that gained nothing the next would gain nothing either."""
AT_A_TIME = 16
"""How many members' files are asked for at a time."""
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Progress:
    """How far the grid in a results folder is."""

    members: int
    """Members that are planned so far."""
    ended: int
    """Those of them that have come to an end: finished, diverged, failed or damaged."""
    unhappy: int
    """Those of them that failed or are damaged."""
    epochs: tuple[int, ...]
    """Epochs that each member has which has begun and is not trained."""

    def __str__(self) -> str:
        begun = f", {len(self.epochs)} in training (epoch {_span(self.epochs)})" if self.epochs else ""
        failed = f", {self.unhappy} of them failed" if self.unhappy else ""
        return f"{self.ended} of {self.members} members done{failed}{begun}"


def _span(epochs: tuple[int, ...]) -> str:
    first, last = min(epochs), max(epochs)
    return str(first) if first == last else f"{first} to {last}"


@dataclass(frozen=True)
class Ending:
    """What is known when the run of a job has ended."""

    code: int
    """The run's exit code."""
    is_running: bool
    """Whether SLURM still has the job as running: it is being cancelled or preempted otherwise."""
    is_requeued: bool
    """Whether SLURM itself has put the job back into the queue: it is preempted, or has lost its first node."""
    unfinished: bool
    """Whether members are left that have not come to an end."""
    gained: bool
    """Whether a checkpoint or a result was written."""
    idle: int
    """How many jobs before this one gained nothing, in a row."""
    requeues: int
    """How often the job has been put back into the queue."""
    most: int
    """How often it may be."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to run."""
        return self.code in (FINISHED, SOME_DIVERGED)

    @property
    def hindrance(self) -> str:
        """Why the job does not go back into the queue, though the grid is not finished; empty if it does."""
        again = "the same script goes on from the last checkpoints when it is submitted again"
        if not self.is_running:
            return f"the job was cancelled or preempted; {again}"
        if self.code == REFUSED:
            return "its run was refused, as said above; submit the script again when that is put right"
        if self.code == 1 and not self.unfinished:
            return "members failed, as said above, or the report did; submit the script again to try them again"
        if not self.gained and self.idle + 1 >= FRUITLESS:
            return (
                f"{FRUITLESS} jobs in a row have ended without a new checkpoint or result, and the next one would, "
                "too; see above why they ended, or give it more time (--time): an epoch, or the evaluation of a pack, "
                "must fit into one job"
            )
        if self.requeues >= self.most:
            often = f"it was requeued {self.requeues} times already" if self.most else "it is never to be"
            return f"{often} (--max-requeues); {again}"
        return ""


def end(results: Path, code: int, most: int, say: Callable[[str], None]) -> None:
    """Put this job back into the queue, unless the grid is finished or it would gain nothing.

    Args:
        results: the results folder.
        code: the exit code of the job's run.
        most: how often the job may be put back.
        say: told how far the grid is and what becomes of the job, in a line, before this script may be killed. The
            line is the job's comment, too, which `squeue --Format=comment` shows.

    """
    job = os.environ["SLURM_JOB_ID"]
    shared = job_folder(results, job)
    idle = _count(shared / IDLE)
    progress = progress_of(results)
    requeues = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    now = state_of(job) or JobState("RUNNING", requeues)
    ending = Ending(
        code,
        now.state == "RUNNING",
        now.restarts > requeues,
        progress is None or progress.ended < progress.members,
        gained_since(results, shared / TOKEN),
        idle,
        requeues,
        most,
    )
    far = str(progress) if progress else "nothing has been planned"
    if ending.is_requeued:
        # It was given no time to gain anything, so that this one does not count.
        with suppress(OSError):
            (shared / IDLE).write_text(str(0 if ending.gained else idle))
        _comment(job, f"{far}. SLURM itself has put job {job} back into the queue.", say)
        return
    hindrance = "" if ending.is_over else ending.hindrance
    if ending.is_over or hindrance:
        shutil.rmtree(shared, ignore_errors=True)
        what = f"Job {job} is not requeued: {hindrance}." if hindrance else "It has ended."
        _comment(job, f"{far}. {what}", say)
        return
    try:
        (shared / IDLE).write_text(str(0 if ending.gained else idle + 1))
    except OSError as error:  # the disk is full, or somebody has removed the folder
        _comment(job, f"{far}. Job {job} is not requeued ({refusal(shared, error)}): submit it again.", say)
        return
    _comment(job, f"{far}. Job {job} is requeued ({ending.requeues + 1} of at most {most}).", say)
    if refused := _scontrol("requeue", job):
        _comment(job, f"{far}. Job {job} could not be requeued ({refused}): submit it again.", say)


def gained_since(results: Path, mark: Path) -> bool:
    """Whether a checkpoint was written after a file was, or a result that is none of a failure. Both times are of the
    disk that the results are on, so that no two clocks are compared.
    """
    try:
        since = mark.stat().st_mtime_ns
    except OSError:
        return True
    folder = Results(results)
    checkpoints = (path for pack in folder.packs for path in (pack.checkpoint, pack.previous))
    if any(_time(path) > since for path in checkpoints):
        return True

    def has_gained(record: Path) -> bool:
        written = (record / TRAINING, *record.glob(f"evaluations/*/{RESULT}"))
        return any(_time(path) > since and _is_gain(path) for path in written)

    return any(_of_each(has_gained, folder.folders))


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_gain(path: Path) -> bool:
    kind: type[TrainingResult] | type[EvaluationResult] = TrainingResult if path.name == TRAINING else EvaluationResult
    try:
        found = read_file(path, kind, "")
    except UserError:
        return False
    return found is not None and found.status != "failed"


def progress_of(results: Path) -> Progress | None:
    """How far the grid of a results folder is, as last planned; None if none was, or its file cannot be read."""
    folder = Results(results)
    try:
        grid = folder.grid
    except RecordError:
        return None
    if grid is None:
        return None

    def look(member: PlannedMember) -> tuple[Status, int]:
        record = folder.find(member.training)
        if record is None:
            return "pending", 0
        status = record.status(member.digest)
        if status == "trained" and not record.weights.exists():
            status = "damaged"  # no run can evaluate it
        return status, _lines(record.folder / EPOCHS) if status == "running" else 0

    found = _of_each(look, grid.members)
    counts = Counter(status for status, _ in found)
    epochs = tuple(lines for status, lines in found if status == "running")
    unhappy = counts["failed"] + counts["damaged"]
    return Progress(len(grid.members), sum(counts[one] for one in DONE) + unhappy, unhappy, epochs)


def _of_each(ask: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """What is asked of each item, of several at a time: a network file system takes a while to answer."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(ask, items))


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _count(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _comment(job: str, line: str, say: Callable[[str], None]) -> None:
    """Say a line, and make it the comment of a job, where users may."""
    say(line)
    _scontrol("update", f"JobId={job}", f"Comment={line}")


def _scontrol(*arguments: str) -> str:
    """Run scontrol. Returns why it did not do what it was told; empty if it did."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return " ".join(done.stderr.split()) or f"exit code {done.returncode}" if done.returncode else ""

"""What SLURM says of jobs."""

import os
import subprocess
from typing import NamedTuple

ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
)
"""States of a job of which nothing runs or will run, unless it is put back into the queue."""


class JobState(NamedTuple):
    """A job as SLURM has it."""

    state: str
    """`RUNNING`, or another one of its words."""
    restarts: int
    """How often it has been put back into the queue."""


def state_of(job: str) -> JobState | None:
    """What SLURM says of a job; None where it says nothing."""
    words = _squeue(f"--jobs={job}", "--Format=state:20,restartcnt:10")
    if len(words) != 2 or not words[1].isdecimal():
        return None
    return JobState(words[0], int(words[1]))


def unfinished_jobs() -> set[str]:
    """The numbers of this user's jobs that have not ended, in whatever state; none where SLURM does not say."""
    words = _squeue("--all", "--states=all", f"--user={os.getuid()}", "--Format=jobid:20,state:20")
    return {job for job, state in zip(words[::2], words[1::2], strict=False) if state not in ENDED}


def _squeue(*arguments: str) -> list[str]:
    """The words that squeue prints; none where it fails, or does not answer within a minute."""
    try:
        command = ["squeue", "--noheader", *arguments]
        # A user's own settings would leave jobs out.
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=variables)
        return done.stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []

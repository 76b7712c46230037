"""What SLURM says of jobs."""

import os
import subprocess
from typing import NamedTuple


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
    """The numbers of this user's jobs that run, wait to, or are about to end; none where SLURM does not say."""
    return set(_squeue(f"--user={os.getuid()}", "--Format=jobid:20"))


def _squeue(*arguments: str) -> list[str]:
    """The words that squeue prints; none where it fails, or does not answer within a minute."""
    try:
        command = ["squeue", "--noheader", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []

"""What a job keeps in a folder of its own in the results folder, from its first start to its end."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from tune.slurm.squeue import unfinished_jobs

TOKEN = "token"
"""The file that each start of the job writes anew: what the job's Ray asks for."""
IDLE = "idle"
"""The file that counts the jobs in a row that gained nothing."""
CLUSTER = "cluster"
"""The file with the name of the cluster that the job's number is of."""
NAME = re.compile(r"\.slurm-(\d+)", re.ASCII)


def job_folder(results: Path, job: str) -> Path:
    """The folder of a job with this number. The job's script makes it."""
    return results / f".slurm-{job}"


def remove_abandoned(results: Path) -> None:
    """Remove the folders of this user's jobs that have ended without doing so, as they were killed or their node went
    down. Those of jobs that run or wait stay, and all do where SLURM does not answer. Called in a job.
    """
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    # First, so that a job whose folder is seen and that has not ended is one of those that SLURM is then asked for.
    folders = {match[1]: path for path in results.glob(".slurm-*") if (match := NAME.fullmatch(path.name))}
    there = {job: path for job, path in folders.items() if _is_ours(path, cluster)}
    # An answer that does not have this job is none: that of another cluster, say.
    if not there or os.environ.get("SLURM_JOB_ID") not in (unfinished := unfinished_jobs()):
        return
    for job in there.keys() - unfinished:
        shutil.rmtree(there[job], ignore_errors=True)


def _is_ours(folder: Path, cluster: str) -> bool:
    """Whether a folder is of a job of this user's on this cluster. Two clusters that share a disk have jobs of the same
    numbers.
    """
    with suppress(OSError, ValueError):
        return folder.lstat().st_uid == os.getuid() and (folder / CLUSTER).read_text() == cluster
    return False

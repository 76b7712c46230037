"""The job of a Ray cluster (`ray job submit`, KubeRay's RayJob) that this process was started as, if it is one."""

import os
from itertools import pairwise
from pathlib import Path

from hvae_spec.errors import UserError

MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""A variable that Ray sets for the command of a job alone. RAY_ADDRESS, which it sets too, says nothing of a job: it is
in the pods of KubeRay, and in the shells of users who work with other clusters.
"""
COPIES = ("runtime_resources", "working_dir_files")
"""In the folder of a Ray's session, where the copies of jobs' working folders are."""


def cluster_of_job() -> str | None:
    """The address of the cluster that this job was submitted to; None where this is no job."""
    return os.environ.get("RAY_ADDRESS") if MARK in os.environ else None


def check_is_kept(results: Path) -> None:
    """Refuse a results folder in the copy that Ray makes of a job's working folder (`--working-dir`): it is on one node
    alone, and removed some time after the job.

    Raises:
        UserError: the folder is in one.

    """
    folder = results.resolve()
    if MARK in os.environ and COPIES in pairwise(folder.parts):
        raise UserError(
            f"{folder}: in the copy that Ray has made of the working folder for this job, and will remove; name a "
            "folder on storage that all nodes share, as a whole path, with --results"
        )

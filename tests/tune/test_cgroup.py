"""Limits of control groups, read from trees of files as the kernel shows them."""

import math

import psutil
import pytest

from tune.plan import cgroup, devices
from tune.plan.cgroup import core_limit, memory_limit

GIB = 2**30
UNLIMITED = {"cpu.max": "max 100000", "memory.max": "max"}


def tree(folder, membership, files):
    """A mount and a membership file; `files` are contents by path below the mount."""
    mount = folder / "cgroup"
    mount.mkdir()
    for name, content in files.items():
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (folder / "membership").write_text(membership + "\n")
    return mount, folder / "membership"


@pytest.mark.parametrize(
    ("membership", "files", "cores", "memory"),
    [
        # Version 2: a container with a namespace of its own.
        ("0::/", {"cpu.max": "250000 100000", "memory.max": str(3 * GIB)}, 2.5, 3 * GIB),
        # No limits.
        ("0::/", UNLIMITED, math.inf, math.inf),
        # Nested: the smallest on the way up counts, whichever it is.
        (
            "0::/slurm/job_1/step_0",
            {
                "slurm/cpu.max": "400000 100000",
                "slurm/memory.max": str(8 * GIB),
                "slurm/job_1/cpu.max": "100000 50000",
                "slurm/job_1/memory.max": "max",
                "slurm/job_1/step_0/cpu.max": "max 100000",
                "slurm/job_1/step_0/memory.max": str(9 * GIB),
            },
            2.0,
            8 * GIB,
        ),
        # The path of the host, in a container that sees its own group at the mount.
        ("0::/docker/abc", {"cpu.max": "50000 100000", "memory.max": str(GIB)}, 0.5, GIB),
        # Version 1, with its controllers in one folder, and no limit of memory as it writes that.
        (
            "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a",
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/docker/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
                "memory/docker/a/memory.limit_in_bytes": "9223372036854771712",
                "memory/docker/memory.limit_in_bytes": str(2 * GIB),
            },
            3.0,
            2 * GIB,
        ),
        # Version 1 in a container: the host's path is not there.
        (
            "2:cpu:/kube/pod1\n5:memory:/kube/pod1",
            {
                "cpu/cpu.cfs_quota_us": "150000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": str(5 * GIB),
            },
            1.5,
            5 * GIB,
        ),
        # Damaged files and none are no limits.
        ("0::/\nnonsense", {"cpu.max": "", "memory.max": "much"}, math.inf, math.inf),
    ],
)
def test_the_smallest_limit_of_all_groups_counts(tmp_path, membership, files, cores, memory):
    places = tree(tmp_path, membership, files)
    assert core_limit(*places) == cores
    assert memory_limit(*places) == memory


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert core_limit(tmp_path / "none", tmp_path / "none") == math.inf
    assert memory_limit(tmp_path / "none", tmp_path / "none") == math.inf


@pytest.mark.parametrize(("there", "limit", "used"), [(8, 2.5, 2), (8, 0.5, 1), (4, math.inf, 4), (2, 16.0, 2)])
def test_cores_are_the_smaller_of_the_process_s_and_the_container_s(monkeypatch, there, limit, used):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: set(range(there)))
    monkeypatch.setattr(cgroup, "core_limit", lambda: limit)
    assert devices.cores() == used


def test_memory_is_the_smaller_of_the_machine_s_and_the_container_s(monkeypatch):
    monkeypatch.setattr(cgroup, "memory_limit", lambda: GIB)
    assert devices.memory("cpu") == devices.MEMORY_SHARE * GIB
    monkeypatch.setattr(cgroup, "memory_limit", lambda: math.inf)
    assert devices.memory("cpu") == devices.MEMORY_SHARE * psutil.virtual_memory().total

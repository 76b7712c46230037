"""What a machine is said to have."""

import os

import pytest

from tune.plan import devices
from tune.plan.devices import Machine


@pytest.mark.parametrize(
    ("kind", "environment", "there", "can"),
    [
        ("cpu", {}, {"g++"}, True),
        ("cpu", {}, {"clang++"}, True),
        ("cpu", {"CXX": "my++"}, {"my++"}, True),
        ("cpu", {"CXX": "my++"}, set(), False),
        ("cuda", {}, {"g++"}, False),
        ("cuda", {}, {"triton"}, True),
    ],
)
def test_what_compiling_needs(monkeypatch, kind, environment, there, can):
    monkeypatch.delenv("CXX", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name if name in there else None)
    assert devices.can_compile(kind) == can


def test_packs_share_a_gpu_where_their_kernels_run_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert devices.packs_per_gpu(gpus=1, cores=16) == 1
    daemon = tmp_path / "nvidia-cuda-mps-control.pid"
    daemon.write_text(f"{os.getpid()}\n")
    assert devices.packs_per_gpu(gpus=1, cores=12) == 12
    assert devices.packs_per_gpu(gpus=2, cores=64) == 16
    assert devices.packs_per_gpu(gpus=4, cores=2) == 1
    assert devices.packs_per_gpu(gpus=0, cores=8) == 1
    for content in (str(2**22 + 1), "none", ""):
        daemon.write_text(content)  # it has ended, or this is no daemon's
        assert devices.packs_per_gpu(gpus=1, cores=16) == 1


@pytest.mark.parametrize(
    ("cores", "nodes", "workers", "threads"),
    [
        (8, 1, 3, 2),
        (8, 1, 20, 1),
        (16, 2, 16, 1),
        (16, 2, 3, 4),  # two of them on one node
        (32, 4, 5, 4),
        (16, 2, 1, 8),  # no more than a node has
        (2, 4, 1, 1),
    ],
)
def test_packs_share_the_cores_of_their_node(cores, nodes, workers, threads):
    assert Machine(cores, nodes=nodes).threads(workers) == threads

"""What this machine has, found without torch."""

import glob
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from tune.plan import cgroup

MEMORY_SHARE = 0.9
"""Of a device's memory that packs may take."""
PACKS_UNDER_MPS = 16
"""Packs that share a GPU where their kernels can run side by side, a core for each permitting."""


@dataclass(frozen=True)
class Machine:
    """What packs may use."""

    cores: int
    """CPU cores."""
    gpus: int = 0
    """CUDA devices."""
    packs_per_gpu: int = 1
    """Packs that share one of them."""
    memory: float | None = None
    """Bytes that all packs which run at a time may take on one device; None: not known."""
    nodes: int = 1
    """Nodes of a cluster over which the cores are spread evenly. A pack is on one of them."""

    def threads(self, workers: int) -> int:
        """Cores that each of so many packs has, where all run at a time."""
        return max(1, self.cores // self.nodes // -(-workers // self.nodes))

    @property
    def kind(self) -> str:
        """Where packs compute, `cpu` or `cuda`."""
        return "cuda" if self.gpus else "cpu"


def gpus(device: str) -> int:
    """CUDA devices to use for a `--device` flag: those that the driver shows and CUDA_VISIBLE_DEVICES allows."""
    if device == "cpu":
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(glob.glob("/dev/nvidia[0-9]*"))
    if visible is not None:
        present = min(present, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    return min(present, 1) if device.startswith("cuda:") else present


def cores() -> int:
    """CPU cores that this process may use: those that it may run on, and no more than a container has time of."""
    there = len(os.sched_getaffinity(0))
    return max(1, int(min(there, cgroup.core_limit())))


def memory(kind: str) -> float | None:
    """Bytes that packs may take on one device: the smallest GPU, or for `cpu` the machine, or a container's share of
    it. None if unknown.
    """
    if kind == "cpu":
        return MEMORY_SHARE * min(psutil.virtual_memory().total, cgroup.memory_limit())
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
        return MEMORY_SHARE * min(float(line) for line in lines) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def has_mps() -> bool:
    """Whether NVIDIA's Multi-Process Service runs on this machine. With it, kernels of several processes run side by
    side on a GPU; without it, they take turns.
    """
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    try:
        return psutil.pid_exists(int((folder / "nvidia-cuda-mps-control.pid").read_text()))
    except (OSError, ValueError):
        return False


def packs_per_gpu(gpus: int, cores: int) -> int:
    """How many packs should share a GPU: several where they run side by side."""
    return max(1, min(PACKS_UNDER_MPS, cores // gpus)) if gpus and has_mps() else 1


def can_compile(kind: str) -> bool:
    """Whether what `torch.compile` needs is there: a C++ compiler for `cpu`, Triton for `cuda`."""
    if kind == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)

"""What this machine has, told without torch."""

import glob
import importlib.util
import os
import shutil
import subprocess

import psutil

MEMORY_SHARE = 0.9
"""Of a device's memory that packs may take."""


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
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory(kind: str) -> float | None:
    """Bytes that packs may take on one device: the smallest GPU, or the machine for `cpu`. None if unknown."""
    if kind == "cpu":
        return MEMORY_SHARE * psutil.virtual_memory().total
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
        return MEMORY_SHARE * min(float(line) for line in lines) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def can_compile(kind: str) -> bool:
    """Whether what `torch.compile` needs is there: a C++ compiler for `cpu`, Triton for `cuda`."""
    if kind == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)

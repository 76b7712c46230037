"""What SLURM lets a job have of this node: cores, GPUs, memory and an address. Of a host, that may be a small part."""

import math
import os
import re
import socket
import subprocess

import psutil

from hvae_spec.errors import MachineError
from tune.plan import cgroup, devices

PORTS = range(20000, 30000)
"""Ports of Ray's control service: below those that systems give to connections."""
PORTS_OF_A_JOB = 10
"""How far the ports of two jobs whose numbers follow each other are apart."""
STORE_SHARE, SMALLEST_STORE, LARGEST_STORE = 0.1, 100 * 2**20, 2 * 2**30
"""Of the memory, what Ray's object store gets, which holds no more than the specs of packs."""


def cores() -> int:
    """CPU cores of this job on this node."""
    given = _whole("SLURM_CPUS_ON_NODE")
    return min(devices.cores(), given) if given else devices.cores()


def gpus() -> int:
    """CUDA devices of this job on this node. Without the variable there are none, whatever the host has."""
    return min(devices.gpus("auto"), _whole("SLURM_GPUS_ON_NODE"))


def memory() -> int:
    """Bytes of memory of this job on this node."""
    limits = [float(psutil.virtual_memory().total), cgroup.memory_limit()]
    for name, count in (
        ("SLURM_MEM_PER_NODE", 1),
        ("SLURM_MEM_PER_CPU", _whole("SLURM_CPUS_ON_NODE")),
        ("SLURM_MEM_PER_GPU", _whole("SLURM_GPUS_ON_NODE")),
    ):
        # In MiB; 0 stands for all that the node has.
        limits.append(_whole(name) * count * 2**20 or math.inf)
    return int(min(limits))


def store(memory: int) -> int:
    """Bytes of the memory of a node that Ray's object store gets."""
    return int(max(SMALLEST_STORE, min(LARGEST_STORE, STORE_SHARE * memory)))


def address() -> str:
    """Where Ray's control service is to listen, on this node: `host:port`, with a port that is free.

    Raises:
        MachineError: the node's own address is not known, or all ports are taken.

    """
    host = _host()
    # Jobs on one host begin at ports of their own, so that none takes what another one is about to.
    first = PORTS_OF_A_JOB * _whole("SLURM_JOB_ID") % len(PORTS)
    for step in range(len(PORTS)):
        port = PORTS[(first + step) % len(PORTS)]
        if _is_free(host, port):
            return f"{host}:{port}"
    raise MachineError(f"{host}: no port from {PORTS.start} to {PORTS.stop - 1} is free for Ray")


def _host() -> str:
    """The address by which SLURM itself reaches this node, as a number. Raises MachineError if it has none."""
    name = os.environ.get("SLURMD_NODENAME", "")
    found = name
    try:
        command = ["scontrol", "show", "node", "--oneliner", name]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        if match := re.search(r"\bNodeAddr=(\S+)", text):
            found = match[1]
    except (OSError, subprocess.SubprocessError):
        pass  # where scontrol is not on nodes, their names do
    for one in (found, socket.gethostname()):
        try:
            return str(socket.getaddrinfo(one, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        except OSError:
            continue
    raise MachineError(f"{found or 'this node'}: its name has no address, so that other nodes cannot reach it")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind((host, port))
        except OSError:
            return False
    return True


def _whole(name: str) -> int:
    """A variable of the job's as a whole number; 0 where it is missing or something else."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0

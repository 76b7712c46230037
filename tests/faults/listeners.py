"""Looks, from the start of a run under Ray to its end, for sockets of its processes that listen to the network."""

import argparse
import ipaddress
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.faults.grids import RAY, Run
from tests.faults.outcome import Outcome, write

PAUSE = 0.2
"""Seconds between looks."""


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process and its descendants listen, as the system has it (/proc/net/tcp, tcp6)."""
    found = set()
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return found
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        found |= {(one.laddr.ip, one.laddr.port) for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def main() -> int:
    """The command. Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the row in docs/faults/listeners.json")
    options = parser.parse_args()
    found: set[tuple[str, int]] = set()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        run = Run(Path(name) / "watched", RAY)
        while run.process.poll() is None:
            found |= listening(run.process.pid)
            time.sleep(PAUSE)
        if run.code() != 0 or not found:
            raise RuntimeError(f"the run was not seen to listen at all, or failed: {run.said}")
    open_ones = sorted(one for one in found if not is_loopback(one[0]))
    sys.stdout.write(f"{len(found)} listening sockets, {len(open_ones)} of them not on loopback: {open_ones}\n")
    row = Outcome(
        "Listening sockets of a run under Ray, from its start to its end",
        len(found),
        len(found) - len(open_ones),
        len(open_ones),
        "only this machine can reach it",
        "python -m tests.faults.listeners",
    )
    if options.write:
        write("listeners", [row])
    return int(bool(open_ones))


if __name__ == "__main__":
    sys.exit(main())

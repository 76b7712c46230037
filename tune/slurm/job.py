"""`python -m tune.slurm.job COMMAND`: what the script of `hvae slurm` calls inside its job."""

import argparse
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

import psutil

from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.errors import MachineError, UserError
from tune.execute.session import session_folder
from tune.execute.signals import Interrupted
from tune.slurm import allocation, requeue
from tune.slurm.job_folder import remove_abandoned
from tune.slurm.submission import check_unchanged

JOIN_SECONDS = 180.0
"""How long nodes are waited for. A run goes on without those that have not joined."""
LOOK_SECONDS = 1.0
"""How often Ray is looked for before it listens."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tune.slurm.job") -> int:
    """The command. Returns the exit code."""
    options = _parser(prog).parse_args(arguments)
    return run_command(lambda: _dispatch(options))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=prog, description="What the script of `hvae slurm` calls inside its job.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    begin = commands.add_parser("begin", help="print where Ray's control service is to listen on this node")
    begin.add_argument("results", type=path_argument, metavar="DIR")
    begin.add_argument("grid", metavar="DIGEST", help="of the grid that the script was written for; empty: any")
    begin.add_argument("run", nargs=argparse.REMAINDER, metavar="...", help="options of the run, and the spec")
    node = commands.add_parser("node", help="run a raylet on this node until it is told to end")
    node.add_argument("address", metavar="ADDRESS")
    node.add_argument("results", type=path_argument, metavar="DIR")
    wait = commands.add_parser("wait", help="wait until nodes have joined")
    wait.add_argument("address", metavar="ADDRESS")
    wait.add_argument("nodes", type=int, metavar="N")
    wait.add_argument("srun", type=int, metavar="PID", help="process whose end says that no node will join any more")
    end = commands.add_parser("end", help="say how far the grid is, and put the job back into the queue")
    end.add_argument("results", type=path_argument, metavar="DIR")
    end.add_argument("code", type=int, metavar="CODE", help="exit code of the run")
    end.add_argument("--max-requeues", type=int, required=True, metavar="N")
    return parser


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "begin":
        return begin(options.results, options.grid, options.run)
    if options.command == "node":
        return run_node(options.address, options.results)
    if options.command == "wait":
        return wait(options.address, options.nodes, options.srun)
    requeue.end(options.results, options.code, options.max_requeues, _say)
    return 0


def _say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def begin(results: Path, grid: str, arguments: Sequence[str]) -> int:
    """Print where Ray's control service is to listen on this node, for a job that may go on. Returns the exit code.

    Args:
        results: the results folder.
        grid: the digest of the grid that the job's script was written for; empty: any grid.
        arguments: those of the run.

    Raises:
        UserError: the spec is not valid, or its grid is another one.
        MachineError: there is no address.

    """
    with redirect_stdout(sys.stderr):  # an extension may print, and the script reads what is printed here
        check_unchanged(arguments, grid)
    remove_abandoned(results)
    sys.stdout.write(f"{allocation.address()}\n")
    return 0


def run_node(address: str, results: Path) -> int:
    """Run a raylet with what the allocation has of this node, until SIGTERM comes or Ray ends. On the job's first node
    it comes with Ray's control service. Returns the exit code.

    Raises:
        UserError: the results folder, which holds the job's token, is not seen from this node.
        MachineError: Ray does not start.

    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", ""))
    if not token.is_file():
        raise UserError(
            f"{results}: node {_node()} does not see this folder, so nothing is trained there; choose one on storage "
            "that all nodes share, with --results"
        )
    memory = allocation.memory()
    store = allocation.store(memory)
    with session_folder() as folder:
        command = [
            *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", *_place(address)),
            *(f"--temp-dir={folder / 'r'}", "--disable-usage-stats"),
            *(f"--num-cpus={allocation.cores()}", f"--num-gpus={allocation.gpus()}"),
            *(f"--memory={max(1, memory - store)}", f"--object-store-memory={store}"),
        ]
        from tune.execute.cluster import QUIET

        log = folder / "start.log"
        with log.open("w") as stream:
            ray = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **QUIET})
        told: list[int] = []

        def end(number: int, frame: object) -> None:
            told.append(number)
            # Ray itself would wait for workers to be drained, and the run that they worked for is over.
            for process in reversed(psutil.Process().children(recursive=True)):
                with suppress(psutil.Error):
                    process.kill()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        code = ray.wait()
        if code and not told:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise MachineError(f"node {_node()}: Ray has ended ({lines[-1].strip() if lines else f'exit code {code}'})")
    return 0


def _place(address: str) -> list[str]:
    """Options of `ray start` that say which node this is."""
    if os.environ.get("SLURM_NODEID", "0") != "0":
        return [f"--address={address}"]
    host, _, port = address.rpartition(":")
    head = ["--head", f"--node-ip-address={host}", f"--port={port}", "--include-dashboard=false"]
    # The port of Ray's client would be the same for every job on this host; without its package there is none.
    return [*head, f"--ray-client-server-port={int(port) + 1}"] if importlib.util.find_spec("grpc") else head


def wait(address: str, nodes: int, srun: int) -> int:
    """Wait until all nodes have joined, or those that have can begin without the others. Returns the exit code.

    Args:
        address: where Ray's control service will listen.
        nodes: how many are waited for.
        srun: the process that starts them, on all nodes at once.

    Raises:
        MachineError: none has, and the time is up or none will.

    """
    from tune.execute.cluster import joined_nodes

    until = time.monotonic() + JOIN_SECONDS
    while not _listens(address) and time.monotonic() < until:
        if not _runs(srun):
            raise MachineError("Ray has not started on any node; why is said above")
        time.sleep(LOOK_SECONDS)
    try:
        found = joined_nodes(address, nodes, until - time.monotonic())
    except Interrupted as told:
        return 128 + told.number
    except UserError as error:
        raise MachineError(f"Ray has not started within {JOIN_SECONDS:.0f} seconds ({error})") from None
    cores = sum(node.cores for node in found)
    missing = (
        "" if len(found) >= nodes else " The run goes on without the others; why they are not there is said above."
    )
    names = ", ".join(node.name for node in found)
    _say(f"{len(found)} of {nodes} nodes have joined, with {cores} cores: {names}.{missing}")
    return 0


def _listens(address: str) -> bool:
    """Whether anybody listens at an address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME", "of this job")


if __name__ == "__main__":
    sys.exit(main())

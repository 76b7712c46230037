"""Ray: started on this machine or joined at an address, watched, asked, and left again."""

import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from hvae_spec.errors import MachineError, UserError
from tune.execute.signals import Interrupted, Interruption, leave

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps a local Ray off the network: without it, Ray listens on all interfaces."""
WATCH_SECONDS, DEAD_SECONDS, ENDING_SECONDS = 2.0, 45.0, 5.0
"""How often Ray's control service is looked for, and after what time without an answer it is dead: while a run goes on,
and when it has been told to end, with which the service may have ended."""
TOKEN = secrets.token_hex(32)
"""What a local Ray asks of its clients. Drawn once per process: Ray reads it once, and a later start with another one
fails.
"""
NO_LINES = re.compile(r"\s*Last 0 lines of error files:$")
"""Announces, in a message of Ray's, lines that do not follow."""
AUTOSCALER = re.compile(r"\bray/autoscaler/.*monitor\.py$")
"""A process of a local Ray that has nothing to do there, and takes a second to end when asked."""
GOES_ON = "The same command goes on from the last checkpoints."
ANSWER_SECONDS = 600.0
"""How long a node may take to say what it has. It may have to download a data set."""


class RayDiedError(MachineError):
    """The local Ray is gone."""


@contextmanager
def ray_running(
    cores: int, gpus: int, address: str | None, scratch: Path, interruption: Interruption | None = None
) -> Iterator[Any]:
    """Ray, started on this machine or joined at an address, and left again at the end.

    Args:
        cores: CPU cores that a local Ray may use.
        gpus: CUDA devices that a local Ray may use.
        address: an existing cluster to use instead.
        scratch: an empty folder, which a local Ray uses for its files.
        interruption: says whether the run has been told to end.

    Raises:
        UserError: there is no cluster at the address.
        MachineError: Ray does not start here.
        Interrupted: SIGTERM came while it started.

    """
    os.environ.update(QUIET | ({} if address else LOOPBACK))
    import logging

    logging.getLogger("ray.widgets").setLevel(logging.CRITICAL)  # on import, it asks a notebook's user for a package

    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"address": "local", "num_cpus": cores, "num_gpus": gpus, "include_dashboard": False}
        options |= {"_temp_dir": str(scratch / "r")}  # in a folder of the folder, as Ray opens its own to all users
        # Ray would keep one in the user's home, which there need not be.
        os.environ["RAY_AUTH_TOKEN"] = TOKEN
    else:
        _check_address(address)
        options |= {"address": address}
    log = scratch / "driver.log"
    try:
        with _messages_in(log), _away_from_working_folder(scratch):
            ray.init(**options)
    except SystemExit as stop:  # while it starts, Ray has a signal handler of its own
        if stop.code == signal.SIGTERM:
            raise Interrupted(signal.SIGTERM) from None
        raise
    except Exception as error:
        reason = first_line(error)
        if address is None:
            raise MachineError(
                f"Ray did not start ({reason}); run the same command again, or with --serial, which does without Ray"
            ) from None
        if "token" in reason or "AuthToken" in log.read_text(errors="replace"):
            reason = (
                "it asks for a token, and the one that was given is missing or not its own; set RAY_AUTH_MODE=token, "
                "and have the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
            )
        raise UserError(f"--address {address}: no Ray cluster can be joined there ({reason})") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _messages_in(log), _watched(service_of(ray), interruption or Interruption()):
            yield ray
            _shut_down(ray, is_local=address is None)
    finally:
        _shut_down(ray, is_local=address is None)


def _shut_down(ray: Any, *, is_local: bool) -> None:
    """End a local Ray, or leave a cluster."""
    for child in psutil.Process().children() if is_local else ():
        with suppress(psutil.Error):
            if any(AUTOSCALER.search(word) for word in child.cmdline()):
                child.kill()
    ray.shutdown()


class JoinedNode(NamedTuple):
    """A node of a cluster that is alive."""

    name: str
    cores: int


def joined_nodes(address: str, count: int, seconds: float) -> list[JoinedNode]:
    """The nodes of a cluster, once there are so many, or after a time.

    Args:
        address: where its control service is, or will be.
        count: how many nodes to wait for.
        seconds: how long to wait at most.

    Raises:
        UserError: there is no cluster after that time.

    """
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        while True:
            try:
                with ray_running(0, 0, address, Path(scratch)) as ray:
                    while len(found := alive_nodes(ray)) < count and time.monotonic() < until:
                        time.sleep(WATCH_SECONDS)
                    return [
                        JoinedNode(node["NodeManagerHostname"], int(node["Resources"].get("CPU", 0))) for node in found
                    ]
            except UserError:
                if time.monotonic() > until:
                    raise
                time.sleep(WATCH_SECONDS)


def alive_nodes(ray: Any) -> list[dict[str, Any]]:
    """What Ray says of its nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


class ControlService:
    """Ray's control service (GCS), which knows the nodes of a cluster, and without which nothing goes on."""

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self.place = (host.strip("[]"), int(port))

    @property
    def answers(self) -> bool:
        """Whether it can be connected to."""
        with suppress(OSError):
            socket.create_connection(self.place, timeout=WATCH_SECONDS).close()
            return True
        return False


def service_of(ray: Any) -> ControlService:
    """The control service of the cluster that this process is part of."""
    return ControlService(ray.get_runtime_context().gcs_address)


@contextmanager
def _watched(service: ControlService, interruption: Interruption) -> Iterator[None]:
    """Within this context, this process ends with one line when Ray's control service is gone. Ray itself ends it
    without one, 15 seconds later; until then its calls wait.
    """
    is_over = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not is_over.wait(WATCH_SECONDS):
            if service.answers:
                answered = time.monotonic()
            number = interruption.number
            if time.monotonic() - answered > (DEAD_SECONDS if number is None else ENDING_SECONDS):
                told = "" if number is None else f"Interrupted ({signal.Signals(number).name}). "
                gone = f"Ray's control service (GCS) at {service.address} cannot be reached any more"
                sys.stderr.write(f"{told}{gone}. {GOES_ON}\n")
                sys.stderr.flush()
                leave(RayDiedError.exit_code if number is None else 128 + number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _messages_in(log: Path) -> Iterator[None]:
    """Within this context, what Ray's compiled parts have to say goes into a file, and not to the terminal."""
    terminal = os.dup(2)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def _away_from_working_folder(folder: Path) -> Iterator[None]:
    """Within this context, another folder is the working folder, unless that is the project's own. Ray has its workers
    look there for modules first, and a user's may have any name.
    """
    here, home = Path.cwd(), Path(__file__).resolve().parents[2]
    if here == home:
        yield
        return
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths if path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def with_home(folder: Path) -> Iterator[None]:
    """Within this context, a user without a home (no HOME, and none in the system's list of users) has this folder for
    one: Ray's modules cannot be imported otherwise.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(folder.resolve())
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


def _check_address(address: str) -> None:
    """Refuse a cluster's address where nobody listens: Ray itself would try for minutes.

    Raises:
        UserError: it cannot be connected to.

    """
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    host = host.removeprefix("ray://")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"--address {address}: no Ray cluster can be joined there ({error})") from None


def first_line(error: BaseException) -> str:
    """An error in one line: the first one, and the next if that is announced by it."""
    first, *further = str(error).strip().splitlines() or [type(error).__name__]
    first = NO_LINES.sub("", first)
    return " ".join(" ".join([first, *further[: first.endswith(":")]]).split())


def local_raylets() -> list[psutil.Process]:
    """Ray's scheduler, where this process started it."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "raylet"]


def ask_nodes(ray: Any, question: Callable[..., Any], argument: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Ask every node of a cluster that is alive, all at the same time.

    Args:
        ray: Ray.
        question: is called on each of them, with the argument and Ray's id of the node.
        argument: anything that can be pickled.

    Yields:
        what Ray says of a node, and the answer, or the error in its place: the node has gone, or hangs.

    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = []
    for node in alive_nodes(ray):
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((node, ask.options(scheduling_strategy=here).remote(argument, node["NodeID"])))
    ray.wait([answer for _, answer in asked], num_returns=len(asked), timeout=ANSWER_SECONDS)
    for node, answer in asked:
        try:
            yield node, ray.get(answer, timeout=0.1)
        except Exception as error:
            yield node, error


def leave_word(word: str) -> None:
    """Let every worker of the cluster know a word. Unlike a file, it is seen at once by all nodes, and an actor that
    knew it would be a process more.
    """
    from ray.experimental.internal_kv import _internal_kv_put

    with suppress(Exception):  # Ray has ended a moment ago
        _internal_kv_put(word, b"")


def knows_word(word: str) -> bool:
    """Whether a word was left. False also where Ray does not answer any more."""
    from ray.experimental.internal_kv import _internal_kv_exists

    try:
        return bool(_internal_kv_exists(word))
    except Exception:
        return False


def forget_word(word: str) -> None:
    """Take a word back."""
    from ray.experimental.internal_kv import _internal_kv_del

    with suppress(Exception):  # Ray has ended a moment ago
        _internal_kv_del(word)

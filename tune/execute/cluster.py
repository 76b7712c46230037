"""Packs on Ray: one trial per pack. Ray schedules and retries; what is done, and how far, only the records know.

(Ray's own experiment state is written to a temporary folder and never read.)
"""

import math
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.pack_job import PackJob, Progress
from hvae_spec.records.files import write_atomically
from tune.execute import nodes
from tune.execute.outcomes import ATTEMPTS, Markers, Outcomes, disk_fault
from tune.execute.pack_listener import PackListener
from tune.execute.session import session_folder
from tune.execute.signals import Interrupted, Interruption, leave
from tune.plan.devices import Machine

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
CHUNK = 512
"""About how many packs are submitted at a time: Tune keeps every trial that it was ever given in memory."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps a local Ray off the network: without it, Ray listens on all interfaces."""
WATCH_SECONDS, DEAD_SECONDS = 2.0, 45.0
"""How often Ray's control service is looked for, and after what time without an answer it is dead."""
TOKEN = secrets.token_hex(32)
"""What a local Ray asks of its clients. Drawn once per process: Ray reads it once, and a later start with another one
fails.
"""
NO_LINES = re.compile(r"\s*Last 0 lines of error files:$")
"""Announces, in a message of Ray's, lines that do not follow."""
AUTOSCALER = re.compile(r"\bray/autoscaler/.*monitor\.py$")
"""A process of a local Ray that has nothing to do there, and takes a second to end when asked."""
GOES_ON = "The same command goes on from the last checkpoints."
NODE_LABEL = "ray.io/node-id"
"""By what Ray knows a node, where it is said on which ones a trial may run."""
ANSWER_SECONDS = 600.0
"""How long a node may take to say what it has. It may have to download a data set."""
WAITS_FOR = "Ray to start, or to end its workers"
"""What an interruption waits for."""


class RayDiedError(MachineError):
    """The local Ray is gone."""


@contextmanager
def ray_running(cores: int, gpus: int, address: str | None, scratch: Path) -> Iterator[Any]:
    """Ray, started on this machine or joined at an address, and left again at the end.

    Args:
        cores: CPU cores that a local Ray may use.
        gpus: CUDA devices that a local Ray may use.
        address: an existing cluster to use instead.
        scratch: an empty folder, which a local Ray uses for its files.

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
        reason = _first_line(error)
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
        with _messages_in(log), _watched(ray.get_runtime_context().gcs_address):
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
                    while len(found := _alive(ray)) < count and time.monotonic() < until:
                        time.sleep(WATCH_SECONDS)
                    return [
                        JoinedNode(node["NodeManagerHostname"], int(node["Resources"].get("CPU", 0))) for node in found
                    ]
            except UserError:
                if time.monotonic() > until:
                    raise
                time.sleep(WATCH_SECONDS)


def _alive(ray: Any) -> list[dict[str, Any]]:
    """What Ray says of its nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


@contextmanager
def _watched(address: str) -> Iterator[None]:
    """Within this context, this process ends with one line when Ray's control service (GCS) is gone. Ray itself ends it
    without one, 15 seconds later; until then its calls wait.
    """
    is_over = threading.Event()

    def watch() -> None:
        host, _, port = address.rpartition(":")
        answered = time.monotonic()
        while not is_over.wait(WATCH_SECONDS):
            with suppress(OSError):
                socket.create_connection((host.strip("[]"), int(port)), timeout=WATCH_SECONDS).close()
                answered = time.monotonic()
            if time.monotonic() - answered > DEAD_SECONDS:
                sys.stderr.write(f"Ray's control service (GCS) at {address} cannot be reached any more. {GOES_ON}\n")
                sys.stderr.flush()
                leave(RayDiedError.exit_code)

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
def _with_home(folder: Path) -> Iterator[None]:
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


def run_on_ray(
    jobs: list[PackJob],
    listener: PackListener,
    interruption: Interruption,
    *,
    machine: Machine,
    workers: int,
    say: Callable[[str], None],
    address: str | None = None,
) -> None:
    """Run packs as Ray Tune trials, the first ones first, several at a time. Packs that run out of memory give way to
    their halves.

    Args:
        jobs: packs, the costliest first.
        listener: informed of everything that happens.
        interruption: says when to stop.
        machine: what a local Ray may use, and how many packs share a GPU.
        workers: packs that run at a time, as far as that is known.
        say: told of nodes on which nothing is trained, in a line each.
        address: an existing cluster to use instead.

    Raises:
        UserError: nothing can be trained on any node of the cluster.

    """
    folder = session_folder() if address is None else _shared_folder(jobs[0].results)
    with (
        interruption.deferred(WAITS_FOR),
        folder as scratch,
        _with_home(scratch),
        ray_running(machine.cores, machine.gpus, address, scratch) as ray,
    ):
        interruption.arm()  # Ray has put handlers of its own in place
        unfit = {} if address is None else _unfit_nodes(ray, jobs, scratch)
        fit = [node for node in _alive(ray) if node["NodeID"] not in unfit]
        if not fit:
            raise UserError("\n".join(unfit.values()))
        for line in unfit.values():
            say(line)
        gpus: float = machine.gpus
        if address is not None:
            gpus = 0 if jobs[0].device == "cpu" else sum(node["Resources"].get("GPU", 0) for node in fit)
        # A pack that began with more threads than any machine now has cores keeps them, for the sake of its bits.
        most = max(int(node["Resources"].get("CPU", 1)) for node in fit)
        in_order = sorted(jobs, key=lambda job: -job.threads)
        for threads, group in groupby(in_order, key=lambda job: job.threads):
            bundle = {"CPU": max(1, min(threads, most)), **({"GPU": 1 / machine.packs_per_gpu} if gpus else {})}
            left = list(group)
            while left:
                chunk, left = next_chunk(left, workers)
                left = _run_trials(chunk, listener, interruption, _resources(bundle, unfit), scratch) + left


def _resources(bundle: dict[str, float], unfit: Iterable[str]) -> Any:
    """What a trial takes of a node, and which nodes it may not be on, by Ray's ids."""
    from ray.tune import PlacementGroupFactory

    if not unfit:
        return PlacementGroupFactory([bundle])
    return PlacementGroupFactory([bundle], bundle_label_selector=[{NODE_LABEL: f"!in({','.join(unfit)})"}])


def next_chunk(jobs: list[PackJob], workers: int) -> tuple[list[PackJob], list[PackJob]]:
    """The packs to submit next, and those that come later.

    Workers are idle between the ends of a chunk's last packs. So each chunk gets packs of all durations and ends with
    its shortest, and as the longest come in rows of similar ones, a worker each, only whole rows.

    Args:
        jobs: the longest first.
        workers: how many run at a time.

    """
    size = workers * math.ceil(CHUNK / workers)
    chunks = math.ceil(len(jobs) / size)
    rows = [jobs[start : start + workers] for start in range(0, len(jobs), workers)]
    now = [job for row in rows[::chunks] for job in row]
    later = [job for place, row in enumerate(rows) for job in row if place % chunks]
    return now, later


def _run_trials(
    jobs: list[PackJob], listener: PackListener, interruption: Interruption, resources: Any, scratch: Path
) -> list[PackJob]:
    """Run packs. Returns those that are to run in the place of packs that ran out of memory."""
    from ray import tune as ray_tune

    by_id = {job.pack_id: job for job in jobs}
    driver = (socket.gethostname(), os.getpid())
    packs = Outcomes(by_id, listener)
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(
            _run_trial, jobs=by_id, driver=driver, variables=_variables(), scratch=scratch.resolve()
        ),
        resources,
    )
    faults: list[MachineError] = []
    tuner = ray_tune.Tuner(
        trainable,
        param_space={"pack": ray_tune.grid_search(list(by_id))},
        tune_config=ray_tune.TuneConfig(
            reuse_actors=True, trial_name_creator=_trial_name, trial_dirname_creator=_trial_name
        ),
        run_config=ray_tune.RunConfig(
            name="trials",
            storage_path=str(scratch.resolve()),
            failure_config=ray_tune.FailureConfig(max_failures=ATTEMPTS - 1),
            callbacks=[_callback(packs, interruption, faults)],
            verbose=0,
            progress_reporter=ray_tune.CLIReporter(),  # that of notebooks clears what else a cell has printed
        ),
    )
    try:
        tuner.fit()
    except UserError:
        raise
    except Exception as error:
        raise faults[0] if faults else disk_fault(error) or RayDiedError(f"{_first_line(error)}. {GOES_ON}") from None
    if faults:
        raise faults[0]
    return packs.halves


@contextmanager
def _shared_folder(results: Path) -> Iterator[Path]:
    """A folder for what Tune writes that every node of a cluster sees; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".ray-", dir=results))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    """An error in one line: the first one, and the next if that is announced by it."""
    first, *further = str(error).strip().splitlines() or [type(error).__name__]
    first = NO_LINES.sub("", first)
    return " ".join(" ".join([first, *further[: first.endswith(":")]]).split())


def _local_raylets() -> list[psutil.Process]:
    """Ray's scheduler, where this process started it."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "raylet"]


def _trial_name(trial: Any) -> str:
    return str(trial.config["pack"])


def _variables() -> dict[str, str]:
    """What a worker must know of the driver's environment."""
    named = os.environ.get("HVAE_DATA_DIR")
    return {"HVAE_DATA_DIR": os.path.abspath(os.path.expanduser(named))} if named else {}


def _run_trial(
    config: dict[str, Any], jobs: dict[str, PackJob], driver: tuple[str, int], variables: dict[str, str], scratch: Path
) -> None:
    """One trial: a pack, in a worker."""
    from ray import tune as ray_tune

    from tune.execute.splitting import fits

    os.environ.update(variables)
    job = jobs[config["pack"]]
    if not scratch.is_dir():  # a node that has joined since the others were looked at
        why = f"node {socket.gethostname()}: {nodes.unseen(job.results)}"
        ray_tune.report({"refused": why})
        raise MachineError(why)
    markers = Markers(job)

    def report(progress: Progress) -> None:
        _leave_if_orphaned(driver)
        # Nested, as Tune gives names such as `done` a meaning of its own.
        ray_tune.report({"progress": asdict(progress)})

    try:
        try:
            markers.clear()
            if not fits(job, report):
                markers.out_of_memory.touch()
        except Exception as error:
            if disk_fault(error) is None:
                write_atomically(markers.failure, traceback.format_exc())
            raise
    except OSError as error:
        if (fault := disk_fault(error)) is None:
            raise
        # The driver is told through Ray, as there may be no disk to write to.
        ray_tune.report({"fault": str(fault)})


def _leave_if_orphaned(driver: tuple[str, int]) -> None:
    """End this worker if its driver was killed: a new driver may want the pack. The last checkpoint stands."""
    name, pid = driver
    if name == socket.gethostname() and not psutil.pid_exists(pid):
        os.kill(os.getpid(), signal.SIGKILL)


def _callback(packs: Outcomes, interruption: Interruption, faults: list[MachineError]) -> Any:
    """A Tune callback that reports what becomes of packs. Its methods run in Tune's loop: quick, and never raising but
    to end it.

    Args:
        packs: is told what becomes of them.
        interruption: says when to stop.
        faults: gets what ends the run.

    """
    from ray.tune import Callback

    class Tell(Callback):
        def __init__(self, packs: Outcomes, interruption: Interruption) -> None:
            self.packs, self.interruption = packs, interruption
            self.raylets = _local_raylets()

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its callbacks for a restore that is never made, and a terminal cannot be pickled.
            return {}

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.interruption.check()
            if faults:
                raise faults[0]
            # Tune would wait for a dead Ray for ever.
            if any(not raylet.is_running() or raylet.status() == psutil.STATUS_ZOMBIE for raylet in self.raylets):
                faults.append(RayDiedError(f"Ray has died on this machine. {GOES_ON}"))
                raise faults[0]

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.packs.started(trial.config["pack"])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "fault" in result:
                faults.append(MachineError(result["fault"]))
            if "refused" in result:
                self.packs.refused[trial.config["pack"]] = result["refused"]
            if "progress" in result:
                self.packs.listener.progressed(Progress(**result["progress"]))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.raised, trial)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.returned, trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.given_up, trial)

        def judge(self, what: Callable[[str], None], trial: Any) -> None:
            if faults:
                return  # nothing can be written, and the run ends
            try:
                what(trial.config["pack"])
            except OSError as error:
                faults.append(disk_fault(error) or MachineError(refusal("a file", error)))

    return Tell(packs, interruption)


def _unfit_nodes(ray: Any, jobs: Sequence[PackJob], shared: Path) -> dict[str, str]:
    """Nodes of a cluster on which these packs cannot be trained, by Ray's ids, each with the reason in one line: those
    that do not see the results folder, or have not the images.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    needed = nodes.requirements(jobs, shared.resolve(), _variables())
    expected = nodes.digests(needed)
    ask = ray.remote(num_cpus=0, max_retries=0)(nodes.look)
    asked = {}
    for node in _alive(ray):
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[node["NodeID"]] = node, ask.options(scheduling_strategy=here).remote(needed, node["NodeID"])
    ray.wait([answer for _, answer in asked.values()], num_returns=len(asked), timeout=ANSWER_SECONDS)
    unfit = {}
    for name, (node, answer) in asked.items():
        try:
            why = nodes.fault(ray.get(answer, timeout=0.1), needed, expected, name)
        except Exception as error:  # it has gone, or hangs
            why = f"it does not answer ({_first_line(error)})"
        if why:
            where = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            unfit[name] = f"Nothing is trained on node {where}: {why}"
    return unfit

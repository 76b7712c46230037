"""Packs on Ray: one trial a pack. Ray schedules and retries; what is done, and how far, only the records know.

(Ray's own experiment state is written to a temporary folder and never read.)
"""

import os
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from hvae_spec.errors import UserError
from hvae_spec.jobs import PackJob, Progress
from tune.display import Listener
from tune.failures import ATTEMPTS, record_failure
from tune.signals import Interruption

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
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps a local Ray off the network: without it, Ray listens on all interfaces."""


class RayDiedError(Exception):
    """The local Ray is gone."""


@contextmanager
def ray_running(cores: int, gpus: int, address: str | None) -> Iterator[Any]:
    """Ray, started on this machine or joined at an address, and left again at the end.

    Raises:
        UserError: there is no cluster at the address.

    """
    os.environ.update(QUIET | ({} if address else LOOPBACK))
    import logging

    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"address": "local", "num_cpus": cores, "num_gpus": gpus, "include_dashboard": False}
    else:
        _check_address(address)
        options |= {"address": address}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--address {address}: no Ray cluster can be joined there ({reason})") from None
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield ray
    finally:
        ray.shutdown()


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
    listener: Listener,
    interruption: Interruption,
    *,
    cores: int,
    gpus: int,
    address: str | None = None,
) -> None:
    """Run packs as Ray Tune trials, the first ones first, several at a time.

    Args:
        jobs: packs, the costliest first.
        listener: told of everything that happens.
        interruption: tells when to stop.
        cores: CPU cores that a local Ray may use.
        gpus: CUDA devices that a local Ray may use.
        address: an existing cluster to use instead.

    """
    with interruption.deferred(), ray_running(cores, gpus, address) as ray:
        interruption.arm()  # Ray has put handlers of its own in place
        if address is not None:
            _check_shared_storage(ray, jobs[0].results)
            gpus = 0 if jobs[0].device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
        # A pack that began with more threads than any machine now has cores keeps them, for the sake of its bits.
        most = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        in_order = sorted(jobs, key=lambda job: -job.threads)
        for threads, group in groupby(in_order, key=lambda job: job.threads):
            _run_trials(list(group), listener, interruption, max(1, min(threads, most)), gpus)


def _run_trials(jobs: list[PackJob], listener: Listener, interruption: Interruption, threads: int, gpus: int) -> None:
    from ray import tune as ray_tune

    by_id = {job.pack_id: job for job in jobs}
    driver = (socket.gethostname(), os.getpid())
    resources: dict[str, float] = {"cpu": threads, "gpu": 1 if gpus else 0}
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(_run_trial, jobs=by_id, driver=driver, variables=_variables()), resources
    )
    results = jobs[0].results
    scratch = Path(tempfile.mkdtemp(prefix=".ray-", dir=results))
    try:
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
                callbacks=[_callback(by_id, listener, interruption)],
                verbose=0,
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _local_raylets() -> list[psutil.Process]:
    """Ray's scheduler, where this process started it."""
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "raylet"]


def _trial_name(trial: Any) -> str:
    return str(trial.config["pack"])


def _variables() -> dict[str, str]:
    """What a worker must know of the driver's environment."""
    return {name: os.environ[name] for name in ("HVAE_DATA_DIR",) if name in os.environ}


def _run_trial(
    config: dict[str, Any], jobs: dict[str, PackJob], driver: tuple[str, int], variables: dict[str, str]
) -> None:
    """One trial: a pack, in a worker."""
    from ray import tune as ray_tune

    from hvae_spec.pack import run_pack

    os.environ.update(variables)
    job = jobs[config["pack"]]
    failure = job.results / "packs" / job.pack_id / "failure.txt"
    failure.unlink(missing_ok=True)

    def report(progress: Progress) -> None:
        _leave_if_orphaned(driver)
        # Nested, as Tune gives names such as `done` a meaning of its own.
        ray_tune.report({"progress": asdict(progress)})

    try:
        run_pack(job, report)
    except Exception:
        failure.write_text(traceback.format_exc())
        raise


def _leave_if_orphaned(driver: tuple[str, int]) -> None:
    """End this worker if its driver was killed: a new driver may want the pack. The last checkpoint stands."""
    name, pid = driver
    if name == socket.gethostname() and not psutil.pid_exists(pid):
        os.kill(os.getpid(), signal.SIGKILL)


def _callback(jobs: dict[str, PackJob], listener: Listener, interruption: Interruption) -> Any:
    """A Tune callback that tells the listener. Its methods run in Tune's loop: quick, and never raising."""
    from ray.tune import Callback

    class Tell(Callback):
        def __init__(self, jobs: dict[str, PackJob], listener: Listener, interruption: Interruption) -> None:
            self.jobs, self.listener, self.interruption = jobs, listener, interruption
            self.seen: set[str] = set()
            self.raylets = _local_raylets()

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its callbacks for a restore that is never made, and a terminal cannot be pickled.
            return {}

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.interruption.check()
            # Tune would wait for a dead Ray for ever.
            if any(not raylet.is_running() or raylet.status() == psutil.STATUS_ZOMBIE for raylet in self.raylets):
                raise RayDiedError("Ray has died on this machine. The same command goes on from the last checkpoints.")

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            pack_id = trial.config["pack"]
            if pack_id not in self.seen:
                self.seen.add(pack_id)
                self.listener.started(pack_id)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "progress" in result:
                self.listener.progressed(Progress(**result["progress"]))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            job = self.jobs[trial.config["pack"]]
            self.listener.failed(job.pack_id, _reason(job), final=False)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            job = self.jobs[trial.config["pack"]]
            if job.is_done:
                self.listener.ended(job.pack_id)
            else:
                self.give_up(job, "the trial ended before its members had their results")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            job = self.jobs[trial.config["pack"]]
            self.give_up(job, _traceback(job))

        def give_up(self, job: PackJob, why: str) -> None:
            record_failure(job, why)
            self.listener.failed(job.pack_id, why.strip().splitlines()[-1], final=True)

    return Tell(jobs, listener, interruption)


def _traceback(job: PackJob) -> str:
    path = job.results / "packs" / job.pack_id / "failure.txt"
    return path.read_text() if path.exists() else "the worker died without a word (killed, or out of memory)\n"


def _reason(job: PackJob) -> str:
    return _traceback(job).strip().splitlines()[-1]


def _check_shared_storage(ray: Any, results: Path) -> None:
    """Make sure that every node of a cluster sees the results folder.

    Raises:
        UserError: a node does not.

    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker = results.resolve() / f".marker-{os.getpid()}"
    marker.write_text("every node must see this file")

    def sees() -> bool:
        return marker.exists()

    try:
        for node in ray.nodes():
            if node["Alive"]:
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                if not ray.get(ray.remote(num_cpus=0)(sees).options(scheduling_strategy=here).remote()):
                    raise UserError(
                        f"{results}: node {node['NodeManagerAddress']} of the cluster does not see this folder; "
                        "choose one on storage that all nodes share, with --results"
                    )
    finally:
        marker.unlink(missing_ok=True)

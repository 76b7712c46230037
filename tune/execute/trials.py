"""Packs on Ray: one trial per pack. Ray schedules and retries; what is done, and how far, only the records know.

(Ray's own experiment state is written to a temporary folder and never read.)
"""

import math
import os
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.pack_job import PackJob, Progress, StoppedError
from hvae_spec.records.files import write_atomically
from tune.execute import nodes
from tune.execute.cluster import (
    GOES_ON,
    ControlService,
    RayDiedError,
    alive_nodes,
    ask_nodes,
    first_line,
    forget_word,
    local_raylets,
    ray_running,
    service_of,
    with_home,
)
from tune.execute.ending import Ending, IsEnding
from tune.execute.outcomes import ATTEMPTS, Markers, Outcomes, disk_fault
from tune.execute.pack_listener import PackListener
from tune.execute.session import session_folder
from tune.execute.signals import Interruption
from tune.plan.devices import Machine

Resources = Mapping[str, float]
"""Amounts by Ray's names."""
UNITS = {"CPU": "core", "GPU": "GPU"}
CHUNK = 512
"""About how many packs are submitted at a time: Tune keeps every trial that it was ever given in memory."""
NODE_LABEL = "ray.io/node-id"
"""By what Ray knows a node, where it is said on which ones a trial may run."""
WAITS_FOR = "Ray to start, or to end its workers"
"""What an interruption waits for."""
PATIENCE = 30.0
"""Seconds without a pack that begins, after which is said what packs need and what is free."""


def run_on_ray(
    jobs: list[PackJob],
    listener: PackListener,
    interruption: Interruption,
    *,
    machine: Machine,
    workers: int,
    grace: int,
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
        grace: seconds that packs have to write checkpoints when SIGTERM comes.
        say: told of nodes on which nothing is trained, and of an end that is waited for, in a line each.
        address: an existing cluster to use instead.

    Raises:
        UserError: nothing can be trained on any node of the cluster.
        Interrupted: by a signal.

    """
    folder = session_folder() if address is None else _shared_folder(jobs[0].results)
    with (
        interruption.deferred(WAITS_FOR),
        folder as scratch,
        with_home(scratch),
        ray_running(machine.cores, machine.gpus, address, scratch, interruption) as ray,
        _word_left_behind(scratch, service_of(ray), interruption),
    ):
        interruption.arm()  # Ray has put handlers of its own in place
        unfit: dict[str, str] = {}
        if address is not None:
            needed = nodes.requirements(jobs, scratch.resolve())
            unfit = nodes.unfit_nodes(needed, ask_nodes(ray, nodes.look, needed))
        fit = [node for node in alive_nodes(ray) if node["NodeID"] not in unfit]
        if not fit:
            raise UserError("\n".join(unfit.values()))
        for line in unfit.values():
            say(line)
        gpus: float = machine.gpus
        if address is not None:
            gpus = 0 if jobs[0].device == "cpu" else sum(node["Resources"].get("GPU", 0) for node in fit)
        # A pack that began with more threads than any machine now has cores keeps them, for the sake of its bits.
        most = max(int(node["Resources"].get("CPU", 1)) for node in fit)
        free = None if address is None else ray.available_resources
        run = _Run(listener, interruption, service_of(ray), scratch.resolve(), grace, say, free)
        in_order = sorted(jobs, key=lambda job: -job.threads)
        for threads, group in groupby(in_order, key=lambda job: job.threads):
            needs = {"CPU": max(1, min(threads, most)), **({"GPU": 1 / machine.packs_per_gpu} if gpus else {})}
            left = list(group)
            while left:
                chunk, left = next_chunk(left, workers)
                left = _run_trials(chunk, run, needs, unfit) + left


@dataclass
class _Run:
    """What all trials of a run have in common: who is told of them, and how they end."""

    listener: PackListener
    interruption: Interruption
    service: ControlService
    scratch: Path
    """A folder that all of them see, if they can be trained."""
    grace: int
    say: Callable[[str], None]
    free: Callable[[], Resources] | None
    """What of a cluster nobody has taken; None of a Ray that nobody else uses."""
    waits_since: float = field(default_factory=time.monotonic)
    """Since when nothing has begun."""
    is_waiting: bool = True
    """Whether nothing has begun yet, and that was not said."""


def _placement(needs: Resources, unfit: Iterable[str]) -> Any:
    """What a trial takes of a node, and which nodes it may not be on, by Ray's ids."""
    from ray.tune import PlacementGroupFactory

    if not unfit:
        return PlacementGroupFactory([dict(needs)])
    return PlacementGroupFactory([dict(needs)], bundle_label_selector=[{NODE_LABEL: f"!in({','.join(unfit)})"}])


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


def _run_trials(jobs: list[PackJob], run: _Run, needs: Resources, unfit: Iterable[str]) -> list[PackJob]:
    """Run packs, each with what it needs of a node that is not unfit. Returns those that are to run in the place of
    packs that ran out of memory.
    """
    from ray import tune as ray_tune

    by_id = {job.pack_id: job for job in jobs}
    driver = (socket.gethostname(), os.getpid())
    packs = Outcomes(by_id, run.listener)
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(
            _run_trial,
            jobs=by_id,
            driver=driver,
            variables=nodes.driver_variables(),
            scratch=run.scratch,
            grace=run.grace,
        ),
        _placement(needs, unfit),
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
            storage_path=str(run.scratch),
            failure_config=ray_tune.FailureConfig(max_failures=ATTEMPTS - 1),
            callbacks=[_callback(packs, run, needs, faults)],
            verbose=0,
            progress_reporter=ray_tune.CLIReporter(),  # that of notebooks clears what else a cell has printed
        ),
    )
    try:
        tuner.fit()
    except UserError:
        raise
    except Exception as error:
        raise faults[0] if faults else disk_fault(error) or RayDiedError(f"{first_line(error)}. {GOES_ON}") from None
    if faults:
        raise faults[0]
    return packs.halves


def _trial_name(trial: Any) -> str:
    return str(trial.config["pack"])


def _run_trial(
    config: dict[str, Any],
    jobs: dict[str, PackJob],
    driver: tuple[str, int],
    variables: dict[str, str],
    scratch: Path,
    grace: int,
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
    markers, is_ending = Markers(job), IsEnding(_word(scratch), job.crowd, grace)

    def report(progress: Progress) -> None:
        _leave_if_orphaned(driver)
        # Nested, as Tune gives names such as `done` a meaning of its own.
        ray_tune.report({"progress": asdict(progress)})

    if is_ending():
        ray_tune.report({"stopped": True})
        return
    try:
        try:
            markers.clear()
            if not fits(job, report, is_ending):
                markers.out_of_memory.touch()
        except StoppedError:
            ray_tune.report({"stopped": True})
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


def _callback(packs: Outcomes, run: _Run, needs: Resources, faults: list[MachineError]) -> Any:
    """A Tune callback that reports what becomes of packs. Its methods run in Tune's loop: quick, and never raising but
    to end it.

    Args:
        packs: is told what becomes of them.
        run: says when to stop.
        needs: what each of them needs of a node.
        faults: gets what ends the run.

    """
    from ray.tune import Callback

    class Tell(Callback):
        def __init__(self, packs: Outcomes, run: _Run, needs: Resources, faults: list[MachineError]) -> None:
            self.packs, self.run, self.needs, self.faults = packs, run, needs, faults
            self.raylets = local_raylets()
            self.training = set[str]()
            """Packs that a worker has, and whose training is not recorded yet. One that is to find out whether its step
            is compiled has nothing to save until it has reported that."""
            self.ending: Ending | None = None

        def __getstate__(self) -> dict[str, Any]:
            # Tune pickles its callbacks for a restore that is never made, and a terminal cannot be pickled.
            return {}

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            if self.faults:
                raise self.faults[0]
            if self.run.interruption.number is not None:
                self.end(self.run.interruption.number)
            # Tune would wait for a dead Ray for ever.
            elif not self.has_raylets():
                self.faults.append(RayDiedError(f"Ray has died on this machine. {GOES_ON}"))
                raise self.faults[0]
            elif self.run.is_waiting and time.monotonic() - self.run.waits_since > PATIENCE:
                self.run.is_waiting = False
                if self.run.free is not None:
                    self.run.say(f"no pack has begun yet: {in_words(self.needs, self.run.free())}")

        def has_raylets(self) -> bool:
            return all(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in self.raylets)

        def end(self, number: int) -> None:
            """Raise Interrupted, after SIGTERM when packs that train have written checkpoints, or had time to."""
            if self.ending is None and number == signal.SIGTERM:
                self.ending = Ending(
                    _word(self.run.scratch),
                    self.training,
                    self.run.grace,
                    lambda: self.has_raylets() and self.run.service.answers,
                )
                if not self.ending.is_over():
                    self.run.interruption.waits_for = "packs to write checkpoints"
                    packs = f"{len(self.training)} pack{'s' * (len(self.training) > 1)}"
                    self.run.say(f"told to end: {packs} at work may take {self.run.grace} s to write checkpoints ...")
            if self.ending is None or self.ending.is_over():
                self.run.interruption.waits_for = WAITS_FOR
                self.run.interruption.check()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.run.is_waiting = False
            # While others are waited for, a worker that has stopped takes up the next pack, which stops at once.
            if self.run.interruption.number is None:
                pack = trial.config["pack"]
                job = self.packs.jobs[pack]
                if job.kind == "train" and not job.tries_compiling:
                    self.training.add(pack)
                self.packs.started(pack)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            pack = trial.config["pack"]
            if "fault" in result:
                self.faults.append(MachineError(result["fault"]))
            if "refused" in result:
                self.packs.refused[pack] = result["refused"]
            if "stopped" in result:
                self.packs.stopped.add(pack)
                self.leaves(pack)
            if "progress" in result:
                progress = Progress(**result["progress"])
                if progress.is_trained:
                    self.leaves(pack)
                else:
                    self.training.add(pack)
                self.packs.listener.progressed(progress)

        def leaves(self, pack: str) -> None:
            """A pack has nothing more to save, or no worker has it."""
            self.training.discard(pack)
            if self.ending is not None:
                self.ending.left.discard(pack)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.raised, trial, was_lost=True)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.returned, trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.judge(self.packs.given_up, trial, was_lost=True)

        def judge(self, what: Callable[[str], None], trial: Any, *, was_lost: bool = False) -> None:
            self.leaves(trial.config["pack"])
            if self.faults:
                return  # nothing can be written, and the run ends
            if was_lost and self.run.interruption.number is not None:
                return  # what tells a run to end may end its workers, which says nothing of the pack
            try:
                what(trial.config["pack"])
            except OSError as error:
                self.faults.append(disk_fault(error) or MachineError(refusal("a file", error)))

    return Tell(packs, run, needs, faults)


def in_words(needs: Resources, free: Resources) -> str:
    """What a pack needs of a node, and what of the cluster nobody has taken."""
    wanted, there = (
        " and ".join(_amount(amounts.get(name, 0), UNITS[name]) for name in needs) for amounts in (needs, free)
    )
    return f"each needs {wanted} of one node, and {there} of the whole cluster are neither taken nor reserved"


def _amount(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'s' * (number != 1)}"


def _word(scratch: Path) -> str:
    """What a run lets its workers know when they are to stop."""
    return f"hvae: the run of {scratch} ends"


@contextmanager
def _word_left_behind(scratch: Path, service: ControlService, interruption: Interruption) -> Iterator[None]:
    """After this context, a cluster that is still there knows no word of this run any more."""
    try:
        yield
    finally:
        if interruption.number is not None and service.answers:
            forget_word(_word(scratch.resolve()))


@contextmanager
def _shared_folder(results: Path) -> Iterator[Path]:
    """A folder for what Tune writes that every node of a cluster sees; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".ray-", dir=results))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

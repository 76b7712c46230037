"""Packs that do not come to their end: what workers leave of them, how often they are tried, what is recorded."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from hvae_spec.errors import DISK_FAULTS, MachineError, UserError, refusal
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.records.provenance import now
from hvae_spec.records.result import EvaluationResult, PackState, TrainingResult
from tune.execute.pack_listener import PackListener

ATTEMPTS = 3
"""How often a pack is tried before it is recorded as failed. Each attempt goes on from the last checkpoint."""


PAUSES = (0.0, 0.1, 1.0, 5.0, 15.0, 40.0)
"""Seconds between looks at results that a worker says it has written, and that are not seen here. Over NFS a machine
that has looked for a file before it was there may miss it for up to a minute."""


def disk_fault(error: BaseException) -> MachineError | None:
    """What ends a whole run, and not a pack alone: a disk that is full or may not be written, on which nothing can be
    recorded either. None if the error is none of these.
    """
    if isinstance(error, OSError) and error.errno in DISK_FAULTS:
        return MachineError(refusal("a file", error))
    return None


def record_failure(job: PackJob, traceback: str) -> None:
    """Record every member of a pack that has no result as failed, with the traceback in its folder: its training, or,
    if it is trained, its evaluation. What is damaged stays as it is.
    """
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    failure = lines[-1] if lines else "unknown"
    time = now()
    for member in job.members:
        record, digests = job.record(member), member.digests
        if record.is_trained:
            evaluation = EvaluationResult(
                digest=digests.evaluation,
                training=digests.training,
                labels=member.labels,
                status="failed",
                failure=failure,
                finished_at=time,
            )
            record.evaluation(digests.evaluation).fail(evaluation, traceback)
            continue
        record.begin(member.spec)
        state = PackState(id=job.pack_id, trainings=job.trainings, threads=job.threads, compiled=job.compiled)
        result = TrainingResult(
            digest=digests.training,
            trajectory=digests.trajectory,
            status="failed",
            failure=failure,
            pack=state,
            finished_at=time,
        )
        record.fail(result, traceback)


def _is_done(job: PackJob) -> bool:
    """Whether a pack that its worker has left is done. If it neither is nor says why not, its files may have been
    written on another machine, and are waited for.
    """
    for pause in PAUSES:
        if job.is_done:
            return True
        if Markers(job).out_of_memory.exists():
            return False
        time.sleep(pause)
        _look_anew(job)
    return job.is_done


def _look_anew(job: PackJob) -> None:
    """Have NFS ask its server what the folders of a pack's results hold, which it does where a folder is opened."""
    folders = [job.results / "members", Results(job.results).pack(job.pack_id).folder]
    for member in job.members:
        record = job.record(member)
        evaluation = record.evaluation(member.digests.evaluation).folder
        folders += [record.folder, evaluation.parent, evaluation]
    for folder in folders:
        with suppress(OSError):
            os.scandir(folder).close()


class Markers:
    """Files in a pack's folder by which a worker shows a driver why the pack is not done."""

    def __init__(self, job: PackJob) -> None:
        folder = Results(job.results).pack(job.pack_id)
        self.failure = folder.failure
        """A traceback."""
        self.out_of_memory = folder.out_of_memory
        """That it is there says that the pack did not fit into its device's memory."""

    def clear(self) -> None:
        """Remove those of an earlier attempt."""
        for path in (self.failure, self.out_of_memory):
            path.unlink(missing_ok=True)

    @property
    def traceback(self) -> str:
        """Why the pack failed."""
        if self.failure.exists():
            return self.failure.read_text(encoding="utf-8", errors="replace")
        return "the worker exited without an error message (killed, or out of memory)\n"


class Outcomes:
    """Packs that workers run: judges what became of each, by its records and markers, and notifies a listener."""

    def __init__(self, jobs: Mapping[str, PackJob], listener: PackListener) -> None:
        self.jobs, self.listener = jobs, listener
        self.seen: set[str] = set()
        self.halves: list[PackJob] = []
        """What is to run in the place of packs that ran out of memory."""
        self.refused: dict[str, str] = {}
        """Why a worker did not begin a pack, by its id, where it could not write that down."""
        self.stopped: set[str] = set()
        """Packs that have stopped before their end, as the run ends."""

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack, for the first time or again."""
        if pack_id not in self.seen:
            self.seen.add(pack_id)
            self.listener.started(pack_id)

    def raised(self, pack_id: str) -> None:
        """A pack raised or its worker died, and it will be tried again."""
        self.listener.failed(pack_id, self._why(pack_id).strip().splitlines()[-1], final=False)

    def given_up(self, pack_id: str) -> None:
        """A pack raised, or its worker died, for the last time."""
        self._fail(self.jobs[pack_id], self._why(pack_id))

    def _why(self, pack_id: str) -> str:
        return self.refused.pop(pack_id, "") or Markers(self.jobs[pack_id]).traceback

    def returned(self, pack_id: str) -> None:
        """A pack's worker is done with it."""
        job = self.jobs[pack_id]
        if pack_id in self.stopped:
            return
        if _is_done(job):
            self.listener.ended(pack_id)
        elif Markers(job).out_of_memory.exists():
            self._split(job)
        else:
            self._fail(job, "the worker ended before the pack's members had their results")

    def _split(self, job: PackJob) -> None:
        from tune.execute.splitting import ALONE, split

        if len(job.members) == 1:
            self._fail(job, ALONE)
            return
        try:
            halves = split(job)
        except (UserError, OSError) as error:
            self._fail(job, str(error))
            return
        self.halves += halves
        self.listener.split(job.pack_id, halves)

    def _fail(self, job: PackJob, why: str) -> None:
        record_failure(job, why)
        self.listener.failed(job.pack_id, why.strip().splitlines()[-1], final=True)

"""Packs one after another in this process, without Ray."""

import traceback
from collections import deque

from hvae_spec.errors import UserError
from hvae_spec.pack_job import PackJob
from tune.execute.outcomes import ATTEMPTS, disk_fault, record_failure
from tune.execute.pack_listener import PackListener
from tune.execute.splitting import ALONE, fits, split


def run_serially(jobs: list[PackJob], listener: PackListener) -> None:
    """Run packs in order. A pack that raises is tried again, then recorded as failed, and the others go on. One that
    runs out of memory gives way to its halves.
    """
    left = deque(jobs)
    while left:
        left.extendleft(reversed(_run(left.popleft(), listener)))


def _run(job: PackJob, listener: PackListener) -> list[PackJob]:
    """Run a pack. Returns what is to run in its place."""
    listener.started(job.pack_id)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if fits(job, listener.progressed):
                listener.ended(job.pack_id)
                return []
            if len(job.members) > 1:
                halves = split(job)
                listener.split(job.pack_id, halves)
                return halves
            record_failure(job, ALONE)
            listener.failed(job.pack_id, ALONE, final=True)
            return []
        except UserError as error:
            record_failure(job, str(error))
            listener.failed(job.pack_id, str(error), final=True)
            return []
        except Exception as error:
            if (fault := disk_fault(error)) is not None:
                raise fault from None
            final = attempt == ATTEMPTS
            reason = f"{type(error).__name__}: {error}"
            if final:
                record_failure(job, traceback.format_exc())
            listener.failed(job.pack_id, reason, final=final)
    return []

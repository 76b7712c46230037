"""Packs one after another in this process, without Ray."""

import traceback

from hvae_spec.errors import UserError
from hvae_spec.jobs import PackJob
from hvae_spec.pack import run_pack
from tune.display import Listener
from tune.failures import ATTEMPTS, record_failure


def run_serially(jobs: list[PackJob], listener: Listener) -> None:
    """Run packs in order. A pack that raises is tried again, then recorded as failed, and the others go on."""
    for job in jobs:
        listener.started(job.pack_id)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                run_pack(job, listener.progressed)
            except UserError as error:
                record_failure(job, str(error))
                listener.failed(job.pack_id, str(error), final=True)
                break
            except Exception as error:
                final = attempt == ATTEMPTS
                reason = f"{type(error).__name__}: {error}"
                if final:
                    record_failure(job, traceback.format_exc())
                listener.failed(job.pack_id, reason, final=final)
            else:
                listener.ended(job.pack_id)
                break

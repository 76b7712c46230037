"""Packs that cannot be brought to an end: how often they are tried, and what is kept of them."""

from datetime import UTC, datetime

from hvae_spec.jobs import PackJob
from hvae_spec.records import Results
from hvae_spec.schema.counts import parameters

ATTEMPTS = 3
"""How often a pack is tried before it is recorded as failed. Each attempt goes on from the last checkpoint."""


def record_failure(job: PackJob, traceback: str) -> None:
    """Record every member of a pack that has no result as failed, with the traceback in its folder."""
    results = Results(job.results)
    lines = [line for line in traceback.strip().splitlines() if line.strip()]
    for member in job.members:
        record = member.record(results)
        record.begin(member.spec)
        record.fail(
            {
                "digest": member.digest,
                "labels": member.labels,
                "failure": lines[-1] if lines else "unknown",
                "parameters": parameters(member.spec),
                "pack": {"id": job.pack_id, "members": len(job.members), "threads": job.threads},
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            traceback,
        )

"""What a runner reports of packs while it works, and who is told: the display, and listeners of members."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from hvae_spec.listeners.notifier import Notifier
from hvae_spec.pack_job import PackJob, Progress


class PackListener(Protocol):
    """What is informed of what becomes of packs."""

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack."""

    def progressed(self, progress: Progress) -> None:
        """A pack reports."""

    def ended(self, pack_id: str) -> None:
        """All members of a pack have their results."""

    def failed(self, pack_id: str, reason: str, *, final: bool) -> None:
        """A pack raised or its worker died; unless `final`, it will be tried again."""

    def split(self, pack_id: str, halves: list[PackJob]) -> None:
        """A pack ran out of memory, and others will run in its place."""

    def reduced(self, pack_id: str, rest: PackJob | None, reasons: list[str]) -> None:
        """Members of a pack cannot run, for these reasons. The rest of it, if there is any, will run in its place."""


class MembersOfPacks:
    """A listener of packs that passes everything on to another one, and tells notifiers which members begin and end.

    Args:
        jobs: the packs that are to run, by their ids.
        display: is informed of everything.
        notifiers: those of the listeners of members.

    """

    def __init__(self, jobs: Mapping[str, PackJob], display: PackListener, notifiers: Sequence[Notifier]) -> None:
        self.jobs, self.display, self.notifiers = dict(jobs), display, notifiers

    def started(self, pack_id: str) -> None:
        """A worker takes up a pack."""
        job = self.jobs[pack_id]
        for notifier in self.notifiers:
            notifier.begin(job, job.members)
        self.display.started(pack_id)

    def progressed(self, progress: Progress) -> None:
        """A pack reports."""
        self.display.progressed(progress)

    def ended(self, pack_id: str) -> None:
        """All members of a pack have their results."""
        for notifier in self.notifiers:
            notifier.end(self.jobs[pack_id].members)
        self.display.ended(pack_id)

    def failed(self, pack_id: str, reason: str, *, final: bool) -> None:
        """A pack raised or its worker died."""
        for notifier in self.notifiers if final else ():
            notifier.end(self.jobs[pack_id].members)
        self.display.failed(pack_id, reason, final=final)

    def split(self, pack_id: str, halves: list[PackJob]) -> None:
        """A pack ran out of memory."""
        self.jobs |= {half.pack_id: half for half in halves}
        self.display.split(pack_id, halves)

    def reduced(self, pack_id: str, rest: PackJob | None, reasons: list[str]) -> None:
        """Members of a pack cannot run."""
        job = self.jobs[pack_id]
        left = () if rest is None else rest.members
        if rest is not None:
            self.jobs[rest.pack_id] = rest
        lost = [member for member in job.members if member not in left]
        for notifier in self.notifiers:
            notifier.begin(job, lost)
            notifier.end(lost)
        self.display.reduced(pack_id, rest, reasons)

"""What a runner reports while it works."""

from typing import Protocol

from hvae_spec.pack_job import PackJob, Progress


class Listener(Protocol):
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

"""A listener in a thread of its own, which whatever the listener does cannot harm the run.

Nothing is queued but which members begin and end: what a slow listener has not been told yet is on disk.
"""

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hvae_spec.errors import shorten
from hvae_spec.listeners.follower import Follower
from hvae_spec.listeners.listener import Listener
from hvae_spec.pack_job import PackJob
from hvae_spec.spec.grid import Member

POLL_SECONDS = 0.5
"""Shortest time between looks at the records."""
LOOKS_PER_SECOND = 100
"""At how many members, at most: a look is four requests of a disk that may be shared."""
END_SECONDS = 30.0
"""How long the end of a run waits for what a listener has not been told yet."""
INTERRUPTED_SECONDS = 5.0
"""The same after an interruption or an error."""

Say = Callable[[str], None]


class Notifier:
    """Tells one listener of members from when they begin to their end.

    Args:
        listener: whom to tell. If it raises, that is said once, and it is told nothing more.
        say: prints a line for the user.

    """

    def __init__(self, listener: Listener, say: Say) -> None:
        self.listener, self.say = listener, say
        self.name = type(listener).__name__
        self.changes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        """What the thread is to do, in order."""
        self.followers: dict[str, Follower] = {}
        """Of the members at work, by their evaluation digests."""
        self.begun: set[str] = set()
        self.is_over = False
        self.thread = threading.Thread(target=self._run, name=f"listener {self.name}", daemon=True)
        self.thread.start()

    def begin(self, job: PackJob, members: Sequence[Member]) -> None:
        """These members of a pack are taken up. One that has begun before in this run is not told twice."""
        self.changes.put(lambda: self._begin(job, members))

    def end(self, members: Sequence[Member]) -> None:
        """Nothing more comes of these members in this run."""
        digests = [member.digests.evaluation for member in members]
        self.changes.put(lambda: self._end(digests))

    def close(self) -> None:
        """The run is over: members that have not ended are interrupted."""
        self.changes.put(self._close)

    def wait(self, seconds: float) -> None:
        """Wait for what the listener has not been told yet, for so many seconds at most."""
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.say(f"The listener {self.name} is still at work, and is not waited for any longer.")

    def _run(self) -> None:
        due = time.monotonic() + POLL_SECONDS
        try:
            while not self.is_over:
                with suppress(queue.Empty):
                    self.changes.get(timeout=max(0.0, due - time.monotonic()))()
                if time.monotonic() >= due and not self.is_over:
                    self._poll()
                    due = time.monotonic() + max(POLL_SECONDS, len(self.followers) / LOOKS_PER_SECOND)
        except BaseException as error:  # also what would end a process: it is the listener's, and not the run's
            self.say(
                f"The listener {self.name} raised {in_words(error)}; it is told nothing more, and the run goes on."
            )

    def _begin(self, job: PackJob, members: Sequence[Member]) -> None:
        for member in members:
            digest = member.digests.evaluation
            if digest not in self.begun:
                self.begun.add(digest)
                follower = Follower(member, job.record(member), trains=job.kind == "train")
                self.followers[digest] = follower
                self.listener.start(follower.info)

    def _end(self, digests: Iterable[str]) -> None:
        for digest in digests:
            if (follower := self.followers.pop(digest, None)) is not None:
                follower.tell(self.listener, is_over=True)

    def _poll(self) -> None:
        for digest, follower in list(self.followers.items()):
            if follower.tell(self.listener):
                del self.followers[digest]

    def _close(self) -> None:
        self._end(list(self.followers))
        self.is_over = True


@contextmanager
def notified(listeners: Iterable[Listener], say: Say) -> Iterator[list[Notifier]]:
    """Notifiers of listeners. At the end they have `END_SECONDS` in all for what is left to tell, or, where an error or
    an interruption ends this context, `INTERRUPTED_SECONDS`.
    """
    notifiers = [Notifier(listener, say) for listener in listeners]
    seconds = INTERRUPTED_SECONDS
    try:
        yield notifiers
        seconds = END_SECONDS
    finally:
        until = time.monotonic() + seconds
        for notifier in notifiers:
            notifier.close()
        for notifier in notifiers:
            notifier.wait(max(0.0, until - time.monotonic()))


def say_on_stderr(line: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(f"{line}\n")


def in_words(error: BaseException) -> str:
    """What a listener raised, and where: `ValueError: no such project (my_listeners.py:12)`."""
    said = shorten(" ".join(str(error).split()))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}{said and ': '}{said} ({Path(place.filename).name}:{place.lineno})"

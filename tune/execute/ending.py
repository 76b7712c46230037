"""How a run on Ray ends when SIGTERM comes: packs that train have some seconds to write checkpoints and stop."""

import time
from collections.abc import Callable, Iterable

from tune.execute.cluster import knows_word, leave_word

ASK_SECONDS = 0.5
"""Shortest time between looks of a pack alone at whether the run ends."""


class Ending:
    """The driver's side: asks packs to stop, and knows how long to wait for them.

    Args:
        word: by which workers know of it, as `IsEnding` has it.
        packs: those that train.
        seconds: how long they are waited for.
        is_alive: whether they still can be.

    """

    def __init__(self, word: str, packs: Iterable[str], seconds: float, is_alive: Callable[[], bool]) -> None:
        self.left, self.until, self.is_alive = set(packs), time.monotonic() + seconds, is_alive
        if not self.is_over():  # what ends this run may have ended Ray, too, with which nothing can be left
            leave_word(word)

    def is_over(self) -> bool:
        """Whether no pack is waited for any more."""
        return not self.left or time.monotonic() >= self.until or not self.is_alive()


class IsEnding:
    """A worker's side: whether the run that it works for ends.

    Args:
        word: that the driver leaves.
        crowd: how many times as long as of a pack alone the time between looks is, as far as that leaves half of the
            grace.
        grace: seconds that packs have.

    """

    def __init__(self, word: str, crowd: float, grace: float) -> None:
        self.word, self.seconds = word, min(ASK_SECONDS * crowd, max(ASK_SECONDS, grace / 2))
        self.asked, self.answer = -self.seconds, False

    def __call__(self) -> bool:
        """Ask, unless that was done a moment ago."""
        now = time.monotonic()
        if not self.answer and now - self.asked >= self.seconds:
            self.asked, self.answer = now, knows_word(self.word)
        return self.answer

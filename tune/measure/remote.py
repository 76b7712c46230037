"""Calls that another process makes. It needs no torch."""

from abc import ABC, abstractmethod


class Remote(ABC):
    """A call that another process makes, which measures for itself how long several of them take."""

    @abstractmethod
    def seconds(self, count: int) -> float:
        """Seconds that so many calls take together."""

    def __call__(self) -> None:
        """One call."""
        self.seconds(1)

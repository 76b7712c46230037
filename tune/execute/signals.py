"""SIGINT and SIGTERM, turned into an exception at a moment when it can be raised safely."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(BaseException):
    """SIGINT or SIGTERM has come."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Interruption:
    """Watches for SIGINT and SIGTERM while it is entered, and raises Interrupted: at once, or, within `deferred`, when
    `check` is next called. After the first signal, further ones do nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.is_deferred = False

    def __enter__(self) -> "Interruption":
        self.before = self.arm()
        return self

    def arm(self) -> dict[signal.Signals, Any]:
        """Take the signals, again if a library has taken them since. Returns the handlers that had them."""
        return {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.number is None:
            self.number = number
            if not self.is_deferred:
                raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """For code that must not be torn: Ray's compiled parts turn what a signal handler raises into other errors."""
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False
        self.check()

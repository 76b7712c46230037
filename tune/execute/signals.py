"""SIGINT and SIGTERM, turned into an exception at a moment when it can be raised safely; and SIGHUP, which a run
survives.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from tune.execute import terminal


class Interrupted(BaseException):
    """SIGINT or SIGTERM has come."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Interruption:
    """Watches for SIGINT and SIGTERM while it is entered, and raises Interrupted: at once, or, within `deferred`, when
    `check` is next called. A second SIGINT says what is waited for, and a third one ends the process at once; further
    SIGTERMs do nothing. Signals come to the main thread alone: in another one it watches for nothing.

    Args:
        may_leave: whether a third SIGINT ends the process. A notebook's holds more than the run.

    """

    def __init__(self, *, may_leave: bool = True) -> None:
        self.may_leave = may_leave
        self.number: int | None = None
        self.is_deferred = False
        self.waits_for = "files to be closed"
        """What an interruption waits for at present, in words."""
        self.pressed = 0
        self.is_shown = False
        """Whether a live view shows `notice`, among whose lines nothing else may be written."""

    @property
    def notice(self) -> str:
        """What is said after Ctrl-C or SIGTERM while the end is waited for; empty before."""
        if self.number is None:
            return ""
        if not self.may_leave:
            return f"Waiting for {self.waits_for}."
        more = "once more" if self.pressed > 1 else "twice"
        return f"Waiting for {self.waits_for}. Ctrl-C {more} leaves at once; what is written is safe."

    def __enter__(self) -> "Interruption":
        self.before = self.arm()
        return self

    def arm(self) -> dict[signal.Signals, Any]:
        """Take the signals, again if a library has taken them since. Returns the handlers that had them."""
        if not _is_main_thread():
            return {}
        return {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.pressed += number == signal.SIGINT
        if self.number is None:
            self.number = number
            if not self.is_deferred:
                raise Interrupted(number)
        elif number == signal.SIGINT and self.pressed > 2 and self.may_leave:
            leave(128 + number)
        elif number == signal.SIGINT and not self.is_shown:
            # Past the buffer of sys.stderr: this may have come in the middle of a write to it.
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), f"\n{self.notice}\n".encode())

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    @contextmanager
    def deferred(self, waits_for: str) -> Iterator[None]:
        """For code that must not be torn: Ray's compiled parts turn what a signal handler raises into other errors.

        Args:
            waits_for: what an interruption waits for meanwhile, in words.

        """
        self.is_deferred, before = True, self.waits_for
        self.waits_for = waits_for
        try:
            yield
        finally:
            self.is_deferred, self.waits_for = False, before
        self.check()


def leave(code: int) -> NoReturn:
    """End this process at once, whatever its other threads wait for; what it holds is freed by the system."""
    terminal.restore()
    os._exit(code)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def hangups_ignored() -> Iterator[None]:
    """Within this context a terminal that is closed ends neither this process nor those that it starts. Only the main
    thread can see to that.
    """
    if not _is_main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)

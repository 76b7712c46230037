"""The terminal while a live view is drawn on it. Keys that are echoed (`^C`, an empty line) would move its cursor, and
lines of the view that was drawn before would be left behind.
"""

import contextlib
import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

SHOW_CURSOR = b"\x1b[?25h"
_before: list[tuple[int, Any]] = []
"""The terminal's descriptor and its settings before its echo was turned off."""


@contextmanager
def without_echo(stream: IO[str]) -> Iterator[None]:
    """Within this context, a stream's terminal does not echo keys. They still do what they do. A stream without a
    terminal, or one that another process has in the foreground, stays as it is.
    """
    try:
        number = stream.fileno()
        settings = termios.tcgetattr(number)
    except (OSError, ValueError, termios.error):
        yield
        return
    if _is_in_foreground(number):
        _before.append((number, settings))
        silent = list(settings)
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(number, termios.TCSANOW, silent)
    try:
        yield
    finally:
        restore()


def restore() -> None:
    """Give the terminal back its echo and its cursor, as far as a live view has taken them."""
    while _before:
        number, settings = _before.pop()
        with contextlib.suppress(OSError, termios.error):
            if _is_in_foreground(number):  # else a shell has it, and has set it up for itself
                termios.tcsetattr(number, termios.TCSANOW, settings)
                os.write(number, SHOW_CURSOR)


def _is_in_foreground(number: int) -> bool:
    """Whether this process may set up the terminal: the system stops one in the background that does."""
    try:
        return os.tcgetpgrp(number) == os.getpgrp()
    except OSError:
        return False

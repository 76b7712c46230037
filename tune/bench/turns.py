"""A program in a process of its own, which takes turns with this one: neither's threads, compiler or memory disturbs
the other's, and each is set up as it likes before it is imported. Both sides of the pipe between them are here.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Self, cast

from hvae_spec.errors import MachineError
from tune.measure.remote import Remote

Block = Callable[[int], float]
"""Does so many steps, and returns the seconds that they took together."""
Make = Callable[[int], Block]
"""Makes the program that trains so many members at once, ready to run at its speed."""
WARM_UP = 3
"""Steps until a compiled program runs at its speed."""
SETTLED = 0.05
"""Seconds after which threads that have worked have fallen asleep."""
ENDING = 10.0
"""Seconds that a program may take to end."""


class FailedError(Exception):
    """The other program could not do what it was told; the message says why, in one line."""


class Turns:
    """A program that runs as `python -m MODULE` and calls `serve` there. A context, in which it lives.

    Args:
        module: the module.
        settings: what it is to do; anything that JSON has.
        environment: variables beside those of this process.
        threads: of both programs. Where there are several, each waits until the other's have fallen asleep.

    """

    def __init__(self, module: str, settings: Any, environment: Mapping[str, str], threads: int) -> None:
        self.command = [sys.executable, "-m", module]
        self.settings, self.environment = settings, environment
        self.pause = SETTLED if threads > 1 else 0.0

    def __enter__(self) -> Self:
        """Start it. Raises FailedError: it did not start."""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **self.environment},
            text=True,
        )
        try:
            self.ask(self.settings)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it: there are no more orders."""
        try:
            self.process.communicate(timeout=ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.errors.close()

    def seconds(self, members: int, steps: int) -> float:
        """Seconds of so many steps of so many members; the first time they are made ready for it before.

        Raises:
            FailedError: it cannot.

        """
        time.sleep(self.pause)
        found: float = self.ask([members, steps])["seconds"]
        time.sleep(self.pause)
        return found

    def ask(self, order: Any) -> dict[str, Any]:
        """Its answer to an order. Raises FailedError: it cannot."""
        orders, answers = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        try:
            orders.write(json.dumps(order) + "\n")
            orders.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError):
            code = self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").strip().splitlines()
            raise FailedError(lines[-1] if lines else f"it ended with code {code}") from None
        if "failed" in answer:
            raise FailedError(answer["failed"])
        return answer


class Pack(Remote):
    """Steps of so many members in the other program, as a call."""

    def __init__(self, turns: Turns, members: int) -> None:
        self.turns, self.members = turns, members

    def seconds(self, count: int) -> float:
        """See `tune.measure.remote.Remote`. Raises MachineError: it could once, and cannot any more."""
        try:
            return self.turns.seconds(self.members, count)
        except FailedError as failure:
            raise MachineError(f"{self.turns.command[-1]} failed while it was measured: {failure}") from None


def serve(start: Callable[[Any], Make]) -> None:
    """Do what the process at the other end of standard input and output orders, until it ends.

    Args:
        start: of the settings, what makes programs.

    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    blocks: dict[int, Block] = {}
    make: Make | None = None
    for line in sys.stdin:
        order, answer = json.loads(line), dict[str, Any]()
        try:
            if make is None:
                make = start(order)
            else:
                members, steps = order
                if members not in blocks:
                    blocks[members] = make(members)
                answer["seconds"] = blocks[members](steps)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            answer["failed"] = text.removesuffix(":")
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

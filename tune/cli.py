"""What the commands of `tune` share: flags that mean the same everywhere, numbers, and signals."""

import argparse
import math
import re
import sys
from collections.abc import Callable

from rich.console import Console

from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.errors import UserError
from tune.execute.signals import Interrupted, Interruption

DAY = 86400
"""Seconds."""


def spec_parser(prog: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with what every command reads: SPEC, `--set` (as `overrides`) and `--profile`."""
    parser = CommandParser(
        prog=prog, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=_path_as_text, metavar="SPEC", help="the YAML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a field of the spec, e.g. training.epochs=20 (repeatable; checked like the file)",
    )
    parser.add_argument("--profile", metavar="NAME", help="apply one of the spec's profiles, e.g. quick (before --set)")
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto (CUDA where there is one), cpu, cuda or cuda:N"
    )


def check_device(device: str) -> None:
    """Refuse what is no device's name.

    Raises:
        UserError: it is none of auto, cpu, cuda and cuda:N.

    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"--device {device}: expected auto, cpu, cuda or cuda:0 and so on")


def console() -> Console:
    """Where a command prints: as wide as its terminal, or 120 columns. Names are printed as they are, not as markup."""
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, emoji=False)


def _path_as_text(text: str) -> str:
    return str(path_argument(text))


def positive_integer(text: str) -> int:
    """The value of a flag that takes a whole number greater than 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number greater than 0, not {text!r}")
    return int(text)


def whole_number(text: str) -> int:
    """The value of a flag that takes a whole number, 0 or greater."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or greater, not {text!r}")
    return int(text)


def grace_seconds(text: str) -> int:
    """The value of `--grace`, of a day at most."""
    seconds = whole_number(text)
    if seconds > DAY:
        raise argparse.ArgumentTypeError(f"expected at most {DAY} seconds, a day, not {text}")
    return seconds


def positive_integers(text: str) -> tuple[int, ...]:
    """The values of a flag that takes whole numbers greater than 0, separated by commas."""
    return tuple(positive_integer(part.strip()) for part in text.split(","))


def positive_number(text: str) -> float:
    """The value of a flag that takes a finite number greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, not {text!r}")
    return number


def run_interruptible(run: Callable[[Interruption], int], advice: str = "") -> int:
    """`run_command`, of a command that SIGINT and SIGTERM end at a moment when they can.

    Args:
        run: the command; it returns its exit code.
        advice: what to say after an interruption.

    Returns:
        The exit code of `run_command`; 130 or 143 after a signal.

    """

    def watched() -> int:
        with Interruption() as interruption:
            return run(interruption)

    try:
        return run_command(watched)
    except Interrupted as signal:
        sys.stderr.write(f"\nInterrupted ({signal}).{advice and ' '}{advice}\n")
        return 128 + signal.number

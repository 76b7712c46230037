"""What every command shares: its exit codes, errors as one message, and that nothing hides its packages."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hvae_spec.errors import MachineError, UserError, refusal
from hvae_spec.output import unbreakable

PACKAGES = ("hvae_spec", "tune", "analysis")
INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 + SIGINT."""


class CommandParser(argparse.ArgumentParser):
    """A parser of a command's options, each of which is known by its whole name alone. Python's own takes `--cpus` for
    `--cpus-per-task` where a command has no `--cpus`, which means something else.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def run_command(run: Callable[[], int]) -> int:
    """Run a command and turn the errors that its user can fix into one message on stderr. Its output never stops it
    (`hvae_spec.output`), and modules in the working folder hide none that it uses.

    Args:
        run: the command; it returns its exit code.

    Returns:
        The exit code: the command's own; that of a `UserError`; 1 if the system refused something (a file, memory);
        130 after Ctrl-C.

    """
    with unbreakable():
        try:
            check_packages()
            with working_folder_left_out():
                return run()
        except UserError as error:
            message, code = str(error), error.exit_code
        except OSError as error:
            message, code = refusal("a file", error), MachineError.exit_code
            if not _has_working_folder():
                message = "the folder in which this command was started is gone; start it in another one"
        except KeyboardInterrupt:
            return INTERRUPTED
        sys.stderr.write(f"{message}\n")
        return code


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def check_packages() -> None:
    """Refuse to work where another module hides one of this project's packages: `tune` and `analysis` are general
    names, and `python -m` looks into the working folder first.

    Raises:
        UserError: another module has the name of one of the packages.

    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
        if not places:
            raise UserError(f"the package {name!r} of hvae-spec is missing: install hvae-spec again")
        if Path(places[0]).resolve() != home / name:
            raise UserError(
                f"{places[0]}: hides the package {name!r} of hvae-spec; rename it, or run the command in another folder"
            )


@contextmanager
def working_folder_left_out() -> Iterator[None]:
    """Within this context, nothing is imported from the working folder, which `python -m` puts first: a file there may
    have the name of any module that is first needed when hours of training are over. The project's own folder stays.
    """
    home = Path(__file__).resolve().parents[1]
    before = list(sys.path)
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != home:
        del sys.path[0]
    try:
        yield
    finally:
        sys.path[:] = before


def path_argument(text: str) -> Path:
    """The value of an option that takes a path: `~` is the user's home also where no shell has put it in.

    Raises:
        argparse.ArgumentTypeError: there is no such user.

    """
    path = Path(os.path.expanduser(text))
    if text.startswith("~") and path.parts[0] == Path(text).parts[0] and not path.exists():
        raise argparse.ArgumentTypeError(
            f"{text}: there is no home folder for {path.parts[0]}; write the whole path (./{text} is a folder here)"
        )
    return path

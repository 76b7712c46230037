"""What every command shares: its exit codes, errors as one message, and that nothing hides its packages."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from hvae_spec.errors import MachineError, UserError

PACKAGES = ("hvae_spec", "tune", "analysis")
INTERRUPTED = 130
"""Exit code after Ctrl-C, 128 + SIGINT."""


def run_command(run: Callable[[], int]) -> int:
    """Run a command and turn the errors that its user can fix into one message on stderr.

    Args:
        run: the command; it returns its exit code.

    Returns:
        The exit code: the command's own; that of a `UserError`; 1 if the system refused something (a file, memory);
        130 after Ctrl-C.

    """
    try:
        check_packages()
        return run()
    except UserError as error:
        message, code = str(error), error.exit_code
    except OSError as error:
        message, code = f"{error.filename or 'a file'}: {error.strerror or error}", MachineError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    sys.stderr.write(f"{message}\n")
    return code


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

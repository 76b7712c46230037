"""`hvae COMMAND`: every command of the project under one name; each is a module's `main`, as with `python -m`."""

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from hvae_spec.command import run_command
from hvae_spec.errors import UserError
from hvae_spec.output import code_of_output


class Command(NamedTuple):
    """A module's `main`, and what it is called with before the user's own arguments."""

    module: str
    help: str
    arguments: tuple[str, ...] = ()


COMMANDS = {
    "run": Command("tune.run", "train and evaluate a grid, or what is left of it, and write its report"),
    "plan": Command("tune.run", "check a spec and print what would run (run --plan)", ("--plan",)),
    "slurm": Command("tune.slurm.__main__", "print the script of a SLURM job for a grid, or submit it"),
    "report": Command("analysis.report", "write tables, figures and a page from results folders"),
    "bench": Command("tune.bench.__main__", "measure how fast this machine trains and evaluates a spec"),
    "simulate": Command("tune.simulation", "forecast how long a grid takes on several numbers of workers"),
    "sample": Command("hvae_spec.sample", "draw samples of a trained model as a picture"),
    "data": Command("hvae_spec.data.__main__", "list the data sets, or fetch one"),
    "check": Command("hvae_spec.check", "try the parts of an extension on tiny models"),
    "schema": Command("hvae_spec.json_schema", "print the JSON Schema of specs, for editors"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code; an unknown command is 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_command(lambda: _dispatch(given[0], given[1:]) if given else _overview() or UserError.exit_code)


def overview() -> str:
    """What `hvae --help` prints."""
    lines = [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    usage = "usage: hvae COMMAND ...\n\nDeep hierarchical VAEs from YAML.\n\ncommands:\n"
    return usage + "\n".join(lines) + "\n\n`hvae COMMAND --help` describes a command.\n"


def _overview() -> int:
    sys.stdout.write(overview())
    return code_of_output()


def _dispatch(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help"):
        return _overview()
    command = COMMANDS.get(name)
    if command is None:
        from hvae_spec.spec.suggest import closest

        near = closest(name, COMMANDS)
        question = f"\n      did you mean {near}?" if near else ""
        raise UserError(f"hvae: no command {name!r}; expected one of {', '.join(COMMANDS)}{question}")
    module = importlib.import_module(command.module)
    code: int = module.main([*command.arguments, *arguments], prog=f"hvae {name}")
    return code


if __name__ == "__main__":
    sys.exit(main())

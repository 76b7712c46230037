"""The commands of the project and the parsers of their options."""

import argparse
from importlib import import_module
from unittest import mock

COMMANDS = {
    "tune.run": "tune.run",
    "tune.slurm": "tune.slurm.__main__",
    "tune.bench": "tune.bench.__main__",
    "tune.simulation": "tune.simulation",
    "analysis.report": "analysis.report",
    "hvae_spec.sample": "hvae_spec.sample",
    "hvae_spec.check": "hvae_spec.check",
    "hvae_spec.data": "hvae_spec.data.__main__",
    "hvae_spec.json_schema": "hvae_spec.json_schema",
}
"""Commands as they are started, `python -m tune.run`, and the modules that hold their `main`."""


class _FoundError(Exception):
    """Carries a parser out of the command that was about to use it."""

    def __init__(self, parser):
        super().__init__()
        self.parser = parser


def _carry_out(parser, *_arguments, **_options):
    raise _FoundError(parser)


def parser_of(module):
    """The parser that the `main` of a module reads its options with, wherever it makes it."""
    with mock.patch.object(argparse.ArgumentParser, "parse_args", _carry_out):
        try:
            import_module(module).main([])
        except _FoundError as found:
            return found.parser
    raise AssertionError(f"{module}.main parses no options")

"""The public interface is the one in public_api.txt: names, signatures, columns of frames, options of commands.

A change on purpose is one edit: `python -m tests.test_public_api > tests/public_api.txt`.
"""

import argparse
import ast
import dataclasses
import difflib
import inspect
import re
import sys
import tempfile
import textwrap
from contextlib import redirect_stdout
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Annotated, get_origin
from unittest import mock

import analysis
import hvae_spec
from analysis.comparison import Comparison
from analysis.frames import Frames
from hvae_spec.evaluate.ais import AnnealedBounds
from hvae_spec.evaluate.evaluation import Evaluation
from hvae_spec.evaluate.refine import Refined
from tests.command_lines import COMMANDS, parser_of
from tune import hvae
from tune.run import grid

FROZEN = Path(__file__).parent / "public_api.txt"
TINY = """
name: tiny
data: {dataset: digits, train_images: 64, test_images: 16}
model: {layers: [{units: 2, mlp: [4]}], batch_norm: true}
objective: {warm_up: 1}
training: {epochs: 2, batch_size: 32}
evaluation: {iw_samples: 4, every: 1}
"""
RETURNED = {
    "Evaluation": Evaluation,
    "AnnealedBounds": AnnealedBounds,
    "Refined": Refined,
    "Frames": Frames,
    "Comparison": Comparison,
}
"""Classes of what public functions return."""


def test_the_public_interface_is_the_frozen_one():
    frozen, found = FROZEN.read_text().splitlines(), list(public_api())
    difference = difflib.unified_diff(frozen, found, "tests/public_api.txt", "the code", lineterm="", n=1)
    remedy = "if this is on purpose: python -m tests.test_public_api > tests/public_api.txt"
    assert frozen == found, "\n".join(["", *difference, remedy])


def test_every_public_thing_has_a_docstring():
    for name, thing in public_things():
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            assert not [member for member, _, text in public_members(thing) if not text], name


def test_a_field_without_a_docstring_is_found():
    texts = {member: text for member, _, text in public_members(Untold)}
    assert texts == {"told": "It is.", "untold": None}


@dataclasses.dataclass
class Untold:
    """Something of which not everything is told."""

    told: int
    """It is."""
    untold: int


def public_things():
    """The names that the packages export, those of exported modules, and the classes of what these return."""
    yield from RETURNED.items()
    yield "grid", grid
    for package in (hvae_spec, analysis):
        for name in package.__all__:
            thing = getattr(package, name)
            yield name, thing
            if inspect.ismodule(thing):
                yield from ((f"{name}.{inner}", getattr(thing, inner)) for inner in thing.__all__)


def public_api():
    """The lines of public_api.txt."""
    for package in (hvae_spec, analysis):
        yield f"== {package.__name__}"
        for name in sorted(package.__all__):
            yield from description(name, getattr(package, name))
        yield ""
    yield "== tune.run"
    yield from description("grid", grid)
    yield ""
    for name, thing in RETURNED.items():
        yield f"== {name}, which the above return"
        yield from description(name, thing)
        yield ""
    for name, columns in frame_columns():
        yield f"== columns of Frames.{name}"
        yield from columns
        yield ""
    yield "== hvae"
    for name, command in hvae.COMMANDS.items():
        yield " ".join([name, *command.arguments]) + f" = python -m {command.module.removesuffix('.__main__')}"
    yield ""
    for command, module in COMMANDS.items():
        yield f"== python -m {command}"
        yield from options(parser_of(module))
        yield ""


def description(name, thing):
    """A function with its signature; a class with its bases and its public members; a package with what it exports."""
    if inspect.ismodule(thing):
        for exported in sorted(thing.__all__):
            yield from description(f"{name}.{exported}", getattr(thing, exported))
        return
    if not callable(thing) or get_origin(thing) is Annotated:
        yield name
        return
    if not inspect.isclass(thing):
        yield f"{name}{signature(thing)}"
        return
    if issubclass(thing, Exception):
        yield f"{name}({', '.join(base.__name__ for base in thing.__bases__)})"
        return
    yield name
    for member, value, _ in sorted(public_members(thing), key=itemgetter(0)):
        yield f"    .{member}" + (signature(value) if inspect.isfunction(value) else "")


def public_members(thing):
    """Fields, properties and methods of a class that are its own, not those of pydantic or of dataclasses: the name,
    the value (None of a field) and the docstring of each.
    """
    fields = set(getattr(thing, "model_fields", ()))
    fields |= {field.name for field in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    texts = field_docstrings(thing) if fields else {}
    yield from ((name, None, texts.get(name)) for name in fields)
    for name, value in vars(thing).items():
        own = inspect.isfunction(value) or isinstance(value, property)
        if own and not name.startswith("_") and name not in fields:
            yield name, value, inspect.getdoc(value)


def field_docstrings(thing):
    """The text below the declaration of each field, those of its bases included, from the source."""
    found = {}
    for part in reversed(thing.__mro__):
        if part.__module__.partition(".")[0] not in ("hvae_spec", "analysis", "tests"):
            continue
        definition = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        for line, after in pairwise(definition.body):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(line, ast.AnnAssign) and is_text:
                found[line.target.id] = after.value.value
    return found


def signature(function):
    """As it is written in the source, without `self`."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    parameters = re.sub(r"^self(, )?", "", ast.unparse(definition.args))
    return f"({parameters}) -> {ast.unparse(definition.returns)}".replace("'Frames'", "Frames")


def frame_columns():
    """Each frame and the columns that it has for a model of one layer, trained here for a moment."""
    from tune.run import main

    with tempfile.TemporaryDirectory() as folder:
        spec, results = Path(folder, "tiny.yaml"), Path(folder, "results")
        spec.write_text(TINY)
        no_report = mock.Mock(answer=(), table="", footnotes=[], files=[], verdicts=None)
        with mock.patch("analysis.report.write", return_value=no_report), redirect_stdout(sys.stderr):
            assert main([str(spec), "--serial", "--cpus", "1", "--device", "cpu", "--results", str(results)]) == 0
        frames = analysis.load(results)
    for name in ("members", "epochs", "bounds", "units"):
        yield name, sorted(getattr(frames, name).columns)


def options(parser, words=""):
    """Every option of a command and of its subcommands, with what it takes."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from options(sub, f"{words}{name} ")
        elif not isinstance(action, argparse._HelpAction):
            names = ", ".join(action.option_strings) or action.metavar or action.dest
            choices = "" if action.choices is None else f" {{{','.join(map(str, action.choices))}}}"
            takes = f" {action.metavar}" if action.option_strings and action.metavar and action.nargs != 0 else choices
            yield f"{words}{names}{takes}" + (" ..." if isinstance(action, argparse._AppendAction) else "")


if __name__ == "__main__":
    sys.stdout.write("\n".join(public_api()) + "\n")

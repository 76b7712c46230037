"""The options of `python -m tune.run`."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from hvae_spec.command import path_argument
from hvae_spec.errors import UserError
from hvae_spec.spec.suggest import closest
from hvae_spec.spec.yaml import inline
from tune.cli import add_device, grace_seconds, positive_integer, spec_parser
from tune.plan.ways import COMPILING, Compiling

EPILOG = """\
examples:
  python -m tune.run specs/quickstart.yaml
  python -m tune.run specs/mnist_grid.yaml --plan --measure
  python -m tune.run specs/mnist_grid.yaml --set training.epochs=20 --set objective.warm_up=5 --set grid.seeds=[0,1]

Run the same command again to go on after any kind of interruption, or after adding seeds, depths or variants: members
that are done are never repeated, and packs that were running continue from their last checkpoint.

exit codes: 0 all members finished, but for those that --skip-missing-data left out; 1 some failed, or the machine did,
or the report could not be written; 2 bad input; 3 some diverged and none failed; 130, 143 interrupted; 141 nobody reads
what --plan or --print-spec prints.
A run goes on where nobody reads its output any more, and where its terminal is closed. Ctrl-C ends it as soon as that
is safe; the third one ends it at once.
Data are looked for in HVAE_DATA_DIR, then in a per-user cache, and downloaded there if need be.
"""


@dataclass(frozen=True)
class RunOptions:
    """What the command was asked for; `parse` says what each option means."""

    spec: str
    overrides: Sequence[str]
    profile: str | None
    plan: bool
    serial: bool
    device: str
    results: Path | None
    records: Sequence[Path]
    address: str | None
    cpus: int | None
    nodes: int
    pack_size: int | None
    packs_per_gpu: int | None
    compile: Compiling
    measure: bool
    grace: int
    print_spec: bool
    retrain: bool
    skip_missing_data: bool
    keep_optimizer: Literal["yes", "no"]
    tensorboard: bool
    listener: Sequence[str]
    command: tuple[str, ...] = ()
    """The command line, or the call from Python as one, for the records."""


OF_A_RECORD = ("spec", "print_spec", "device", "records")
"""What applies to a member's folder in the place of a spec."""


def not_of_a_record(options: RunOptions) -> list[str]:
    """The options that were given and do not apply to a member's folder, as they are written."""
    without = parse([options.spec], "")
    names = (item.name for item in fields(RunOptions) if item.name not in (*OF_A_RECORD, "command"))
    given = [name for name in names if getattr(options, name) != getattr(without, name)]
    return ["--set" if name == "overrides" else f"--{name.replace('_', '-')}" for name in given]


OF_A_CALL = (
    *("serial", "device", "records", "address", "cpus", "nodes", "pack_size", "packs_per_gpu", "compile", "measure"),
    "grace",
    *("retrain", "skip_missing_data", "keep_optimizer", "tensorboard", "listener"),
)
"""Options that a call from Python takes by these names, beside the spec, the overrides, the profile and the folder."""


def parse_call(
    spec: str,
    results: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    profile: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> RunOptions:
    """The options that a call from Python gives. They are read as those of the command are.

    Args:
        spec: what `RunOptions.spec` is.
        results: the results folder.
        overrides: values by dotted path.
        profile: one of the spec's profiles.
        given: those of `OF_A_CALL`, by name; None stands for the default.

    Raises:
        UserError: there is no such option, or its value is none that it takes.

    """
    arguments = [] if results is None else [f"--results={os.fspath(results)}"]
    arguments += [] if profile is None else [f"--profile={profile}"]
    arguments += [f"--set={path}={_in_yaml(path, value)}" for path, value in (overrides or {}).items()]
    for name, value in (given or {}).items():
        arguments += _as_arguments(name, value)
    parser = _parser("tune.run.grid")
    parser.exit_on_error = False
    try:
        chosen = RunOptions(**vars(parser.parse_args([*arguments, "--", spec])))
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    return replace(chosen, command=("tune.run.grid", *arguments, spec))


def _as_arguments(name: str, value: Any) -> Iterator[str]:
    """An option of a call as the command has it. Raises UserError if there is none, or it has no such value."""
    if name not in OF_A_CALL:
        near = closest(name, OF_A_CALL)
        question = f"\n      did you mean {near}?" if near else ""
        raise UserError(f"{name}: no option of a run; expected one of {', '.join(OF_A_CALL)}{question}")
    flag = f"--{name.replace('_', '-')}"
    if next(item.type for item in fields(RunOptions) if item.name == name) is bool:
        if value not in (True, False, None):
            raise UserError(f"{name} {value!r}: expected True or False")
        yield from [flag] if value else []
        return
    for one in value if isinstance(value, list | tuple) else [] if value is None else [value]:
        yield f"{flag}={'yes' if one is True else 'no' if one is False else one}"


def _in_yaml(path: str, value: Any) -> str:
    """A value of an override as YAML. Raises UserError if it is none that YAML has."""
    plain = value.tolist() if hasattr(value, "tolist") else value  # a number or an array of NumPy
    plain = os.fspath(plain) if isinstance(plain, os.PathLike) else plain
    try:
        return inline(plain)
    except yaml.YAMLError:
        kind = type(value).__name__
        raise UserError(f"{path}: a value of type {kind}; expected numbers, text, lists and mappings of them") from None


def parse(arguments: Sequence[str] | None, prog: str) -> RunOptions:
    """The options that a command line gives."""
    return RunOptions(**vars(_parser(prog).parse_args(arguments)), command=tuple(sys.argv))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = spec_parser(
        prog, "Train and evaluate every member of a spec's grid, and write tables and figures of the results.", EPILOG
    )
    parser.add_argument("--plan", action="store_true", help="check everything, print what would run, and stop")
    parser.add_argument(
        "--print-spec",
        action="store_true",
        help="print the resolved spec of a grid or of a member's folder, and stop",
    )
    _add_what_runs(parser)
    parser.add_argument(
        "--serial", action="store_true", help="run without Ray, one pack after another, in this process"
    )
    add_device(parser)
    _add_folders(parser)
    parser.add_argument(
        "--address",
        metavar="A",
        help="run on an existing Ray cluster (`auto` finds one on this machine; default: a job that was submitted to a "
        "cluster runs there, everything else on a Ray of its own)",
    )
    parser.add_argument("--cpus", type=positive_integer, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument(
        "--nodes",
        type=positive_integer,
        default=1,
        metavar="N",
        help="nodes of a cluster over which these cores are spread evenly; a pack gets no more than are on one "
        "(default: 1)",
    )
    _add_packing(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="first measure, for seconds each (a minute or two for each size of pack that may be compiled), the shapes "
        "not yet measured on this machine: pack sizes, the time left, and with --plan a forecast of times and memory "
        "rest on it",
    )
    parser.add_argument(
        "--grace",
        type=grace_seconds,
        default=2,
        metavar="SECONDS",
        help="how long packs that train may take to end their epochs and write checkpoints when SIGTERM comes, as from "
        "a scheduler; with 0, and after Ctrl-C, what they have trained since their last checkpoints is repeated "
        "(default: 2; --serial ends at once)",
    )
    return parser


def add_options_of_members(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run that say what its members are, and not where it runs: those that a job takes, too."""
    _add_what_runs(parser)
    _add_folders(parser)
    _add_packing(parser)


def _add_what_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train members again whose learning curves have other settings than asked for (evaluation.every, "
        "evaluation.curve_iw_samples, evaluation.curve_images, and without data.validation data.test_images); their "
        "records are moved to retired/",
    )
    parser.add_argument(
        "--skip-missing-data",
        action="store_true",
        help="leave out the members whose data set has missing files, which are then not downloaded; the report names "
        "them, and the same command without the option runs them",
    )
    parser.add_argument(
        "--keep-optimizer",
        choices=("yes", "no"),
        default="yes",
        help="keep the optimizer's state (of Adam twice the size of the weights), with which a longer training goes on "
        "from a finished one (default: yes)",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write curves, histograms of unit KLs and images for TensorBoard, in tensorboard/ in the results folder",
    )
    parser.add_argument(
        "--listener",
        action="append",
        default=[],
        metavar="FILE:CLASS",
        help="have an instance of a class of yours, a hvae_spec.Listener in a Python file, told of every member as it "
        "runs; the file is run (repeatable)",
    )


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=path_argument, metavar="DIR", help="results folder (default: results/<name>)")
    parser.add_argument(
        "--records",
        type=path_argument,
        action="append",
        default=[],
        metavar="DIR",
        help="another results folder: members that are finished there are not trained again, their records are copied; "
        "and fine-tuned members may find their first phase there; of a member's folder, look there for what its "
        "training started from (repeatable)",
    )


def _add_packing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pack-size",
        type=positive_integer,
        metavar="N",
        help="most members to train in one pack (default: as many as make a member-step cheapest)",
    )
    parser.add_argument(
        "--packs-per-gpu",
        type=positive_integer,
        metavar="N",
        help="packs that share a GPU (default: as many as there are cores for each GPU, at most 16, where NVIDIA's MPS "
        "runs; else 1)",
    )
    parser.add_argument(
        "--compile",
        choices=COMPILING,
        default="auto",
        help="compile training steps with torch.compile: auto is where that is faster by measurement, which "
        "long packs make before their first epoch (default: auto)",
    )

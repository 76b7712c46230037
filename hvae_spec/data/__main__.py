"""`python -m hvae_spec.data` lists the data sets; `python -m hvae_spec.data fetch NAME` downloads one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvae_spec.command import CommandParser, run_command
from hvae_spec.data.cache import find, locate, search_folders
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.counts import check_headers, image_counts
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError, MachineError, UserError
from hvae_spec.output import code_of_output
from hvae_spec.spec.choices.dataset import DATASETS, ImageCounts
from hvae_spec.spec.data import DataSpec, published_counts


@dataclass(frozen=True)
class Listing:
    """One data set as the table shows it."""

    name: str
    here: str
    """`yes`, `no`, `2 of 4 files`, or `unknown` where only its loader knows what it reads."""
    where: str
    size: int
    """Bytes of its files."""
    canonical: str
    counts: ImageCounts


def main(arguments: Sequence[str] | None = None, prog: str = "python -m hvae_spec.data") -> int:
    """The command. Returns its exit code."""
    parser = CommandParser(prog=prog, description="List the data sets, or fetch one.")
    commands = parser.add_subparsers(dest="command", metavar="{list,fetch}")
    commands.add_parser("list", help="list the data sets (the default)")
    fetching = commands.add_parser("fetch", help="download a data set")
    fetching.add_argument("name", help=f"one of {', '.join(SOURCES)}")

    def run() -> int:
        options = parser.parse_args(arguments)
        return fetch(options.name) if options.command == "fetch" else _list()

    return run_command(run)


def _list() -> int:
    show([listing(name) for name in published_counts()])
    return code_of_output()


def listing(name: str) -> Listing:
    """Where a data set is, and whether it is what its distributor published."""
    counts = image_counts(DataSpec.model_validate({"dataset": name}))
    package = DATASETS[name].comes_with
    if package is not None:
        return Listing(name, "yes", f"comes with {package}", 0, "yes", counts)
    sources = SOURCES.get(name)
    if not sources:
        return Listing(name, "unknown", "its files are not registered", 0, "", counts)
    paths = [path for source in sources if (path := find(source))]
    looked = [f"looked for in {folder / sources[0].dataset}" for folder in search_folders()[:1]]
    where = ", ".join(dict.fromkeys(str(path.parent) for path in paths)) or "".join(looked)
    size = sum(path.stat().st_size for path in paths)
    if len(paths) < len(sources):
        here = f"{len(paths)} of {len(sources)} files" if paths else "no"
        return Listing(name, here, where, size, "", counts)
    return Listing(name, "yes", where, size, _genuineness(name), counts)


def _genuineness(name: str) -> str:
    try:
        genuine = [is_canonical(path, source) for source in SOURCES[name] if (path := find(source))]
    except MachineError as error:
        return f"unknown: {error}"
    except UserError as error:
        return f"damaged: {error}"
    return "yes" if all(genuine) else "no"


def show(listings: Sequence[Listing]) -> None:
    """Print the table, and where files are looked for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("data set", "here", "size", "canonical", "pixels", "training", "test"):
        is_text = column in ("data set", "here", "canonical")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "canonical")
    table.add_column("where", overflow="fold")
    for row in listings:
        size = f"{row.size / 1e6:,.1f} MB" if row.size else ""
        numbers = [f"{count:,}" for count in row.counts]
        table.add_row(row.name, row.here, size, row.canonical, *numbers, row.where)
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    folders = [str(folder) for folder in search_folders()]
    text = "Files are looked for nowhere: this user has no home folder, and HVAE_DATA_DIR is not set."
    if folders:
        text = (
            f"Files are looked for in {' and '.join(folders)}. "
            "`fetch NAME`, or a run, downloads what is missing into the last of these."
        )
    console.print(text, markup=False, highlight=False)


def fetch(name: str) -> int:
    """Download the files of a data set that are missing. Returns the exit code.

    Raises:
        DataError: there is no such data set, its files are not known, or one cannot be had or is damaged.

    """
    from rich.console import Console

    console = Console()
    if not SOURCES.get(name):
        known = ", ".join(SOURCES)
        if name in DATASETS and DATASETS[name].comes_with is not None:
            console.print(f"{name} comes with {DATASETS[name].comes_with}: nothing to download")
            return 0
        if name in published_counts():
            place = "hvae_spec/data/registry.py"
            raise DataError(f"{name}: cannot be downloaded, as its files are not registered; add them to {place}")
        raise DataError(f"{name}: no such data set; expected one of {known}")
    paths: list[Path] = [locate(source) for source in SOURCES[name]]
    for path, source in zip(paths, SOURCES[name], strict=True):
        note = "" if is_canonical(path, source) else " (not the file that its distributor published)"
        console.print(f"{path}{note}", soft_wrap=True, markup=False, highlight=False)
    check_headers(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

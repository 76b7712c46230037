"""Tables and figures of a results folder: `python -m analysis.report results/mnist_grid`."""

import argparse
import contextlib
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_spec.command import CommandParser, path_argument, run_command
from hvae_spec.errors import MachineError, UserError, refusal, shorten
from hvae_spec.records.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Group as RichGroup

    from analysis.figures.drawing import Drawing
    from analysis.frames import Frames
    from analysis.tables import Table, TableSet

DESCRIPTION = """\
Rebuild the tables and figures of a grid from its records, whatever its state. Members that are missing, have diverged
or have failed are counted, never averaged.

  tables/test_log_likelihood.{md,csv,tex}   by depth, variant and axes, mean and standard error over seeds
  tables/bits_per_dim.{md,csv,tex}          the same in bits per dimension, of gray levels (not of zeros and ones)
  tables/test_error.{md,csv,tex}            of models with classes: how often q(y|x) names another class
  tables/active_units.{md,csv,tex}          by layer and variant, one table per depth
  tables/table_1.{md,csv,tex}               the paper's Table 1, 2 or 3 with ours beside the published values;
    table_2, table_3, figure_3, iwae        also Fig. 3 as numbers and the IWAE, as far as the results answer them
  tables/verdicts.{md,csv,tex}              do ours agree: every difference from a published value with its interval
  tables/kl.{md,csv,tex}                    KL(q||p) by layer and variant; kl_standard_normal: to N(0, I) (Fig. 6a)
  tables/bound_by_samples.{md,csv,tex}      the bound against K, and the effective sample size
  tables/ais.{md,csv,tex}                   how far the bound is from the likelihood (annealed importance sampling)
  tables/refine.{md,csv,tex}                amortized bounds, and those of q(z|x) fitted to every image by itself
  tables/probe.{md,csv,tex}                 what each layer knows of the classes: accuracy of linear probes
  tables/paired_effects.{md,csv,tex}        what each factor adds: main effects, interactions, simple effects
  tables/detectable_effects.{md,csv,tex}    how small an effect the seeds can show (power of the paired t test)
  tables/seeds.{md,csv,tex}                 how wide intervals are, and how many seeds they take (two stages)
  tables/search.{md,csv,tex}                of a search: its points by their bound on the validation images
  tables/ranking.{md,csv,tex}               rank of the variants, with the probability that each is best
  tables/collapse.{md,csv,tex}              which layers have no active unit left, and since which epoch
  tables/members.csv                        one row per member: labels, settings, metrics, costs
  figures/log_likelihood.{png,pdf}          test log-likelihood by depth (Fig. 3)
  figures/learning_curves.{png,pdf}         training and test curves at the greatest depth (Fig. 4)
  figures/active_units.{png,pdf}            active units by layer at the greatest depth
  figures/unit_kl.{png,pdf}                 KL of every unit over epochs at the greatest depth (Fig. 5)
  figures/kl_standard_normal.{png,pdf}      KL of q(z_i|.) to N(0, I) by layer at the greatest depth (Fig. 6a)
  figures/injected.{png,pdf}                samples with z_i ~ N(0, I) injected at each layer (Fig. 6b)
  figures/latents.{png,pdf}                 principal components of z_i ~ q, colored by class (Fig. 7)
  figures/paired_effects.{png,pdf}          what each setting adds in which variants differ
  figures/bound_by_samples.{png,pdf}        the bound against K, and the effective sample size
  figures/reconstructions.{png,pdf}         test images and their reconstructions
  figures/prior_samples.{png,pdf}           samples of the models
  figures/search.{png,pdf}                  of a search: every setting against the bound on the validation images
  report.html                               all of it, with settings, data and machines, on one page

There is one of each for a data set, named after it if there are several. With further axes, rows and panels are by all
factors that vary (report.layout of the spec says where, or analysis.layout chooses), and pictures are of the place of
the best cell. Of a folder with several grids (specs/paper.yaml), tables/ holds the paper's tables and the verdicts from
all of them, grids/NAME/ the tables and figures of each, and report.html everything. So do several folders, whose grids
stand side by side, each member once; --out says where."""
MAIN = ("test_error", "test_log_likelihood", "search")
"""The tables that are printed of every grid that has them."""
FAILURE = "report_failure.txt"
"""The traceback of a report that could not be written, in the results folder."""


@dataclass(frozen=True)
class Report:
    """What a report has written, and what to print."""

    table: "RichGroup"
    """Test log-likelihood by depth and variant, a table per grid: mean ± standard error (number of seeds)."""
    footnotes: tuple[str, ...]
    """How to read the table, and how the bound was measured."""
    summary: str
    """`57 members: 55 finished, 1 diverged, 1 failed`"""
    files: tuple[Path, ...]
    """Tables first, then figures."""
    faults: tuple[str, ...] = ()
    """What is damaged (see `Frames.faults`)."""
    is_whole: bool = True
    """Whether everything that the report is made of could be read, but for rows of curves."""
    verdicts: "RichGroup | None" = None
    """Whether ours agree with the paper: every table with its footnotes. None where no result answers it."""
    answer: tuple[str, ...] = ()
    """What was asked, and the answer on each data set, as the page opens with it; of several grids, that of each."""

    def __rich__(self) -> "RichGroup":
        """The table, its footnotes and the summary, for `rich.print(report)`."""
        from rich.console import Group as RichGroup
        from rich.text import Text

        faults = [f"Damaged: {fault}" for fault in self.faults]
        parts: list[RichGroup | Text] = [*map(Text, self.answer), *([Text()] if self.answer else [])]
        parts += [self.table, *map(Text, self.footnotes)]
        if self.verdicts is not None:
            parts += [Text(), self.verdicts, Text()]
        return RichGroup(*parts, *map(Text, (*faults, self.summary)))


def write(results: str | Path | Sequence[str | Path], out: str | Path | None = None) -> Report:
    """Write the tables and figures of a results folder, or of several side by side.

    Args:
        results: the folder, whatever the state of its grid, or several (see `analysis.load`).
        out: the folder for `tables/`, `figures/` and `report.html`; None is the results folder itself, if it is one.

    Returns:
        The table to print, and the paths of all files.

    Raises:
        UserError: a folder holds no results, its grid.json is damaged, several folders are given without `out`, or a
            table or figure cannot be written.

    """
    # Pandas and seaborn take a second to import, which `--help` does not need.
    _import_matplotlib()
    from rich.console import Group as RichGroup

    from analysis import frames
    from analysis.figures import drawing
    from analysis.figures.galleries import damaged_galleries
    from analysis.html.page import Part, page, page_of_grids
    from analysis.paper import across_grids
    from analysis.tables import rendering

    given = _folders(results)
    if out is None and len(given) > 1:
        raise UserError(
            f"the report of {len(given)} results folders belongs into none of them; expected --out DIR: `"
            f"{_command(given)} --out results/side_by_side`"
        )
    target = given[0] if out is None else Path(out)
    loaded = frames.load_all(given)
    galleries = damaged_galleries(loaded)
    loaded = replace(loaded, faults=(*loaded.faults, *galleries))
    is_damaged = any((each.planned.members["status"] == "damaged").any() for each in (loaded, *loaded.grids))
    is_whole = not galleries and not loaded.left_out and not is_damaged
    if loaded.grids:
        parts = [Part(grid, tuple(_table_sets(grid)), tuple(drawing.render(grid))) for grid in loaded.grids]
        paper = tuple(replace(item, members=drawing.behind(loaded)) for item in across_grids.tables(loaded.grids))
        content = page_of_grids(loaded, [summary(loaded), *map(summary, loaded.grids)], paper, parts)
        folders = [target / "grids" / part.frames.name for part in parts]
    else:
        parts, paper = [Part(loaded, tuple(_table_sets(loaded)), tuple(drawing.render(loaded)))], ()
        content = page(loaded, summary(loaded), parts[0].table_sets, parts[0].drawings)
        folders = [target]
    try:
        files = list(_write_tables(loaded, paper, target / "tables")) if loaded.grids else []
        for part, folder in zip(parts, folders, strict=True):
            files += _write_tables(part.frames, part.table_sets, folder / "tables")
            files += _write_figures(part.drawings, folder / "figures")
        files.append(_write_page(target / "report.html", content))
        (target / FAILURE).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"{target}: the report cannot be written ({refusal(target, error)}); `{_command(given)} --out DIR` "
            "writes it into another folder"
        ) from None
    shown = []
    for part in parts:
        of = f"{part.frames.name}: " if loaded.grids else ""
        for name in _main(part.frames):
            shown.append([replace(table, subject=f"{of}{table.subject}") for table in _of(part.table_sets, name)])
    judged = _of(paper if loaded.grids else parts[0].table_sets, "verdicts")
    return Report(
        RichGroup(*map(rendering.terminal, filter(None, shown))),
        _footnotes_of(loaded, [table for tables in shown for table in tables]),
        summary(loaded),
        tuple(files),
        loaded.faults,
        is_whole,
        rendering.terminal_apart(judged) if judged else None,
        tuple(line for part in parts for line in _asked_and_answered(part.frames)),
    )


def _main(frames: "Frames") -> tuple[str, ...]:
    """The tables that are printed: with that of bits per dimension where log-likelihoods do not compare."""
    from analysis.caveats import best_by

    column, _ = best_by(frames.planned.members)
    return (*MAIN, column) if column not in MAIN else MAIN


def _asked_and_answered(frames: "Frames") -> Iterator[str]:
    from analysis.tables.answer import answer, question
    from analysis.tables.search import in_words

    yield from (question(frames), *answer(frames)) if frames.search is None else in_words(frames)


def _footnotes_of(frames: "Frames", shown: "Sequence[Table]") -> tuple[str, ...]:
    """The footnotes of the tables that are printed, with what is left out of the whole folder in place of what is left
    out of each.
    """
    from analysis import caveats
    from analysis.tables import rendering

    footnotes = (note for note in rendering.all_footnotes(shown) if caveats.OF_THIS_TABLE not in note)
    return (*footnotes, *caveats.absences(frames.planned))


def _of(table_sets: "Sequence[TableSet]", *names: str) -> "list[Table]":
    """The tables of the sets with these names."""
    return [table for table_set in table_sets if table_set.name in names for table in table_set.tables]


def check() -> None:
    """Draw something small, so that what would keep a report from being drawn shows before hours of training.

    Raises:
        MachineError: nothing can be drawn.

    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its caches are, say, is no concern of a grid's
    try:
        _import_matplotlib()
        from analysis import frames, tables  # noqa: F401 - all that a report imports
        from analysis.figures import drawing
        from analysis.html import page  # noqa: F401

        drawing.check()
    except Exception as error:
        raise MachineError(
            f"a report could not be drawn ({_in_words(error)}): see to the settings of matplotlib (a file matplotlibrc "
            "here or at MATPLOTLIBRC, or in the folder MPLCONFIGDIR), or to its installation"
        ) from None


def _import_matplotlib() -> None:
    """Import it even with a backend (MPLBACKEND) that is not there: files have no need of one."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib as mpl

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):
            mpl.rcParams["backend"] = backend


def failure(results: Path | Sequence[Path], error: Exception, out: Path | None = None) -> str:
    """What is said, in one line, of a report that could not be written. Of an error that is none of a user's, the
    traceback goes into the report's folder.

    Args:
        results: the results folder, or several.
        error: what `write` raised.
        out: the folder that the report was to be written to, if it is another one.

    """
    given = _folders(results)
    target = given[0] if out is None else out
    again = _command(given) + ("" if out is None else f" --out {shlex.quote(str(out))}")
    told = f"the members are safe, and `{again}` writes it again"
    if isinstance(error, UserError):
        return f"{error}\n{told}" if "\n" in str(error) else f"{error}; {told}"
    lines = "".join(traceback.format_exception(error))
    try:
        write_atomically(target / FAILURE, lines)
        told += f" (traceback: {target / FAILURE})"
    except OSError:
        pass  # the disk may be what is at fault
    return f"{', '.join(map(str, given))}: the report could not be written ({_in_words(error)}); {told}"


def _folders(results: str | Path | Sequence[str | Path]) -> list[Path]:
    """Each results folder once."""
    from analysis import folders

    return folders.distinct([results] if isinstance(results, str | Path) else results)


def _command(results: Sequence[Path]) -> str:
    return shlex.join(["python", "-m", "analysis.report", *map(str, results)])


def _in_words(error: Exception) -> str:
    """An error in one line."""
    return shorten(f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": "))


def summary(frames: "Frames") -> str:
    """The state of the grid in one line: `57 members: 55 finished, 1 diverged, 1 failed`."""
    from analysis import caveats

    status = frames.planned.members["status"]
    counts = [f"{count} {name}" for name, count in status.value_counts(sort=False).items() if count]
    if absent := int(caveats.left_out(frames.planned).sum()):
        counts.append(f"{absent} of these left out, as files of their data set are missing")
    left_out = len(frames.members) - len(status)
    tail = f"; {left_out} more that the grid no longer plans" if left_out else ""
    return f"{len(status)} member{'s' * (len(status) != 1)}: {', '.join(counts)}{tail}"


def _table_sets(frames: "Frames") -> Iterator["TableSet"]:
    """Every table that these results fill, the test log-likelihood first, with the members behind it."""
    from analysis.figures import drawing

    members = drawing.behind(frames)
    return (replace(table_set, members=members) for table_set in _filled(frames))


def _filled(frames: "Frames") -> Iterator["TableSet"]:
    from analysis import tables
    from analysis.paper import replication, verdicts

    if frames.search is not None:
        # Its points are no factor whose effects are tested, and no cells that stand beside published values.
        yield tables.search(frames)
        return
    yield tables.log_likelihood(frames)
    papers = replication.tables(frames)
    judged = verdicts.verdicts(frames, papers)
    yield from papers
    if judged.tables:
        yield judged
    yield tables.active_units(frames)
    others = (
        tables.class_errors,
        tables.bits_per_dim,
        tables.layer_kl,
        tables.layer_kl_standard_normal,
        tables.bound_by_samples,
        tables.annealed,
        tables.refined,
        tables.probed,
    )
    seeds = tables.detectable_effects, tables.two_stage_seeds
    for build in (*others, tables.paired_effects, *seeds, tables.ranking, tables.collapse):
        table_set = build(frames)
        if table_set.tables:
            yield table_set


def _write_tables(frames: "Frames", table_sets: "Sequence[TableSet]", folder: Path) -> Iterator[Path]:
    from analysis.tables import rendering

    for table_set in table_sets:
        # CSV has no place for it; members.csv lies beside it.
        behind = f"members {' '.join(table_set.members)}"
        contents = {
            "md": f"{rendering.markdown(table_set.tables)}\n<!-- {behind} -->\n",
            "csv": table_set.tidy.to_csv(index=False),
            "tex": f"% {behind}\n{rendering.latex(table_set.tables, table_set.name)}",
        }
        for ending, content in contents.items():
            path = folder / f"{table_set.name}.{ending}"
            write_atomically(path, content)
            yield path
    path = folder / "members.csv"
    write_atomically(path, frames.members.to_csv(index=False))
    yield path


def _write_figures(drawings: "Sequence[Drawing]", folder: Path) -> Iterator[Path]:
    for drawing in drawings:
        for ending, content in (("png", drawing.png), ("pdf", drawing.pdf)):
            path = folder / f"{drawing.stem}.{ending}"
            write_atomically(path, content)
            yield path


def _write_page(path: Path, content: str) -> Path:
    write_atomically(path, content)
    return path


def main(arguments: Sequence[str] | None = None, prog: str = "python -m analysis.report") -> int:
    """The command. Returns 0; 1 if a record is damaged, without which the report is written; or the exit code of an
    error with one message on stderr.
    """
    parser = CommandParser(prog=prog, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_results = "results folder of a grid, e.g. results/mnist_grid; of several, the grids stand side by side"
    parser.add_argument("results", type=path_argument, nargs="+", metavar="RESULTS", help=help_results)
    help_out = "folder for tables/, figures/ and report.html (default: the results folder, if it is one alone)"
    parser.add_argument("--out", type=path_argument, metavar="DIR", help=help_out)

    def run() -> int:
        options = parser.parse_args(arguments)
        return _report(options.results, options.out)

    return run_command(run)


def _report(results: Sequence[Path], out: Path | None) -> int:
    """Write and print the report."""
    from rich.console import Console

    check()
    try:
        report = write(results, out)
    except UserError:
        raise
    except Exception as error:
        raise MachineError(failure(results, error, out)) from None
    Console(markup=False, emoji=False).print(report)
    for path in report.files:
        # Not printed by rich, which would break a long path.
        sys.stdout.write(f"{path}\n")
    return 0 if report.is_whole else 1


if __name__ == "__main__":
    sys.exit(main())

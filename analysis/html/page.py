"""A report as one self-contained HTML page: no scripts, no network, readable on a phone and on paper.

It opens with the result: what was asked, the answer, the main table beside its figure. Then follow the effects, the
other tables and figures by subject (`analysis.html.subjects`), and at the end what was run, with which settings, and
where it came from. The page is made of the templates beside this file, which escape all text from specs and records;
the page's own content security policy forbids it to load anything.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis.caveats import absences, not_canonical
from analysis.figures.drawing import Drawing
from analysis.frames import Frames
from analysis.html import run_info
from analysis.html.architectures import Models, models
from analysis.html.elements import typeset
from analysis.html.run_info import Rows
from analysis.html.subjects import FURTHER, MAIN, SEARCH, SUBJECTS, Subject
from analysis.tables import Table, TableSet, html_table
from analysis.tables.answer import answer, question
from analysis.tables.search import in_words

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The content security policy: nothing is loaded, images and the style sheet are in the page itself."""
FAULTS = 20
"""Damaged files that are named at most."""
ENLARGED = 1.2
"""How much larger than in print figures are on the page."""
NOTE = (
    "Every member's folder holds its resolved spec, curves, per-image bounds, weights and result, with the data, the "
    "machine and the versions that it was made with."
)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = typeset
    environment.filters["html_table"] = lambda table: Markup(html_table(table))
    return environment


@cache
def _style() -> Markup:
    return Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Part:
    """A grid of several with its tables and figures."""

    frames: Frames
    table_sets: Sequence[TableSet]
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class TableItem:
    """A table in its place on the page."""

    key: str
    """Its identifier, by which links find it."""
    table: Table
    members: tuple[str, ...]
    """Digests of the members behind it."""
    is_last_with_its_footnotes: bool
    """Whether the next table has other ones: tables in a row that have the same share them, below the last."""

    @property
    def title(self) -> str:
        """What a link to it says."""
        return self.table.title


@dataclass(frozen=True)
class FigureItem:
    """A figure in its place on the page."""

    key: str
    """Its identifier, by which links find it."""
    drawing: Drawing
    number: int = 0
    """From 1, as figures follow one another on the page."""

    @property
    def title(self) -> str:
        """What a link to it says."""
        return f"Figure {self.number}. {self.drawing.group}: {self.drawing.heading}"

    @property
    def alternative(self) -> str:
        """What stands for it where it cannot be seen: what it shows."""
        return f"{self.drawing.heading}, {self.drawing.group}. {self.drawing.shown}".strip()

    @property
    def width(self) -> int:
        """In CSS pixels."""
        return round(self.drawing.inches * 96 * ENLARGED)

    @property
    def source(self) -> str:
        """The picture itself, as an address: as SVG where that is the smaller one."""
        svg, png = self.drawing.svg, self.drawing.png
        kind, content = ("svg+xml", svg) if svg is not None and len(svg) <= len(png) else ("png", png)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Pair:
    """Tables and figures of one group of members, side by side."""

    tables: tuple[TableItem, ...]
    figures: tuple[FigureItem, ...]


@dataclass(frozen=True)
class Result:
    """What a report opens with."""

    question: str
    answer: tuple[str, ...]
    """Its sentences."""
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    key: str
    """Its identifier, by which links find it."""
    title: str
    """Its heading, without the name of the grid."""
    tables: tuple[TableItem, ...] = ()
    figures: tuple[FigureItem, ...] = ()
    rows: tuple[tuple[str, Rows], ...] = ()
    """Tables of text: caption and rows, the first of which is the heading."""
    models: Models | None = None
    texts: tuple[tuple[str, str], ...] = ()
    """What is shown on demand: summary and text."""
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """All of one grid, or what a folder says of several."""

    before: str
    """What the identifiers of its parts begin with."""
    heading: str
    """Its name where there are several, else empty."""
    result: Result | None
    sections: tuple[Section, ...]

    @property
    def items(self) -> Iterator[TableItem | FigureItem]:
        """Every table and figure, in their order on the page."""
        parts: list[Pair | Section] = [*(self.result.pairs if self.result else ()), *self.sections]
        for part in parts:
            yield from part.tables
            yield from part.figures


def page(frames: Frames, summary: str, table_sets: Sequence[TableSet], drawings: Sequence[Drawing]) -> str:
    """The page of a grid, as the text of an HTML file.

    Args:
        frames: the grid.
        summary: its state in one line.
        table_sets: all tables.
        drawings: all figures.

    Raises:
        UserError: a record cannot be read.

    """
    return _document(frames, summary, [_chapter(Part(frames, table_sets, drawings))])


def page_of_grids(frames: Frames, summaries: Sequence[str], paper: Sequence[TableSet], parts: Sequence[Part]) -> str:
    """The page of several grids, as the text of an HTML file: the paper's tables from all of them, and then the rest of
    each.

    Args:
        frames: the whole.
        summaries: its state in one line, and that of each grid.
        paper: the paper's tables.
        parts: every grid with its tables and figures.

    Raises:
        UserError: a record cannot be read.

    """
    summary, *own = summaries
    rows: Rows = [
        ("grid", "members", "folder"),
        *((part.frames.name, text, str(part.frames.folder)) for part, text in zip(parts, own, strict=True)),
    ]
    whole = [Section("grids", "Grids", rows=(("", rows),))]
    if paper:
        whole.append(Section("paper", "The paper's tables", tables=_table_items(paper, "")))
    chapters = [Chapter("", "", None, tuple(whole)), *(_chapter(part, part.frames.name) for part in parts)]
    return _document(frames, summary, chapters)


def _document(frames: Frames, summary: str, chapters: Sequence[Chapter]) -> str:
    context = {
        "policy": POLICY,
        "style": _style(),
        "name": frames.name,
        "summary": summary,
        "warnings": list(_warnings(frames)),
        "chapters": _numbered(chapters),
    }
    return _templates().get_template("page.html").render(context)


def _chapter(part: Part, name: str = "") -> Chapter:
    """What there is to say of a grid; `name` is its own where the page has several."""
    before = f"{name}-" if name else ""
    opening = MAIN if part.frames.search is None else SEARCH
    tables = {table_set.name: table_set for table_set in part.table_sets}
    main = _table_items([tables.pop(name) for name in opening.tables if name in tables], before)
    shown = _figure_items((item for item in part.drawings if item.name in opening.figures), before)
    pairs = tuple(_pairs(main, shown))
    if part.frames.search is None:
        result = Result(question(part.frames), answer(part.frames), pairs)
    else:
        asked, *found = in_words(part.frames)
        result = Result(asked, tuple(found), (Pair(main, shown),))
    sections = [*_subjects(part, before), *_origins(part.frames)]
    return Chapter(before, name, result, tuple(replace(item, key=before + item.key) for item in sections))


def _pairs(tables: Sequence[TableItem], figures: Sequence[FigureItem]) -> Iterator[Pair]:
    """The main tables with the figures of the same group of members beside them."""
    groups = dict.fromkeys([*(item.table.subject for item in tables), *(item.drawing.group for item in figures)])
    for group in groups:
        yield Pair(
            tuple(item for item in tables if item.table.subject == group),
            tuple(item for item in figures if item.drawing.group == group),
        )


def _subjects(part: Part, before: str) -> Iterator[Section]:
    """Every subject of which there is a table or a figure."""
    named = {name for subject in (MAIN, SEARCH, *SUBJECTS) for name in (*subject.tables, *subject.figures)}
    tables = tuple(item.name for item in part.table_sets if item.name not in named)
    figures = tuple(dict.fromkeys(item.name for item in part.drawings if item.name not in named))
    for subject in (*SUBJECTS, replace(FURTHER, tables=tables, figures=figures)):
        section = _subject(subject, part, before)
        if section.tables or section.figures:
            yield section


def _subject(subject: Subject, part: Part, before: str) -> Section:
    sets = [item for name in subject.tables for item in part.table_sets if item.name == name]
    drawings = (item for name in subject.figures for item in part.drawings if item.name == name)
    tables = _table_items(sets, before)
    return Section(subject.key, subject.heading, tables=tables, figures=_figure_items(drawings, before))


def _table_items(table_sets: Iterable[TableSet], before: str) -> tuple[TableItem, ...]:
    items = []
    for table_set in table_sets:
        number = 0
        for _, alike in groupby(table_set.tables, key=lambda table: table.footnotes):
            tables = list(alike)
            for table in tables:
                number += 1
                key = f"{before}table-{table_set.name}-{number}"
                items.append(TableItem(key, table, table_set.members, table is tables[-1]))
    return tuple(items)


def _figure_items(drawings: Iterable[Drawing], before: str) -> tuple[FigureItem, ...]:
    return tuple(FigureItem(before + drawing.stem, drawing) for drawing in drawings)


def _numbered(chapters: Sequence[Chapter]) -> list[Chapter]:
    """The same chapters with the figures of each numbered in their order on the page."""
    numbered = []
    for chapter in chapters:
        places = {item.key: place for place, item in enumerate(_figures(chapter), start=1)}

        def with_numbers(items: Iterable[FigureItem], places: dict[str, int] = places) -> tuple[FigureItem, ...]:
            return tuple(replace(item, number=places[item.key]) for item in items)

        result = chapter.result and replace(
            chapter.result,
            pairs=tuple(replace(pair, figures=with_numbers(pair.figures)) for pair in chapter.result.pairs),
        )
        sections = tuple(replace(item, figures=with_numbers(item.figures)) for item in chapter.sections)
        numbered.append(replace(chapter, result=result, sections=sections))
    return numbered


def _figures(chapter: Chapter) -> Iterator[FigureItem]:
    return (item for item in chapter.items if isinstance(item, FigureItem))


def _warnings(frames: Frames) -> Iterator[str]:
    members = frames.planned.members
    for name in (str(name) for name, own in members.groupby("dataset") if not_canonical(own)):
        files = f"The files of {name} are not those of its distributor"
        yield f"{files}: the numbers are not comparable with published ones."
    unfinished = int((members["status"] != "finished").sum())
    if unfinished:
        count = f"{unfinished} of {len(members)} members are not finished"
        yield f"{count}; they are counted, but excluded from the means."
    yield from absences(frames.planned)
    yield from (f"Damaged: {fault}" for fault in frames.faults[:FAULTS])
    if (more := len(frames.faults) - FAULTS) > 0:
        yield f"{more} more damaged files."


def _origins(frames: Frames) -> Iterator[Section]:
    """What was run, member by member, with which settings, on which data and machines, by which commands."""
    found = models(frames)
    if found.architectures:
        yield Section("architectures", "Architectures", models=found)
    members = (
        ("Test log-likelihood of every member by seed (nats per image)", run_info.by_seed(frames)),
        ("Members that have not finished", run_info.lost(frames)),
    )
    yield Section("members", "Members", rows=_filled(members))
    settings = (
        ("The grid", run_info.axes(frames)),
        ("Settings of all members", run_info.common_settings(frames)),
        ("Settings that differ", run_info.variant_settings(frames)),
    )
    yield Section("settings", "Settings", rows=_filled(settings), texts=tuple(run_info.specs(frames)))
    rows = _filled((("Data", run_info.data(frames)), ("Machines", run_info.machines(frames))))
    commands = run_info.commands(frames)
    if rows or commands:
        lines = (("Commands", [("command", "members"), *commands]),) if commands else ()
        yield Section("provenance", "Provenance", rows=(*rows, *lines), note=NOTE)


def _filled(tables: Iterable[tuple[str, Rows]]) -> tuple[tuple[str, Rows], ...]:
    """Those that have a row besides their heading, and a column besides their labels."""
    return tuple((heading, rows) for heading, rows in tables if len(rows) > 1 and len(rows[0]) > 1)

"""A report as one self-contained HTML page: no scripts, no network, readable on a phone and on paper.

All text from specs and records is escaped; the page's own content security policy forbids it to load anything.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path

from analysis.caveats import absences, not_canonical
from analysis.figures.drawing import RESOLUTION, Drawing
from analysis.frames import Frames
from analysis.html import run_info
from analysis.html.architectures import Architecture, architectures, objectives
from analysis.html.elements import caption, equation, footnote_list, row_table, typeset
from analysis.tables import TableSet, html_table
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.spec import equations
from hvae_spec.spec.choices import nonlinearity
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.experiment import MemberSpec

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The content security policy: nothing is loaded, images and the style sheet are in the page itself."""
SECTIONS = {
    "run": "What was run",
    "tables": "Tables",
    "figures": "Figures",
    "architectures": "Architectures",
    "provenance": "Provenance",
}
"""The sections of a page in their order: identifier and heading."""


FAULTS = 20
"""Damaged files that are named at most."""


@cache
def _style() -> str:
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Part:
    """A grid of several with its tables and figures."""

    frames: Frames
    table_sets: Sequence[TableSet]
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    key: str
    """Its identifier, by which links find it."""
    heading: str
    text: str
    """HTML."""


def page(frames: Frames, summary: str, table_sets: Sequence[TableSet], drawings: Sequence[Drawing]) -> str:
    """The page of a grid, as the text of an HTML file.

    Args:
        frames: the grid.
        summary: its state in one line.
        table_sets: all tables, in their order on the page.
        drawings: all figures, in their order on the page.

    Raises:
        UserError: a record cannot be read.

    """
    sections = _sections(frames, table_sets, drawings)
    return _document(frames, summary, _links(sections), sections)


def page_of_grids(frames: Frames, summaries: Sequence[str], paper: Sequence[TableSet], parts: Sequence[Part]) -> str:
    """The page of several grids, as the text of an HTML file: the paper's tables from all of them, and then the
    sections of each.

    Args:
        frames: the whole.
        summaries: its state in one line, and that of each grid.
        paper: the paper's tables.
        parts: every grid with its tables and figures.

    Raises:
        UserError: a record cannot be read.

    """
    summary, *own = summaries
    rows: run_info.Rows = [
        ("grid", "members", "folder"),
        *((part.frames.name, text, str(part.frames.folder)) for part, text in zip(parts, own, strict=True)),
    ]
    whole = [Section("grids", "Grids", row_table("", rows))]
    if paper:
        whole.append(Section("paper", "The paper's tables", "\n".join(map(_table_set, paper))))
    links, sections = _links(whole), whole
    for part in parts:
        own_sections = _sections(part.frames, part.table_sets, part.drawings, of_grid=part.frames.name)
        name = escape(part.frames.name)
        links += f'</ul><ul aria-label="{name}"><li><b>{name}</b></li>{_links(own_sections)}'
        sections = [*sections, *own_sections]
    return _document(frames, summary, links, sections)


def _sections(
    frames: Frames, table_sets: Sequence[TableSet], drawings: Sequence[Drawing], of_grid: str = ""
) -> list[Section]:
    """What there is to say of a grid. `of_grid` is its name where the page has several."""
    before = f"{of_grid}-" if of_grid else ""
    content = {
        "run": _run(frames),
        "tables": "\n".join(_table_set(table_set) for table_set in table_sets),
        "figures": "\n".join(_figure(number, drawing, before) for number, drawing in enumerate(drawings, start=1)),
        "architectures": _architectures(frames),
        "provenance": _provenance(frames),
    }
    heading = f"{of_grid}: {{}}" if of_grid else "{}"
    return [Section(before + key, heading.format(SECTIONS[key]), text) for key, text in content.items() if text]


def _links(sections: Sequence[Section]) -> str:
    return "".join(
        f'<li><a href="#{escape(section.key)}">{escape(section.heading.rpartition(": ")[2])}</a></li>'
        for section in sections
    )


def _document(frames: Frames, summary: str, links: str, content: Sequence[Section]) -> str:
    sections = "\n".join(
        f'<section id="{escape(part.key)}">\n<h2>{escape(part.heading)}</h2>\n{part.text}\n</section>'
        for part in content
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(frames.name)}</title>
<style>
{_style()}</style>
</head>
<body>
<header>
<h1>{escape(frames.name)}</h1>
<p class="state">{escape(summary)}</p>
{_warnings(frames)}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{sections}
</main>
</body>
</html>
"""


def _warnings(frames: Frames) -> str:
    members = frames.planned.members
    foreign = [str(name) for name, own in members.groupby("dataset") if not_canonical(own)]
    lines = [
        f"The files of {name} are not those of its distributor: the numbers are not comparable with published ones."
        for name in foreign
    ]
    unfinished = int((members["status"] != "finished").sum())
    if unfinished:
        count = f"{unfinished} of {len(members)} members are not finished"
        lines.append(f"{count}; they are counted, but excluded from the means.")
    lines += absences(frames.planned)
    lines += [f"Damaged: {fault}" for fault in frames.faults[:FAULTS]]
    if (more := len(frames.faults) - FAULTS) > 0:
        lines.append(f"{more} more damaged files.")
    return "".join(f'<p class="warning">{escape(line)}</p>\n' for line in lines)


def _run(frames: Frames) -> str:
    """The axes of the grid, the settings, and the members that have not finished."""
    members = frames.planned.members
    seeds = ", ".join(map(str, sorted(members["seed"].unique())))
    depths = ", ".join(map(str, sorted(members["depth"].unique())))
    datasets = ", ".join(dict.fromkeys(members["dataset"]))
    names = [str(name) for name in members["variant"].cat.categories if (members["variant"] == name).any()]
    axes = [(path, " / ".join(map(str, dict.fromkeys(members[column])))) for column, path in frames.axes.items()]
    grid = [("data", datasets), ("depths L", depths), ("variants", "; ".join(names)), *axes, ("seeds", seeds)]
    times = run_info.finished_between(frames)
    if times:
        grid.append(("finished between", " and ".join(dict.fromkeys(times))))
    parts = [row_table("The grid", [("axis", "values"), *grid])]
    for heading, rows in (
        ("Settings of all members", run_info.common_settings(frames)),
        ("Settings that differ", run_info.variant_settings(frames)),
        ("Members that have not finished", run_info.lost(frames)),
    ):
        if len(rows) > 1 and len(rows[0]) > 1:
            parts.append(row_table(heading, rows))
    return "\n".join(parts)


def _table_set(table_set: TableSet) -> str:
    parts = []
    # Tables in a row that have the same footnotes share them, below the last.
    for footnotes, tables in groupby(table_set.tables, key=lambda table: table.footnotes):
        for table in tables:
            parts += [caption(table.title), f'<div class="scroll">{html_table(table)}</div>']
        parts.append(footnote_list(footnotes))
    return "\n".join(parts)


def _figure(number: int, drawing: Drawing, before: str = "") -> str:
    source = base64.b64encode(drawing.png).decode()
    # The header of a PNG holds its width in pixels. The page shows figures a fifth larger than in print.
    width = round(int.from_bytes(drawing.png[16:20], "big") / RESOLUTION * 96 * 1.2)
    heading = f"<b>Figure {number}.</b> {escape(drawing.group)}."
    return (
        f'<figure id="{escape(before + drawing.stem)}">'
        f'<img width="{width}" src="data:image/png;base64,{source}" alt="{escape(f"{drawing.name}, {drawing.group}")}">'
        f"<figcaption>{heading} {typeset(drawing.caption)}</figcaption></figure>"
    )


def _architectures(frames: Frames) -> str:
    found = architectures(frames)
    if not found:
        return ""
    # Each objective once. Most grids have one, which needs no names of variants.
    maximized = objectives(frames)
    bounds = [
        (*([f"<p>{escape(', '.join(names))}:</p>"] if len(maximized) > 1 else []), *map(equation, lines))
        for lines, names in maximized.items()
    ]
    return "\n".join(
        (
            "<p>Each model once, at its greatest depth, with the variants that share it; models of less depth lack the "
            "upper layers. The bound that is maximized, with M Monte Carlo and K importance samples; β rises linearly "
            "from 0 to 1 in the epochs of warm-up, and is 1 in every test:</p>",
            *(line for bound in bounds for line in bound),
            *map(_architecture, found),
        )
    )


def _architecture(architecture: Architecture) -> str:
    member = architecture.member
    model = member.model
    units = ", ".join(f"z_{place}: {layer.units}" for place, layer in enumerate(model.layers, start=1))
    norm = (
        "Batch normalization of every hidden layer and of the heads of the latents, before the softplus; never of the "
        "heads of p(x|z_1)."
        if model.batch_norm
        else "No batch normalization."
    )
    lines = [
        f"<h3>{escape(', '.join(architecture.variants))} ({escape(architecture.dataset)}, L = {model.depth})</h3>",
        f"<p>{typeset(units)}; x: {escape(model.observation)}. {typeset(norm)} "
        f"Nonlinearity: {typeset(nonlinearity.equation(model.nonlinearity))}.</p>",
        equation(f"p(x, z) = {equations.generative(model)}"),
        equation(f"q(z|x) = {equations.inference(model)}"),
        *map(equation, equations.equations(model)),
        _mappings(member),
    ]
    return "\n".join(lines)


def _mappings(member: MemberSpec) -> str:
    """The widths and parameters of every mapping of a model."""
    norm = member.model.batch_norm
    try:
        pixels = image_pixels(member.data)
        rows = [
            (item.name, " → ".join(map(str, item.widths)), f"{item.parameters(norm):,}")
            for item in mappings(member, pixels)
        ]
        rows.append(("total", "", f"{parameters(member, pixels):,}"))
    except UserError as error:
        # The user's own images may have been removed, and with them the number of pixels.
        return f"<p>Its widths are not known here: {escape(str(error))}</p>"
    return row_table("", [("mapping", "widths", "parameters"), *rows], text=False, typeset_cells=True)


def _provenance(frames: Frames) -> str:
    """The data files and the machines, where any record names them."""
    parts = [
        row_table(heading, rows)
        for heading, rows in (("Data", run_info.data(frames)), ("Machines", run_info.machines(frames)))
        if len(rows) > 1
    ]
    note = (
        "Every member's folder holds its resolved spec, curves, per-image bounds, weights and result, with the data, "
        "the machine and the versions that it was made with."
    )
    return "\n".join([*parts, f"<p>{note}</p>"]) if parts else ""

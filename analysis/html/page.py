"""A report as one self-contained HTML page: no scripts, no network, readable on a phone and on paper.

All text from specs and records is escaped; the page's own policy forbids it to load anything.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from analysis.figures.drawing import RESOLUTION, Drawing
from analysis.frames import Frames
from analysis.html import run_info
from analysis.html.architectures import Architecture, architectures
from analysis.html.run_info import Rows
from analysis.tables import rendering
from analysis.tables.footnotes import not_canonical
from analysis.tables.tables import TableSet
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.spec import equations
from hvae_spec.spec.choices.nonlinearity import equation
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.experiment import Member

STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --faint: #5a5a5a; --rule: #d4d4d4; --shade: #f5f5f5; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 86rem; padding: 1.5rem clamp(0.9rem, 4vw, 2.5rem) 4rem; color: var(--ink);
  background: #fff; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.8rem; padding-top: 0.6rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.5rem; overflow-wrap: anywhere; }
.state { color: var(--faint); margin: 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; list-style: none; padding: 0; margin: 1rem 0; }
a { color: #0b5394; }
.warning { border-left: 0.3rem solid #d55e00; background: #fdf3ec; padding: 0.5rem 0.9rem; margin: 0.8rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; margin: 0.3rem 0; }
.caption { font-weight: 600; margin: 1.1rem 0 0.2rem; overflow-wrap: anywhere; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: right; vertical-align: top; }
th:first-child, .text th, .text td { text-align: left; }
td, tbody th { white-space: nowrap; }
.text tbody th { white-space: normal; }
.text td { white-space: normal; overflow-wrap: anywhere; min-width: 4rem; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: 500; }
tr.total > * { border-top: 1px solid var(--rule); }
.notes { max-width: 62rem; font-size: 0.85rem; color: var(--faint); padding-left: 1.2rem; margin: 0.3rem 0 1.6rem; }
figure { margin: 1.8rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; max-width: 48rem; margin-top: 0.4rem; }
.equation { font-family: "STIX Two Text", Cambria, Georgia, "Liberation Serif", serif; font-size: 1.05rem;
  margin: 0.15rem 0 0.15rem 1.5rem; text-indent: -1rem; }
sub, sup { font-size: 0.72em; line-height: 0; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  figure, tr, .warning { break-inside: avoid; }
  h2, h3, .caption { break-after: avoid; }
  .scroll { overflow: visible; }
  figure img { max-width: min(100%, 15cm); max-height: 22cm; width: auto; }
  table { font-size: 8pt; }
  td, tbody th { white-space: normal; }
}
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SECTIONS = {
    "run": "What was run",
    "tables": "Tables",
    "figures": "Figures",
    "architectures": "Architectures",
    "provenance": "Provenance",
}


def page(frames: Frames, summary: str, table_sets: Sequence[TableSet], drawings: Sequence[Drawing]) -> str:
    """The page.

    Args:
        frames: the grid.
        summary: its state in one line.
        table_sets: all tables, in their order on the page.
        drawings: all figures, in their order on the page.

    Raises:
        UserError: a record cannot be read.

    """
    content = {
        "run": _run(frames),
        "tables": "\n".join(_table_set(table_set) for table_set in table_sets),
        "figures": "\n".join(_figure(number, drawing) for number, drawing in enumerate(drawings, start=1)),
        "architectures": _architectures(frames),
        "provenance": _provenance(frames),
    }
    content = {key: text for key, text in content.items() if text}
    links = "".join(f'<li><a href="#{key}">{SECTIONS[key]}</a></li>' for key in content)
    sections = "\n".join(
        f'<section id="{key}">\n<h2>{SECTIONS[key]}</h2>\n{text}\n</section>' for key, text in content.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(frames.name)}</title>
<style>{STYLE}</style>
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
        lines.append(f"{unfinished} of {len(members)} members are not finished; they are counted, and in no mean.")
    return "".join(f'<p class="warning">{escape(line)}</p>\n' for line in lines)


def _run(frames: Frames) -> str:
    members = frames.planned.members
    seeds = ", ".join(map(str, sorted(members["seed"].unique())))
    depths = ", ".join(map(str, sorted(members["depth"].unique())))
    datasets = ", ".join(dict.fromkeys(members["dataset"]))
    names = [str(name) for name in members["variant"].cat.categories if (members["variant"] == name).any()]
    axes = [(factor, " / ".join(map(str, dict.fromkeys(members[factor])))) for factor in frames.factors]
    grid = [("data", datasets), ("depths L", depths), ("variants", "; ".join(names)), *axes, ("seeds", seeds)]
    times = run_info.finished_between(frames)
    if times:
        grid.append(("done between", " and ".join(dict.fromkeys(times))))
    parts = [_rows("The grid", [("axis", "values"), *grid])]
    for caption, rows in (
        ("Settings of all members", run_info.common_settings(frames)),
        ("Settings that differ", run_info.variant_settings(frames)),
        ("Members that have not finished", run_info.lost(frames)),
    ):
        if len(rows) > 1 and len(rows[0]) > 1:
            parts.append(_rows(caption, rows))
    return "\n".join(parts)


def _table_set(table_set: TableSet) -> str:
    parts = []
    # Notes that several tables in a row share stand once, below the last.
    for notes, tables in groupby(table_set.tables, key=lambda table: table.notes):
        for table in tables:
            parts += [_caption(table.title), f'<div class="scroll">{rendering.html_table(table)}</div>']
        parts.append(_list(notes))
    return "\n".join(parts)


def _figure(number: int, drawing: Drawing) -> str:
    source = base64.b64encode(drawing.png).decode()
    # The header of a PNG: its width in pixels. Shown a fifth larger than in print.
    width = round(int.from_bytes(drawing.png[16:20], "big") / RESOLUTION * 96 * 1.2)
    heading = f"<b>Figure {number}.</b> {escape(drawing.group)}."
    return (
        f'<figure id="{escape(drawing.stem)}">'
        f'<img width="{width}" src="data:image/png;base64,{source}" alt="{escape(f"{drawing.name}, {drawing.group}")}">'
        f"<figcaption>{heading} {mathematics(drawing.caption)}</figcaption></figure>"
    )


def _architectures(frames: Frames) -> str:
    found = architectures(frames)
    if not found:
        return ""
    # Each objective once: most grids have one.
    objectives = dict.fromkeys(equations.objective(item.member.objective) for item in found)
    return "\n".join(
        (
            "<p>Each model once, at its greatest depth, with the variants that share it; less deep ones lack the upper "
            "layers. The bound that is maximised, with M Monte Carlo and K importance samples, β rising linearly from "
            "0 to 1 in the epochs of warm-up and 1 in every test:</p>",
            *(_equation(line) for lines in objectives for line in lines),
            *map(_architecture, found),
        )
    )


def _architecture(architecture: Architecture) -> str:
    member = architecture.member
    model = member.model
    units = ", ".join(f"z_{place}: {layer.units}" for place, layer in enumerate(model.layers, start=1))
    norm = (
        "Batch normalisation of every hidden layer and of the heads of the latents, before the softplus; never of the "
        "heads of p(x|z_1)."
        if model.batch_norm
        else "No batch normalisation."
    )
    lines = [
        f"<h3>{escape(', '.join(architecture.variants))} ({escape(architecture.dataset)}, L = {model.depth})</h3>",
        f"<p>{mathematics(units)}; x: {escape(model.observation)}. {mathematics(norm)} "
        f"Nonlinearity: {mathematics(equation(model.nonlinearity))}.</p>",
        _equation(f"p(x, z) = {equations.generative(model)}"),
        _equation(f"q(z|x) = {equations.inference(model)}"),
        *map(_equation, equations.equations(model)),
        _mappings(member),
    ]
    return "\n".join(lines)


def _mappings(member: Member) -> str:
    norm = member.model.batch_norm
    try:
        pixels = image_pixels(member.data)
        rows = [
            (item.name, " → ".join(map(str, item.widths)), f"{item.parameters(norm):,}")
            for item in mappings(member, pixels)
        ]
        rows.append(("total", "", f"{parameters(member, pixels):,}"))
    except UserError as error:
        # The user's own images may be gone, and with them the number of pixels.
        return f"<p>Its widths are not known here: {escape(str(error))}</p>"
    return _rows("", [("mapping", "widths", "parameters"), *rows], text=False, maths=True)


def _equation(text: str) -> str:
    return f'<p class="equation">{mathematics(text)}</p>'


def _provenance(frames: Frames) -> str:
    parts = [
        _rows(caption, rows)
        for caption, rows in (("Data", run_info.data(frames)), ("Machines", run_info.machines(frames)))
        if len(rows) > 1
    ]
    note = (
        "Every member's folder holds its resolved spec, curves, per-image bounds, weights and result with the same "
        "particulars."
    )
    return "\n".join([*parts, f"<p>{note}</p>"]) if parts else ""


def _rows(caption: str, rows: Rows, text: bool = True, maths: bool = False) -> str:
    """Rows of text as a table, the first its heading."""
    show = mathematics if maths else escape
    heading = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "\n".join(
        f'<tr><th scope="row">{show(first)}</th>{"".join(f"<td>{show(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows[1:]
    )
    return (
        f'{_caption(caption)}<div class="scroll"><table{" class=text" * text}><thead><tr>{heading}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _caption(text: str) -> str:
    return f'<p class="caption">{escape(text)}</p>\n' if text else ""


def _list(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{mathematics(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def mathematics(text: str) -> str:
    """Escaped text in which `z_1`, `z_{i+1}` and `w^2` have their sub- and superscripts; longer names stay whole."""
    symbol = r"(?<![\w.])([^\W\d_]²?)_(?:\{([^{}]*)\}|(\w+))"
    text = re.sub(symbol, _subscript, escape(text))
    return re.sub(r"\^(\d)", r"<sup>\1</sup>", text)


def _subscript(found: re.Match[str]) -> str:
    return f"{found[1]}<sub>{(found[2] or found[3]).replace('-', '−')}</sub>"

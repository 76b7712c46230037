"""Tables as Markdown, LaTeX, HTML and terminal text."""

import re
from collections.abc import Sequence
from html import escape as escape_html
from typing import TYPE_CHECKING

from analysis.tables.table import ABSENT, PlainCell, Table

if TYPE_CHECKING:
    from rich.console import Group as RichGroup
    from rich.table import Table as RichTable

LAYER = re.compile(r"(?:^|(?<=, ))z_(\d+)$")
"""The layer that the label of a row ends in."""
TOTAL = "total"
"""What the label of a row of all layers ends in."""
_GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta"},
    **{"ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma"},
    **{"τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta"},
    **{"Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi"},
    "Ω": "Omega",
}
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    **{character: f"$\\{name}$" for character, name in _GREEK.items()},
}
_LATIN = range(0x180)
_PUNCTUATION = "–—‘’“”„†‡•…"
"""With `_LATIN`, the characters that LaTeX sets as they are, with its own fonts."""


def markdown(tables: Sequence[Table]) -> str:
    """The tables as a Markdown document: a section per table, with the footnotes below.

    Tables in a row that have the same footnotes share them, below the last.
    """
    parts = []
    for table, following in zip(tables, [*tables[1:], None], strict=True):
        parts.append(_markdown_section(table))
        if following is None or following.footnotes != table.footnotes:
            parts.append("\n".join(f"- {escape_markdown(footnote)}" for footnote in table.footnotes) + "\n")
    return "\n".join(parts)


def _markdown_section(table: Table) -> str:
    lines = [f"## {escape_markdown(table.title)}", ""]
    heading = [escape_markdown(text) for text in (table.row_heading, *table.columns)]
    body = [
        [escape_markdown(row), *(_markdown_cell(table, row, column) for column in table.columns)] for row in table.rows
    ]
    widths = [max(3, *(len(line[place]) for line in (heading, *body))) for place in range(len(heading))]
    rule = [":" + "-" * (width - 1) if place == 0 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    for line in (heading, rule, *body):
        lines.append("| " + " | ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " |")
    return "\n".join([*lines, ""])


def _markdown_cell(table: Table, row: str, column: str) -> str:
    text = _text(table, row, column)
    return f"**{text}**" if (row, column) in table.best else text


def latex(tables: Sequence[Table], label: str) -> str:
    r"""The tables as LaTeX `table` environments, to be included with `\input`; the preamble needs the package booktabs.

    Args:
        tables: the tables, in their order.
        label: table number i gets the label `tab:<label>-<i>`, with hyphens for underscores.

    """
    parts = [_latex_table(table, f"{label}-{number}") for number, table in enumerate(tables, start=1)]
    heading = "% \\usepackage{booktabs}\n"
    beyond = sorted({character for part in parts for character in part if not _is_in_latex(character)})
    if beyond:
        heading += f"% {' '.join(beyond)}: LuaLaTeX or XeLaTeX, and a font that has them\n"
    return heading + "\n".join(parts)


def _is_in_latex(character: str) -> bool:
    """Whether a character is one that LaTeX can set without a font that the document chooses."""
    return ord(character) in _LATIN or character in _PUNCTUATION


def _latex_table(table: Table, label: str) -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join([table.title + '.', *table.footnotes]))}}}",
        rf"\label{{tab:{label.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(escape_latex(text) for text in (table.row_heading, *table.columns)) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        if _is_total(row):
            lines.append(r"\midrule")
        texts = [_latex_row_label(row), *(_latex_marked(table, row, column) for column in table.columns)]
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _is_total(row: str) -> bool:
    """Whether a row is of all layers together."""
    return row == TOTAL or row.endswith(f", {TOTAL}")


def _latex_row_label(row: str) -> str:
    if layer := LAYER.search(row):
        number = f"{{{layer[1]}}}" if len(layer[1]) > 1 else layer[1]
        return f"{escape_latex(row[: layer.start()])}$z_{number}$"
    # After the end of a row LaTeX takes a bracket or an asterisk for an option.
    return "{}" * row.startswith(("[", "*")) + escape_latex(row)


def _latex_marked(table: Table, row: str, column: str) -> str:
    text = _latex_cell(table, row, column)
    # Mathematics has a bold version of its own.
    return rf"{{\boldmath\bfseries {text}}}" if (row, column) in table.best else text


def _latex_cell(table: Table, row: str, column: str) -> str:
    cell = table.cells.get((row, column))
    if cell is None:
        return "--"
    if isinstance(cell, PlainCell):
        # Numbers are set as mathematics, for their minus signs; a dash between two numbers is not a minus sign.
        return re.sub(r"(?<![\d-])(?:[-+]?\d[\d,]*\.\d+|[-+]\d+)", r"$\g<0>$", escape_latex(cell.text()))
    mean, se = cell.numbers
    value = rf"${mean} \pm {se}$" if se else f"${mean}$"
    mark = f"$^{{{cell.mark}}}$" if cell.mark else ""
    return ", ".join([(f"{value} ({cell.counts})" if mean else cell.counts) + mark, *cell.losses])


def html_table(table: Table) -> str:
    """The table as an HTML `table`, without its title and its footnotes.

    A page sets the title above the table, where it stays in view when a wide table is scrolled, and the footnotes
    below.
    """
    heading = "".join(f'<th scope="col">{escape_html(text)}</th>' for text in (table.row_heading, *table.columns))
    lines = [f'<table aria-label="{escape_html(table.title)}">', f"<thead><tr>{heading}</tr></thead><tbody>"]
    for row in table.rows:
        cells = "".join(_html_cell(table, row, column) for column in table.columns)
        label = LAYER.sub(r"<i>z</i><sub>\1</sub>", escape_html(row))
        lines.append(f'<tr{" class=total" * _is_total(row)}><th scope="row">{label}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table>"])


def _html_cell(table: Table, row: str, column: str) -> str:
    text = escape_html(_text(table, row, column, "\n")).replace("\n", "<br>")
    return f"<td{' class=best' * ((row, column) in table.best)}>{text}</td>"


def terminal(tables: Sequence[Table]) -> "RichTable":
    """The tables of one quantity as one terminal table: a section per table. `all_footnotes` belong below it."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    title = tables[0].title if len(tables) == 1 else tables[0].quantity
    result = RichTable(
        title=Text(title), min_width=len(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    if len(tables) > 1:
        result.add_column("", overflow="fold")
    for name in (tables[0].row_heading, *columns):
        result.add_column(Text(name), justify="right", overflow="fold")
    for table in tables:
        for number, row in enumerate(table.rows):
            # Only the first row of a section names its data set.
            labels = [Text(table.subject if number == 0 else "")] if len(tables) > 1 else []
            texts = [
                Text(_text(table, row, column, "\n"), style="bold" if (row, column) in table.best else "")
                for column in columns
            ]
            result.add_row(*labels, Text(row), *texts)
        result.add_section()
    return result


def terminal_apart(tables: Sequence[Table]) -> "RichGroup":
    """Tables of several quantities as terminal tables, each with its footnotes below it."""
    from rich.console import Group as RichGroup
    from rich.text import Text

    parts: list[RichTable | Text] = []
    for table in tables:
        parts += [terminal([table]), *map(Text, table.footnotes), Text()]
    return RichGroup(*parts[:-1])


def all_footnotes(tables: Sequence[Table]) -> tuple[str, ...]:
    """The footnotes of all tables, each once."""
    return tuple(dict.fromkeys(footnote for table in tables for footnote in table.footnotes))


def _text(table: Table, row: str, column: str, separator: str = ", ") -> str:
    cell = table.cells.get((row, column))
    return ABSENT if cell is None else cell.text(separator=separator)


def escape_markdown(text: str) -> str:
    r"""`text` so that Markdown shows it unchanged, in a table too: no emphasis, link, HTML, mathematics or entity.

    Examples:
        >>> print(escape_markdown("z_1 | a"))
        z\_1 \| a

    """
    return re.sub(r"[\\`*_|<>$~]|\[(?=[^\]]*\][(\[])|&(?=#?\w+;)", r"\\\g<0>", text)


def escape_latex(text: str) -> str:
    r"""`text` so that LaTeX shows it unchanged.

    Examples:
        >>> print(escape_latex("50% ± 1, β--γ"))
        50\% $\pm$ 1, $\beta$-{}-$\gamma$

    """
    # Two hyphens in a row would be a dash.
    return re.sub("(-(?=-))|.", lambda found: "-{}" if found[1] else _LATEX.get(found[0], found[0]), text)

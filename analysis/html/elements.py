"""Pieces of a page: tables of text, lists, equations. All text that goes into them is escaped."""

import re
from collections.abc import Iterable
from html import escape

from analysis.html.run_info import Rows


def row_table(caption_text: str, rows: Rows, *, text: bool = True, typeset_cells: bool = False) -> str:
    """Rows of text as a table with a caption.

    Args:
        caption_text: stands above the table; empty for none.
        rows: the cells of every row; the first row is the heading, and the first cell of each the row's label.
        text: whether cells are text, set flush left, or numbers, set flush right.
        typeset_cells: whether symbols in cells get their subscripts (see `typeset`).

    """
    show = typeset if typeset_cells else escape
    heading = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "\n".join(
        f'<tr><th scope="row">{show(first)}</th>{"".join(f"<td>{show(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows[1:]
    )
    return (
        f'{caption(caption_text)}<div class="scroll"><table{" class=text" * text}><thead><tr>{heading}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def caption(text: str) -> str:
    """The caption of a table; nothing for an empty text."""
    return f'<p class="caption">{escape(text)}</p>\n' if text else ""


def footnote_list(footnotes: Iterable[str]) -> str:
    """Footnotes as a list; nothing if there are none."""
    items = "".join(f"<li>{typeset(footnote)}</li>" for footnote in footnotes)
    return f'<ul class="footnotes">{items}</ul>' if items else ""


def equation(text: str) -> str:
    """An equation on a line of its own."""
    return f'<p class="equation">{typeset(text)}</p>'


def typeset(text: str) -> str:
    """Escaped text in which the symbols of mathematics have their subscripts and superscripts.

    A symbol is a single letter: longer names with underscores, such as those of settings, stay whole.

    Examples:
        >>> typeset("p(z_i|z_{i+1}), w^2, leaky_relu")
        'p(z<sub>i</sub>|z<sub>i+1</sub>), w<sup>2</sup>, leaky_relu'

    """
    symbol = r"(?<![\w.])([^\W\d_]²?)_(?:\{([^{}]*)\}|(\w+))"
    text = re.sub(symbol, _subscript, escape(text))
    return re.sub(r"\^(\d)", r"<sup>\1</sup>", text)


def _subscript(found: re.Match[str]) -> str:
    return f"{found[1]}<sub>{(found[2] or found[3]).replace('-', '−')}</sub>"

"""What templates turn text into: mathematics with its subscripts."""

import re

from markupsafe import Markup, escape


def typeset(text: str) -> Markup:
    """Escaped text in which the symbols of mathematics have their subscripts and superscripts.

    A symbol is a single letter: longer names with underscores, such as those of settings, stay whole.

    Examples:
        >>> print(typeset("p(z_i|z_{i+1}), w^2, leaky_relu"))
        p(z<sub>i</sub>|z<sub>i+1</sub>), w<sup>2</sup>, leaky_relu

    """
    symbol = r"(?<![\w.])([^\W\d_]²?)_(?:\{([^{}]*)\}|(\w+))"
    escaped = re.sub(symbol, _subscript, str(escape(text)))
    return Markup(re.sub(r"\^(\d)", r"<sup>\1</sup>", escaped))


def _subscript(found: re.Match[str]) -> str:
    return f"{found[1]}<sub>{(found[2] or found[3]).replace('-', '−')}</sub>"

"""Characters that look like those of YAML and are others: no-break spaces, full-width colons, curly quotes."""

import unicodedata
from dataclasses import replace

from hvae_spec.errors import Place, Problem

_PLAIN = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys("‘’‚‛′", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("、،", ","),
    "。": ".",
}
"""What full-width forms, quotation marks, dashes and commas are taken for."""


def plain_form(character: str) -> str | None:
    """The ASCII character that another one is taken for: a space for a no-break space, nothing for one that does not
    show. None for ASCII, and for letters and signs that are themselves.
    """
    if character.isascii():
        return None
    if character in _PLAIN:
        return _PLAIN[character]
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.digit(character))
    return "" if category == "Cf" else None


def plain(text: str) -> str:
    """`text` with the ASCII characters that its look-alikes are taken for."""
    return "".join(character if (form := plain_form(character)) is None else form for character in text)


def first_look_alike(text: str) -> str | None:
    """The first character that is taken for another one; None if there is none."""
    return next((character for character in text if plain_form(character) is not None), None)


def name(character: str) -> str:
    """`U+00A0 (NO-BREAK SPACE)`; of control characters, only a tab has a name."""
    known = "TAB" if character == "\t" else unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + f" ({known})" * bool(known)


def explanation(character: str) -> str:
    """`U+FF1A (FULLWIDTH COLON) is not ':'`, of a character that is taken for another one."""
    form = plain_form(character)
    return f"{name(character)} is not {form!r}" if form else f"{name(character)} shows nothing"


def remedy(character: str) -> str:
    """What must stand in place of a character: `a plain ':'`."""
    form = plain_form(character)
    return f"a plain {form!r}{' and a space' * (form == ':')} in its place" if form else "text without it"


def at_look_alike(problem: Problem, text: str) -> Problem:
    """A problem that a look-alike in the offending `text` explains, moved to that character, which it names; any other
    as it is.
    """
    found = first_look_alike(text)
    column = -1 if found is None else problem.place.text.find(found, problem.place.column - 1)
    if found is None or column < 0:
        return problem
    place = Place(problem.place.source, problem.place.line, column + 1, problem.place.text)
    message = f"{problem.message}: {explanation(found)}"
    return replace(problem, place=place, message=message, expected=remedy(found), suggestion="")

"""Which characters figures can show."""

import re
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font


def drawable(text: str) -> str:
    """`text` with the code points of what the figures' font lacks, in place of the boxes that it would draw, which are
    all alike. Tables and the page have the characters themselves.

    Examples:
        >>> drawable("β²-基线")
        'β²-[U+57FA U+7EBF]'

    """
    if text.isascii():
        return text
    known = _characters(findfont(FontProperties()))
    is_missing = [ord(character) not in known and character != "\n" for character in text]
    shown = "".join("\0" if missing else character for character, missing in zip(text, is_missing, strict=True))
    lacking = (f"U+{ord(character):04X}" for character, missing in zip(text, is_missing, strict=True) if missing)
    return re.sub("\0+", lambda run: f"[{' '.join(next(lacking) for _ in run[0])}]", shown)


@cache
def _characters(path: str) -> frozenset[int]:
    """The code points that a font file has."""
    return frozenset(get_font(path).get_charmap())

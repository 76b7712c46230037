"""The parts of a user's own images, by the names of folders and arrays."""

import re

PARTS = ("train", "test")
"""The parts that are read."""
_ANOTHER = re.compile(
    r"(train|training|test|testing|val|valid|validation|dev|eval|evaluation)s?([ _-]?(set|split|data|images|\d+))?"
)


def is_another_part(name: str) -> bool:
    """Whether a folder or an array of such a name holds a part of the images, but is none of PARTS."""
    return name not in PARTS and _ANOTHER.fullmatch(name.lower()) is not None

"""A small valid spec, and ways to spoil it."""

from hvae_spec.errors import Problem, SpecError
from hvae_spec.reading import loads

SMALL = """\
name: small
data: {dataset: digits}
model:
  layers:
    - {units: 8, mlp: [32, 32]}
    - {units: 4, mlp: [16, 16]}
training: {epochs: 20, batch_size: 32}
"""


def edited(*edits: tuple[str, str], more: str = "") -> str:
    """SMALL with each `old` replaced by its `new`, and more text after it."""
    text = SMALL
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text + more


def problems(text: str) -> list[Problem]:
    """What is wrong with a spec given as text; nothing if it is sound."""
    try:
        loads(text)
    except SpecError as error:
        return error.problems
    return []


def place_of(text: str, fragment: str, offset: int = 0) -> tuple[int, int]:
    """Line and column of the only occurrence of a fragment."""
    assert text.count(fragment) == 1, fragment
    before = text[: text.index(fragment) + offset].split("\n")
    return len(before), len(before[-1]) + 1

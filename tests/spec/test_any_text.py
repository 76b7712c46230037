"""Whatever a file or an override holds, the reader answers with a spec or with problems that stand in the text."""

import copy
import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvae_spec.errors import Problem, SpecError
from hvae_spec.reading import load, loads
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.yaml import parse
from tests.spec.small_spec import SMALL

FULL = Path("specs/quickstart.yaml").read_text()
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = re.findall(r"[A-Za-z_.]+|\d+|\s+|.", FULL)
ODD = [
    "", "null", "~", "{}", "[]", "[[]]", "true", "no", "-1", "0", "1e999", ".nan", "1.5", "9" * 30, "x", "''", "<<",
    "*a", "&a", "!!x", "\t", ":", "- ", "model", "model.layers", "model.layers.9.units", "{a: b}", "[1, x]",
    "grid.depth", "é", '"\\0"', '"\\ud800"', "\u2028", "\x85", "? ",
    "|\n", "---\n", "#", "mnist", "leaky_relu", "{elu: 1}", "base",
]  # fmt: skip


def problems_of(text: str) -> list[Problem]:
    try:
        assert isinstance(loads(text), Experiment)
    except SpecError as error:
        str(error).encode()
        return [*error.problems] or [None]
    return []


def check(text: str) -> None:
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text.removeprefix("\ufeff"))
    for problem in problems_of(text):
        place = problem.place
        assert 1 <= place.line <= len(lines)
        assert place.text == lines[place.line - 1]
        assert 1 <= place.column <= len(place.text) + 1


@QUICK
@given(st.text())
def test_arbitrary_text(text):
    check(text)


@QUICK
@given(st.lists(st.sampled_from([*PIECES, *ODD]), max_size=60).map("".join))
def test_arbitrary_pieces(text):
    check(text)


@QUICK
@given(st.lists(st.tuples(st.integers(0, len(PIECES)), st.integers(0, 3), st.sampled_from(ODD + PIECES)), max_size=4))
def test_arbitrary_edits_of_a_sound_spec(edits):
    pieces = list(PIECES)
    for place, count, new in edits:
        pieces[place : place + count] = [new]
    check("".join(pieces))


def nodes(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in items:
        yield from nodes(child, (*path, key))


TREE = parse(FULL, "f")[0].plain()
PATHS = [path for path in nodes(TREE) if path]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "vae", "model.layers", "1e-3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["units", "mlp", "x", "adam"]), inner),
    max_leaves=5,
)


def spelled(value):
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"'{key}': {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    return f"'{value}'" if isinstance(value, str) else str(value)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
def test_arbitrary_values_anywhere(changes):
    tree = copy.deepcopy(TREE)
    for path, value in changes:
        node = tree
        for key in path[:-1]:
            node = node[key] if isinstance(node, dict) and key in node else node
            node = node[key] if isinstance(node, list) and isinstance(key, int) and key < len(node) else node
        if isinstance(node, dict):
            node[path[-1]] = value
    check(spelled(tree))


DOTTED = st.one_of(
    st.sampled_from([".".join(map(str, path)) for path in PATHS]),
    st.lists(st.sampled_from(["model", "layers", "grid", "axes", "variants", "VAE", "0", "9", "x", ""])).map(".".join),
    st.text(max_size=10),
)


@QUICK
@given(st.lists(st.tuples(DOTTED, st.one_of(VALUES.map(spelled), st.text(max_size=10))), min_size=1, max_size=3))
def test_arbitrary_overrides(settings_):
    overrides = [f"{path}={value}" for path, value in settings_]
    try:
        found = [] if load("specs/quickstart.yaml", overrides) else [None]
    except SpecError as error:
        str(error).encode()
        found = error.problems or [None]
    for problem in found:
        assert problem.place.line >= 1
        assert 1 <= problem.place.column <= len(problem.place.text) + 1


def test_the_small_spec_is_sound():
    check(SMALL)
    assert loads(SMALL).name == "small"

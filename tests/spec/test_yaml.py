"""YAML text as a tree with places: scalars of YAML 1.2, and what is refused with its place."""

import math
import os
import threading
import time

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import load
from hvae_spec.spec.yaml import MAX_BYTES, parse, read_text
from tests.spec.small_spec import SMALL, edited, problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("0x10", 16),
        ("0o17", 15),
        ("010", 10),
        ("+5", 5),
        ("1_000", "1_000"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("12:30", "12:30"),
        ("2001-01-01", "2001-01-01"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("é", "é"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    tree, found = parse(f"key: {text}", "f")
    assert not found
    assert tree.plain() == {"key": value}
    assert type(tree.plain()["key"]) is type(value)


def test_keys_are_text():
    assert list(parse("{1: a, true: b, ~: c, 1.5: d}", "f")[0].plain()) == ["1", "true", "~", "1.5"]


def test_places_of_values_and_keys():
    tree, _ = parse("a:\n  b: [x,\n    y]\n", "f")
    assert str(tree.locate(("a", "b", 1))) == "f:3:5"
    assert str(tree.locate_key(("a", "b"))) == "f:2:3"
    assert str(tree.locate(("a", "nowhere", 1))) == "f:2:3"
    assert tree.locate(("a", "b", 1)).text == "    y]"


UNREADABLE = [
    (edited(("  layers", "\tlayers")), (4, 1), "tab"),
    (edited(("name: small", 'name: "small')), (1, 7), "quoted scalar"),
    (edited(("[32, 32]", "[32, 32")), (5, 30), "expected ',' or ']'"),
    ("a: [1, 2", (1, 4), "flow sequence"),
    ("a: " + "[" * 10_000, (1, 53), "nested more than"),
    ("\n".join(" " * i + "a:" for i in range(200)), (50, 50), "nested more than"),
    ("a: &a [*a]", (1, 4), "contains itself"),
    ("a: *b", (1, 4), "undefined alias"),
    (SMALL + "---\n" + SMALL, (8, 1), "another document"),
    ("name: a\0b", (1, 8), "forbids, '\\x00'"),
    ("a: 1\nname: a\x0cb", (2, 8), "forbids"),
    (edited(("name: small", 'name: "a\\eb"')), (1, 7), "unprintable"),
    (edited(("name: small", "name: small\nname: other")), (2, 1), "given twice (first on line 1)"),
    (edited(("name: small", "name: small\n[1, 2]: 3")), (2, 1), "a key must be text"),
    (edited(("epochs: 20", "epochs: !!python/object/apply:os.system [ls]")), (7, 20), "tag !!python/object/apply"),
    (edited(("epochs: 20", "epochs: !!int '20'")), (7, 20), "tag !!int"),
    (edited(("epochs: 20", "epochs: ! 20")), (7, 20), "tag !"),
    (edited(("data: {", "data: &d {"), ("training: {", "training: {<<: *d, ")), (7, 12), "merge keys"),
    (edited(("epochs: 20", "epochs: " + "9" * 5000)), (7, 20), "5,000 digits"),
    ("%YAML 3.0\n---\na: 1", (1, 1), "version"),
    ("a: `b`", (1, 4), "cannot start any token"),
]


@pytest.mark.parametrize(("text", "place", "fragment"), UNREADABLE, ids=[row[2] for row in UNREADABLE])
def test_unreadable_text(text, place, fragment):
    (problem,) = problems(text)
    assert (problem.kind, problem.place.line, problem.place.column) == ("unreadable", *place)
    assert fragment in problem.message


def test_aliases_within_aliases_end_soon():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20))
    (problem,) = problems(text)
    assert problem.kind == "unreadable"
    assert "aliases within aliases" in problem.message


def test_an_alias_is_its_value():
    assert problems(edited(("[32, 32]", "&widths [32, 32]"), ("[16, 16]", "*widths"))) == []


def test_slips_of_the_text_do_not_hide_those_of_the_content():
    text = edited(("name: small", "name: small\nname: other\nfoo: 1"), ("epochs: 20", "epochs: !!int 20"))
    assert [(p.kind, p.place.line) for p in problems(text)] == [("unreadable", 2), ("invalid", 3), ("unreadable", 9)]


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_ends_and_byte_order_marks_change_no_place(ending):
    text = edited(("epochs", "epocs"))
    expected = [(p.place.line, p.place.column, p.place.text, p.message) for p in problems(text)]
    spelled = "\ufeff" + text.replace("\n", ending)
    assert [(p.place.line, p.place.column, p.place.text, p.message) for p in problems(spelled)] == expected
    assert expected


def the_problem(path):
    with pytest.raises(SpecError) as error:
        load(path)
    (problem,) = error.value.problems
    assert problem.kind == "unreadable"
    return problem


def test_files_that_are_no_text(tmp_path):
    assert "a folder" in the_problem(tmp_path).message
    assert "no such file" in the_problem(tmp_path / "x.yaml").message
    assert "cannot be opened" in the_problem(tmp_path / ("x" * 5000)).message
    assert "cannot be opened" in the_problem("a\0b").message
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: x\nfoo: \xff\xfe")
    assert "UTF-8" in the_problem(path).message
    assert (the_problem(path).place.line, the_problem(path).place.column) == (2, 6)
    path.write_text(SMALL, encoding="utf-16")
    assert "UTF-8" in the_problem(path).message
    path.write_text("#" * (MAX_BYTES + 1))
    assert "larger than" in the_problem(path).message


def test_a_pipe_is_read_if_something_is_written_into_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert the_problem(tmp_path / "pipe").message == "a pipe that nothing is written into"
    # As a shell's process substitution has it, of a command that takes its time.
    reading, writing = os.pipe()
    late = threading.Timer(0.2, lambda: (os.write(writing, SMALL.encode()), os.close(writing)))
    late.start()
    assert load(f"/dev/fd/{reading}").name == "small"
    late.join()
    os.close(reading)


UNKNOWN = [f"k{number}: 1" for number in range(12_000)]
BIG = [
    ('a: "' + '\\"' * 100_000, 1),
    (SMALL + "\n".join(UNKNOWN), 12_000),
    (SMALL + "profiles: {p: {" + ", ".join(UNKNOWN[:5000]) + "}}\n" + "\n".join(UNKNOWN[:5000]), 5000),
    (SMALL + "grid: {seeds: [" + ",\n".join(map(str, range(18_000))) + "]}" + "\n" * 350_000, 0),
    (SMALL + "grid: {seeds: [" + ", ".join(["\u00e9"] * 5000) + "]}\n", 5000),
]
"""Specs that quadratic time would be a matter of minutes for, and how many problems they have."""


@pytest.mark.parametrize(("text", "count"), BIG, ids=range(len(BIG)))
def test_the_time_to_refuse_a_big_spec_is_no_more_than_proportional_to_its_size(text, count):
    before = time.process_time()
    shown = [str(problem) for problem in problems(text)]
    assert time.process_time() - before < 6
    assert len(shown) == count


def test_a_look_alike_after_a_quote_that_is_not_closed_is_named():
    (problem,) = problems(edited(("name: small", "name: 5\" 'x\uff1a' a\uff1a b: c")))
    assert (problem.place.line, problem.place.column) == (1, len("name: 5\" 'x:' a") + 1)
    assert "U+FF1A" in problem.message


def test_a_missing_file_names_its_neighbors(tmp_path):
    (tmp_path / "grid.yaml").write_text(SMALL)
    assert "grid.yaml" in the_problem(tmp_path / "gird.yaml").expected


def test_a_byte_order_mark_in_a_file(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert read_text(tmp_path / "a.yaml") == SMALL
    assert load(tmp_path / "a.yaml").name == "small"


def test_the_file_of_the_nearest_name_is_suggested_however_many_there_are(tmp_path):
    for name in (*(f"a{number}" for number in range(12)), "paper"):
        (tmp_path / f"{name}.yaml").touch()
    assert the_problem(tmp_path / "papr.yaml").suggestion == str(tmp_path / "paper.yaml")
    assert the_problem(tmp_path / "zzz.txt").suggestion == ""

"""How problems are shown: the line, the caret, and nothing that could confuse a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec.errors import LINE_WIDTH, Place, Problem, SpecError, harmless
from tests.spec.small_spec import edited, problems


def shown(problem: Problem) -> tuple[str, str]:
    """The quoted line and the line of the caret, less their margins."""
    _, quoted, caret, *_ = str(problem).split("\n")
    return quoted.split(" | ", 1)[1], caret.split("| ", 1)[1]


def test_a_problem_reads_as_a_compiler_message():
    (problem,) = problems(edited(("epochs: 20", "epocs: 20")))
    assert str(problem).split("\n") == [
        "<text>:7:12: unknown key 'epocs' in training",
        "    7 | training: {epocs: 20, batch_size: 32}",
        "      |            ^",
        "      expected one of epochs, batch_size, optimizer, lr_decay, schedule, ema, first_phase, early_stopping, "
        "clip_norm, clip_value, last_batch, matmul_precision",
        "      did you mean epochs?",
    ]


def test_the_error_counts_and_names_its_kinds():
    with_two = edited(("epochs: 20", "epochs: x"), more="objective: {warm_up: 30}\nfoo: 1\n")
    error = SpecError(problems(with_two))
    assert str(error).endswith("2 problems (invalid)")
    assert [problem.place.line for problem in error.problems] == [7, 9]


@pytest.mark.parametrize("column", [1, 2, 60, 500, 1000, 1001])
def test_long_lines_are_shortened_around_the_caret(column):
    line = "".join(chr(ord("a") + i % 26) for i in range(1000))
    quoted, caret = shown(Problem("invalid", Place("f", 1, column, line), "m"))
    assert len(quoted) <= LINE_WIDTH + 6
    pointed = quoted[len(caret) - 1 : len(caret)]
    assert pointed == line[column - 1 : column]
    assert quoted.startswith("...") == (column > LINE_WIDTH // 2 + 1)


def test_carets_stand_under_wide_characters_and_tabs():
    assert shown(Problem("invalid", Place("f", 1, 3, "日本x"), "m")) == ("日本x", "    ^")
    assert shown(Problem("invalid", Place("f", 1, 3, "e\u0301x"), "m")) == ("e\u0301x", " ^")
    assert shown(Problem("invalid", Place("f", 1, 2, "\tx"), "m")) == (" x", " ^")


@given(st.text(st.characters(), max_size=60), st.integers(1, 70))
def test_nothing_reaches_the_terminal_that_could_move_it(text, column):
    problem = Problem("invalid", Place(text, 1, column, text), text, text, text)
    assert not [c for c in str(problem).replace("\n", "") if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    str(problem).encode()
    assert len(harmless(text)) == len(text)


def test_long_messages_are_shortened():
    (problem,) = problems(edited(("epochs: 20", "epochs: 20, " + "k" * 100_000 + ": 1")))
    assert max(map(len, str(problem).split("\n"))) < 500


def test_spec_errors_survive_pickling():
    import pickle

    error = SpecError(problems("foo: 1"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

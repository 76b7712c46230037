"""Suggestions are made of the author's characters, and are valid where they stand; look-alikes of YAML's are named."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import load, loads
from hvae_spec.spec.characters import explanation, first_look_alike, name, plain, remedy
from hvae_spec.spec.yaml import inline, parse
from tests.spec.small_spec import SMALL, edited, place_of, problems


def grid(text):
    return SMALL + "grid: {" + text + "}\n"


A = "A: {model.batch_norm: true}"
# text, the fragment to replace, the suggestion
VALUES = [
    (edited(("small", "12e4567")), "12e4567", "'12e4567'"),
    (edited(("small", "1.10")), "1.10", "'1.10'"),
    (edited(("small", "0x10")), "0x10", "'0x10'"),
    (edited(("small", "010")), "010", "'010'"),
    (edited(("small", "True")), "True", "'True'"),
    (edited(("small", "my run")), "my run", "my-run"),
    (edited(("epochs: 20", "epochs: 1_000")), "1_000", "1000"),
    (edited(("epochs: 20", "epochs: 1e3")), "1e3", "1000"),
    (edited(("epochs: 20", "epochs: '20'")), "'20'", "20"),
    (edited(("model:", "model:\n  batch_norm: yes")), "yes", "true"),
    (edited(("epochs: 20", "epochs: 20, optimizer: adam")), "adam", "{adam: {}}"),
    (edited(("epochs: 20", "epochs: 20, lr_decay: 'factor:0.5'")), "'factor:0.5'", ""),
    (edited(("{dataset: digits}", "dataset:digits")), "dataset:digits", "{dataset: digits}"),
    (grid('seeds: "0-4"'), '"0-4"', "[0, 1, 2, 3, 4]"),
    (grid("seeds: 0..2"), "0..2", "[0, 1, 2]"),
    (grid("seeds: '7, 8 9'"), "'7, 8 9'", "[7, 8, 9]"),
    (grid("depth: '2'"), "'2'", "[2]"),
    (grid(f"variants: {{1.10: {{}}, {A}}}, exclude: [{{variant: 1.10}}]"), "1.10}]", "'1.10'"),
    (grid(f"variants: {{yes: {{}}, {A}}}, exclude: [{{variant: yess}}]"), "yess", "'yes'"),
    (grid("axes: {model.batch_norm: [true, false]}, exclude: [{model.batch_norm: trve}]"), "trve", "true"),
    (grid(f"variants: {{' B ': {{}}, {A}}}"), "' B '", "B"),
    (grid("variants: {A: {modle.inferenc: ladder}}"), "modle.inferenc", "model.inference"),
]


def replaced(text, fragment, new):
    line, column = place_of(text, fragment)
    lines = text.split("\n")
    old = fragment.rstrip("}]")
    assert lines[line - 1][column - 1 :].startswith(old)
    lines[line - 1] = lines[line - 1][: column - 1] + new + lines[line - 1][column - 1 + len(old) :]
    return "\n".join(lines)


@pytest.mark.parametrize(("text", "fragment", "suggestion"), VALUES, ids=[row[1] for row in VALUES])
def test_a_suggestion_is_valid_in_its_place(text, fragment, suggestion):
    (problem,) = problems(text)
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)
    assert problem.suggestion == suggestion
    if suggestion:
        assert problems(replaced(text, fragment, suggestion)) == []


NONE = [
    edited(("epochs: 20", "epochs: -3.0")),
    edited(("epochs: 20", "epochs: 0.0")),
    edited(("epochs: 20", "epochs: 12:30")),
    edited(("epochs: 20", "epochs: 2e9")),
    edited(("small", ".5")),
    edited(("small", "null")),
    edited(("epochs: 20", "epochs: 20, epocs: 3")),
    grid("depth: 1.10"),
    grid("seeds: 4-0"),
    grid("depth: [1,--- 3]"),
    grid("seeds: 0-999999999"),
    grid("variants: {A: {model.layers: 5}}"),
    grid("variants: {A: {modle.zqx: 5}}"),
    grid("variants: {A: {objective.warm_up: 5, objective.warmup: 5}}"),
    grid("variants: {A: {}, ' A': {model.batch_norm: true}}"),
    SMALL + "evaluation: {extensions: {}}\n",
    edited(("model:", "model:\n  nonlinearity:\n  - tanh")),
    grid("variants: {'[1, 2]': {}, A: {model.batch_norm: true}}, exclude: [{variant: [1, 2]}]"),
]


@pytest.mark.parametrize("text", NONE)
def test_what_would_not_be_valid_is_not_suggested(text):
    assert problems(text)[-1].suggestion == ""


def test_numbers_are_quoted_as_they_were_written():
    assert "name: 12e4567 is not valid" in problems(edited(("small", "12e4567")))[0].message
    assert "training.epochs: 1.50 is not valid" in problems(edited(("epochs: 20", "epochs: 1.50")))[0].message


def test_a_dotted_path_at_the_root_is_shown_as_it_nests(tmp_path):
    (problem,) = problems(SMALL + "training.clip_norm: 4.0\n")
    assert (problem.expected, problem.suggestion) == ("`clip_norm: 4.0` within training", "")
    (tmp_path / "a.yaml").write_text(SMALL)
    (tmp_path / "b.yaml").write_text("base: a.yaml\nobjective.warm_up: 4\n")
    with pytest.raises(SpecError) as error:
        load(tmp_path / "b.yaml")
    assert error.value.problems[0].suggestion == "objective: {warm_up: 4}"
    (tmp_path / "b.yaml").write_text("base: a.yaml\nobjective: {warm_up: 4}\n")
    assert load(tmp_path / "b.yaml").objective.warm_up == 4


def test_the_key_of_an_override_is_suggested_also_where_the_file_has_it(tmp_path):
    (tmp_path / "a.yaml").write_text(SMALL + "profiles: {p: {training.epocs: 3}}\n")

    def suggestion(overrides=(), profile=None):
        with pytest.raises(SpecError) as error:
            load(tmp_path / "a.yaml", overrides, profile)
        return error.value.problems[0].suggestion

    assert suggestion(["training.epocs=3"]) == "training.epochs"
    assert suggestion(["objective={warmup: 3}"]) == "warm_up"
    assert suggestion(["nam=x"]) == "name"
    assert suggestion(profile="p") == "training.epochs"


# edit, the character at the expected place, its name, the remedy
LOOK_ALIKES = [
    (("training: {", "training:\u00a0{"), "\u00a0", "U+00A0 (NO-BREAK SPACE)", "a plain ' ' in its place"),
    (("units: 8", "units:\u00a08"), "\u00a0", "U+00A0 (NO-BREAK SPACE)", "a plain ' ' in its place"),
    (("  layers", "\u3000layers"), "\u3000", "U+3000 (IDEOGRAPHIC SPACE)", "a plain ' ' in its place"),
    (("epochs: 20", "epochs: 20\u202f, clip_norm: 4"), "\u202f", "U+202F (NARROW NO-BREAK SPACE)", "a plain ' '"),
    (("batch_size", "batch\u200b_size"), "\u200b", "U+200B (ZERO WIDTH SPACE)", "text without it"),
    (("data:", "\ufeffdata:"), "\ufeff", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)", "text without it"),
    (("epochs: 20", "epochs：20"), "：", "U+FF1A (FULLWIDTH COLON)", "a plain ':' and a space in its place"),
    (("name: small", "name：small"), "：", "U+FF1A (FULLWIDTH COLON)", "a plain ':' and a space in its place"),
    (("[32, 32]", "[32，32]"), "，", "U+FF0C (FULLWIDTH COMMA)", "a plain ',' in its place"),
    (("{dataset: digits}", "｛dataset: digits}"), "｛", "U+FF5B (FULLWIDTH LEFT CURLY BRACKET)", "a plain '{'"),
    (("name: small", "name: “small”"), "“", "U+201C (LEFT DOUBLE QUOTATION MARK)", "a plain '\"' in its place"),
    (("epochs: 20", "epochs: 2０"), "０", "U+FF10 (FULLWIDTH DIGIT ZERO)", "a plain '0' in its place"),
    (("epochs: 20", "epochs: −20"), "−", "U+2212 (MINUS SIGN)", "a plain '-' in its place"),
]


@pytest.mark.parametrize(
    ("edit", "character", "words", "expected"), LOOK_ALIKES, ids=[ascii(row[0][1]) for row in LOOK_ALIKES]
)
def test_a_look_alike_is_named_where_it_stands(edit, character, words, expected):
    text = edited(edit)
    found = problems(text)
    named = next(problem for problem in found if words in problem.message)
    assert (named.place.line, named.place.column) == place_of(text, character)
    assert named.expected.startswith(expected)
    assert named.suggestion == ""


@pytest.mark.parametrize(
    "edit", [("units: 8", "units: 8\u00a0"), ("units: 8", "units\u200b: 8"), ("20, b", "2\u200b0, b")]
)
def test_nothing_is_said_of_what_follows_from_a_look_alike(edit):
    assert [problem.kind for problem in problems(edited(edit))] == ["unreadable"]


FOLLOWS = [
    edited(("{epochs: 20, batch_size: 32}", "\n  epochs:\u00a020")),
    edited(("{epochs: 20, batch_size: 32}", "\n\u00a0\u00a0epochs: 20")),
    edited(("training: {epochs: 20, batch_size: 32}", "training:\n  first_phase:\n\u3000\u3000epochs: 20")),
    edited(("epochs: 20", "epochs:\u00a020")),
    edited(("name: small", 'name: "a\u00a0b"')),
    edited(("epochs: 20", "epochs: '20\u00a0'")),
    edited(("epochs: 20", "epochs: '\u300020'")),
    grid("seeds: [0, 1, '2\u00a0']"),
    grid("seeds: [0, 1, 2\u3000]"),
    grid("variants: {A: {objective.iw_samples: '1\u3000'}}"),
    SMALL + 'profiles: {"a\u00a0b": {}}\n',
    "name:\u00a0small",
    edited(("training: {epochs: 20, batch_size: 32}", "training: {<<: {epochs: 20}}")),
]


@pytest.mark.parametrize("text", FOLLOWS, ids=range(len(FOLLOWS)))
def test_nothing_follows_from_what_is_unreadable(text):
    (problem,) = problems(text)
    assert problem.kind == "unreadable"
    odd = next((character for character in text if not character.isascii()), "<")
    assert (problem.place.line, problem.place.column) == place_of(text[: text.index(odd) + 1], odd)
    assert problem.suggestion == ""


def test_what_does_not_follow_from_an_unreadable_value_is_said_beside_it():
    text = edited(("name: small", 'name: "a\u00a0b"'), ("units: 8", "units: x"), ("20, batch", "20, epocs: 3, batch"))
    assert [(one.kind, one.place.line) for one in problems(text)] == [
        ("unreadable", 1),
        ("invalid", 5),
        ("invalid", 7),
    ]


# Where, what is written, what is suggested
COMMAS = [
    ("lr", "0,001", "0.001"),
    ("lr", "1,5", "1.5"),
    ("lr", "1,5e-3", "1.5e-3"),
    ("lr", "1,500", ""),
    ("lr", "1,500,000", "1500000"),
    ("lr", "1_000", "1000"),
    ("lr", "00,5", ""),
    ("lr", "1e-05", "1e-05"),
    ("epochs", "1,5", ""),
    ("epochs", "1 5", ""),
    ("epochs", "1,500", "1500"),
    ("epochs", "1 500", "1500"),
    ("epochs", "1,000,000", "1000000"),
    ("epochs", "0,001", ""),
    ("epochs", "007", ""),
    ("mlp", "1,000", ""),
    ("mlp", "32, 16", "[32, 16]"),
]


@pytest.mark.parametrize(("field", "written", "suggestion"), COMMAS)
def test_a_suggested_number_is_no_other_one(field, written, suggestion):
    edits = {
        "lr": ("epochs: 20", f"epochs: 20, optimizer: {{adam: {{lr: '{written}'}}}}"),
        "epochs": ("epochs: 20", f"epochs: '{written}'"),
        "mlp": ("[32, 32]", f"'{written}'"),
    }
    (problem,) = problems(edited(edits[field]))
    assert problem.suggestion == suggestion


def test_look_alikes_in_quotes_comments_and_names_are_no_trouble():
    text = "# No-break\u00a0space, full-width：colon\n" + SMALL
    assert problems(text) == []
    (problem,) = problems(edited(("name: small", "# a：b\nname: 'a'： b: c")))
    assert problem.place.column == len("name: 'a'") + 1
    assert problems(grid(f"variants: {{“quoted”： A – β½: {{}}, {A}}}")) == []


def test_full_width_equals_and_a_whole_file_of_text(tmp_path):
    (tmp_path / "a.yaml").write_text("name：small")
    with pytest.raises(SpecError, match=r"a.yaml:1:5: a spec is a mapping: U\+FF1A"):
        load(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(SMALL)
    with pytest.raises(SpecError, match=r"without a value: U\+FF1D \(FULLWIDTH EQUALS SIGN\) is not '='"):
        load(tmp_path / "a.yaml", ["training.epochs＝3"])
    with pytest.raises(SpecError, match=r":1:10: an override without a path: U\+200B \(ZERO WIDTH SPACE\)"):
        load(tmp_path / "a.yaml", ["training.\u200bepochs=3"])


def test_characters_and_what_they_are_taken_for():
    assert plain("Ａ：\u00a0“x”\u200b２−１ é 基") == 'A: "x"2-1 é 基'
    assert first_look_alike("é 基 β ½ ²") is None
    assert (name("\x1b"), name("\t")) == ("U+001B", "U+0009 (TAB)")
    assert explanation("：") == "U+FF1A (FULLWIDTH COLON) is not ':'"
    assert explanation("\u200b") == "U+200B (ZERO WIDTH SPACE) shows nothing"
    assert remedy("\u200b") == "text without it"


@pytest.mark.parametrize(
    "value", ["1.0", "yes", "a, b", "x: y", "~", "", "#", True, None, 1e-5, [1, "2"], {"elu": 1.0}, "=1+1"]
)
def test_inline_yaml_is_read_as_the_value_within_brackets(value):
    assert parse("{key: " + inline(value) + "}", "f")[0].plain() == {"key": value}
    assert parse("key: " + inline(value), "f")[0].plain() == {"key": value}


# names, words of the message, the fragment at the place
NAMES = [
    ("' A': {}", "a name without blanks", "' A'"),
    ("'A ': {}", "a name without blanks", "'A '"),
    ("'  ': {}", "a name without blanks", "'  '"),
    ('"a\\nb": {}', "printable text, one line", '"a'),
    ('"a\\u200bb": {}', "text without it", '"a'),
    ("e\u0301: {}, \u00e9: {model.batch_norm: true}", "names that differ", "\u00e9"),
    ("a b: {}, 'a  b': {model.batch_norm: true}", "names that differ", "'a  b'"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "expected", "fragment"), NAMES, ids=[ascii(row[0]) for row in NAMES])
def test_names_of_variants_can_be_told_apart(names, expected, fragment):
    text = grid(f"variants: {{{names}}}")
    (problem,) = problems(text)
    assert expected in problem.expected
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)


def test_odd_names_that_can_be_seen_are_names():
    odd = [
        "_x",
        "NA",
        "nan",
        "null",
        "None",
        "inf",
        "true",
        "1.0",
        "=1+1",
        "-",
        "<b>",
        "a|b",
        "基线",
        "🚀",
        "$x$",
        "a\\$b",
        "VAE",
        "vae",
    ]
    variants = ", ".join(f"{inline(one)}: {{training.batch_size: {16 + place}}}" for place, one in enumerate(odd))
    assert list(loads(grid(f"variants: {{{variants}}}")).grid.variants) == odd


def test_profiles_name_folders():
    (problem,) = problems(SMALL + "profiles: {a b: {}}\n")
    assert "letters, digits" in problem.expected
    (problem,) = problems(SMALL + "profiles: {Quick: {}, quick: {}}\n")
    assert "results folder where case does not count" in problem.message
    assert (problem.place.line, problem.place.column) == (8, 23)


def test_a_base_may_lie_in_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.yaml").write_text(SMALL)
    (tmp_path / "b").mkdir()
    child = tmp_path / "b" / "b.yaml"
    for base in ("~/a.yaml", str(tmp_path / "a.yaml"), "../a.yaml"):
        child.write_text(f"base: {base}\n")
        assert load(child).name == "small"


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("~nosuchuser/a.yaml", "~nosuchuser has none"),
        ("$HOME/a.yaml", "variables of the shell"),
        ("https://x.org/a.yaml", "addresses are not followed"),
        ("..\\a.yaml", "a path with / between folders"),
        ("nowhere.yaml", "a path relative to this file, or an absolute one"),
        ("~/nowhere.yaml", "a path relative to this file, or an absolute one"),
    ],
)
def test_a_base_that_is_not_there_says_what_is_expected(tmp_path, base, expected):
    (tmp_path / "b.yaml").write_text(f"base: {base}\n")
    with pytest.raises(SpecError) as error:
        load(tmp_path / "b.yaml")
    (problem,) = error.value.problems
    assert "no such file" in problem.message
    assert expected in problem.expected
    assert (problem.place.line, problem.place.column) == (1, 7)

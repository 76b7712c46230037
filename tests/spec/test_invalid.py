"""Wrong types, values and keys: each at its place, with what was expected and what was probably meant."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import reads
from tests.spec.small_spec import SMALL, edited, place_of, problems


def grid(*lines: str) -> str:
    return SMALL + "grid:\n" + "".join(f"  {line}\n" for line in lines)


EPOCHS = [
    ("1e-3", ""), ("1_000", "1000"), ("'20'", "20"), ("20.0", "20"), ("1.", "1"), (".5", ""), ("no", ""), ("true", ""),
    (".nan", ""), (".inf", ""), ("1e999", ""), ("12:30", ""), ("2001-01-01", ""), ("null", ""), ("[1]", ""),
    ("{a: b}", ""), ("'1e-3'", ""),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), EPOCHS)
def test_a_whole_number_is_nothing_else(value, hint):
    (problem,) = problems(edited(("epochs: 20", f"epochs: {value}")))
    assert (problem.kind, problem.place.line, problem.place.column) == ("invalid", 7, 20)
    assert problem.expected == "a whole number"
    assert problem.suggestion == hint


@pytest.mark.parametrize("value", ["0", "-5"])
def test_a_count_is_positive(value):
    (problem,) = problems(edited(("epochs: 20", f"epochs: {value}")))
    assert problem.expected == "a number greater than 0"


@pytest.mark.parametrize("value", ["1000000001", "1" + "0" * 30])
def test_a_count_is_bounded(value):
    (problem,) = problems(edited(("units: 8", f"units: {value}")))
    assert problem.expected == "a number of at most 1,000,000,000"


@pytest.mark.parametrize("value", ["1", "1000000000", "0x10"])
def test_counts_within_bounds_pass(value):
    assert problems(edited(("units: 8", f"units: {value}"))) == []


LR = [
    ("no", "a number", ""), ("true", "a number", ""), ("nan", "a number", ""), ("'1e-3'", "a number", "1e-3"),
    ("1_0.5", "a number", "10.5"), (".nan", "a finite number", ""), (".inf", "a finite number", ""),
    ("1e999", "a finite number", ""), ("9" * 350, "a number", ""), ("0", "a number greater than 0", ""),
    ("-0.0", "a number greater than 0", ""), ("null", "a number", ""),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected", "hint"), LR)
def test_a_real_number_is_finite_and_no_text(value, expected, hint):
    text = edited(("epochs: 20", f"epochs: 20, optimizer: {{adam: {{lr: {value}}}}}"))
    (problem,) = problems(text)
    assert (problem.place.line, problem.place.column) == place_of(text, "lr: ", 4)
    assert (problem.expected, problem.suggestion) == (expected, hint)


@pytest.mark.parametrize("value", ["1", "1e-3", ".5", "1."])
def test_a_real_number_may_be_spelled_whole(value):
    assert problems(edited(("epochs: 20", f"epochs: 20, optimizer: {{adam: {{lr: {value}}}}}"))) == []


@pytest.mark.parametrize(
    ("value", "hint"),
    [("yes", "true"), ("on", "true"), ("no", "false"), ("Off", "false"), ("1", "true"), ("maybe", "")],
)
def test_a_flag_is_true_or_false(value, hint):
    (problem,) = problems(edited(("model:", f"model:\n  batch_norm: {value}")))
    assert (problem.place.line, problem.place.column) == (4, 15)
    assert (problem.expected, problem.suggestion) == ("true or false", hint)


# text, a fragment that starts at the expected place, words of the message, words of the suggestion
TABLE = [
    (edited(("epochs: 20", "epocs: 20")), "epocs", "unknown key 'epocs' in training", "epochs"),
    (edited(("units: 8", "unit: 8")), "unit: 8", "unknown key 'unit' in model.layers.0", "units"),
    (edited(("model:", "modle:")), "modle", "unknown key 'modle'", "model"),
    (SMALL + "warm_up: 3\n", "warm_up", "unknown key 'warm_up'", "objective.warm_up"),
    (SMALL + "iw_samples: 3\n", "iw_s", "unknown key", "objective.iw_samples or evaluation.iw_samples"),
    (SMALL + "model.inference: vae\n", "model.inf", "dotted paths are for", ""),
    (SMALL + "zzz: 3\n", "zzz", "unknown key 'zzz'", ""),
    (edited(("dataset: digits", "dataset: minst")), "minst", "data.dataset: the text 'minst' is not a choice", "mnist"),
    (edited(("model:", "model:\n  inference: lader")), "lader", "is not a choice", "ladder"),
    (edited(("epochs: 20, ", "")), "{batch_size", "training.epochs is missing", ""),
    (edited(("units: 8, ", "")), "{mlp: [32", "model.layers.0.units is missing", ""),
    (edited(("units: 8", "units: true")), "true", "model.layers.0.units: true is not valid", ""),
    (edited(("[32, 32]", "[32, x]")), "x]", "model.layers.0.mlp.1: the text 'x'", ""),
    (edited(("[32, 32]", "32")), "32}\n    -", "model.layers.0.mlp: 32 is not valid", "[32]"),
    (edited(("- {units: 4, mlp: [16, 16]}", "- foo")), "foo", "model.layers.1: the text 'foo'", ""),
    (edited(("name: small", "name: 5")), "5\n", "name: 5 is not valid", "'5'"),
    (edited(("name: small", "name: ../x")), "../x", "name: the text '../x'", ""),
    (edited(("name: small", "name: ..")), "..", "name: the text", ""),
    (edited(("name: small", "name: /etc")), "/etc", "name: the text", ""),
    (edited(("name: small", "name: " + "x" * 101)), "xxx" + "x" * 98, "name: the text", ""),
    (edited(("{epochs: 20, batch_size: 32}", "\n  epochs:5")), "epochs:5", "training: the text", "epochs: 5"),
    (edited(("model:", "model:\n  nonlinearity: leaky_rlu")), "leaky_rlu", "is not a choice", "leaky_relu"),
    (edited(("model:", "model:\n  nonlinearity: {tanh: 1}")), "tanh", "tanh takes no number", "tanh"),
    (edited(("model:", "model:\n  nonlinearity: {leaky_relu: 1, elu: 1}")), "elu: 1}", "elu beside another one", ""),
    (edited(("model:", "model:\n  nonlinearity: {elu: -1}")), "-1", "model.nonlinearity.elu: -1", ""),
    (edited(("model:", "model:\n  nonlinearity: [tanh]")), "[tanh", "a list of 1 is not a choice", "tanh"),
    (SMALL + "evaluation: {probe: {labels: [0]}}\n", "0]", "evaluation.probe.labels.0: 0 is not valid", ""),
    (SMALL + "evaluation: {probe: {labels: [9, al]}}\n", "al]", "evaluation.probe.labels.1: the text 'al'", ""),
    (SMALL + "evaluation: {probe: {labels: [90, 90]}}\n", "[90", "evaluation.probe.labels: a list of 2", ""),
    (grid("depth: 5"), "5\n", "grid.depth: 5 is not valid", "[5]"),
    (grid("seeds: 3"), "3\n", "grid.seeds: 3 is not valid", "[0, 1, 2]"),
    (grid("seeds: [0, -1]"), "-1", "grid.seeds.1: -1", ""),
    (grid("seeds: []"), "[]", "a list of 0 is not valid", ""),
    (grid("depth: []"), "[]", "a list of 0 is not valid", ""),
    (grid("variants: [VAE]"), "[VAE", "grid.variants: a list of 1", ""),
    (grid("variants: {A: foo}"), "foo", "grid.variants.A: the text 'foo'", ""),
    (grid("variants: {'': {}}"), "'': {}", "grid.variants: the text ''", ""),
    (grid("variants: {A: {objective.warmup: 3}}"), "objective.w", "is not a field of the spec", "objective.warm_up"),
    (grid("variants: {A: {modle.inference: vae}}"), "modle", "is not a field of the spec", "model.inference"),
    (grid("variants: {A: {model.warm_up: 3}}"), "model.warm", "is not a field", "objective.warm_up"),
    (grid("variants: {A: {model.layers.0.unit: 3}}"), "model.layers.0", "is not a field", "model.layers.0.units"),
    (grid("variants: {A: {model.layers.7.units: 3}}"), "model.layers.7", "is not a field", ""),
    (grid("variants: {A: {model.layers.00.units: 3}}"), "model.layers.00", "is not a field", ""),
    (grid("variants: {A: {data.dataset.x: 3}}"), "data.dataset", "is not a field", "data.dataset"),
    (grid("variants: {A: {model: {inference: vae}}}"), "model: {inf", "is a whole section", ""),
    (grid("variants: {A: {grid.depth: [1]}}"), "grid.depth", "cannot vary within a grid", ""),
    (grid("variants: {A: {model.inference: lader}}"), "lader", "model.inference: the text 'lader'", "ladder"),
    (grid("variants: {A: {model.layers: 5}}"), "5}}", "model.layers: 5 is not valid", ""),
    (grid("axes: {training.epoch: [1, 2]}"), "training.epoch", "is not a field", "training.epochs"),
    (grid("axes: {training.epochs: 5}"), "5}", "grid.axes.training.epochs: 5", "[5]"),
    (grid("axes: {training: {epochs: [5, 6]}}"), "[5", "grid.axes.training.epochs: a list of 2 is not valid", ""),
    (edited(more="report: {layout: {x: dept}}\n"), "dept}", "report.layout.x: 'dept' is no factor", "depth"),
    (
        grid("axes: {training.batch_size: [8, 9]}") + "report: {layout: {color: training.batchsize}}\n",
        "training.batchsize",
        "report.layout.color: 'training.batchsize' is no factor of the grid",
        "training.batch_size",
    ),
    (
        grid("axes: {data.dataset: [digits, mnist]}") + "report: {layout: {facet: data.dataset}}\n",
        "data.dataset}}",
        "report.layout.facet: 'data.dataset' is no factor",
        "",
    ),
    (edited(more="report: {layout: {y: depth}}\n"), "y: depth", "unknown key 'y' in report.layout", ""),
    (edited(more="report: {question: 5}\n"), "5}", "report.question: 5 is not valid", "'5'"),
    (grid("axes: {width: {}}"), "{}}", "grid.axes.width: a mapping is not valid", ""),
    (grid("axes: {width: {a: {training.epoch: 5}}}"), "training.epoch", "not a field of the spec", "training.epochs"),
    (grid("axes: {width: {a: {training.epochs: 0}}}"), "0}", "training.epochs: 0 is not valid", ""),
    (grid("axes: {training.epochs: []}"), "[]", "a list of 0", ""),
    (grid("axes: {training.epochs: [10, x]}"), "x]", "training.epochs: the text 'x'", ""),
    (grid("axes: {model.batch_norm: [true, 1]}"), "1]", "model.batch_norm: 1 is not valid", "true"),
    (grid("exclude: [null]"), "null", "grid.exclude.0: an empty value", ""),
    (grid("exclude: [{varaint: A}]"), "varaint", "'varaint' is no factor of the grid", ""),
    ("base: a.yaml\n" + SMALL, "base", "`base` works in a file only", ""),
    ("- a", "- a", "a spec is a mapping", ""),
    ("name:foo", "name", "a spec is a mapping", ""),
    ("~", "~", "an empty spec", ""),
    ("{}", "{}", "an empty spec", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fragment", "message", "suggestion"), TABLE, ids=[row[2] for row in TABLE])
def test_invalid(text, fragment, message, suggestion):
    (problem,) = problems(text)
    assert problem.kind == "invalid"
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)
    assert message in problem.message
    assert problem.suggestion == suggestion
    assert problem.expected


def test_nothing_at_all():
    (problem,) = problems("")
    assert (problem.kind, problem.place.line, problem.place.column) == ("invalid", 1, 1)


def test_every_missing_section_is_told():
    assert [p.message for p in problems("name: x")] == ["data is missing", "model is missing", "training is missing"]


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "objective:\nevaluation:\ngrid:\n",
        SMALL + "grid:\n  variants:\n  axes:\n  exclude:\n  depth:\n",
        SMALL + "grid: null\n",
        edited(("epochs: 20", "epochs: 20, optimizer: {adam: }")),
        SMALL + "grid: {variants: {VAE: , L: {model.inference: ladder}}}\n",
    ],
)
def test_empty_sections_are_as_good_as_none(text):
    assert problems(text) == []


def test_an_empty_section_lacks_what_it_must_have():
    text = edited((" {epochs: 20, batch_size: 32}", ""))
    assert [p.message for p in problems(text)] == ["training.epochs is missing"]


def test_all_problems_are_told_at_once():
    text = edited(
        ("dataset: digits", "dataset: digit"),
        ("units: 8", "unit: 8"),
        ("epochs: 20, batch_size: 32", "epochs: x, batch_size: 0"),
        more="objective: {iw_samples: 0, warm_up: -1}\nevaluation: {iw_samples: 0, evry: 3}\n"
        "grid:\n  depth: [1, 11]\n  seeds: [0.5]\n  variants: {A: {objective.warmup: 3}, B: {model.inference: lader}}\n"
        "  axes: {model.batch_norm: [true, true]}\n  exclude: [null, {depth: 1}]\n",
    )
    expected = ["digit}", "unit:", "x, b", "0, w", "-1", "0, e", "evry", "11]", "0.5", "objective.warmup", "lader"]
    expected += ["null", "0}\nobjective"]
    expected_places = [place_of(text, fragment) for fragment in expected]
    line, column = place_of(text, "[true, true]")
    expected_places.append((line, column + len("[true, ")))
    assert sorted((p.place.line, p.place.column) for p in problems(text)) == sorted(expected_places)


@pytest.mark.parametrize(
    ("edit", "more"),
    [
        (("epochs: 20", "epochs: x"), "objective: {warm_up: 100}\n"),
        (("model:", "model:\n  inference: laddr\n  share_top_down: true"), ""),
        (("model:", "model:\n  batch_norm: yes"), "grid: {variants: {A: {}, B: {model.batch_norm: false}}}\n"),
        (("digits}", "digit, train_images: 1, redraw: once}"), ""),
        (("{dataset: digits}", "{dataset: digits, train_images: x}"), ""),
    ],
)
def test_nothing_is_held_against_what_is_faulty_in_itself(edit, more):
    assert [p.kind for p in problems(edited(edit, more=more))] == ["invalid"]


# What stands in the place of a mapping, what is expected, and what is meant.
OPTIMIZERS = "one of {adam: {...}}, {adamw: {...}}, {sgd: {...}}"
SCHEDULES = "one of {stages: ...}, {step: {factor: ..., every: ...}}, {cosine: {over: ...}}, {linear: {over: ...}}"
REGISTERED = "a name that a file under `extensions` registers"
NO_MAPPINGS = [
    ("objective.free_bits=2", "a mapping: {nats: ..., per: ...}", "{nats: 2}"),
    ("objective.free_bits=two", "a mapping: {nats: ..., per: ...}", ""),
    ("training.early_stopping=5", "a mapping: {patience: ...}", "{patience: 5}"),
    ("training.first_phase=3", "a mapping: {epochs: ...}", "{epochs: 3}"),
    ("training.optimizer=sdg", OPTIMIZERS, "{sgd: {}}"),
    ("training.optimizer=sgd", OPTIMIZERS, "{sgd: {}}"),
    ("training.optimizer=0.1", OPTIMIZERS, ""),
    ("training.schedule=cosine", SCHEDULES, ""),
    ("training.schedule={cosine: 20}", "a mapping: {over: ..., to: ..., ramp: ...}", "{over: 20}"),
    ("model.prior={realnvp: 3}", "a mapping: {blocks: ..., mlp: ...}", ""),
    ("model=3", "a mapping: {layers: ...}", ""),
    ("evaluation=3", "a mapping of some of iw_samples, every, curve_iw_samples, curve_images,", ""),
    ("objective.term=mmd", REGISTERED, ""),
    ("objective.term={mmd: {}}", REGISTERED, ""),
    ("objective.term={}", REGISTERED, ""),
    ("model.mapping={gated: 0.5}", "one of mlp", ""),
    ("training.ema=1.0", "a number less than 1", ""),
    ("training.ema=2", "a number less than 1", ""),
    ("training.ema=0.99999997", "a number of at most 0.99999994", ""),
]


@pytest.mark.parametrize(("override", "expected", "suggestion"), NO_MAPPINGS, ids=[row[0] for row in NO_MAPPINGS])
def test_what_is_expected_says_how_it_is_written(override, expected, suggestion):
    with pytest.raises(SpecError) as error:
        reads(SMALL, overrides=[override])
    (problem,) = error.value.problems
    assert (problem.expected[: len(expected)], problem.suggestion) == (expected, suggestion)
    assert problem.expected == expected or expected.endswith(",")

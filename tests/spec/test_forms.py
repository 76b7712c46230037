"""A field in two forms, a short and a long one: of several layers the later one counts, and no layer gives both."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import loads, read
from hvae_spec.spec.choices.norm import NORMS, BatchNormSection, BatchNormSettings, normalization
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import short_forms
from hvae_spec.spec.grid import form_of, members
from tests.members import member
from tests.spec.small_spec import SMALL, edited, place_of, problems

HIDDEN = BatchNormSection(batch=BatchNormSettings(heads=False))
STAGES = "{stages: [{epochs: 20, lr: 1e-3}]}"
DECAY = "{factor: 0.5, every: 2}"


def model(*lines):
    return edited(("model:", "\n  ".join(["model:", *lines])))


def digests(text):
    return members(loads(text))[0].digests


def test_the_fields_in_two_forms():
    assert {short: long for short, (long, _) in short_forms(MemberSpec).items()} == {
        ("model", "batch_norm"): ("model", "norm"),
        ("training", "lr_decay"): ("training", "schedule"),
    }
    where = ("profiles", "quick", "grid.variants.Prob. ladder+BN.model.batch_norm")
    above = ("profiles", "quick", "grid", "variants", "Prob", " ladder+BN", "model")
    assert form_of(where) == ((*above, "batch_norm"), (*above, "norm"))
    assert form_of(("training", "schedule", "stages", 0, "lr")) == (("training", "schedule"),) * 2
    assert form_of(("model", "layers", 0, "units")) is None


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("norm: batch", "batch_norm: true"),
        ("norm: {batch: {}}", "batch_norm: true"),
        ("norm: {batch: {heads: true}}", "batch_norm: true"),
        ("norm: none", "batch_norm: false"),
        ("norm: null", "batch_norm: false"),
        ("norm:\n  batch_norm: true", "batch_norm: true"),
    ],
)
def test_what_has_a_short_form_is_one_member_however_it_is_written(long, short):
    one, other = loads(model(long)), loads(model(short))
    assert one.model == other.model
    assert digests(model(long)) == digests(model(short))
    assert one.model.norm is None


def test_digests_from_before_there_was_a_long_form_stay():
    assert digests(SMALL).training.startswith("7142077c6070cf4aec0cbd01772721015554df6d")
    assert digests(model("batch_norm: true")).training.startswith("1d6e1c1ab18e9217f0d59ec40f20b760812b13ab")
    decayed = digests(edited(("epochs: 20", f"epochs: 20, lr_decay: {DECAY}")))
    assert decayed.training.startswith("897e6309c21177d87b21b36c343e90b8d0dd25c16")


def test_what_has_no_short_form_has_its_own_digests_and_is_read_again():
    texts = ["norm: layer", "norm: {batch: {heads: false}}", "norm: batch", "norm: none"]
    assert len({digests(model(text)).trajectory for text in texts}) == len(texts)
    for text in texts:
        spec = members(loads(model(text)))[0].spec
        again = MemberSpec.model_validate(spec.model_dump(mode="json"))
        assert (again, again.digests) == (spec, spec.digests)
    layer = loads(model("norm: layer")).model
    assert (layer.norm, layer.batch_norm, layer.normalization.name) == ("layer", None, "layer")
    assert loads(model("norm: {batch: {heads: false}}")).model.norm == HIDDEN
    assert members(loads(model("norm: layer")))[0].spec.content["model"].keys() == {"layers", "norm"}


@pytest.mark.parametrize(
    ("value", "hidden", "heads", "of_batch", "label"),
    [
        ("none", False, False, False, ""),
        ("batch", True, True, True, "+BN"),
        (HIDDEN, True, False, True, "+BN(hidden)"),
        ("layer", True, False, False, "+LN"),
    ],
    ids=str,
)
def test_what_a_norm_normalizes(value, hidden, heads, of_batch, label):
    found = normalization(value)
    assert (found.hidden, found.heads, found.of_batch, found.label) == (hidden, heads, of_batch, label)
    assert found.words.startswith(NORMS[found.name].words)
    written = value if isinstance(value, str) else value.model_dump()
    assert member(1, model__norm=written, model__inference="vae", objective__warm_up=1).label == f"VAE{label}+WU"


# A base, a file over it, and which of the two norms counts.
LAYERS = [
    ("batch_norm: true", "norm: layer", "layer"),
    ("norm: layer", "batch_norm: true", True),
    ("norm: layer", "batch_norm: false", False),
    ("batch_norm: true", "norm: {batch: {heads: false}}", HIDDEN),
    ("norm: {batch: {heads: false}}", "norm: layer", "layer"),
    ("batch_norm: true", "norm: none", False),
    # Null gives nothing, in either form.
    ("batch_norm: true", "norm: null", False),
    ("batch_norm: true", "batch_norm: null", False),
    ("norm: layer", "batch_norm: null", False),
    ("norm: layer", "norm: null", False),
]


def norm_of(spec):
    """The form that a model has: a flag, or the long form."""
    model = getattr(spec, "model", spec)
    assert (model.norm is None) != (model.batch_norm is None)
    return model.batch_norm if model.norm is None else model.norm


@pytest.mark.parametrize(("below", "above", "counts"), LAYERS)
def test_the_later_layer_counts(tmp_path, below, above, counts):
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    path, _, value = above.partition(": ")
    base.write_text(model(below) + f"profiles: {{p: {{model.{path}: {value}}}}}\n")
    child.write_text(f"base: base.yaml\nmodel: {{{above}}}\n")

    def only(*arguments, more=""):
        other = tmp_path / "grid.yaml"
        other.write_text(f"base: base.yaml\n{more}")
        (one,) = read(other, *arguments).members
        return norm_of(one.spec)

    assert norm_of(read(child).experiment) == counts
    assert only((), "p") == counts
    assert only([f"model.{path}={value}"]) == counts
    assert only(more=f"grid: {{variants: {{A: {{model.{path}: {value}}}}}}}") == counts
    assert only(more=f"grid: {{axes: {{a: {{A: {{model.{path}: {value}}}}}}}}}") == counts
    assert only(more=f"grid: {{axes: {{model.{path}: [{value}]}}}}") == counts
    # Each layer over the one before it.
    own, _, back = below.partition(": ")
    assert only([f"model.{own}={back}"], "p") == norm_of(read(base).experiment) or back == "null" or value == "null"


@pytest.mark.parametrize(
    ("level", "variant", "counts"),
    [("model.norm: layer", "model.batch_norm: true", True), ("model.batch_norm: true", "model.norm: layer", "layer")],
)
def test_a_variant_counts_over_a_level(level, variant, counts):
    text = SMALL + f"grid: {{axes: {{a: {{A: {{{level}}}}}}}, variants: {{V: {{{variant}}}}}}}\n"
    (one,) = members(loads(text))
    assert norm_of(one.spec) == counts


def test_dotted_paths_into_a_form_count_too(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(model("batch_norm: true") + "grid: {variants: {A: {model.norm.batch.heads: false}, B: {}}}\n")
    assert [norm_of(one.spec) for one in read(path).members] == [HIDDEN, True]
    path.write_text(model("norm: layer"))
    assert norm_of(read(path, ["model.norm.batch.heads=false"]).experiment) == HIDDEN
    path.write_text(edited(("epochs: 20", f"epochs: 20, schedule: {STAGES}")))
    decayed = ["training.lr_decay.factor=0.5", "training.lr_decay.every=2"]
    training = read(path, decayed).experiment.training
    assert (training.schedule, training.lr_decay.every) == (None, 2)


def test_settings_of_variants_levels_and_profiles_are_replaced_in_either_form(tmp_path):
    path = tmp_path / "a.yaml"
    grid = "grid: {variants: {A: {model.batch_norm: true}}, axes: {training.lr_decay: [null]}}\n"
    path.write_text(SMALL + grid + "profiles: {p: {grid.variants.A.model.norm: layer}}\n")
    assert read(path, ["grid.variants.A.model.norm=layer"]).experiment.grid.variants == {"A": {"model.norm": "layer"}}
    assert norm_of(read(path, (), "p").members[0].spec) == "layer"
    axes = read(path, [f"grid.axes.training.schedule=[{STAGES}, null]"]).experiment.grid.axes
    assert list(axes) == ["training.schedule"]
    child = tmp_path / "b.yaml"
    child.write_text("base: a.yaml\nprofiles: {p: {grid.variants.A.model.batch_norm: false}}\n")
    assert norm_of(read(child, (), "p").members[0].spec) is False


@pytest.mark.parametrize(("below", "above"), [("schedule", "lr_decay"), ("lr_decay", "schedule")])
def test_the_later_of_a_decay_and_a_schedule_counts(tmp_path, below, above):
    values = {"lr_decay": DECAY, "schedule": STAGES}
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text(edited(("epochs: 20", f"epochs: 20, {below}: {values[below]}")))
    child.write_text(f"base: base.yaml\ntraining: {{{above}: {values[above]}}}\n")
    setting = f"training.{above}: {values[above]}"
    alone = digests(edited(("epochs: 20", f"epochs: 20, {above}: {values[above]}")))
    assert read(child).members[0].digests == alone
    assert read(base, [setting.replace(": ", "=", 1)]).members[0].digests == alone
    for grid in (f"variants: {{A: {{{setting}}}}}", f"axes: {{training.{above}: [{values[above]}]}}"):
        child.write_text(f"base: base.yaml\ngrid: {{{grid}}}\n")
        assert read(child).members[0].digests == alone
    # Null gives nothing, in either form: the rate is constant.
    constant = digests(SMALL)
    for text in (f"training: {{{above}: null}}", f"grid: {{variants: {{A: {{training.{above}: null}}}}}}"):
        child.write_text(f"base: base.yaml\n{text}\n")
        assert read(child).members[0].digests == constant
    assert read(base, [f"training.{above}=null"]).members[0].digests == constant
    child.write_text(f"base: base.yaml\ngrid: {{axes: {{training.{above}: [null, {values[above]}]}}}}\n")
    assert [one.digests for one in read(child).members] == [constant, alone]


def test_null_says_nothing_beside_a_value_of_its_own_layer(tmp_path):
    both = [("batch_norm: null", "norm: layer"), ("norm: layer", "batch_norm: null")]
    for one, two in both:
        assert norm_of(loads(model(one, two))) == "layer"
        settings = f"{{model.{one}, model.{two}}}"
        text = model("batch_norm: true") + f"profiles: {{p: {settings}}}\ngrid: {{variants: {{A: {settings}}}}}\n"
        assert norm_of(members(loads(text))[0].spec) == "layer"
        path = tmp_path / "a.yaml"
        path.write_text(model("batch_norm: true") + f"profiles: {{p: {settings}}}\n")
        assert norm_of(read(path, (), "p").experiment) == "layer"


def test_null_of_a_variant_counts_over_a_level_and_says_nothing_beside_an_axis():
    level = "grid: {axes: {a: {A: {model.norm: layer}}}, variants: {V: {model.batch_norm: null}, W: {}}}\n"
    assert [norm_of(one.spec) for one in members(loads(SMALL + level))] == [False, "layer"]
    axis = "grid: {axes: {model.norm: [null, layer]}, variants: {V: {model.batch_norm: null}}}\n"
    assert [norm_of(one.spec) for one in members(loads(SMALL + axis))] == [False, "layer"]


# A text, the value that is one too many, the two forms, and where the first of them stands.
BOTH = [
    (model("norm: layer", "batch_norm: false"), "false", "batch_norm beside norm", "  norm: "),
    (model("batch_norm: true", "norm: batch"), "batch\n", "norm beside batch_norm", "batch_norm"),
    (
        edited(("epochs: 20", f"epochs: 20, lr_decay: {DECAY}, schedule: {STAGES}")),
        "{stages",
        "schedule beside lr_decay",
        "lr_decay",
    ),
    (
        SMALL + "grid: {variants: {A: {model.norm: layer, model.batch_norm: true}, B: {}}}\n",
        "true",
        "model.batch_norm beside model.norm",
        "model.norm",
    ),
    (
        SMALL + f"grid: {{axes: {{a: {{A: {{training.lr_decay.every: 3, training.schedule: {STAGES}}}, B: {{}}}}}}}}\n",
        "{stages",
        "training.schedule beside training.lr_decay.every",
        "training.lr_decay",
    ),
    (
        SMALL + "profiles: {p: {model.norm: layer, model.batch_norm: true}}\n",
        "true",
        "model.batch_norm beside model.norm",
        "model.norm",
    ),
]


@pytest.mark.parametrize(("text", "fragment", "message", "first"), BOTH, ids=[row[2] for row in BOTH])
def test_both_forms_in_one_mapping_are_refused_with_both_places(text, fragment, message, first):
    (problem,) = problems(text)
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)
    line, column = place_of(text, first, len(first) - len(first.lstrip()))
    assert problem.message == f"{message} (<text>:{line}:{column}): they are two forms of one field"
    assert problem.expected.startswith("one of the two; of several layers")


def test_both_forms_in_a_base_are_refused_whatever_is_built_on_it(tmp_path):
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text(model("batch_norm: true", "norm: layer"))
    child.write_text("base: base.yaml\nmodel: {norm: none}\n")
    with pytest.raises(SpecError) as error:
        read(child)
    (problem,) = error.value.problems
    assert (str(problem.place), problem.spoils[0].source) == (f"{base}:5:9", str(base))


# Settings of one cell of which neither is of a later layer, and the value that is one too many.
CROSSED = [
    ("axes: {model.batch_norm: [true], model.norm: [layer]}", "layer]"),
    ("axes: {model.norm: [layer]}, variants: {A: {model.batch_norm: true}}", "layer]"),
    ("axes: {a: {A: {model.norm: layer}}, b: {B: {model.batch_norm: true}}}", "true"),
    ("axes: {model.batch_norm: [true, false], model.norm: [layer, none]}", "layer, none]"),
    ("axes: {model.norm: [layer, none]}, variants: {A: {model.batch_norm: true}, B: {}}", "layer, none]"),
    ("axes: {a: {A: {model.norm.batch.heads: false}}, model.batch_norm: [true]}", "true"),
]


@pytest.mark.parametrize(("grid", "fragment"), CROSSED)
def test_two_factors_of_one_field_are_refused(grid, fragment):
    text = SMALL + f"grid: {{{grid}}}\n"
    (problem,) = problems(text)
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)
    assert "they are two forms of one field" in problem.message
    assert "one axis with named levels" in problem.expected


def test_two_factors_of_one_field_stand_together_where_no_cell_has_both():
    axes = f"axes: {{training.lr_decay: [null, {DECAY}], training.schedule: [null, {STAGES}]}}"
    exclude = f"exclude: [{{training.lr_decay: {DECAY}, training.schedule: {STAGES}}}]"
    assert len(members(loads(SMALL + f"grid: {{{axes}, {exclude}}}\n"))) == 3
    (problem,) = problems(SMALL + f"grid: {{{axes}}}\n")
    assert "training.schedule beside training.lr_decay" in problem.message


def test_from_python_both_forms_are_refused_as_well():
    tree = member(1).model_dump(mode="json")
    with pytest.raises(ValueError, match="one of batch_norm and norm"):
        MemberSpec.model_validate({**tree, "model": {**tree["model"], "norm": "layer"}})


@pytest.mark.parametrize(
    ("norm", "fragment", "expected", "hint"),
    [
        ("lyer", "lyer", "one of none, batch, layer, {batch: {heads: true}}", "layer"),
        ("{layer: {eps: 1}}", "layer:", "norm: layer", "layer"),
        ("{batch: {head: false}}", "head:", "one of heads", "heads"),
        ("{batch: {heads: no}}", "no}", "true or false", "false"),
        ("{}", "{}", "one of none, batch, layer, {batch: {heads: true}}", ""),
    ],
)
def test_mistakes_in_a_norm(norm, fragment, expected, hint):
    text = model(f"norm: {norm}")
    (problem,) = problems(text)
    assert (problem.place.line, problem.place.column) == place_of(text, fragment)
    assert (problem.expected, problem.suggestion) == (expected, hint)


def test_a_choice_without_settings_says_so():
    (problem,) = problems(model("norm: {layer: {eps: 1}}"))
    assert problem.message == "model.norm: layer takes no settings"
    with pytest.raises(SpecError, match="relu takes no number"):
        loads(model("nonlinearity: {relu: 1}"))

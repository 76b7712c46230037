"""`--set dotted.path=value`: typed and checked like the file, and located in the override itself."""

import pytest

from hvae_spec.errors import SpecError
from hvae_spec.reading import load, read
from tests.spec.small_spec import SMALL

GRID = "specs/mnist_grid.yaml"


def small(tmp_path, more=""):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL + more)
    return path


def field(spec, path):
    for key in path.split("."):
        spec = spec[int(key)] if isinstance(spec, list) else spec[key]
    return spec


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("training.epochs=30", "training.epochs", 30),
        (" training.epochs = 30 # more", "training.epochs", 30),
        ("training.optimizer.adam.lr=1e-4", "training.optimizer.adam.lr", 1e-4),
        ("training.clip_norm=4", "training.clip_norm", 4.0),
        ("training.clip_norm=", "training.clip_norm", None),
        ("name=other", "name", "other"),
        ("objective.warm_up=3", "objective.warm_up", 3),
        ("objective={warm_up: 3}", "objective.warm_up", 3),
        ("model.layers=[{units: 3, mlp: []}]", "model.layers.0.units", 3),
        ("model.layers.1.units=3", "model.layers.1.units", 3),
        ("model.layers.1.mlp.0=3", "model.layers.1.mlp", [3, 16]),
        ("model.nonlinearity=tanh", "model.nonlinearity", "tanh"),
        ("model.nonlinearity.elu=2", "model.nonlinearity", {"elu": 2.0}),
        ("grid.seeds=[0,1]", "grid.seeds", [0, 1]),
        ("grid.axes.training.batch_size=[8, 9]", "grid.axes", {"training.batch_size": [8, 9]}),
        ("grid.variants.A.model.batch_norm=true", "grid.variants", {"A": {"model.batch_norm": True}}),
        ("grid=null", "grid.seeds", [0]),
    ],
)  # fmt: skip
def test_values_are_set(tmp_path, text, path, value):
    assert field(load(small(tmp_path), [text]).model_dump(mode="json"), path) == value


def test_names_of_variants_may_hold_dots(tmp_path):
    more = "grid: {variants: {Prob. ladder: {model.inference: ladder}, Prob: {}}}\n"
    overrides = ["grid.variants.Prob. ladder.model.batch_norm=true", "grid.variants.Prob.model.batch_norm=false"]
    spec = load(small(tmp_path, more), overrides)
    assert spec.grid.variants == {
        "Prob. ladder": {"model.inference": "ladder", "model.batch_norm": True},
        "Prob": {"model.batch_norm": False},
    }


def test_levels_of_axes_are_set(tmp_path):
    more = "grid: {axes: {width: {narrow: {training.epochs: 3}, v1.5: }, training.batch_size: [8, 9]}}\n"
    overrides = [
        "grid.axes.width.narrow.training.epochs=4",
        "grid.axes.width.v1.5.model.layers.0.units=2",
        "grid.axes.width.third={objective.warm_up: 2}",
        "grid.axes.training.batch_size=[7]",
        "grid.axes.order={one: {data.redraw: once}}",
    ]
    assert load(small(tmp_path, more), overrides).grid.axes == {
        "width": {
            "narrow": {"training.epochs": 4},
            "v1.5": {"model.layers.0.units": 2},
            "third": {"objective.warm_up": 2},
        },
        "training.batch_size": [7],
        "order": {"one": {"data.redraw": "once"}},
    }


def test_an_empty_variant_can_be_filled(tmp_path):
    spec = load(small(tmp_path, "grid: {variants: {A: }}\n"), ["grid.variants.A.model.batch_norm=true"])
    assert spec.grid.variants == {"A": {"model.batch_norm": True}}


def test_the_last_of_two_holds(tmp_path):
    assert load(small(tmp_path), ["training.epochs=oops", "training.epochs=7"]).training.epochs == 7


def test_an_override_mends_a_fault_of_the_file(tmp_path):
    path = small(tmp_path)
    path.write_text(SMALL.replace("epochs: 20", "epochs: x"))
    assert load(path, ["training.epochs=7"]).training.epochs == 7


def test_an_alias_is_overridden_alone(tmp_path):
    path = small(tmp_path)
    path.write_text(SMALL.replace("[32, 32]", "&w [32, 32]").replace("[16, 16]", "*w"))
    spec = load(path, ["model.layers.0.mlp.0=5"])
    assert [layer.mlp for layer in spec.model.layers] == [(5, 32), (32, 32)]


# override, kind, column, words of the message, words of the suggestion
FAULTS = [
    ("training.epochs", "invalid", 1, "without a value", ""),
    ("", "invalid", 1, "without a value", ""),
    ("=5", "invalid", 1, "without a path", ""),
    ("training..epochs=5", "invalid", 1, "without a path", ""),
    ("a\0b=5", "invalid", 1, "without a path", ""),
    ("base=other.yaml", "invalid", 1, "`base` cannot be overridden", ""),
    ("training.epochs=", "invalid", 1, "an empty value", ""),
    ("training.epochs=x", "invalid", 17, "training.epochs: the text 'x'", ""),
    ("training.epochs=1e3", "invalid", 17, "1e3 is not valid", "1000"),
    ("training.epochs=[", "unreadable", 18, "not readable as YAML", ""),
    ("training.epochs=*a", "unreadable", 17, "undefined alias", ""),
    ("training.epochs=!!x 5", "unreadable", 17, "tag !!x", ""),
    ("training.epochs=5\0", "unreadable", 18, "forbids", ""),
    ("training.epochs=\ud800", "unreadable", 17, "forbids", ""),
    ("training.epocs=5", "invalid", 1, "unknown key 'epocs' in training", "training.epochs"),
    ("trainin.epochs=5", "invalid", 1, "unknown key 'trainin'", "training"),
    ("epochs=5", "invalid", 1, "unknown key 'epochs'", "training.epochs"),
    ("training.epochs.x=5", "invalid", 1, "a mapping is not valid", ""),
    ("model.layers.9.units=5", "invalid", 1, "no entry '9' in the list model.layers", ""),
    ("model.layers.-1.units=5", "invalid", 1, "no entry '-1'", ""),
    ("model.layers.²=5", "invalid", 1, "no entry '²'", ""),
    ("model.layers.01=5", "invalid", 1, "no entry '01'", ""),
    ("model.layers.x.units=5", "invalid", 1, "no entry 'x'", ""),
    ("model.layers.0.unit=5", "invalid", 1, "unknown key 'unit'", "model.layers.0.units"),
    ("model.layers.0.units.x=5", "invalid", 1, "model.layers.0.units: a mapping", ""),
    ("model.layers.0.mlp.0=x", "invalid", 22, "model.layers.0.mlp.0: the text 'x'", ""),
    ("model={inference: vae}", "invalid", 7, "model.layers is missing", ""),
    ("grid.variants.Prob. ladder+BN+WU.model.inferenc=vae", "invalid", 1, "is not a field", "model.inference"),
    ("grid.variants.VAE.model={inference: vae}", "invalid", 1, "is a whole section", ""),
    ("grid.axes.training.batchsize=[1, 2]", "invalid", 1, "is not a field", "training.batch_size"),
    ("grid.axes.training.batch_size=[8, 1]", "inconsistent", 35, "more than one image", ""),
    ("grid.variants.New=", "inconsistent", 1, "'VAE+BN+WU' and 'New' resolve to the same model", ""),
    ("grid.exclude=[{depth: 9}]", "inconsistent", 23, "no depth is 9", ""),
    ("grid.exclude.0.variant=Prob", "inconsistent", 24, "no variant is the text 'Prob'", ""),
    ("grid.depth.9=1", "invalid", 1, "no entry '9' in the list grid.depth", ""),
    ("objective.warm_up=2001", "inconsistent", 19, "longer than training", ""),
    ("name=../x", "invalid", 6, "name: the text '../x'", ""),
]


@pytest.mark.parametrize(("text", "kind", "column", "message", "suggestion"), FAULTS, ids=[row[0] for row in FAULTS])
def test_faulty_overrides(text, kind, column, message, suggestion):
    with pytest.raises(SpecError) as error:
        load(GRID, [text])
    (problem,) = error.value.problems
    assert problem.kind == kind
    assert problem.place.source == f"--set {text!r}"
    assert (problem.place.line, problem.place.column) == (1, column)
    assert message in problem.message
    assert problem.suggestion == suggestion
    str(error.value).encode()


def test_all_faulty_overrides_are_told_with_the_faults_of_the_file(tmp_path):
    with pytest.raises(SpecError) as error:
        load(small(tmp_path, "foo: 1\n"), ["training.epochs=x", "model.bar=1", "="])
    assert len(error.value.problems) == 4


def test_an_override_does_not_make_a_list_a_spec(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- a\n")
    with pytest.raises(SpecError, match="a spec is a mapping"):
        load(path, ["training.epochs=5"])


def test_exclusions_of_the_file_yield_to_an_overridden_list():
    assert [cell.depth for cell in read(GRID, ["grid.depth=[5]"]).cells] == [5] * 4
    assert len(read(GRID, ["grid.variants={A: {}}"]).cells) == 5
    assert len(read(GRID, ["grid.variants={A: {}}", "grid.depth=[1]"]).cells) == 1


def test_an_overridden_list_excuses_no_other_mistake(tmp_path):
    more = "grid: {depth: [1, 2], variants: {A: {}}, exclude: [{variant: B, depth: 1}]}\n"
    with pytest.raises(SpecError, match="no variant is the text 'B'"):
        load(small(tmp_path, more), ["grid.depth=[2]"])

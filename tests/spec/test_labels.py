"""What members and levels are called."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hvae_spec.reading import loads
from hvae_spec.spec.grid import cells, members
from hvae_spec.spec.labels import headings, layers_text, level_label, level_text, plain_levels
from tests.spec.small_spec import SMALL

NARROW = [{"units": 64, "mlp": [512, 512]}, {"units": 32, "mlp": [256, 256]}]
LINEAR = [{"units": 64, "mlp": []}, {"units": 32, "mlp": [256, 256]}]
WIDE = [{"units": 128, "mlp": [512, 512]}, {"units": 32, "mlp": [256, 256]}]


@pytest.mark.parametrize(
    ("axis", "value", "label"),
    [
        ("training.optimizer.adam.lr", 0.0003, "lr 3e-4"),
        ("training.optimizer.adam.lr", 0.00025, "lr 2.5e-4"),
        ("training.optimizer.adam.lr", 0.01, "lr 0.01"),
        ("training.batch_size", 64, "batch 64"),
        ("training.clip_norm", 4.0, "clip norm 4"),
        ("training.clip_norm", None, "clip norm none"),
        ("model.batch_norm", True, "batch norm on"),
        ("model.inference", "ladder", "inference ladder"),
        ("objective.warm_up", 200, "warm-up 200"),
        ("model.layers.0.units", 8, "z_1 units 8"),
        ("model.layers.1.mlp", [16, 16], "z_2 mlp 16,16"),
        ("model.layers.1.mlp", [], "z_2 mlp linear"),
        ("training.optimizer", {"adam": {"lr": 0.001}}, "optimizer adam lr 1e-3"),
        ("training.lr_decay", {"factor": 0.5, "every": 10}, "lr decay factor 0.5 every 10"),
        ("width", "narrow", "narrow"),
        ("grid", "mnist_grid", "grid mnist_grid"),
    ],
)
def test_levels_have_short_labels(axis, value, label):
    assert level_label(axis, value) == label


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([NARROW, WIDE], ["64-32", "128-32"]),
        ([NARROW, LINEAR], ["mlp 512,512-256,256", "mlp linear-256,256"]),
        (
            [NARROW, LINEAR, WIDE],
            ["64-32 mlp 512,512-256,256", "64-32 mlp linear-256,256", "128-32 mlp 512,512-256,256"],
        ),
        ([NARROW], ["64-32"]),
        (
            [{"adam": {"lr": 1e-3, "eps": 1e-4}}, {"adam": {"lr": 1e-3, "eps": 1e-8}}],
            ["adam eps 1e-4", "adam eps 1e-8"],
        ),
        ([None, {"factor": 0.5, "every": 2}, {"factor": 0.5, "every": 4}], ["none", "every 2", "every 4"]),
        (
            [None, {"nats": 2, "per": "layer"}, {"nats": 3, "per": "unit"}],
            ["none", "nats 2 per layer", "nats 3 per unit"],
        ),
        ([None, {"nats": 2, "per": "layer"}, {"nats": 3}], ["none", "nats 2 per layer", "nats 3"]),
        (
            [{"cosine": {"over": 2, "to": 0.5}}, {"linear": {"over": 2, "to": 0.1}}],
            ["cosine over 2 to 0.5", "linear over 2 to 0.1"],
        ),
        (
            [[{"units": 64, "mlp": [512]}, {"units": 32, "mlp": [256]}], [{"units": 9, "mlp": [8]}]],
            ["64-32 mlp 512-256", "9 mlp 8"],
        ),
        ([None, "none"], ["null", "none"]),
        ([0.5, 2, True, "text"], [0.5, 2, True, "text"]),
        (["narrow", "wide"], ["narrow", "wide"]),
    ],
)
def test_lists_and_mappings_are_told_apart_by_what_differs(values, levels):
    assert plain_levels(values) == levels


@pytest.mark.parametrize("weights", [[1, 0.25], [1.0, 0.25]])
def test_weights_of_layers_are_one_text_in_labels_and_in_effects(weights):
    assert layers_text(weights) == level_text(weights) == plain_levels([weights, 1])[0] == "1,0.25"
    assert layers_text([64, 32]) == "64-32"


def test_axes_are_called_by_the_last_words_that_tell_them_apart():
    assert headings(
        ["model.layers.0.units", "model.layers.1.units", "objective.iw_samples", "evaluation.iw_samples"]
    ) == {
        "model.layers.0.units": "z_1 units",
        "model.layers.1.units": "z_2 units",
        "objective.iw_samples": "objective iw samples",
        "evaluation.iw_samples": "evaluation iw samples",
    }
    assert headings(["training.optimizer.adam.lr", "lr"]) == {"training.optimizer.adam.lr": "adam lr", "lr": "lr"}
    assert level_label("a", "wide", ["a", "b"]) == "a wide"


SCALARS = st.none() | st.booleans() | st.integers(-99, 10**9) | st.floats(1e-30, 1e30) | st.sampled_from(["a", "none"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["lr", "mlp_down"]), inner)
)


@example([[{}]])
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_no_level_shows_json_or_a_python_value(values):
    for level in plain_levels(values):
        assert re.search(r"[\[\]{}'\"]|None|True|False", level_text(level)) is None


def test_labels_and_folders_of_members_hold_words():
    axes = (
        "model.layers: [[{units: 3, mlp: []}], [{units: 3, mlp: [7]}]], width: {very wide: {training.batch_size: 8}}, "
        "training.optimizer.adam.lr: [3.0e-4]"
    )
    first, second = members(loads(f"{SMALL}grid: {{axes: {{{axes}}}}}\n"))
    assert first.labels["model.layers"] == "mlp linear"
    assert second.labels["model.layers"] == "mlp 7"
    assert second.labels["width"] == "very wide"
    assert second.folder.startswith("digits-L1-vae-layers-mlp-7-width-very-wide-lr-0.0003-s0-")


def test_values_on_axes_stay_as_they_are():
    (cell,) = cells(loads(SMALL + "grid: {axes: {model.layers.0.mlp: [[7, 8]]}}\n"))
    assert cell.axes == {"model.layers.0.mlp": [7, 8]}
    assert cell.levels == {"model.layers.0.mlp": "7,8"}


def test_long_names_of_files_end_with_a_whole_word():
    name = "the variant with a very long name that says it all and then still goes on"
    (member,) = members(loads(f"{SMALL}grid: {{variants: {{{name}: {{}}}}}}\n"))
    assert member.folder.startswith("digits-L2-the-variant-with-a-very-long-name-that-says-it-all-and-then-s0-")

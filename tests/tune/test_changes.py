"""What a plan says of records that are not in it."""

import pytest

from tests.tune.planned import finish, plan_of, reading_of
from tune.plan.changes import MOST_FIELDS, differences

GRID = """
name: changed
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [8]}], inference: ladder}
training: {epochs: 200, batch_size: 128}
evaluation: {iw_samples: 5}
grid:
  variants:
    VAE: {model.inference: vae}
    Ladder: {}
    Tanh: {model.nonlinearity: tanh}
  seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
"""


@pytest.fixture
def finished(tmp_path):
    """A results folder with a finished grid of 33 members."""
    plan_of(GRID, tmp_path).prepare()
    for member in reading_of(GRID).members:
        finish(tmp_path, member)
    return tmp_path


def changed(*pairs):
    text = GRID
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


MORE_EPOCHS = ("epochs: 200", "epochs: 300")
OTHER = ("ladder}", "ladder, nonlinearity: relu}")


def notes(root, *pairs):
    return plan_of(changed(*pairs), root).notes


def test_an_unchanged_plan_has_no_notes(finished):
    assert notes(finished) == []
    assert notes(finished, ("[0, ", "[77, 0, ")) == []
    # Another evaluation of the same trainings leaves none of them out.
    assert notes(finished, ("iw_samples: 5", "iw_samples: 7")) == []


@pytest.mark.parametrize("has_grid", [True, False])
def test_what_became_of_a_grid_is_named_by_the_field_that_changed(finished, has_grid):
    """Whether the former grid says which member is which, or the nearest one is looked for."""
    if not has_grid:
        (finished / "grid.json").unlink()
    assert notes(finished, MORE_EPOCHS) == ["training.epochs 200 -> 300: 33 members continue"]
    # The variant that names its own nonlinearity is as it was.
    assert notes(finished, OTHER) == ["model.nonlinearity {leaky_relu: 0.1} -> relu: 22 members leave the tables"]


def test_several_fields_are_named_together_and_members_by_what_becomes_of_them(finished):
    assert notes(finished, MORE_EPOCHS, OTHER) == [
        "model.nonlinearity {leaky_relu: 0.1} -> relu, training.epochs 200 -> 300: 22 members leave the tables",
        "training.epochs 200 -> 300: 11 members continue",
    ]


def test_seeds_and_cells_that_are_left_out_are_said_to_be(finished):
    gone = "no longer in the grid (another seed, or a cell that is left out)"
    assert notes(finished, ("[0, 1, ", "[")) == [f"{gone}: 6 members leave the tables"]
    # Of a variant that is left out, the nearest one is named.
    assert notes(finished, ("    VAE: {model.inference: vae}\n", "")) == [
        "model.inference vae -> ladder: 11 members leave the tables"
    ]


def test_of_many_fields_the_first_are_named(finished):
    many = [
        ("batch_size: 128", "batch_size: 64, clip_norm: 1, clip_value: 2, last_batch: keep, matmul_precision: high"),
        MORE_EPOCHS,
    ]
    lines = notes(finished, *many)
    assert len(lines) == 1
    assert lines[0].endswith(f" and {6 - MOST_FIELDS} more fields: 33 members leave the tables")


def test_differences_are_the_fields_in_which_trees_differ():
    old = {"a": 1, "b": {"c": None, "d": [1.0, {"e": "x"}], "f": [{"g": 1}]}, "h": True}
    new = {"a": 1, "b": {"c": 2, "d": [0.5, {"e": "y"}], "f": [{"g": 1}, {"g": 2}]}, "h": False, "i": 3}
    assert list(differences(old, new)) == [
        "b.c null -> 2",
        "b.d.0 1 -> 0.5",
        "b.d.1.e x -> y",
        "b.f a list of 1 -> a list of 2",
        "h true -> false",
        "i null -> 3",
    ]
    assert list(differences(old, old)) == []

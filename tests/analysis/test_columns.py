"""Columns of settings beside the other columns of a frame."""

from keyword import iskeyword
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pandas as pd
import pytest

import analysis
from analysis import columns, frames
from analysis.html import run_info
from analysis.paper import published
from hvae_spec import registry
from hvae_spec.reading import read
from hvae_spec.spec.base import Fraction
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.spec.fields import PerMember
from tests.members import member
from tune.plan.grid_file import grid_file


def test_no_setting_and_no_other_quantity_of_members_share_a_column(results, small_spec, monkeypatch):
    results.grid(spec=small_spec, with_curves=False)
    monkeypatch.setattr(frames, "setting_columns", lambda entries: {})
    assert not set(analysis.load(results.root).members.columns) & {*columns.setting_fields(), "background"}


def test_what_was_measured_has_a_column_beside_what_was_asked_for(results, small_spec):
    results.grid(lambda member: results.result(member, iw_samples=77), spec=small_spec, with_curves=False)
    members = analysis.load(results.root).members
    assert set(members["iw_samples"]) == {77}
    assert set(members["planned_iw_samples"]) == {500}
    assert set(members["train_images"]) == {1437}
    assert members["train_images_limit"].isna().all()


def test_a_norm_has_one_column_in_whichever_form_it_is_given_and_that_of_its_short_form_stays():
    norms = {"model__batch_norm": True}, {"model__norm": "layer"}, {"model__norm": {"batch": {"heads": False}}}
    trees = [member(1, model__batch_norm=False), *(member(1, **norm) for norm in norms)]
    entries = [SimpleNamespace(spec=tree.model_dump(mode="json"), labels={}, planned=True) for tree in trees]
    found = columns.setting_columns([*entries, SimpleNamespace(spec={}, labels={"variant": "new"}, planned=True)])
    assert found["norm"] == ["none", "batch", "layer", '{"batch": {"heads": false}}', None]
    assert found["batch_norm"] == [False, True, False, False, None]
    # A record from before there was a long form.
    del entries[1].spec["model"]["norm"]
    assert columns.setting_columns(entries)["norm"][1] == "batch"
    assert [name for name in columns.setting_fields() if "norm" in name] == [
        "norm",
        "batch_norm_eps",
        "clip_norm",
        "batch_norm_statistics",
    ]


class Momentum(OptimizerSettings):
    """Gradient descent with momentum."""

    momentum: Annotated[Fraction, PerMember()] = 0.9
    """Decay rate of the velocity."""


class MomentumSection(OptimizerSection):
    """Gradient descent with momentum, by name."""

    momentum: Momentum
    """It and its settings."""


@pytest.fixture
def momentum():
    """An optimizer of a user's own, which joins after all columns have been asked for, for the time of a test."""
    assert "optimizer_momentum_momentum" not in {*columns.setting_fields(), *columns.sharing(), *run_info.listed()}
    OPTIMIZERS.add("momentum", Optimizer(MomentumSection(momentum=Momentum()), numbers_per_parameter=1))
    yield
    del OPTIMIZERS._items["momentum"]
    for forget in registry._FORGET:
        forget()


@pytest.mark.usefixtures("momentum")
def test_the_settings_of_a_choice_that_joins_later_have_columns_rows_and_marks(results, small_spec):
    optimizer = "Prob. ladder+BN+WU: {training.optimizer: {momentum: {lr: 0.1, momentum: 0.5}}}"
    results.grid(spec=small_spec.replace("Prob. ladder+BN+WU: {}", optimizer), with_curves=False)
    found = analysis.load(results.root)
    members = found.members[found.members["variant"] == "Prob. ladder+BN+WU"]
    assert set(members["optimizer_momentum_momentum"]) == {0.5}
    # The learning rate is that of whichever optimizer there is.
    assert set(members["learning_rate"]) == {0.1}
    assert members["background"].nunique() == 1
    heading, *rows = run_info.variant_settings(found)
    place = heading.index("optimizer momentum momentum")
    assert {row[0]: row[place] for row in rows} == {"VAE+BN+WU": "none", "Prob. ladder+BN+WU": "0.5"}
    found = published.differences(members.assign(dataset="mnist"), "Prob. ladder+BN+WU")
    differences = [one.text for one in found]
    assert "learning rate 0.1 (0.001)" in differences
    assert any("optimizer momentum momentum 0.5" in difference for difference in differences)


SHIPPED = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_column_is_an_attribute_and_is_there_once(path):
    loaded = planned(path)
    for each in (loaded, *loaded.grids):
        assert_attributes(each)


def planned(path):
    """The frames of a spec of which nothing has run, with one seed."""
    reading = read(path, ["grid.seeds=[0]"])
    specs = {member.folder: member.spec.model_dump(mode="json") for member in reading.members}
    return frames.load("nowhere", grid_file(reading, reading.members, {}), specs)


def assert_attributes(loaded):
    for frame in (loaded.members, loaded.epochs, loaded.units, loaded.bounds):
        columns = list(frame.columns)
        assert len(set(columns)) == len(columns)
        for column in columns:
            assert column.isidentifier(), column
            assert not iskeyword(column), column
            assert isinstance(getattr(frame, column), pd.Series), column


@pytest.mark.parametrize(
    ("axis", "column", "levels"),
    [
        # A setting of which the levels are the values has one column, in which they are what they are in the spec.
        ("training.batch_size: [32, 64]", "batch_size", [32, 64]),
        ("model.batch_norm: [true, false]", "batch_norm", [True, False]),
        ("model.norm: [none, batch, layer]", "norm", ["none", "batch", "layer"]),
        ("model.norm: [layer, {batch: {heads: false}}]", "norm_level", ["layer", "batch heads off"]),
        ("training.optimizer.adam.lr: [0.001, 0.0003]", "learning_rate", [0.001, 0.0003]),
        ("model.inference: [vae, ladder]", "inference", ["vae", "ladder"]),
        ("model.nonlinearity: [tanh, {leaky_relu: 0.2}]", "nonlinearity_level", ["tanh", "leaky relu 0.2"]),
        # Where null is a level, the setting keeps a column of its own.
        ("training.clip_norm: [null, 4.0]", "clip_norm_level", ["none", 4.0]),
        # What is no setting is named after its path below the section.
        ("model.layers.0.mlp: [[16], [16, 16]]", "layers_0_mlp", ["16", "16,16"]),
    ],
)
def test_an_axis_has_one_column_that_is_an_attribute(results, small_spec, axis, column, levels):
    plain = small_spec.partition("  variants:")[0]
    results.grid(spec=f"{plain}  axes: {{{axis}}}\n  seeds: [0]\n")
    loaded = analysis.load(results.root)
    assert loaded.factors == (column,)
    assert loaded.axes[column] == axis.partition(":")[0]
    assert_attributes(loaded)
    for frame in (loaded.members, loaded.epochs, loaded.units, loaded.bounds):
        assert list(dict.fromkeys(frame[column])) == levels
    if column == "clip_norm_level":
        setting = loaded.members[column.removesuffix("_level")]
        assert (setting.isna().sum(), setting.max()) == (1, 4.0)


def test_names_that_a_frame_has_already_are_no_columns_of_axes():
    levels = {"size": [1], "a.lambda": [1], "a.units": [1], "b.units": [1], "kl": [1], "two words": [1], "n": [1]}
    axes = frames._axes(levels, {"units": ["64"]}, {"depth"})
    assert axes == {
        "size_level": "size",
        "lambda_level": "a.lambda",
        "units_level": "a.units",
        "b_units_level": "b.units",
        "kl_level": "kl",
        "two_words": "two words",
        "n_level": "n",
    }

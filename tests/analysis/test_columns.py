"""Columns of settings beside the other columns of a frame."""

from typing import Annotated

import pytest

import analysis
from analysis import columns, frames
from analysis.html import run_info
from analysis.paper import published
from hvae_spec import registry
from hvae_spec.spec.base import Fraction
from hvae_spec.spec.choices.optimizer import OPTIMIZERS, Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.spec.fields import PerMember


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


class Momentum(OptimizerSettings):
    """Gradient descent with momentum."""

    momentum: Annotated[Fraction, PerMember()] = 0.9
    """Decay rate of the velocity."""


class MomentumSection(OptimizerSection):
    """Gradient descent with momentum, by name."""

    sgd: Momentum
    """It and its settings."""


@pytest.fixture
def sgd():
    """An optimizer of a user's own, which joins after all columns have been asked for, for the time of a test."""
    assert "optimizer_sgd_momentum" not in {*columns.setting_fields(), *columns.sharing(), *run_info.listed()}
    OPTIMIZERS.add("sgd", Optimizer(MomentumSection(sgd=Momentum()), numbers_per_parameter=1))
    yield
    del OPTIMIZERS._items["sgd"]
    for forget in registry._FORGET:
        forget()


@pytest.mark.usefixtures("sgd")
def test_the_settings_of_a_choice_that_joins_later_have_columns_rows_and_marks(results, small_spec):
    optimizer = "Prob. ladder+BN+WU: {training.optimizer: {sgd: {lr: 0.1, momentum: 0.5}}}"
    results.grid(spec=small_spec.replace("Prob. ladder+BN+WU: {}", optimizer), with_curves=False)
    found = analysis.load(results.root)
    members = found.members[found.members["variant"] == "Prob. ladder+BN+WU"]
    assert set(members["optimizer_sgd_momentum"]) == {0.5}
    # The learning rate is that of whichever optimizer there is.
    assert set(members["learning_rate"]) == {0.1}
    assert members["background"].nunique() == 1
    heading, *rows = run_info.variant_settings(found)
    place = heading.index("optimizer sgd momentum")
    assert {row[0]: row[place] for row in rows} == {"VAE+BN+WU": "none", "Prob. ladder+BN+WU": "0.5"}
    differences = published.unlike(members.assign(dataset="mnist"), "Prob. ladder+BN+WU")
    assert "learning rate 0.1 (0.001)" in differences
    assert "optimizer sgd momentum 0.5" in differences[-1]

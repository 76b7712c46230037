"""Columns of settings beside the other columns of a frame."""

import analysis
from analysis import columns, frames


def test_no_setting_and_no_other_quantity_of_members_share_a_column(results, small_spec, monkeypatch):
    results.grid(spec=small_spec, with_curves=False)
    monkeypatch.setattr(frames, "setting_columns", lambda entries: {})
    assert not set(analysis.load(results.root).members.columns) & {*columns.SETTINGS, "background"}


def test_what_was_measured_has_a_column_beside_what_was_asked_for(results, small_spec):
    results.grid(lambda member: results.result(member, iw_samples=77), spec=small_spec, with_curves=False)
    members = analysis.load(results.root).members
    assert set(members["iw_samples"]) == {77}
    assert set(members["planned_iw_samples"]) == {500}
    assert set(members["train_images"]) == {1437}
    assert members["train_images_limit"].isna().all()

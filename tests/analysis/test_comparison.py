"""Two results beside each other."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.comparison import compare
from hvae_spec.errors import UserError
from tests.analysis.conftest import Writer
from tests.analysis.test_folders import SPEC, folder  # noqa: F401 - a fixture


def spec(seeds="[0, 1, 2]", epochs=2, axes="", variants=None):
    text = SPEC.replace("seeds: [0, 1]", f"seeds: {seeds}").replace("epochs: 2", f"epochs: {epochs}")
    text = text if variants is None else text.replace("VAE+BN: {}", variants)
    return text + (f"  axes: {{{axes}}}\n" if axes else "")


def numbers(*values):
    """Outcomes by seed."""
    return lambda member: None if values[member.seed] is None else Writer.result(member, values[member.seed])


@pytest.fixture
def two(folder):  # noqa: F811
    """Two folders whose cells differ in the epochs."""

    def write(first, second, one=None, other=None):
        return folder("a", one or spec(), first), folder("b", other or spec(epochs=3), second)

    return write


def test_differences_are_paired_by_seed_with_students_interval(two):
    a, b = (-80.0, -82.0, -81.0), (-79.0, -80.5, -80.2)
    found = analysis.compare(*two(numbers(*a), numbers(*b)))
    rows = found.differences.query("quantity == 'test_log_likelihood'")
    assert list(rows["variant"]) == ["VAE", "VAE+BN"]
    row = rows.iloc[0]
    exact = stats.ttest_rel(b, a)
    interval = exact.confidence_interval(0.95)
    assert (row["a"], row["b"]) == (pytest.approx(np.mean(a)), pytest.approx(np.mean(b)))
    assert row["difference"] == pytest.approx(np.mean(b) - np.mean(a))
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert row["se"] == pytest.approx((np.mean(b) - np.mean(a)) / exact.statistic)
    assert (row["n"], row["df"], row["planned"], row["diverged"], row["same"]) == (3, 2, 3, 0, 0)
    assert list(found.differences["quantity"].unique()) == ["test_log_likelihood", "test_elbo", "active_units"]


def test_what_differs_is_named_cell_by_cell(two):
    def noticed(member):
        return Writer.result(member, data=Writer.data(train_images=1000))

    other = spec(epochs=3, variants="VAE+BN: {training.batch_size: 16}")
    found = analysis.compare(*two(noticed, Writer.result, other=other))
    rows = found.settings.set_index(["variant", "setting"])[["a", "b"]].T.to_dict("list")
    assert rows == {
        ("VAE", "planned_epochs"): [2, 3],
        ("VAE", "train_images"): [1000, 1437],
        ("VAE+BN", "batch_size"): [32, 16],
        ("VAE+BN", "planned_epochs"): [2, 3],
        ("VAE+BN", "train_images"): [1000, 1437],
    }


def test_members_of_both_and_of_one(two):
    one, other = two(numbers(-80.0, -80.0, None), Writer.result, other=spec("[2, 3]", variants="normal: {}"))
    found = compare(analysis.load(one), other)
    members = found.members.set_index(["variant", "seed"])
    assert members.index.is_unique
    assert members["where"].to_dict() == {
        **{(variant, seed): "a" for variant in ("VAE", "VAE+BN") for seed in (0, 1)},
        **{(variant, 2): "both" for variant in ("VAE", "VAE+BN")},
        **{("VAE", 3): "b", ("normal", 3): "b"},
    }
    assert list(members.loc[("VAE", 2), ["status_a", "status_b"]]) == ["pending", "finished"]
    assert members.loc[("VAE", 3), ["status_a"]].isna().all()
    # Cells have the same name: one, of which the seed that both have is not finished in both.
    assert list(found.differences["variant"].unique()) == ["VAE"]
    row = found.differences.iloc[0]
    assert (row["n"], row["planned"], row["same"]) == (0, 1, 1)
    assert row[["difference", "se", "low", "high"]].isna().all()
    assert found.settings.empty


def test_one_pair_has_no_interval_and_diverged_members_are_counted(two):
    def second(member):
        return Writer.diverged(member) if member.seed else Writer.result(member, -79.0)

    found = analysis.compare(*two(numbers(-80.0, -80.0, -80.0), second))
    row = found.differences.iloc[0]
    assert (row["difference"], row["n"], row["df"], row["planned"], row["diverged"]) == (1, 1, 0, 3, 2)
    assert row[["se", "low", "high", "sd"]].isna().all()


def test_axes_make_cells_and_a_grid_without_one_has_a_place_on_it(two):
    one = spec("[0, 1]", axes="training.batch_size: [32, 16], training.clip_norm: [null, 4.0]")

    def by_size(member):
        return Writer.result(member, -80.0 - member.spec.training.batch_size - member.seed)

    found = analysis.compare(*two(by_size, numbers(-100.0, -101.0), one, spec("[0, 1]")))
    rows = found.differences.query("quantity == 'test_log_likelihood'")
    assert rows[["batch_size", "clip_norm_level", "difference", "same"]].values.tolist() == 2 * [[32, "none", 12.0, 2]]
    # All seeds differ by the same.
    assert rows[["low", "high"]].values.tolist() == 2 * [[12.0, 12.0]]
    assert found.settings.empty
    assert len(found.members) == 16
    assert found.members["where"].value_counts().to_dict() == {"a": 12, "both": 4}


def test_grids_of_several_folders_are_compared_by_their_names(folder):  # noqa: F811
    small, other = (
        folder("a", spec("[0, 1]")),
        folder("b", spec("[0, 1]", epochs=3).replace("name: mini", "name: more")),
    )
    both = analysis.load(small, other)
    alone = analysis.load(folder("c", spec("[0, 1]", epochs=4).replace("name: mini", "name: more")))
    found = analysis.compare(both, alone)
    rows = found.settings[["grid", "variant", "setting", "a", "b"]].values.tolist()
    assert rows == [["more", variant, "planned_epochs", 3, 4] for variant in ("VAE", "VAE+BN")]
    assert set(found.differences["grid"]) == {"more"}
    assert found.members["where"].value_counts().to_dict() == {"a": 8, "b": 4}


def test_results_without_a_cell_in_common_have_empty_frames_of_the_same_columns(two):
    paths = two(Writer.result, Writer.result)
    found = analysis.compare(*paths)
    other = analysis.load(paths[1])
    nothing = compare(paths[0], other.select(pd.Series(False, index=other.members.index)))
    for name in ("settings", "differences"):
        assert getattr(nothing, name).empty
        assert list(getattr(nothing, name).columns) == list(getattr(found, name).columns)
    assert set(nothing.members["where"]) == {"a"}


def test_a_quantity_that_is_none_is_refused(two):
    with pytest.raises(UserError, match="members have no column 'elbo' to compare; expected such as test_log"):
        compare(*two(Writer.result, Writer.result), quantities=["elbo"])

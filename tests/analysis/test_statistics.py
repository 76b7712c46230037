import math
import statistics as exact

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.statistics import by_layer, cells, mean_over_seeds, monte_carlo_error

finite = st.floats(-1e4, 1e4).map(lambda value: round(value, 6))


def test_mean_and_standard_error_by_hand():
    frame = pd.DataFrame({"cell": ["a", "a", "a", "b"], "y": [-82.0, -83.0, -81.5, 7.0]})
    a, b = mean_over_seeds(frame, ["cell"], "y").to_dict("records")
    # mean -82.1667; squared deviations 0.02778, 0.69444, 0.44444 add to 7/6; se^2 = (7/6) / (3 * 2)
    assert a["mean"] == pytest.approx(-82 - 1 / 6)
    assert a["se"] == pytest.approx(math.sqrt(7 / 36))
    assert a["n"] == 3
    assert (b["mean"], b["n"]) == (7.0, 1)
    assert math.isnan(b["se"])


@given(st.lists(finite, min_size=2, max_size=12), finite)
def test_mean_and_standard_error_against_exact_arithmetic(values, shift):
    (row,) = mean_over_seeds(pd.DataFrame({"cell": 1, "y": values}), ["cell"], "y").to_dict("records")
    assert row["mean"] == pytest.approx(exact.fmean(values), abs=1e-8)
    assert row["se"] == pytest.approx(exact.stdev(values) / math.sqrt(len(values)), rel=1e-6, abs=1e-6)
    shifted = pd.DataFrame({"cell": 1, "y": [v + shift for v in values]})
    (moved,) = mean_over_seeds(shifted, ["cell"], "y").to_dict("records")
    assert moved["mean"] == pytest.approx(row["mean"] + shift, abs=1e-7)
    assert moved["se"] == pytest.approx(row["se"], rel=1e-5, abs=1e-5)


def members(*rows):
    frame = pd.DataFrame(rows, columns=["depth", "variant", "status", "test_log_likelihood"])
    names = list(dict.fromkeys(frame["variant"]))
    return frame.assign(variant=pd.Categorical(frame["variant"], categories=names), data_canonical=None)


def test_only_finished_members_are_averaged_and_all_are_counted():
    table = cells(
        members(
            (1, "A", "finished", -80.0),
            (1, "A", "finished", -82.0),
            (1, "A", "diverged", -9.0),  # a number left in a diverged record enters no mean
            (1, "A", "failed", math.nan),
            (1, "A", "pending", math.nan),
            (1, "B", "diverged", math.nan),
            (2, "A", "running", math.nan),
            (2, "A", "finished", -79.0),
        ),
        ["depth", "variant"],
    )
    first, second, third = table.to_dict("records")
    assert (first["mean"], first["se"], first["n"], first["planned"]) == (-81.0, 1.0, 2, 5)
    assert [first[key] for key in ("finished", "diverged", "failed", "running", "pending")] == [2, 1, 1, 0, 1]
    assert (second["n"], second["planned"], second["diverged"]) == (0, 1, 1)
    assert math.isnan(second["mean"])
    assert (third["mean"], third["n"], third["planned"], third["running"]) == (-79.0, 1, 2, 1)
    assert math.isnan(third["se"])


def test_the_data_of_a_cell_are_canonical_if_those_of_all_members_are_as_far_as_known():
    rows = [(depth, "A", "finished", -80.0) for depth in (1, 2, 3) for _ in range(3)]
    known = [True, True, None, True, False, None, None, None, None]
    table = cells(members(*rows).assign(data_canonical=known), ["depth", "variant"])
    assert table["data_canonical"].tolist() == [True, False, None]


def test_a_finished_member_without_the_quantity_is_not_in_n():
    (row,) = cells(members((1, "A", "finished", -80.0), (1, "A", "finished", math.nan)), ["depth", "variant"]).to_dict(
        "records"
    )
    assert (row["n"], row["finished"], row["planned"]) == (1, 2, 2)


def test_a_grid_with_nothing_finished_has_cells_without_means():
    table = cells(members((1, "A", "pending", math.nan), (1, "B", "pending", math.nan)), ["depth", "variant"])
    assert list(table["n"]) == [0, 0]
    assert table["mean"].isna().all()


def test_seeds_of_different_places_on_an_axis_are_never_pooled(results, spec):
    def outcome(member):
        return results.result(member, -80.0 if member.spec.training.batch_size == 32 else -90.0)

    results.grid(outcome, spec=spec + "  axes: {training.batch_size: [32, 64]}\n", with_curves=False)
    frames = analysis.load(results.root)
    table = cells(frames.members, ["dataset", *frames.factors, "depth", "variant"])
    assert len(table) == 22
    assert set(zip(table["batch_size"], table["mean"], table["se"], table["n"], strict=True)) == {
        (32, -80.0, 0.0, 3),
        (64, -90.0, 0.0, 3),
    }


def test_active_units_by_layer_and_in_total(results):
    def outcome(member):
        layers = [4 + member.seed, 2, 0][: member.labels["depth"]]
        return results.result(member, active_units_per_layer=layers, active_units=sum(layers))

    results.grid(outcome, with_curves=False)
    table = by_layer(analysis.load(results.root).members, ["depth", "variant"], "active_units")
    own = table[(table["depth"] == 3) & (table["variant"] == "VAE")].set_index("layer")
    assert list(own.index) == ["1", "2", "3", "total"]
    assert list(own["mean"]) == [5.0, 2.0, 0.0, 7.0]
    assert own.loc["1", "se"] == pytest.approx(1 / math.sqrt(3))
    assert list(own["n"]) == [3] * 4
    assert list(table.loc[table["depth"] == 1, "layer"].unique()) == ["1", "total"]


def test_the_monte_carlo_error_of_a_mean_is_that_of_independent_draws():
    frame = pd.DataFrame(
        {"status": ["finished", "finished", "diverged"], "test_log_likelihood_mc_se": [0.03, 0.04, 9.0]}
    )
    assert monte_carlo_error(frame) == pytest.approx(0.05 / 2)
    assert math.isnan(monte_carlo_error(frame[2:]))
    assert math.isnan(monte_carlo_error(frame.assign(test_log_likelihood_mc_se=[0.03, math.nan, 9.0])))

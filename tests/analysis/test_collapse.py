import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis import tables
from analysis.frames import Frames
from analysis.statistics import layer_activity

ALIVE, DEAD = [0.5, 0.001], [0.001, 0.002]


@pytest.fixture
def write(results, small_spec):
    """Write a grid of one variant at depth 2 from the KL of its members' layers at epochs 10, 20, ..., the last of them
    by the final evaluation where there is one.
    """

    def writer(*members, outcome=None, with_point_at_the_end=False):
        spec = small_spec.replace("seeds: [0, 1, 2]", f"seeds: {list(range(len(members)))}")
        spec = spec.replace(
            "[{variant: VAE}, {variant: VAE+BN}]", "[{variant: VAE}, {variant: VAE+BN}, {variant: VAE+BN+WU}]"
        )
        spec = spec.replace("epochs: 10,", f"epochs: {10 * max(map(len, members)) or 10},")
        planned = results.plan(spec)
        for member, evaluations in zip(planned, members, strict=True):
            result = (outcome or results.result)(member)
            rows = [
                {"format": 1, "epoch": 10 * place, "kl": kl, "kl_se": [[0.0] * len(layer) for layer in kl]}
                for place, kl in enumerate(evaluations, start=1)
            ]
            if result["status"] == "finished":
                final = rows.pop() if rows else {"kl": None, "kl_se": None}
                result |= {"unit_kl": final["kl"], "unit_kl_se": final["kl_se"]}
                if with_point_at_the_end and rows:
                    rows.append({**final, "kl": [ALIVE, ALIVE]})
            results.record(member, result, with_curves=False)
            results.record_of(member).write_curves([], rows)
        return analysis.load(results.root)

    return writer


def test_the_epoch_from_which_a_layer_stays_dead(write):
    frames = write([[ALIVE, ALIVE], [ALIVE, DEAD], [ALIVE, ALIVE], [ALIVE, DEAD], [ALIVE, DEAD]])
    first, second = layer_activity(frames).to_dict("records")
    assert (first["layer"], first["dead"], first["active"], first["revived"]) == (1, False, 1, 0)
    assert np.isnan(first["died"])
    assert (second["layer"], second["dead"], second["died"], second["revived"]) == (2, True, 40.0, 1)
    assert (second["most_active"], second["last_epoch"], second["evaluations"]) == (1, 50, 5)


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_death_against_a_search_through_all_epochs(alive):
    labels = {"dataset": "digits", "depth": 1, "variant": "A", "seed": 0, "digest": "d"}
    members = pd.DataFrame([{**labels, "status": "finished", "planned": True, "data_canonical": True}])
    members["variant"] = pd.Categorical(members["variant"])
    units = pd.DataFrame(
        [
            {**labels, "epoch": place, "layer": 1, "unit": unit, "kl": 1.0, "active": active and unit == 2}
            for place, active in enumerate(alive, start=1)
            for unit in (1, 2)
        ]
    )
    units["variant"] = pd.Categorical(units["variant"])
    (row,) = layer_activity(Frames("x", {}, members, units, units, units)).to_dict("records")
    deaths = [place for place in range(1, len(alive) + 1) if not any(alive[place - 1 :])]
    assert row["dead"] == (not alive[-1])
    assert row["died"] == min(deaths) if deaths else np.isnan(row["died"])
    assert row["revived"] == sum(not a and b for a, b in itertools.pairwise(alive))


def test_a_cell_says_how_many_members_lost_a_layer_and_when(write):
    frames = write(
        [[ALIVE, DEAD], [ALIVE, DEAD], [ALIVE, DEAD]],
        [[ALIVE, ALIVE], [ALIVE, ALIVE], [ALIVE, DEAD]],
        [[ALIVE, ALIVE], [ALIVE, ALIVE], [ALIVE, ALIVE]],
    )
    (table,) = tables.collapse(frames).tables
    name = "Prob. ladder+BN+WU"
    assert table.cells["z_1", name].text() == "0/3"
    assert table.cells["z_2", name].text() == "2/3 since 10–30"
    assert (table.rows, table.columns) == (("z_1", "z_2"), (name,))
    assert "$z_2$ & 2/3 since 10--30 \\\\" in tables.latex([table], "collapse")


def test_members_that_have_not_finished_are_described_but_in_no_cell(write, results):
    frames = write(
        [[ALIVE, DEAD]],
        [[ALIVE, DEAD]],
        outcome=lambda member: results.diverged(member) if member.seed else results.result(member),
    )
    assert layer_activity(frames)["status"].tolist() == ["finished", "finished", "diverged", "diverged"]
    (table,) = tables.collapse(frames).tables
    assert table.cells["z_2", "Prob. ladder+BN+WU"].text() == "1/1 since 10"
    assert "Diverged and failed members are excluded from the means." in table.footnotes


@pytest.mark.parametrize("with_point_at_the_end", [False, True])
def test_at_the_last_epoch_the_final_evaluation_says_whether_a_layer_is_dead(write, with_point_at_the_end):
    """Also where the test curve has a point there, which need not agree: it is of fewer samples."""
    frames = write([[ALIVE, ALIVE], [ALIVE, DEAD], [ALIVE, DEAD]], with_point_at_the_end=with_point_at_the_end)
    first, second = layer_activity(frames).to_dict("records")
    assert (first["last_epoch"], first["evaluations"], first["dead"]) == (30, 3, False)
    assert (second["last_epoch"], second["evaluations"], second["dead"], second["died"]) == (30, 3, True, 20.0)


def test_records_without_units_make_no_table(write):
    frames = write([], [])
    assert layer_activity(frames).empty
    assert tables.collapse(frames).tables == ()


def test_members_that_lost_a_layer_at_one_epoch_have_no_range_of_epochs(write):
    frames = write([[ALIVE, DEAD], [ALIVE, DEAD]], [[ALIVE, DEAD], [ALIVE, DEAD]])
    (table,) = tables.collapse(frames).tables
    assert table.cells["z_2", "Prob. ladder+BN+WU"].text() == "2/2 since 10"


def test_every_layer_is_left_out_of_the_variants_alone_that_have_no_unit_kl_there(results, small_spec):
    without = {"VAE": {2}, "VAE+BN": {1, 2}, "VAE+BN+WU": {2}}

    def outcome(member):
        layers = enumerate(member.spec.model.layers, start=1)
        none = without.get(member.labels["variant"], set())
        kl = [[1.0] if layer in none else [1.0] * own.units for layer, own in layers]
        return results.result(member, unit_kl=kl, unit_kl_se=kl)

    spec = small_spec.replace("  exclude: [{variant: VAE}, {variant: VAE+BN}]\n", "")
    results.grid(outcome, spec=spec, with_curves=False)
    (table,) = tables.collapse(analysis.load(results.root)).tables
    said = " ".join(table.footnotes)
    assert "Left out: z_2 (VAE, VAE+BN+WU); z_1, z_2 (VAE+BN)." in said
    assert ("z_1", "VAE") in table.cells
    assert ("z_2", "Prob. ladder+BN+WU") in table.cells


def test_of_a_layer_whose_units_have_no_kl_of_their_own_nothing_is_said(write):
    frames = write([[[0.3], ALIVE], [[0.002], DEAD]])
    of_layer = frames.units[frames.units["layer"] == 1]
    assert of_layer[["epoch", "unit", "kl"]].to_numpy().tolist() == [[10, 0, 0.3], [20, 0, 0.002]]
    assert of_layer["active"].isna().all()
    assert frames.units[frames.units["layer"] == 2]["active"].tolist() == [True, False, False, False]
    (second,) = layer_activity(frames).to_dict("records")
    assert (second["layer"], second["dead"]) == (2, True)
    (table,) = tables.collapse(frames).tables
    assert table.rows == ("z_2",)
    assert "Left out: z_1 (Prob. ladder+BN+WU)." in " ".join(table.footnotes)

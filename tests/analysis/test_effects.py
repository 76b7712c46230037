import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import analysis
from analysis import figures, tables
from analysis.columns import FACTORS
from analysis.figures import FIGURES, drawing
from analysis.figures.descriptions import caption
from analysis.statistics import holm, paired_effects
from hvae_spec.spec.choices.inference import INFERENCES, Ladder

SPEC = """
name: small
data: {dataset: digits}
model:
  layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]
  inference: ladder
  batch_norm: true
objective: {warm_up: 2}
training: {epochs: 4, batch_size: 32}
grid:
  depth: [1, 2]
  variants:
    plain: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    normal: {model.inference: vae, objective.warm_up: 0}
    warm: {model.inference: vae}
    ladder: {}
  exclude: [{variant: ladder, depth: 1}]
  seeds: [0, 1, 2, 3]
"""


def value(member):
    """Some number that differs from member to member."""
    return -90 + 3 * len(member.labels["variant"]) + math.sin(1000 * len(member.labels["variant"]) + 7 * member.seed)


def outcome(results):
    return lambda member: results.result(member, value(member))


def rows(results, quantity="test_log_likelihood"):
    table = paired_effects(analysis.load(results.root), quantity)
    return {(row["effect"], row["depth"]): row for row in table.to_dict("records")}


def simple_effects(results):
    """The table of the simple effects on the test log-likelihood."""
    found = tables.paired_effects(analysis.load(results.root)).tables
    return next(table for table in found if table.quantity.startswith("Simple effects on the test log-likelihood"))


def test_effects_are_those_of_a_paired_t_test_on_the_records(results):
    planned = results.grid(outcome(results), spec=SPEC, with_curves=False)
    found = rows(results)
    pairs = {"batch normalization": ("plain", "normal"), "warm-up": ("normal", "warm"), "ladder": ("warm", "ladder")}
    assert set(found) == {(effect, depth) for effect in pairs for depth in (1, 2)} - {("ladder", 1)}
    for (effect, depth), row in found.items():
        without, with_ = (
            [value(member) for member in planned if (member.labels["variant"], member.labels["depth"]) == (name, depth)]
            for name in pairs[effect]
        )
        test = stats.ttest_rel(with_, without)
        interval = test.confidence_interval(0.95)
        assert (row["without"], row["with"], row["n"], row["planned"]) == (*pairs[effect], 4, 4)
        assert row["mean"] == pytest.approx(np.mean(with_) - np.mean(without))
        assert row["p"] == pytest.approx(test.pvalue)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    # The smallest of five p values is multiplied by five.
    least = min(found.values(), key=lambda row: row["p"])
    assert least["p_holm"] == pytest.approx(5 * least["p"])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holms_correction_is_the_closed_test_of_bonferronis(p):
    subsets = [subset for size in range(1, len(p) + 1) for subset in itertools.combinations(range(len(p)), size)]
    closed = [
        max(min(1, len(subset) * min(p[place] for place in subset)) for subset in subsets if index in subset)
        for index in range(len(p))
    ]
    assert holm(np.array(p)).tolist() == pytest.approx(closed)


def test_what_was_not_tested_does_not_count_in_the_correction():
    assert holm(np.array([0.01, math.nan, 0.04])).tolist() == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert np.isnan(holm(np.array([math.nan]))).all()


def test_pairs_with_a_lost_member_are_dropped_and_counted(results):
    def lossy(member):
        key = (member.labels["variant"], member.seed)
        if key in (("warm", 0), ("normal", 1)):
            return results.diverged(member)
        return None if key == ("warm", 2) else results.result(member, value(member))

    planned = results.grid(lossy, spec=SPEC, with_curves=False)
    row = rows(results)["warm-up", 2]
    assert (row["n"], row["planned"], row["diverged"]) == (1, 4, 2)
    single = {m.labels["variant"]: value(m) for m in planned if m.seed == 3 and m.labels["depth"] == 2}
    assert row["mean"] == pytest.approx(single["warm"] - single["normal"])
    assert np.isnan([row[key] for key in ("se", "low", "high", "p", "p_holm")]).all()
    row = rows(results)["batch normalization", 1]
    assert (row["n"], row["diverged"]) == (3, 1)
    table = simple_effects(results)
    column = "warm-up: normal → warm"
    assert table.cells["2", column].text() == f"{single['warm'] - single['normal']:+.2f} (1/4), diverged 2"
    assert "A single pair has no interval." in table.footnotes


def test_cells_that_have_not_begun_are_known_by_another_depth(results):
    def shallow(member):
        return outcome(results)(member) if member.labels["depth"] == 2 else None

    results.grid(shallow, spec=SPEC, with_curves=False)
    found = rows(results)
    # The ladder adds nothing to a single layer, and is not in the grid there.
    assert {key for key in found if key[1] == 1} == {("batch normalization", 1), ("warm-up", 1)}
    assert (found["warm-up", 1]["n"], found["warm-up", 1]["planned"]) == (0, 4)
    table = simple_effects(results)
    assert table.cells["1", "warm-up: normal → warm"].text() == "0/4"
    assert ("1", "ladder: warm → ladder") not in table.cells


def test_single_layers_do_not_show_which_variants_are_ladders(results):
    spec = SPEC.replace("exclude: [{variant: ladder, depth: 1}]", "exclude: [{variant: warm, depth: 1}]")
    results.grid(lambda member: outcome(results)(member) if member.labels["depth"] == 1 else None, spec=spec)
    # From their single layers, ladder and normal would differ in the warm-up alone.
    assert {depth for _, depth in rows(results)} == {1}


def test_one_seed_gives_differences_without_intervals(results):
    results.grid(outcome(results), spec=SPEC.replace("[0, 1, 2, 3]", "[0]"), with_curves=False)
    frames = analysis.load(results.root)
    table = paired_effects(frames)
    assert (table["n"] == 1).all()
    assert table["mean"].notna().all()
    assert table[["se", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert "p =" not in tables.markdown(tables.paired_effects(frames).tables)


def test_pairs_that_are_all_alike_claim_no_certainty(results):
    results.grid(
        lambda member: results.result(member, -80.0 - len(member.labels["variant"])), spec=SPEC, with_curves=False
    )
    row = rows(results)["warm-up", 2]
    assert (row["mean"], row["se"], row["n"]) == (2.0, 0.0, 4)
    assert np.isnan([row[key] for key in ("low", "high", "p", "p_holm")]).all()
    assert rows(results, "active_units")["warm-up", 2]["mean"] == 0


def test_variants_that_differ_in_more_than_one_factor_make_no_pair(results):
    spec = SPEC.replace("    warm: {model.inference: vae}", "    warm: {model.inference: vae, training.batch_size: 64}")
    results.grid(outcome(results), spec=spec, with_curves=False)
    assert {effect for effect, _ in rows(results)} == {"batch normalization"}


class Merged(Ladder):
    label, short = "Merged", "merged"


def test_an_inference_model_that_the_paper_does_not_have_is_no_ladder(results, monkeypatch):
    monkeypatch.setitem(INFERENCES._items, "merged", Merged())
    # Merged with warm-up differs from `normal` in the warm-up and in q(z|x), and from `warm` in q(z|x).
    spec = SPEC.replace("    ladder: {}", "    merged: {model.inference: merged}").replace(
        "variant: ladder", "variant: merged"
    )
    results.grid(outcome(results), spec=spec, with_curves=False)
    found = rows(results)
    steps = {(row["effect"], row["without"], row["with"]) for row in found.values()}
    assert steps == {
        ("batch normalization", "plain", "normal"),
        ("warm-up", "normal", "warm"),
        ("inference model", "warm", "merged"),
    }


def test_variants_of_one_other_inference_model_have_the_effects_of_the_other_factors(results, monkeypatch):
    monkeypatch.setitem(INFERENCES._items, "merged", Merged())
    results.grid(outcome(results), spec=SPEC.replace("inference: vae", "inference: merged"), with_curves=False)
    # The ladder is no step from it, but another inference model.
    assert {effect for effect, _ in rows(results)} == {"batch normalization", "warm-up", "inference model"}


def test_any_setting_in_which_variants_differ_alone_has_effects(results):
    spec = SPEC.split("grid:", maxsplit=1)[0] + "grid: {seeds: [0, 1], variants: {a: {}, b: {training.batch_size: 64}}}"
    results.grid(outcome(results), spec=spec, with_curves=False)
    (row,) = paired_effects(analysis.load(results.root)).to_dict("records")
    assert (row["effect"], row["factor"], row["reference"], row["level"]) == (
        *("batch size", "training.batch_size"),
        *(32, 64),
    )
    assert (row["without"], row["with"], row["n"]) == ("a", "b", 2)


def test_a_grid_whose_variants_differ_in_two_settings_has_no_effects(results):
    variants = "{a: {}, b: {training.batch_size: 64, training.epochs: 5}}"
    spec = SPEC.split("grid:", maxsplit=1)[0] + f"grid: {{seeds: [0, 1], variants: {variants}}}"
    results.grid(spec=spec, with_curves=False)
    frames = analysis.load(results.root)
    assert paired_effects(frames).empty
    assert tables.paired_effects(frames).tables == ()


def test_simple_effects_of_all_places_are_one_family(results):
    results.grid(outcome(results), spec=SPEC + "  axes: {training.batch_size: [32, 64]}\n", with_curves=False)
    table = paired_effects(analysis.load(results.root))
    # Five at each batch size, and one of the batch size for each of the seven cells.
    assert (len(table), set(table["family"]), set(table["family_size"])) == (17, {"simple effects"}, {10})
    assert table["p_holm"].dropna().tolist() == holm(table["p"].dropna().to_numpy()).tolist()


AXES = """
name: axes
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]}
training: {epochs: 4, batch_size: 32}
grid:
  variants: {V: {}}
  axes: {model.batch_norm: [false, true], objective.warm_up: [0, 2], training.batch_size: [32, 64]}
  seeds: [0, 1, 2]
"""


def test_factors_that_are_axes_have_effects_and_ranks_too(results):
    def number(member):
        model, training = member.spec.model, member.spec.training
        return -80 + 3 * model.batch_norm + member.spec.objective.warm_up + 0.1 * member.seed * training.batch_size

    results.grid(lambda member: results.result(member, number(member)), spec=AXES, with_curves=False)
    frames = analysis.load(results.root)
    table = paired_effects(frames)
    sizes = table[table["effect"] == "batch size"]
    assert set(sizes["place"]) == set(sizes["without"]) == set(sizes["with"])
    assert sizes["mean"].tolist() == pytest.approx([0.1 * 32] * 4)
    table = table[table["effect"] != "batch size"]
    assert set(table["batch_size"]) == {32, 64}
    assert not {"model.batch_norm", "objective.warm_up"} & set(table)
    one = table[table["batch_size"] == 32]
    names = [f"V, batch norm {norm}, warm-up {warm_up}" for norm in ("off", "on") for warm_up in (0, 2)]
    found = {(row["without"], row["with"]): (row["effect"], row["mean"]) for row in one.to_dict("records")}
    assert found == {
        (names[0], names[1]): ("warm-up", pytest.approx(2)),
        (names[2], names[3]): ("warm-up", pytest.approx(2)),
        (names[0], names[2]): ("batch normalization", pytest.approx(3)),
        (names[1], names[3]): ("batch normalization", pytest.approx(3)),
    }
    # On each of two quantities.
    assert len(tables.paired_effects(frames).tables) == 2 * 2
    (ranking,) = tables.ranking(frames).tables
    assert (ranking.row_heading, ranking.rows, ranking.columns) == ("L, batch", ("2, 32", "2, 64"), tuple(names))
    assert [ranking.cells["2, 64", name].text()[0] for name in names] == ["4", "3", "2", "1"]


def test_figures_of_factors_that_are_axes(results, monkeypatch):
    monkeypatch.setattr(drawing, "FIGURES", {"paired_effects": FIGURES["paired_effects"]})
    results.grid(spec=AXES, with_curves=False)
    frames = analysis.load(results.root)
    (drawn,) = drawing.render(frames)
    assert (drawn.stem, drawn.group) == ("paired_effects", "digits")
    variants = frames.as_variants(FACTORS)
    assert variants.factors == ("batch_size",)
    assert [list(frame["variant"].cat.categories) for frame in (variants.members, variants.bounds)] == 2 * [
        list(dict.fromkeys(variants.members["variant"]))
    ]
    assert frames.as_variants(["data.redraw"]) is frames


def test_text_of_an_effect(results):
    results.grid(outcome(results), spec=SPEC, with_curves=False)
    table = simple_effects(results)
    row = rows(results)["ladder", 2]
    text = table.cells["2", "ladder: warm → ladder"].text()
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    assert text == f"{row['mean']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] (4), {p} (of 5)"
    latex = tables.latex([table], "effects")
    assert f"${row['mean']:+.2f}$" in latex
    assert r"warm $\to$ ladder" in latex
    assert latex.isascii()


GRID_OF_FLOWS = """name: flows
data: {dataset: digits}
model:
  layers: [{units: 8, mlp: [16]}, {units: 4, mlp: [8]}]
training: {epochs: 2, batch_size: 20}
grid:
  variants: {VAE: {}}
  axes: {objective.warm_up: [0, 2], FLOWS}
  seeds: [0, 1]
"""
FLOW = "model.flow: [none, planar]"
PRIOR = "model.prior: [{vamp: 5}, {mixture: 5}]"


def of_flows(results, axis, is_counted):
    """A grid over an axis beside warm-up, with a number of active units where that is known."""

    def outcome(member):
        known = {} if is_counted(member.spec.model) else {"active_units": None, "active_units_per_layer": [None, None]}
        return results.result(member, -80.0 - member.seed * 0.5 - member.spec.objective.warm_up, **known)

    results.grid(outcome, spec=GRID_OF_FLOWS.replace("FLOWS", axis), with_curves=False)
    return analysis.load(results.root)


def test_effects_on_counts_that_some_cells_do_not_have_are_left_out_with_the_reason(results):
    frames = of_flows(results, FLOW, lambda model: model.flow is None)
    found = tables.paired_effects(frames)
    units = [table for table in found.tables if "active units" in table.quantity]
    assert units
    for table in units:
        assert not [cell for (_, column), cell in table.cells.items() if "/2" in cell.text() and column != "places"]
        said = " ".join(table.footnotes)
        assert "Where one side has such a layer there is no effect on the number of active units." in said
    rows = found.tidy[(found.tidy["quantity"] == "active_units") & (found.tidy["factor"] == "model.flow")]
    assert (rows["n"] == 0).all()
    assert (rows["unmeasured"] == rows["planned"] * rows["all_places"]).all()
    (group,) = (group.frames for group in frames.groups())
    assert len(figures.paired_effects(group).axes) == 2
    said = caption(figures.paired_effects, "paired_effects", group)
    assert "Where one side has such a layer there is no effect on the number of active units." in said
    assert "Left on the test log-likelihood, right on the number of active units." in said


def test_effects_on_counts_that_no_cell_has_are_no_subject(results):
    frames = of_flows(results, PRIOR, lambda model: False)
    quantities = {table.quantity for table in tables.paired_effects(frames).tables}
    assert quantities == {
        "Main effects and interactions on the test log-likelihood (nats per image)",
        "Simple effects on the test log-likelihood (nats per image)",
    }
    (group,) = (group.frames for group in frames.groups())
    (axes,) = figures.paired_effects(group).axes
    assert axes.get_xlabel() == "log-likelihood (nats)"
    said = caption(figures.paired_effects, "paired_effects", group)
    assert "active units" not in said

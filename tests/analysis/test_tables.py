import csv
import io
import math
import re

import pytest
from rich.console import Console

import analysis
from analysis import tables
from analysis.caveats import CLASSIFIED_ALONE
from analysis.tables import MeanCell, PlainCell
from analysis.tables.answer import answer, question

SEEDS = {0: -80.0, 1: -81.0, 2: -82.0}
"""Mean -81, standard error 1/sqrt(3) = 0.577."""


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (MeanCell(-82.138, 0.104, 3, 3, 0, 0), "-82.14 ± 0.10 (3)"),
        (MeanCell(-82.138, 0.104, 3, 5, 0, 0), "-82.14 ± 0.10 (3/5)"),
        (MeanCell(-82.138, 0.104, 2, 4, 1, 1), "-82.14 ± 0.10 (2/4), diverged 1, failed 1"),
        (MeanCell(-82.138, math.nan, 1, 1, 0, 0), "-82.14 (1)"),
        (MeanCell(math.nan, math.nan, 0, 3, 3, 0), "0/3, diverged 3"),
        (MeanCell(math.nan, math.nan, 0, 3, 0, 0), "0/3"),
        (MeanCell(3481.46, 4.26, 3, 3, 0, 0), "3481.5 ± 4.3 (3)"),
        (MeanCell(-82.13812, 0.00321, 3, 3, 0, 0), "-82.138 ± 0.003 (3)"),
        (MeanCell(-82.0, 0.0, 2, 2, 0, 0), "-82.00 ± 0.00 (2)"),
        (MeanCell(-82.138, 1.46, 3, 3, 0, 0), "-82.1 ± 1.5 (3)"),
        (MeanCell(3481.46, 14.6, 3, 3, 0, 0), "3481 ± 15 (3)"),
        (MeanCell(19.667, 0.333, 3, 3, 0, 0, decimals=1), "19.7 ± 0.3 (3)"),
        (MeanCell(-82.138, 0.104, 2, 3, 1, 0, mark="ab"), "-82.14 ± 0.10 (2/3) [ab], diverged 1"),
        (PlainCell("-82.14"), "-82.14"),
        (PlainCell("1 (3)", ("P = 0.93", "diverged 1")), "1 (3), P = 0.93, diverged 1"),
    ],
)
def test_text_of_a_cell(cell, text):
    assert cell.text() == text


def by_seed(results):
    return lambda member: results.result(member, SEEDS[member.seed])


def rows_of(markdown):
    """The first table of a Markdown text: row label -> cells."""
    lines = [line for line in markdown.split("\n\n")[1].splitlines() if line.startswith("|")]
    parts = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return parts[0], {part[0]: part[1:] for part in parts[2:]}


def test_log_likelihood_by_depth_and_variant(results):
    def outcome(member):
        key = (member.labels["depth"], member.labels["variant"], member.seed)
        if key == (2, "VAE", 1):
            return results.diverged(member)
        if key == (2, "VAE+BN", 2):
            return None
        if key == (3, "VAE", 0):
            return results.failed(member)
        if key[:2] == (3, "VAE+BN"):
            return results.diverged(member)
        return results.result(member, SEEDS[member.seed])

    results.grid(outcome)
    heading, rows = rows_of(tables.markdown(tables.log_likelihood(analysis.load(results.root)).tables))
    assert heading == ["L", "VAE", "VAE+BN", "VAE+BN+WU", "Prob. ladder+BN+WU"]
    full = "-81.00 ± 0.58 (3)"
    assert rows == {
        "1": [full, full, full, "–"],
        "2": ["-81.0 ± 1.0 (2/3), diverged 1", "-80.50 ± 0.50 (2/3)", full, full],
        "3": ["-81.50 ± 0.50 (2/3), failed 1", "0/3, diverged 3", full, full],
    }


def test_the_tidy_numbers_are_those_of_the_table(results):
    results.grid(by_seed(results))
    tidy = tables.log_likelihood(analysis.load(results.root)).tidy
    rows = list(csv.DictReader(io.StringIO(tidy.to_csv(index=False))))
    assert len(rows) == 11
    assert list(rows[0]) == [
        *("dataset", "depth", "variant", "mean", "se", "n", "sd", "df", "planned"),
        *("finished", "diverged", "failed", "damaged", "trained", "running", "pending", "data_canonical"),
    ]
    assert {(float(row["mean"]), round(float(row["se"]), 6), row["n"], row["planned"]) for row in rows} == {
        (-81.0, 0.57735, "3", "3")
    }


def test_members_that_the_grid_no_longer_plans_are_in_no_mean(results, spec):
    results.grid(by_seed(results))
    results.plan(spec.replace("seeds: [0, 1, 2]", "seeds: [0, 1]"))
    found = tables.log_likelihood(analysis.load(results.root))
    (table,) = found.tables
    assert table.cells["1", "VAE"].text() == "-80.50 ± 0.50 (2)"
    assert set(zip(found.tidy["mean"], found.tidy["n"], found.tidy["planned"], strict=True)) == {(-80.5, 2, 2)}
    units = tables.active_units(analysis.load(results.root)).tidy
    assert set(units["planned"]) == {2}
    assert "Left out: 11 records that the grid no longer plans." in table.footnotes


def test_footnotes_say_how_the_bound_was_measured(results):
    data = results.data(canonical=False, train_images=1000)
    results.grid(lambda member: results.result(member, iw_samples=5000 if member.seed else 100, data=data))
    footnotes = " ".join(tables.log_likelihood(analysis.load(results.root)).tables[0].footnotes)
    assert "K = 100 and 5,000 samples on 360 test images" in footnotes
    assert "at most 0.01 nats" in footnotes
    assert "Limited to 1,000 of 1,437 training images." in footnotes
    assert "The files of digits are not those of its distributor" in footnotes
    assert "test images." in footnotes
    assert "of 360 test" not in footnotes


def test_canonical_whole_data_need_no_caveat(results):
    results.grid()
    footnotes = " ".join(tables.log_likelihood(analysis.load(results.root)).tables[0].footnotes)
    assert "Limited" not in footnotes
    assert "distributor" not in footnotes
    assert "Diverged" not in footnotes


def test_the_places_on_the_axes_have_one_table(results, spec):
    def outcome(member):
        return results.result(member, -80.0 if member.spec.training.batch_size == 32 else -90.0)

    results.grid(outcome, spec=spec + "  axes: {training.batch_size: [32, 64]}\n")
    (table,) = tables.log_likelihood(analysis.load(results.root)).tables
    # Three depths are more than two sizes.
    assert (table.subject, table.row_heading) == ("digits", "batch, L")
    cells = [table.cells[f"{size}, 2", "VAE"].text() for size in (32, 64)]
    assert cells == ["-80.00 ± 0.00 (3)", "-90.00 ± 0.00 (3)"]
    text = shown(tables.terminal([table]), 140)
    assert re.search(r"64, 1 +-90\.00 ± 0\.00 \(3\)", text)


def test_active_units_as_in_the_papers_second_table(results):
    published = {"VAE": [6, 1, 0], "VAE+BN": [5, 2, 1], "VAE+BN+WU": [4, 3, 2], "Prob. ladder+BN+WU": [6, 4, 2]}

    def outcome(member):
        layers = published[member.labels["variant"]][: member.labels["depth"]]
        layers = [layers[0] - (member.seed == 2), *layers[1:]]
        return results.result(member, active_units_per_layer=layers, active_units=sum(layers))

    results.grid(outcome)
    found = tables.active_units(analysis.load(results.root)).tables
    assert [table.subject for table in found] == ["digits, L = 3", "digits, L = 2", "digits, L = 1"]
    _, rows = rows_of(tables.markdown(found))
    assert rows == {
        r"z\_1": ["5.7 ± 0.3 (3)", "4.7 ± 0.3 (3)", "3.7 ± 0.3 (3)", "5.7 ± 0.3 (3)"],
        r"z\_2": ["1.0 ± 0.0 (3)", "2.0 ± 0.0 (3)", "3.0 ± 0.0 (3)", "4.0 ± 0.0 (3)"],
        r"z\_3": ["0.0 ± 0.0 (3)", "1.0 ± 0.0 (3)", "2.0 ± 0.0 (3)", "2.0 ± 0.0 (3)"],
        "total": ["6.7 ± 0.3 (3)", "7.7 ± 0.3 (3)", "8.7 ± 0.3 (3)", "11.7 ± 0.3 (3)"],
    }
    assert found[2].columns == ("VAE", "VAE+BN", "VAE+BN+WU")


def test_the_kl_of_layers_and_its_sum(results, spec):
    def outcome(member):
        kl = [20.0 + member.seed, 5.0, 0.5][: member.labels["depth"]]
        return results.result(member, kl_per_layer=kl, kl_standard_normal_per_layer=[10 * value for value in kl])

    results.grid(outcome, spec=spec.replace("depth: [1, 2, 3]", "depth: [2, 3]"), with_curves=False)
    frames = analysis.load(results.root)
    _, rows = rows_of(tables.markdown(tables.layer_kl(frames).tables))
    assert [row[0] for row in rows.values()] == [
        "21.00 ± 0.58 (3)",
        "5.00 ± 0.00 (3)",
        "0.50 ± 0.00 (3)",
        "26.50 ± 0.58 (3)",
    ]
    first, second = tables.layer_kl_standard_normal(frames).tables
    assert (first.rows, second.rows) == (("z_1", "z_2", "z_3"), ("z_1", "z_2"))
    assert first.cells["z_1", "VAE"].text() == "210.0 ± 5.8 (3)"


def test_the_kl_table_adds_up_with_an_auxiliary_variable(results, small_spec):
    def outcome(member):
        with_a = member.labels["variant"] == "VAE+BN+WU"
        return results.result(member, kl_per_layer=[6.0, 3.0], auxiliary_nats=-1.5 if with_a else None)

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    (table,) = tables.layer_kl(frames).tables
    assert table.rows == ("z_1", "z_2", "a", "total")
    assert table.cells["a", "VAE+BN+WU"].text() == "-1.50 ± 0.00 (3)"
    assert table.cells["total", "VAE+BN+WU"].text() == "7.50 ± 0.00 (3)"
    assert ("a", "Prob. ladder+BN+WU") not in table.cells
    assert table.cells["total", "Prob. ladder+BN+WU"].text() == "9.00 ± 0.00 (3)"
    assert "E_q[log q(a|x) - log r(a|x, z)]" in table.footnotes[0]


def test_records_without_the_kl_to_a_standard_normal_make_no_table(results, small_spec):
    results.grid(
        lambda member: results.result(member, kl_standard_normal_per_layer=None), spec=small_spec, with_curves=False
    )
    assert tables.layer_kl_standard_normal(analysis.load(results.root)).tables == ()


def test_the_bound_by_number_of_samples(results, small_spec):
    def outcome(member):
        points = {"1": [-84.0 - member.seed, 0.04], "500": [-80.0 - member.seed, 0.01]}
        done = results.result(member, bound_by_samples=points, effective_sample_size=40.0 + member.seed)
        return results.diverged(member) if member.labels["variant"] == "VAE+BN+WU" and member.seed == 2 else done

    results.grid(outcome, spec=small_spec, with_curves=False)
    found = tables.bound_by_samples(analysis.load(results.root))
    (table,) = found.tables
    assert {row: table.cells[row, "VAE+BN+WU"].text() for row in table.rows} == {
        "K = 1": "-84.50 ± 0.50 (2/3), diverged 1",
        "K = 500": "-80.50 ± 0.50 (2/3), diverged 1",
        "effective samples": "40.50 ± 0.50 (2/3), diverged 1",
    }
    assert table.cells["K = 500", "Prob. ladder+BN+WU"].text() == "-81.00 ± 0.58 (3)"
    assert "at most 0.04 nats" in " ".join(table.footnotes)
    tidy = found.tidy.set_index(["iw_samples", "variant"])["mean"]
    assert tidy[1, "VAE+BN+WU"] == -84.5


def annealed(bound, log_likelihood, gap=0.4, **fields):
    numbers = {"images": 100, "chains": 16, "steps": 1000, "bound": bound, "log_likelihood": log_likelihood, "gap": gap}
    errors = {"log_likelihood_se": 2.0, "log_likelihood_mc_se": 0.02, "difference_se": 0.03, "gap_se": 0.05}
    return {**numbers, **errors, "acceptance": 0.65, **fields}


def test_how_far_the_bound_is_from_annealed_importance_sampling(results, small_spec):
    def outcome(member):
        if member.labels["variant"] == "VAE+BN+WU":
            return results.diverged(member) if member.seed == 2 else results.result(member)
        bound = -80.0 - member.seed
        return results.result(member, ais=annealed(bound, bound + 0.25 + 0.25 * member.seed))

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    row = frames.members.query("variant == 'Prob. ladder+BN+WU' and seed == 1").iloc[0]
    assert row[["ais_bound", "ais_log_likelihood", "ais_gap"]].tolist() == [-81.0, -80.5, 0.4]
    assert row[["ais_difference", "ais_estimate"]].tolist() == pytest.approx([0.5, -80.1])
    assert row[["ais_images", "ais_chains", "ais_steps", "ais_acceptance"]].tolist() == [100, 16, 1000, 0.65]
    found = tables.annealed(frames)
    (table,) = found.tables
    assert {row: table.cells[row, "Prob. ladder+BN+WU"].text() for row in table.rows} == {
        "bound": "-81.00 ± 0.58 (3)",
        "AIS": "-80.50 ± 0.43 (3)",
        "AIS less bound": "0.50 ± 0.14 (3)",
        "gap": "0.40 ± 0.00 (3)",
        "AIS + gap": "-80.10 ± 0.43 (3)",
    }
    assert ("AIS", "VAE+BN+WU") not in table.cells
    said = " ".join(table.footnotes)
    for words in (
        "K = 500. AIS: annealed importance sampling with 16 chains and 1,000 steps. Both on the first 100 test images",
        "AIS is above the bound by 0.25 to 0.75 nats (standard error over images: at most 0.03): an estimate of how "
        "far, at least, the log-likelihood is above it in expectation.",
        "It is no bound.",
        "Largest standard errors of a member, in nats: AIS, Monte Carlo: 0.02; gap, over simulated images: 0.05.",
        "acceptance of Hamiltonian Monte Carlo: 0.65.",
        "–: none of the finished members was evaluated with `evaluation.ais`.",
    ):
        assert words in said
    assert "upper bound" not in said
    tidy = found.tidy.set_index(["quantity", "variant"])["mean"]
    assert tidy["ais_difference", "Prob. ladder+BN+WU"] == 0.5


def test_units_are_active_by_kl_and_by_the_variance_of_their_means(results, small_spec):
    def outcome(member):
        if "VAE" in member.labels["variant"]:
            by_variance = {"active_units_by_variance": 4, "active_units_by_variance_per_layer": [3, 1]}
            return results.result(member, **by_variance)
        # q of z_1 does not factorize: its units have no KL of their own.
        known = {"active_units": None, "active_units_per_layer": [None, 2]}
        by_variance = {"active_units_by_variance": 6, "active_units_by_variance_per_layer": [4, 2]}
        return results.result(member, **known, **by_variance)

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    row = frames.members.query("variant == 'Prob. ladder+BN+WU'").iloc[0]
    assert row[["active_units_2", "active_units_by_variance", "active_units_by_variance_1"]].tolist() == [2, 6, 4]
    assert row[["active_units", "active_units_1"]].isna().all()
    found = tables.active_units(frames)
    (table,) = found.tables
    layers = ("z_1", "z_2", "total")
    assert table.rows == (*layers, *(f"{layer}, by variance" for layer in layers))
    shown = {row: table.cells[row, "VAE+BN+WU"].text() for row in table.rows}
    assert list(shown.values()) == [
        *("3.0 ± 0.0 (3)", "2.0 ± 0.0 (3)", "5.0 ± 0.0 (3)"),
        *("3.0 ± 0.0 (3)", "1.0 ± 0.0 (3)", "4.0 ± 0.0 (3)"),
    ]
    ladder = "Prob. ladder+BN+WU"
    assert not {("z_1", ladder), ("total", ladder)} & table.cells.keys()
    assert table.cells["z_2", ladder].text() == "2.0 ± 0.0 (3)"
    assert table.cells["total, by variance", ladder].text() == "6.0 ± 0.0 (3)"
    said = " ".join(table.footnotes)
    assert "Where q or p of a layer does not factorize over its units" in said
    assert "Which of these are active is known by variance alone (–)." in said
    assert "the variance over test images of its mean E_q[z_u|x] is above 0.01 (Burda et al., 2016)" in said
    tidy = found.tidy.set_index(["criterion", "layer", "variant"])["mean"]
    assert tidy["variance", "1", ladder] == 4


def test_records_that_know_no_activity_by_variance_have_the_table_that_they_had(results, small_spec):
    results.grid(results.result, spec=small_spec, with_curves=False)
    (table,) = tables.active_units(analysis.load(results.root)).tables
    assert table.rows == ("z_1", "z_2", "total")
    assert "variance" not in " ".join(table.footnotes)


def refined(elbo, *gains, images=100):
    """A refinement of which the ELBOs are so much better: of all layers jointly, and of each alone."""
    layers = list(range(1, max(2, len(gains))))
    sets = [layers, *([layer] for layer in layers)] if len(gains) > 1 else [[1]]
    errors = {"difference_se": 0.02, "elbo_difference_se": 0.03}
    bounds = [{"log_likelihood": elbo + 2 + gain / 2, "elbo": elbo + gain, **errors} for gain in gains]
    runs = [{"layers": own, **bound} for own, bound in zip(sets, bounds, strict=True)]
    return {"images": images, "steps": 20, "lr": 0.05, "bound": elbo + 2, "elbo": elbo, "runs": runs}


def test_amortized_and_refined_bounds(results, small_spec):
    def outcome(member):
        if member.labels["variant"] == "VAE+BN":
            return results.result(member)
        if "VAE" in member.labels["variant"]:
            return results.result(member, refine=refined(-82.0, 0.5))
        gains = [1.0 + 0.5 * member.seed, *(0.25 * layer for layer in range(1, member.spec.model.depth + 1))]
        return results.result(member, refine=refined(-81.0, *gains))

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    found = tables.refined(frames)
    table = found.tables[0]
    ladder, depth = "Prob. ladder+BN+WU", int(frames.members["depth"].max())
    shown = {row: table.cells[row, ladder].text() for row in table.rows}
    assert shown["ELBO, amortized"] == "-81.00 ± 0.00 (3)"
    assert shown["ELBO, refined"] == "-79.50 ± 0.29 (3)"
    assert shown["ELBO, difference"] == "1.50 ± 0.29 (3)"
    assert shown["bound, difference"] == "0.75 ± 0.14 (3)"
    assert shown["ELBO, difference, z_2 alone"] == "0.50 ± 0.00 (3)"
    assert shown["bound, difference, z_1 alone"] == "0.12 ± 0.00 (3)"
    assert len(table.rows) == 6 + 2 * depth
    assert table.cells["ELBO, difference", "VAE+BN+WU"].text() == "0.50 ± 0.00 (3)"
    assert ("ELBO, difference, z_2 alone", "VAE+BN+WU") not in table.cells
    said = " ".join(table.footnotes)
    for words in (
        "by 20 steps of Adam (step size 0.05), all weights as they are; on the first 100 test images",
        "VAE+BN+WU: q(z_1|x) alone is refined",
        "Largest standard errors over images of a member's difference, in nats: ELBO: 0.03; bound: 0.02.",
        "–: none of the finished members was evaluated with `evaluation.refine`",
    ):
        assert words in said, words
    tidy = found.tidy.set_index(["quantity", "depth", "variant"])["mean"]
    assert tidy["refined_elbo_difference", depth, ladder] == 1.5


def classified(wrong, images=200):
    """A classification in which so many images are wrong."""
    ends = (100 * wrong / images - 3, 100 * wrong / images + 3.5)
    return {"classes": 10, "images": images, "wrong": wrong, "error": 100 * wrong / images, "interval": ends}


def test_test_errors_in_a_table_and_as_effects(results, small_spec):
    def outcome(member):
        ladder = "ladder" in member.labels["variant"]
        named = {"classification": classified((10 if ladder else 24) + 2 * member.seed)}
        nothing = dict.fromkeys(("test_log_likelihood", "active_units", "active_units_per_layer"))
        return {**results.result(member, **named), **(nothing if ladder else {})}

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    (table,) = tables.class_errors(frames).tables
    shown = {row: cell.text() for (row, _), cell in table.cells.items()}
    assert shown == {"VAE+BN+WU": "13.00 ± 0.58 (3)", "Prob. ladder+BN+WU": "6.00 ± 0.58 (3)"}
    said = " ".join(table.footnotes)
    assert "of a member's error, over test images: at most 3.25." in said
    (bounds,) = tables.log_likelihood(frames).tables
    assert CLASSIFIED_ALONE in table.footnotes
    assert CLASSIFIED_ALONE in bounds.footnotes
    asked, (of_errors, of_bounds) = question(frames), answer(frames)
    assert asked.startswith("How do the test error and the test log-likelihood on digits depend on ")
    assert of_errors == (
        "Test error: Best of 2 cells: Prob. ladder+BN+WU, with 6.0 [3.5, 8.5]% (3 seeds). Not told apart from it, as "
        "every seed differs by the same, which leaves no spread to test against: VAE+BN+WU. No effect is tested: 1 is "
        "the same in every seed, which leaves no spread to test against."
    )
    assert of_bounds.startswith("Test log-likelihood: The one cell that has one: VAE+BN+WU, with -")
    effects = tables.paired_effects(frames)
    every = [*effects.tables, *tables.active_units(frames).tables]
    assert not any("factorize" in footnote for table in every for footnote in table.footnotes)
    rows = effects.tidy[(effects.tidy["quantity"] == "test_error") & (effects.tidy["kind"] == "simple")]
    assert rows["mean"].tolist() == [-7.0]
    titles = {table.title for table in effects.tables}
    assert "Simple effects on the test error (% of the test images): digits" in titles
    assert frames.members["test_error_low"].tolist() == [value - 3 for value in frames.members["test_error"]]


def test_grids_without_classes_have_no_test_errors(results, small_spec):
    results.grid(results.result, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    assert tables.class_errors(frames).tables == ()
    assert set(tables.paired_effects(frames).tidy["quantity"]) == {"test_log_likelihood", "active_units"}


def probes(*rows):
    """Linear probes: of each the labels, whether these are all, and the accuracies of the layers."""
    found = [
        {
            "labels": labels,
            "is_all": is_all,
            "accuracy": accuracy,
            "accuracy_se": [0.01] * len(accuracy),
            "regularization": [0.1] * len(accuracy),
        }
        for labels, is_all, *accuracy in rows
    ]
    return {"classes": 10, "largest_class": 0.101, "probes": found}


def test_what_each_layer_knows(results, small_spec):
    def outcome(member):
        if "VAE" in member.labels["variant"]:
            return results.result(member, probe=probes((100, False, 0.5, 0.25)))
        few = 0.75 + 0.0625 * (member.seed - 1)
        return results.result(member, probe=probes((100, False, few, 0.5), (1437, True, 0.9375, 0.625)))

    results.grid(outcome, spec=small_spec, with_curves=False)
    frames = analysis.load(results.root)
    row = frames.members.query("variant == 'Prob. ladder+BN+WU' and seed == 2").iloc[0]
    assert row[["probe_100_1", "probe_100_2", "probe_all_1", "probe_all_2"]].tolist() == [0.8125, 0.5, 0.9375, 0.625]
    assert row[["probe_100_se_1", "probe_classes", "probe_largest_class"]].tolist() == [0.01, 10, 0.101]
    (table,) = tables.probed(frames).tables
    assert table.rows == ("100 labels, z_1", "100 labels, z_2", "all labels, z_1", "all labels, z_2")
    assert table.cells["100 labels, z_1", "Prob. ladder+BN+WU"].text() == "0.750 ± 0.036 (3)"
    assert table.cells["all labels, z_2", "Prob. ladder+BN+WU"].text() == "0.625 ± 0.000 (3)"
    assert table.cells["100 labels, z_2", "VAE+BN+WU"].text() == "0.250 ± 0.000 (3)"
    assert ("all labels, z_1", "VAE+BN+WU") not in table.cells
    said = " ".join(table.footnotes)
    assert "the share of 360 test images, of 10 classes." in said
    assert "Naming the most frequent class of the training images every time has 0.101." in said
    assert "–: none of the finished members was evaluated with `evaluation.probe` and so many labels." in said


def test_below_refined_bounds_stands_that_parameters_of_flows_are_not_refined(results, small_spec):
    spec = small_spec.replace("  exclude:", "  axes: {model.flow: [none, planar]}\n  exclude:")

    def outcome(member):
        gains = [0.5] if "VAE" in member.labels["variant"] else [0.5, 0.25, 0.25]
        return results.result(member, refine=refined(-82.0, *gains))

    results.grid(outcome, spec=spec, with_curves=False)
    frames = analysis.load(results.root)
    (said,) = (note for note in tables.refined(frames).tables[0].footnotes if "flow" in note and "encoder" in note)
    assert "the flow's parameters stay as the encoder puts them out" in said
    assert "a part of the amortization gap" in said
    # Of the VAE, z_1 alone is refined.
    assert said.endswith("planar, z_1 (VAE+BN+WU); planar, z_1 (Prob. ladder+BN+WU); planar, z_2 (Prob. ladder+BN+WU).")
    plain = frames.select(frames.members["flow_level"] == "none")
    assert "flow" not in " ".join(tables.refined(plain).tables[0].footnotes)


@pytest.mark.parametrize(
    ("flow_draws", "words"),
    [
        (
            100,
            "Where q(z_i|.) has a flow, its mean has no closed form and is estimated with 100 draws for each of these "
            "samples: ",
        ),
        (
            None,
            "An earlier version evaluated layers with a flow whose features are the means of 10 samples of z_i, which "
            "do not compare with posterior means: ",
        ),
    ],
)
def test_below_the_probes_stands_which_layers_have_a_flow_and_how_their_means_are_taken(
    results, small_spec, flow_draws, words
):
    spec = small_spec.replace(
        "  exclude:",
        "  axes: {flows: {none: {}, first: {model.layers.0.flow: planar}, both: {model.flow: planar}}}\n  exclude:",
    ).replace("{variant: VAE+BN}]", "{variant: VAE+BN}, {variant: VAE+BN+WU, flows: both}]")
    probed = {**probes((100, False, 0.5, 0.25)), "flow_draws": flow_draws}
    results.grid(lambda member: results.result(member, probe=probed), spec=spec, with_curves=False)
    frames = analysis.load(results.root)
    (table,) = tables.probed(frames).tables
    (said,) = (footnote for footnote in table.footnotes if "flow" in footnote)
    assert said == words + (
        "first, z_1 (VAE+BN+WU); first, z_1 (Prob. ladder+BN+WU); both, z_1 (Prob. ladder+BN+WU); "
        "both, z_2 (Prob. ladder+BN+WU)."
    )
    plain = frames.select(frames.members["flows"] == "none")
    assert "flow" not in " ".join(tables.probed(plain).tables[0].footnotes)


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        (
            (-0.5, -0.25, -0.25),
            "AIS is below the bound by 0.25 to 0.50 nats (standard error over images: at most 0.03): by this estimate "
            "the bound is the tighter of the two",
        ),
        (
            (-0.5, 0.25, 0.0),
            "AIS less the bound is between -0.50 and 0.25 nats (standard error over images: at most 0.03): where it is "
            "positive, it is an estimate",
        ),
    ],
)
def test_where_the_bound_is_the_tighter_the_table_says_so(results, small_spec, differences, words):
    def outcome(member):
        return results.result(member, ais=annealed(-80.0, -80.0 + differences[member.seed]))

    results.grid(outcome, spec=small_spec, with_curves=False)
    (table,) = tables.annealed(analysis.load(results.root)).tables
    assert words in " ".join(table.footnotes)
    assert "none of the finished" not in " ".join(table.footnotes)


def test_one_chain_of_one_step_is_no_plural(results, small_spec):
    one = {**annealed(-80.0, -79.0), "chains": 1, "steps": 1}
    results.grid(lambda member: results.result(member, ais=one), spec=small_spec, with_curves=False)
    (table,) = tables.annealed(analysis.load(results.root)).tables
    assert "annealed importance sampling with 1 chain and 1 step." in table.footnotes[0]


def test_without_annealed_importance_sampling_there_is_no_table_of_it(results, small_spec):
    results.grid(spec=small_spec, with_curves=False)
    assert tables.annealed(analysis.load(results.root)).tables == ()


def test_a_variant_that_was_not_evaluated_with_so_many_samples_has_no_cell(results, spec):
    def outcome(member):
        if member.labels["variant"] == "VAE":
            return results.diverged(member)
        if member.labels["variant"] == "VAE+BN":
            return None
        points = {"1": [-84.0, 0.04], "500": [-80.0, 0.01]}
        if member.labels["variant"] == "VAE+BN+WU":
            del points["500"]
        return results.result(member, bound_by_samples=points)

    results.grid(outcome, spec=spec.replace("depth: [1, 2, 3]", "depth: [2]"), with_curves=False)
    found = tables.bound_by_samples(analysis.load(results.root))
    (table,) = found.tables
    texts = {name: table.cells[("K = 500", name)].text() for name in table.columns if ("K = 500", name) in table.cells}
    assert texts == {"VAE": "0/3, diverged 3", "VAE+BN": "0/3", "Prob. ladder+BN+WU": "-80.00 ± 0.00 (3)"}
    assert table.cells["K = 1", "VAE+BN+WU"].text() == "-84.00 ± 0.00 (3)"
    assert "–: none of the finished members was evaluated with so many samples." in table.footnotes
    tidy = found.tidy[found.tidy["iw_samples"] == 500]
    assert "VAE+BN+WU" not in set(tidy["variant"])


def test_no_footnote_on_empty_cells_where_there_are_none(results, small_spec):
    results.grid(spec=small_spec, with_curves=False)
    (table,) = tables.bound_by_samples(analysis.load(results.root)).tables
    assert "none of the finished" not in " ".join(table.footnotes)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("-82.14", "$-82.14$"),
        ("3/3 since 40–60", "3/3 since 40--60"),
        ("3/3 since 40-60", "3/3 since 40-60"),
        ("+3.21 [+2.90, -3.52] (3)", "$+3.21$ [$+2.90$, $-3.52$] (3)"),
        ("1,234.5", "$1,234.5$"),
        ("+3 (2)", "$+3$ (2)"),
    ],
)
def test_numbers_in_plain_cells_are_mathematics_in_latex_and_ranges_are_not(text, latex):
    table = tables.Table("q", "s", "L", ("1",), ("a",), {("1", "a"): PlainCell(text)}, ())
    assert f"1 & {latex} \\\\\n" in tables.latex([table], "t")


def test_older_records_without_bounds_make_no_table(results, small_spec):
    results.grid(lambda member: results.result(member, bound_by_samples=None), spec=small_spec, with_curves=False)
    assert tables.bound_by_samples(analysis.load(results.root)).tables == ()


def test_latex_shows_names_as_they_are(results, spec):
    odd = r"50%_a & b#{1}$~^\x"
    results.grid(by_seed(results), spec=spec.replace("VAE+BN+WU: {model", f"'{odd}': {{model"))
    text = tables.latex(tables.log_likelihood(analysis.load(results.root)).tables, "test_log_likelihood")
    assert r"50\%\_a \& b\#\{1\}\$\textasciitilde{}\textasciicircum{}\textbackslash{}x" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert body[0] == "1 & " + r"$-81.00 \pm 0.58$ (3) & " * 3 + r"-- \\"
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {4}
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


def test_latex_of_lost_members(results):
    results.grid(lambda member: results.diverged(member) if member.seed else results.result(member, -80.0))
    text = tables.latex(tables.log_likelihood(analysis.load(results.root)).tables, "t")
    assert r"3 & $-80.00$ (1/3), diverged 2 &" in text


def test_markdown_escapes_what_would_break_a_table(results, spec):
    results.grid(by_seed(results), spec=spec.replace("VAE+BN+WU: {model", "'a|b_c': {model"))
    text = tables.markdown(tables.log_likelihood(analysis.load(results.root)).tables)
    heading, rows = rows_of(text)
    assert heading[3] == r"a\|b\_c"
    assert {len(row) for row in rows.values()} == {4}


def shown(table, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_the_terminal_table_shows_every_cell_and_names_as_they_are(results, spec):
    def outcome(member):
        if member.labels["variant"] == "VAE" and member.seed == 0:
            return results.diverged(member)
        return results.result(member, SEEDS[member.seed])

    results.grid(outcome, spec=spec.replace("VAE+BN+WU: {model", "'[red]x': {model"))
    text = shown(tables.terminal(tables.log_likelihood(analysis.load(results.root)).tables))
    assert "[red]x" in text
    assert re.search(r"1 +-81\.50 ± 0\.50 \(2/3\) +-81\.00 ± 0\.58 \(3\) +-81\.00 ± 0\.58 \(3\) +–", text)
    assert "diverged 1" in text
    assert "nats per image" in text


def test_four_complete_variants_fit_in_80_columns_without_wrapping(results):
    results.grid(by_seed(results))
    text = shown(tables.terminal(tables.log_likelihood(analysis.load(results.root)).tables), 80)
    assert re.search(r" 3( +-81\.00 ± 0\.58 \(3\)){4}", text)

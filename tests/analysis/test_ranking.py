import math

import numpy as np
import pytest

import analysis
from analysis import tables
from analysis.statistics import probability_best, ranks

MEANS = {"VAE": -84.0, "VAE+BN": -83.0, "VAE+BN+WU": -82.0, "Prob. ladder+BN+WU": -82.1}


@pytest.mark.parametrize(("distance", "first", "second"), [(0.3, 0.2, 0.4), (-1.0, 0.1, 0.1), (0.0, 1.0, 0.01)])
def test_two_variants_of_two_seeds(distance, first, second):
    # With one degree of freedom both posteriors are Cauchy's, and so is their difference, of scale first + second.
    exact = 0.5 + math.atan(distance / (first + second)) / math.pi
    found = probability_best([distance - 80, -80], [first, second], [2, 2])
    assert found == pytest.approx([exact, 1 - exact], abs=1e-4)


def test_several_variants_against_draws():
    means, ses, ns = [-82.1, -82.0, -82.3], [0.1, 0.2, 0.15], [3, 5, 2]
    draws = np.stack([np.random.default_rng(n).standard_t(n - 1, 400_000) for n in ns])
    draws = np.array(means)[:, None] + np.array(ses)[:, None] * draws
    counts = np.bincount(draws.argmax(0), minlength=3) / draws.shape[1]
    assert probability_best(means, ses, ns) == pytest.approx(counts, abs=4e-3)


def test_equal_variants_are_equally_probable():
    assert probability_best([-80.0] * 4, [0.1] * 4, [3] * 4) == pytest.approx([0.25] * 4, abs=1e-4)
    assert probability_best([-80.0] * 3, [0.0] * 3, [3] * 3) == pytest.approx([1 / 3] * 3)
    assert probability_best([-80.0, -81.0], [0.0, 0.0], [3, 3]).tolist() == [1, 0]


def noisy(results):
    return lambda member: results.result(member, MEANS[member.labels["variant"]] + 0.1 * math.sin(9 * member.seed + 1))


def test_ranks_follow_the_means(results, spec):
    results.grid(noisy(results), spec=spec.replace("depth: [1, 2, 3]", "depth: [1, 2]"), with_curves=False)
    table = ranks(analysis.load(results.root)).set_index(["depth", "variant"])
    assert table.loc[2, "rank"].to_dict() == {"VAE": 4, "VAE+BN": 3, "VAE+BN+WU": 1, "Prob. ladder+BN+WU": 2}
    assert table.loc[1, "rank"].to_dict() == {"VAE": 3, "VAE+BN": 2, "VAE+BN+WU": 1}
    assert table.groupby("depth")["p_best"].sum().tolist() == pytest.approx([1, 1])
    assert table.loc[2, "p_best"].idxmax() == "VAE+BN+WU"


def test_ranks_are_by_the_validation_set_where_there_is_one_and_tables_of_means_by_the_test_set(results, small_spec):
    spec = small_spec.replace("{dataset: digits}", "{dataset: digits, validation: 100}")

    def outcome(member):
        # The other way around on the test set.
        better = member.labels["variant"] == "VAE+BN+WU"
        return results.result(member, -80.0 - better, validation_log_likelihood=-81.0 + better)

    results.grid(outcome, spec=spec, with_curves=False)
    frames = analysis.load(results.root)
    table = ranks(frames).set_index("variant")
    assert table["quantity"].unique().tolist() == ["validation_log_likelihood"]
    assert table["rank"].to_dict() == {"VAE+BN+WU": 1, "Prob. ladder+BN+WU": 2}
    assert table["mean"].to_dict() == {"VAE+BN+WU": -80, "Prob. ladder+BN+WU": -81}
    (ranking,) = tables.ranking(frames).tables
    assert "Rank by mean validation log-likelihood over" in ranking.footnotes[0]
    (means,) = tables.log_likelihood(frames).tables
    assert {cell.numbers[0] for cell in means.cells.values()} == {"-80.00", "-81.00"}


def test_a_cell_without_a_validation_set_is_compared_by_the_test_set(results, small_spec):
    spec = small_spec.replace("VAE+BN+WU: {", "VAE+BN+WU: {data.validation: 100, ")
    results.grid(noisy(results), spec=spec, with_curves=False)
    assert ranks(analysis.load(results.root))["quantity"].unique().tolist() == ["test_log_likelihood"]


def test_a_single_seed_gives_ranks_but_no_probabilities(results, small_spec):
    results.grid(noisy(results), spec=small_spec.replace("[0, 1, 2]", "[0]"), with_curves=False)
    frames = analysis.load(results.root)
    assert ranks(frames)["p_best"].isna().all()
    (table,) = tables.ranking(frames).tables
    assert [cell.text() for cell in table.cells.values()] == ["1 (1)", "2 (1)"]
    assert any("No probability" in footnote for footnote in table.footnotes)


def test_one_variant_with_a_single_seed_leaves_the_depth_without_probabilities(results, small_spec):
    def outcome(member):
        lost = member.labels["variant"] == "VAE+BN+WU" and member.seed
        return results.diverged(member) if lost else noisy(results)(member)

    results.grid(outcome, spec=small_spec, with_curves=False)
    (table,) = tables.ranking(analysis.load(results.root)).tables
    assert [cell.text() for cell in table.cells.values()] == ["1 (1/3), diverged 2", "2 (3)"]


def test_a_variant_that_always_diverged_has_no_rank(results, small_spec):
    spec = small_spec.replace("[{variant: VAE}, {variant: VAE+BN}]", "[{variant: VAE}]")

    def outcome(member):
        return results.diverged(member) if member.labels["variant"] == "VAE+BN" else noisy(results)(member)

    results.grid(outcome, spec=spec, with_curves=False)
    frames = analysis.load(results.root)
    own = ranks(frames).set_index("variant")
    assert own["rank"].isna()["VAE+BN"]
    assert own["p_best"].isna()["VAE+BN"]
    assert own["p_best"].sum() == pytest.approx(1)
    (table,) = tables.ranking(frames).tables
    assert table.cells["2", "VAE+BN"].text() == "0/3, diverged 3"


def test_nothing_to_rank_makes_no_table(results, small_spec):
    results.grid(results.diverged, spec=small_spec, with_curves=False)
    assert tables.ranking(analysis.load(results.root)).tables == ()

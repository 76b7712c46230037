"""Seeds in two stages: Stein's intervals cover as they say, and are what the report shows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import yaml
from scipy import stats

import analysis
from analysis import tables
from analysis.figures import FIGURES
from analysis.figures.descriptions import caption
from analysis.html import run_info
from analysis.statistics import blocks, cells, half_width, mean_over_seeds, needed, paired_effects, ranks, sample_size
from hvae_spec.errors import UserError
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import cells as grid_cells

SPEC = """
name: small
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}], batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 4, batch_size: 32}
grid:
  depth: [1, 2]
  variants:
    normal: {objective.warm_up: 0}
    warm: {}
  seeds: {from: 4, half_width: 0.3, of: cell, at_most: 40}
"""
EFFECTS = SPEC.replace("of: cell", "of: effect")
TRIALS = 40_000


def first_stage(sd, first, effects=1):
    """Means and standard deviations of simulated first stages [effects, trials]."""
    rng = np.random.default_rng(0)
    # What the effects have in common makes them as dependent as effects of the same seeds are.
    common = rng.standard_normal((1, TRIALS, first))
    own = rng.standard_normal((effects, TRIALS, first))
    seeds = sd * (common + own) / math.sqrt(2)
    return seeds.mean(axis=2), seeds.std(axis=2, ddof=1)


def means_over(n, mean, first, sd):
    """Means over all n seeds, of which the first ones have a mean of `mean`; the expectation is 0."""
    later = np.random.default_rng(1).standard_normal(n.shape) * sd / np.sqrt(np.maximum(n - first, 1))
    return (first * mean + (n - first) * later) / n


@pytest.mark.parametrize("at_most", [math.inf, 12])
@pytest.mark.parametrize("sd", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_intervals_of_two_stages_cover_with_95_percent(sd, at_most):
    mean, spread = first_stage(sd, 5)
    n = np.minimum(np.maximum(sample_size(spread, 4, 0.1), 5), at_most)
    width = half_width(spread, 4, n)
    covered = np.abs(means_over(n, mean, 5, sd)) <= width
    assert 0.94 < covered.mean() < 0.96
    if at_most == math.inf:
        assert (width <= 0.1 * (1 + 1e-12)).all()


def test_effects_that_share_their_seeds_cover_as_well():
    """A block has as many seeds as its widest interval takes."""
    mean, spread = first_stage(0.15, 5, effects=3)
    n = np.broadcast_to(np.maximum(sample_size(spread.max(axis=0), 4, 0.1), 5), mean.shape)
    covered = np.abs(means_over(n, mean, 5, 0.15)) <= half_width(spread, 4, n)
    assert ((covered.mean(axis=1) > 0.94) & (covered.mean(axis=1) < 0.96)).all()


@pytest.mark.parametrize(("sd", "coverage"), [(0.1, 0.92), (0.15, 0.87), (0.2, 0.76)])
def test_stopping_when_an_interval_looks_narrow_covers_less(sd, coverage):
    """What two stages are for: from 3 to 12 seeds, 95% intervals that reach a half-width of 0.1."""
    seeds = sd * np.random.default_rng(2).standard_normal((TRIALS, 12))
    covered, is_open = [], np.ones(TRIALS, dtype=bool)
    for n in range(3, 13):
        width = half_width(seeds[:, :n].std(axis=1, ddof=1), n - 1, n)
        stops = is_open & (width <= 0.1)
        covered += list(np.abs(seeds[stops, :n].mean(axis=1)) <= width[stops])
        is_open &= ~stops
    assert np.mean(covered) == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize(("sd", "n"), [(0.05, 2), (0.1, 8), (0.2, 31), (0.3, 70), (math.nan, math.nan)])
def test_sample_size_is_the_closed_form(sd, n):
    assert sample_size(sd, 4, 0.1) == pytest.approx(n, nan_ok=True)
    if not math.isnan(sd):
        assert n == math.ceil((2.7764451051977987 * sd / 0.1) ** 2)


def value(depth, variant, seed):
    """Cells with a spread of their own, and seeds of the second stage much farther apart than those of the first."""
    spread = (0.1 if variant == "normal" else 0.8) * depth
    return -90 + spread * math.sin(7 * seed + depth) * (1 if seed < 4 else 20)


def value_of(member):
    """The same, of a member."""
    return value(member.labels["depth"], member.labels["variant"], member.seed)


def values(depth, variant, seeds):
    """The same, of several seeds."""
    return np.array([value(depth, variant, seed) for seed in seeds])


def staged(results, spec=SPEC, seeds=4, outcome=None):
    """The frames of a grid with two stages whose cells have so many seeds."""
    experiment = Experiment.model_validate(yaml.safe_load(spec))
    planned = [one for cell in grid_cells(experiment) for one in replace(cell, seeds=tuple(range(seeds))).members]
    results.write_grid(experiment.name, planned, experiment.grid.stages)
    for member in planned:
        found = results.result(member, value_of(member)) if outcome is None else outcome(member)
        if found is not None:
            results.record(member, found, with_curves=False)
    return analysis.load(results.root)


def stein(first, everything):
    """Mean and half-width of Stein's interval, the obvious way."""
    t = stats.t.ppf(0.975, len(first) - 1)
    return np.mean(everything), t * np.std(first, ddof=1) / math.sqrt(len(everything))


def test_a_block_has_the_seeds_of_its_widest_interval(results):
    frames = staged(results)
    expected = {}
    for depth in (1, 2):
        spreads = [np.std(values(depth, name, range(4)), ddof=1) for name in ("normal", "warm")]
        takes = [max(4, math.ceil((stats.t.ppf(0.975, 3) * sd / 0.3) ** 2)) for sd in spreads]
        expected[depth] = max(takes)
        assert takes[0] < takes[1]
    assert 4 < expected[1] < expected[2]
    found = {block.place["depth"]: (block.takes, block.seeds) for block in blocks(frames)}
    assert found == {depth: (takes, min(takes, 40)) for depth, takes in expected.items()}
    # The seeds of the second stage, however far apart they are, change nothing.
    assert blocks(staged(results, seeds=9)) == blocks(frames)


@pytest.mark.parametrize("width", ["1.0e-160", "1.0e-9"])
def test_an_interval_that_takes_more_seeds_than_there_can_be_has_the_most_that_are_allowed(results, width):
    frames = staged(results, SPEC.replace("half_width: 0.3", f"half_width: {width}"))
    assert [block.seeds for block in blocks(frames)] == [40, 40]
    assert all(block.takes > 1e12 for block in blocks(frames))
    (table, *_) = tables.two_stage_seeds(frames).tables
    assert "takes over 1,000,000" in table.cells["2", "warm"].details


def test_effects_have_blocks_of_their_own(results):
    frames = staged(results, EFFECTS)
    differences = values(1, "warm", range(4)) - values(1, "normal", range(4))
    takes = max(4, math.ceil((stats.t.ppf(0.975, 3) * np.std(differences, ddof=1) / 0.3) ** 2))
    assert blocks(frames)[0].takes == takes
    assert needed(frames)["compared"].tolist() == ["warm-up: normal → warm"] * 2


def test_intervals_of_a_grid_with_two_stages_are_steins(results):
    frames = staged(results, seeds=9)
    cell = cells(frames.members, ["depth", "variant"]).iloc[1]
    own = values(1, "warm", range(9))
    mean, width = stein(own[:4], own)
    assert (cell["mean"], cell["n"], cell["df"]) == (pytest.approx(mean), 9, 3)
    assert cell["se"] * stats.t.ppf(0.975, 3) == pytest.approx(width)
    assert needed(frames)["half_width"].iloc[1] == pytest.approx(width)
    effect = paired_effects(frames).iloc[0]
    differences = own - values(1, "normal", range(9))
    mean, width = stein(differences[:4], differences)
    assert (effect["low"], effect["high"]) == pytest.approx((mean - width, mean + width))
    assert effect["p"] == pytest.approx(2 * stats.t.sf(abs(mean) / effect["se"], 3))
    # The posterior of a mean has the degrees of freedom of the first stage.
    assert set(ranks(frames)["df"]) == {3}


def test_a_seed_that_diverges_takes_its_place_and_is_shown(results):
    def outcome(member):
        if (member.seed, member.labels["variant"]) == (1, "warm"):
            return results.diverged(member)
        return results.result(member, value_of(member))

    frames = staged(results, outcome=outcome)
    warm = np.delete(values(1, "warm", range(4)), 1)
    takes = math.ceil((stats.t.ppf(0.975, 2) * np.std(warm, ddof=1) / 0.3) ** 2)
    assert blocks(frames)[0].takes == max(4, takes)
    (first, *_) = tables.two_stage_seeds(frames).tables
    cell = first.cells["1", "warm"]
    assert cell.content == f"±{stein(warm, warm)[1]:.2f} (3/4)"
    assert cell.details[-1] == "diverged 1"


@pytest.mark.parametrize("status", [None, "failed"])
def test_how_many_seeds_there_are_waits_for_the_whole_first_stage(results, status):
    def outcome(member):
        if (member.seed, member.labels["depth"]) == (3, 2):
            return results.failed(member) if status else None
        return results.result(member, value_of(member))

    first, second = blocks(staged(results, outcome=outcome))
    assert first.seeds is not None
    assert (second.takes, second.seeds) == (None, None)


def test_the_report_says_where_the_half_width_is_not_reached(results):
    frames = staged(results, SPEC.replace("at_most: 40", "at_most: 6"), seeds=6)
    assert [block.seeds for block in blocks(frames)] == [6, 6]
    table = tables.two_stage_seeds(frames).tables[0]
    width = stein(values(2, "warm", range(4)), range(6))[1]
    takes = blocks(frames)[1].takes
    cell = table.cells["2", "warm"]
    assert cell.content == f"±{width:.2f} (6)"
    assert cell.details[1:] == (f"takes {takes:,}", "0.3 not reached")
    assert "0.3 is asked for, with 6 seeds at most" in table.footnotes[0]
    of_means = tables.log_likelihood(frames).tables[0]
    assert any("rest on the spread of the first 4 seeds alone" in line for line in of_means.footnotes)


@pytest.mark.parametrize("is_planned", [False, True])
def test_while_the_second_stage_is_to_come_the_half_width_is_not_said_to_be_missed(results, is_planned):
    def first_alone(member):
        return results.result(member, value_of(member)) if member.seed < 4 else None

    takes = blocks(staged(results))[0].takes
    assert 4 < takes <= 40
    frames = staged(results, seeds=takes if is_planned else 4, outcome=first_alone)
    (row,) = needed(frames).query("depth == 1 and variant == 'warm'").to_dict("records")
    assert row["half_width"] > 0.3
    details = tables.two_stage_seeds(frames).tables[0].cells["1", "warm"].details
    assert details[1:] == (f"takes {takes}",)


def test_a_half_width_that_a_diverged_seed_keeps_from_being_reached_is_said_to_be_missed(results):
    takes = blocks(staged(results))[0].takes

    def outcome(member):
        is_lost = (member.seed, member.labels["variant"]) == (takes - 1, "warm")
        return results.diverged(member) if is_lost else results.result(member, value_of(member))

    frames = staged(results, seeds=takes, outcome=outcome)
    (row,) = needed(frames).query("depth == 1 and variant == 'warm'").to_dict("records")
    assert row["half_width"] > 0.3
    details = tables.two_stage_seeds(frames).tables[0].cells["1", "warm"].details
    assert details[1:] == (f"takes {takes}", "0.3 not reached", "diverged 1")


def test_cells_that_are_all_alike_take_no_more_seeds(results):
    frames = staged(results, outcome=lambda member: results.result(member, -80.0))
    assert [(block.takes, block.seeds) for block in blocks(frames)] == [(4, 4), (4, 4)]
    assert tables.two_stage_seeds(frames).tables[0].cells["1", "warm"].text() == "– (4)"


def test_effects_that_the_grid_does_not_have_are_refused(results):
    spec = EFFECTS.replace(
        "normal: {objective.warm_up: 0}", "normal: {training.batch_size: 16, training.last_batch: keep}"
    )
    frames = staged(results, spec)
    # Of several grids, the message names the one that is meant.
    message = f"^{frames.name}: grid.seeds.of: effect: no two variants of the grid differ in one setting alone"
    with pytest.raises(UserError, match=message):
        blocks(frames)


def test_a_list_of_seeds_is_one_stage(results):
    results.grid(lambda member: results.result(member, value_of(member)), with_curves=False)
    frames = analysis.load(results.root)
    assert set(frames.members["stage"]) == {1}
    assert (blocks(frames), len(needed(frames)), tables.two_stage_seeds(frames).tables) == ([], 0, ())


def test_what_errors_rest_on_is_said_where_there_are_any_and_seeds_by_depth(results):
    frames = staged(results)
    experiment = Experiment.model_validate(yaml.safe_load(SPEC))
    further = [replace(cell, seeds=tuple(range(9))) for cell in grid_cells(experiment)]
    planned = [one for cell in further for one in cell.members if one.seed < 4 or one.labels["depth"] == 2]
    results.write_grid(experiment.name, planned, experiment.grid.stages)
    note = (
        "Seeds come in two stages (Stein): standard errors, intervals and p values rest on the spread of the first 4 "
    )
    for name, has_bars in (
        ("log_likelihood", True),
        ("active_units", True),
        ("paired_effects", True),
        ("latents", False),
    ):
        assert (note in caption(FIGURES[name], name, frames)) == has_bars
    assert any(note in footnote for table in tables.log_likelihood(frames).tables for footnote in table.footnotes)
    assert not any(note in footnote for table in tables.collapse(frames).tables for footnote in table.footnotes)
    assert len(tables.collapse(frames).tables) == 2
    assert dict(run_info.axes(frames))["seeds"] == "0, 1, 2, 3"
    assert dict(run_info.axes(analysis.load(results.root)))["seeds"] == "0, 1, 2, 3 (L = 2: up to 8)"
    one_stage = replace(frames, stages=None)
    assert "Stein" not in caption(FIGURES["log_likelihood"], "log_likelihood", one_stage)


def test_bounds_and_curves_rest_on_the_first_stage_too(results):
    frames = staged(results, seeds=9)
    for frame in (frames.epochs, frames.units, frames.bounds):
        assert (frame["stage"] == np.where(frame["seed"] < 4, 1, 2)).all()
    bounds = frames.bounds[frames.bounds["depth"] == 2]
    means = mean_over_seeds(bounds, ["variant", "iw_samples"], "bound")
    assert len(means) > 1
    for row in means.to_dict("records"):
        own = bounds[(bounds["variant"] == row["variant"]) & (bounds["iw_samples"] == row["iw_samples"])]
        first = own.loc[own["seed"] < 4, "bound"]
        assert (row["n"], row["df"]) == (9, 3)
        assert row["se"] == pytest.approx(np.std(first, ddof=1) / 3)

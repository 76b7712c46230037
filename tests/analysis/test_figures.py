import json
import math
import re
from dataclasses import replace

import pytest
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

import analysis
from analysis import figures
from analysis.figures import drawing
from analysis.figures.layers import STATUS_PREFERENCE
from hvae_spec.records.result import STATUSES
from tests.analysis.test_replication import as_published, shipped

__all__ = ["shipped"]  # a fixture


def the_group(results):
    (group,) = analysis.load(results.root).groups()
    return group.frames


def by_seed(results):
    return lambda member: results.result(member, -80.0 - member.seed - 3 * (member.labels["variant"] == "VAE"))


def lines_through(axes, *, marker):
    """y values of the lines with this marker, by color."""
    return {line.get_color(): list(line.get_ydata()) for line in axes.lines if line.get_marker() == marker}


def test_log_likelihood_draws_the_means_over_seeds_and_their_standard_errors(results):
    results.grid(by_seed(results), with_curves=False)
    (axes,) = figures.log_likelihood(the_group(results)).axes
    (vae,) = lines_through(axes, marker="o").values()
    (ladder,) = lines_through(axes, marker="^").values()
    assert vae == [-84.0] * 3
    assert ladder == [-81.0] * 2
    bars = [bar for container in axes.containers for bar in container[2][0].get_segments()]
    assert len(bars) == 11
    assert {round(abs(top[1] - bottom[1]) / 2, 6) for bottom, top in bars} == {round(1 / math.sqrt(3), 6)}
    assert [int(tick) for tick in axes.get_xticks()] == [1, 2, 3]


def test_one_seed_has_no_error_bar(results, spec):
    results.grid(by_seed(results), spec=spec.replace("seeds: [0, 1, 2]", "seeds: [0]"), with_curves=False)
    (axes,) = figures.log_likelihood(the_group(results)).axes
    bars = [bar for container in axes.containers for bar in container[2][0].get_segments()]
    assert all(math.isnan(bar[0][1]) for bar in bars if len(bar))


def test_diverged_members_are_marked_and_not_averaged(results):
    def outcome(member):
        return results.diverged(member) if (member.labels["depth"], member.seed) == (2, 2) else by_seed(results)(member)

    results.grid(outcome)
    figure = figures.log_likelihood(the_group(results))
    (axes,) = figure.axes
    (vae,) = lines_through(axes, marker="o").values()
    assert vae == [-84.0, -83.5, -84.0]
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [round(float(line.get_xdata()[0])) for line in crosses] == [2] * 4
    assert "diverged members" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_learning_curves_average_the_seeds_of_the_deepest_models(results):
    planned = results.grid(by_seed(results))
    figure = figures.learning_curves(the_group(results))
    (axes,) = figure.axes
    own = [m for m in planned if m.labels["depth"] == 3 and m.labels["variant"] == "VAE"]
    curves = [results.curves(member, -83.0 - member.seed)[0] for member in own]
    train, test = axes.lines[:2]
    assert train.get_color() == test.get_color()
    assert list(train.get_ydata()) == pytest.approx(
        [sum(row["train_bound_beta_1"] for row in rows) / 3 for rows in zip(*curves, strict=True)]
    )
    assert list(test.get_xdata()) == [2, 4, 6, 8, 10]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "VAE (n = 3)" in labels
    assert "test log-likelihood,\nK = 100 on 360 test images" in labels
    assert "final test log-likelihood,\nK = 500 on 360 test images" in labels
    # The first epochs, hundreds of nats lower, do not squash the rest.
    assert min(train.get_ydata()) < -100
    assert axes.get_ylim()[0] > -90


def lines_of(figure, style, marker):
    """The data of the lines of a style with a marker, by x."""
    lines = [line for line in figure.axes[0].lines if (line.get_linestyle(), line.get_marker()) == (style, marker)]
    return [dict(zip(*line.get_data(), strict=True)) for line in lines if len(line.get_xdata())]


def test_the_objective_is_drawn_beside_the_bound_until_the_warm_up_ends(results, small_spec):
    planned = results.grid(by_seed(results), spec=small_spec.replace("warm_up: 2", "warm_up: 4"))
    figure = figures.learning_curves(the_group(results))
    own = [results.curves(m, -80.0 - m.seed)[0] for m in planned if m.labels["variant"] == "VAE+BN+WU"]
    means = {
        name: [sum(row[name] for row in rows) / 3 for rows in zip(*own, strict=True)]
        for name in ("train_bound", "train_bound_beta_1")
    }
    (bound,), (objective,) = lines_of(figure, "-", "o"), lines_of(figure, "-.", "o")
    assert list(bound.values()) == pytest.approx(means["train_bound_beta_1"])
    assert objective == pytest.approx(dict(zip(range(1, 5), means["train_bound"], strict=False)))
    assert {"training bound at β = 1", "objective (β < 1)"} < set(legend(figure))


def test_without_warm_up_the_objective_is_the_bound_at_beta_1(results, small_spec):
    results.grid(spec=small_spec.replace("warm_up: 2", "warm_up: 0"))
    figure = figures.learning_curves(the_group(results))
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == "-."]
    assert "objective (β < 1)" not in legend(figure)


def test_where_the_curve_is_of_the_first_images_the_final_point_is_shown_on_these_and_on_all(results, small_spec):
    def outcome(member):
        found = by_seed(results)(member)
        return {**found, "curve_test_log_likelihood": found["test_log_likelihood"] - 5, "curve_test_images": 50}

    results.grid(outcome, spec=small_spec.replace("every: 2", "every: 2, curve_images: 50"))
    figure = figures.learning_curves(the_group(results))
    markers = [container.lines[0] for container in figure.axes[0].containers]
    full, hollow = (
        [one for one in markers if (one.get_markerfacecolor() == "none") == is_it] for is_it in (False, True)
    )
    assert [one.get_ydata().tolist() for one in full] == [[-81.0]] * 2
    assert [one.get_ydata().tolist() for one in hollow] == [[-86.0]] * 2
    assert {one.get_xdata().tolist()[0] for one in markers} == {10}
    assert {
        "test log-likelihood,\nK = 100 on the first 50 test images",
        "final test log-likelihood,\nK = 500 on 360 test images",
        "the same on the first 50",
    } < set(legend(figure))
    low, high = figure.axes[0].get_ylim()
    assert low < -86.0 < high


def test_with_a_validation_set_the_curve_and_the_hollow_marker_are_of_it_and_the_full_one_of_the_test_set(
    results, small_spec
):
    def outcome(member):
        images = {**results.data(), "train_images": 1337, "validation_images": 100}
        return {**by_seed(results)(member), "validation_log_likelihood": -78.0, "data": images}

    results.grid(outcome, spec=small_spec.replace("{dataset: digits}", "{dataset: digits, validation: 100}"))
    figure = figures.learning_curves(the_group(results))
    markers = [container.lines[0] for container in figure.axes[0].containers]
    hollow = [one.get_ydata().tolist() for one in markers if one.get_markerfacecolor() == "none"]
    full = [one.get_ydata().tolist() for one in markers if one.get_markerfacecolor() != "none"]
    assert (full, hollow) == ([[-81.0]] * 2, [[-78.0]] * 2)
    assert [list(line) for line in lines_of(figure, "--", "o")] == [[2, 4, 6, 8, 10]]
    assert {
        "validation log-likelihood,\nK = 100 on 100 validation images",
        "final test log-likelihood,\nK = 500 on 360 test images",
        "final validation log-likelihood,\nK = 500 on 100 validation images",
    } < set(legend(figure))
    assert not [text for text in legend(figure) if text.startswith("test log-likelihood")]


def test_with_early_stopping_the_final_marker_stands_at_the_mean_best_epoch(results, small_spec):
    def outcome(member):
        return results.result(member, -80.0 - member.seed, epochs=8, stopped_epoch=8, best_epoch=2 + 2 * member.seed)

    results.grid(outcome, spec=small_spec)
    figure = figures.learning_curves(the_group(results))
    markers = [container.lines[0] for container in figure.axes[0].containers]
    assert [one.get_xydata().tolist() for one in markers] == [[[4.0, -81.0]]] * 2


def test_points_of_a_curve_that_were_measured_in_two_ways_are_not_one_line(results, small_spec):
    """A longer training goes on with the settings that its own spec has for the curve."""
    planned = results.plan(small_spec.replace("[0, 1, 2]", "[0]"))
    for member in planned:
        folder = results.record(member, None)
        rows, _ = results.curves(member, -80.0)
        for row in rows:
            if row["epoch"] in (8, 10):
                row |= {"test_iw_samples": 5000, "test_images": 50}
        (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = figures.learning_curves(the_group(results))
    assert [list(points) for points in lines_of(figure, "--", "o")] == [[2, 4, 6], [8, 10]]
    label = "test log-likelihood,\nK = 100 on 360 test images,\nK = 5,000 on 50 test images"
    assert label in legend(figure)


def test_running_members_are_averaged_as_far_as_all_have_come(results):
    planned = results.plan()
    for member, last in zip(
        [m for m in planned if m.labels["depth"] == 3 and m.labels["variant"] == "VAE"], (4, 7, 9), strict=True
    ):
        results.record(member, None)
        folder = results.root / "members" / member.folder / "epochs.jsonl"
        folder.write_text("".join(line + "\n" for line in folder.read_text().splitlines()[:last]))
    figure = figures.learning_curves(the_group(results))
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 3, 4]
    assert "VAE (n = 3, running)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_epoch_of_a_running_member_is_a_marker(results, small_spec):
    member = results.plan(small_spec)[0]
    folder = results.record(member, None)
    (folder / "epochs.jsonl").write_text((folder / "epochs.jsonl").read_text().splitlines()[0] + "\n")
    (axes,) = figures.learning_curves(the_group(results)).axes
    lines = [line for line in axes.lines if len(line.get_xdata())]  # of the bound at beta = 1 and of the objective
    assert [(list(line.get_xdata()), line.get_marker()) for line in lines] == [([1], "o")] * 2
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_curves_and_bars_are_distinguished_without_colors(results):
    planned = results.grid()
    results.record(planned[-1], results.diverged(planned[-1]))
    (axes,) = figures.learning_curves(the_group(results)).axes
    markers = {}
    for line in axes.lines:
        if line.get_marker() not in ("x", "_"):  # crosses of diverged members, and the ends of error bars
            markers.setdefault(line.get_color(), set()).add(line.get_marker())
    assert sorted(markers.values(), key=str) == [{"D"}, {"^"}, {"o"}, {"s"}]
    (axes,) = figures.active_units(the_group(results)).axes
    hatches = [{bar.get_hatch() for bar in bars} for bars in axes.containers if isinstance(bars, BarContainer)]
    assert len(set().union(*hatches)) == len(hatches) == 4
    assert all(len(own) == 1 for own in hatches)


def test_a_long_curve_has_few_markers(results, small_spec):
    results.grid(spec=small_spec.replace("epochs: 10", "epochs: 200"))
    (axes,) = figures.learning_curves(the_group(results)).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert len(curves) == 6  # two variants, the objective up to the end of the warm-up included
    assert {len(line.get_xdata()) // line.get_markevery() for line in curves} == {20, 2}


def test_active_units_bars_are_the_means_by_layer(results):
    def outcome(member):
        layers = [4 + member.seed, 2, 1][: member.labels["depth"]]
        return results.result(member, active_units_per_layer=layers, active_units=sum(layers))

    results.grid(outcome)
    figure = figures.active_units(the_group(results))
    bars = [
        [bar.get_height() for bar in group] for group in figure.axes[0].containers if isinstance(group, BarContainer)
    ]
    assert bars == [[5.0, 2.0, 1.0]] * 4
    assert "VAE (total 8)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_distance_from_the_standard_normal_is_averaged_by_layer(results):
    results.grid(with_curves=False)
    (axes,) = figures.kl_standard_normal(the_group(results)).axes
    bars = [[bar.get_height() for bar in group] for group in axes.containers if isinstance(group, BarContainer)]
    # 12 / i + seed, over the seeds 0, 1, 2.
    assert bars == [pytest.approx([13.0, 7.0, 5.0])] * 4
    errors = [bar for group in axes.containers if isinstance(group, ErrorbarContainer) for bar in heights(group)]
    assert errors == pytest.approx([1 / math.sqrt(3)] * 12)


def heights(container):
    """Half the lengths of the error bars."""
    return [(bar[1][1] - bar[0][1]) / 2 for bar in container[2][0].get_segments() if len(bar)]


def test_results_without_the_distance_from_the_standard_normal_have_no_such_figure(results):
    results.grid(lambda m: results.result(m, kl_standard_normal_per_layer=None), with_curves=False)
    assert figures.kl_standard_normal(the_group(results)) is None


def test_published_values_are_hollow_markers_of_the_same_variant(results, spec):
    results.grid(
        lambda m: results.result(m, -100.0, data=results.data("mnist", 60_000, 10_000)),
        spec=mnist(spec).replace("VAE+BN+WU: {", "ours: {"),
        with_curves=False,
    )
    figure = figures.log_likelihood(the_group(results))
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    drawn = {line.get_marker(): list(line.get_ydata()) for line in hollow if len(line.get_xdata())}
    # Table 1 repeats two values of Fig. 3; `ours` is the paper's VAE+BN+WU by its settings. There is one depth, so that
    # the variants stand side by side.
    assert drawn == {"o": [-82.14, -81.87]}
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    (line,) = (line for line in hollow if len(line.get_xdata()))
    assert [ticks[int(x)] for x in line.get_xdata()] == ["ours", "Prob. ladder+BN+WU"]
    # Ten epochs are not two thousand.
    assert "published (data, budget or model differ)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_at_the_papers_own_budget_published_values_differ_in_what_the_paper_leaves_open_alone(shipped, results):
    one = "grid.exclude=[{variant: VAE}, {variant: VAE+BN}, {variant: Prob. ladder+BN+WU}]"
    frames, _ = shipped("mnist_grid", lambda member: as_published(results, member), "grid.depth=[5]", one)
    figure = figures.log_likelihood(frames)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "published (differs in what the paper leaves open)" in texts
    assert not any("budget" in text for text in texts)


def mnist(spec):
    layers = "".join(f"    - {{units: {units}, mlp: [{8 * units}]}}\n" for units in (64, 32, 16, 8, 4))
    spec = re.sub(r"(?<=  layers:\n)(    - .*\n)+", layers, spec.replace("digits", "mnist"))
    return spec.replace("[1, 2, 3]", "[5]").replace("  exclude: [{variant: Prob. ladder+BN+WU, depth: 1}]\n", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"canonical": False}, "not the distributor's files"),
        ({"train_images": 1000}, "1,000 of 1,437 training images"),
    ],
    ids=["not canonical", "a part"],
)
def test_figures_say_whose_data_and_how_much_of_them(results, small_spec, data, words):
    data = {**results.result(results.plan(small_spec)[0])["data"], **data}
    for member in results.grid(lambda m: results.result(m, data=data), spec=small_spec):
        results.add_gallery(member)
    for name, draw in figures.FIGURES.items():
        figure = draw(the_group(results))
        titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        assert any(words in " ".join(title.split()) for title in titles), name


def test_the_bound_rises_with_its_samples_and_the_effective_sample_size_stands_by_depth(results):
    results.grid(lambda m: results.result(m, -80.0 - m.seed, effective_sample_size=10.0 * m.labels["depth"]))
    left, right = figures.bound_by_samples(the_group(results)).axes
    # Mean over the seeds of -80 - seed - 2 / K.
    expected = [-81 - 2 / count for count in (1, 5, 10, 50, 100, 500)]
    assert list(lines_through(left, marker="o").values()) == [pytest.approx(expected)]
    assert list(lines_through(right, marker="o").values()) == [[10.0, 20.0, 30.0]]
    assert list(lines_through(right, marker="^").values()) == [[20.0, 30.0]]
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "5", "10", "50", "100", "500"]


def test_paired_effects_are_differences_within_seeds(results):
    # Seeds differ by 5 nats; batch normalization adds 1, warm-up 0.1 (0.2 for one seed), the ladder nothing.
    def outcome(member):
        wu = 0.1 * (1 + (member.seed == 2)) * ("WU" in member.labels["variant"])
        return results.result(member, -80 - 5.0 * member.seed + ("BN" in member.labels["variant"]) + wu)

    results.grid(outcome, with_curves=False)
    figure = figures.paired_effects(the_group(results))
    norm, warm_up, ladder = figure.axes[:3]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["batch normalization", "warm-up", "ladder"]
    assert points(norm, "s") == pytest.approx([1.0] * 3)
    assert points(warm_up, "D") == pytest.approx([0.4 / 3] * 3)
    assert points(ladder, "^") == pytest.approx([0.0] * 2)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        x = [value for line in axes.lines[1:] for value in line.get_xdata()]
        assert low + 0.15 <= min(x)
        assert max(x) <= high - 0.15
    # t(0.975, 2 degrees of freedom) = 4.302653; the spread of 0.1, 0.1, 0.2 is 0.1 / sqrt(3), over sqrt(3) seeds.
    (container,) = [item for item in warm_up.containers if isinstance(item, ErrorbarContainer)]
    assert heights(container) == pytest.approx([4.302653 * 0.1 / 3] * 3, rel=1e-5)


def points(axes, marker):
    return sorted(y for line in axes.lines if line.get_marker() == marker for y in line.get_ydata())


def test_a_single_pair_has_no_interval(results, spec):
    results.grid(by_seed(results), spec=spec.replace("seeds: [0, 1, 2]", "seeds: [0]"), with_curves=False)
    figure = figures.paired_effects(the_group(results))
    containers = [item for axes in figure.axes for item in axes.containers]
    assert all(math.isnan(height) for item in containers for height in heights(item))
    hollow = [line for line in figure.axes[0].lines if line.get_marker() == "s" and len(line.get_xdata())]
    assert [line.get_markerfacecolor() for line in hollow] == ["white"]


def test_unit_kl_prefers_members_that_have_finished_and_names_what_it_shows(results, small_spec):
    def outcome(member):
        ladder = member.labels["variant"] == "Prob. ladder+BN+WU"
        return results.diverged(member, 6) if ladder or member.seed == 0 else results.result(member)

    planned = results.grid(outcome, spec=small_spec)
    figure = figures.unit_kl(the_group(results))
    assert figure.get_suptitle().replace("\n", " ") == "digits, L = 2, seeds 0 (diverged), 1"
    # The finished member has five evaluations, the diverged one three.
    assert [axes.collections[0].get_array().shape[1] for axes in figure.axes[:4]] == [5, 5, 3, 3]
    running = next(m for m in planned if m.labels["variant"] == "Prob. ladder+BN+WU" and m.seed == 2)
    (results.root / "members" / running.folder / "training.json").unlink()
    assert "seeds 1, 2 (running)" in figures.unit_kl(the_group(results)).get_suptitle().replace("\n", " ")


def test_unit_kl_prefers_a_member_that_is_trained_to_one_that_diverged(results, small_spec):
    results.grid(
        lambda m: {**results.result(m), "status": "trained"} if m.seed == 0 else results.diverged(m, 6), spec=small_spec
    )
    title = figures.unit_kl(the_group(results)).get_suptitle()
    assert title.replace("\n", " ") == "digits, L = 2, seed 0 (trained)"


def test_every_status_has_its_place_where_one_member_stands_for_all():
    assert set(STATUS_PREFERENCE) == set(STATUSES)


def test_unit_kl_has_a_panel_per_variant_and_layer_with_units_sorted(results):
    results.grid(by_seed(results))
    figure = figures.unit_kl(the_group(results))
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(panels) == 4 * 3
    values = panels[0].collections[0].get_array()
    assert values.shape == (6, 5)
    last = list(values[:, -1])
    assert last == sorted(last, reverse=True)
    assert last[0] == 1.0
    assert last[1] == pytest.approx(1 / 8)


def test_a_layer_whose_units_have_no_kl_of_their_own_is_no_unit_of_the_heat_map(results, small_spec):
    rows = [
        {"format": 1, "epoch": epoch, "kl": [[2.0 / epoch], [0.5, 0.1]], "kl_se": [[0.0], [0.0, 0.0]]}
        for epoch in (2, 4)
    ]
    for member in results.plan(small_spec):
        known = {"unit_kl": None, "unit_kl_se": None, "active_units": None, "active_units_per_layer": [None, 1]}
        results.record(member, results.result(member, **known), with_curves=False)
        results.record_of(member).write_curves([], rows)
    figure = figures.unit_kl(the_group(results))
    first, second = figure.axes[:2]
    assert first.collections[0].get_array().tolist() == [[1.0, 0.5]]
    assert [text.get_text() for text in first.get_yticklabels()] == ["layer"]
    assert "layer" not in [text.get_text() for text in second.get_yticklabels()]
    bars = figures.active_units(the_group(results))
    assert all("(of some layers not known)" in text.get_text() for text in bars.legends[0].get_texts())


def test_figures_without_data_are_skipped(results):
    results.plan()
    assert [name for name, draw in figures.FIGURES.items() if draw(the_group(results)) is not None] == []


def test_a_single_evaluation_makes_no_heat_map(results, spec):
    results.grid(spec=spec.replace("every: 2", "every: 10"))
    assert figures.unit_kl(the_group(results)) is None


@pytest.mark.parametrize("draw", figures.FIGURES.values(), ids=figures.FIGURES)
def test_data_sets_are_never_mixed_in_one_figure(results, small_spec, draw):
    results.grid(spec=small_spec)
    frames = analysis.load(results.root)
    both = frames.members.assign(dataset=["digits", "mnist"] * (len(frames.members) // 2))
    with pytest.raises(ValueError, match="one figure shows one data set"):
        draw(replace(frames, members=both))


def test_a_variant_keeps_its_color_whatever_else_is_there(results):
    results.grid(lambda m: by_seed(results)(m) if m.labels["variant"] == "Prob. ladder+BN+WU" else None)
    frames = the_group(results)
    alone = frames.select(frames.members["variant"] == "Prob. ladder+BN+WU")
    (everyone,) = [
        line.get_color() for line in figures.log_likelihood(frames).axes[0].lines if line.get_marker() == "^"
    ]
    (single,) = [line.get_color() for line in figures.log_likelihood(alone).axes[0].lines if line.get_marker() == "^"]
    assert everyone == single


def test_every_figure_has_a_caption_that_its_docstring_gives():
    for name in figures.FIGURES:
        assert len(figures.caption(name)) > 80, name
        assert "\n" not in figures.caption(name)
    assert figures.caption("latents").startswith("The first two principal components of z_i")


def final_points(figure):
    """By marker: x, mean and half the length of the bar (None without one) of each final evaluation."""
    found = {}
    for item in figure.axes[0].containers:
        point, _, (bar,) = item.lines
        for x, y, segment in zip(*point.get_data(), bar.get_segments(), strict=True):
            found[point.get_marker()] = (x, y, (segment[1][1] - segment[0][1]) / 2 if len(segment) else None)
    return found


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_final_evaluation_is_a_point_of_its_own_at_the_last_epoch(results, spec):
    def outcome(member):
        lost = (member.labels["variant"], member.seed) == ("VAE+BN", 2)
        return results.diverged(member) if lost else by_seed(results)(member)

    results.grid(outcome, spec=spec.replace("iw_samples: 500", "iw_samples: 5000"))
    figure = figures.learning_curves(the_group(results))
    # -83, -84, -85; without the diverged one -80, -81; -80, -81, -82 twice.
    three = pytest.approx(1 / math.sqrt(3))
    assert final_points(figure) == {
        "o": (10, -84.0, three),
        "s": (10, -80.5, pytest.approx(0.5)),
        "D": (10, -81.0, three),
        "^": (10, -81.0, three),
    }
    # The curve has its own point there, and its own K.
    curve = figure.axes[0].lines[1]
    assert list(curve.get_xdata()) == [2, 4, 6, 8, 10]
    assert curve.get_ydata()[-1] != pytest.approx(-84.0, abs=0.1)
    assert {
        "test log-likelihood,\nK = 100 on 360 test images",
        "final test log-likelihood,\nK = 5,000 on 360 test images",
    } < set(legend(figure))
    low, high = figure.axes[0].get_ylim()
    assert all(low < y < high for _, y, _ in final_points(figure).values())


def test_a_grid_evaluated_at_its_end_alone_has_a_final_point_and_no_test_curve(results, small_spec):
    results.grid(by_seed(results), spec=small_spec.replace(", every: 2", ""))
    figure = figures.learning_curves(the_group(results))
    assert set(final_points(figure)) == {"o", "s"}
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert "final test log-likelihood,\nK = 500 on 360 test images" in legend(figure)
    assert not [text for text in legend(figure) if text.startswith("test log-likelihood")]


def test_one_seed_has_a_final_point_without_a_bar(results, small_spec):
    results.grid(spec=small_spec.replace("[0, 1, 2]", "[0]"))
    points = final_points(figures.learning_curves(the_group(results)))
    assert points == dict.fromkeys(("o", "s"), (10, -80.0, None))


def test_trained_members_that_are_not_evaluated_have_curves_and_no_final_point(results, small_spec):
    results.grid(lambda member: {**results.result(member), "status": "trained"}, spec=small_spec)
    figure = figures.learning_curves(the_group(results))
    assert list(figure.axes[0].lines[0].get_xdata()) == list(range(1, 11))
    assert final_points(figure) == {}
    assert "VAE+BN+WU (n = 3, trained)" in legend(figure)
    assert not [text for text in legend(figure) if text.startswith("final")]


def test_every_file_of_a_figure_is_drawn_once_and_its_layout_made_once(monkeypatch):
    drawn = []
    draw = Figure.draw

    def counted(figure, renderer):
        drawn.append(type(renderer).__name__)
        draw(figure, renderer)

    monkeypatch.setattr(Figure, "draw", counted)
    drawing.check()
    assert drawn == ["RendererAgg", "RendererAgg", "MixedModeRenderer", "MixedModeRenderer"]

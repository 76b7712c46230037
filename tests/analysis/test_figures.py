import math

import pytest
from matplotlib.container import BarContainer

import analysis
from analysis import figures


def the_group(results):
    (group,) = analysis.load(results.root).groups()
    return group.frames


def by_seed(results):
    return lambda member: results.result(member, -80.0 - member.seed - 3 * (member.cell.variant == "VAE"))


def lines_through(axes, *, marker):
    """y values of the lines with this marker, by colour."""
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
        return results.diverged(member) if (member.cell.depth, member.seed) == (2, 2) else by_seed(results)(member)

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
    own = [m for m in planned if m.cell.depth == 3 and m.cell.variant == "VAE"]
    curves = [results.curves(member, -83.0 - member.seed)[0] for member in own]
    train, test = [line for line in axes.lines if line.get_color() == axes.lines[0].get_color()]
    assert list(train.get_ydata()) == pytest.approx(
        [sum(row["train_bound"] for row in rows) / 3 for rows in zip(*curves, strict=True)]
    )
    assert list(test.get_xdata()) == [2, 4, 6, 8, 10]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "VAE (n = 3)" in labels
    assert "test log-likelihood, K = 100" in labels
    # The first epochs, hundreds of nats lower, do not squash the rest.
    assert min(train.get_ydata()) < -100
    assert axes.get_ylim()[0] > -90


def test_running_members_are_averaged_as_far_as_all_have_come(results):
    planned = results.plan()
    for member, last in zip(
        [m for m in planned if m.cell.depth == 3 and m.cell.variant == "VAE"], (4, 7, 9), strict=True
    ):
        results.record(member, None)
        folder = results.root / "members" / member.folder / "epochs.jsonl"
        folder.write_text("".join(line + "\n" for line in folder.read_text().splitlines()[:last]))
    figure = figures.learning_curves(the_group(results))
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 3, 4]
    assert "VAE (n = 3, running)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_active_units_bars_are_the_means_by_layer(results):
    def outcome(member):
        layers = [4 + member.seed, 2, 1][: member.cell.depth]
        return results.result(member, active_units_per_layer=layers, active_units=sum(layers))

    results.grid(outcome)
    figure = figures.active_units(the_group(results))
    bars = [
        [bar.get_height() for bar in group] for group in figure.axes[0].containers if isinstance(group, BarContainer)
    ]
    assert bars == [[5.0, 2.0, 1.0]] * 4
    assert "VAE (total 8)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_unit_kl_has_a_panel_a_variant_and_layer_with_units_sorted(results):
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


def test_figures_without_data_are_skipped(results):
    results.plan()
    assert [name for name, draw in figures.FIGURES.items() if draw(the_group(results)) is not None] == []


def test_a_single_evaluation_makes_no_heat_map(results, spec):
    results.grid(spec=spec.replace("every: 2", "every: 10"))
    assert figures.unit_kl(the_group(results)) is None


@pytest.mark.parametrize("draw", figures.FIGURES.values(), ids=figures.FIGURES)
def test_settings_of_an_axis_are_never_mixed_in_one_figure(results, spec, draw):
    results.grid(spec=spec + "  axes: {training.batch_size: [32, 64]}\n")
    with pytest.raises(ValueError, match="groups"):
        draw(analysis.load(results.root))


def test_a_variant_keeps_its_colour_whatever_else_is_there(results):
    results.grid(lambda m: by_seed(results)(m) if m.cell.variant == "Prob. ladder+BN+WU" else None)
    frames = the_group(results)
    alone = frames.select(frames.members["variant"] == "Prob. ladder+BN+WU")
    (everyone,) = [
        line.get_color() for line in figures.log_likelihood(frames).axes[0].lines if line.get_marker() == "^"
    ]
    (single,) = [line.get_color() for line in figures.log_likelihood(alone).axes[0].lines if line.get_marker() == "^"]
    assert everyone == single


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("VAE", "VAE"),
        ("Prob. ladder+BN+WU", "Prob. ladder\n+BN+WU"),
        ("averyverylongname", "averyverylongname"),
    ],
)
def test_long_names_are_folded(name, folded):
    assert figures._folded(name) == folded

"""One table and one figure over the axes of a grid."""

import math

import pandas as pd
import pytest

import analysis
from analysis import figures, tables
from analysis.figures.descriptions import caption
from analysis.figures.drawing import render
from analysis.layout import Layout, is_ordered, layout

HEAD = """
name: small
data: {dataset: digits}
model: {layers: [{units: 6, mlp: [16]}, {units: 4, mlp: [8]}]}
training: {epochs: 10, batch_size: 32}
evaluation: {iw_samples: 500}
"""
LR = "training.optimizer.adam.lr"
AXES = f"""
grid:
  depth: [DEPTHS]
  variants: {{VAE: {{}}, VAE+BN: {{model.batch_norm: true}}}}
  axes:
    {LR}: [1.0e-3, 3.0e-4, 1.0e-4]
    width: {{narrow: {{model.layers.0.mlp: [4]}}, wide: {{}}}}
    training.clip_norm: [4.0]
  seeds: [0, 1]
"""


def value(member):
    """The result of a member: every factor has its own digit."""
    spec = member.spec
    digits = math.log10(spec.training.optimizer.settings.lr), spec.model.layers[0].mlp[0], spec.model.batch_norm
    return -100 * spec.model.depth + sum(a * b for a, b in zip(digits, (1, 1, 0.1), strict=True)) + 0.01 * spec.seed


@pytest.fixture
def frames_of(results):
    def frames(depths, report=""):
        spec = HEAD + AXES.replace("DEPTHS", depths) + report
        results.grid(lambda member: results.result(member, value(member)), spec=spec, with_curves=False)
        return analysis.load(results.root)

    return frames


def test_the_numbers_are_x_the_variants_lines_and_the_rest_panels(frames_of):
    frames = frames_of("1, 2")
    assert layout(frames) == Layout("variant", ("depth", "width"), frames.axes, x="learning_rate")
    (table,) = tables.log_likelihood(frames).tables
    assert table.subject == "digits, clip norm 4"
    assert (table.row_heading, table.columns) == ("L, width, lr", ("VAE", "VAE+BN"))
    assert table.rows == tuple(
        f"{depth}, {width}, {lr}" for depth in (1, 2) for width in ("narrow", "wide") for lr in ("1e-4", "3e-4", "1e-3")
    )
    # -200 + 16 + log10(0.0003) + 0.1, and half of 0.01 for the seeds
    assert table.cells["2, wide, 3e-4", "VAE+BN"].mean == pytest.approx(-184 + math.log10(3e-4) + 0.1 + 0.005)
    figure = figures.log_likelihood(next(frames.groups()).frames)
    assert [axes.get_title() for axes in figure.axes] == [
        f"L = {depth}, {width}" for depth in (1, 2) for width in ("narrow", "wide")
    ]
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ["1e-4", "3e-4", "1e-3"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "lr", "lr"]
    assert figure.get_suptitle() == "digits, clip norm 4"
    line = next(line for line in figure.axes[3].lines if line.get_marker() == "s" and len(line.get_xdata()) == 3)
    assert list(line.get_ydata()) == pytest.approx([-184 + math.log10(lr) + 0.105 for lr in (1e-4, 3e-4, 1e-3)])


def test_the_spec_says_what_stands_where(frames_of):
    report = f"report: {{layout: {{x: width, color: {LR}, facet: variant}}}}\n"
    frames = frames_of("2", report)
    assert layout(frames) == Layout("learning_rate", ("variant",), frames.axes, x="width")
    (table,) = tables.log_likelihood(frames).tables
    assert table.subject == "digits, clip norm 4, L = 2"
    assert (table.row_heading, table.columns) == ("variant, width", ("lr 1e-4", "lr 3e-4", "lr 1e-3"))
    assert table.rows == ("VAE, narrow", "VAE, wide", "VAE+BN, narrow", "VAE+BN, wide")
    assert table.cells["VAE+BN, narrow", "lr 1e-3"].mean == pytest.approx(-199 + 0.1 + 0.005)
    figure = figures.log_likelihood(next(frames.groups()).frames)
    assert [axes.get_title() for axes in figure.axes] == ["VAE", "VAE+BN"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lr 1e-4", "lr 3e-4", "lr 1e-3"]


def test_there_is_one_figure_of_a_data_set_and_none_is_drawn_of_several(frames_of, monkeypatch):
    frames = frames_of("2")
    monkeypatch.setattr("analysis.figures.drawing.FIGURES", {"log_likelihood": figures.log_likelihood})
    (drawing,) = render(frames)
    assert (drawing.stem, drawing.group) == ("log_likelihood", "digits, clip norm 4, L = 2")
    both = frames.members.assign(dataset=["digits", "mnist"] * (len(frames.members) // 2))
    with pytest.raises(ValueError, match="one figure shows one data set"):
        figures.log_likelihood(analysis.frames.replace(frames, members=both))


def test_members_of_several_grids_need_not_have_all_axes(frames_of):
    frames = frames_of("2")
    members = frames.members.assign(width=frames.members["width"].where(frames.members["width"] == "wide"))
    (table,) = tables.log_likelihood(analysis.frames.replace(frames, members=members)).tables
    assert table.rows == tuple(f"{width}, {lr}" for width in ("–", "wide") for lr in ("1e-4", "3e-4", "1e-3"))
    assert table.cells["–, 1e-3", "VAE"].mean == pytest.approx(-199 + 0.005)


@pytest.mark.parametrize(
    ("grid", "report", "places"),
    [
        ("depth: [1, 2]", "", ("depth", "variant", ())),
        ("depth: [2]", "", ("depth", "variant", ())),
        ("depth: [1, 2], axes: {training.batch_size: [8, 9]}", "", ("batch_size", "depth", ())),
        ("depth: [1, 2], axes: {width: {a: {}, b: {model.layers.0.mlp: [3]}}}", "", ("depth", "width", ())),
        ("axes: {width: {a: {}, b: {model.layers.0.mlp: [3]}}}", "", ("width", "variant", ())),
        ("axes: {training.batch_size: [8]}", "", ("depth", "variant", ())),
        ("axes: {training.batch_size: [8, 9]}", "color: depth", ("batch_size", "depth", ())),
        (
            "axes: {training.batch_size: [8, 9]}",
            "facet: training.batch_size",
            ("depth", "variant", ("batch_size",)),
        ),
        ("depth: [1, 2]", "x: variant", ("variant", "depth", ())),
        ("depth: [1, 2]", "facet: depth", ("depth", "variant", ())),
    ],
)
def test_the_places_that_are_chosen(results, grid, report, places):
    results.plan(f"{HEAD}grid: {{{grid}}}\nreport: {{layout: {{{report}}}}}\n")
    found = layout(analysis.load(results.root))
    assert (found.x, found.color, found.facets) == places


@pytest.mark.parametrize(
    ("levels", "ordered"),
    [
        ([0.001, 0.0003], True),
        ([1, 2, 4], True),
        ([False, True], True),
        (["mlp 512", "mlp 256"], True),
        (["adam lr 1e-3", "adam lr 3e-4"], True),
        (["64-32", "128-64"], True),
        (["standard_normal", "vamp 500", "mixture 50"], False),
        (["narrow", "wide"], False),
        (["none", 5, 10], False),
    ],
)
def test_a_line_joins_what_has_an_order(levels, ordered):
    assert is_ordered(pd.DataFrame({"a": pd.Series(levels, dtype=object)}), "a") is ordered


@pytest.mark.parametrize(("axis", "lines", "word"), [("[1, 2, 4]", 1, "a line"), ("[tanh, relu, elu]", 0, "a color")])
def test_levels_without_an_order_are_not_joined(results, axis, lines, word):
    path = "model.nonlinearity" if "tanh" in axis else "objective.iw_samples"
    spec = HEAD + f"grid:\n  axes: {{{path}: {axis}}}\n  variants: {{VAE: {{}}}}\n  seeds: [0, 1]\n"
    results.grid(lambda member: results.result(member, -80.0 - member.seed), spec=spec, with_curves=False)
    (group,) = (group.frames for group in analysis.load(results.root).groups())
    (axes,) = figures.log_likelihood(group).axes
    assert len([line for line in axes.lines if line.get_linestyle() == "-"]) == lines
    assert f", {word} per " in caption(figures.log_likelihood, "log_likelihood", group)


def test_the_caption_of_learning_curves_names_cells_in_the_order_of_the_legend(results):
    spec = HEAD + f"grid:\n  axes: {{{LR}: [1.0e-3, 3.0e-4, 1.0e-4]}}\n  variants: {{VAE: {{}}}}\n  seeds: [0]\n"
    results.grid(spec=spec)
    (group,) = (group.frames for group in analysis.load(results.root).groups())
    legend = [text.get_text() for text in figures.learning_curves(group).legends[0].get_texts()]
    said = caption(figures.learning_curves, "learning_curves", group)
    order = ["lr 1e-4", "lr 3e-4", "lr 1e-3"]
    assert [text.partition(" (")[0] for text in legend[:3]] == order
    assert [said.index(f"{name} ") for name in order] == sorted(said.index(f"{name} ") for name in order)

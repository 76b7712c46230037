"""What a report shows of a grid with further axes: one table and one figure of every subject, never one per place."""

import numpy as np
import pytest
from matplotlib.container import BarContainer

import analysis
from analysis import figures, report, tables
from analysis.figures.descriptions import caption
from analysis.figures.drawing import render
from analysis.figures.effects import listed
from analysis.figures.panels import MOST
from hvae_spec.records.result import AisResult

SPEC = """
name: small
data: {dataset: digits}
model: {layers: [{units: 6, mlp: [16]}, {units: 4, mlp: [8]}]}
training: {epochs: 4, batch_size: 32}
evaluation: {iw_samples: 500, every: 2}
grid:
  depth: [2]
  variants: {VAE: {}, VAE+BN: {model.batch_norm: true}}
  axes: {width: {narrow: {model.layers.0.mlp: [4]}, wide: {}}, training.batch_size: [16, 32]}
  seeds: [0, 1]
"""


def value(member):
    """Of a member: wide is worse by 4, batches of 16 by 2, and batch normalization better by 1."""
    small = member.spec.training.batch_size == 16
    wide = list(member.spec.model.layers[0].mlp) == [16]
    return -80.0 - 4 * wide - 2 * small + member.spec.model.batch_norm + 0.1 * member.seed * (1 + small)


@pytest.fixture
def frames_of(results):
    def frames(spec=SPEC, with_curves=False, **fields):
        results.grid(lambda member: results.result(member, value(member), **fields), spec=spec, with_curves=with_curves)
        return analysis.load(results.root)

    return frames


def test_every_table_has_the_places_as_rows(frames_of):
    frames = frames_of()
    sets = {one.name: one for one in report._table_sets(frames)}
    assert {name: len(one.tables) for name, one in sets.items()} == {
        "test_log_likelihood": 1,
        "active_units": 1,
        "kl": 1,
        "kl_standard_normal": 1,
        "bound_by_samples": 1,
        # Main effects and interactions, and simple effects, of two quantities.
        "paired_effects": 4,
        "detectable_effects": 1,
        "ranking": 1,
        "collapse": 1,
    }
    (units,) = sets["active_units"].tables
    assert units.subject == "digits, L = 2"
    assert (units.row_heading, units.columns) == ("width, batch, layer", ("VAE", "VAE+BN"))
    places = [f"{width}, {batch}" for width in ("narrow", "wide") for batch in (16, 32)]
    assert units.rows == tuple(f"{place}, {layer}" for place in places for layer in ("z_1", "z_2", "total"))
    (ranking,) = sets["ranking"].tables
    assert (ranking.row_heading, ranking.rows) == ("L, width, batch", tuple(f"2, {place}" for place in places))
    assert ranking.cells["2, wide, 16", "VAE+BN"].text().startswith("1 (2)")
    (bound,) = sets["bound_by_samples"].tables
    # -80 - 4 - 2, and half of 0.2 for the seeds
    assert bound.cells["wide, 16, K = 500", "VAE"].mean == pytest.approx(-85.9, abs=0.01)
    assert bound.cells["narrow, 32, K = 500", "VAE+BN"].mean == pytest.approx(-78.95, abs=0.01)
    # Tidy frames have the axes in columns.
    assert all({"width", "batch_size"} <= set(one.tidy) for one in sets.values())


def test_the_row_of_a_layer_is_set_as_mathematics(frames_of):
    (table,) = tables.active_units(frames_of()).tables
    lines = tables.latex([table], "units").splitlines()
    (total,) = [place for place, line in enumerate(lines) if line.startswith("wide, 32, total &")]
    assert lines[total - 1] == r"\midrule"
    assert any(line.startswith("wide, 32, $z_2$ &") for line in lines)
    html = tables.html_table(table)
    assert '<th scope="row">wide, 32, <i>z</i><sub>2</sub></th>' in html
    assert '<tr class=total><th scope="row">wide, 32, total</th>' in html


def test_collapse_and_annealing_have_the_places_as_rows(frames_of):
    ais = dict.fromkeys(AisResult.model_fields, 1) | {"bound": -80.5, "log_likelihood": -80.25}
    frames = frames_of(with_curves=True, ais=ais)
    (dead,) = tables.collapse(frames).tables
    assert (dead.row_heading, len(dead.rows)) == ("width, batch, layer", 8)
    assert dead.rows[:3] == ("narrow, 16, z_1", "narrow, 16, z_2", "narrow, 32, z_1")
    (annealed,) = tables.annealed(frames).tables
    assert (annealed.row_heading, annealed.subject) == ("width, batch, quantity", "digits, L = 2")
    assert annealed.cells["wide, 32, AIS less bound", "VAE"].mean == pytest.approx(0.25)


def test_there_is_one_figure_of_every_name(frames_of, monkeypatch):
    monkeypatch.setattr("analysis.figures.drawing._files", lambda make, digests: {"png": b"", "pdf": b""})
    drawn = list(render(frames_of(with_curves=True)))
    assert [drawing.stem for drawing in drawn] == list(figures.FIGURES)
    assert {drawing.group for drawing in drawn} == {"digits", "digits, L = 2"}


def test_captions_say_what_stands_where(frames_of):
    frames = frames_of()
    units = caption(figures.active_units, "active_units", frames)
    assert units.startswith("Mean active units at L = 2 from ")
    assert "A color per variant, a panel per width and batch." in units
    effects = caption(figures.paired_effects, "paired_effects", frames)
    assert "What each factor adds" in effects
    assert "in which two variants differ" not in effects
    assert "Above on" not in effects


def test_figures_of_numbers_have_a_panel_per_place(frames_of):
    frames = frames_of(with_curves=True)
    curves = figures.learning_curves(frames)
    titles = [f"{width}, batch {batch}" for width in ("narrow", "wide") for batch in (16, 32)]
    assert [axes.get_title() for axes in curves.axes] == titles
    assert curves.get_suptitle() == "digits, L = 2"
    finals = [
        [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 6.5]
        for axes in curves.axes
    ]
    assert [own[0] for own in finals] == pytest.approx([-81.9, -79.95, -85.9, -83.95])
    units = figures.active_units(frames)
    heights = [
        [[bar.get_height() for bar in bars] for bars in axes.containers if isinstance(bars, BarContainer)]
        for axes in units.axes
    ]
    assert np.shape(heights) == (4, 2, 2)
    assert [text.get_text() for text in units.legends[0].get_texts()] == ["VAE", "VAE+BN"]
    bounds = figures.bound_by_samples(frames)
    assert [axes.get_title() for axes in bounds.axes[::2]] == [f"{title}, L = 2" for title in titles]
    assert bounds.axes[0].get_ylim() == bounds.axes[6].get_ylim()


def test_of_many_places_those_with_the_best_cells_have_panels(frames_of):
    sizes = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    spec = SPEC.replace("[16, 32]", str(sizes)).replace("seeds: [0, 1]", "seeds: [0]")
    frames = frames_of(spec.replace("variants: {VAE: {}, VAE+BN: {model.batch_norm: true}}", ""))
    figure = figures.active_units(frames)
    # One variant, so that the widths have colors, and the ten batches panels. Batches of 16 are the worst.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["narrow", "wide"]
    assert MOST == 8
    assert [axes.get_title() for axes in figure.axes] == [f"batch {size}" for size in sizes[:8]]
    left_out = "The panels are of the 8 places with the best cells. Left out here: batch 16; batch 17."
    said = caption(figures.active_units, "active_units", frames)
    assert f"{left_out} All places: the table active_units." in said
    (table,) = tables.active_units(frames).tables
    assert len(table.rows) == 3 * len(sizes)


def test_pictures_show_the_place_of_the_best_cell_and_others_on_demand(frames_of, results):
    planned = results.plan(SPEC)
    frames = frames_of(with_curves=True)
    for member in planned:
        results.add_gallery(member)
    place = "This is the place of the best cell on the axes: narrow, batch 32."
    for name in ("unit_kl", "injected", "latents", "reconstructions", "prior_samples"):
        assert figures.FIGURES[name](frames).get_suptitle() == "digits, narrow, batch 32, L = 2, seed 0"
        assert caption(figures.FIGURES[name], name, frames).startswith(place)
    other = frames.select((frames.members.width == "wide") & (frames.members.batch_size == 16))
    assert figures.reconstructions(other).get_suptitle() == "digits, wide, batch 16, L = 2, seed 0"


def test_before_a_member_has_finished_the_first_place_that_has_anything_is_shown(results):
    results.grid(lambda member: None, spec=SPEC)
    for member in results.plan(SPEC):
        if member.labels["width"] == "wide":
            results.record(member, None)
    frames = analysis.load(results.root)
    assert figures.unit_kl(frames).get_suptitle() == "digits, wide, batch 16, L = 2, seed 0 (running)"
    said = caption(figures.unit_kl, "unit_kl", frames)
    assert said.startswith("This is the first place on the axes with any to show: wide, batch 16.")


def test_the_figure_of_effects_has_the_rows_of_the_table(frames_of):
    frames = frames_of()
    figure = figures.paired_effects(frames)
    left, right = figure.axes
    pooled, simple, *_ = tables.paired_effects(frames).tables
    texts = [tick.get_text() for tick in left.get_yticklabels()]
    kinds = ("Main effects", "Interactions")
    first = texts.index("Simple effects: batch normalization: off → on")
    assert [text for text in texts[:first] if text not in kinds] == list(pooled.rows)
    assert [text for text in texts[first:] if not text.startswith("Simple")] == [
        row for column in simple.columns for row in simple.rows if (row, column) in simple.cells
    ]
    # The main effect of batch normalization is 1 at every place and of every seed.
    points = {y: x for line in left.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert points[texts.index("batch normalization: off → on")] == pytest.approx(1)
    assert left.get_xlabel() == "log-likelihood (nats)"
    assert right.get_xlabel() == "active units"


def test_effects_that_are_too_many_for_the_figure_are_named_in_its_caption(frames_of, monkeypatch):
    frames = frames_of()
    monkeypatch.setattr("analysis.figures.effects.MOST_ROWS", 10)
    parts, left_out = listed(frames)
    assert [heading for heading, _ in parts] == ["Main effects", "Interactions"]
    # 4 of each of three factors
    assert left_out == {"simple effects": 12}
    said = caption(figures.paired_effects, "paired_effects", frames)
    assert said.startswith("Left out here: 12 simple effects; the table paired_effects has them.")


def test_effects_of_a_single_axis_are_drawn_once(frames_of):
    spec = SPEC.replace("width: {narrow: {model.layers.0.mlp: [4]}, wide: {}}, ", "")
    frames = frames_of(spec.replace("variants: {VAE: {}, VAE+BN: {model.batch_norm: true}}", ""))
    (axes, _) = figures.paired_effects(frames).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Simple effects: batch size: 16 → 32", "VAE"]

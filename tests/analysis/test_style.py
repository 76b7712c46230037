"""What every figure has in common: its title, its legend, its names."""

import itertools
import json

import pytest
from matplotlib.text import Text

import analysis
from analysis import figures
from analysis.figures import style


def the_group(results):
    (group,) = analysis.load(results.root).groups()
    return group.frames


def beyond_the_edge(figure):
    """Legends and titles of which a part is outside the figure."""
    figure.draw_without_rendering()
    edge = figure.bbox.expanded(1.001, 1.001)
    found = [*figure.legends, figure._suptitle]
    return [item for item in found if item.get_window_extent().get_points().tolist() != inner(item, edge)]


def inner(item, edge):
    box = item.get_window_extent()
    return [[max(box.x0, edge.x0), max(box.y0, edge.y0)], [min(box.x1, edge.x1), min(box.y1, edge.y1)]]


@pytest.mark.parametrize("depth", [1, 3])
def test_long_names_and_titles_stay_inside_every_figure(results, small_spec, depth):
    spec = small_spec.replace("depth: [2]", f"depth: [{depth}]").replace("[0, 1, 2]", "[0]")
    spec = spec.replace("VAE+BN+WU: {model.inference", "'a long name of a variant, 1 2 3 4 5 6': {model.inference")
    spec = spec.replace(
        "Prob. ladder+BN+WU: {}", "'another that is longer by far than the figure is wide': {objective.warm_up: 0}"
    )
    spec += "  axes: {training.batch_size: [32], model.nonlinearity: [{leaky_relu: 0.1}]}\n"
    data = {**results.result(results.plan(spec)[0])["data"], "canonical": False, "train_images": 1000}
    for member in results.grid(lambda m: results.result(m, data=data), spec=spec):
        results.add_gallery(member)
    drawn = {name: draw(the_group(results)) for name, draw in figures.FIGURES.items()}
    drawn = {name: figure for name, figure in drawn.items() if figure is not None}
    # The deeper two differ in more than one of the paper's advances.
    assert set(figures.FIGURES) - set(drawn) == (set() if depth == 1 else {"paired_effects"})
    for name, figure in drawn.items():
        assert not beyond_the_edge(figure), name
        # The legend has its own place: the panels are not squashed.
        assert min(axes.get_window_extent().height for axes in figure.axes) > 0.15 * figure.dpi, name


def test_names_of_reconstructions_stay_inside(results, small_spec):
    more = "".join(
        f"    number {number} of thirty letters: {{training.clip_norm: {number}}}\n" for number in range(1, 9)
    )
    for member in results.grid(spec=small_spec.replace("  exclude", f"{more}  exclude")):
        results.add_gallery(member)
    figure = figures.reconstructions(the_group(results))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 11
    assert min(box.x0 for box in boxes) >= 0
    assert all(above.y0 > below.y1 for above, below in itertools.pairwise(boxes))


@pytest.mark.parametrize("name", ["unit_kl", "latents", "injected"])
def test_names_beside_rows_do_not_overlap(results, small_spec, name):
    spec = small_spec.replace("VAE+BN+WU: {", "averyveryverylongnamewithoutspaces: {")
    for member in results.grid(spec=spec.replace("Prob. ladder+BN+WU: {", "another_very_very_long_name_as_well: {")):
        results.add_gallery(member)
    figure = figures.FIGURES[name](the_group(results))
    figure.draw_without_rendering()
    labels = [axes.yaxis.label.get_window_extent() for axes in figure.axes if "very" in axes.get_ylabel()]
    assert len(labels) == 2
    assert labels[0].y0 > labels[1].y1


def test_dollar_signs_in_names_are_no_mathematics(results, small_spec):
    name = r"cost $\warm$ a"
    spec = small_spec.replace("VAE+BN+WU: {", f"{json.dumps(name)}: {{")
    for member in results.grid(lambda m: results.result(m, -80.0 - m.seed), spec=spec):
        results.add_gallery(member)
    shown = {draw_name: texts(draw(the_group(results))) for draw_name, draw in figures.FIGURES.items()}
    for draw_name, found in shown.items():
        own = [text for text in found if "warm" in text]
        assert own, draw_name
        assert all(r"\$\warm\$" in text for text in own), own


def texts(figure):
    """All text of a figure, once it has been drawn."""
    figure.draw_without_rendering()
    return [item.get_text() for item in figure.findobj(Text)]


def test_the_class_legend_of_a_shallow_model_has_fewer_columns(results, small_spec):
    spec = small_spec.replace("depth: [2]", "depth: [1]").replace("{variant: VAE}", "{variant: Prob. ladder+BN+WU}")
    for member in results.grid(spec=spec):
        results.add_gallery(member)
    figure = figures.latents(the_group(results))
    assert not beyond_the_edge(figure)
    assert len({round(text.get_window_extent().y0) for text in figure.legends[0].get_texts()}) == 2


def test_a_title_is_broken_between_words_and_never_within_an_equation():
    figure = style.empty_figure(1, 1)
    assert figure.get_figwidth() == 3.6
    style.add_title(figure, "digits, training.batch_size = 32, model.batch_norm = True, L = 5, seeds 0, 1, 2")
    lines = figure.get_suptitle().split("\n")
    assert " ".join(lines) == "digits, training.batch_size = 32, model.batch_norm = True, L = 5, seeds 0, 1, 2"
    assert len(lines) > 1
    assert not any(line.endswith("=") or line.startswith("=") for line in lines)
    assert figure.get_figheight() > 1


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_variants_of_one_depth_stand_apart_and_keep_off_the_next(count):
    places = [style.offset(place, count, 0.15) for place in range(count)]
    assert places == sorted(set(places))
    assert sum(places) == pytest.approx(0)
    assert max(places) <= 0.3 + 1e-9


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("VAE", "VAE"),
        ("Prob. ladder+BN+WU", "Prob. ladder\n+BN+WU"),
        ("averyverylongname", "averyverylongname"),
        ("基线", "[U+57FA\nU+7EBF]"),
        ("VAE+基+BN", "VAE+[U+57FA]\n+BN"),
    ],
)
def test_long_names_are_wrapped(name, wrapped):
    assert style.wrap(name) == wrapped

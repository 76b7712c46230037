import re

import numpy as np
import pytest

import analysis
from analysis import figures
from analysis.figures.galleries import damaged_galleries, galleries
from analysis.figures.pca import principal_components
from hvae_spec.data.mosaic import mosaic


def with_galleries(results, spec, outcome=None):
    planned = results.grid(outcome or results.result, spec=spec, with_curves=False)
    for member in planned:
        if (outcome or results.result)(member)["status"] == "finished":
            results.add_gallery(member)
    return planned


def the_group(results):
    (group,) = analysis.load(results.root).groups()
    return group.frames


def panels(figure):
    return [axes for axes in figure.axes if axes.images or axes.collections]


def test_of_each_variant_the_deepest_finished_member_with_the_least_seed_is_shown(results, spec):
    def outcome(member):
        lost = member.labels["variant"] == "VAE+BN" and member.seed == 0
        return results.diverged(member) if lost else results.result(member)

    with_galleries(results, spec, outcome)
    found = galleries(the_group(results))
    assert [(item.variant, item.seed, item.depth) for item in found] == [
        ("VAE", 0, 3),
        ("VAE+BN", 1, 3),
        ("VAE+BN+WU", 0, 3),
        ("Prob. ladder+BN+WU", 0, 3),
    ]
    assert figures.latents(the_group(results)).get_suptitle() == "digits, L = 3, seeds 0, 1"


def test_records_without_galleries_make_no_pictures(results, small_spec):
    results.grid(spec=small_spec, with_curves=False)
    for name in ("injected", "latents", "reconstructions", "prior_samples"):
        assert figures.FIGURES[name](the_group(results)) is None


def test_a_damaged_gallery_is_named_and_that_of_the_next_seed_is_shown(results, small_spec):
    member = with_galleries(results, small_spec)[0]
    path = results.evaluation_of(member).folder / "gallery.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert [(item.variant, item.seed) for item in galleries(the_group(results))] == [
        ("VAE+BN+WU", 1),
        ("Prob. ladder+BN+WU", 0),
    ]
    (fault,) = damaged_galleries(analysis.load(results.root))
    assert fault.startswith(f"{path}: not a gallery that can be read (")
    assert fault.endswith(f"; delete {path.parent} to have the member evaluated again")


def test_a_record_holds_the_shape_of_its_images(results, small_spec):
    def outcome(member):
        return results.result(member, data=results.data(shape=(4, 16) if member.seed == 0 else (4, 4)))

    with_galleries(results, small_spec, outcome)
    frames = the_group(results)
    assert [item.shape for item in galleries(frames)] == [(4, 16)] * 2
    others = frames.select(frames.members["seed"] == 1)
    assert galleries(others) == []
    for fault in damaged_galleries(others):
        assert re.search(r"gallery\.safetensors: images of 64 pixels, .* a shape of 4 x 4; delete .*", fault)


def test_a_gallery_whose_result_states_no_shape_is_an_error(results, small_spec):
    with_galleries(results, small_spec, lambda member: results.result(member, data=None))
    assert galleries(the_group(results)) == []
    faults = damaged_galleries(analysis.load(results.root))
    assert len(faults) == 6
    assert all("images of 64 pixels, for which the result states no shape" in fault for fault in faults)


def test_a_mosaic_puts_every_image_where_it_belongs():
    images = np.arange(5 * 4, dtype=float).reshape(5, 4) / 20
    images[4, 0] = 7.0
    picture = mosaic(images, (2, 2), columns=3)
    assert picture.shape == (2 + 1 + 2, 3 * 3 - 1)
    for place, image in enumerate(images):
        top, left = 3 * (place // 3), 3 * (place % 3)
        assert picture[top : top + 2, left : left + 2].ravel() == pytest.approx(np.clip(image, 0, 1))
    # The gaps, and the place of the sixth image, are gray.
    assert (picture[2] == 0.5).all()
    assert (picture[:, [2, 5]] == 0.5).all()
    assert (picture[3:, 6:] == 0.5).all()


def test_injected_samples_have_a_panel_per_variant_and_layer_of_that_layer(results, spec):
    with_galleries(results, spec)
    figure = figures.injected(the_group(results))
    shown = [np.asarray(axes.images[0].get_array()) for axes in panels(figure)]
    assert len(shown) == 4 * 3
    # Layer i's first sample is i/10, and the second of the row is 1/1000 more.
    assert [picture[0, 0] for picture in shown] == pytest.approx([0.1, 0.2, 0.3] * 4)
    assert [picture[0, 9] for picture in shown] == pytest.approx([0.101, 0.201, 0.301] * 4)
    assert [picture[9, 0] for picture in shown] == pytest.approx([0.105, 0.205, 0.305] * 4)
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["VAE", "VAE+BN", "VAE+BN+WU", "Prob. ladder\n+BN+WU"]


def test_reconstructions_stand_below_their_images(results, small_spec):
    with_galleries(results, small_spec)
    (axes,) = panels(figures.reconstructions(the_group(results)))
    picture = np.asarray(axes.images[0].get_array())
    first, second, third = (picture[9 * row, ::9] for row in range(3))
    assert first == pytest.approx(np.arange(16) / 100)
    assert second == pytest.approx(0.5 + np.arange(16) / 100)
    assert third == pytest.approx(second)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["test images", "VAE+BN+WU", "Prob. ladder+BN+WU"]


def test_prior_samples_have_a_panel_per_variant(results, small_spec):
    with_galleries(results, small_spec)
    shown = panels(figures.prior_samples(the_group(results)))
    assert [axes.get_title() for axes in shown] == ["VAE+BN+WU", "Prob. ladder+BN+WU"]
    picture = np.asarray(shown[0].images[0].get_array())
    assert picture[::9, ::9].ravel() == pytest.approx(np.arange(36) / 64)


def test_latents_are_drawn_in_the_color_of_their_class(results, small_spec):
    with_galleries(results, small_spec)
    figure = figures.latents(the_group(results))
    scatters = [axes.collections[0] for axes in panels(figure)]
    assert len(scatters) == 2 * 2
    for scatter in scatters:
        colors = scatter.get_facecolors()
        assert len(np.unique(colors, axis=0)) == 10
        assert (colors[:10] == colors[10:20]).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(label) for label in range(10)]


def test_classes_have_their_names(results, small_spec):
    names = {"0": "cats", "1": "dogs of a kind that has a very long name", "2": "$x$"}
    with_galleries(results, small_spec, lambda member: results.result(member) | {"data": results.data(classes=names)})
    shown = [text.get_text() for text in figures.latents(the_group(results)).legends[0].get_texts()]
    assert shown == ["cats", "dogs of a ... long name", r"\$x\$", *map(str, range(3, 10))]


def test_many_classes_have_no_legend(results, small_spec):
    member = with_galleries(results, small_spec)[0]
    results.add_gallery(member, labels=np.arange(30))
    figure = figures.latents(the_group(results))
    assert not figure.legends


def test_principal_components_diagonalize_the_covariance():
    generator = np.random.default_rng(0)
    z = generator.standard_normal((500, 4)) @ generator.standard_normal((4, 4)) + 3
    scores, shares = principal_components(z, 4)
    eigenvalues, vectors = np.linalg.eigh(np.cov(z.T))
    assert np.cov(scores.T) == pytest.approx(np.diag(eigenvalues[::-1]), abs=1e-9)
    assert shares == pytest.approx(eigenvalues[::-1] / eigenvalues.sum())
    # The same axes, and signs that do not depend on the decomposition.
    for column, vector in zip(scores.T, vectors.T[::-1], strict=True):
        own = (z - z.mean(0)) @ (vector * np.sign(vector[np.abs(vector).argmax()]))
        assert column == pytest.approx(own)


def test_a_layer_of_one_unit_and_one_without_variance_can_be_drawn():
    scores, shares = principal_components(np.array([[1.0], [2.0], [6.0]]))
    assert scores.tolist() == [[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]
    assert shares.tolist() == [1.0]
    scores, shares = principal_components(np.ones((3, 2)))
    assert not scores.any()
    assert not shares.any()

"""Linear probes: whose labels they have, what their features are, and what they find where it is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hvae_spec import compiler
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import DataError
from hvae_spec.evaluate import member as evaluation
from hvae_spec.evaluate.probe import Labeled, chosen, features, fit, probe
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.random import Streams
from hvae_spec.probing import DRAWS, GRID, PER_UNIT, SAMPLES
from hvae_spec.reading import reads
from hvae_spec.records.layout import Results
from hvae_spec.spec.cost import evaluation_parts
from tests.members import member
from tests.nn.test_linear_gaussian import compiled
from tune.execute.data_check import found_images
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan


def test_labels_are_balanced_and_fewer_are_a_part_of_more():
    classes = np.random.default_rng(0).choice(5, 400, p=[0.4, 0.3, 0.2, 0.08, 0.02])
    order, rank = chosen(classes, seed=1)
    assert sorted(order) == list(range(400))
    assert np.bincount(classes[order[:25]]).tolist() == [5] * 5
    few = int((classes == 4).sum())
    # Where a class has no more images, the others have more.
    counts = np.bincount(classes[order[: 5 * few + 8]])
    assert counts[4] == few
    assert set(counts[:4]) == {few + 2}
    for place in (0, 7, 90, 399):
        assert rank[place] == (classes[order[:place]] == classes[order[place]]).sum()
    assert not np.array_equal(order, chosen(classes, seed=2)[0])


@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_features_are_the_means_of_every_conditional_over_samples_of_what_it_depends_on(inference):
    model = compiler.initialized([member(2, model__inference=inference, model__batch_norm=False)], 64)
    x = torch.rand(6, 64, generator=torch.Generator().manual_seed(1)).round()
    found = features(model, x, Streams([3]).begin("probe of the train set"))
    noise = Streams([3]).begin("probe of the train set").noise(SAMPLES, 6, model.units)
    with torch.no_grad():
        encoding = model.inference.encode(units_first(x[None]))
        latents = [draw.z for draw in model.inference.sample(encoding, noise)]
        means = [q.mean.expand(-1, -1, SAMPLES, -1) for q in model.inference(encoding, latents)]
    for own, mean in zip(found, means, strict=True):
        np.testing.assert_allclose(own, mean[0].mean(1).T.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_the_mean_of_a_layer_with_a_flow_is_as_sharp_as_those_in_closed_form(inference):
    """It is that of so many draws that what they add is far below what 10 samples of z_i would."""
    spec = member(2, model__inference=inference, model__batch_norm=False, model__flow="planar")
    model = compiler.initialized([spec], 64)
    with torch.no_grad():
        for head in (up.flow.head for up in model.inference.up):
            head.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(4)
    x = torch.rand(8, 64, generator=torch.Generator().manual_seed(1)).round()
    found = features(model, x, Streams([3]).begin("probe of the train set"))
    noise = Streams([3]).begin("probe of the train set").noise(SAMPLES, 8, model.units)
    many = Streams([4]).begin("encoding")
    with torch.no_grad():
        draws = model.inference.sample(model.inference.encode(units_first(x[None])), noise)
        for own, draw, units in zip(found, draws, model.units, strict=True):
            samples = torch.cat([draw.posterior.sample(many.normal(units, SAMPLES, 8)) for _ in range(1000)])
            mean, sd = samples.mean((0, 2)).T, samples.std((0, 2)).T
            error = (torch.from_numpy(own) - mean) / sd
            # 1,000 draws leave 0.032; one for each of the samples would leave 0.32.
            assert 0.02 < float(error.square().mean().sqrt()) < 0.045
            gaussian = (draw.posterior.base.mean.expand_as(draw.z)[0].mean(1).T - mean) / sd
            assert float(gaussian.square().mean().sqrt()) > 0.1


def test_layers_without_a_flow_have_the_same_features_whatever_the_flow_of_others():
    """Draws of a flow come after the noise of the samples, which so is that of a model without any."""
    above = {"model__layers": [{"units": 5, "mlp": [12, 10]}, {"units": 4, "mlp": [9, 8], "flow": "planar"}]}
    x = torch.rand(6, 64, generator=torch.Generator().manual_seed(1)).round()
    known = [
        features(
            compiler.initialized([member(2, model__inference="vae", model__batch_norm=False, **fields)], 64),
            x,
            Streams([3]).begin("probe of the train set"),
        )[0]
        for fields in ({}, above)
    ]
    np.testing.assert_array_equal(*known)


def test_a_probe_reads_off_a_layer_what_it_holds_and_no_more():
    """The class is whether the first unit of z_1 is positive, and z_2 knows of it as far as the two are correlated."""
    model, truth = compiled(2, "vae")
    x = truth.sample(500)
    with torch.no_grad():
        mean = model.inference.encode(units_first(x[None]))[0].mean[0, :, 0]
    classes = (mean[0] > 0).long().numpy()
    train, test = Labeled(x[:300], classes[:300]), Labeled(x[300:], classes[300:])
    few, every = probe(model, train, test, [20, 300])
    assert (few.labels, every.labels) == (20, 300)
    assert every.accuracy[0] > 0.96
    assert 0.75 < few.accuracy[0] < every.accuracy[0]
    # q(z_2|z_1) is a shrunken copy of z_1 here, whose noise is averaged over 10 samples.
    assert 0.8 < every.accuracy[1] < every.accuracy[0]
    assert probe(model, train, test, [300]) == [every]
    unknown = Labeled(x[300:], np.random.default_rng(0).integers(0, 2, 200))
    assert max(probe(model, train, unknown, [300])[0].accuracy) < 0.6


def test_the_fit_is_a_logistic_regression_whose_regularization_the_labels_choose():
    generator = np.random.default_rng(3)
    classes = np.arange(200) % 2
    rank = np.arange(200) // 2
    known = generator.normal(size=(200, 30))
    known[:, 0] += 0.8 * classes
    found, c = fit(known, classes, rank)
    scores = {}
    for tried in GRID:
        right = 0
        for fold in range(5):
            out = rank % 5 == fold
            scaler = StandardScaler().fit(known[~out])
            model = LogisticRegression(C=tried).fit(scaler.transform(known[~out]), classes[~out])
            right += int((model.predict(scaler.transform(known[out])) == classes[out]).sum())
        scores[tried] = right
    best = min(tried for tried in GRID if scores[tried] == max(scores.values()))
    assert c == best
    assert len(set(scores.values())) > 1
    whole = LogisticRegression(C=best).fit(StandardScaler().fit_transform(known), classes)
    np.testing.assert_allclose(found[-1].coef_, whole.coef_, atol=1e-6)


def test_latents_that_are_no_numbers_have_no_accuracy():
    model, truth = compiled(1, "vae")
    x = truth.sample(40)
    x[3] = torch.nan
    labeled = Labeled(x, np.arange(40) % 2)
    (found,) = probe(model, labeled, Labeled(x[5:], np.arange(35) % 2), [40])
    assert np.isnan(found.accuracy).all()


def test_data_sets_without_classes_say_so():
    dataset = load_dataset(member().data)
    dataset.check_probe([20])
    with pytest.raises(DataError, match="digits: a probe with 19 labels of 10 classes") as raised:
        dataset.check_probe([40, 19])
    assert "expected in evaluation.probe.labels at least two for each class, 20" in str(raised.value)
    alike = replace(dataset, train_labels=np.zeros_like(dataset.train_labels), classes={0: "round"})
    with pytest.raises(DataError, match="digits: its training images are all of one class"):
        alike.check_probe([40])


def test_multiply_adds_of_a_probe():
    spec = member(model__inference="vae", model__batch_norm=False, evaluation__probe={"labels": [100, "all"]})
    first, above = 64 * 12 + 12 * 10 + 10 * 2 * 5, 5 * 9 + 9 * 8 + 8 * 2 * 4 + 4 * 7 + 7 * 2 * 3
    # Five strengths on four fifths each in five folds, and the fit; 80 iterations.
    images = sum(5 * 4 * count + count for count in (100, 320))
    fits = 80 * images * 10 * (4 * (5 + 4 + 3) + 3 * 600)
    parts = evaluation_parts(spec, image_counts(spec.data))
    assert parts["probe"] == (320 + 24) * (first + 10 * above) + fits


@pytest.mark.parametrize(
    ("flow", "head", "moves"),
    [("planar", 10 * (2 * 4 + 1), 0), ({"iaf": {"steps": 2, "mlp": [6]}}, 2 * 6, 2 * (4 * 6 + 6 * 8))],
)
def test_draws_of_layers_with_a_flow_are_in_the_cost_of_their_probe(flow, head, moves):
    layers = [{"units": 5, "mlp": [12, 10]}, {"units": 4, "mlp": [9, 8], "flow": flow}]
    fields = {"model__inference": "vae", "model__batch_norm": False, "evaluation__probe": {"labels": [100]}}
    with_flow, plain = (member(2, **fields, **more) for more in ({"model__layers": layers}, {}))
    counts = image_counts(plain.data)
    more = evaluation_parts(with_flow, counts)["probe"] - evaluation_parts(plain, counts)["probe"]
    # Its head and its moves once per sample as the layer itself, and the moves once more for every draw.
    assert more == (100 + 24) * SAMPLES * (8 * head + moves + DRAWS * (moves + 4 * PER_UNIT))


@pytest.mark.parametrize("fields", [{"copies": 3}, {"copies": 3, "train_images": 2000}])
def test_all_labels_are_those_of_different_images_in_the_evaluation_and_in_its_cost(monkeypatch, fields):
    once = member(data__train_images=None, evaluation__probe={"labels": [20, "all"]})
    spec = once.model_copy(update={"data": once.data.model_copy(update=fields)})
    costs = [evaluation_parts(one, image_counts(one.data))["probe"] for one in (once, spec)]
    assert costs[0] == costs[1]
    seen = []
    monkeypatch.setattr(evaluation, "probe", lambda model, train, test, labels, **_: seen.append((train, labels)) or [])
    monkeypatch.setattr(evaluation, "probed_metrics", lambda *_: None)
    dataset = load_dataset(spec.data)
    planned = SimpleNamespace(spec=spec)
    evaluation.MemberEvaluation(planned, None, dataset, None)._probed(None, torch.zeros(0), 0)
    ((train, labels),) = seen
    assert (len(train.images), len(train.classes), labels) == (1437, 1437, [20, 1437])


@pytest.mark.parametrize("labeled", [False, True])
def test_a_plan_refuses_a_probe_of_images_of_ones_own_without_classes(tmp_path, labeled):
    images = np.random.default_rng(0).integers(0, 2, (60, 16))
    arrays = {"train": images[:40], "test": images[40:]}
    labels = {f"{part}_labels": np.arange(len(array)) % 2 for part, array in arrays.items()}
    np.savez(tmp_path / "images.npz", **arrays, **(labels if labeled else {}))
    reading = reads(
        f"name: a\ndata: {{dataset: own, own: {{name: mine, file: {tmp_path}/images.npz, range: [0, 1]}}}}\n"
        "model: {layers: [{units: 2, mlp: [4]}]}\ntraining: {epochs: 1, batch_size: 20}\n"
        "evaluation: {probe: {labels: [10, all]}}\n"
    )
    plan = make_plan(reading, Ledger(Results(tmp_path / "r")), RunInfo(tmp_path / "r", "cpu"), Machine(1, 0))
    if labeled:
        assert found_images(plan)
    else:
        with pytest.raises(DataError, match="mine: its training images have no classes"):
            found_images(plan)

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hvae_spec
from hvae_spec import compiler
from hvae_spec.data.batches import draw_once
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.evaluate.evaluation import record_statistics
from hvae_spec.evaluate.gallery import gallery
from hvae_spec.nn.hierarchy import units_first
from hvae_spec.nn.random import Streams
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.gallery_file import load_gallery
from hvae_spec.records.layout import GALLERY, EvaluationRecord, Results
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import OBSERVATIONS
from tests.members import member
from tests.reference import Reference
from tests.test_pack import grid_member

UNITS = [5, 4, 3]
KINDS = list(itertools.product(INFERENCES, OBSERVATIONS))


def trained(spec):
    """A model with statistics, the test images and their labels; initial weights will do."""
    model, dataset = compiler.initialized([spec], 64), load_dataset(spec.data)
    record_statistics(model, compiler.batches(spec, dataset), spec.seed, 0, "whole_set")
    return model, draw_once(dataset, "test", spec.model.observation), torch.from_numpy(dataset.test_labels)


@pytest.mark.parametrize(("inference", "observation"), KINDS)
def test_latents_and_reconstructions_are_those_of_the_slow_reference(inference, observation):
    spec = member(model__inference=inference, model__observation=observation)
    model, x, labels = trained(spec)
    arrays = gallery(model, x, labels, seed=3, epoch=7)
    noise = Streams([3]).begin("latents of the gallery", 7).noise(1, len(x), UNITS)
    reference = Reference(model, spec)
    for image in (0, 5, 23):
        z, _ = reference.posterior(x[image].double(), [eps[0, :, 0, image].double() for eps in noise])
        for layer, expected in enumerate(z, start=1):
            found = arrays[f"latents/{layer}"][image].double()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        means = model.eval().generative.likelihood.mean(units_first(arrays["latents/1"][None, :16]))[0, :, 0]
    torch.testing.assert_close(arrays["reconstructions"], means.T, rtol=1e-4, atol=1e-5)
    assert torch.equal(arrays["images"], x[:16])
    assert arrays["labels"].tolist() == labels.tolist()


def test_shapes_types_and_limits(monkeypatch):
    model, x, labels = trained(member())
    arrays = gallery(model, x, labels)
    shapes = {"labels": (24,), "images": (16, 64), "reconstructions": (16, 64), "prior_samples": (64, 64)}
    shapes |= {f"latents/{layer}": (24, units) for layer, units in enumerate(UNITS, start=1)}
    shapes |= {f"injected/{layer}": (16, 8, 64) for layer in (1, 2, 3)}
    assert {name: tuple(array.shape) for name, array in arrays.items()} == shapes
    assert {name for name, array in arrays.items() if array.dtype != torch.float32} == {"labels"}
    assert arrays["labels"].dtype == torch.int64
    monkeypatch.setattr("hvae_spec.evaluate.gallery.LATENTS", 10)
    fewer = gallery(model, x, labels)
    assert len(fewer["labels"]) == len(fewer["latents/1"]) == len(fewer["images"]) == len(fewer["injected/2"]) == 10


def test_injected_latents_are_standard_normal_with_the_generative_model_below():
    spec = member()
    model, x, labels = trained(spec)
    arrays = gallery(model, x, labels, seed=3)
    noise = Streams([3]).begin("injected samples of the gallery").noise(8, 16, UNITS)
    reference = Reference(model, spec)
    for layer, row, place in [(1, 0, 0), (2, 4, 7), (3, 15, 2)]:
        z = noise[layer - 1][0, :, place, row].double()
        for below in reversed(range(layer - 1)):
            down = spec.model.layers[below + 1].down
            mu, sigma2 = reference.gaussian(f"generative.conditionals.{below}", down, z)
            z = mu + sigma2.sqrt() * noise[below][0, :, place, row]
        d = reference.mlp("generative.likelihood.mlp", spec.model.layers[0].down, z)
        expected = torch.sigmoid(reference.linear("generative.likelihood.logits", d))
        torch.testing.assert_close(arrays[f"injected/{layer}"][row, place].double(), expected, rtol=1e-4, atol=1e-5)
    # No image has a part in them.
    other = gallery(model, 1 - x, labels, seed=3)
    assert all(torch.equal(other[f"injected/{layer}"], arrays[f"injected/{layer}"]) for layer in (1, 2, 3))


def test_a_gallery_is_a_function_of_seed_and_epoch():
    model, x, labels = trained(member())
    first, again, seed, epoch = (
        gallery(model, x, labels, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (0, 0), (1, 0), (0, 1)]
    )
    noisy = first.keys() - {"labels", "images"}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for other in (seed, epoch) for name in noisy)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A finished record."""
    root, spec = tmp_path_factory.mktemp("results"), member(training__epochs=1)
    had_gallery = []
    finish = EvaluationRecord.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            EvaluationRecord,
            "finish",
            lambda self, result: (had_gallery.append((self.folder / GALLERY).exists()), finish(self, result))[1],
        )
        run_pack(PackJob("pack", (grid_member(spec),), root, device="cpu"))
    # The result, which makes an evaluation complete, comes after the gallery.
    assert had_gallery == [True]
    (made,) = Results(root).records
    return made


def test_a_finished_record_has_the_gallery_of_its_model(record):
    arrays = load_gallery(record.folder)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    model = hvae_spec.load_record(record.folder)
    again = model.gallery()
    assert arrays.keys() == again.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again[name].numpy(), err_msg=name)
    np.testing.assert_array_equal(arrays["labels"], model.dataset().test_labels)


def test_a_finished_record_has_what_the_figures_of_bounds_need(record):
    result = record.evaluations[0].result
    assert list(result.bound_by_samples) == [1, 5, 10, 20]
    assert result.bound_by_samples[20] == (result.test_log_likelihood, result.test_log_likelihood_mc_se)
    assert result.bound_by_samples[1][0] == pytest.approx(result.test_elbo, rel=1e-9)
    # At the top N(0, I) is the prior.
    assert len(result.kl_standard_normal_per_layer) == 3
    assert result.kl_standard_normal_per_layer[-1] == pytest.approx(result.kl_per_layer[-1], rel=0.2)


def test_galleries_load_without_torch(record):
    code = "import sys; from hvae_spec.records.gallery_file import load_gallery; load_gallery(sys.argv[1]); "
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(record.folder)], check=True)


def test_what_is_no_gallery_is_named(record, tmp_path):
    with pytest.raises(UserError, match=r"gallery.safetensors: no gallery; .*earlier version"):
        load_gallery(tmp_path)
    path = tmp_path / GALLERY
    whole = (record.evaluations[0].folder / GALLERY).read_bytes()
    for content in (b"", b"garbage", whole[:200], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a gallery that can be read") as caught:
            load_gallery(tmp_path)
        assert str(path) in str(caught.value)
    save_file({"latents/1": torch.zeros(2, 2), "latents/2": torch.zeros(2, 2)}, path)
    with pytest.raises(UserError, match=r"it lacks images, injected/1, injected/2, labels, prior_samples"):
        load_gallery(tmp_path)


def test_injecting_in_a_notebook():
    model = hvae_spec.compile(member(model__batch_norm=False))
    top, again, lower = model.inject(3, 2000), model.inject(3, 2000), model.inject(1, 2000, seed=1)
    assert torch.equal(top, again)
    assert top.shape == lower.shape == (2000, 64)
    images = [top, model.sample(3), model.reconstruct(top[:4]), *model.encode(top[:4], samples=2)]
    assert all(values.is_contiguous() for values in images)  # as what saves them may ask
    # At the top: samples of the prior.
    error = top.std(0).mul(4 * (2 / 2000) ** 0.5) + 1e-6
    assert ((top.mean(0) - model.sample(2000).mean(0)).abs() < error).all()
    noise = Streams([1]).begin("injected samples").noise(1, 2000, UNITS)
    with torch.no_grad():
        expected = model.module.generative.likelihood.mean(noise[0])[0, :, 0].T
    torch.testing.assert_close(lower, expected)
    for layer in (0, 4):
        with pytest.raises(UserError, match=rf"layer {layer}: expected .* 1 \(nearest x\) to 3"):
            model.inject(layer, 1)

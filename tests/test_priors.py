"""Members with learned priors from their spec to their record and back."""

import pytest
import torch

import hvae_spec
from hvae_spec import annealing, compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import DataError, UserError
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import grid_member

PRIORS = [{"vamp": 6}, {"mixture": 4}, {"realnvp": {"blocks": 2, "mlp": [5]}}]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer leapfrog steps and a shorter preliminary run: nothing here depends on how many there are."""
    monkeypatch.setattr(annealing, "LEAPFROG_STEPS", 3)
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 30)


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_a_member_is_trained_annealed_recorded_and_loaded_without_its_training_images(prior, tmp_path, monkeypatch):
    evaluation = {"evaluation__every": 1, "evaluation__ais": {"images": 3, "chains": 2, "steps": 3}}
    spec = member(2, model__prior=prior, training__epochs=2, **evaluation)
    run_pack(PackJob("pack", (grid_member(spec),), tmp_path))
    (record,) = Results(tmp_path).records
    (evaluated,) = record.evaluations
    result = evaluated.result
    assert result.status == "finished"
    assert result.ais.log_likelihood is not None
    assert [len(kl) for kl in result.unit_kl] == [5, 1]
    images = hvae_spec.compile(spec).test_images()

    def missing(*given):
        raise DataError("no images here")

    monkeypatch.setattr("hvae_spec.model.load_dataset", missing)
    model = hvae_spec.load_record(record.folder)
    assert float(model.evaluate(images).log_likelihood.mean()) == pytest.approx(result.test_log_likelihood, abs=1e-6)
    annealed = model.ais(images[:3])
    assert float(annealed.log_likelihood.mean()) == pytest.approx(result.ais.log_likelihood, abs=1e-6)
    assert model.sample(5).shape == model.inject(2, 5).shape == model.inject(1, 5).shape == (5, 64)
    assert model.bound(images[:4]).isfinite().all()
    folder = model.save(tmp_path / "saved")
    assert torch.equal(hvae_spec.load_record(folder).sample(5), model.sample(5))


def test_a_vamp_prior_asks_for_the_images_that_it_starts_at(monkeypatch):
    spec = member(2, model__prior={"vamp": 6})
    own = hvae_spec.compile(spec)
    top = own.module.generative.top
    assert torch.equal(
        top.images, compiler.initialized([spec], 64, compiler.batches(spec, own.dataset())).generative.top.images
    )

    def missing(*given):
        raise DataError("no images here")

    monkeypatch.setattr("hvae_spec.model.load_dataset", missing)
    with pytest.raises(UserError, match="no images here"):
        hvae_spec.compile(spec)
    hvae_spec.compile(member(2, model__prior={"mixture": 6}))


def test_samples_of_a_mixture_are_of_all_its_components_and_a_seed_repeats_them():
    model = hvae_spec.compile(member(1, model__prior={"mixture": 3}, model__norm="none"))
    with torch.no_grad():
        model.module.generative.top.mean.copy_(torch.tensor([-30.0, 0.0, 30.0]).expand(1, 5, 1, 3))
        noise = model.module.prior_noise(Streams([0]), "prior samples", 1, 300)
        places = (model.module.ancestral(noise)[0].mean(1) / 30).round().flatten()
    counts = places.unique(return_counts=True)
    assert counts[0].tolist() == [-1, 0, 1]
    assert counts[1].tolist() == pytest.approx([100, 100, 100], abs=40)
    assert torch.equal(model.sample(300), model.sample(300))
    assert not torch.equal(model.sample(300), model.sample(300, seed=1))


def test_training_keeps_pseudo_inputs_in_the_unit_interval_where_all_their_pixels_learn():
    spec = member(2, model__prior={"vamp": 6})
    trainer = Trainer([spec, spec.model_copy(update={"seed": 1})], load_dataset(spec.data))
    for _ in range(3):  # in the first of which the KL counts nothing
        trainer.train_epoch()
    images = trainer.model.generative.top.images
    assert bool(((images >= 0) & (images <= 1)).all())
    at_the_ends = (images == 0) | (images == 1)
    assert 0.05 < float(at_the_ends.float().mean()) < 0.95
    trainer.streams.begin("training", 2)
    x = next(iter(trainer.batches.epoch(trainer.streams)))
    noise = trainer.streams.noise(1, x.shape[1], trainer.model.units)
    (gradient,) = torch.autograd.grad(log_weight(trainer.model(x, noise)).sum(), images)
    assert float((gradient[at_the_ends] != 0).float().mean()) > 0.9

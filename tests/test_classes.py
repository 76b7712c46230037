"""Models with classes from a spec to a record and back: test errors, resumption, and one model in Python."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import hvae_spec.evaluate.member
from hvae_spec import pack as packs
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.evaluate.classify import Classified
from hvae_spec.model import Model, load_record
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import StoppedError
from hvae_spec.records.layout import Results
from hvae_spec.training.checkpoint import load_checkpoint, save_checkpoint
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import job, result_of
from tune.run import main

SETTINGS = {
    "data__validation": 30,
    "data__labeled": 20,
    "data__labeled_batch": 10,
    "model__classes": {"mlp": [8]},
    "evaluation__every": 1,
    "evaluation__curve_iw_samples": 2,
    "evaluation__iw_samples": 6,
    "objective__warm_up": 0,
    "training__epochs": 2,
}


@pytest.mark.parametrize("classification", [0.1, "only"])
def test_a_record_has_the_test_error_and_of_the_baseline_nothing_else(tmp_path, classification):
    run_pack(job(tmp_path, [member(2, objective__classification=classification, **SETTINGS)]))
    (record,) = Results(tmp_path).records
    model, result = load_record(record.folder), result_of(record)
    dataset, found = load_dataset(model.spec.data), result.classification
    assert result.status == "finished"
    wrong = int((model.classify(model.test_images()).argmax(1).numpy() != dataset.test_labels).sum())
    assert (found.classes, found.images, found.wrong, found.error) == (10, 24, wrong, 100 * wrong / 24)
    assert found.interval == Classified(wrong, 24).interval
    shares = model.classify(model.test_images()).double()
    assert found.kl == pytest.approx(float((shares * (10 * shares).log()).sum(1).mean()), rel=1e-4, abs=1e-6)
    missed = model.classify(model.validation_images()).argmax(1).numpy() != dataset.validation_labels
    assert (found.validation_images, found.validation_wrong) == (30, int(missed.sum()))
    rows = record.epochs
    assert all(0 <= row["validation_error"] <= 100 and row["train_log_classes"] < 0 for row in rows)
    if classification == "only":
        assert result.test_log_likelihood is None
        assert result.kl_per_layer is None
        assert result.validation_log_likelihood is None
        assert not any("validation_log_likelihood" in row for row in rows)
        assert not record.units
        for method in (lambda: model.sample(2), lambda: model.bound(model.test_images())):
            with pytest.raises(UserError, match=r"q\(y\|x\) alone is trained of this model"):
                method()
    else:
        again = model.evaluate(model.test_images())
        assert float(again.log_likelihood.mean()) == result.test_log_likelihood
        assert result.validation_log_likelihood < 0


@pytest.mark.parametrize("every", [1, 3])
def test_a_pack_that_goes_on_from_a_checkpoint_is_the_same_bit_for_bit(tmp_path, every):
    specs = [member(2, seed=seed, **SETTINGS) for seed in (0, 1)]
    whole = Trainer(specs, load_dataset(specs[0].data))
    rows = [whole.train_epoch() for _ in range(2 + every)][-1]
    begun = Trainer(specs, load_dataset(specs[0].data))
    for _ in range(every):
        begun.train_epoch()
    save_checkpoint(tmp_path / "checkpoint", begun, ["a", "b"], {}, [])
    resumed = Trainer(specs, load_dataset(specs[0].data))
    load_checkpoint(tmp_path / "checkpoint", resumed, ["a", "b"])
    again = [resumed.train_epoch() for _ in range(2)][-1]
    for row, same in zip(rows, again, strict=True):
        assert row["train_bound"] == same["train_bound"]
        assert row["train_log_classes"] == same["train_log_classes"]
    for name, value in whole.optimizer.state().items():
        assert torch.equal(value, resumed.optimizer.state()[name])


def test_a_begun_curve_keeps_its_images_and_their_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    settings = {**SETTINGS, "data__validation": 0}
    begun = job(tmp_path, [member(2, **settings, data__test_images=24)])
    with pytest.raises(StoppedError):
        run_pack(begun, is_ending=lambda: True)
    more = job(tmp_path, [member(2, **settings, data__test_images=48)])
    assert more.trainings == begun.trainings
    run_pack(replace(more, pack_id=begun.pack_id))
    (record,) = Results(tmp_path).records
    assert [row["test_images"] for row in record.epochs] == [24, 24]
    errors = [row["test_error"] * 24 / 100 for row in record.epochs]
    assert errors == pytest.approx([round(wrong) for wrong in errors])
    assert result_of(record).classification.images == 48


def test_q_of_y_alone_is_the_same_whatever_is_said_of_a_bound():
    alone = {**SETTINGS, "objective__classification": "only", "model__batch_norm": True}
    bound = {"beta": 2.0, "warm_up": 2, "iw_samples": 3, "mc_samples": 2, "elbo_share": 0.5, "sample_ramp": True}
    one, other = member(2, **alone), member(2, **alone | {f"objective__{name}": value for name, value in bound.items()})
    assert one.digests == other.digests
    trainers = [Trainer([spec], load_dataset(spec.data)) for spec in (one, other)]
    for _ in range(2):
        rows = [trainer.train_epoch()[0] for trainer in trainers]
        assert rows[0]["train_log_classes"] == rows[1]["train_log_classes"]
    assert torch.equal(trainers[0].optimizer.rows, trainers[1].optimizer.rows)


def test_wilsons_interval_is_that_of_the_textbooks():
    low, high = Classified(5, 100).interval
    assert (low, high) == (pytest.approx(2.154, abs=1e-3), pytest.approx(11.175, abs=1e-3))
    assert Classified(0, 20).interval == (pytest.approx(0, abs=1e-9), pytest.approx(16.113, abs=1e-3))


@pytest.mark.parametrize(
    ("inference", "depth", "skip"), [("vae", 2, "none"), ("ladder", 2, "both"), ("vae", 1, "none")]
)
def test_a_model_in_python(inference, depth, skip):
    settings = {"model__inference": inference, "model__skip": skip, "model__norm": "none", "model__batch_norm": None}
    model = Model(member(depth, model__classes={"mlp": [4]}, data__labeled=20, **settings))
    images = model.test_images()[:6]
    shares = model.classify(images)
    assert shares.shape == (6, 10)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert [z.shape for z in model.encode(images, samples=3)] == [(3, 6, units) for units in model.module.units]
    assert model.reconstruct(images).shape == (6, 64)
    assert model.sample(5).shape == model.inject(1, 5).shape == (5, 64)
    assert not torch.equal(model.sample(5), model.sample(5, seed=1))
    assert {name for name in model.gallery() if name.startswith("injected")} == {
        f"injected/{layer}" for layer in range(1, depth + 1)
    }
    bound = model.bound(images, iw_samples=2)
    assert bound.shape == (6,)
    (-bound.mean()).backward()
    assert model.module.classifier.linear.weight.grad.abs().sum() > 0
    assert "q(y|x)" in model.summary()


def test_what_moves_numbers_is_refused_with_classes():
    model = Model(member(1, model__classes={"mlp": [4]}, data__labeled=20, model__norm="none", model__batch_norm=None))
    for method in (model.ais, model.refine):
        with pytest.raises(UserError, match="moves numbers and no classes, and this model has classes"):
            method(model.test_images()[:2])


def test_a_diverged_member_has_no_test_error(tmp_path, monkeypatch):
    def evaluated(*arguments, **named):
        found = evaluate(*arguments, **named)
        return replace(found, log_likelihood=found.log_likelihood * math.nan)

    evaluate = hvae_spec.evaluate.member.evaluate
    monkeypatch.setattr(hvae_spec.evaluate.member, "evaluate", evaluated)
    run_pack(job(tmp_path, [member(2, objective__classification=0.1, **{**SETTINGS, "evaluation__every": None})]))
    (record,) = Results(tmp_path).records
    result = result_of(record)
    assert (result.status, result.classification) == ("diverged", None)


def test_a_reconstruction_is_of_the_likeliest_class():
    model = Model(member(1, model__classes={"mlp": [4]}, data__labeled=20, model__norm="none", model__batch_norm=None))
    image = model.test_images()[:1]
    named = int(model.classify(image).argmax())
    z = model.encode(image)[0][0].T[None, :, None]
    y = torch.eye(10)[named][None, :, None, None]
    with torch.inference_mode():
        expected = model.module.generative.likelihood.mean(torch.cat([z, y], dim=1))[0, :, 0].T
    torch.testing.assert_close(model.reconstruct(image), expected)


def test_a_model_without_classes_classifies_nothing():
    model = Model(member(1, model__norm="none", model__batch_norm=None))
    with pytest.raises(UserError, match="this model has no classes"):
        model.classify(np.zeros((1, 64)))


def test_the_classes_of_ones_own_images_are_counted_before_anything_runs(tmp_path, capsys):
    images, labels = np.zeros((40, 4), dtype=np.uint8), np.arange(40) % 3
    np.savez(tmp_path / "o.npz", train=images, test=images, train_labels=labels, test_labels=labels)
    spec = {
        "name": "own",
        "data": {
            "dataset": "own",
            "own": {"name": "o", "file": str(tmp_path / "o.npz"), "range": [0, 1]},
            "labeled": 4,
        },
        "model": {"layers": [{"units": 2, "mlp": [3]}], "classes": {"mlp": [3], "count": 4}},
        "training": {"epochs": 1, "batch_size": 8},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec))
    assert main([str(tmp_path / "own.yaml"), "--plan", "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert "o: its training images are of 3 classes, and the model is one of 4" in said
    assert "Traceback" not in said


OF_CLASS_0 = (
    "50 labeled images are 5 of each of 10 classes, and of class 0 there are 4 among the training images in use"
)


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_too_few_images_of_a_class_are_found_before_anything_runs(tmp_path, capsys, more):
    spec = {
        "name": "few",
        "data": {"dataset": "digits", "labeled": 50, "labeled_batch": 10, "test_images": 10},
        "model": {"layers": [{"units": 2, "mlp": [3]}], "classes": {"mlp": [3]}},
        "training": {"epochs": 1, "batch_size": 8},
        "grid": {"axes": {"data.train_images": [70, 60]}},
    }
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(spec))
    results = tmp_path / "results"
    assert main([str(tmp_path / "few.yaml"), *more, "--results", str(results)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"digits: {OF_CLASS_0}" in said
    assert "expected in data.labeled at most 40" in said
    assert not list(results.glob("members/*"))


def test_too_few_of_ones_own_images_in_use_are_found_before_anything_runs(tmp_path, capsys):
    images, labels = np.zeros((60, 4), dtype=np.uint8), np.repeat(np.arange(3), 20)
    np.savez(tmp_path / "o.npz", train=images, test=images, train_labels=labels, test_labels=labels)
    own = {"name": "o", "file": str(tmp_path / "o.npz"), "range": [0, 1]}
    spec = {
        "name": "own",
        "data": {"dataset": "own", "own": own, "labeled": 6, "train_images": 41},
        "model": {"layers": [{"units": 2, "mlp": [3]}], "classes": {"mlp": [3], "count": 3}},
        "training": {"epochs": 1, "batch_size": 8},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec))
    arguments = [str(tmp_path / "own.yaml"), "--plan", "--results", str(tmp_path / "results")]
    assert main(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "of class 2 there are 1 among the training images in use" in said
    assert main([*arguments, "--set", "data.train_images=42"]) == 0

"""A model in a training loop of its user's own, and what is saved of it."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch

import analysis
import hvae_spec
from hvae_spec import annealing
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import MachineError, RecordError, UserError
from hvae_spec.model import Model, load_record
from hvae_spec.records.layout import Record
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.grid import Member
from hvae_spec.training.trainer import Trainer
from tests.members import SMALL, member
from tests.tune.planned import plan_of
from tune.rerun import rerun
from tune.run import main

SHAPES = [
    {},
    {"model__batch_norm": False, "model__inference": "vae", "model__observation": "gaussian"},
    {"objective__mc_samples": 2, "objective__iw_samples": 3, "objective__warm_up": 4},
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(**changes):
    """A small model with batch-norm statistics, the images that it is evaluated on, and what is measured."""
    model = Model(member(**changes))
    model.record_statistics()
    return model, model.test_images()


def zeros_and_ones(count, seed=1):
    return torch.bernoulli(torch.full((count, 64), 0.3), generator=generator(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_of_the_bound_is_that_of_the_trainers_first_step(shape):
    spec = member(**shape)
    trainer = Trainer([spec], load_dataset(spec.data))
    before = trainer.optimizer.rows.clone()
    trainer.streams.begin("training", 1)
    x = next(trainer.batches.epoch(trainer.streams))
    state = trainer.streams.generators[0].get_state()
    beta, samples = torch.tensor([0.25]), trainer.samples(1)
    trainer.optimizer.begin_epoch(1)
    trainer.step(x, beta, *samples)
    expected = trainer.optimizer.gradients[0]

    model = Model(spec)
    model.module.train()
    noise = torch.Generator()
    noise.set_state(state)
    loss = -model.bound(x[0], *samples, beta=0.25, generator=noise).mean()
    parameters = list(model.module.parameters())
    assert torch.equal(torch.cat([p.detach().flatten() for p in parameters]), before[0])
    loss.backward()
    assert torch.equal(torch.cat([p.grad.flatten() for p in parameters]), expected)
    # The step itself, with an ordinary optimizer.
    torch.optim.Adam(parameters, lr=1e-3).step()
    after = torch.cat([p.detach().flatten() for p in parameters])
    torch.testing.assert_close(after, trainer.optimizer.rows[0], rtol=0, atol=1e-6)


def test_beta_weights_the_kl_and_nothing_else():
    model, x = model_of()

    def bound(beta):
        return model.bound(x, beta=beta, generator=generator())

    likelihood, whole = bound(0.0), bound(1.0)
    assert bool((likelihood > whole).all())
    torch.testing.assert_close(bound(0.3), likelihood + 0.3 * (whole - likelihood))


def test_more_importance_samples_give_a_higher_bound_in_expectation_and_the_elbo_is_that_of_evaluate():
    model, x = model_of(model__inference="vae", model__batch_norm=False)  # its first weights are small
    with torch.no_grad():
        elbo = model.bound(x, mc_samples=600, generator=generator())
        tight = model.bound(x, mc_samples=10, iw_samples=60, generator=generator())
    assert elbo.shape == tight.shape == (24,)
    # The same samples: Jensen's inequality holds for every image.
    assert bool((elbo < tight).all())
    measured = model.evaluate(x, iw_samples=600)
    assert elbo.mean().item() == pytest.approx(measured.elbo.mean().item(), abs=0.05)
    assert float(tight.mean()) < float(measured.log_likelihood.mean())


def test_noise_comes_from_the_generator_or_from_pytorchs_own():
    model, x = model_of()
    assert torch.equal(model.bound(x, generator=generator(3)), model.bound(x, generator=generator(3)))
    assert not torch.equal(model.bound(x, generator=generator(3)), model.bound(x, generator=generator(4)))
    first = model.bound(x)
    assert not torch.equal(first, model.bound(x))
    torch.manual_seed(0)
    again = model.bound(x)
    torch.manual_seed(0)
    assert torch.equal(again, model.bound(x))


def test_a_loop_of_ones_own_learns_and_statistics_of_other_weights_are_refused():
    model, x = model_of(training__epochs=1)
    before = model.evaluate(x).elbo.mean()
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-2)
    images = torch.from_numpy(model.dataset().train / 16).float()
    torch.manual_seed(0)
    model.module.train()
    for _ in range(30):
        optimizer.zero_grad()
        (-model.bound(torch.bernoulli(images)).mean()).backward()
        optimizer.step()
    stale = "weights have changed since this model's batch-norm statistics were computed"
    for use in (lambda: model.evaluate(x), lambda: model.sample(1), lambda: model.reconstruct(x)):
        with pytest.raises(UserError, match=stale):
            use()
    model.record_statistics()
    assert model.evaluate(x).elbo.mean() > before + 5
    # Measuring leaves the module as it was: the loop may go on.
    assert model.module.training
    assert all(module.training for module in model.module.modules())
    model.module.eval()
    model.evaluate(x)
    assert not model.module.training


def test_a_models_own_test_images_are_taken_where_they_are_lighter_than_the_training_maximum(tmp_path, monkeypatch):
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 5)
    images = np.arange(50 * 25, dtype=np.uint8).reshape(50, 25)
    np.savez(tmp_path / "own.npz", train=images % 101, test=images)
    own = {"name": "own", "file": str(tmp_path / "own.npz"), "range": [0, 255]}
    spec = {**SMALL, "model": {**SMALL["model"], "batch_norm": False, "observation": "gaussian"}}

    def model_with(rescaled_by):
        return Model(MemberSpec.model_validate({**spec, "data": {"dataset": "own", "own": own, **rescaled_by}}))

    model = model_with({"rescaled_by": "training_maximum"})
    x = model.test_images()
    assert 2 < x.max() < 256 / 101
    assert model.evaluate(x).elbo.isfinite().all()
    assert model.ais(chains=2, steps=2).log_likelihood.isfinite().all()
    assert model.bound(x).isfinite().all()
    with pytest.raises(UserError, match=r"images must lie in \[0, 1\]"):
        model_with({}).bound(x)


def test_images_of_a_model_of_gray_levels_are_on_them():
    model = Model(member(model__observation="discretized_logistic", model__batch_norm=False))
    x = model.test_images()
    assert x.max() == 1
    assert model.bound(x).isfinite().all()
    assert model.bound(x.numpy().astype(float)).isfinite().all()
    with pytest.raises(
        UserError, match=r"images must be gray levels divided by the largest, 16, of which a discretized"
    ):
        model.bound(x * 16 / 17)


def test_a_summary_names_the_observation_model_and_counts_its_variance():
    model = Model(member(1, model__observation={"gaussian": {"variance": "learned"}}))
    assert "x: 64 (gaussian, variance learned)" in model.summary()
    total = sum(p.numel() for p in model.module.parameters())
    assert f"{total:,}" in model.summary().splitlines()[-1]


@pytest.mark.parametrize("flow", [{"planar": 3}, {"iaf": {"steps": 2, "mlp": [6]}}], ids=["planar", "iaf"])
def test_a_model_with_flows_does_all_that_a_model_does(flow, tmp_path):
    spec = member(2, model__flow=flow, model__batch_norm=False, evaluation__ais={"images": 3, "chains": 2, "steps": 4})
    model = Model(spec)
    assert len([line for line in model.summary().splitlines() if line.startswith("  flow_")]) == (
        2 if "planar" in flow else 6
    )
    assert model.summary().count("  flow: z_i = ") == 1
    x = model.test_images()
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if ".flow." in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    assert model.bound(x, mc_samples=2, iw_samples=3, generator=generator).shape == (24,)
    # A latent is a sample of the whole q, with the flow: the noise of the same stream makes another one without.
    plain = Model(member(2, model__batch_norm=False))
    plain.module.load_state_dict(model.module.state_dict(), strict=False)
    for one, other in zip(model.encode(x, samples=2), plain.encode(x, samples=2), strict=True):
        assert one.shape == other.shape
        assert not torch.allclose(one, other)
    # p has no flow: what is drawn from it is the same.
    assert torch.equal(model.inject(1, 2), plain.inject(1, 2))
    assert model.reconstruct(x).shape == (24, 64)
    assert model.gallery()["latents/2"].shape == (24, 4)
    annealed, evaluation = model.ais(), model.evaluate(x, iw_samples=30)
    assert annealed.log_likelihood.isfinite().all()
    assert [len(kl) for kl in evaluation.kl] == [1, 1]
    again = load_record(model.save(tmp_path / "mine"))
    assert torch.equal(again.evaluate(x, iw_samples=30).log_likelihood, evaluation.log_likelihood)


def test_what_there_can_be_no_bound_of_is_one_message():
    model, x = model_of()
    for images, options, words in (
        (x, {"mc_samples": 0}, r"mc_samples 0: expected a whole number greater than 0"),
        (x, {"iw_samples": 2.5}, r"iw_samples 2.5: expected a whole number greater than 0"),
        (x, {"beta": -1}, r"beta -1: expected a number of 0 or more"),
        (x, {"beta": float("nan")}, r"beta nan: expected a number of 0 or more"),
        (x[:0], {}, "no images"),
        (x[:, :9], {}, r"images of shape \[24, 9\]: expected \[N, 64\]"),
        (x * torch.nan, {}, r"must lie in \[0, 1\]"),
        (2 * x, {}, r"must lie in \[0, 1\]"),
    ):
        with pytest.raises(UserError, match=words):
            model.bound(images, **options)
    model.module.train()
    with pytest.raises(UserError, match="one image has no batch-norm statistics"):
        model.bound(x[:1])
    fresh = Model(member())
    with pytest.raises(UserError, match="statistics were never computed"):
        fresh.bound(x)
    fresh.module.train()
    assert fresh.bound(x).requires_grad


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, x: model.sample(0), "count 0: expected a whole number greater than 0"),
        (lambda model, x: model.sample(-1), "count -1: expected a whole number greater than 0"),
        (lambda model, x: model.sample(2, seed=-1), "seed -1: expected a whole number of 0 or more"),
        (lambda model, x: model.inject(1, 0), "count 0: expected"),
        (lambda model, x: model.inject(1.5, 2), r"layer 1.5: expected a stochastic layer of this model, 1 .* to 3"),
        (lambda model, x: model.inject(4, 2), r"layer 4: expected a stochastic layer of this model, 1 .* to 3$"),
        (lambda model, x: model.encode(x, samples=0), "samples 0: expected a whole number greater than 0"),
        (lambda model, x: model.encode(x, samples=True), "samples True: expected a whole number"),
        (lambda model, x: model.reconstruct(x, seed="a"), "seed 'a': expected a whole number of 0 or more"),
        (lambda model, x: model.evaluate(x, iw_samples=0), "iw_samples 0: expected a whole number greater than 0"),
        (lambda model, x: model.evaluate(x, 10**10), "iw_samples 10000000000: .*0, at most 1,000,000,000"),
        (lambda model, x: model.evaluate(x, seed=0.5), "seed 0.5: expected a whole number of 0 or more"),
        (lambda model, x: model.ais(x, steps=0), "steps 0: expected a whole number greater than 0"),
        (lambda model, x: model.ais(x, steps=-1), "steps -1: expected a whole number greater than 0"),
        (lambda model, x: model.ais(x, chains=0), "chains 0: expected a whole number greater than 0"),
        (lambda model, x: model.ais(x, seed=-3), "seed -3: expected"),
        (lambda model, x: model.refine(x, steps=0), "steps 0: expected a whole number greater than 0"),
        (lambda model, x: model.refine(x, steps=2.5), "steps 2.5: expected a whole number greater than 0"),
        (lambda model, x: model.refine(x, lr=0), "lr 0: expected a number greater than 0"),
        (lambda model, x: model.refine(x, lr=-0.1), "lr -0.1: expected a number greater than 0"),
        (
            lambda model, x: model.refine(x, lr=1e-300),
            "lr 1e-300: expected a number of at least 1.17.*: nearer 0, float32",
        ),
        (lambda model, x: model.refine(x, iw_samples=0), "iw_samples 0: expected a whole number greater than 0"),
    ],
)
def test_numbers_that_a_spec_would_not_take_are_refused_and_no_default_stands_for_them(call, words):
    with pytest.raises(UserError, match=words):
        call(*model_of())


def test_the_name_of_a_model_says_its_flows_and_its_prior():
    spec = member(2, model__flow="planar", model__prior={"mixture": 5}, model__skip="generative")
    model = Model(spec)
    assert repr(model).startswith("Model(Prob. ladder+skip p+BN+WU+planar 10+mixture 5, 2 layers, ")
    assert model.summary().startswith("Prob. ladder+skip p+BN+WU+planar 10+mixture 5, 2 stochastic layers (")
    assert repr(Model(member(2))).startswith("Model(Prob. ladder+BN+WU, 2 layers, ")


def test_numbers_of_numpy_and_torch_are_numbers():
    model, x = model_of()
    assert torch.equal(model.sample(np.int64(2), seed=np.int32(3)), model.sample(2, seed=3))
    assert torch.equal(model.encode(x, torch.tensor(2))[0], model.encode(x, 2)[0])
    once, again = (model.refine(x[:2], steps=1, lr=lr, iw_samples=2)[0].elbo for lr in (0.25, np.float32(0.25)))
    assert torch.equal(once, again)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_saved_model_is_loaded_with_the_same_numbers_and_says_what_it_is(tmp_path, norm):
    model, x = model_of(model__norm=norm)
    model.epoch = 7
    model.record_statistics()
    folder = model.save(tmp_path / "mine")
    assert folder == tmp_path / "mine"
    again = load_record(folder)
    assert (again.epoch, again.spec) == (7, model.spec)
    one, other = model.evaluate(x, seed=3), again.evaluate(x, seed=3)
    assert torch.equal(one.log_likelihood, other.log_likelihood)
    assert torch.equal(one.elbo, other.elbo)
    assert torch.equal(model.sample(4), again.sample(4))

    record = Record(folder)
    training = record.training
    assert record.spec.own_weights == training.weights_sha256
    assert record.spec.model_copy(update={"own_weights": None}) == model.spec
    assert (training.digest, training.trajectory) == (record.spec.digests.training, record.spec.digests.trajectory)
    assert {training.digest, training.trajectory}.isdisjoint(
        {model.spec.digests.training, model.spec.digests.trajectory}
    )
    assert (training.status, training.epochs, training.steps, training.data) == ("trained", 7, None, None)
    assert (training.training_seconds, training.continues, training.pack) == (None, None, None)
    (segment,) = training.segments
    assert segment.command == list(sys.argv)
    assert segment.versions["torch"] == torch.__version__
    assert (segment.device, segment.threads) == ("cpu", torch.get_num_threads())
    assert record.damaged_arrays(*record.outcome(record.spec.digests.evaluation)) == []
    # Trained on, it is another one, and says where it came from.
    with torch.no_grad():
        next(again.module.parameters()).add_(0.1)
    more = Record(again.save(tmp_path / "more"))
    assert more.training.continues == training.digest
    assert more.training.digest != training.digest


def test_statistics_of_other_weights_are_not_saved(tmp_path):
    model, x = model_of()
    with torch.no_grad():
        next(model.module.parameters()).add_(0.1)
    again = load_record(model.save(tmp_path / "a"))
    with pytest.raises(UserError, match="statistics were never computed"):
        again.evaluate(x)
    again.record_statistics()
    model.record_statistics()
    assert torch.equal(again.evaluate(x).elbo, model.evaluate(x).elbo)


def test_damage_to_a_saved_model_is_found(tmp_path):
    model, _ = model_of()
    folder = model.save(tmp_path / "a")
    for name in ("weights.safetensors", "statistics.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(RecordError, match=rf"{name}: damaged .*; no run can make it again"):
            load_record(folder)
        record = Record(folder)
        assert [name in fault for fault in record.damaged_arrays(record.training, None)] == [True]
        (folder / name).write_bytes(content)
    load_record(folder)


GRID = """
name: small
data: {dataset: digits, train_images: 320, test_images: 24}
model: {layers: [{units: 4, mlp: [8]}], batch_norm: true}
training: {epochs: 4, batch_size: 32}
evaluation: {iw_samples: 5}
"""


def test_a_run_never_takes_a_saved_model_for_a_training(tmp_path):
    """Whatever its folder is called, and however long it says that it was trained."""
    (planned,) = hvae_spec.members(hvae_spec.loads(GRID))
    model = hvae_spec.compile(planned)
    assert isinstance(planned, Member)
    for model.epoch in (0, 2, 4):
        model.save(tmp_path / "members" / f"mine{model.epoch}")
    plan = plan_of(GRID, tmp_path)
    (need,) = plan.needs
    assert (need.status, need.what, need.extends, need.hindered) == ("pending", "training", None, "")
    assert (plan.notes, plan.faults) == ([], [])
    # Named like a training of the grid: refused, and if it is moved there, neither used nor lost.
    with pytest.raises(UserError, match="the name ends as that of another training does"):
        model.save(tmp_path / "members" / planned.folder)
    shutil.move(tmp_path / "members" / "mine4", tmp_path / "members" / planned.folder)
    (need,) = plan_of(GRID, tmp_path).needs
    assert (need.status, need.what) == ("damaged", "nothing")
    assert "of another training" in need.damage
    shutil.move(tmp_path / "members" / planned.folder, tmp_path / "members" / "mine4")
    # Nor from another results folder.
    (need,) = plan_of(GRID, tmp_path / "other", sources=[tmp_path]).needs
    assert (need.what, need.adopted) == ("training", None)

    members = analysis.load(tmp_path).members.set_index("epochs")
    assert members.status.tolist() == ["trained"] * 3
    assert members.own_weights.notna().all()
    assert members.folder[2] == str(tmp_path / "members" / "mine2")
    assert members.test_log_likelihood.isna().all()
    assert members.steps.isna().all()


def test_a_saved_model_is_not_run_again_and_its_spec_is_printed_as_one_that_can_be(tmp_path, capsys):
    folder = hvae_spec.compile(hvae_spec.loads(GRID)).save(tmp_path / "members" / "mine")
    with pytest.raises(RecordError, match="saved as they are, so they cannot be trained again"):
        rerun(folder, "cpu", None)
    assert main([str(folder), "--print-spec"]) == 0
    printed = capsys.readouterr().out
    assert "own_weights" not in printed
    assert hvae_spec.members(hvae_spec.loads(printed))[0].digests == hvae_spec.members(hvae_spec.loads(GRID))[0].digests


def test_nothing_is_overwritten_or_half_written(tmp_path, monkeypatch):
    model, _ = model_of()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(UserError, match=f"{name}: holds something already, which is never overwritten"):
            model.save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    with pytest.raises(UserError, match="holds something already"):
        model.save(tmp_path / "empty")
    assert (tmp_path / "full" / "a.txt").read_text() == "mine"

    replace = os.replace

    def full_disk(source, target):
        if str(target).endswith("training.json"):
            raise OSError(28, "No space left on device", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(MachineError, match=r"training.json: No space left on device; make room"):
        model.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path):
    model, _ = model_of()
    for epoch in (-1, 2.5):
        model.epoch = epoch
        with pytest.raises(UserError, match="expected the number of epochs trained"):
            model.save(tmp_path / "a")
    model.epoch = 1
    model.module.double()
    with pytest.raises(UserError, match="is not the float32 parameter"):
        model.save(tmp_path / "a")
    model.module.float().more = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="more is no parameter of the spec"):
        model.save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_shape_of_an_image_is_that_of_the_data():
    assert Model(member()).image_shape == (8, 8)
    own = {"name": "mine", "file": "nowhere.npz", "range": [0, 1], "shape": [3, 4]}
    spec = MemberSpec.model_validate({**SMALL, "data": {"dataset": "own", "own": own}})
    assert Model(spec).image_shape == (3, 4)

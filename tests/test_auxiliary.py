"""Members with an auxiliary variable from their spec to their record and back."""

import pytest
import torch

import hvae_spec
from hvae_spec import annealing
from hvae_spec.errors import UserError
from hvae_spec.nn.random import Streams
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from tests.members import member
from tests.test_pack import grid_member


def test_a_member_records_what_an_auxiliary_variable_takes_and_is_loaded_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(annealing, "LEAPFROG_STEPS", 3)
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 30)
    evaluation = {
        "evaluation__every": 1,
        "evaluation__curve_iw_samples": 2,
        "evaluation__probe": {"labels": [20]},
        "evaluation__ais": {"images": 3, "chains": 2, "steps": 3},
    }
    spec = member(2, model__auxiliary={"units": 6, "mlp": [7]}, training__epochs=2, **evaluation)
    run_pack(PackJob("pack", (grid_member(spec),), tmp_path))
    (record,) = Results(tmp_path).records
    (evaluated,) = record.evaluations
    result = evaluated.result
    assert (result.status, [len(kl) for kl in result.unit_kl]) == ("finished", [5, 4])
    assert result.ais.log_likelihood is not None  # of p alone
    assert len(result.probe.probes[0].accuracy) == 2
    assert len(record.epochs) == 2
    for row in record.epochs:
        total = row["train_reconstruction"] - sum(row["kl_per_layer"]) - row["auxiliary_nats"]
        assert row["train_bound_beta_1"] == pytest.approx(total, abs=1e-3)
    model = hvae_spec.load_record(record.folder)
    found = model.evaluate(model.test_images())
    assert found.auxiliary == pytest.approx(result.auxiliary_nats, abs=1e-6)
    assert float(found.log_likelihood.mean()) == pytest.approx(result.test_log_likelihood, abs=1e-6)


def test_a_model_draws_an_a_for_every_sample_and_has_nothing_to_refine(tmp_path):
    spec = member(2, model__auxiliary={"units": 6, "mlp": [7]}, model__norm="none")
    model = hvae_spec.compile(spec)
    x = model.test_images()[:3]
    one, other = model.encode(x, samples=2), model.encode(x, samples=2)
    assert all(torch.equal(z, again) for z, again in zip(one, other, strict=True))
    assert [z.shape for z in one] == [(2, 3, 5), (2, 3, 4)]
    # Samples of one image differ by more than the noise of the latents: that of a is drawn for each of them.
    streams = Streams([0]).begin("encoding")
    noise = model.module.noise(streams, 2, 3)
    noise[-1].zero_()
    with torch.no_grad():
        images = x.T[None, :, None]
        without = model.module.draw(images, model.module.known(images), noise)
    assert torch.equal(without.a.z[:, :, 0], without.a.z[:, :, 1])
    assert not torch.allclose(one[0][0], without.latents[0][0, :, 0].T)
    assert model.reconstruct(x).shape == (3, 64)
    assert model.sample(2).shape == (2, 64)
    bound = model.bound(x, mc_samples=2, iw_samples=3)
    bound.sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.module.auxiliary.parameters() if p.dim() > 2)
    assert "∫ q(a|x) q(z_2|x, a) q(z_1|z_2, x, a) da" in model.summary()
    with pytest.raises(UserError, match="refine has nothing to fit"):
        model.refine(x)
    again = hvae_spec.load_record(model.save(tmp_path / "saved"))
    assert torch.equal(again.encode(x)[0], model.encode(x)[0])


def test_without_an_auxiliary_variable_a_member_is_what_it_was():
    plain = member(2)
    assert member(2, model__auxiliary=None).digests == plain.digests
    assert member(2, model__auxiliary={"units": 3}).digests.trajectory != plain.digests.trajectory
    assert not any("auxiliary" in name for name in hvae_spec.compile(plain).module.state_dict())

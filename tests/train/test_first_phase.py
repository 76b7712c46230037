"""Training in phases: fine-tuning starts from the weights of a finished member (Table 1)."""

import pytest
import torch

import hvae_spec
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob, PackMember
from hvae_spec.records.layout import Results
from hvae_spec.train.checkpoint import load_weights, save_weights
from hvae_spec.train.optimizer import PackOptimizer
from hvae_spec.train.trainer import Trainer
from tests.members import member

FIRST = {"epochs": 3, "warm_up": 2}


def tuned(seed=0, **overrides):
    options = {
        "training__first_phase": FIRST,
        "training__lr_decay": {"factor": 0.5, "every": 2},
        "objective__warm_up": 0,
        "objective__iw_samples": 2,
        "training__epochs": 4,
    }
    return member(seed=seed, **(options | overrides))


def job(root, specs, **options):
    members = tuple(
        PackMember(spec, spec.digest, {"dataset": "digits", "depth": 3, "variant": "V", "seed": spec.seed}, folder)
        for spec in specs
        for folder in [f"m{spec.seed}-{spec.digest[:12]}"]
    )
    return PackJob(specs[0].digest[:8], members, root, device="cpu", **options)


def test_the_first_phase_is_the_member_that_an_ordinary_grid_trains():
    assert tuned().first_phase.digest == member().digest
    assert tuned(seed=4).first_phase.digest == member(seed=4).digest
    assert member().first_phase is None
    assert tuned().digest != tuned(training__first_phase={**FIRST, "epochs": 2}).digest


def test_fine_tuning_starts_from_the_record_wherever_it_is(tmp_path):
    run_pack(job(tmp_path / "base", [member(seed=0), member(seed=1)]))
    run_pack(job(tmp_path / "tuned", [tuned(0), tuned(1)], sources=(tmp_path / "base",)))
    for seed in (0, 1):
        base = Results(tmp_path / "base").record(member(seed=seed).digest, "")
        record = Results(tmp_path / "tuned").record(tuned(seed).digest, "")
        assert record.result["continues"] == base.result["digest"] == member(seed=seed).digest
        # The same from its parts: the base's weights, no optimiser state, other random numbers than before.
        trainer = Trainer([tuned(seed)], load_dataset(tuned().data))
        trainer.start_from([load_weights(base.weights)])
        rows = [trainer.train_epoch()[0] for _ in range(4)]
        assert [row["train_bound"] for row in record.epochs] == pytest.approx(
            [row["train_bound"] for row in rows], rel=2e-3
        )
        untrained = Trainer([tuned(seed)], load_dataset(tuned().data)).train_epoch()[0]
        assert rows[0]["train_bound"] > untrained["train_bound"] + 1


def test_a_first_phase_that_has_not_finished_is_told(tmp_path):
    with pytest.raises(UserError, match=r"its first phase has not finished in .*; add it to the"):
        run_pack(job(tmp_path, [tuned()]))


def test_weights_of_an_earlier_version_are_told(tmp_path):
    run_pack(job(tmp_path / "base", [member()]))
    record = Results(tmp_path / "base").record(member().digest, "")
    save_weights(record.weights, {name: value.mT for name, value in load_weights(record.weights).items()})
    with pytest.raises(UserError) as caught:
        run_pack(job(tmp_path / "tuned", [tuned()], sources=(tmp_path / "base",)))
    told = str(caught.value)
    assert told.startswith(f"{record.weights}: weights of another model, or of an earlier version")
    assert "delete the first phase's folder" in told
    assert "\n" not in told
    with pytest.raises(UserError, match="or of an earlier version, which laid them out differently; delete") as caught:
        hvae_spec.load_record(record.folder)
    assert "\n" not in str(caught.value)


def test_weights_go_into_the_optimisers_rows():
    source = Trainer([member(seed=7)], load_dataset(member().data))
    target = Trainer([member(seed=0), member(seed=1)], load_dataset(member().data))
    target.start_from([source.model.state_dict(), source.model.state_dict()])
    assert torch.equal(target.optimizer.rows[1], source.optimizer.rows[0])


def test_the_learning_rate_is_multiplied_every_so_many_epochs():
    training = tuned().training
    adam = PackOptimizer([training, replace_lr(training)], [torch.zeros(2, 3)])
    rates = []
    for epoch in range(1, 8):
        adam.begin_epoch(epoch)
        rates.append(adam.learning_rates)
    first = training.optimizer.adam.lr
    assert [rate[0] / first for rate in rates] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert {rate[1] for rate in rates} == {first}


def replace_lr(training):
    return training.model_copy(update={"lr_decay": None})


def test_an_interrupted_second_phase_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr("hvae_spec.pack.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("hvae_spec.pack.CHECKPOINT_SHARE", 1e9)
    run_pack(job(tmp_path / "base", [member()]))
    sources = (tmp_path / "base",)
    run_pack(job(tmp_path / "whole", [tuned()], sources=sources))
    epochs = Trainer.train_epoch
    calls = []

    def killed(self):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epochs(self)

    monkeypatch.setattr(Trainer, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        run_pack(job(tmp_path / "cut", [tuned()], sources=sources))
    run_pack(job(tmp_path / "cut", [tuned()]))  # from its checkpoint, without its first phase
    whole, cut = (Results(tmp_path / name).record(tuned().digest, "") for name in ("whole", "cut"))
    assert cut.result["test_log_likelihood"] == whole.result["test_log_likelihood"]

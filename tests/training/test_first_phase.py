"""Training in phases: fine-tuning starts from the weights of a finished member (Table 1)."""

import pytest
import torch

import hvae_spec
from hvae_spec.compiler import parameters_of
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import RecordError, UserError
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.arrays import load_arrays, save_arrays
from hvae_spec.records.layout import Results
from hvae_spec.training.optimizer import PackOptimizer
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import grid_member

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
    name = specs[0].digests.training[:8]
    return PackJob(name, tuple(map(grid_member, specs)), root, device="cpu", **options)


def record_of(root, spec):
    return Results(root).find(spec.digests.training)


def test_the_first_phase_is_the_member_that_an_ordinary_grid_trains():
    assert tuned().first_phase.digests.training == member().digests.training
    assert tuned(seed=4).first_phase.digests.training == member(seed=4).digests.training
    assert member().first_phase is None
    assert tuned().digests.training != tuned(training__first_phase={**FIRST, "epochs": 2}).digests.training


def test_the_first_phase_stops_early_as_the_member_that_it_is_does(tmp_path, monkeypatch):
    shape = {"depth": 1, "data__validation": 20, "evaluation__every": 1, "evaluation__curve_iw_samples": 2}
    early = {**shape, "training__early_stopping": {"patience": 1}, "objective__warm_up": 0}
    first = {"epochs": 3, "warm_up": 0}
    base, second = member(**early), tuned(**early, training__first_phase=first, training__epochs=1)
    assert second.first_phase.digests.training == base.digests.training
    watch = Trainer.watch
    monkeypatch.setattr(Trainer, "watch", lambda self, m, bound: watch(self, m, -self.epoch))
    run_pack(job(tmp_path, [base]))
    record = record_of(tmp_path, base)
    assert (record.training.best_epoch, record.training.stopped_epoch) == (1, 2)
    started = []
    monkeypatch.setattr(Trainer, "start_from", lambda self, weights: started.extend(weights))
    run_pack(job(tmp_path, [second]))
    # With the weights that the record keeps: those of its best epoch.
    (weights,) = started
    kept = load_arrays(record.weights)
    assert all((weights[name] == kept[name]).all() for name in kept)


def test_fine_tuning_starts_from_the_record_wherever_it_is(tmp_path):
    run_pack(job(tmp_path / "base", [member(seed=0), member(seed=1)]))
    run_pack(job(tmp_path / "tuned", [tuned(0), tuned(1)], sources=(tmp_path / "base",)))
    for seed in (0, 1):
        base = record_of(tmp_path / "base", member(seed=seed))
        record = record_of(tmp_path / "tuned", tuned(seed))
        assert record.training.continues == base.training.digest == member(seed=seed).digests.training
        assert record.training.extended_from is None
        # The same from its parts: the base's weights, no optimizer state, other random numbers than before.
        trainer = Trainer([tuned(seed)], load_dataset(tuned().data))
        trainer.start_from([load_arrays(base.weights)])
        rows = [trainer.train_epoch()[0] for _ in range(4)]
        assert [row["train_bound"] for row in record.epochs] == pytest.approx(
            [row["train_bound"] for row in rows], rel=2e-3
        )
        untrained = Trainer([tuned(seed)], load_dataset(tuned().data)).train_epoch()[0]
        assert rows[0]["train_bound"] > untrained["train_bound"] + 1


def test_a_first_phase_that_has_not_finished_is_named(tmp_path):
    with pytest.raises(UserError, match=r"its first phase is trained nowhere in .*; add it to the"):
        run_pack(job(tmp_path, [tuned()]))


def test_weights_of_another_model_are_named(tmp_path):
    run_pack(job(tmp_path / "base", [member()]))
    record = record_of(tmp_path / "base", member())
    turned = {name: value.swapaxes(1, 2) for name, value in load_arrays(record.weights).items()}
    sha256 = save_arrays(record.weights, turned)
    record.finish(record.training.model_copy(update={"weights_sha256": sha256}))
    with pytest.raises(UserError) as caught:
        run_pack(job(tmp_path / "tuned", [tuned()], sources=(tmp_path / "base",)))
    message = str(caught.value)
    assert message.startswith(f"{record.weights}: weights of another model")
    assert f"delete {record.folder}" in message
    assert "\n" not in message
    with pytest.raises(RecordError, match=r"weights of another model than .*; delete") as caught:
        hvae_spec.load_record(record.folder)
    assert "\n" not in str(caught.value)


def test_a_fine_tuned_member_can_be_extended(tmp_path):
    short, whole = tuned(training__epochs=2), tuned()
    run_pack(job(tmp_path / "base", [member()]))
    sources = (tmp_path / "base",)
    run_pack(job(tmp_path / "parts", [short], sources=sources))
    shorter = record_of(tmp_path / "parts", short)
    run_pack(job(tmp_path / "parts", [whole], sources=sources, extends=(shorter.folder,), start_epoch=2))
    run_pack(job(tmp_path / "whole", [whole], sources=sources))
    parts, expected = (record_of(tmp_path / name, whole) for name in ("parts", "whole"))
    assert parts.weights.read_bytes() == expected.weights.read_bytes()
    assert parts.training.extended_from == short.digests.training
    assert parts.training.continues == expected.training.continues == member().digests.training


def test_weights_go_into_the_optimizers_rows():
    source = Trainer([member(seed=7)], load_dataset(member().data))
    target = Trainer([member(seed=0), member(seed=1)], load_dataset(member().data))
    weights = parameters_of(source.model)
    target.start_from([weights, weights])
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


BURDAS = [1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4]


def test_the_learning_rate_is_that_of_the_stage_and_the_last_stage_goes_on():
    stages = [{"epochs": 3**i, "lr": lr} for i, lr in enumerate(BURDAS)]
    staged = member(training__epochs=3281, training__schedule={"stages": stages}).training
    adam = PackOptimizer([staged, tuned().training], [torch.zeros(2, 3)])
    ends = [(3 ** (i + 1) - 1) // 2 for i in range(8)]
    assert ends[-1] == 3280
    for begin, end, lr in zip([1, *(end + 1 for end in ends)], ends, BURDAS, strict=False):
        for epoch in (begin, end):
            adam.begin_epoch(epoch)
            assert adam.learning_rates[0] == lr
    adam.begin_epoch(3281)
    assert adam.learning_rates[0] == 1e-4


def test_the_first_phase_of_a_staged_member_has_the_optimizers_constant_learning_rate():
    stages = {"stages": [{"epochs": 1, "lr": 0.5}]}
    first = tuned(training__lr_decay=None, training__schedule=stages).first_phase
    assert first.training.schedule is None
    assert first.digests == tuned().first_phase.digests


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
    whole, cut = (record_of(tmp_path / name, tuned()) for name in ("whole", "cut"))
    assert cut.weights.read_bytes() == whole.weights.read_bytes()
    assert cut.evaluations[0].result.test_log_likelihood == whole.evaluations[0].result.test_log_likelihood

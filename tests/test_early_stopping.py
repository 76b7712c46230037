"""Early stopping of members of a pack: when, with which weights, alone, together and interrupted."""

import itertools
import math

import numpy as np
import pytest

import analysis
from hvae_spec import pack as packs
from hvae_spec.data.dataset import load_dataset
from hvae_spec.pack import run_pack
from hvae_spec.records.arrays import load_arrays
from hvae_spec.records.checkpoint import Stopping
from hvae_spec.records.layout import Results
from hvae_spec.training.checkpoint import cut_checkpoint, load_checkpoint, save_checkpoint
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import Killed, contents, job

TINY = {
    "depth": 1,
    "data__train_images": 64,
    "data__test_images": 10,
    "data__validation": 20,
    "evaluation__iw_samples": 5,
    "evaluation__every": 1,
    "evaluation__curve_iw_samples": 3,
}
STOPPING = {"training__early_stopping": {"patience": 2}, "training__epochs": 9}
NEVER = 99


def tiny(seed, **overrides):
    return member(seed=seed, **(TINY | STOPPING | overrides))


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)


@pytest.fixture
def peaks(monkeypatch):
    """The epochs of the best bounds by seed, which stand in the place of the measured ones."""
    found, watch = {}, Trainer.watch

    def scripted(self, m, bound):
        watch(self, m, -abs(self.epoch - found[self.specs[m].seed]))

    monkeypatch.setattr(Trainer, "watch", scripted)
    return found


def by_seed(root):
    return {record.spec.seed: record for record in Results(root).records}


def states(bounds, patience):
    found = [Stopping()]
    for epoch, bound in enumerate(bounds, start=1):
        found.append(found[-1].after(epoch, bound, patience))
    return found[1:]


def test_a_member_stops_after_so_many_evaluations_without_a_better_bound():
    *going_on, last = states([-5.0, -4.0, -4.0, -4.5, -3.0, -3.5, -4.0], 2)
    # An equal bound is no better one, and a better one begins the count anew.
    assert [state.waited for state in states([-5.0, -4.0, -4.0, -3.0, -3.5, -3.6], 2)] == [0, 0, 1, 0, 1, 2]
    assert [state.stopped_epoch for state in going_on][:4] == [None, None, None, 4]
    assert last.best_epoch == 5
    stopped = states([-4.0, -5.0, -5.0], 2)[-1]
    assert stopped == Stopping(best_epoch=1, best_bound=-4.0, waited=2, stopped_epoch=3)


def test_what_is_not_a_number_is_worse_than_any_bound():
    first, second, third = states([math.nan, -5.0, -math.inf], 9)
    assert (first.best_epoch, first.best_bound) == (1, None)
    assert (second.best_epoch, second.best_bound) == (2, -5.0)
    assert (third.best_epoch, third.waited) == (2, 1)


def test_the_record_has_the_weights_of_the_best_epoch_and_says_where_it_stopped(tmp_path, peaks):
    peaks[0] = 3
    run_pack(job(tmp_path / "stopped", [tiny(0)]))
    run_pack(job(tmp_path / "plain", [tiny(0, training__epochs=3, training__early_stopping=None)]))
    stopped, plain = by_seed(tmp_path / "stopped")[0], by_seed(tmp_path / "plain")[0]
    training = stopped.training
    assert (training.status, training.best_epoch, training.stopped_epoch, training.epochs) == ("trained", 3, 5, 5)
    assert training.steps == 5 * 2
    assert training.digest == tiny(0).digests.training
    assert [row["epoch"] for row in stopped.epochs] == [1, 2, 3, 4, 5]
    ours, theirs = (load_arrays(record.weights) for record in (stopped, plain))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    # The optimizer stands at another epoch than the weights.
    assert not stopped.optimizer.exists()
    assert plain.training.best_epoch is None
    members = analysis.load(tmp_path / "stopped").members
    assert members[["epochs", "planned_epochs", "best_epoch", "stopped_epoch"]].iloc[0].tolist() == [5, 9, 3, 5]
    assert members["status"].tolist() == ["finished"]


def test_the_units_of_what_was_not_kept_are_left_out_of_the_frame(tmp_path, peaks):
    peaks[0] = 3
    run_pack(job(tmp_path, [tiny(0)]))
    (record,) = Results(tmp_path).records
    units = analysis.load(tmp_path).units
    assert [row["epoch"] for row in record.units] == [1, 2, 3, 4, 5]
    assert sorted(set(units["epoch"])) == [1, 2, 3]
    (evaluation,) = record.evaluations
    assert units[units["epoch"] == 3]["kl"].tolist() == evaluation.result.unit_kl[0]


def test_the_best_epoch_is_that_of_the_highest_bound_after_warm_up(tmp_path):
    run_pack(job(tmp_path, [tiny(0, objective__warm_up=4, training__early_stopping={"patience": 3})]))
    (record,) = Results(tmp_path).records
    counted = {row["epoch"]: row["validation_log_likelihood"] for row in record.epochs if row["epoch"] >= 4}
    assert record.training.best_epoch == max(counted, key=counted.get)


@pytest.mark.parametrize(("warm_up", "last"), [(0, 3), (1, 4), (2, 4), (5, 7)])
def test_evaluations_before_the_end_of_warm_up_do_not_count(tmp_path, peaks, warm_up, last):
    peaks[0] = -NEVER  # the first that counts is the best
    run_pack(job(tmp_path, [tiny(0, objective__warm_up=warm_up)]))
    training = by_seed(tmp_path)[0].training
    assert (training.best_epoch, training.stopped_epoch) == (last - 2, last)


def test_a_member_that_is_never_stopped_has_its_best_weights_and_all_epochs(tmp_path, peaks):
    peaks[0] = 8
    run_pack(job(tmp_path, [tiny(0)]))
    training = by_seed(tmp_path)[0].training
    assert (training.best_epoch, training.stopped_epoch, training.epochs) == (8, None, 9)


def test_a_member_of_a_pack_is_stopped_as_it_is_alone_and_the_pack_is_cut(tmp_path, peaks, monkeypatch):
    peaks.update({0: 3, 1: NEVER, 2: 3, 3: 5})
    cuts, cut = [], Trainer.cut

    def noting(self, members):
        cuts.append((self.epoch, members))
        cut(self, members)

    monkeypatch.setattr(Trainer, "cut", noting)
    run_pack(job(tmp_path / "pack", [tiny(seed) for seed in range(4)]))
    assert cuts == [(5, [1, 3]), (7, [1])]
    together = by_seed(tmp_path / "pack")
    for seed in range(4):
        run_pack(job(tmp_path / "alone", [tiny(seed)]))
        ours, alone = together[seed], by_seed(tmp_path / "alone")[seed]
        for name in ("best_epoch", "stopped_epoch", "epochs", "steps", "status"):
            assert getattr(ours.training, name) == getattr(alone.training, name)
        for row, single in zip(ours.epochs, alone.epochs, strict=True):
            assert row["train_bound"] == pytest.approx(single["train_bound"], rel=1e-3)
        one, two = (load_arrays(record.weights) for record in (ours, alone))
        gap = math.sqrt(sum(((one[name] - two[name]) ** 2).sum() for name in one))
        assert gap < 1e-2 * math.sqrt(sum((value**2).sum() for value in two.values()))


@pytest.mark.parametrize("dies_at", [5, 8])
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, peaks, dies_at):
    peaks.update({0: 3, 1: NEVER, 2: 3, 3: 5})
    members = [tiny(seed) for seed in range(4)]
    run_pack(job(tmp_path / "whole", members))

    def die(progress):
        if (progress.phase, progress.epoch) == ("training", dies_at):
            raise Killed

    parts = job(tmp_path / "parts", members)
    with pytest.raises(Killed):
        run_pack(parts, die)
    run_pack(parts)
    whole, again = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert whole.keys() == again.keys()
    for key, value in whole.items():
        assert again[key] == value, key


def test_without_scripted_bounds_interrupted_equals_uninterrupted(tmp_path):
    members = [tiny(seed, training__early_stopping={"patience": 1}) for seed in range(3)]
    run_pack(job(tmp_path / "whole", members))
    parts = job(tmp_path / "parts", members)
    for reports in itertools.count(6, 6):

        def die(progress, left=iter(range(reports))):  # noqa: B008
            if next(left, None) is None:
                raise Killed

        try:
            run_pack(parts, die)
        except Killed:
            continue
        break
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_progress_names_who_has_stopped(tmp_path, peaks):
    peaks.update({0: 3, 1: NEVER})
    said = set()
    run_pack(job(tmp_path, [tiny(0), tiny(1)]), lambda progress: said.update(progress.stopped))
    name = by_seed(tmp_path)[0].folder.name
    assert said == {f"{name} stopped in epoch 5 (best in epoch 3)"}


@pytest.mark.parametrize("chosen", [[3, 0], [0, 2], [2, 3, 1]])
def test_a_part_of_a_checkpoint_of_a_pack_that_was_cut(tmp_path, chosen):
    specs = [tiny(seed) for seed in range(4)]
    data = load_dataset(specs[0].data)
    whole = Trainer(specs, data)
    for _ in range(4):
        whole.train_epoch()
        for m in range(4):
            if not whole.is_frozen(m):
                whole.watch(m, -abs(whole.epoch - (2 if m in (0, 2) else NEVER)))
    whole.cut_half()
    assert whole.in_step == [1, 3]
    trainings = [spec.digests.training for spec in specs]
    save_checkpoint(tmp_path / "whole", whole, trainings, {}, [])
    kept = [trainings[m] for m in chosen]
    cut_checkpoint(tmp_path / "whole", tmp_path / "part", kept)
    part = Trainer([specs[m] for m in chosen], data)
    load_checkpoint(tmp_path / "part", part, kept)
    for new, old in enumerate(chosen):
        assert part.stopping[new] == whole.stopping[old]
        ours, theirs = part.weights(new), whole.weights(old)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    going_on = [m for m in chosen if m in (1, 3)]
    assert [chosen[new] for new in part.in_step] == (going_on or chosen)
    for m in going_on:
        new = part.in_step.index(chosen.index(m))
        assert part.optimizer.rows[new].equal(whole.optimizer.rows[whole.in_step.index(m)])

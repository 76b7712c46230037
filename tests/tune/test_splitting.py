"""Packs that run out of memory: what runs in their place, and that nothing is lost on the way."""

import shutil

import pytest
import torch
from safetensors import safe_open

from hvae_spec import pack as packs
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.spec.grid import Member
from hvae_spec.training.checkpoint import cut_checkpoint, load_checkpoint
from hvae_spec.training.optimizer import OPTIMIZER
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tune.execute import outcomes, splitting
from tune.execute.outcomes import Markers, Outcomes
from tune.execute.serial import run_serially
from tune.execute.splitting import split
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo, begun_packs, pack_id, write_pack


class Told:
    """Listens, and remembers."""

    def __init__(self):
        self.lines = []

    def started(self, pack_id):
        self.lines.append(("started", pack_id))

    def progressed(self, progress):
        pass

    def ended(self, pack_id):
        self.lines.append(("ended", pack_id))

    def failed(self, pack_id, reason, *, final):
        self.lines.append(("failed", pack_id, reason, final))

    def split(self, pack_id, halves):
        self.lines.append(("split", pack_id, [len(half.members) for half in halves]))

    def reduced(self, pack_id, rest, reasons):
        self.lines.append(("reduced", pack_id, rest, reasons))


class Killed(BaseException):
    """Stands for a process that dies."""


def job(root, seeds=(0, 1, 2, 3, 4), **overrides):
    specs = [member(seed=seed, training__epochs=3, **overrides) for seed in seeds]
    labels = {"dataset": "digits", "depth": 3, "variant": "V"}
    members = tuple(
        Member(spec, digests, labels | {"seed": spec.seed}, f"m{spec.seed}-{digests.training[:12]}")
        for spec in specs
        for digests in [spec.digests]
    )
    return PackJob(pack_id(members), members, root, device="cpu")


def statuses(one):
    return [one.status(each) for each in one.members]


def begin(one, epochs, monkeypatch):
    """Leave a pack with a checkpoint after so many epochs."""
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)

    def die(progress):
        if progress.epoch == epochs + 1:
            raise Killed

    write_pack(one)
    with pytest.raises(Killed):
        run_pack(one, die)
    return Results(one.results).pack(one.pack_id).checkpoint


@pytest.fixture
def limited(monkeypatch):
    """Memory for packs of at most so many members; records which were run."""
    ran = []

    def limit(most):
        def run(one, report, *_):
            ran.append(len(one.members))
            if len(one.members) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            run_pack(one, report)

        monkeypatch.setattr(splitting, "run_pack", run)
        return ran

    return limit


def test_a_pack_is_split_until_it_fits(tmp_path, limited):
    ran = limited(2)
    one = job(tmp_path)
    told = Told()
    run_serially([one], told)
    assert ran == [5, 3, 2, 1, 2]
    assert [line[2] for line in told.lines if line[0] == "split"] == [[3, 2], [2, 1]]
    assert sum(line[0] == "ended" for line in told.lines) == 3
    assert statuses(one) == ["finished"] * 5
    assert len(Results(tmp_path).records) == 5
    assert not list((tmp_path / "packs").iterdir())


def test_a_member_that_does_not_fit_alone_fails_and_says_what_would_help(tmp_path, limited):
    limited(0)
    one, told = job(tmp_path, seeds=(0, 1)), Told()
    run_serially([one], told)
    failed = [line for line in told.lines if line[0] == "failed"]
    assert len(failed) == 2
    for _, _, reason, final in failed:
        assert final
        assert reason.startswith("out of memory with a single member")
        assert "--packs-per-gpu" in reason
    assert statuses(one) == ["failed", "failed"]
    for each in one.members:
        assert "--packs-per-gpu" in one.record(each).training.failure


def test_halves_go_on_from_the_checkpoint(tmp_path, limited, monkeypatch):
    whole, parts = job(tmp_path / "whole"), job(tmp_path / "parts")
    begin(parts, 2, monkeypatch)
    run_pack(whole)
    seen = []
    limited(3)
    told = Told()
    told.progressed = seen.append
    run_serially([parts], told)
    # Nothing before the third and last epoch was trained again.
    assert {progress.epoch for progress in seen} == {3}
    for each in whole.members:
        record, again = whole.record(each), parts.record(each)
        assert len(again.epochs) == len(record.epochs) == 3
        ours, theirs = (one.evaluation(each.digests.evaluation).result for one in (again, record))
        assert ours.test_log_likelihood == pytest.approx(theirs.test_log_likelihood, rel=1e-4)


def test_a_part_of_a_checkpoint_holds_its_members_state_exactly(tmp_path, monkeypatch):
    one = job(tmp_path)
    path = begin(one, 2, monkeypatch)
    digests = one.trainings
    chosen = [3, 0]
    cut_checkpoint(path, tmp_path / "part", [digests[place] for place in chosen])

    def trainer(members, checkpoint):
        specs = [each.spec for each in members]
        made = Trainer(specs, load_dataset(specs[0].data))
        return made, load_checkpoint(checkpoint, made, [each.digests.training for each in members])

    whole, header = trainer(one.members, path)
    part, its_header = trainer([one.members[place] for place in chosen], tmp_path / "part")
    assert part.epoch == whole.epoch == 2
    assert its_header.trainings == [digests[place] for place in chosen]
    assert its_header.divergences == [header.divergences[place] for place in chosen]
    assert its_header.curves == [header.curves[place] for place in chosen]
    theirs = {"trainings": header.trainings, "divergences": header.divergences, "curves": header.curves}
    assert its_header.model_copy(update=theirs) == header
    for mine, theirs in zip(part.parameters, whole.parameters, strict=True):
        assert torch.equal(mine, theirs[chosen])
    with safe_open(path, "pt") as before, safe_open(tmp_path / "part", "pt") as after:
        names = set(before.keys())
        for place, old in enumerate(chosen):
            fields = {name.split("/")[2] for name in names if name.startswith(f"{OPTIMIZER}/{old}/")}
            assert fields >= {"exp_avg", "exp_avg_sq", "step"}
            for field in fields:
                assert torch.equal(
                    after.get_tensor(f"{OPTIMIZER}/{place}/{field}"), before.get_tensor(f"{OPTIMIZER}/{old}/{field}")
                )
        assert len(list(after.keys())) == 1 + 2 * len(fields)


def test_a_checkpoint_of_others_or_a_damaged_one_is_not_cut(tmp_path, monkeypatch):
    path = begin(job(tmp_path), 1, monkeypatch)
    with pytest.raises(UserError, match="of other members"):
        cut_checkpoint(path, tmp_path / "part", ["0" * 64])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged checkpoint"):
        cut_checkpoint(path, tmp_path / "part", ["0" * 64])
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_crash_while_splitting_loses_no_member_and_no_epoch(tmp_path, monkeypatch, has_checkpoint):
    """After every single write or deletion, a new run finds each member once, with its checkpoint if it had one."""
    start = job(tmp_path / "start")
    write_pack(start)
    if has_checkpoint:
        begin(start, 1, monkeypatch)
    survived = 0
    for fatal in range(1, 20):
        root = tmp_path / f"crash{fatal}"
        shutil.copytree(tmp_path / "start", root)
        one = job(root)
        calls = iter(range(1, 100))

        def dying(function, calls=calls, fatal=fatal):
            def run(*arguments, **options):
                if next(calls) == fatal:
                    raise Killed
                return function(*arguments, **options)

            return run

        with monkeypatch.context() as patch:
            patch.setattr(splitting, "cut_checkpoint", dying(cut_checkpoint))
            patch.setattr(splitting, "write_pack", dying(write_pack))
            patch.setattr(splitting.shutil, "rmtree", dying(shutil.rmtree))
            try:
                split(one)
                survived += 1
            except Killed:
                pass
        needs = Ledger(Results(root)).needs(one.members)
        missing = {need.member.digests.evaluation: need for need in needs}
        begun = begun_packs(Results(root), missing, RunInfo(root, "cpu"), None)
        found, with_checkpoint = begun.jobs, begun.with_checkpoint
        assert sorted(training for other in found for training in other.trainings) == sorted(one.trainings)
        assert with_checkpoint == ({other.pack_id for other in found} if has_checkpoint else set())
        if survived:
            assert len(found) == 2
            break
    assert survived
    assert fatal >= 4


def test_a_driver_splits_what_a_worker_says_ran_out_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "PAUSES", (0.0,))
    one, alone = job(tmp_path), job(tmp_path, seeds=(9,))
    told = Told()
    judge = Outcomes({one.pack_id: one, alone.pack_id: alone}, told)
    for each in (one, alone):
        write_pack(each)
        Markers(each).out_of_memory.touch()
        judge.started(each.pack_id)
        judge.returned(each.pack_id)
    assert [len(half.members) for half in judge.halves] == [3, 2]
    assert [line[0] for line in told.lines] == ["started", "split", "started", "failed"]
    assert "out of memory with a single member" in told.lines[-1][2]
    assert not Results(tmp_path).pack(one.pack_id).folder.exists()
    Markers(alone).clear()
    judge.returned(alone.pack_id)
    assert "ended before" in told.lines[-1][2]

"""Grids in which members continue from others: what becomes of those whose first phase came to nothing."""

import pytest
import torch

from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.training.trainer import Trainer
from tests.tune.planned import finish, labeled, train
from tests.tune.test_splitting import Told
from tune.execute.phases import rounds
from tune.plan.devices import Machine
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan
from tune.run import main

pytestmark = pytest.mark.usefixtures("no_report_in_this_file")
SPEC = """
name: phases
data: {dataset: digits, train_images: 128, test_images: 10}
model: {layers: [{units: 3, mlp: [6]}], batch_norm: true}
training: {epochs: 2, batch_size: 64, first_phase: {epochs: 3}, lr_decay: {factor: 0.5, every: 1}}
evaluation: {iw_samples: 5}
grid:
  variants:
    base: {training.epochs: 3, training.first_phase: null, training.lr_decay: null}
    tuned: {}
  seeds: [0, 1, 2]
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "phases.yaml"
    path.write_text(SPEC)
    return path


def run(spec, root, *options):
    return main([str(spec), "--serial", "--device", "cpu", "--results", str(root), *options])


def by_label(root):
    """Records by variant and seed."""
    return {key: record for key, (record, _) in labeled(root).items()}


def statuses(root):
    """Statuses by variant and seed."""
    return {key: status for key, (_, status) in labeled(root).items()}


def breaking(monkeypatch, seed, fault):
    """Let something happen to the first phase of one seed, before its second epoch."""
    train_epoch = Trainer.train_epoch

    def spoil(self):
        if self.epoch == 1 and self.specs[0].training.first_phase is None:
            for index, spec in enumerate(self.specs):
                if spec.seed == seed:
                    fault(self, index)
        return train_epoch(self)

    monkeypatch.setattr(Trainer, "train_epoch", spoil)


def infinite(trainer, index):
    with torch.no_grad():
        trainer.model.generative.likelihood.logits.weight[index] = torch.inf


def on_fire(trainer, index):
    raise RuntimeError("the disk is on fire")


def test_members_whose_first_phase_diverged_fail_alone_with_the_reason(spec, tmp_path, monkeypatch, capsys):
    breaking(monkeypatch, 1, infinite)
    root = tmp_path / "out"
    assert run(spec, root, "--cpus", "1") == 1
    records = by_label(root)
    assert statuses(root) == {
        **{("base", seed): "diverged" if seed == 1 else "finished" for seed in (0, 1, 2)},
        **{("tuned", seed): "failed" if seed == 1 else "finished" for seed in (0, 1, 2)},
    }
    assert len(records["tuned", 0].training.pack.trainings) == 2
    assert records["tuned", 2].training.continues == records["base", 2].training.digest
    failure = records["tuned", 1].training.failure
    assert "its first phase diverged in epoch 2 (log p(x|z_1))" in failure
    assert str(records["base", 1].folder) in failure
    out = capsys.readouterr().out
    assert failure in out
    assert "add it to the grid" not in out + failure
    # Once more: the healthy ones stand, the other is reported again.
    before = {path: path.read_bytes() for path in (root / "members").glob("*/weights.safetensors")}
    assert run(spec, root, "--cpus", "1") == 1
    assert {path: path.read_bytes() for path in (root / "members").glob("*/weights.safetensors")} == before
    assert len(before) == 4
    assert failure in capsys.readouterr().out


def test_members_whose_first_phase_failed_fail_alone_and_run_once_it_is_mended(spec, tmp_path, monkeypatch):
    root = tmp_path / "out"
    with monkeypatch.context() as patch:
        breaking(patch, 2, on_fire)
        assert run(spec, root, "--cpus", "1", "--pack-size", "1") == 1
    records = by_label(root)
    assert [statuses(root)["tuned", seed] for seed in (0, 1, 2)] == ["finished", "finished", "failed"]
    assert "its first phase failed (RuntimeError: the disk is on fire)" in records["tuned", 2].training.failure
    assert run(spec, root, "--cpus", "1", "--pack-size", "1") == 0
    assert set(statuses(root).values()) == {"finished"}


@pytest.mark.parametrize(
    ("settings", "others"),
    [
        ("", "training.first_phase: null, training.lr_decay: null, training.epochs: 3, "),
        (
            "training.lr_decay: null, training.schedule: {stages: [{epochs: 1, lr: 0.1}]}",
            "training.first_phase: null, training.lr_decay: null, training.schedule: null, training.epochs: 3, ",
        ),
    ],
)
def test_a_first_phase_that_is_nowhere_is_told_by_what_it_has_otherwise(spec, tmp_path, capsys, settings, others):
    alone = ("--set", f"grid.variants={{tuned: {{{settings}}}}}", "--plan")
    assert run(spec, tmp_path / "out", *alone) == 2
    message = capsys.readouterr().err
    assert f"expected a variant that is the same but for {others}" in message
    # Where it stands.
    line = next(number for number, text in enumerate(spec.read_text().split("\n"), 1) if "first_phase" in text)
    column = spec.read_text().split("\n")[line - 1].index("{epochs: 3}") + 1
    assert f"{spec}:{line}:{column}: " in message


def test_only_members_that_are_not_done_need_their_first_phase(spec, tmp_path, capsys):
    root, alone = tmp_path / "out", ("--set", "grid.variants={tuned: {}}", "--plan")
    for member in read(spec).members:
        if member.labels["variant"] == "tuned":
            assert run(spec, root, *alone) == 2
            assert (
                f"{member.folder}: its first phase is neither in this grid nor finished in" in capsys.readouterr().err
            )
            finish(root, member, "diverged" if member.seed else "finished")
    assert run(spec, root, *alone) == 0
    assert "1 finished, 2 diverged, 0 to run." in capsys.readouterr().out
    # Finished elsewhere is as good; diverged there is to be trained here.
    assert run(spec, tmp_path / "other", *alone, "--set", "grid.seeds=[0]", "--records", str(root)) == 0
    assert run(spec, tmp_path / "other", *alone, "--records", str(root)) == 2


def test_a_longer_second_phase_goes_on_from_a_shorter_one_without_its_first_phase(spec, tmp_path, capsys):
    root = tmp_path / "out"
    for member in read(spec).members:
        if member.labels["variant"] == "tuned":
            train(root, member)
    alone = ("--set", "grid.variants={tuned: {training.epochs: 4}}", "--plan")
    assert run(spec, root, *alone) == 0
    assert "3 to run (3 from a shorter training)" in capsys.readouterr().out


def test_a_first_phase_that_diverged_in_another_folder_fails_its_own_second_phase_only(spec, tmp_path, monkeypatch):
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "out"
    with monkeypatch.context() as broken:
        breaking(broken, 1, infinite)
        base = "grid.variants={base: {training.epochs: 3, training.first_phase: null, training.lr_decay: null}}"
        assert run(spec, elsewhere, "--set", base, "--set", "grid.seeds=[0,1]") == 3
    tuned = ("--set", "grid.variants={tuned: {}}", "--set", "grid.seeds=[0,1]")
    assert run(spec, root, *tuned, "--records", str(elsewhere)) == 1
    records = by_label(root)
    assert statuses(root) == {("tuned", 0): "finished", ("tuned", 1): "failed"}
    assert "its first phase diverged in epoch 2" in records["tuned", 1].training.failure


def test_a_pack_is_taken_out_whole_or_in_part_and_goes_on_from_its_checkpoint_as_it_is(spec, tmp_path):
    root = tmp_path / "out"
    plan = make_plan(read(spec), Ledger(Results(root)), RunInfo(root, "cpu"), Machine(1))
    first, second = sorted(plan.jobs, key=lambda job: job.members[0].spec.first_phase is not None)
    told = Told()
    parts = rounds(plan.jobs, told)
    assert [job.pack_id for job in next(parts)] == [first.pack_id]
    for member in first.members:
        train(root, member, "diverged" if member.seed else "trained")
    ((rest,),) = list(parts)
    assert [member.seed for member in rest.members] == [0]
    ((_, pack, told_rest, reasons),) = told.lines
    assert (pack, told_rest) == (second.pack_id, rest)
    assert [reason.split(": ")[0] for reason in reasons] == [member.folder for member in second.members[1:]]
    # None of them is left, and nothing is to run.
    train(root, first.members[0], "diverged")
    assert list(rounds([second], told)) == []
    assert told.lines[-1][2] is None
    # A pack that has begun has no need of its first phases.
    checkpoint = plan.results.pack(second.pack_id).checkpoint
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for member in second.members:
        second.record(member).write_curves([], [])
    assert [[job.members for job in part] for part in rounds([second], told)] == [[second.members]]


def test_what_others_start_from_runs_first_with_what_ends_beside_it(spec, tmp_path):
    """Two of three workers are free while the only first phase runs for 10 s: packs of 6 and 4 s fit, 11 s does not."""
    root = tmp_path / "out"
    variants = "{base: {training.epochs: 3, training.first_phase: null, training.lr_decay: null}, tuned: {}, "
    plain = "{training.first_phase: null, training.lr_decay: null, training.batch_size: %d}"
    variants += ", ".join(f"other{size}: {plain % size}" for size in (8, 16, 32)) + "}"
    reading = read(spec, [f"grid.variants={variants}", "grid.seeds=[0]"])
    plan = make_plan(reading, Ledger(Results(root)), RunInfo(root, "cpu"), Machine(1))
    took = {"base": 10, "tuned": 20, "other8": 11, "other16": 6, "other32": 4}
    by_variant = {job.members[0].labels["variant"]: job for job in plan.jobs}
    jobs = sorted(plan.jobs, key=lambda job: -took[job.members[0].labels["variant"]])
    parts = rounds(jobs, Told(), 3, lambda job: took[job.members[0].labels["variant"]])
    assert next(parts) == [by_variant[name] for name in ("base", "other16", "other32")]
    train(root, by_variant["base"].members[0])
    record = by_variant["base"].record(by_variant["base"].members[0])
    record.weights.touch()
    assert next(parts) == [by_variant[name] for name in ("tuned", "other8")]
    assert list(parts) == []
    # One worker: the first phase alone, and then the longest.
    assert next(rounds(jobs, Told(), 1)) == [by_variant["base"]]

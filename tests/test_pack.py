"""The life of a pack: what it leaves behind, and that interruptions change nothing."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import analysis
import hvae_spec
from analysis import tables
from analysis.statistics import layer_activity
from hvae_spec import annealing
from hvae_spec import pack as packs
from hvae_spec.data.counts import image_pixels
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import CheckpointError, DataError, RecordError
from hvae_spec.evaluate import member as member_evaluation
from hvae_spec.evaluate import probe
from hvae_spec.listeners.follower import Follower
from hvae_spec.nn.inference import INFERENCES, Draw, Ladder
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob, StoppedError
from hvae_spec.records.arrays import load_arrays
from hvae_spec.records.layout import ACTIVE, Record, Results
from hvae_spec.records.result import Source
from hvae_spec.spec.cost import UNIT_SAMPLES, parameters
from hvae_spec.spec.grid import Member
from tests.evaluate.test_evaluation import OfLayer
from tests.faults.operations import CHANGES, Operations, watched
from tests.listeners.noted import Noted
from tests.members import member

TIMES = {"seconds", "ms_per_step", "training_seconds", "curve_seconds", "evaluation_seconds"}
WHEN = {"finished_at", "segments", "segment"}


def grid_member(spec):
    labels = {"dataset": "digits", "depth": 3, "variant": "V", "seed": spec.seed}
    return Member(spec, spec.digests, labels, f"m{spec.seed}-{spec.digests.training[:12]}")


def job(root, specs, **options):
    members = tuple(grid_member(spec) for spec in specs)
    return PackJob("pack", members, root, device="cpu", **options)


def specs(**overrides):
    options = {"evaluation__every": 2, "training__epochs": 5} | overrides
    return [member(seed=seed, **options) for seed in (0, 1)]


def contents(root):
    """Everything that a results folder holds of its members, less times."""
    found = {}
    for record in Results(root).records:
        found |= contents_of(record)
    return found


def contents_of(record):
    """Everything that a record holds, less times."""
    found, name = {}, record.folder.name
    found[name, "training"] = record.training.model_dump(exclude=TIMES | WHEN)
    found[name, "epochs"] = [{k: v for k, v in row.items() if k not in TIMES} for row in record.epochs]
    found[name, "units"] = record.units
    for evaluation in record.evaluations:
        result = evaluation.result.model_dump(exclude=TIMES | WHEN)
        found[name, evaluation.folder.name] = result
    for path in record.folder.rglob("*.safetensors"):
        found[name, path.relative_to(record.folder).as_posix()] = path.read_bytes()
    return found


def result_of(record):
    """The result of a record's only evaluation."""
    (evaluation,) = record.evaluations
    return evaluation.result


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Gives the results folder of a pack that nothing has interrupted. It is made once, and only to be read."""
    folders = {}

    def folder(members):
        digests = tuple(spec.digests.evaluation for spec in members)
        if digests not in folders:
            made = tmp_path_factory.mktemp("finished")
            run_pack(job(made, members))
            folders[digests] = made
        return folders[digests]

    return folder


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)


class Killed(BaseException):
    """Stands for a process that dies."""


def test_a_record_is_complete_and_consistent(finished):
    root = finished(specs())
    records = Results(root).records
    assert len(records) == 2
    for record in records:
        training, result, digests = record.training, result_of(record), record.spec.digests
        assert (training.status, result.status) == ("trained", "finished")
        assert record.status(digests.evaluation) == "finished"
        assert training.parameters == parameters(record.spec, image_pixels(record.spec.data))
        assert (training.digest, training.trajectory) == (digests.training, digests.trajectory)
        assert (result.digest, result.training) == (digests.evaluation, digests.training)
        per_image = load_file(record.evaluations[0].folder / "test.safetensors")
        assert len(per_image["test_log_likelihood"]) == 24
        assert result.test_log_likelihood == pytest.approx(per_image["test_log_likelihood"].mean().item())
        assert result.test_elbo == pytest.approx(per_image["test_elbo"].mean().item())
        assert result.test_elbo < result.test_log_likelihood
        se = per_image["test_log_likelihood"].std().item() / 24**0.5
        assert result.test_log_likelihood_se == pytest.approx(se)
        assert result.iw_samples == 20
        assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4, 5]
        # The final evaluation is no point of the curve.
        assert [row["epoch"] for row in record.epochs if "test_elbo" in row] == [2, 4]
        assert record.epochs[1]["test_iw_samples"] == record.spec.evaluation.curve_iw_samples
        assert record.epochs[1]["test_images"] == 24
        assert (result.curve_test_log_likelihood, result.curve_test_images) == (None, None)
        assert [row["epoch"] for row in record.units] == [2, 4]
        assert result.active_units_per_layer == [sum(kl > ACTIVE for kl in layer) for layer in result.unit_kl]
        assert result.active_units == sum(result.active_units_per_layer)
        assert result.kl_per_layer == pytest.approx([sum(layer) for layer in result.unit_kl])
        # The likelihood and the KLs make up the bound.
        last = record.epochs[-1]
        assert last["train_bound"] == pytest.approx(
            last["train_reconstruction"] - last["beta"] * sum(last["kl_per_layer"]), abs=1e-3
        )
    assert not (root / "packs" / "pack").exists()


class Requests(Operations):
    """What a shared disk is asked for, each with the name of the file or folder: opening for reading, too, and looking
    whether something is there.
    """

    def audit(self, event, arguments):
        if event == "open":
            if self._is_below(arguments[0]):
                self.happen(f"open {Path(arguments[0]).name}")
        elif event in CHANGES and self._is_below(arguments[0]):
            self.happen(f"{event} {Path(arguments[0]).name}")

    def happen(self, what):
        if not what.startswith("after"):
            kind, _, path = what.partition(" ")
            super().happen(f"{kind} {TEMPORARY_END.sub('', Path(path).name)}")


TEMPORARY_END = re.compile(r"\.[0-9a-f]{8}\.tmp$")


def test_a_checkpoint_makes_few_requests_of_a_shared_disk(tmp_path, monkeypatch):
    """Of every member its curves, with the unit KLs only where there are new ones, and one flush of the folder's names;
    of the pack one file more. Nothing is looked for before it is written.
    """
    requests, per_save = Requests(tmp_path), []
    stat, save = os.stat, packs.PackRun.save

    def seen(path, *arguments, **options):
        if requests._is_below(path):
            requests.happen(f"stat {path}")
        return stat(path, *arguments, **options)

    def counted(run, trainer):
        before = len(requests.names)
        save(run, trainer)
        per_save.append(requests.names[before:])

    monkeypatch.setattr(packs.PackRun, "save", counted)
    work = job(tmp_path, specs(training__epochs=4))
    with watched(requests):
        monkeypatch.setattr(os, "stat", seen)
        run_pack(work)
        monkeypatch.setattr(os, "stat", stat)

    def written(name):
        return [f"open .{name}", f"fsync .{name}", f"os.rename .{name}"]

    def flushed(folder):
        return [f"open {folder}", f"fsync {folder}"]

    def saved(*names):
        members = [[*(row for name in names for row in written(name)), *flushed(one.folder)] for one in work.members]
        checkpoint = ["os.rename checkpoint.safetensors", *written("checkpoint.safetensors"), *flushed("pack")]
        return [*members[0], *members[1], *checkpoint]

    # A first checkpoint writes everything, and finds no folder of its own missing; points are in epochs 2 and 4.
    without, of_point = saved("epochs.jsonl"), saved("epochs.jsonl", "units.jsonl")
    assert per_save == [of_point, of_point, without, of_point]
    assert (len(without), len(of_point)) == (2 * 5 + 6, 2 * 8 + 6)


def test_a_curve_has_a_point_in_the_last_epoch_where_it_is_due(tmp_path):
    run_pack(job(tmp_path, specs(training__epochs=4)))
    for record in Results(tmp_path).records:
        assert [row["epoch"] for row in record.units] == [2, 4]
        assert record.epochs[-1]["test_iw_samples"] == record.spec.evaluation.curve_iw_samples


@pytest.mark.parametrize(("images", "of_curve"), [(7, 7), (24, None), (500, None)])
def test_bounds_of_the_curve_are_of_the_first_images_and_its_units_of_all(tmp_path, images, of_curve):
    curve = {"evaluation__curve_images": images, "evaluation__curve_iw_samples": 9}
    run_pack(job(tmp_path, specs(training__epochs=4, **curve)))
    for record in Results(tmp_path).records:
        row, model, result = record.epochs[-1], hvae_spec.load_record(record.folder), result_of(record)
        x = model.test_images()
        shown, every = model.evaluate(x[:images], 9), model.evaluate(x, 9 if of_curve is None else UNIT_SAMPLES)
        assert (row["test_iw_samples"], row["test_images"]) == (9, min(images, 24))
        assert row["test_log_likelihood"] == float(shown.log_likelihood.mean())
        assert row["test_elbo"] == float(shown.elbo.mean())
        assert record.units[-1]["kl"] == [kl.tolist() for kl in every.kl]
        assert row["active_units"] == sum(every.active_units)
        # The final evaluation is of all images, and of those of the curve.
        per_image = load_file(record.evaluations[0].folder / "test.safetensors")["test_log_likelihood"]
        assert result.test_log_likelihood == float(per_image.mean())
        assert result.curve_test_images == of_curve
        assert result.curve_test_log_likelihood == (None if of_curve is None else float(per_image[:7].mean()))


def test_an_evaluation_on_other_test_images_is_compared_with_the_curve_that_the_training_has(tmp_path):
    run_pack(job(tmp_path, specs(evaluation__curve_images=7)))
    for images, shared in ((5, None), (10, 7)):
        other = specs(data__test_images=images, evaluation__every=3)  # the curve is there, whatever it says of curves
        run_pack(job(tmp_path, other, kind="evaluate"))
        for record, spec in zip(Results(tmp_path).records, other, strict=True):
            result = record.evaluation(spec.digests.evaluation).result
            assert (result.data.test_images, result.curve_test_images) == (images, shared)


def test_a_result_says_with_what_it_was_made(tmp_path):
    source = Source(commit="c" * 40, dirty=True, diff="source/x.diff")
    parts = job(tmp_path, specs(), command=("tune.run", "x.yaml"), source=source)

    def die(progress):
        if progress.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run_pack(parts, die)
    run_pack(parts)
    for record in Results(tmp_path).records:
        segments = record.training.segments
        assert [(one.first_epoch, one.last_epoch) for one in segments] == [(1, 2), (3, 5)]
        assert {one.source.commit for one in segments} == {"c" * 40}
        assert segments[0].command == ["tune.run", "x.yaml"]
        assert segments[0].versions["torch"] == torch.__version__
        assert {"python", "torch", "numpy", "ray", "pandas", "hvae_spec"} <= segments[0].versions.keys()
        evaluation = result_of(record)
        assert (evaluation.segment.first_epoch, evaluation.segment.last_epoch) == (5, 5)
        assert set(evaluation.arrays_sha256) == {"statistics.safetensors", "test.safetensors", "gallery.safetensors"}
        assert record.training.pack.trainings == [spec.digests.training for spec in specs()]


def test_a_record_reloads_as_the_model_that_was_evaluated(finished):
    record = Results(finished(specs())).records[0]
    model = hvae_spec.load_record(record.folder)
    evaluation = model.evaluate(model.test_images())
    per_image = load_file(record.evaluations[0].folder / "test.safetensors")
    assert torch.equal(evaluation.log_likelihood, per_image["test_log_likelihood"])
    assert torch.equal(evaluation.elbo, per_image["test_elbo"])
    assert [kl.tolist() for kl in evaluation.kl] == result_of(record).unit_kl
    weights = load_arrays(record.weights, record.training.weights_sha256)
    assert all(value.shape[0] == 1 for value in weights.values())
    # Parameters alone: statistics belong to an evaluation.
    assert not any(name.endswith((".mean", ".variance")) for name in weights)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_record_gives_the_numbers_of_its_latest_evaluation_again(tmp_path, norm):
    norm = {"model__norm": norm}
    run_pack(job(tmp_path, specs(**norm)))
    others = {"iw_samples": 7, "batch_norm_statistics": "batch_average"}
    more = specs(data__test_images=10, **norm, **{f"evaluation__{name}": value for name, value in others.items()})
    run_pack(job(tmp_path, more, kind="evaluate"))
    for record, spec in zip(Results(tmp_path).records, more, strict=True):
        latest = record.evaluation(spec.digests.evaluation)
        assert record.evaluations[-1] == latest
        model = hvae_spec.load_record(record.folder)
        assert model.spec.digests == spec.digests
        evaluation = model.evaluate(model.test_images())
        assert (evaluation.iw_samples, len(evaluation.log_likelihood)) == (7, 10)
        per_image = load_file(latest.folder / "test.safetensors")
        assert torch.equal(evaluation.log_likelihood, per_image["test_log_likelihood"])
        assert [kl.tolist() for kl in evaluation.kl] == latest.result.unit_kl


@pytest.mark.parametrize("file", ["weights.safetensors", "statistics.safetensors"])
def test_damaged_arrays_are_named(tmp_path, file, finished):
    shutil.copytree(finished(specs()), tmp_path, dirs_exist_ok=True)
    record = Results(tmp_path).records[0]
    (path,) = record.folder.rglob(file)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of one number
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="its SHA-256 is not the one in the record"):
        hvae_spec.load_record(record.folder)


@pytest.mark.parametrize(
    "dies_at", [("training", 1), ("training", 3), ("training", 5), ("evaluating", 2), ("evaluating", 5)]
)
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, dies_at, finished):
    # The first and the last are one group of Adam, the other one is another.
    shape = {"evaluation__every": 2, "training__epochs": 5}
    mixed = [*specs(), member(seed=2, **shape)]
    mixed[1] = member(seed=1, training__optimizer__adam__lr=5e-3, training__clip_norm=0.5, **shape)

    def die(progress):
        if (progress.phase, progress.epoch) == dies_at:
            raise Killed

    parts = job(tmp_path / "parts", mixed)
    with pytest.raises(Killed):
        run_pack(parts, die)
    assert (tmp_path / "parts" / "packs" / "pack" / "checkpoint.safetensors").exists() or dies_at[1] <= 2
    run_pack(parts)
    whole, again = contents(finished(mixed)), contents(tmp_path / "parts")
    assert whole.keys() == again.keys()
    for key, value in whole.items():
        assert again[key] == value, key


def test_a_run_that_is_killed_again_and_again_gets_there(tmp_path, finished):
    parts = job(tmp_path / "parts", specs())
    for runs in range(1, 20):  # noqa: B007
        reports = []

        def die(progress, reports=reports):
            reports.append(progress)
            if len(reports) == 5:
                raise Killed

        try:
            run_pack(parts, die)
        except Killed:
            continue
        break
    assert runs > 2
    assert contents(tmp_path / "parts") == contents(finished(specs()))


def test_a_finished_member_is_never_touched_again(tmp_path):
    first = specs()
    run_pack(job(tmp_path, first))
    files = [path for path in tmp_path.rglob("members/**/*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    run_pack(job(tmp_path, first))
    # The same member in a larger pack later: trained along, but its record stands.
    run_pack(job(tmp_path, [*first, member(seed=2, evaluation__every=2, training__epochs=5)]))
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    assert after == before
    assert len(Results(tmp_path).records) == 3


def test_curves_that_are_ahead_of_the_checkpoint_are_cut_back(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "save_checkpoint", lambda *_: None)

    def die(progress):
        if progress.epoch == 3:
            raise Killed

    parts = job(tmp_path, specs())
    with pytest.raises(Killed):
        run_pack(parts, die)
    monkeypatch.undo()
    run_pack(parts)
    for record in Results(tmp_path).records:
        assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4, 5]


def sick(monkeypatch, at_epoch, seed=1):
    """Make one member's parameters infinite before an epoch."""
    from hvae_spec.training.trainer import Trainer

    train_epoch = Trainer.train_epoch

    def spoil(self):
        if self.epoch + 1 == at_epoch:
            with torch.no_grad():
                for index, spec in enumerate(self.specs):
                    if spec.seed == seed:
                        self.model.generative.likelihood.logits.weight[index] = torch.inf
        return train_epoch(self)

    monkeypatch.setattr(Trainer, "train_epoch", spoil)


def test_a_diverged_member_is_recorded_and_the_others_finish_unchanged(tmp_path, monkeypatch, finished):
    healthy = contents(finished(specs()))
    sick(monkeypatch, at_epoch=3)
    told = []
    run_pack(job(tmp_path / "sick", specs()), told.append)
    other = contents(tmp_path / "sick")
    good = [key for key in healthy if key[0].startswith("m0-")]
    assert len(good) == 9
    for key in good:
        assert other[key] == healthy[key]
    diverged = next(record for record in Results(tmp_path / "sick").records if record.spec.seed == 1)
    result = diverged.training
    assert result.status == diverged.status(diverged.spec.digests.evaluation) == "diverged"
    assert result.divergence.model_dump() == {"epoch": 3, "step": 1, "quantity": "log p(x|z_1)"}
    assert diverged.evaluations == []
    assert [row["epoch"] for row in diverged.epochs] == [1, 2, 3]
    assert diverged.epochs[-1]["train_bound"] is None
    assert not diverged.weights.exists()
    json.loads((diverged.folder / "training.json").read_text(), parse_constant=pytest.fail)
    assert any("diverged in epoch 3" in words for progress in told for words in progress.diverged)


@pytest.mark.parametrize(
    ("at_a_time", "cost", "saves", "reports"),
    [
        (32, 0.125, [1, 4, 6], [1, 2, 3, 4, 5, 6]),
        (64, 0.125, [2, 6], [1, 2, 3, 4, 5, 6]),
        (128, 0.0, [4, 6], [1, 2, 4, 6]),
    ],
)
def test_of_many_packs_at_a_time_each_checkpoints_and_reports_less_often(
    tmp_path, monkeypatch, at_a_time, cost, saves, reports
):
    """An epoch takes a second here, and a checkpoint `cost`. What has diverged, in epoch 2, is told at once."""
    sick(monkeypatch, at_epoch=2, seed=1)
    now, saved, told = [0.0], [], []
    train, save = packs.Trainer.train_epoch, packs.save_checkpoint
    monkeypatch.setattr(packs, "time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 1.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 0.05)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.5)

    def timed(trainer):
        now[0] += 1.0
        return train(trainer)

    def noted(path, trainer, *arguments):
        saved.append(trainer.epoch)
        now[0] += cost
        save(path, trainer, *arguments)

    monkeypatch.setattr(packs.Trainer, "train_epoch", timed)
    monkeypatch.setattr(packs, "save_checkpoint", noted)
    run_pack(job(tmp_path, specs(training__epochs=6, evaluation__every=None), at_a_time=at_a_time), told.append)
    assert saved == saves
    assert [progress.epoch for progress in told if progress.phase == "training"] == reports


def test_a_pack_whose_members_all_diverged_ends_early(tmp_path, monkeypatch):
    sick(monkeypatch, at_epoch=2, seed=0)
    run_pack(job(tmp_path, [member(training__epochs=500)]))
    (record,) = Results(tmp_path).records
    assert record.training.status == "diverged"
    assert len(record.epochs) == 2


def killed_in_epoch(parts, epoch):
    """Run a pack that dies in an epoch; the epochs before it have checkpoints."""

    def die(progress):
        if progress.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        run_pack(parts, die)
    return Results(parts.results).pack(parts.pack_id)


def test_a_pack_whose_run_ends_writes_a_checkpoint_and_goes_on_from_it_bit_for_bit(tmp_path, monkeypatch):
    """None would be due before the end of training."""
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 1e9)
    parts, asked = job(tmp_path / "parts", specs()), []

    def stop_after(epoch):
        asked.clear()
        return lambda: asked.append(epoch) or len(asked) == epoch

    with pytest.raises(StoppedError):
        run_pack(parts, is_ending=stop_after(3))
    with safe_open(Results(parts.results).pack("pack").checkpoint, "pt") as file:
        assert json.loads(file.metadata()["pack"])["epoch"] == 3
    assert all(parts.status(one) == "running" for one in parts.members)
    run_pack(parts, is_ending=stop_after(3))
    assert len(asked) == 2  # after epoch 4, and before the final evaluation
    run_pack(job(tmp_path / "whole", specs()))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_pack_whose_run_ends_with_its_last_epoch_records_what_it_has_trained_and_stops(tmp_path):
    parts = job(tmp_path, specs())
    with pytest.raises(StoppedError):
        run_pack(parts, is_ending=lambda: all(len(one.epochs) == 5 for one in Results(tmp_path).records))
    assert all(parts.status(one) == "trained" for one in parts.members)
    run_pack(parts)
    assert all(parts.status(one) == "finished" for one in parts.members)


def test_a_foreign_checkpoint_is_named(tmp_path):
    parts = job(tmp_path, specs())
    path = killed_in_epoch(parts, 3).checkpoint
    foreign = job(tmp_path, specs(training__optimizer__adam__lr=0.5))
    for one in foreign.members:
        foreign.record(one).begin(one.spec)
    with pytest.raises(CheckpointError, match="other members"):
        run_pack(foreign)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["pack"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"pack": json.dumps(header | {"shapes": [s[::-1] for s in header["shapes"]]})})
    with pytest.raises(CheckpointError, match="laid out weights differently; delete it"):
        run_pack(parts)
    save_file(tensors, path, {"pack": json.dumps(header | {"format": 2})})
    with pytest.raises(CheckpointError, match=r"written by another version \(format 2, not 1\); delete it"):
        run_pack(parts)
    assert path.exists()  # another version can still use it


def flipped(content):
    """One bit of one number is another."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2], flipped])
def test_a_damaged_checkpoint_costs_one_interval(tmp_path, damage, finished):
    """The one before it is whole; the result is that of an undisturbed run bit for bit."""
    parts, said = job(tmp_path / "parts", specs()), []
    pack = killed_in_epoch(parts, 5)
    pack.checkpoint.write_bytes(damage(pack.checkpoint.read_bytes()))
    run_pack(parts, said.append)
    first = next(progress for progress in said if progress.phase == "training")
    assert first.epoch == 4  # the checkpoint of epoch 4 is damaged, that of epoch 3 is not
    (note,) = said[-1].notes
    assert note.startswith(f"{pack.checkpoint}: a damaged checkpoint (")
    assert note.endswith("; the pack goes on from the one before, if there is one")
    assert contents(tmp_path / "parts") == contents(finished(specs()))
    assert [(one.first_epoch, one.last_epoch) for one in Results(tmp_path / "parts").records[0].training.segments] == [
        (1, 3),
        (4, 5),
    ]


def test_a_pack_whose_checkpoints_are_both_damaged_starts_over(tmp_path, finished):
    parts, said = job(tmp_path / "parts", specs()), []
    pack = killed_in_epoch(parts, 4)
    for path in pack.checkpoints:
        path.write_bytes(b"")
    run_pack(parts, said.append)
    assert said[0].epoch == 1
    assert [note.partition(":")[0] for note in said[-1].notes] == [str(pack.checkpoint), str(pack.previous)]
    assert said[-1].notes[1].endswith("; the pack starts over")
    assert contents(tmp_path / "parts") == contents(finished(specs()))


def test_a_damaged_spec_of_a_running_member_is_written_again(tmp_path, finished):
    parts = job(tmp_path / "parts", specs())
    killed_in_epoch(parts, 4)
    first, second = (parts.record(one).folder / "spec.yaml" for one in parts.members)
    first.write_text("{")
    second.unlink()
    run_pack(parts)
    assert contents(tmp_path / "parts") == contents(finished(specs()))
    assert [record.spec for record in Results(tmp_path / "parts").records] == specs()


def test_lost_rows_of_a_running_member_are_a_gap_in_its_record(tmp_path, finished):
    """They cost themselves: neither its other rows, nor its weights, nor the other members."""
    parts, said = job(tmp_path / "parts", specs()), []
    killed_in_epoch(parts, 5)
    path = parts.record(parts.members[0]).folder / "epochs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[3:]]) + "\n")
    run_pack(parts, said.append)
    assert said[-1].notes == (f"{path}:2: not a JSON object", f"{path}: epochs 2 to 3 are missing")
    again, whole = contents(tmp_path / "parts"), contents(finished(specs()))
    name = path.parent.name
    assert again.pop((name, "epochs")) == [row for row in whole.pop((name, "epochs")) if row["epoch"] not in (2, 3)]
    for content in (again, whole):
        del content[name, "training"]["epochs_sha256"]
    assert again == whole
    record = Record(path.parent)
    assert record.curves().lost == (2, 3)
    assert record.curves().faults == (f"{path}: epochs 2 to 3 are missing",)


def changed_digit(path, line):
    """Another digit in the first number of a line after its epoch."""
    lines = path.read_text().splitlines()
    head, mark, tail = lines[line - 1].partition('": -' if path.name == "epochs.jsonl" else '"kl": [[')
    lines[line - 1] = head + mark + ("8" if tail[0] != "8" else "7") + tail[1:]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("file", "line", "epoch"), [("epochs.jsonl", 3, 3), ("units.jsonl", 1, 2)])
def test_a_row_of_a_running_member_that_was_changed_is_a_gap(tmp_path, file, line, epoch):
    """The row can be read; only the digest in the checkpoint knows. It is not sealed by the digest of the record."""
    parts, said = job(tmp_path, specs()), []
    killed_in_epoch(parts, 5)
    record = parts.record(parts.members[0])
    path = record.folder / file
    before = record.epochs if file == "epochs.jsonl" else record.units
    changed_digit(path, line)
    run_pack(parts, said.append)
    assert said[-1].notes == (
        f"{path}:{line}: epoch {epoch}, changed since it was written",
        f"{path}: epoch {epoch} is missing",
    )
    after = record.epochs if file == "epochs.jsonl" else record.units
    assert after[: len(before) - 1] == [row for row in before if row["epoch"] != epoch]
    assert record.training.status == "trained"


def test_the_last_rows_of_a_running_member_that_are_gone_are_named_as_it_goes_on(tmp_path):
    parts, said = job(tmp_path, specs()), []
    killed_in_epoch(parts, 5)
    folder = parts.record(parts.members[0]).folder
    epochs, units = folder / "epochs.jsonl", folder / "units.jsonl"
    epochs.write_text("".join(epochs.read_text().splitlines(keepends=True)[:2]))
    units.unlink()
    run_pack(parts, said.append)
    assert said[-1].notes == (f"{epochs}: epochs 3 to 4 are missing", f"{units}: epochs 2, 4 are missing")


def test_a_curve_keeps_its_settings_though_the_first_spec_is_damaged(tmp_path):
    parts, every = job(tmp_path / "parts", specs()), {"evaluation__every": 1}
    killed_in_epoch(parts, 4)
    first = parts.record(parts.members[0])
    (first.folder / "spec.yaml").write_text("{")
    longer = job(tmp_path / "parts", specs(**every))
    killed_in_epoch(longer, 5)  # and is the same to the run after the next
    run_pack(longer)
    assert first.spec.evaluation.every == 2
    for record in Results(tmp_path / "parts").records:
        assert [row["epoch"] for row in record.units] == [2, 4]


def test_a_checkpoint_of_another_type_of_numbers_is_damaged(tmp_path):
    """A type that NumPy does not have."""
    parts, said = job(tmp_path, specs()), []
    pack = killed_in_epoch(parts, 4)
    content = pack.checkpoint.read_bytes()
    with safe_open(pack.checkpoint, "pt") as file:
        tensors = {name: file.get_tensor(name).bfloat16() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    save_file(tensors, pack.checkpoint, metadata)
    assert pack.checkpoint.read_bytes() != content
    run_pack(parts, said.append)
    assert said[-1].notes[0].startswith(f"{pack.checkpoint}: a damaged checkpoint (")
    assert parts.is_done


def test_a_damaged_record_in_a_pack_is_left_alone_and_the_others_finish(tmp_path, finished):
    parts = job(tmp_path / "parts", specs())
    killed_in_epoch(parts, 4)
    damaged = parts.record(parts.members[0])
    (damaged.folder / "training.json").write_text("{")
    run_pack(parts)
    assert parts.is_done
    assert [parts.status(one) for one in parts.members] == ["damaged", "finished"]
    again, whole = contents_of(parts.record(parts.members[1])), contents(finished(specs()))
    assert all(whole[key] == value for key, value in again.items())


def test_damaged_statistics_of_an_earlier_evaluation_are_recorded_anew(tmp_path):
    run_pack(job(tmp_path / "parts", specs()))
    for record in Results(tmp_path / "parts").records:
        (path,) = record.folder.rglob("statistics.safetensors")
        path.write_bytes(flipped(path.read_bytes()))
    more = specs(evaluation__iw_samples=7)
    run_pack(job(tmp_path / "parts", more, kind="evaluate"))
    run_pack(job(tmp_path / "whole", more))
    for record, expected in zip(Results(tmp_path / "parts").records, Results(tmp_path / "whole").records, strict=True):
        digest = record.evaluations[-1].result.digest
        one, two = record.evaluation(digest).result, expected.evaluation(digest).result
        assert one.arrays_sha256 == two.arrays_sha256
        assert one.test_log_likelihood == two.test_log_likelihood


def test_denormal_numbers_are_flushed_to_zero(tmp_path):
    smallest, seen = torch.tensor([1.2e-38]), []
    run_pack(job(tmp_path, specs()), lambda progress: seen.append((smallest / 8).item()))
    assert set(seen) == {0.0}
    assert (smallest / 8).item() > 0


def test_progress_goes_from_zero_to_one(tmp_path):
    told = []
    run_pack(job(tmp_path, specs()), told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert 0 < done[0] < done[-1] == pytest.approx(1)
    assert {progress.phase for progress in told} == {"training", "evaluating"}


def test_loading_what_is_no_record_says_so(tmp_path):
    with pytest.raises(RecordError, match="no record there"):
        hvae_spec.load_record(tmp_path)
    record = Record(tmp_path / "m")
    record.begin(member())
    with pytest.raises(RecordError, match="has not finished training"):
        hvae_spec.load_record(record.folder)
    (record.folder / "result.json").write_text("{}")
    with pytest.raises(RecordError, match=r"of an earlier version \(0.2 or before\)"):
        hvae_spec.load_record(record.folder)


@pytest.mark.parametrize("shared", [{"model__share_top_down": True}, {"model__inference_steps": 3}], ids=str)
def test_shared_mappings_and_several_sweeps_train_resume_save_and_reload(tmp_path, shared):
    run_pack(job(tmp_path / "whole", specs(**shared)))

    def die(progress):
        if progress.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run_pack(job(tmp_path / "parts", specs(**shared)), die)
    run_pack(job(tmp_path / "parts", specs(**shared)))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    record = Results(tmp_path / "whole").records[0]
    model = hvae_spec.load_record(record.folder)
    per_image = load_file(record.evaluations[0].folder / "test.safetensors")
    assert torch.equal(model.evaluate(model.test_images()).log_likelihood, per_image["test_log_likelihood"])


@pytest.mark.parametrize("observation", [{"gaussian": {"variance": "learned"}}, "discretized_logistic"], ids=str)
def test_other_observation_models_train_resume_save_and_reload(tmp_path, observation):
    shape = {"model__observation": observation, "training__epochs": 3}
    run_pack(job(tmp_path / "whole", specs(**shape)))

    def die(progress):
        if progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        run_pack(job(tmp_path / "parts", specs(**shape)), die)
    run_pack(job(tmp_path / "parts", specs(**shape)))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    record = Results(tmp_path / "whole").records[0]
    assert record.evaluations[0].result.data.levels == 17
    model = hvae_spec.load_record(record.folder)
    per_image = load_file(record.evaluations[0].folder / "test.safetensors")
    assert torch.equal(model.evaluate(model.test_images()).log_likelihood, per_image["test_log_likelihood"])


def test_a_final_bound_that_is_not_finite_belongs_to_its_evaluation(tmp_path, monkeypatch):
    """The very last update can break what every training quantity still missed; the weights are kept all the same."""
    evaluate = member_evaluation.evaluate

    def broken(model, x, iw_samples, **options):
        with torch.no_grad():
            if options["seed"] == 1:
                model.generative.likelihood.logits.weight.fill_(torch.nan)
        return evaluate(model, x, iw_samples, **options)

    monkeypatch.setattr(member_evaluation, "evaluate", broken)
    run_pack(job(tmp_path, specs(evaluation__every=None)))
    records = {record.spec.seed: record for record in Results(tmp_path).records}
    assert result_of(records[0]).status == "finished"
    result = result_of(records[1])
    assert result.status == records[1].status(result.digest) == "diverged"
    assert result.divergence.model_dump() == {"epoch": 5, "step": 50, "quantity": "test log-likelihood"}
    assert records[1].training.status == "trained"
    assert records[1].weights.exists()
    # Another evaluation of it may well be finite.
    monkeypatch.undo()
    run_pack(job(tmp_path, specs(evaluation__every=None, evaluation__iw_samples=7), kind="evaluate"))
    assert [one.result.status for one in records[1].evaluations] == ["diverged", "finished"]
    # A later one that diverges has no numbers to give again: the finished one is what a record is loaded with.
    monkeypatch.setattr(member_evaluation, "evaluate", broken)
    run_pack(job(tmp_path, specs(evaluation__every=None, evaluation__iw_samples=9), kind="evaluate"))
    assert [one.result.status for one in records[1].evaluations] == ["diverged", "finished", "diverged"]
    model = hvae_spec.load_record(records[1].folder)
    assert model.spec.evaluation.iw_samples == 7
    assert bool(model.evaluate(model.test_images()).log_likelihood.isfinite().all())


@pytest.mark.parametrize("batch_norm", [True, False])
def test_evaluating_again_is_evaluating_that_way_at_once(tmp_path, batch_norm):
    norm = {"model__batch_norm": batch_norm}
    more = specs(evaluation__iw_samples=50, **norm)
    run_pack(job(tmp_path / "again", specs(**norm)))
    before = contents(tmp_path / "again")
    run_pack(job(tmp_path / "again", more, kind="evaluate"))
    run_pack(job(tmp_path / "once", more))
    again, once = contents(tmp_path / "again"), contents(tmp_path / "once")
    assert before.items() <= again.items()  # the earlier evaluation stands beside the new one
    assert once.items() <= again.items()


def assert_evaluating_later_is_evaluating_at_once(folder, plain, more):
    """Members that are trained as `plain` and evaluated later as `more` have the records of `more` from the start.
    Returns the fractions of the work that were told meanwhile.
    """
    run_pack(job(folder / "again", specs(**plain)))
    before, fractions = contents(folder / "again"), []
    run_pack(job(folder / "again", more, kind="evaluate"), lambda progress: fractions.append(progress.done))
    run_pack(job(folder / "once", more))
    again, once = contents(folder / "again"), contents(folder / "once")
    assert before.items() <= again.items()
    assert once.items() <= again.items()
    assert fractions == sorted(fractions)
    return fractions


def test_annealing_a_trained_member_is_annealing_it_at_once_and_its_loaded_model_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(annealing, "LEAPFROG_STEPS", 2)
    monkeypatch.setattr(annealing, "PRELIMINARY_STEPS", 5)
    plain = {"training__epochs": 1, "evaluation__every": None}
    more = specs(evaluation__ais={"images": 6, "chains": 2, "steps": 3}, **plain)
    fractions = assert_evaluating_later_is_evaluating_at_once(tmp_path, plain, more)
    assert len(fractions) > 20

    record = Results(tmp_path / "again").records[0]
    latest = record.evaluation(more[0].digests.evaluation)
    per_image, found = load_file(latest.folder / "test.safetensors"), latest.result.ais
    ais, bound = per_image["ais_log_likelihood"], per_image["test_log_likelihood"][:6]
    gap = per_image["ais_simulated_upper"] - per_image["ais_simulated_lower"]
    assert (found.images, found.chains, found.steps) == (len(ais), 2, 3) == (6, 2, 3)
    assert found.log_likelihood == pytest.approx(ais.mean().item())
    assert found.bound == pytest.approx(bound.mean().item())
    assert found.difference_se == pytest.approx((ais - bound).std().item() / 6**0.5)
    assert (found.gap, found.gap_se) == pytest.approx((gap.mean().item(), gap.std().item() / 6**0.5))
    assert 0 < found.acceptance < 1
    # What is measured is no part of a record's spec: the loaded model has it from its latest evaluation.
    model = hvae_spec.load_record(record.folder)
    assert record.spec.evaluation.ais is None
    assert model.spec.digests == more[0].digests
    annealed = model.ais()
    assert torch.equal(annealed.log_likelihood, ais)
    assert torch.equal(annealed.simulated_upper, per_image["ais_simulated_upper"])
    frame = analysis.load(tmp_path / "again").members
    assert frame["planned_ais_steps"].tolist() == frame["ais_steps"].tolist() == [3, 3]


def test_refining_a_trained_member_is_refining_it_at_once_and_its_loaded_model_gives_the_same(tmp_path):
    plain = {"training__epochs": 1, "evaluation__every": None}
    more = specs(evaluation__refine={"images": 6, "steps": 3, "lr": 0.1}, **plain)
    assert_evaluating_later_is_evaluating_at_once(tmp_path, plain, more)

    record = Results(tmp_path / "again").records[0]
    latest = record.evaluation(more[0].digests.evaluation)
    per_image, found = load_file(latest.folder / "test.safetensors"), latest.result.refine
    assert (found.images, found.steps, found.lr) == (6, 3, 0.1)
    assert [run.layers for run in found.runs] == [[1, 2, 3], [1], [2], [3]]
    for run, name in zip(found.runs, ("1-2-3", "1", "2", "3"), strict=True):
        elbo, amortized = per_image[f"refined_elbo/{name}"], per_image["refine_elbo"]
        bound = per_image[f"refined_log_likelihood/{name}"]
        assert (run.elbo, found.elbo) == pytest.approx((elbo.mean().item(), amortized.mean().item()))
        assert run.elbo_difference_se == pytest.approx((elbo - amortized).std().item() / 6**0.5)
        assert run.log_likelihood == pytest.approx(bound.mean().item())
        before = per_image["refine_log_likelihood"]
        assert found.bound == pytest.approx(before.mean().item())
        assert run.difference_se == pytest.approx((bound - before).std().item() / 6**0.5)
    model = hvae_spec.load_record(record.folder)
    assert model.spec.digests == more[0].digests
    refined = model.refine()
    assert torch.equal(refined[2].elbo, per_image["refined_elbo/2"])
    assert torch.equal(refined[0].log_likelihood, per_image["refined_log_likelihood/1-2-3"])
    frame = analysis.load(tmp_path / "again").members
    assert frame["planned_refine_steps"].tolist() == frame["refine_steps"].tolist() == [3, 3]
    assert frame["planned_refine_lr"].tolist() == frame["refine_lr"].tolist() == [0.1, 0.1]
    gains = frame["refined_elbo_2"] - frame["refine_elbo"]
    assert frame["refined_elbo_difference_2"].tolist() == gains.tolist()
    assert frame["refined_elbo"].iloc[0] == pytest.approx(refined[0].elbo.mean().item())


def test_probing_a_trained_member_is_probing_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "GRID", (0.1,))
    monkeypatch.setattr(probe, "FOLDS", 2)
    plain = {"training__epochs": 1, "evaluation__every": None}
    more = specs(evaluation__probe={"labels": [20, "all"]}, **plain)
    assert_evaluating_later_is_evaluating_at_once(tmp_path, plain, more)
    record = Results(tmp_path / "again").records[0]
    found = record.evaluation(more[0].digests.evaluation).result.probe
    images = len(load_dataset(more[0].data).train)
    assert found.classes == 10
    assert [(one.labels, one.is_all) for one in found.probes] == [(20, False), (images, True)]
    for one in found.probes:
        error = [(share * (1 - share) / 24) ** 0.5 for share in one.accuracy]
        assert one.accuracy_se == pytest.approx(error)
    assert hvae_spec.load_record(record.folder).spec.digests == more[0].digests
    frame = analysis.load(tmp_path / "again").members
    assert frame["planned_probe_labels"].tolist() == ['[20, "all"]'] * 2
    assert frame["probe_all_3"].iloc[0] == found.probes[1].accuracy[2]


def test_a_probe_of_images_without_classes_is_refused_before_anything_is_trained(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 2, (60, 16)))
    own = {"name": "mine", "file": str(tmp_path / "images.npy"), "range": [0, 1]}
    data = {"data__dataset": "own", "data__own": own, "data__train_images": None, "data__test_images": None}
    probed = specs(evaluation__probe={"labels": [20]}, evaluation__every=None, **data)
    with pytest.raises(DataError, match="mine: its training images have no classes, so that there is nothing"):
        run_pack(job(tmp_path / "results", probed))
    assert Results(tmp_path / "results").records == []


class Joint(Ladder):
    """A ladder of which q(z_1|z_2, x) is not told unit by unit."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.factorizes[0] = False

    def sample(self, encoding, noise):
        draws = super().sample(encoding, noise)
        return [Draw.of(OfLayer(draws[0].posterior), noise[0], draws[0].prior), *draws[1:]]


def test_a_layer_that_does_not_factorize_has_one_kl_from_training_to_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(INFERENCES._items, "ladder", Joint)
    members = specs(training__epochs=4)
    run_pack(job(tmp_path, members))
    record = Results(tmp_path).records[0]
    result = result_of(record)
    assert [len(layer) for layer in result.unit_kl] == [1, 4, 3]
    assert result.kl_per_layer[0] == pytest.approx(result.unit_kl[0][0])
    assert (result.active_units, result.active_units_per_layer[0]) == (None, None)
    assert result.active_units_by_variance == sum(result.active_units_by_variance_per_layer)
    assert "active_units" not in record.epochs[-1]
    assert [len(layer) for layer in record.units[0]["kl"]] == [1, 4, 3]
    frames = analysis.load(tmp_path)
    units = frames.units[frames.units["epoch"] == 4]
    assert sorted(units[units["layer"] == 1]["unit"].unique()) == [0]
    assert layer_activity(frames)["layer"].unique().tolist() == [2, 3]
    (table,) = tables.active_units(frames).tables
    assert ("z_1", "V") not in table.cells
    assert table.cells["z_1, by variance", "V"].n == 2
    noted = Noted()
    noted.said[record.folder.name] = []
    Follower(grid_member(members[0]), record).tell(noted, is_over=True)
    (told,) = {tuple(map(len, said[3])) for said in noted.said[record.folder.name] if said[0] == "evaluation"}
    assert told == (0, 4, 3)


def test_statistics_of_an_earlier_version_of_the_estimators_are_recorded_anew(tmp_path, monkeypatch, finished):
    """They may have been recorded in another precision than float32."""
    shutil.copytree(finished(specs()), tmp_path, dirs_exist_ok=True)
    for record in Results(tmp_path).records:
        record.evaluations[0].finish(result_of(record).model_copy(update={"estimator": 1}))
    recorded = []
    record_statistics = member_evaluation.record_statistics

    def watched(*arguments):
        recorded.append(arguments[2])
        record_statistics(*arguments)

    monkeypatch.setattr(member_evaluation, "record_statistics", watched)
    run_pack(job(tmp_path, specs(evaluation__iw_samples=7), kind="evaluate"))
    assert recorded == [0, 1]
    run_pack(job(tmp_path, specs(evaluation__iw_samples=9), kind="evaluate"))
    assert recorded == [0, 1]


def test_statistics_are_reused_where_method_and_data_agree(tmp_path, monkeypatch, finished):
    shutil.copytree(finished(specs()), tmp_path, dirs_exist_ok=True)
    calls = []
    monkeypatch.setattr(member_evaluation, "record_statistics", lambda *arguments: calls.append(arguments[-1]))
    run_pack(job(tmp_path, specs(evaluation__iw_samples=7), kind="evaluate"))
    assert calls == []
    monkeypatch.undo()
    recorded = member_evaluation.record_statistics
    monkeypatch.setattr(
        member_evaluation, "record_statistics", lambda *arguments: (calls.append(arguments[-1]), recorded(*arguments))
    )
    run_pack(job(tmp_path, specs(evaluation__batch_norm_statistics="batch_average"), kind="evaluate"))
    assert calls == ["batch_average"] * 2


DECAY = {"training__lr_decay": {"factor": 0.5, "every": 2}, "training__clip_norm": 1}


STAGES = {"stages": [{"epochs": 1, "lr": 2e-3}, {"epochs": 1, "lr": 1e-3}, {"epochs": 2, "lr": 5e-4}]}


@pytest.mark.parametrize(
    ("epochs", "overrides"), [(2, {}), (3, {}), (2, DECAY), (3, DECAY), (3, {"training__schedule": STAGES})]
)
def test_a_longer_training_from_a_shorter_one_is_the_uninterrupted_one_bit_for_bit(
    tmp_path, epochs, overrides, finished
):
    short, whole = specs(training__epochs=epochs, **overrides), specs(**overrides)
    run_pack(job(tmp_path / "parts", short))
    before = contents(tmp_path / "parts")
    sources = tuple(job(tmp_path / "parts", short).record(grid_member(spec)).folder for spec in short)
    run_pack(job(tmp_path / "parts", whole, extends=sources, start_epoch=epochs))
    parts, expected = contents(tmp_path / "parts"), contents(finished(whole))
    assert before.items() <= parts.items()  # the shorter one stays as it was
    for key, value in expected.items():
        if key[1] == "training":
            shorter = next(spec for spec in short if f"m{spec.seed}-" in key[0]).digests.training
            assert parts[key] == value | {"extended_from": shorter}
        else:
            assert parts[key] == value, key
    (record, *_) = [one for one in Results(tmp_path / "parts").records if one.training.extended_from]
    assert [(one.first_epoch, one.last_epoch) for one in record.training.segments] == [(1, epochs), (epochs + 1, 5)]


def test_an_interrupted_extension_goes_on_bit_for_bit(tmp_path, finished):
    short, whole = specs(training__epochs=2), specs()
    run_pack(job(tmp_path / "parts", short))
    sources = tuple(job(tmp_path / "parts", short).record(grid_member(spec)).folder for spec in short)
    longer = job(tmp_path / "parts", whole, extends=sources, start_epoch=2)

    def die(progress):
        if progress.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        run_pack(longer, die)
    run_pack(longer)
    parts, expected = contents(tmp_path / "parts"), contents(finished(whole))
    assert all(parts[key] == value for key, value in expected.items() if key[1] != "training")


def test_curves_that_were_changed_are_not_carried_into_a_longer_training(tmp_path, finished):
    short, said = job(tmp_path, specs(training__epochs=2)), []
    run_pack(short)
    changed, beyond = (short.record(one).folder for one in short.members)
    changed_digit(changed / "epochs.jsonl", 1)
    rows = (beyond / "epochs.jsonl").read_text()
    (beyond / "epochs.jsonl").write_text(rows.replace('"epoch": 2', '"epoch": 4'))
    longer = job(tmp_path, specs(), extends=(changed, beyond), start_epoch=2)
    run_pack(longer, said.append)
    doubt = "changed since it was written (its SHA-256 is not the one in training.json); none of its rows are used"
    assert said[-1].notes == (
        f"{changed / 'epochs.jsonl'}: {doubt}",
        f"{changed / 'epochs.jsonl'}: epochs 1 to 2 are missing",
        f"{beyond / 'epochs.jsonl'}:2: epoch 4, of which the training has none",
        f"{beyond / 'epochs.jsonl'}: {doubt}",
        f"{beyond / 'epochs.jsonl'}: epochs 1 to 2 are missing",
    )
    expected = contents(finished(specs()))
    for one in longer.members:
        record = longer.record(one)
        again = [{k: v for k, v in row.items() if k not in TIMES} for row in record.epochs]
        assert again == expected[record.folder.name, "epochs"][2:]
        assert record.units == expected[record.folder.name, "units"]
        assert record.curves().lost == (1, 2)


def test_without_the_optimizers_state_nothing_goes_on_from_a_record(tmp_path):
    run_pack(job(tmp_path, specs(), keep_optimizer=False))
    for record in Results(tmp_path).records:
        assert not record.optimizer.exists()
        assert record.training.optimizer_sha256 is None
        assert hvae_spec.load_record(record.folder).epoch == 5


def test_progress_has_the_bound_of_every_member(tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)
    told = {}
    one = job(tmp_path, specs())
    run_pack(one, lambda progress: told.setdefault(progress.epoch, progress))
    rows = [one.record(member).epochs for member in one.members]
    assert len(rows) > 1
    for epoch, progress in told.items():
        assert progress.member_bounds == tuple(own[epoch - 1]["train_bound"] for own in rows)

"""The life of a pack: what it leaves behind, and that interruptions change nothing."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hvae_spec
from hvae_spec import pack as packs
from hvae_spec.data.counts import image_pixels
from hvae_spec.errors import UserError
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob, PackMember
from hvae_spec.records.layout import ACTIVE, Record, Results
from hvae_spec.spec.cost import parameters
from hvae_spec.train.checkpoint import load_weights
from tests.members import member

TIMES = {"seconds", "ms_per_step", "training_seconds", "evaluation_seconds", "wall_seconds", "final_evaluation_seconds"}
WHEN = {"finished_at", "git", "host"}


def job(root, specs, threads=1):
    members = tuple(
        PackMember(
            spec,
            spec.digest,
            {"dataset": "digits", "depth": 3, "variant": "V", "seed": spec.seed},
            f"m{spec.seed}-{spec.digest[:12]}",
        )
        for spec in specs
    )
    return PackJob("pack", members, root, device="cpu", threads=threads)


def specs(**overrides):
    options = {"evaluation__every": 2, "training__epochs": 5} | overrides
    return [member(seed=seed, **options) for seed in (0, 1)]


def contents(root):
    """Everything that a results folder tells, less times."""
    found = {}
    for record in Results(root).records:
        name = record.folder.name
        found[name, "result"] = {k: v for k, v in record.result.items() if k not in TIMES | WHEN}
        found[name, "epochs"] = [{k: v for k, v in row.items() if k not in TIMES} for row in record.epochs]
        found[name, "units"] = record.units
        for file in ("weights.safetensors", "test.safetensors", "gallery.safetensors"):
            path = record.folder / file
            found[name, file] = path.read_bytes() if path.exists() else None
    return found


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)


class Killed(BaseException):
    """Stands for a process that dies."""


def test_a_record_is_complete_and_consistent(tmp_path):
    run_pack(job(tmp_path, specs()))
    records = Results(tmp_path).records
    assert len(records) == 2
    for record in records:
        result = record.result
        assert result["status"] == "finished"
        assert result["parameters"] == parameters(record.spec, image_pixels(record.spec.data))
        assert result["digest"] == record.spec.digest
        per_image = load_file(record.folder / "test.safetensors")
        assert len(per_image["test_log_likelihood"]) == 24
        assert result["test_log_likelihood"] == pytest.approx(per_image["test_log_likelihood"].mean().item())
        assert result["test_elbo"] == pytest.approx(per_image["test_elbo"].mean().item())
        assert result["test_elbo"] < result["test_log_likelihood"]
        se = per_image["test_log_likelihood"].std().item() / 24**0.5
        assert result["test_log_likelihood_se"] == pytest.approx(se)
        assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4, 5]
        assert [row["epoch"] for row in record.epochs if "test_elbo" in row] == [2, 4, 5]
        assert record.epochs[-1]["test_iw_samples"] == 20
        assert record.epochs[1]["test_iw_samples"] == record.spec.evaluation.curve_iw_samples
        assert [row["epoch"] for row in record.units] == [2, 4, 5]
        last = record.units[-1]["kl"]
        assert result["active_units_per_layer"] == [sum(kl > ACTIVE for kl in layer) for layer in last]
        assert result["active_units"] == sum(result["active_units_per_layer"])
        assert result["kl_per_layer"] == pytest.approx([sum(layer) for layer in last])
        # The likelihood and the KLs make up the bound.
        first = record.epochs[-1]
        beta = first["beta"]
        assert first["train_bound"] == pytest.approx(
            first["train_log_likelihood"] - beta * sum(first["kl_per_layer"]), abs=1e-3
        )
    assert not (tmp_path / "packs" / "pack").exists()


def test_a_record_reloads_as_the_model_that_was_evaluated(tmp_path):
    run_pack(job(tmp_path, specs()))
    record = Results(tmp_path).records[0]
    model = hvae_spec.load_record(record.folder)
    evaluation = model.evaluate(model.test_images())
    per_image = load_file(record.folder / "test.safetensors")
    assert torch.equal(evaluation.log_likelihood, per_image["test_log_likelihood"])
    assert torch.equal(evaluation.elbo, per_image["test_elbo"])
    assert [kl.tolist() for kl in evaluation.kl] == record.units[-1]["kl"]
    weights = load_weights(record.weights)
    assert all(value.shape[0] == 1 for value in weights.values())


@pytest.mark.parametrize(
    "dies_at", [("training", 1), ("training", 3), ("training", 5), ("evaluating", 2), ("evaluating", 5)]
)
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, dies_at):
    # The first and the last are one group of Adam, the other one is another.
    shape = {"evaluation__every": 2, "training__epochs": 5}
    mixed = [*specs(), member(seed=2, **shape)]
    mixed[1] = member(seed=1, training__optimizer__adam__lr=5e-3, training__clip_norm=0.5, **shape)
    run_pack(job(tmp_path / "whole", mixed))

    def die(progress):
        if (progress.phase, progress.epoch) == dies_at:
            raise Killed

    parts = job(tmp_path / "parts", mixed)
    with pytest.raises(Killed):
        run_pack(parts, die)
    assert (tmp_path / "parts" / "packs" / "pack" / "checkpoint.safetensors").exists() or dies_at[1] <= 2
    run_pack(parts)
    whole, again = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert whole.keys() == again.keys()
    for key, value in whole.items():
        assert again[key] == value, key


def test_a_run_that_is_killed_again_and_again_gets_there(tmp_path):
    run_pack(job(tmp_path / "whole", specs()))
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
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_finished_member_is_never_touched_again(tmp_path):
    first = specs()
    run_pack(job(tmp_path, first))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("members/*/*")}
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
    from hvae_spec.train.trainer import Trainer

    train_epoch = Trainer.train_epoch

    def spoil(self):
        if self.epoch + 1 == at_epoch:
            with torch.no_grad():
                for index, spec in enumerate(self.specs):
                    if spec.seed == seed:
                        self.model.generative.likelihood.logits.weight[index] = torch.inf
        return train_epoch(self)

    monkeypatch.setattr(Trainer, "train_epoch", spoil)


def test_a_diverged_member_is_recorded_and_the_others_finish_unchanged(tmp_path, monkeypatch):
    run_pack(job(tmp_path / "healthy", specs()))
    sick(monkeypatch, at_epoch=3)
    told = []
    run_pack(job(tmp_path / "sick", specs()), told.append)
    healthy, other = contents(tmp_path / "healthy"), contents(tmp_path / "sick")
    good = [key for key in healthy if key[0].startswith("m0-")]
    assert len(good) == 6
    for key in good:
        assert other[key] == healthy[key]
    diverged = next(record for record in Results(tmp_path / "sick").records if record.spec.seed == 1)
    result = diverged.result
    assert result["status"] == "diverged"
    assert result["divergence"] == {"epoch": 3, "step": 1, "quantity": "log p(x|z_1)"}
    assert "test_log_likelihood" not in result
    assert [row["epoch"] for row in diverged.epochs] == [1, 2, 3]
    assert diverged.epochs[-1]["train_bound"] is None
    assert not diverged.weights.exists()
    json.loads((diverged.folder / "result.json").read_text(), parse_constant=pytest.fail)
    assert any("diverged in epoch 3" in words for progress in told for words in progress.diverged)


def test_a_pack_whose_members_all_diverged_ends_early(tmp_path, monkeypatch):
    sick(monkeypatch, at_epoch=2, seed=0)
    run_pack(job(tmp_path, [member(training__epochs=500)]))
    (record,) = Results(tmp_path).records
    assert record.status == "diverged"
    assert len(record.epochs) == 2


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    parts = job(tmp_path, specs())
    folder = tmp_path / "packs" / "pack"
    folder.mkdir(parents=True)
    path = folder / "checkpoint.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="damaged checkpoint") as caught:
        run_pack(parts)
    assert str(path) in str(caught.value)
    path.unlink()

    def die(progress):
        if progress.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run_pack(parts, die)
    with pytest.raises(UserError, match="other members"):
        run_pack(job(tmp_path, specs(training__optimizer__adam__lr=0.5)))
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["pack"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for shapes in ({"shapes": [shape[::-1] for shape in metadata.pop("shapes")]}, {}):
        save_file(tensors, path, {"pack": json.dumps(metadata | shapes)})
        with pytest.raises(UserError, match="laid out weights differently; delete it"):
            run_pack(parts)


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
    with pytest.raises(UserError, match="no record there"):
        hvae_spec.load_record(tmp_path)
    record = Record(tmp_path / "m")
    record.begin(member())
    with pytest.raises(UserError, match="has not finished"):
        hvae_spec.load_record(record.folder)
    record.weights.write_bytes(b"garbage")
    with pytest.raises(UserError, match="not weights"):
        hvae_spec.load_record(record.folder)


def test_shared_top_down_mappings_train_resume_save_and_reload(tmp_path):
    shared = {"model__share_top_down": True}
    run_pack(job(tmp_path / "whole", specs(**shared)))

    def die(progress):
        if progress.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run_pack(job(tmp_path / "parts", specs(**shared)), die)
    run_pack(job(tmp_path / "parts", specs(**shared)))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    record = Results(tmp_path / "whole").records[0]
    assert record.status == "finished"
    model = hvae_spec.load_record(record.folder)
    per_image = load_file(record.folder / "test.safetensors")
    assert torch.equal(model.evaluate(model.test_images()).log_likelihood, per_image["test_log_likelihood"])


def test_a_member_whose_final_bound_is_not_finite_has_diverged(tmp_path, monkeypatch):
    """The very last update can break what every training quantity still missed."""
    evaluate = packs.evaluate

    def broken(model, x, iw_samples, **options):
        with torch.no_grad():
            if options["seed"] == 1:
                model.generative.likelihood.logits.weight.fill_(torch.nan)
        return evaluate(model, x, iw_samples, **options)

    monkeypatch.setattr(packs, "evaluate", broken)
    run_pack(job(tmp_path, specs(evaluation__every=None)))
    results = {record.spec.seed: record.result for record in Results(tmp_path).records}
    assert results[0]["status"] == "finished"
    assert results[1]["status"] == "diverged"
    assert results[1]["divergence"] == {"epoch": 5, "step": 10, "quantity": "test log-likelihood"}

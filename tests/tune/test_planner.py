import subprocess
import sys

import pytest

from hvae_spec.errors import UserError
from hvae_spec.located import parse
from hvae_spec.reading import read, validate
from hvae_spec.records import Results
from hvae_spec.schema.counts import parameters
from tests.members import member
from tune.planner import cost, make_plan, shape, write_pack

GRID = """
name: small
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [8]}], inference: ladder, batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 4, batch_size: 128}
evaluation: {iw_samples: 5}
grid:
  depth: [1, 2]
  variants:
    VAE: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    VAE+BN: {model.inference: vae, objective.warm_up: 0}
    VAE+BN+WU: {model.inference: vae}
    Ladder: {}
  exclude: [{variant: Ladder, depth: 1}]
  seeds: [0, 1, 2]
"""


def plan_of(text, root, **options):
    tree, problems = parse(text, "test.yaml")
    reading = validate(tree, problems)
    return make_plan(reading, Results(root), **({"device": "cpu", "cores": 2} | options))


def finish(plan, job, count=None, status="finished"):
    for each in job.members[:count]:
        record = each.record(plan.results)
        record.begin(each.spec)
        record.finish({"status": status, "digest": each.digest, "labels": each.labels})


def test_members_of_one_shape_share_a_pack_and_others_do_not(tmp_path):
    plan = plan_of(GRID, tmp_path)
    packed = [each for job in plan.jobs for each in job.members]
    assert sorted(each.digest for each in packed) == sorted(m.digest for m in plan.reading.members)
    assert len({each.digest for each in packed}) == 21
    for job in plan.jobs:
        assert len({shape(each.spec) for each in job.members}) == 1
    # Warm-up differs within a pack, inference style, batch norm and depth never do.
    assert sorted(len(job.members) for job in plan.jobs) == [3, 3, 3, 6, 6]


def test_shape_ignores_what_a_pack_applies_member_by_member():
    base = shape(member())
    for same in (
        {"seed": 7},
        {"objective__warm_up": 0},
        {"training__optimizer__adam__lr": 0.5},
        {"training__clip_norm": 1.0},
        {"model__initialization": "he_normal"},
    ):
        assert shape(member(**same)) == base
    for other in (
        {"model__inference": "vae"},
        {"model__batch_norm": False},
        {"training__batch_size": 16},
        {"training__epochs": 9},
        {"objective__iw_samples": 2},
        {"evaluation__iw_samples": 9},
        {"data__train_images": 100},
    ):
        assert shape(member(**other)) != base


def test_the_costliest_pack_runs_first_and_workers_share_the_cores(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=3)
    costs = [cost(job.members) for job in plan.jobs]
    assert costs == sorted(costs, reverse=True)
    assert plan.workers * plan.jobs[0].threads <= 3
    serial = plan_of(GRID, tmp_path, cores=3, serial=True)
    assert serial.workers == 1
    assert {job.threads for job in serial.jobs} == {3}


def test_no_worker_is_left_idle_while_members_could_be_spread(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=16)
    assert len(plan.jobs) == 16
    assert max(len(job.members) for job in plan.jobs) <= 3
    assert len(plan_of(GRID, tmp_path, cores=64).jobs) == 21


def test_pack_size_is_a_limit(tmp_path):
    plan = plan_of(GRID, tmp_path, pack_size=2)
    assert max(len(job.members) for job in plan.jobs) == 2
    assert sum(len(job.members) for job in plan.jobs) == 21


def test_done_members_are_left_alone_and_failed_ones_run_again(tmp_path):
    plan = plan_of(GRID, tmp_path)
    finish(plan, plan.jobs[0], 2)
    finish(plan, plan.jobs[1], 1, "diverged")
    finish(plan, plan.jobs[2], 1, "failed")
    again = plan_of(GRID, tmp_path)
    assert again.counts == {"finished": 2, "diverged": 1, "failed": 1, "pending": 17}
    left = {each.digest for job in again.jobs for each in job.members}
    assert len(left) == 18
    assert plan.jobs[2].members[0].digest in left


def test_new_seeds_run_alone_and_a_renamed_variant_runs_not_at_all(tmp_path):
    plan = plan_of(GRID, tmp_path)
    for job in plan.jobs:
        finish(plan, job)
    more = plan_of(GRID.replace("[0, 1, 2]", "[0, 1, 2, 3]"), tmp_path)
    assert {each.spec.seed for job in more.jobs for each in job.members} == {3}
    assert sum(len(job.members) for job in more.jobs) == 7
    renamed = plan_of(GRID.replace("VAE+BN+WU:", "my favourite:"), tmp_path)
    assert renamed.jobs == []


def test_a_pack_that_has_begun_goes_on_as_it_is(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=4)
    job = plan.jobs[0]
    for each in plan.jobs:
        write_pack(each)
    (tmp_path / "packs" / job.pack_id / "checkpoint.safetensors").write_bytes(b"")
    finish(plan, job, 1)
    more = plan_of(GRID.replace("[0, 1, 2]", "[0, 1, 2, 3]"), tmp_path, cores=1)
    begun = next(other for other in more.jobs if other.pack_id == job.pack_id)
    assert begun.members == job.members
    assert begun.threads == job.threads
    everyone = [each.digest for other in more.jobs for each in other.members]
    assert len(everyone) == len(set(everyone)) == 28


def test_planned_packs_that_were_not_reached_are_kept_too(tmp_path):
    """So that an interruption before a pack's first checkpoint changes no bits either."""
    plan = plan_of(GRID, tmp_path)
    for each in plan.jobs:
        write_pack(each)
    for each in plan.jobs[:-1]:
        finish(plan, each)
    (left,) = plan_of(GRID, tmp_path).jobs
    assert (left.pack_id, left.members, left.threads) == (
        plan.jobs[-1].pack_id,
        plan.jobs[-1].members,
        plan.jobs[-1].threads,
    )
    # Unless smaller packs are asked for.
    smaller = plan_of(GRID, tmp_path, pack_size=1).jobs
    assert [len(job.members) for job in smaller] == [1, 1, 1]


def test_no_member_is_in_two_packs(tmp_path):
    small = plan_of(GRID.replace("[0, 1, 2]", "[0, 1]"), tmp_path)
    large = plan_of(GRID, tmp_path)
    for job in (small.jobs[0], large.jobs[0]):
        write_pack(job)
        (tmp_path / "packs" / job.pack_id / "checkpoint.safetensors").write_bytes(b"")
    digests = [each.digest for job in plan_of(GRID, tmp_path).jobs for each in job.members]
    assert len(digests) == len(set(digests)) == 21


def test_the_published_grid():
    reading = read("specs/mnist_grid.yaml")
    cells = {(cell.variant, cell.depth) for cell in reading.cells}
    assert len(cells) == 19
    assert ("Prob. ladder+BN+WU", 1) not in cells
    for cell in reading.cells:
        spec = cell.member
        assert [layer.units for layer in spec.model.layers] == [64, 32, 16, 8, 4][: cell.depth]
        assert [layer.mlp for layer in spec.model.layers] == [(w, w) for w in (512, 256, 128, 64, 32)][: cell.depth]
        assert spec.objective.warm_up == (200 if "WU" in cell.variant else 0)
        assert spec.model.batch_norm == ("BN" in cell.variant)
        assert spec.model.inference == ("ladder" if "ladder" in cell.variant else "vae")
        assert (spec.training.epochs, spec.training.batch_size) == (2000, 256)
        assert spec.training.optimizer.adam.lr == 1e-3
        assert spec.evaluation.iw_samples == 5000
    assert parameters(reading.cells[-1].member) == 1_850_944


def test_planning_imports_neither_torch_nor_ray_and_is_quick(tmp_path):
    code = f"""
import sys
from tune.run import main
seeds = "grid.seeds={list(range(53))}"
code = main(["specs/mnist_grid.yaml", "--plan", "--results", {str(tmp_path)!r}, "--set", seeds])
heavy = {{"torch", "ray", "pandas", "matplotlib"}} & set(sys.modules)
assert code == 0 and not heavy, heavy
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "1007 members" in run.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["{", '{"threads": 1}', '{"threads": 1, "members": [{"spec": {}}]}'])
def test_a_damaged_pack_file_is_named(tmp_path, damage):
    folder = tmp_path / "packs" / "abc"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"")
    (folder / "pack.json").write_text(damage)
    with pytest.raises(UserError, match="not a pack") as caught:
        plan_of(GRID, tmp_path)
    assert str(folder / "pack.json") in str(caught.value)

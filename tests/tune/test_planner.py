import io
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.records.result import EvaluationResult, TrainingResult
from hvae_spec.spec.cost import parameters
from tests.members import member
from tests.tune.measured import Measured, measurement
from tests.tune.planned import GRID, finish, plan_of
from tune.plan import devices
from tune.plan.grouping import NEAR_IDEAL, shape
from tune.plan.packs import write_pack
from tune.plan.schedule import simulate
from tune.show.summary import print_plan


def finish_all(plan, job, count=None, status="finished"):
    for each in job.members[:count]:
        finish(plan.results.root, each, status)


def test_members_of_one_shape_share_a_pack_and_others_do_not(tmp_path):
    plan = plan_of(GRID, tmp_path)
    packed = [each for job in plan.jobs for each in job.members]
    assert sorted(each.digests.training for each in packed) == sorted(m.digests.training for m in plan.reading.members)
    assert len({each.digests.training for each in packed}) == 21
    for job in plan.jobs:
        assert len({shape(each.spec) for each in job.members}) == 1
    # Warm-up differs within a pack, inference style, batch norm and depth never do.
    assert sorted(len(job.members) for job in plan.jobs) == [3, 3, 3, 6, 6]


def test_packs_know_how_many_are_at_work_at_a_time(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=3)
    assert plan.workers == 3
    assert {job.at_a_time for job in plan.jobs} == {3}


def test_a_plan_reads_each_file_of_a_finished_record_once(tmp_path, monkeypatch):
    plan, read = plan_of(GRID, tmp_path), []
    for job in plan.jobs:
        finish_all(plan, job)
    plan.prepare()
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    assert plan_of(GRID, tmp_path).jobs == []
    names = Counter(path.name for path in read if path.parent.name != "members")
    assert names == {"training.json": 21, "result.json": 21, "spec.yaml": 21, "grid.json": 1, "planned.json": 1}


def test_shape_ignores_what_a_pack_applies_member_by_member():
    base = shape(member())
    for same in (
        {"seed": 7},
        {"objective__warm_up": 0},
        {"training__optimizer__adam__lr": 0.5},
        {"training__clip_norm": 1.0},
        {"training__lr_decay": {"factor": 0.5, "every": 2}},
        {"training__schedule": {"cosine": {"over": 3}}},
        {"model__initialization": "he_normal"},
    ):
        assert shape(member(**same)) == base
    for optimizer in ({"adamw": {"weight_decay": 0.5}}, {"sgd": {"momentum": 0.5, "weight_decay": 0.5}}):
        (name,) = optimizer
        assert shape(member(training__optimizer=optimizer)) == shape(member(training__optimizer={name: {}})) != base
    averaged = shape(member(training__ema=0.9))
    assert averaged == shape(member(training__ema=0.99))
    for other in (
        {"model__inference": "vae"},
        {"model__batch_norm": False},
        {"training__batch_size": 16},
        {"training__epochs": 9},
        {"objective__iw_samples": 2},
        {"evaluation__iw_samples": 9},
        {"data__train_images": 100},
        {"training__ema": 0.9},
        {"training__optimizer": {"sgd": {"nesterov": True}}},
    ):
        assert shape(member(**other)) != base
    assert shape(member(training__optimizer={"sgd": {}})) != shape(
        member(training__optimizer={"sgd": {"nesterov": True}})
    )


def test_the_costliest_pack_runs_first_and_workers_share_the_cores(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=3)
    costs = [plan.forecaster.of(job).seconds for job in plan.jobs]
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
    finish_all(plan, plan.jobs[0], 2)
    finish_all(plan, plan.jobs[1], 1, "diverged")
    finish_all(plan, plan.jobs[2], 1, "failed")
    again = plan_of(GRID, tmp_path)
    assert again.counts == {"finished": 2, "diverged": 1, "failed": 1, "pending": 17}
    left = {each.digests.training for job in again.jobs for each in job.members}
    assert len(left) == 18
    assert plan.jobs[2].members[0].digests.training in left


def test_new_seeds_run_alone_and_a_renamed_variant_runs_not_at_all(tmp_path):
    plan = plan_of(GRID, tmp_path)
    for job in plan.jobs:
        finish_all(plan, job)
    more = plan_of(GRID.replace("[0, 1, 2]", "[0, 1, 2, 3]"), tmp_path)
    assert {each.spec.seed for job in more.jobs for each in job.members} == {3}
    assert sum(len(job.members) for job in more.jobs) == 7
    renamed = plan_of(GRID.replace("VAE+BN+WU:", "my favorite:"), tmp_path)
    assert renamed.jobs == []


def test_a_pack_that_has_begun_goes_on_as_it_is(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=4)
    job = plan.jobs[0]
    for each in plan.jobs:
        write_pack(each)
    (tmp_path / "packs" / job.pack_id / "checkpoint.safetensors").write_bytes(b"")
    for one in job.members:
        job.record(one).begin(one.spec)
        job.record(one).write_curves([], [])
    finish_all(plan, job, 1)
    more = plan_of(GRID.replace("[0, 1, 2]", "[0, 1, 2, 3]"), tmp_path, cores=1)
    begun = next(other for other in more.jobs if other.pack_id == job.pack_id)
    assert begun.members == job.members
    assert begun.threads == job.threads
    everyone = [each.digests.training for other in more.jobs for each in other.members]
    assert len(everyone) == len(set(everyone)) == 28


def test_packs_keep_threads_that_they_have_no_cores_for_and_the_plan_says_so(tmp_path):
    for job in plan_of(GRID, tmp_path, cores=4, serial=True).jobs:
        write_pack(job)
    fewer = plan_of(GRID, tmp_path, cores=1, serial=True)
    assert {job.threads for job in fewer.jobs} == {4}
    [note] = fewer.notes
    assert note.startswith("5 packs of an earlier run go on with 4 threads, though each may use 1 core: ")
    as_many = plan_of(GRID, tmp_path, cores=4, serial=True)
    assert {job.threads for job in as_many.jobs} == {4}
    assert as_many.notes == []


def test_planned_packs_that_were_not_reached_are_kept_too(tmp_path):
    """So that an interruption before a pack's first checkpoint changes no bits either."""
    plan = plan_of(GRID, tmp_path)
    for each in plan.jobs:
        write_pack(each)
    for each in plan.jobs[:-1]:
        finish_all(plan, each)
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
    digests = [each.digests.training for job in plan_of(GRID, tmp_path).jobs for each in job.members]
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
    assert parameters(reading.cells[-1].member, 784) == 1_850_944


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


PACK = '{"format": 1, "threads": 1, "compiled": false, "members": %s}'


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("{", "damaged (not a JSON object)"),
        ('{"format": 1, "threads": 1}', "damaged (compiled is missing)"),
        (PACK % '[{"folder": "a", "labels": {}, "spec": {}}]', "not a pack (Field required)"),
        (PACK.replace("1,", "2,", 1) % "[]", "written by another version (format 2, not 1)"),
        (PACK.replace('"format": 1, ', "") % "[]", "written by an earlier version (it has no format)"),
    ],
)
def test_a_damaged_pack_file_is_named(tmp_path, damage, words):
    folder = tmp_path / "packs" / "abc"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"")
    (folder / "pack.json").write_text(damage)
    plan = plan_of(GRID, tmp_path)
    assert plan.faults == [f"{folder / 'pack.json'}: {words}; its members go on as they are planned now"]
    plan.prepare()
    assert not folder.exists()


def test_a_plan_that_is_written_is_kept_without_a_folder_a_pack(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=4)
    plan.prepare()
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["planned.json"]
    finish_all(plan, plan.jobs[0])
    finish_all(plan, plan.jobs[1], 1)
    again = plan_of(GRID, tmp_path, cores=1)
    assert all(job in again.jobs for job in plan.jobs[2:])
    # The rest of a pack that has not begun but has lost a member is planned again.
    assert sum(len(job.members) for job in again.jobs) == 21 - len(plan.jobs[0].members) - 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("{", "damaged (not a JSON object)"),
        ("[3]", "damaged (not a JSON object)"),
        ('{"format": 1, "packs": [{"id": "a"}]}', "damaged (packs.0.kind is missing)"),
        ('{"packs": []}', "written by an earlier version (it has no format)"),
    ],
)
def test_a_damaged_list_of_packs_is_named(tmp_path, damage, words):
    path = tmp_path / "packs" / "planned.json"
    path.parent.mkdir()
    path.write_text(damage)
    plan = plan_of(GRID, tmp_path)
    assert plan.faults == [f"{path}: {words}; packs are planned anew"]
    plan.prepare()
    assert Results(tmp_path).planned is not None


def test_measurements_decide_how_large_packs_are_and_memory_limits_them(tmp_path):
    best_at_two = Measured(measurement({1: 9.0, 2: 4.0, 4: 6.0}))
    text = GRID.replace("epochs: 4", "epochs: 400")
    sizes = {len(job.members) for job in plan_of(text, tmp_path, cores=1, forecaster=best_at_two).jobs}
    assert sizes == {1, 2}
    best_at_eight = Measured(measurement({1: 9.0, 2: 6.0, 4: 4.0, 8: 3.0}))
    many = text.replace("[0, 1, 2]", str(list(range(16))))
    sizes = {len(job.members) for job in plan_of(many, tmp_path, cores=1, forecaster=best_at_eight).jobs}
    assert sizes == {8}
    # A GiB per member: of 8.5 GiB for the two packs of one GPU each has 4.25, and may evaluate with a 64th of 8.5.
    on_gpu = Measured(best_at_eight.eager, device="cuda")
    plan = plan_of(many, tmp_path, gpus=1, packs_per_gpu=2, memory=8.5 * 2**30, forecaster=on_gpu)
    assert plan.workers == 2
    assert max(len(job.members) for job in plan.jobs) == 4


def test_packs_per_gpu_multiply_the_workers(tmp_path):
    plan = plan_of(GRID, tmp_path, cores=16, gpus=2, packs_per_gpu=3)
    assert plan.workers == 6
    assert {job.threads for job in plan.jobs} == {2}


def test_packs_that_share_a_gpu_are_not_cut_to_fill_it(tmp_path):
    on_gpu = Measured(measurement({1: 6.0, 16: 1.0}), device="cuda")
    sizes = sorted(
        len(job.members) for job in plan_of(GRID, tmp_path, gpus=1, packs_per_gpu=16, forecaster=on_gpu).jobs
    )
    assert sizes == [3, 3, 3, 6, 6]


@pytest.mark.parametrize("workers", [2, 3, 8, 64])
@pytest.mark.parametrize("seeds", [1, 3, 40])
def test_workers_end_at_about_the_same_time(tmp_path, workers, seeds):
    """Packs are cut where that helps: the makespan is near the work shared evenly, or near the longest member alone, or
    members cannot be shared out evenly.
    """
    text = GRID.replace("[0, 1, 2]", str(list(range(seeds)))).replace("epochs: 4", "epochs: 4000")
    forecaster = Measured(measurement({1: 6.0, 2: 5.0, 4: 4.5, 8: 4.2, 16: 4.0}))
    plan = plan_of(text, tmp_path, cores=workers, forecaster=forecaster)
    schedule = simulate([forecaster.of(job).seconds for job in plan.jobs], workers)
    alone = [forecaster.pack(m.spec, 1, 1, compiled=False).seconds for m in plan.reading.members]
    near = NEAR_IDEAL * max(schedule.total / workers, *alone)
    assert schedule.makespan <= max(near, simulate(alone, workers).makespan)
    packed = [each.digests.training for job in plan.jobs for each in job.members]
    assert sorted(packed) == sorted(m.digests.training for m in plan.reading.members)


def plan_of_threes(epochs, root, compiled=None, **options):
    """Packs of three of one depth, with ten steps per epoch of 3 x 10 ms: 600 seconds are 2,000 epochs."""
    text = GRID.replace("epochs: 4,", f"epochs: {epochs},").replace("128", "143").replace("[1, 2]", "[1]")
    forecaster = Measured(measurement({1: 10.0}), compiled)
    return plan_of(text, root, cores=1, pack_size=3, forecaster=forecaster, **options)


def test_what_is_compiled_and_what_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)

    def ways(*arguments, **options):
        plan = plan_of_threes(*arguments[:1], tmp_path, *arguments[1:], **options)
        return {(job.compiled, job.tries_compiling) for job in plan.jobs}

    plain, compiled, tried = {(False, False)}, {(True, False)}, {(False, True)}
    assert ways(1990) == plain
    assert ways(2010) == tried
    assert ways(2010, compiling="never") == plain
    # Two packs that share a GPU take 1.13 times as long.
    assert ways(1800, gpus=2, packs_per_gpu=1) == plain
    assert ways(1750, gpus=1, packs_per_gpu=2) == plain
    assert ways(1800, gpus=1, packs_per_gpu=2) == tried
    assert ways(4, compiling="always") == compiled
    # An epoch saves 10 steps x 3 members x 5 ms.
    faster = measurement({1: 5.0}, compiling=40.0)
    assert ways(260, faster) == plain
    assert ways(270, faster) == compiled
    assert ways(2010, faster, here=False) == tried
    assert ways(10**6, measurement({1: 12.6})) == plain
    monkeypatch.setattr(devices, "can_compile", lambda kind: False)
    assert ways(2010) == plain
    # Others may have a compiler.
    assert ways(2010, here=False) == tried


@pytest.mark.parametrize(
    ("epochs", "compiled", "expected"),
    [
        (10, {1: 6.0, 2: 5.0, 3: 4.0}, (2, False)),
        (2000, {1: 6.0, 2: 5.0, 3: 4.0}, (3, True)),
        (2000, {1: 12.0, 2: 9.0, 3: 8.0}, (2, False)),
    ],
    ids=["too short to compile", "compiled", "slower compiled"],
)
def test_packs_have_the_best_size_of_the_way_they_are_made(tmp_path, monkeypatch, epochs, compiled, expected):
    """Of six members, plain steps are the cheapest in packs of two, and compiled ones in packs of three."""
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)
    forecaster = Measured(measurement({1: 10.0, 2: 7.0, 3: 7.5}), measurement(compiled, compiling=30.0))
    text = GRID.replace("epochs: 4,", f"epochs: {epochs},").replace("[1, 2]", "[1]")
    plan = plan_of(text, tmp_path, cores=1, forecaster=forecaster)
    assert {(len(job.members), job.compiled) for job in plan.jobs if "BN" in job.name} == {expected}


def test_a_plan_says_what_is_compiled_what_is_slower_and_what_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)
    names = "digits L1 VAE x 3", "digits L1 VAE+BN x 3"
    tried = "Tried before the first epoch, and compiled where that is faster: "
    slower = "Not compiled, as the compiled step was measured to be no faster: "
    shown_of = {
        None: tried + ", ".join(names),
        5.0: "Compiled: " + ", ".join(names),
        12.6: slower + ", ".join(f"{name} (1.26 times as long)" for name in names),
    }
    for ms, line in shown_of.items():
        text = shown(plan_of_threes(2010, tmp_path, None if ms is None else measurement({1: ms})))
        assert [one for one in text.splitlines() if " x 3" in one and ": " in one] == [f"{line}."]
        assert (" VAE, tried " in text) == (ms is None)
    # Where nobody asked for it, nothing is said of it.
    for options in ({"compiling": "never"}, {"here": False}):
        assert slower not in shown(plan_of_threes(2010, tmp_path, measurement({1: 12.6}), **options))


def test_a_pack_keeps_whether_it_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)
    (job, *_) = plan_of(GRID, tmp_path, compiling="always").jobs
    write_pack(job)
    again = {other.pack_id: other.compiled for other in plan_of(GRID, tmp_path, compiling="never").jobs}
    assert again[job.pack_id]
    assert set(again.values()) == {True, False}


def test_a_pack_that_has_not_found_out_whether_to_compile_is_planned_as_is_asked_now(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)
    first = plan_of_threes(2010, tmp_path)
    for job in first.jobs:
        assert job.tries_compiling
        write_pack(job)

    def ways(**options):
        plan = plan_of_threes(2010, tmp_path, **options)
        assert {job.pack_id for job in plan.jobs} == {job.pack_id for job in first.jobs}
        return {(job.compiled, job.tries_compiling) for job in plan.jobs}

    assert ways() == {(False, True)}
    assert ways(compiling="never") == {(False, False)}
    assert ways(compiled=measurement({1: 5.0})) == {(True, False)}
    # Once found out, it stays.
    for job in first.jobs:
        write_pack(replace(job, compiled=True, tries_compiling=False))
    assert ways(compiling="never") == ways(compiled=measurement({1: 12.6})) == {(True, False)}


def shown(plan):
    console = Console(width=160, record=True, file=io.StringIO())
    print_plan(plan, console)
    return console.export_text()


def test_a_measured_plan_tells_times_hours_and_memory(tmp_path):
    forecaster = Measured(measurement({1: 10.0}, samples_per_second=360 * 5 * 3, gib=1.0))
    text = GRID.replace("epochs: 4,", "epochs: 1000,").replace("128", "143")
    text = text.replace("[1, 2]", "[2]").replace("  exclude: [{variant: Ladder, depth: 1}]\n", "")
    plan = plan_of(text, tmp_path, cores=4, pack_size=3, forecaster=forecaster)
    out = shown(plan)
    # Twelve members in four packs: 1,000 epochs of 10 steps of 10 ms per member, 1 second for each three evaluations.
    assert len(plan.jobs) == 4
    one = 2 + 3 * 1000 * 10 * 0.010 + 1
    assert "Together 0:05:03 with 4 packs at a time (100% of the workers' time used)" in out
    assert f"{4 * one / 3600:.1f} core-hours, at most 12.0 GiB in use at a time" in " ".join(out.split())
    assert "digits L2 ladder+BN" in out
    assert "10.00" in out
    unmeasured = shown(plan_of(text, tmp_path))
    assert "What has not been measured goes by nominal speed" in unmeasured


def test_five_thousand_members_are_planned_about_as_fast_each_as_five_hundred(tmp_path):
    """Cells and packs are cut to what can be read, a folder of as many records is looked at once, and so are the
    schedules of a cell. Seconds of this process, whatever else the machine does, and as many times as many members take
    about as many times as long.
    """
    five_hundred, five_thousand = (planning(tmp_path / str(seeds), seeds) for seeds in (72, 715))
    assert five_thousand < 2 * 10 * five_hundred


def planning(root, seeds):
    """Plan a grid of so many seeds, seven members each, before it has run, after, and for longer. Returns seconds."""
    members = 7 * seeds
    text = GRID.replace("[0, 1, 2]", str(list(range(seeds)))).replace("epochs: 4", "epochs: 2000")
    start = time.process_time()
    plan = plan_of(text, root)
    assert len(plan.reading.members) == members
    plan.prepare()
    out = shown(plan)
    assert len(out.splitlines()) < 60
    assert f"... and {len(plan.jobs) - 20:,} more packs" in out
    planned = time.process_time()
    write_records(plan)
    written = time.process_time()
    again = plan_of(text, root)
    assert again.jobs == []
    assert again.counts == {"finished": members}
    assert again.notes == []
    longer = plan_of(text.replace("epochs: 2000", "epochs: 3000"), root)
    assert sum(len(job.extends) for job in longer.jobs) == members
    assert longer.notes == [f"training.epochs 2000 -> 3000: {members:,} members continue"]
    return planned - start + time.process_time() - written


def write_records(plan):
    """All members' finished records, as far as a plan looks at them, without a flush to disk for each."""
    for each in plan.reading.members:
        folder = plan.results.root / "members" / each.folder
        evaluation = folder / "evaluations" / each.digests.evaluation[:12]
        evaluation.mkdir(parents=True)
        trained = TrainingResult(
            digest=each.digests.training, trajectory=each.digests.trajectory, status="trained", epochs=2000
        )
        result = EvaluationResult(
            digest=each.digests.evaluation, training=each.digests.training, labels=each.labels, status="finished"
        )
        (folder / "spec.yaml").touch()  # the index has it
        (folder / "optimizer.safetensors").touch()
        (folder / "training.json").write_text(trained.model_dump_json())
        (evaluation / "result.json").write_text(result.model_dump_json())

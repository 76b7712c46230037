"""What is said while a grid runs: times left, and packs that were split."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hvae_spec.pack_job import Progress
from tests.tune.measured import Measured, measurement
from tests.tune.planned import GRID, plan_of
from tune.execute.splitting import split
from tune.measure.comparison import StepComparison, save_comparisons
from tune.show import display as displays
from tune.show.display import TRIAL, Clock, Display, PackState


def progress(job, done):
    return Progress(job.pack_id, "training", 1, 4, (1.0,), -20.0, 3.0, done)


@pytest.fixture
def clock_hand(monkeypatch):
    """The time, as it is set."""
    hand = [1000.0]
    monkeypatch.setattr(displays.time, "monotonic", lambda: hand[0])
    return hand


def display_of(plan):
    return Display(plan, Console(file=io.StringIO(), width=160))


def told(display):
    return display.console.file.getvalue()


def test_the_time_left_is_the_forecast_at_first_and_then_as_measured(tmp_path, clock_hand):
    # A grid of one shape: six packs of 10 steps of 10 ms, 6,000 epochs, on two workers.
    text = GRID.replace("[1, 2]", "[1]").replace("128", "143").replace("epochs: 4,", "epochs: 6000,")
    plan = plan_of(text, tmp_path, pack_size=1, forecaster=Measured(measurement({1: 10.0})), compiling="never")
    display = display_of(plan)
    assert len(plan.jobs) == 9
    assert "ETA 0:50:10" in display.overall()  # five packs of 602 seconds, one after another
    first, second, *_ = plan.jobs
    for job in (first, second):
        display.started(job.pack_id)
        display.progressed(progress(job, 0.0))
    assert "ETA 0:50:10" in display.overall()
    # A tenth of each pack took twice as long as forecast.
    clock_hand[0] += 2 * 60.2
    for job in (first, second):
        display.progressed(progress(job, 0.1))
    assert "ETA 1:38:20" in display.overall()  # (4 + 0.9) x 602 x 2
    display.ended(first.pack_id)
    assert "1 of 9 packs" in told(display)


def test_without_measurements_the_time_left_is_unknown_until_something_has_run(tmp_path, clock_hand):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    assert "ETA unknown yet" in display.overall()
    (job, *_) = plan.jobs
    display.started(job.pack_id)
    display.progressed(progress(job, 0.0))
    clock_hand[0] += 10
    display.progressed(progress(job, 0.5))
    assert "ETA unknown" not in display.overall()


def test_the_clock_lets_running_packs_go_on_and_others_follow():
    states = {
        name: PackState(None, cost, status)
        for name, cost, status in (("a", 10.0, "running"), ("b", 4.0, "waiting"), ("c", 6.0, "waiting"))
    }
    clock = Clock(states, is_measured=True)
    assert clock.remaining(0.0, 2) == 10.0  # the other worker: 6 and 4
    assert clock.remaining(0.0, 1) == 20.0
    states["a"].status = "finished"
    assert clock.remaining(0.0, 2) == 6.0


def test_a_pack_that_was_split_is_told_and_its_halves_take_its_place(tmp_path):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    job = next(job for job in plan.jobs if len(job.members) == 3)
    display.started(job.pack_id)
    display.split(job.pack_id, split(job))
    assert "out of memory with 3 members: split into 2 + 1" in told(display)
    assert len(display.states) == len(plan.jobs) + 1
    assert job.pack_id not in display.states


def test_a_pack_that_lost_members_is_told_and_the_rest_takes_its_place(tmp_path, clock_hand):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    lost, gone, *others = plan.jobs
    rest = replace(lost, pack_id="rest", members=lost.members[1:])
    display.reduced(lost.pack_id, rest, ["its first phase diverged"])
    assert "its first phase diverged" in told(display)
    assert lost.pack_id not in display.states
    display.started("rest")
    assert [state.job for state in display.running()] == [rest]
    display.reduced(gone.pack_id, None, ["its first phase failed"])
    assert display.states[gone.pack_id].status == "failed"
    assert f"1 of {len(others) + 2} packs" in display.overall()


def test_a_pack_that_is_several_times_slower_than_measured_is_told_once(tmp_path, clock_hand):
    plan = plan_of(GRID, tmp_path, pack_size=1, forecaster=Measured(measurement({1: 10.0})), compiling="never")
    display = display_of(plan)
    job = plan.jobs[0]
    display.started(job.pack_id)
    for epoch, ms in ((1, 90.0), (1, 90.0), (2, 29.0)):  # the first epoch warms up; 2.9 times as long is nothing yet
        display.progressed(replace(progress(job, 0.1), epoch=epoch, ms_per_step=ms))
    assert "as long as measured" not in told(display)
    for epoch in (3, 3, 4, 5):
        display.progressed(replace(progress(job, 0.1), epoch=epoch, ms_per_step=45.0))
    assert told(display).count("45 ms a step, 4.5 times as long as measured on this machine") == 1


def test_a_pack_is_slow_beside_what_one_has_found_of_compiled_steps(tmp_path, clock_hand):
    job = plan_of(GRID, tmp_path).jobs[0]
    found = StepComparison(len(job.members), 10.0, 12.0, 30.0)
    save_comparisons(job.members[0].spec, "cpu", job.threads, [found])
    display = display_of(plan_of(GRID, tmp_path))
    display.started(job.pack_id)
    for epoch in range(1, 4):
        display.progressed(replace(progress(job, 0.1), epoch=epoch, ms_per_step=45.0))
    assert "45 ms a step, 4.5 times as long as measured on this machine" in told(display)


def test_nothing_is_slow_where_nothing_is_measured(tmp_path, clock_hand):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    job = plan.jobs[0]
    display.started(job.pack_id)
    for epoch in range(1, 4):
        display.progressed(replace(progress(job, 0.1), epoch=epoch, ms_per_step=1e6))
    assert "as long as measured" not in told(display)


def test_what_packs_found_of_compiled_steps_is_said_once(tmp_path, clock_hand):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    words = "the compiled step of mnist L5 VAE x 8 takes 1.26 times as long: training goes on without"
    for job in plan.jobs[:2]:
        display.started(job.pack_id)
        for done in (0.0, 0.5):
            display.progressed(replace(progress(job, done), found=words))
    assert told(display).count(words) == 1
    assert list(display.found) == [words]


def test_plain_lines_say_once_that_packs_try_compilation_unless_it_is_known(tmp_path, clock_hand):
    text = GRID.replace("epochs: 4,", "epochs: 6000,")
    plan = plan_of(text, tmp_path, pack_size=1, forecaster=Measured(measurement({1: 50.0})))
    display = display_of(plan)
    first, second = plan.jobs[:2]
    assert first.tries_compiling
    display.started(first.pack_id)
    display.started(second.pack_id)
    assert told(display).count(f"] {TRIAL}\n") == 1
    clock_hand[0] += 20
    display.progressed(progress(first, 0.1))
    assert f"  {second.name}: starting\n" in told(display)
    assert f"  {first.name}: epoch 1/4" in told(display)


def test_a_pack_whose_way_is_decided_starts_without_more_words(tmp_path):
    plan = plan_of(GRID, tmp_path)
    display = display_of(plan)
    display.started(plan.jobs[0].pack_id)
    assert told(display).endswith(f"{plan.jobs[0].name}: started\n")

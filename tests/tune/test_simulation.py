"""List scheduling: bounds that are known, and a schedule that is found by trying all."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.plan.schedule import makespan, simulate
from tune.simulation import main

durations = st.lists(st.floats(0.1, 100), min_size=1, max_size=40)


def optimum(times, workers):
    """By trying every assignment."""
    choices = itertools.product(range(workers), repeat=len(times))
    return min(
        max(
            sum(time for time, place in zip(times, choice, strict=True) if place == worker) for worker in range(workers)
        )
        for choice in choices
    )


@given(durations, st.integers(1, 50))
def test_no_schedule_beats_the_ideal_and_none_is_twice_as_long(times, workers):
    schedule = simulate(times, workers)
    assert schedule.ideal * (1 - 1e-9) <= schedule.makespan <= 2 * schedule.ideal
    assert schedule.makespan <= sum(times) / workers + max(times) * (1 - 1 / workers) + 1e-6
    assert 0 < schedule.utilization <= 1 + 1e-9


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=7), st.integers(1, 3))
def test_longest_first_is_as_near_to_the_optimum_as_graham_proved(times, workers):
    best = optimum(times, workers)
    span = simulate(times, workers).makespan
    assert best * (1 - 1e-9) <= span <= (4 / 3 - 1 / (3 * workers)) * best * (1 + 1e-9)


@given(durations)
def test_one_worker_needs_the_sum_and_enough_workers_the_longest(times):
    assert simulate(times, 1).makespan == pytest.approx(sum(times))
    assert simulate(times, len(times)).makespan == pytest.approx(max(times))


@given(durations, st.integers(1, 10))
def test_a_schedule_is_that_of_workers_who_take_the_next_pack_when_they_are_free(times, workers):
    """The slow and obvious way: time goes on from one end of a pack to the next."""
    now, waiting, running = 0.0, list(times), []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(now + waiting.pop(0))
        now = min(running)
        running.remove(now)
    assert makespan(times, workers) == pytest.approx(now)


def test_graham_s_worst_case():
    """Two workers, 3 3 2 2 2: 7 where 6 is possible."""
    assert simulate([2, 3, 2, 3, 2], 2).makespan == 7
    assert optimum([2, 3, 2, 3, 2], 2) == 6


def test_nothing_takes_no_time():
    schedule = simulate([], 4)
    assert (schedule.makespan, schedule.ratio, schedule.utilization) == (0, 1, 1)


def test_the_command_prints_a_row_for_every_number_of_workers(capsys):
    short = ["--set", "evaluation.iw_samples=1", "--set", "evaluation.every=null"]
    assert main(["specs/mnist_grid.yaml", *short, "--workers", "1,64", "--ms-per-member-step", "10"]) == 0
    out = capsys.readouterr().out
    assert "57 members on cpu" in out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["1", "64"]
    # One worker: 57 members of 2,000 epochs of 234 steps of 10 ms, and little else.
    training = 57 * 2000 * 234 * 0.010 / 3600
    assert training < float(rows[0][3].split()[0]) < 1.01 * training
    assert float(rows[1][5]) < 1.1
    assert "What has not been measured goes by nominal speed" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], "no such file"),
        (["x.yaml", "--workers", "1,none"], "a whole number greater than 0, not 'none'"),
        (["x.yaml", "--gflops", "-1"], "expected a number greater than 0, not '-1'"),
        (["x.yaml", "--gflops", "nan"], "expected a number greater than 0, not 'nan'"),
        (["x.yaml", "--gflops", "fast"], "expected a number greater than 0, not 'fast'"),
        (["x.yaml", "--ms-per-member-step", "0"], "expected a number greater than 0, not '0'"),
    ],
)
def test_bad_input_is_told(capsys, arguments, words):
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert words in capsys.readouterr().err

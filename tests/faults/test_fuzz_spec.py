"""The campaign of fuzzed specs: a sample of it, and that it notices what it is there to notice."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hvae_spec.reading import loads
from tests.faults import fuzz_spec
from tests.faults.fuzz_spec import Trial, campaign, faults, trial, trouble_with

SPEC = "name: 12e4567\ndata: {dataset: digits}\nmodel: {layers: [{units: 2, mlp: [4]}]}\ntraining: {epocs: 2}\n"


def lost(trials):
    found = {}
    assert campaign(trials, 5, 2, found.__setitem__) == len(found)
    return found


def test_a_sample_is_survived():
    assert lost(40) == {}


def test_trials_are_the_same_every_time():
    assert [trial(5, number) for number in range(20)] == [trial(5, number) for number in range(20)]
    assert len({trial(5, number) for number in range(20)}) == 20


def test_a_suggestion_that_is_not_valid_is_noticed():
    attempt = Trial(SPEC)
    name, key = attempt.problems()
    assert (name.suggestion, key.suggestion) == ("'12e4567'", "epochs")
    assert faults(attempt) == []
    for problem, good, bad in ((name, "x", ".inf"), (name, "x", "[x"), (key, "epochs", "epoch")):
        assert trouble_with(good, problem, attempt, [name, key]) == ""
        assert trouble_with(bad, problem, attempt, [name, key]) != ""


def test_overrides_are_tried_with_their_suggestions():
    attempt = Trial(path=fuzz_spec.SPECS / "quickstart.yaml", overrides=("training.epocs=3", "objective.warm_up=1e1"))
    key, value = sorted(attempt.problems(), key=lambda problem: problem.place.column)
    assert trouble_with("training.epochs", key, attempt, [key, value]) == ""
    assert trouble_with("training.epoch", key, attempt, [key, value]) == "no field of the spec"
    assert trouble_with("10", value, attempt, [key, value]) == ""
    assert "is not valid" in trouble_with("10.5", value, attempt, [key, value])


@pytest.mark.slow
def test_what_hangs_crashes_raises_or_writes_is_lost_and_the_rest_goes_on(monkeypatch):
    def read(number, text):
        if number == 3:
            time.sleep(600)
        if number == 4:
            os._exit(1)
        if number == 5:
            raise KeyError("x")
        while number == 7:
            pass
        if number == 6:
            Path("written").touch()
        return loads(text)

    def check(seed, number, before=fuzz_spec.check):
        monkeypatch.setattr(fuzz_spec, "loads", lambda text: read(number, text))
        monkeypatch.setattr(fuzz_spec, "trial", lambda seed, number: Trial(SPEC))
        return before(seed, number)

    monkeypatch.setattr(fuzz_spec, "check", check)
    monkeypatch.setattr(fuzz_spec, "SILENCE", 10)
    monkeypatch.setattr(fuzz_spec, "TIME_LIMIT", 3)
    found = lost(9)
    assert found.pop(3) == ["no word for 10 seconds"]
    assert "TimeoutError: more than 3 seconds of a core" in found.pop(7)[0]
    assert found.pop(4) == ["the process ended"]
    assert "KeyError" in found.pop(5)[0]
    assert found.pop(6) == ["wrote written"]
    assert {line for lines in found.values() for line in lines} <= {"wrote written"}


def test_a_problem_that_stands_nowhere_is_noticed(monkeypatch):
    before = Trial.problems

    def elsewhere(attempt):
        return [replace(problem, place=replace(problem.place, line=99)) for problem in before(attempt)]

    monkeypatch.setattr(Trial, "problems", elsewhere)
    assert faults(Trial(SPEC))[0].startswith("stands nowhere")

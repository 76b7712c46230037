"""Packs that find out whether to compile their steps: what they choose, that nothing notices, and that it stays.

What is compiled here is a function of the test's own, and no clock is read: steps take the times that the test says.
"""

from functools import partial

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from hvae_spec import pack as packs
from hvae_spec.data.dataset import load_dataset
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.spec.grid import Member
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tune import run as tune_run
from tune.execute import splitting, trial
from tune.execute.splitting import fits, split
from tune.execute.trial import choose_steps
from tune.measure import comparison
from tune.measure.cache import cache_path
from tune.measure.comparison import StepComparison, load_comparison, save_comparisons
from tune.plan import devices, forecast
from tune.plan.packs import as_begun, pack_id
from tune.show import summary

STEPS = 1000
COMPILE = torch.compile
SMALL = {"training__epochs": 3, "data__train_images": 96, "data__test_images": 8}


class Killed(BaseException):
    """Stands for a process that dies."""


class Turns:
    """Takes two turns of each call, and says that they took so many seconds."""

    def __init__(self, plain, compiled=()):
        self.seconds, self.asked = {False: [plain, plain], True: list(compiled)}, []

    def __call__(self, calls, seconds, device):
        self.asked.append((list(calls), seconds))
        for _ in range(2):
            for call in calls.values():
                call()
        return {way: self.seconds[way] for way in calls}


def untimed(calls, seconds, device):
    """Where nothing is to be measured."""
    raise AssertionError("measured")


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """What stands for `torch.compile`: its objective is half as large again. Returns how often it was made."""
    made = []

    def compiling(function, dynamic):
        made.append(function)

        def half_as_large_again(*arguments):
            value, seen = function(*arguments)
            return 1.5 * value, seen

        return half_as_large_again

    monkeypatch.setattr(torch, "compile", compiling)
    monkeypatch.setattr(trial, "can_compile", lambda kind: True)
    monkeypatch.setattr(trial, "LEAST_STEPS", 0)  # the few steps of a test stand for many
    return made


def job_of(root, members=2, **overrides):
    specs = [member(seed=seed, **(SMALL | overrides)) for seed in range(members)]
    labels = {"dataset": "digits", "depth": 3, "variant": "V"}
    own = [Member(spec, spec.digests, labels | {"seed": spec.seed}, f"m{spec.seed}") for spec in specs]
    return PackJob(pack_id(own), tuple(own), root, device="cpu", tries_compiling=True)


def trainer_of(job, **options):
    specs = [one.spec for one in job.members]
    return Trainer(specs, load_dataset(specs[0].data), **options)


def state_after(trainer, epochs=2):
    """What training leaves, and every number of its curves."""
    rows = [{**row, "seconds": 0, "ms_per_step": 0} for _ in range(epochs) for row in trainer.train_epoch()]
    return trainer.optimizer.state(), rows


def assert_same(trainer, other):
    (state, rows), (expected, expected_rows) = state_after(trainer), state_after(other)
    assert rows == expected_rows
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"model__prior": {"vamp": 5}, "model__batch_norm": False},
        {"training__ema": 0.9, "training__optimizer": {"sgd": {"momentum": 0.5}}, "training__clip_norm": 1.0},
        {"data__labeled": 20, "data__labeled_batch": 4, "model__classes": {"mlp": [6]}, "data__redraw": "once"},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_faster", [True, False])
def test_training_after_a_trial_is_bit_for_bit_that_without_one(tmp_path, overrides, is_faster):
    job = job_of(tmp_path, **overrides)
    tried = trainer_of(job)
    before = torch.get_rng_state()
    choose_steps(job, tried, STEPS, Turns(10.0, [9.0, 9.0] if is_faster else [12.0, 12.0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert tried.is_to_compile == is_faster
    assert_same(tried, trainer_of(job, compiled=is_faster))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("is_faster", [True, False])
def test_so_it_is_with_what_pytorch_compiles(tmp_path, monkeypatch, is_faster):
    monkeypatch.setattr(torch, "compile", COMPILE)
    job = job_of(tmp_path)
    tried = trainer_of(job)
    choose_steps(job, tried, STEPS, Turns(10.0, [9.0, 9.0] if is_faster else [12.0, 12.0]))
    assert tried.is_to_compile == is_faster
    assert_same(tried, trainer_of(job, compiled=is_faster))


def test_the_two_ways_differ_here(tmp_path):
    job = job_of(tmp_path)
    (plain, _), (fused, _) = (state_after(trainer_of(job, compiled=way), 1) for way in (False, True))
    assert not torch.equal(plain["rows"], fused["rows"])


@pytest.mark.parametrize(
    ("seconds", "choice", "words"),
    [
        # Of the ratios within each turn, the median.
        ([7.0, 7.0], True, "takes 0.70 times as long: training goes on with it"),
        ([9.5, 9.5], True, "takes 0.95 times as long: training goes on with it"),
        ([9.7, 9.7], False, "takes 0.97 times as long, too little to tell from noise: training goes on without"),
        ([10.0, 10.0], False, "takes 1.00 times as long: training goes on without"),
        ([12.0, 13.2], False, "takes 1.26 times as long: training goes on without"),
    ],
    ids=str,
)
def test_what_is_measured_to_be_faster_is_chosen_said_and_kept(tmp_path, seconds, choice, words):
    job, turns = job_of(tmp_path), Turns(10.0, seconds)
    trainer = trainer_of(job)
    said = choose_steps(job, trainer, STEPS, turns)
    assert said == f"the compiled step of digits L3 ladder+BN x 2 {words}"
    assert (trainer.compiled is not None) == choice
    # The plain steps alone, for a moment; then both for 60 seconds, as a hundredth of the training is more than that.
    assert turns.asked == [([False], 0.5), ([False, True], 60.0)]
    found = load_comparison(job.members[0].spec, "cpu", 1, 2)
    assert (found.plain_ms, found.compiled_ms) == (5000.0, pytest.approx(1e3 * sum(seconds) / 4))
    # The next pack of this shape and size knows.
    again = trainer_of(job)
    assert choose_steps(job, again, STEPS, untimed) == said
    assert again.is_to_compile == choice
    # One of another size does not.
    with pytest.raises(AssertionError, match="measured"):
        choose_steps(job_of(tmp_path, 3), trainer_of(job_of(tmp_path, 3)), STEPS, untimed)


def test_training_that_turns_out_short_compiles_nothing(tmp_path, compiled):
    job, turns = job_of(tmp_path), Turns(0.6)
    trainer = trainer_of(job)
    assert choose_steps(job, trainer, 1000, turns) == ""
    assert (trainer.is_to_compile, compiled) == (False, [])
    assert load_comparison(job.members[0].spec, "cpu", 1, 2) is None
    assert_same(trainer, trainer_of(job))


def test_few_steps_are_not_tried_however_slow_they_are(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(trial, "LEAST_STEPS", 100)
    job = job_of(tmp_path)
    for steps, tries in ((99, 0), (100, 1)):
        trainer = trainer_of(job)
        choose_steps(job, trainer, steps, Turns(100.0, [50.0, 50.0]))
        assert (trainer.is_to_compile, len(compiled)) == (bool(tries), tries)


def test_what_is_known_to_be_faster_is_compiled_only_if_steps_left_pay_for_it(tmp_path):
    job = job_of(tmp_path)
    # A step of two saves 6 s, and compiling takes 60.
    save_comparisons(job.members[0].spec, "cpu", 1, [StepComparison(2, 10e3, 7e3, 60.0)])
    for steps, choice in ((10, False), (11, True)):
        trainer = trainer_of(job)
        words = choose_steps(job, trainer, steps, untimed)
        assert trainer.is_to_compile == choice
        assert ("too few steps to pay for compiling: training goes on without" in words) != choice


@pytest.mark.parametrize(
    "error", [TorchDynamoException("no"), torch.OutOfMemoryError("no")], ids=lambda e: type(e).__name__
)
@pytest.mark.filterwarnings("ignore:torch.compile failed")
def test_where_a_step_does_not_compile_training_goes_on_without(tmp_path, monkeypatch, error):
    def compiling(function, dynamic):
        def failing(*arguments):
            raise error

        return failing

    monkeypatch.setattr(torch, "compile", compiling)
    job = job_of(tmp_path)
    trainer = trainer_of(job)
    assert "cannot be compiled" in choose_steps(job, trainer, STEPS, Turns(10.0))
    assert load_comparison(job.members[0].spec, "cpu", 1, 2) is None
    assert_same(trainer, trainer_of(job))


def test_where_nothing_compiles_nothing_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "can_compile", lambda kind: False)
    job = job_of(tmp_path)
    trainer = trainer_of(job)
    assert choose_steps(job, trainer, STEPS, untimed) == ""
    assert not trainer.is_to_compile


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"2": None},
        {"2": {"plain_ms": 0.0, "compiled_ms": 1.0, "compile_seconds": 1.0}},
        {"2": {"plain_ms": 1.0, "compiled_ms": "x", "compile_seconds": 1.0}},
        {"2": {"plain_ms": 1.0, "compiled_ms": 10**400, "compile_seconds": 1.0}},
        [],
    ],
    ids=str,
)
def test_what_is_kept_and_is_no_comparison_is_as_none(tmp_path, monkeypatch, damage):
    spec, found = member(), StepComparison(2, 2.0, 1.0, 3.0)
    with monkeypatch.context() as patch:
        patch.setattr(comparison, "kept", lambda key: damage)
        assert load_comparison(spec, "cpu", 1, 2) is None
        save_comparisons(spec, "cpu", 1, [found])
    assert load_comparison(spec, "cpu", 1, 2) == found


def test_comparisons_of_several_sizes_are_kept_side_by_side():
    two, four, newer = (
        StepComparison(2, 2.0, 1.0, 3.0),
        StepComparison(4, 1.5, 1.6, 4.0),
        StepComparison(2, 2.0, 1.1, 3.0),
    )
    save_comparisons(member(), "cpu", 1, [two, four])
    save_comparisons(member(), "cpu", 1, [newer])
    assert [load_comparison(member(), "cpu", 1, size) for size in (2, 4, 8)] == [newer, four, None]


@pytest.fixture
def often(monkeypatch):
    """A checkpoint and a report after every epoch."""
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)


def times_are(monkeypatch, take_turns):
    monkeypatch.setattr(splitting, "choose_steps", partial(choose_steps, take_turns=take_turns))


def weights(job):
    return [job.record(one).weights.read_bytes() for one in job.members]


@pytest.mark.parametrize("is_faster", [True, False])
@pytest.mark.parametrize("lost", ["cache", "cache and pack.json", "the other way round"])
def test_a_pack_goes_on_as_it_chose(tmp_path, monkeypatch, often, is_faster, lost):
    """Whatever was measured since, and whoever forgot what: a pack that was interrupted ends as one that was not."""
    faster, slower = Turns(1e4, [5e3, 5e3]), Turns(1e4, [2e4, 2e4])
    whole, job = job_of(tmp_path / "whole"), job_of(tmp_path / "cut")
    times_are(monkeypatch, faster if is_faster else slower)
    said = []
    assert fits(whole, said.append)
    way = (
        "0.50 times as long: training goes on with it" if is_faster else "2.00 times as long: training goes on without"
    )
    assert {progress.found.partition("takes ")[2] for progress in said} == {way}
    assert (said[0].epoch, said[0].phase) == (0, "training")

    def die(progress):
        if progress.epoch == 2:
            raise Killed

    cache_path().unlink()
    with pytest.raises(Killed):
        fits(job, die)
    pack = Results(job.results).pack(job.pack_id)
    assert (pack.content.compiled, pack.content.tries_compiling) == (is_faster, False)
    assert as_begun(job).compiled == is_faster
    cache_path().unlink()
    if "pack.json" in lost:
        (pack.folder / "pack.json").unlink()
    if "other" in lost:
        save_comparisons(job.members[0].spec, "cpu", 1, [StepComparison(2, 1.0, 2.0 if is_faster else 0.5, 0.0)])
    times_are(monkeypatch, untimed)
    assert fits(job, lambda progress: None)
    assert weights(job) == weights(whole)
    for one in (whole, job):
        training = one.record(one.members[0]).training
        assert training.pack.compiled == is_faster
        assert {segment.compiled for segment in training.segments} == {is_faster}


def test_a_pack_that_dies_while_it_tries_tries_again(tmp_path, monkeypatch, often):
    def dying(calls, seconds, device):
        raise Killed

    job = job_of(tmp_path)
    times_are(monkeypatch, dying)
    with pytest.raises(Killed):
        fits(job, lambda progress: None)
    assert Results(job.results).pack(job.pack_id).content.tries_compiling
    times_are(monkeypatch, Turns(1e4, [5e3, 5e3]))
    assert fits(job, lambda progress: None)
    assert job.record(job.members[0]).training.pack.compiled


def test_halves_of_a_pack_go_on_as_it_chose(tmp_path, monkeypatch, often):
    def die(progress):
        if progress.epoch == 2:
            raise Killed

    job = job_of(tmp_path)
    times_are(monkeypatch, Turns(1e4, [5e3, 5e3]))
    with pytest.raises(Killed):
        fits(job, die)
    for half in split(job):  # as the process that planned it knows it
        assert (half.compiled, half.tries_compiling) == (True, False)


def test_a_trial_in_a_training_that_goes_on_from_a_shorter_one_changes_nothing(tmp_path, monkeypatch):
    def extended(root, **how):
        short = job_of(root / "short")
        run_pack(PackJob(**{**vars(short), "tries_compiling": False}))
        job = job_of(root / "long", training__epochs=5)
        extends = tuple(short.record(one).folder for one in short.members)
        return PackJob(**{**vars(job), "extends": extends, "start_epoch": 3, **how})

    times_are(monkeypatch, Turns(1e4, [2e4, 2e4]))
    tried, plain = extended(tmp_path / "tried"), extended(tmp_path / "plain", tries_compiling=False)
    for job in (tried, plain):
        assert fits(job, lambda progress: None)
    assert weights(tried) == weights(plain)


SPEC = """
name: tried
data: {dataset: digits, train_images: 64, test_images: 8}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 32}
evaluation: {iw_samples: 2}
grid: {seeds: [0, 1, 2]}
"""


def test_a_grid_tries_a_shape_once_says_what_was_found_and_says_it_again_at_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "can_compile", lambda kind: True)
    monkeypatch.setattr(forecast, "WORTH_TRYING", 0.0)
    monkeypatch.setattr(tune_run, "check_report", lambda: None)
    monkeypatch.setattr(summary, "_write_report", lambda results, console: True)
    turns = Turns(1e4, [1.26e4, 1.26e4])
    times_are(monkeypatch, turns)
    path = tmp_path / "tried.yaml"
    path.write_text(SPEC)
    command = [str(path), "--serial", "--device", "cpu", "--cpus", "1", "--pack-size", "1"]

    assert tune_run.main([*command, "--results", str(tmp_path / "out"), "--plan"]) == 0
    name = "digits L1 VAE x 1"
    tried = f"Tried before the first epoch, and compiled where that is faster: {name}."
    assert tried in capsys.readouterr().out
    assert tune_run.main([*command, "--results", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = f"the compiled step of {name} takes 1.26 times as long: training goes on without"
    first, last = (place for place, line in enumerate(lines) if words in line)
    assert lines[first].endswith(f"] {words}")
    assert lines[last] == f"Measured: {words}."
    assert last == len(lines) - 2
    # Of three packs of the shape, the first has measured for all.
    assert len(turns.asked) == 2
    # Another grid knows.
    assert tune_run.main([*command, "--results", str(tmp_path / "other"), "--plan"]) == 0
    slower = f"Not compiled, as the compiled step was measured to be no faster: {name} (1.26 times as long)."
    assert slower in capsys.readouterr().out

"""What becomes of packs that train when a run on Ray is told to end."""

import re
import signal
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors

from hvae_spec.pack_job import Progress
from tests.tune.planned import GRID, plan_of
from tests.tune.test_run import LONG, WITHOUT_REPORT, checkpoints, command, contents, ended, spoiled, wait_for
from tune.execute import ending, trials
from tune.execute.ending import IsEnding
from tune.execute.outcomes import Outcomes
from tune.execute.signals import Interrupted, Interruption


@pytest.mark.parametrize("crowd", [1.0, 8.0])
def test_a_worker_asks_now_and_then_until_the_answer_is_yes(monkeypatch, crowd):
    now, asked = [0.0], []
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ending, "knows_word", lambda word: asked.append(word) or len(asked) == 2)
    is_ending, answers = IsEnding("end", crowd, 60), []
    for now[0] in (0.0, 0.3 * crowd, 0.6 * crowd, 0.7 * crowd, 2.0 * crowd):
        answers.append(is_ending())
    assert answers == [False, False, True, True, True]
    assert asked == ["end", "end"]


def test_of_very_many_packs_each_asks_within_the_grace():
    assert [IsEnding("end", 20.0, grace).seconds for grace in (0, 2, 60)] == [0.5, 1.0, 10.0]


class Service:
    """Ray's control service."""

    answers = True


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Three packs on Ray, as its callbacks see them, and what was said, left as a word, and heard of packs."""
    now, words, said, heard = [0.0], [], [], []
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ending, "leave_word", words.append)
    monkeypatch.setattr(trials, "local_raylets", list)
    jobs = {job.pack_id: job for job in plan_of(GRID, tmp_path, pack_size=1).jobs[:3]}
    listener = SimpleNamespace(
        progressed=lambda progress: None,
        started=lambda pack: heard.append((pack, "started")),
        ended=lambda pack: heard.append((pack, "ended")),
        failed=lambda pack, reason, *, final: heard.append((pack, "failed")),
    )
    service, interruption = Service(), Interruption()
    about = trials._Run(listener, interruption, service, tmp_path, 60, said.append, lambda: {"CPU": 1.0}, now[0])
    outcomes = Outcomes(jobs, listener)
    tell = trials._callback(outcomes, about, {"CPU": 4, "GPU": 0.5}, [])
    trial = [SimpleNamespace(config={"pack": pack}) for pack in jobs]

    def started(index):
        tell.on_trial_start(0, [], trial[index])
        heard.clear()

    def progressed(index, epoch, phase="training", **more):
        progress = Progress(list(jobs)[index], phase, epoch, 5, (1.0,), -1.0, 1.0, 0.1, **more)
        tell.on_trial_result(0, [], trial[index], {"progress": vars(progress)})

    def told(number=signal.SIGTERM):
        interruption.number = number

    return SimpleNamespace(
        **{name: value for name, value in locals().items() if name not in ("tmp_path", "monkeypatch")},
        step=lambda: tell.on_step_begin(0, []),
    )


def test_packs_that_train_are_waited_for_until_they_have_stopped(run):
    for index in range(3):
        run.started(index)
    run.progressed(1, 5, "evaluating")  # a point of its curve
    run.progressed(2, 5, "evaluating", is_trained=True)
    run.step()
    run.told()
    run.step()
    assert len(run.words) == 1
    assert run.said == ["told to end: 2 packs at work may take 60 s to write checkpoints ..."]
    assert "packs to write checkpoints" in run.interruption.notice
    run.tell.on_trial_result(0, [], run.trial[0], {"stopped": True})
    run.tell.on_trial_complete(0, [], run.trial[0])
    run.step()
    run.tell.on_trial_start(0, [], run.trial[2])  # its worker is free for another pack, which nobody is told of
    run.progressed(1, 5)  # the last epoch, which is not yet recorded
    run.step()
    run.progressed(1, 5, "evaluating", is_trained=True)
    with pytest.raises(Interrupted):
        run.step()
    assert len(run.words) == len(run.said) == 1
    assert not run.heard  # one that has stopped has neither ended nor failed
    assert "Ray to start, or to end its workers" in run.interruption.notice


@pytest.mark.parametrize("is_ours", [False, True])
def test_what_packs_wait_for_is_said_once_if_none_begins(run, is_ours):
    """On a Ray of its own, where nobody else has taken anything, a run waits for a slow start alone."""
    if is_ours:
        run.about.free = None
    for run.now[0] in (0.0, 29.0, 31.0, 99.0):
        run.step()
    words = (
        "no pack has begun yet: each needs 4 cores and 0.5 GPUs of one node, and 1 core and 0 GPUs of the whole "
        "cluster are neither taken nor reserved"
    )
    assert run.said == ([] if is_ours else [words])


def test_nothing_is_said_of_packs_that_have_begun(run):
    run.tell.on_trial_start(0, [], run.trial[0])
    run.now[0] = 99.0
    run.step()
    assert not run.said


@pytest.mark.parametrize("why", ["ctrl-c", "no pack trains", "one tries compilation", "ray has ended, too"])
def test_what_need_not_be_waited_for_is_not(run, why):
    """No word is left, either: that would take a minute where Ray's control service is gone."""
    if why == "one tries compilation":
        run.jobs[run.trial[0].config["pack"]] = replace(
            run.outcomes.jobs[run.trial[0].config["pack"]], tries_compiling=True
        )
    if why != "no pack trains":
        run.started(0)
    run.service.answers = why != "ray has ended, too"
    run.told(signal.SIGINT if why == "ctrl-c" else signal.SIGTERM)
    with pytest.raises(Interrupted):
        run.step()
    assert "packs" not in run.interruption.notice
    assert not run.words
    assert not run.said


@pytest.mark.parametrize("why", ["late", "service", "lost"])
def test_packs_that_cannot_stop_in_time_are_not_waited_for(run, why):
    run.started(0)
    run.told()
    run.step()
    run.now[0] = 59.0
    run.step()
    if why == "late":
        run.now[0] = 60.0
    elif why == "service":
        run.service.answers = False
    else:  # its node was told to end, too, which says nothing of the pack
        run.tell.on_trial_recover(0, [], run.trial[0])
        run.tell.on_trial_error(0, [], run.trial[0])
    with pytest.raises(Interrupted):
        run.step()
    assert not run.heard


RARELY = """
import os, pathlib
module.CHECKPOINT_SECONDS = 1e9
train_epoch = module.Trainer.train_epoch
def noted(self):
    rows = train_epoch(self)
    if self.epoch == 3:
        pathlib.Path({folder!r}, f"trains-{{os.getpid()}}").touch()
    return rows
module.Trainer.train_epoch = noted
"""


@pytest.mark.usefixtures("no_report")
def test_on_sigterm_packs_write_checkpoints_from_which_they_go_on_with_the_same_bits(tmp_path, capsys):
    """Without the signal, none would be written before the end of training."""
    spec, root = tmp_path / "long.yaml", tmp_path / "out"
    spec.write_text(LONG)
    options = ("--cpus", 2, "--set", "grid.seeds=[0]")
    run = subprocess.Popen(
        command(spec, "--results", root, *options, "--grace", 60, program=WITHOUT_REPORT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=spoiled(tmp_path, "hvae_spec.pack", RARELY.format(folder=str(tmp_path))),
    )
    wait_for(lambda: len(list(tmp_path.glob("trains-*"))) >= 2 or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    assert not checkpoints(root)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 143, out + err
    assert "Interrupted (SIGTERM)" in err
    assert "Traceback" not in out + err
    assert "packs at work may take 60 s to write checkpoints ..." in out
    assert len(checkpoints(root)) == 2
    for path in checkpoints(root):
        with safetensors.safe_open(path, "pt") as file:
            assert int(re.search(r'"epoch":(\d+)', file.metadata()["pack"])[1]) >= 3
    # What the workers of Ray have left, a run without it goes on from.
    for folder in (root, tmp_path / "serial"):
        done = ended([spec, "--serial", "--results", folder, *options], capsys)
        assert done.returncode == 0, done.stdout + done.stderr
    assert contents(root) == contents(tmp_path / "serial")

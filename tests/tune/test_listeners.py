"""Listeners of members in a run of a grid."""

import io
import re
import subprocess
from dataclasses import replace
from unittest import mock

import psutil
import pytest
from rich.console import Console

from hvae_spec.errors import UserError
from hvae_spec.listeners.notifier import notified
from hvae_spec.records.layout import Results
from tests.listeners.noted import TINY, Noted
from tests.listeners.test_notifier import WHOLE
from tests.listeners.test_tensorboard import events
from tests.tune.planned import GRID, plan_of
from tests.tune.test_run import command, contents, wait_for
from tune.execute.pack_listener import MembersOfPacks
from tune.execute.splitting import split
from tune.listener_option import listener_of
from tune.run import main
from tune.show.display import Display

WRITING = """
from __future__ import annotations
import dataclasses
import pathlib
import hvae_spec

@dataclasses.dataclass
class Line:
    words: tuple

class Writing(hvae_spec.Listener):
    def note(self, *words):
        with pathlib.Path(__file__).with_suffix(".txt").open("a") as file:
            print(*words, file=file)
    def start(self, member): self.note("start", member.name)
    def epoch(self, member, epoch, values): self.note("epoch", member.name, epoch)
    def evaluation(self, member, epoch, values, unit_kl): self.note("evaluation", member.name, epoch)
    def finish(self, member, status, reason): self.note("finish", member.name, status)

class Broken(hvae_spec.Listener):
    def __init__(self): raise ValueError("no key")

class Other:
    pass
"""


def outlines(path):
    """What a `Writing` was told, by member."""
    found = {}
    for line in path.read_text().splitlines():
        what, name, *rest = line.split()
        found.setdefault(name, []).append((what, *[int(one) if one.isdecimal() else one for one in rest]))
    return found


@pytest.fixture
def _no_report(monkeypatch):
    """Drawing takes longer than the training of what is drawn."""
    report = mock.Mock(answer=(), table="", footnotes=[], files=[], verdicts=None)
    monkeypatch.setattr("analysis.report.write", lambda *_, **__: report)


@pytest.mark.usefixtures("_no_report")
def test_a_run_tells_the_listeners_that_were_named_and_its_records_are_the_same(tmp_path, capsys):
    spec, mine = tmp_path / "tiny.yaml", tmp_path / "mine.py"
    spec.write_text(TINY)
    mine.write_text(WRITING)
    options = [str(spec), "--serial", "--cpus", "1", "--results"]
    assert main([*options, str(tmp_path / "without")]) == 0
    capsys.readouterr()
    with_them = ["--tensorboard", "--listener", f"{mine}:Writing"]
    assert main([*options, str(tmp_path / "with"), *with_them]) == 0
    out = capsys.readouterr().out
    assert re.findall("tensorboard --logdir .*", out) == [f"tensorboard --logdir {tmp_path}/with/tensorboard"]
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    said = outlines(tmp_path / "mine.txt")
    assert list(said.values()) == [WHOLE, WHOLE]
    for name in said:
        found = list(events(tmp_path / "with" / "tensorboard" / name))
        assert [step for tag, step, _ in found if tag == "train/bound"] == [1, 2, 3, 4, 5, 6]
    assert main([*options, str(tmp_path / "with"), *with_them]) == 0  # nothing is left to run, or to tell
    assert outlines(tmp_path / "mine.txt") == said


@pytest.mark.usefixtures("_no_report")
def test_members_that_were_done_before_are_written_for_tensorboard_too(tmp_path, capsys):
    spec = tmp_path / "tiny.yaml"
    spec.write_text(TINY)
    options = [str(spec), "--serial", "--cpus", "1", "--results", str(tmp_path)]
    assert main(options) == 0
    before = contents(tmp_path)
    for _ in range(2):  # the second time there is nothing to write
        assert main([*options, "--tensorboard"]) == 0
    assert contents(tmp_path) == before
    folders = [record.folder.name for record in Results(tmp_path).records]
    assert len(folders) == 2
    for name in folders:
        found = list(events(tmp_path / "tensorboard" / name))
        assert [step for tag, step, _ in found if tag == "train/bound"] == [1, 2, 3, 4, 5, 6]
        assert [step for tag, step, _ in found if tag == "final/test_log_likelihood"] == [6]
    (tmp_path / "tensorboard" / folders[0] / "complete").unlink()
    (tmp_path / "tensorboard" / folders[0]).rename(tmp_path / "moved")
    (tmp_path / "tensorboard" / folders[0]).touch()
    assert main([*options, "--tensorboard"]) == 0
    assert f"TensorBoard, {folders[0]}: " in capsys.readouterr().out


@pytest.mark.slow
def test_under_ray_every_epoch_is_told_once_also_where_a_worker_is_killed(tmp_path):
    spec, mine, root = tmp_path / "tiny.yaml", tmp_path / "mine.py", tmp_path / "out"
    spec.write_text(TINY.replace("epochs: 6", "epochs: 400").replace("every: 3", "every: 100"))
    mine.write_text(WRITING)
    arguments = (spec, "--cpus", "1", "--results", root, "--listener", f"{mine}:Writing")
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True) as run:
        wait_for(lambda: (tmp_path / "mine.txt").exists() and "epoch" in (tmp_path / "mine.txt").read_text(), 300)
        children = psutil.Process(run.pid).children(recursive=True)
        (worker,) = [one for one in children if (one.cmdline() or [""])[0].startswith("ray::ImplicitFunc")]
        worker.kill()
        said, _ = run.communicate(timeout=300)
    assert run.returncode == 0
    assert "failed and will be tried again" in said
    for told in outlines(tmp_path / "mine.txt").values():
        assert [epoch for what, epoch in told[1:-1] if what == "epoch"] == list(range(1, 401))
        assert [epoch for what, epoch in told[1:-1] if what == "evaluation"] == [100, 200, 300, 400, 400]
        assert (told[0], told[-1]) == (("start",), ("finish", "finished"))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("mine.py", "expected a Python file and a class in it, my_listeners.py:Mine"),
        ("other.py:Writing", "there is no Python file other.py; expected my_listeners.py:Mine"),
        ("~nobody_has_this_name/mine.py:Mine", "there is no Python file ~nobody_has_this_name/mine.py; expected .*"),
        ("mine.py:Absent", "mine.py has no class Absent"),
        ("mine.py:Broken", r"Broken\(\) raised ValueError: no key \(mine.py:21\)"),
        ("mine.py:Other", r"Other makes no hvae_spec.Listener; write class Other\(hvae_spec.Listener\)"),
        ("faulty.py:Mine", r"faulty.py raised ZeroDivisionError: division by zero \(faulty.py:1\)"),
    ],
)
def test_a_listener_that_cannot_be_had_is_refused_before_anything_runs(tmp_path, monkeypatch, named, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(WRITING)
    (tmp_path / "faulty.py").write_text("1 / 0")
    with pytest.raises(UserError, match=f"^--listener {named}: {said}$"):
        listener_of(named)


def test_members_of_packs_that_fail_are_split_or_cannot_run_are_told_of_once(tmp_path):
    plan = plan_of(GRID, tmp_path)
    job, lost, cut, *_ = [job for job in plan.jobs if len(job.members) == 3]
    noted = Noted()
    display = Display(plan, Console(file=io.StringIO(), width=160))
    with notified([noted], pytest.fail) as notifiers:
        packs = MembersOfPacks({one.pack_id: one for one in plan.jobs}, display, notifiers)
        packs.started(job.pack_id)
        packs.failed(job.pack_id, "it raised", final=False)
        packs.split(job.pack_id, halves := split(job))
        for half in halves:
            packs.started(half.pack_id)
            packs.failed(half.pack_id, "it raised", final=True)
        rest = replace(lost, pack_id="rest", members=lost.members[1:])
        packs.reduced(lost.pack_id, rest, ["its first phase diverged"])
        packs.started("rest")
        packs.ended("rest")
        packs.reduced(cut.pack_id, None, ["its first phase diverged"])
    assert "failed" in display.console.file.getvalue()
    told = {name: [event[0] for event in events_of] for name, events_of in noted.said.items()}
    assert told == {member.folder: ["start", "finish"] for one in (job, lost, cut) for member in one.members}

"""Listeners are told all there is, once, and harm nothing whatever they do."""

import json
import threading
import time
from dataclasses import replace

import pytest

from hvae_spec.listeners import notifier
from hvae_spec.listeners.follower import Follower
from hvae_spec.listeners.listener import Listener
from hvae_spec.listeners.notifier import notified
from hvae_spec.pack import run_pack
from hvae_spec.records.curves import rows_after
from hvae_spec.records.layout import Record
from hvae_spec.records.result import Divergence, TrainingResult
from hvae_spec.records.rows import EPOCH_ROWS
from hvae_spec.training.schedules import schedule
from tests.listeners.noted import TINY, Noted, tiny_job
from tests.tune.test_run import contents

WHOLE = [
    ("start",),
    *[("epoch", epoch) for epoch in (1, 2, 3)],
    ("evaluation", 3),
    *[("epoch", epoch) for epoch in (4, 5, 6)],
    ("evaluation", 6),
    ("evaluation", 6),
    ("finish", "finished"),
]


def run(job, listeners):
    """Run a pack as a driver does. Returns what was said to the user."""
    said = []
    with notified(listeners, said.append) as notifiers:
        for one in notifiers:
            one.begin(job, job.members)
        run_pack(job)
        for one in notifiers:
            one.end(job.members)
    return said


def test_a_listener_is_told_all_that_the_records_have_once_and_in_order(tmp_path):
    job, noted = tiny_job(tmp_path), Noted()
    assert run(job, [noted]) == []
    for member in job.members:
        assert noted.outline(member.folder) == WHOLE
        record, said = job.record(member), noted.said[member.folder]
        info = said[0][1]
        assert (info.name, info.labels, info.epochs) == (member.folder, member.labels, 6)
        assert info.settings == json.loads(json.dumps(info.settings)) == member.spec.model_dump(mode="json")
        assert info.folder == record.folder
        rows, told = record.epochs, [event for event in said if event[0] == "epoch"]
        for row, (_, epoch, values) in zip(rows, told, strict=True):
            lr = schedule(member.spec, epoch).lr
            assert values == {
                **{name: row[name] for name in ("beta", "train_bound", "train_bound_beta_1", "train_reconstruction")},
                **{name: row[name] for name in ("gradient_norm", "seconds", "ms_per_step")},
                "kl_1": row["kl_per_layer"][0],
                "kl_2": row["kl_per_layer"][1],
                "learning_rate": lr,
            }
        first, second, final = [event for event in said if event[0] == "evaluation"]
        assert [first[3], second[3]] == [row["kl"] for row in record.units]
        assert first[2]["test_elbo"] == rows[2]["test_elbo"]
        assert second[2]["test_log_likelihood"] == rows[5]["test_log_likelihood"]
        result = record.evaluations[-1].result
        assert final[3] == result.unit_kl
        assert final[2]["final_test_log_likelihood"] == result.test_log_likelihood
        assert final[2]["final_iw_samples"] == 4
        assert final[2]["final_kl_2"] == result.kl_per_layer[1]
        assert all(name.startswith("final_") for name in final[2])


class Raising(Noted):
    """Raises where it is told to."""

    def __init__(self, where, error):
        super().__init__()
        self.where, self.error = where, error

    def start(self, member):
        self.react("start")

    def epoch(self, member, epoch, values):
        values.clear()
        self.react("epoch")

    def evaluation(self, member, epoch, values, unit_kl):
        unit_kl.clear()
        self.react("evaluation")

    def finish(self, member, status, reason):
        self.react("finish")

    def react(self, method):
        self.said[method] = self.said.get(method, 0) + 1
        if method == self.where:
            raise self.error


def test_what_a_listener_raises_is_said_once_and_the_records_are_the_same(tmp_path):
    errors = {"start": ValueError("no such project"), "epoch": SystemExit(3), "evaluation": KeyboardInterrupt()}
    listeners = [Raising(*pair) for pair in (*errors.items(), ("finish", OSError("gone")))]
    run(tiny_job(tmp_path / "without"), [])
    said = run(tiny_job(tmp_path / "with"), [*listeners, noted := Noted()])
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    assert len(said) == 4
    assert all(line.endswith("it is told nothing more, and the run goes on.") for line in said)
    (line,) = [line for line in said if "ValueError" in line]
    assert line.startswith("The listener Raising raised ValueError: no such project (test_notifier.py:")
    assert {listener.where: listener.said[listener.where] for listener in listeners} == dict.fromkeys(
        ("start", "epoch", "evaluation", "finish"), 1
    )
    assert [noted.outline(name) for name in noted.said] == [WHOLE, WHOLE]  # another one's errors are not its own


def test_a_listener_that_blocks_is_abandoned_in_time_and_the_records_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(notifier, "END_SECONDS", 1.5)
    free = threading.Event()

    class Blocking(Listener):
        def epoch(self, member, epoch, values):
            free.wait()

    run(tiny_job(tmp_path / "without"), [])
    said = run(tiny_job(tmp_path / "with"), [Blocking(), Blocking(), noted := Noted()])
    free.set()
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    assert said == ["The listener Blocking is still at work, and is not waited for any longer."] * 2
    assert [noted.outline(name) for name in noted.said] == [WHOLE, WHOLE]


def test_a_slow_listener_is_told_everything_late(tmp_path):
    class Slow(Noted):
        def epoch(self, member, epoch, values):
            time.sleep(0.03)
            super().epoch(member, epoch, values)

    slow = Slow()
    assert run(tiny_job(tmp_path), [slow]) == []
    assert [slow.outline(name) for name in slow.said] == [WHOLE, WHOLE]


def test_members_that_a_run_leaves_unfinished_are_interrupted_and_told_of_whole_by_the_next(tmp_path):
    job, noted = tiny_job(tmp_path), Noted()

    def stop(progress):
        if progress.epoch == 4:
            raise KeyboardInterrupt

    def interrupted():
        with notified([noted], pytest.fail) as (one,):
            one.begin(job, job.members)
            run_pack(job, stop)

    from hvae_spec import pack

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "REPORT_SECONDS", 0.0)
        patch.setattr(pack, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(pack, "CHECKPOINT_SHARE", 1e9)
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    for name in noted.said:
        assert noted.outline(name) == [*WHOLE[:5], ("finish", "interrupted")]
    again = Noted()
    assert run(job, [again]) == []
    assert [again.outline(name) for name in again.said] == [WHOLE, WHOLE]


class Still:
    """Follows a member of which there is nothing to tell."""

    def __init__(self):
        self.looks = 0

    def tell(self, listener, *, is_over=False):
        self.looks += 1
        return False


def test_many_members_at_work_are_looked_at_less_often(monkeypatch):
    """All of them together no more often than a shared disk bears: one such look at 200 members is due in 2 seconds."""
    monkeypatch.setattr(notifier, "POLL_SECONDS", 0.01)
    followers = [Still() for _ in range(200)]
    start, one = time.monotonic(), notifier.Notifier(Listener(), pytest.fail)
    one.changes.put(lambda: one.followers.update({str(m): still for m, still in enumerate(followers)}))
    while not followers[-1].looks:
        time.sleep(0.01)
    time.sleep(0.3)
    one.close()
    one.wait(10)
    seconds = time.monotonic() - start
    assert notifier.LOOKS_PER_SECOND == 100
    # And once at the end.
    assert 400 <= sum(still.looks for still in followers) <= 400 + 100 * seconds


def test_members_are_looked_at_while_others_begin_and_end_all_the_time(monkeypatch):
    monkeypatch.setattr(notifier, "POLL_SECONDS", 0.01)
    one, still = notifier.Notifier(Listener(), pytest.fail), Still()
    one.changes.put(lambda: one.followers.update(still=still))

    def more():
        """Another change as soon as one is made."""
        if not still.looks:
            one.changes.put(more)

    one.changes.put(more)
    until = time.monotonic() + 10
    while not still.looks and time.monotonic() < until:
        time.sleep(0.01)
    looks = still.looks
    still.looks = 1  # ends the changes
    one.close()
    one.wait(10)
    assert looks


def test_epochs_that_are_trained_again_after_a_crash_are_not_told_twice(tmp_path):
    run_pack(job := tiny_job(tmp_path))
    member = job.members[0]
    record, noted = job.record(member), Noted()
    lines = (record.folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    units = (record.folder / "units.jsonl").read_bytes().splitlines(keepends=True)
    other = Record(tmp_path / "other" / record.folder.name)
    other.folder.mkdir(parents=True)
    follower = Follower(member, other)
    noted.start(follower.info)

    def tell(count, points):
        (other.folder / "epochs.jsonl").write_bytes(b"".join(lines[:count]))
        (other.folder / "units.jsonl").write_bytes(b"".join(units[:points]))
        follower.tell(noted)
        return noted.outline(member.folder)

    assert tell(2, 0) == WHOLE[:3]
    assert tell(4, 0) == WHOLE[:3]  # the file of units is written after that of epochs
    assert tell(4, 1) == WHOLE[:6]
    assert tell(1, 0) == WHOLE[:6]  # trained again from an earlier checkpoint
    assert tell(4, 1) == WHOLE[:6]
    assert tell(6, 2) == WHOLE[:9]


def test_points_of_a_curve_that_are_errors_alone_are_told_at_once(tmp_path):
    text = TINY.replace("16}", "16, labeled: 20}").replace("norm: true", "norm: true, classes: {mlp: [4]}")
    text = text.replace("warm_up: 2", "classification: only")
    run_pack(job := tiny_job(tmp_path, text))
    member = job.members[0]
    record, noted = job.record(member), Noted()
    lines = (record.folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    other = Record(tmp_path / "other" / record.folder.name)
    other.folder.mkdir(parents=True)
    follower = Follower(member, other)
    noted.start(follower.info)
    (other.folder / "epochs.jsonl").write_bytes(b"".join(lines[:4]))
    follower.tell(noted)
    assert noted.outline(member.folder) == WHOLE[:6]
    assert noted.said[member.folder][4] == ("evaluation", 3, {"test_error": record.epochs[2]["test_error"]}, [])


def test_rows_that_cannot_be_read_are_passed_over(tmp_path):
    run_pack(job := tiny_job(tmp_path))
    path = job.record(job.members[0]).folder / "epochs.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[4] = b"\x00" + lines[4]
    path.write_bytes(b"\n".join(lines))
    assert [row["epoch"] for row in rows_after(path, EPOCH_ROWS, 2)] == [3, 4, 6]
    assert rows_after(path, EPOCH_ROWS, 6) == []
    assert rows_after(tmp_path, EPOCH_ROWS, 0) == []


def test_members_that_diverge_fail_or_are_evaluated_again_are_told_of_as_such(tmp_path):
    job = tiny_job(tmp_path, TINY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    diverged, failed, damaged = job.members
    for member, status in ((diverged, "diverged"), (failed, "failed")):
        record, digests = job.record(member), member.digests
        record.begin(member.spec)
        divergence = Divergence(epoch=2, step=1, quantity="gradient") if status == "diverged" else None
        result = TrainingResult(
            digest=digests.training,
            trajectory=digests.trajectory,
            status=status,
            divergence=divergence,
            failure="RuntimeError: it raised" if status == "failed" else None,
        )
        record.finish(result)
    job.record(damaged).begin(damaged.spec)
    (job.record(damaged).folder / "training.json").write_text("{")
    noted = Noted()
    with notified([noted], pytest.fail) as (one,):
        one.begin(job, job.members)
        one.begin(job, job.members)  # tried again
        one.end(job.members)
    assert noted.said[diverged.folder][1:] == [("finish", "diverged", "diverged in epoch 2 (gradient)")]
    assert noted.said[failed.folder][1:] == [("finish", "failed", "failed (RuntimeError: it raised)")]
    ((_, status, reason),) = noted.said[damaged.folder][1:]
    assert status == "damaged"
    assert reason.startswith(f"{job.record(damaged).folder}/training.json: damaged")


def test_of_a_member_that_is_evaluated_again_only_the_evaluation_is_told(tmp_path):
    text = TINY.replace("seeds: [0, 1]", "seeds: [0]")
    run_pack(tiny_job(tmp_path, text))
    job = tiny_job(tmp_path, text.replace("iw_samples: 4", "iw_samples: 8"))
    noted = Noted()
    assert run(replace(job, kind="evaluate"), [noted]) == []
    ((start, evaluation, finish),) = noted.said.values()
    assert (start[0], evaluation[:2], finish[1]) == ("start", ("evaluation", 6), "finished")
    assert evaluation[2]["final_iw_samples"] == 8

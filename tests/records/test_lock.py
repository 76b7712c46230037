"""Who works in a results folder, and what a run leaves in one that it was refused in."""

import json
import os
import shutil
import socket
import time

import filelock
import pytest

from hvae_spec.errors import MachineError, UserError
from hvae_spec.records import lock
from hvae_spec.records.lock import locked


def refused(root, *files):
    """A run that writes these files, and is refused."""

    def run():
        with locked(root):
            assert (root / ".lock").exists()
            for file in files:
                (root / file).parent.mkdir(exist_ok=True)
                (root / file).touch()
            raise UserError("a data set is missing")

    with pytest.raises(UserError, match="a data set is missing"):
        run()


def test_a_run_that_is_refused_leaves_no_folder_that_it_made(tmp_path):
    refused(tmp_path / "results" / "grid", "source/one.diff")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_and_so_does_what_others_put_into_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    refused(tmp_path, "source/one.diff", "meanwhile.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "meanwhile.txt"}
    refused(tmp_path / "new", "meanwhile.txt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["meanwhile.txt"]


@pytest.mark.parametrize("begun", ["grid.json", "members"])
def test_where_a_run_has_begun_all_stays(tmp_path, begun):
    (tmp_path / begun).mkdir()
    refused(tmp_path, "source/one.diff")
    assert {path.name for path in tmp_path.iterdir()} == {begun, ".lock", "source"}


@pytest.fixture
def quick(monkeypatch):
    """Signs of life in a tenth of a second."""
    for name, seconds in (("BEAT_SECONDS", 0.05), ("WATCH_SECONDS", 0.02), ("SILENT_SECONDS", 0.4)):
        monkeypatch.setattr(lock, name, seconds)


ELSEWHERE = {"pid": 4711, "host": "elsewhere", "since": "yesterday", "boot": "another"}


def left_by(root, holder):
    """What a run that did not end orderly has left."""
    root.mkdir()
    (root / "members").mkdir()
    (root / lock.HOLDER).write_text(json.dumps(holder))


def test_a_run_of_another_machine_that_gives_no_sign_of_life_is_taken_over(tmp_path, quick, capsys):
    left_by(tmp_path / "out", ELSEWHERE)
    began = time.monotonic()
    with locked(tmp_path / "out"):
        assert time.monotonic() - began >= 0.4
        assert json.loads((tmp_path / "out" / lock.HOLDER).read_text())["pid"] == os.getpid()
    said = capsys.readouterr().err
    assert "a run has left its name there (process 4711 on elsewhere, since yesterday); waiting" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
def test_a_run_of_another_machine_that_lives_is_not_even_where_locks_do_not_reach_it(tmp_path, quick, host):
    """Two machines may have the same name."""
    root, holder = tmp_path / "out", {**ELSEWHERE, "host": host}
    left_by(root, holder)
    with (
        lock._signs_of_life(root / lock.HOLDER),
        pytest.raises(UserError, match=rf"process 4711 on {host}, since yesterday\), whose lock does not reach"),
        locked(root),
    ):
        pass
    assert json.loads((root / lock.HOLDER).read_text()) == holder


@pytest.mark.parametrize(
    "holder",
    [
        {**ELSEWHERE, "boot": lock._boot()},  # this machine: its lock would not have been given
        {**ELSEWHERE, "host": socket.gethostname()},  # this machine, before it was started again
        {key: ELSEWHERE[key] for key in ("pid", "host", "since")},  # an earlier version
        ["damaged"],
    ],
)
def test_nobody_waits_where_the_lock_alone_decides(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(lock, "SILENT_SECONDS", 1000)
    left_by(tmp_path / "out", holder)
    long_ago = time.time() - 1001
    os.utime(tmp_path / "out" / lock.HOLDER, (long_ago, long_ago))
    with locked(tmp_path / "out"):
        pass
    assert not (tmp_path / "out" / lock.HOLDER).exists()


def test_a_run_that_was_taken_over_is_interrupted_and_leaves_the_other_one_alone(tmp_path, quick, capsys):
    root = tmp_path / "out"
    root.mkdir()
    (root / "members").mkdir()

    def run():
        with locked(root):
            (root / lock.HOLDER).write_text(json.dumps(ELSEWHERE))
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert json.loads((root / lock.HOLDER).read_text()) == ELSEWHERE
    assert "another run has taken this folder over, or it was removed; this one ends" in capsys.readouterr().err


def test_a_run_whose_folder_is_removed_is_interrupted_as_another_one_could_begin_there(tmp_path, quick):
    root = tmp_path / "out"

    def run():
        with locked(root):
            shutil.rmtree(root)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not root.exists()


def test_a_lock_that_a_dead_machine_has_left_with_the_file_server_is_explained(tmp_path):
    root = tmp_path / "out"
    left_by(root, ELSEWHERE)
    os.utime(root / lock.HOLDER, (time.time() - 600,) * 2)
    with filelock.FileLock(root / ".lock"), pytest.raises(UserError) as refused, locked(root):
        pass
    assert str(refused.value) == (
        f"{root}: another run is at work in this folder (process 4711 on elsewhere, since yesterday), without a sign "
        f"of life for 10 minutes; if elsewhere is down, its lock ends when the file server notices, or when you remove "
        f"{root / '.lock'}"
    )


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def acquire(self):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with pytest.raises(MachineError, match="its file system has no locks"), locked(tmp_path):
        pass

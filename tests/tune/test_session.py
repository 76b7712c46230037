"""The private folder of a local Ray."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from hvae_spec.errors import MachineError, UserError
from tune.execute import session
from tune.execute.session import LONGEST, session_folder


@pytest.fixture
def parent(monkeypatch):
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(dir="/tmp", prefix="t")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield folder
    shutil.rmtree(folder)


def test_the_folder_is_closed_to_others_and_gone_afterwards(parent):
    with session_folder() as folder:
        assert str(folder.parent) == parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "r").mkdir()
        (folder / "r" / "log").write_text("x")
        with session_folder() as other:  # a second run leaves the first one's alone
            assert other != folder
            assert folder.exists()
        assert (folder / "r" / "log").exists()
    assert os.listdir(parent) == []


def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next_one(parent):
    code = (
        "import os, signal\nfrom tune.execute.session import session_folder\n"
        "with session_folder() as folder:\n    (folder / 'r').mkdir()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(parent)
    with session_folder() as folder:
        assert os.listdir(parent) == [folder.name]
        assert folder.name != left


def test_a_folder_of_ones_own_that_is_called_alike_is_left_alone(parent):
    for name in ("hvae_results", ".hvae_results", "hvae-run-001"):
        os.makedirs(os.path.join(parent, name, "members"))
    with session_folder():
        pass
    assert sorted(os.listdir(parent)) == [".hvae_results", "hvae-run-001", "hvae_results"]


def test_a_folder_of_others_is_left_alone(parent, monkeypatch):
    os.mkdir(os.path.join(parent, "hvae12345678"))
    open(os.path.join(parent, "hvae12345678", session.MARK), "x").close()
    monkeypatch.setattr(session.os, "getuid", lambda: 4321)
    with session_folder():
        assert "hvae12345678" in os.listdir(parent)


def test_a_path_that_is_too_long_or_cannot_be_written_is_named_with_a_remedy(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * LONGEST)
    with pytest.raises(UserError, match=rf"RAY_TMPDIR=/tmp/x+: too long .* at most {LONGEST} characters") as error:
        session_folder().__enter__()
    assert error.value.exit_code == 2
    monkeypatch.setenv("RAY_TMPDIR", "/proc/1")
    with pytest.raises(MachineError, match=r"cannot be kept in a folder in /proc/1 .*RAY_TMPDIR, or run with --serial"):
        session_folder().__enter__()


def test_the_longest_path_leaves_room_for_a_socket():
    socket = "/hvae12345678/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
    assert LONGEST + len(socket) <= 107


def test_a_usual_folder_whose_path_is_too_long_gives_way_to_tmp(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp/" + "x" * LONGEST)
    assert str(session._parent()) == "/tmp"

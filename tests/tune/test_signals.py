"""SIGINT, SIGTERM and SIGHUP."""

import os
import signal
import subprocess
import sys

import pytest

from tune.execute.signals import Interrupted, Interruption, hangups_ignored


def test_the_first_signal_interrupts_and_within_deferred_when_it_is_looked_for():
    with Interruption() as interruption:
        with pytest.raises(Interrupted, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.number == signal.SIGTERM
    reached = []
    with Interruption() as interruption:
        with pytest.raises(Interrupted, match="SIGINT"):
            _interrupt_while_deferred(interruption, reached)
        assert reached == ["the end"]


def _interrupt_while_deferred(interruption, reached):
    with interruption.deferred("a thing"):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end")


WAITING = """
import os, signal, sys
from tune.execute.signals import Interruption
with Interruption() as interruption, interruption.deferred("a thing to end"):
    for _ in range({count}):
        os.kill(os.getpid(), signal.{name})
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("count", "name", "code", "told"),
    [(1, "SIGINT", 0, 0), (2, "SIGINT", 0, 1), (3, "SIGINT", 130, 1), (5, "SIGTERM", 0, 0)],
)
def test_a_second_ctrl_c_says_what_it_waits_for_and_a_third_one_leaves(count, name, code, told):
    text = WAITING.format(count=count, name=name)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("Waiting for a thing to end. Ctrl-C once more leaves at once") == told


def test_a_notebook_is_not_left_whatever_is_pressed():
    text = WAITING.format(count=5, name="SIGINT").replace("Interruption()", "Interruption(may_leave=False)")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "\nWaiting for a thing to end.\n" * 4


def test_a_terminal_that_is_closed_ends_nothing_and_the_former_handler_comes_back():
    before = signal.getsignal(signal.SIGHUP)
    with hangups_ignored():
        os.kill(os.getpid(), signal.SIGHUP)
        child = subprocess.run(["sh", "-c", "kill -HUP $$; echo alive"], capture_output=True, text=True, check=False)
    assert child.stdout == "alive\n"
    assert signal.getsignal(signal.SIGHUP) == before

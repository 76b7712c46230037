"""Threads of a pack wait asleep while other work wants their cores."""

import os
import threading
import time

import pytest
import torch

from hvae_spec.backend import waiting


def threads_of_this_process():
    return len(os.listdir("/proc/self/task"))


def eventually(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize(
    ("threads", "cores", "busy", "own", "crowded"),
    [
        (2, 2, 2.0, 1.9, False),  # alone, but for a display
        (2, 2, 2.0, 0.7, True),  # a busy loop of another program has two thirds of a core
        (2, 2, 2.0, 1.0, True),  # two of them
        (4, 16, 15.8, 3.9, False),  # three other packs of four threads
        (4, 16, 16.0, 3.2, True),  # four of them
        (2, 4, 3.0, 2.0, False),
    ],
)
def test_cores_are_crowded_where_others_leave_too_few(threads, cores, busy, own, crowded):
    assert waiting.is_crowded(threads, cores, busy, own) is crowded


def test_this_process_s_own_work_is_told_from_that_of_others():
    before = waiting._times(waiting.usable_cores())
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = waiting._times(waiting.usable_cores())
    seconds, busy, own = (later - earlier for later, earlier in zip(after, before, strict=True))
    assert 0.3 <= own <= 0.3 + seconds * torch.get_num_threads()
    assert 0.25 <= busy <= (seconds + 0.1) * len(waiting.usable_cores())  # counted in hundredths of a second


@pytest.mark.skipif(not waiting.has_libgomp(), reason="PyTorch's threads are not libgomp's here")
def test_an_idle_team_exists_while_the_cores_are_crowded(monkeypatch):
    crowded = threading.Event()
    monkeypatch.setattr(waiting, "INTERVAL", 0.01)
    monkeypatch.setattr(waiting, "is_crowded", lambda *_: crowded.is_set())
    before = threads_of_this_process()
    with waiting.considerate(2):
        alone = before + 1
        assert eventually(lambda: threads_of_this_process() == alone)
        for _ in range(2):
            crowded.set()
            # More threads of libgomp's than there are cores: with one in the team of each, it stops spinning.
            assert eventually(lambda: threads_of_this_process() == alone + len(waiting.usable_cores()) + 1)
            crowded.clear()
            assert eventually(lambda: threads_of_this_process() == alone)
        crowded.set()
        assert eventually(lambda: threads_of_this_process() > alone)
    assert eventually(lambda: threads_of_this_process() == before)


def test_a_single_thread_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(waiting, "is_crowded", lambda *_: pytest.fail("looked"))
    monkeypatch.setattr(waiting, "INTERVAL", 0.001)
    before = threading.active_count()
    with waiting.considerate(1):
        time.sleep(0.02)
        assert threading.active_count() == before

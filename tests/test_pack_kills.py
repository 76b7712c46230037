"""A pack that dies just before any of its files takes its place ends, when it goes on, as one that was not disturbed.

All states of the folder that a kill can leave, but for temporary files, lie between two renames or deletions: here all
from the first checkpoint on. (All file operations of whole grids, and random moments, are a campaign:
`python -m tests.faults.kill`.)
"""

import pytest

from hvae_spec import pack as packs
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.files import remove_unfinished
from hvae_spec.records.layout import FOLDERS, Results
from hvae_spec.spec.grid import Member
from tests.faults.operations import Operations, watched
from tests.faults.trials import differences, snapshot
from tests.members import member

TINY = {
    "depth": 1,
    "data__train_images": 64,
    "data__test_images": 10,
    "evaluation__iw_samples": 5,
    "evaluation__every": 1,
    "training__epochs": 2,
}


class Killed(BaseException):
    """Stands for a process that dies."""


def die(what):
    raise Killed(what)


def job(root):
    specs = [member(seed=seed, **TINY) for seed in (0, 1)]
    labels = {"dataset": "digits", "depth": 1, "variant": "V"}
    names = [f"m{spec.seed}-{spec.digests.training[:12]}" for spec in specs]
    own = zip(specs, names, strict=True)
    members = tuple(Member(spec, spec.digests, {**labels, "seed": spec.seed}, name) for spec, name in own)
    return PackJob("pack", members, root, device="cpu")


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)


def test_a_kill_in_a_members_last_moments_changes_nothing(tmp_path):
    whole = Operations(tmp_path / "whole")
    with watched(whole):
        run_pack(job(whole.root))
    expected = snapshot(whole.root)
    names = whole.names
    decisive = [n for n, name in enumerate(names, start=1) if name.startswith(("os.rename", "os.remove", "os.rmdir"))]
    first = next(n for n in decisive if "checkpoint" in names[n - 1])
    decisive = [n for n in decisive if n >= first]
    assert sum("training.json" in names[n - 1] for n in decisive) == 2
    for number in decisive:
        operations = Operations(tmp_path / f"killed-{number}", number, die)
        parts = job(operations.root)
        with watched(operations), pytest.raises(Killed):
            run_pack(parts)
        if not parts.is_done:  # a plan runs no pack that is done
            run_pack(parts)
        remove_unfinished(operations.root, FOLDERS)
        unlike = differences(expected, snapshot(operations.root))
        # What is left of a pack that is done is removed by the next plan (`tests.tune.test_planner`).
        assert [name for name in unlike if not name.startswith("packs/")] == [], names[number - 1]
        for record in Results(operations.root).records:
            assert [row["epoch"] for row in record.units] == [1, 2]

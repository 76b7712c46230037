"""A grid on a real SLURM of two nodes with a core each or more: cut by its time limit, drained, cancelled, and ended.

It is found by SLURM's own configuration (`SLURM_CONF`, or `/etc/slurm`). Every node must see the temporary folder
(`--basetemp`). Takes ten minutes: `python -m pytest -m slurm tests/tune/test_on_slurm.py`.
"""

import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.tune.test_run import contents

pytestmark = pytest.mark.slurm

SPEC = """
name: cut
data: {dataset: digits, train_images: 1000, test_images: 20}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [8]}]}
training: {epochs: 1200, batch_size: 64}
evaluation: {iw_samples: 20}
grid: {seeds: [0, 1, 2, 3]}
"""
PATIENCE = 1800
"""Seconds. A machine may have much else to do."""


def said(*command):
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def names():
    """The names of two nodes, which are in use again afterwards."""
    try:
        listed = said("sinfo", "--noheader", "--Node", "--format=%N %T")
    except (OSError, AssertionError):
        pytest.skip("no SLURM answers (SLURM_CONF)")
    idle = dict.fromkeys(line.split()[0] for line in listed.splitlines() if line.split()[1].startswith("idle"))
    if len(idle) < 2:
        pytest.skip(f"needs two idle nodes of SLURM, not {listed}")
    yield list(idle)[:2]
    resume = ["scontrol", "update", f"NodeName={list(idle)[1]}", "State=resume"]
    subprocess.run(resume, check=False, capture_output=True)  # it refuses what is in use already


class Job:
    """A job that was submitted, and its log."""

    def __init__(self, script):
        self.number = said("sbatch", "--parsable", f"--chdir={script.parent}", str(script))
        self.log = script.parent / f"hvae-cut-{self.number}.log"

    @property
    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    @property
    def shown(self):
        return said("scontrol", "show", "job", self.number)

    @property
    def state(self):
        return re.search(r"JobState=(\S+)", self.shown)[1]

    def wait(self, what, is_there):
        until = time.monotonic() + PATIENCE
        while not is_there():
            assert time.monotonic() < until, f"{what} is waited for in vain\n{self.text}\n{self.shown}"
            time.sleep(0.5)


def test_a_grid_is_cut_drained_and_cancelled_and_ends_with_the_records_of_a_serial_run(tmp_path, names):
    spec, script, results = tmp_path / "cut.yaml", tmp_path / "job.sh", tmp_path / "on slurm"
    spec.write_text(SPEC)
    asked = ["--nodes", "1-2", "--cpus-per-task", "1", "--pack-size", "2"]
    made = said(sys.executable, "-m", "tune.hvae", "slurm", str(spec), *asked, "--results", str(results))
    # Not as long as a user must ask for, and told a little later.
    script.write_text(re.sub("--time=.*", "--time=0:03:00", made).replace("B:TERM@120", "B:TERM@75"))

    job = Job(script)
    job.wait("two nodes", lambda: "2 of 2 nodes have joined" in job.text)
    job.wait("two packs", lambda: len(list(results.glob("packs/*/checkpoint.safetensors"))) == 2)
    said("scontrol", "update", f"NodeName={names[1]}", "State=drain", "Reason=test")
    job.wait("the end of its time", lambda: job.state == "PENDING")
    line = r"0 of 4 members done, 4 in training \(epoch \d+( to \d+)?\)\. Job \d+ is requeued \(\d+ of at most 50\)\."
    assert re.search(line, job.text), job.text
    assert re.search(f"Comment={line}", job.shown)
    cut = job.text
    assert "Traceback" not in cut
    reached = max(map(int, re.findall(r"in training \(epoch (\d+)", cut)))

    said("scontrol", "update", f"JobId={job.number}", "StartTime=now")
    job.wait("one node", lambda: "1 of 1 nodes have joined" in job.text)
    job.wait("progress", lambda: "epoch" in job.text.removeprefix(cut).partition("1 of 1 nodes")[2])
    # What is repeated is at most one checkpoint interval, and all of these epochs are on disk.
    again = int(re.search(r"epoch (\d+)/1200", job.text.removeprefix(cut))[1])
    assert again >= reached, job.text
    said("scancel", job.number)
    job.wait("the end of a cancelled job", lambda: "is not requeued: the job was cancelled" in job.text)
    job.wait("its state", lambda: job.state == "CANCELLED")
    said("scontrol", "update", f"NodeName={names[1]}", "State=resume")

    job = Job(script)

    def is_over():
        if "Reason=BeginTime" in job.shown:
            now = ["scontrol", "update", f"JobId={job.number}", "StartTime=now"]
            subprocess.run(now, check=False, capture_output=True)  # it may have begun meanwhile
        return job.state not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")

    job.wait("the end", is_over)
    assert job.state == "COMPLETED", job.text
    assert "4 of 4 members finished." in job.text
    assert "4 of 4 members done. It has ended." in job.text
    assert not list(results.glob(".slurm-*"))

    serial = tmp_path / "serial"
    options = ["--serial", "--cpus", "1", "--device", "cpu", "--pack-size", "2", "--results", str(serial)]
    subprocess.run(
        [sys.executable, "-m", "tune.run", str(spec), *options], check=True, capture_output=True, timeout=PATIENCE
    )
    assert contents(results) == contents(serial)
    shutil.rmtree(results)

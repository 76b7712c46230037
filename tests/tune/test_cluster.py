"""What is submitted to Ray when, and packs on Ray that run out of memory."""

import os
import pwd
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec.errors import MachineError
from tests.tune.planned import GRID, finish, plan_of
from tests.tune.test_run import SPEC, TRAINER, spoiled, statuses
from tune.execute import cluster, outcomes, trials
from tune.execute.outcomes import Markers, Outcomes
from tune.execute.signals import Interrupted
from tune.execute.splitting import ALONE
from tune.execute.trials import next_chunk
from tune.plan.schedule import simulate


@given(st.integers(1, 3000), st.integers(1, 70))
def test_chunks_hold_every_pack_once_and_whole_rows(count, workers):
    left, chunks = list(range(count)), []
    while left:
        chunk, left = next_chunk(left, workers)
        assert chunk == sorted(chunk)  # the longest first
        assert len(chunk) <= trials.CHUNK + workers
        chunks.append(chunk)
    assert sorted(pack for chunk in chunks for pack in chunk) == list(range(count))
    assert len(chunks) == -(-count // (workers * -(-trials.CHUNK // workers)))
    # Only one chunk has a row that does not fill the workers.
    assert sum(len(chunk) % workers > 0 for chunk in chunks) <= 1


class Heard:
    """Hears what becomes of packs."""

    def __init__(self):
        self.said = []

    def ended(self, pack_id):
        self.said.append(("ended", pack_id))

    def failed(self, pack_id, reason, *, final):
        self.said.append(("failed", pack_id, reason, final))


@pytest.mark.parametrize("seen_at", [0, 4, 1000])
def test_results_that_are_seen_late_are_waited_for(tmp_path, monkeypatch, seen_at):
    """As over NFS, where a file that was looked for before it was there may be missed for a minute."""
    job, heard, slept = plan_of(GRID, tmp_path).jobs[0], Heard(), []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == seen_at:
            for member in job.members:
                finish(tmp_path, member)

    monkeypatch.setattr(outcomes.time, "sleep", sleep)
    if not seen_at:
        for member in job.members:
            finish(tmp_path, member)
    Outcomes({job.pack_id: job}, heard).returned(job.pack_id)
    if seen_at < 1000:
        assert heard.said == [("ended", job.pack_id)]
        assert len(slept) == seen_at
        assert all(job.status(member) == "finished" for member in job.members)
    else:
        assert [said[0] for said in heard.said] == ["failed"]
        assert sum(slept) > 60
        assert all(job.status(member) == "failed" for member in job.members)


def test_a_pack_out_of_memory_is_not_waited_for(tmp_path, monkeypatch):
    job, heard = next(job for job in plan_of(GRID, tmp_path, pack_size=1).jobs), Heard()
    monkeypatch.setattr(outcomes.time, "sleep", lambda seconds: pytest.fail("it waits"))
    marker = Markers(job).out_of_memory
    marker.parent.mkdir(parents=True)
    marker.touch()
    Outcomes({job.pack_id: job}, heard).returned(job.pack_id)
    assert heard.said == [("failed", job.pack_id, ALONE, True)]


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_chunks_cost_next_to_nothing(workers):
    """Packs of many durations, longest first, in chunks and all at once."""
    durations = sorted((600 * 1.3 ** (pack % 13) for pack in range(3200)), reverse=True)
    left, span = durations, 0.0
    while left:
        chunk, left = next_chunk(left, workers)
        span += simulate(chunk, workers).makespan
    assert span < 1.06 * simulate(durations, workers).makespan


OUT_OF_MEMORY = """
train_epoch = module.Trainer.train_epoch
def spoil(self):
    if len(self.specs) > 1 and self.specs[0].model.inference == "ladder":
        raise module.torch.OutOfMemoryError("CUDA out of memory")
    return train_epoch(self)
module.Trainer.train_epoch = spoil
"""
IN_CHUNKS_OF_TWO = (
    "import sys, tune.execute.trials, tune.run; tune.execute.trials.CHUNK = 2; sys.exit(tune.run.main(sys.argv[1:]))"
)


@pytest.mark.slow
def test_chunks_of_two_run_everything_and_halves_run_in_the_place_of_packs_without_memory(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SPEC)
    root = tmp_path / "out"
    options = ["tiny.yaml", "--results", str(root), "--cpus", "1", "--pack-size", "2"]
    done = subprocess.run(
        [sys.executable, "-c", IN_CHUNKS_OF_TWO, *options],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        env=spoiled(tmp_path, TRAINER, OUT_OF_MEMORY),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in 3 packs" in done.stdout
    assert done.stdout.count("Ladder x 2: out of memory with 2 members: split into 1 + 1") == 1
    assert "6 of 6 members finished." in done.stdout
    assert set(statuses(root)) == {"finished"}
    assert {path.name for path in (root / "packs").iterdir()} == {"planned.json"}


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (SystemExit(15), Interrupted, "SIGTERM"),
        (Exception("The current node timed out during startup.\nMore."), MachineError, "timed out during startup.)"),
        (
            RuntimeError("Failed to start GCS.  Last 0 lines of error files:\n\n.Please check /tmp/a"),
            MachineError,
            "Ray did not start (Failed to start GCS.); run",
        ),
        (
            RuntimeError("Failed to start GCS.  Last 2 lines of error files:\nbad\nworse\n"),
            MachineError,
            "(Failed to start GCS. Last 2 lines of error files: bad); run",
        ),
    ],
)
def test_ray_that_does_not_start_ends_in_one_line(monkeypatch, tmp_path, raised, expected, words):
    import ray

    def init(**_):
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(expected) as error, cluster.ray_running(1, 0, None, tmp_path):
        pass
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_every_start_in_a_process_has_the_same_random_token(monkeypatch, tmp_path):
    """Ray's compiled part reads the token once: a second start with another one fails."""
    import ray

    tokens = []

    def init(**_):
        tokens.append(os.environ["RAY_AUTH_TOKEN"])
        raise RuntimeError

    monkeypatch.setenv("RAY_AUTH_TOKEN", "a user's own, of a cluster")
    monkeypatch.setattr(ray, "init", init)
    for _ in range(2):
        with pytest.raises(MachineError), cluster.ray_running(1, 0, None, tmp_path):
            pass
    program = "from tune.execute import cluster; print(cluster.TOKEN)"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert tokens[0] == tokens[1] != other
    assert all(re.fullmatch("[0-9a-f]{64}", token) for token in (*tokens, other))


def test_an_autoscaler_which_does_not_end_when_asked_is_not_waited_for(tmp_path):
    path = tmp_path / "ray/autoscaler/_private/monitor.py"
    path.parent.mkdir(parents=True)
    path.write_text("import time; time.sleep(60)")
    other = path.with_name("other.py")
    other.write_text(path.read_text())
    autoscaler, child = (subprocess.Popen([sys.executable, script]) for script in (path, other))
    seen = []

    class Ray:
        def shutdown(self):
            with suppress(subprocess.TimeoutExpired):
                autoscaler.wait(timeout=0.1 if not seen else 30)
            seen.append((autoscaler.poll(), child.poll()))

    try:
        cluster._shut_down(Ray(), is_local=False)  # one of a cluster that this process has started is not its own
        cluster._shut_down(Ray(), is_local=True)
    finally:
        autoscaler.kill()
        child.kill()
        child.wait()
    assert seen == [(None, None), (-signal.SIGKILL, None)]


TUNED = """
name: tuned
data: {dataset: digits, train_images: 64, test_images: 10}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 64}
evaluation: {iw_samples: 2}
grid:
  variants:
    a: {}
    f: {training.first_phase: {epochs: 2, warm_up: 1}, training.epochs: 3}
    first: {objective.warm_up: 1}
"""


@pytest.mark.slow
def test_a_first_phase_and_what_trains_on_from_it_end_in_one_command_on_ray(tmp_path):
    """Ray is started twice in one process."""
    (tmp_path / "tuned.yaml").write_text(TUNED)
    root = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "tune.run", "tuned.yaml", "--results", str(root), "--cpus", "1"],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("starting Ray ...") == 2
    assert "3 of 3 members finished." in done.stdout


def test_a_user_without_a_home_has_one_while_ray_runs(monkeypatch, tmp_path):
    def getpwuid(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    with cluster.with_home(tmp_path):
        assert Path.home() != tmp_path
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    with pytest.raises(RuntimeError):
        Path.home()
    with cluster.with_home(tmp_path):
        assert Path.home() == tmp_path
    assert "HOME" not in os.environ


DEAD_SERVICE = """
import socket, sys, time
from pathlib import Path
from hvae_spec.command import run_command
from tune.execute import cluster
from tune.execute.signals import Interruption
cluster.WATCH_SECONDS, cluster.DEAD_SECONDS, cluster.ENDING_SECONDS = 0.05, *map(float, sys.argv[3:])
interruption = Interruption()
interruption.number = int(sys.argv[2]) or None
def run():
    server = socket.create_server(("127.0.0.1", 0))
    service = cluster.ControlService("127.0.0.1:%d" % server.getsockname()[1])
    with cluster._messages_in(Path(sys.argv[1])), cluster._watched(service, interruption):
        time.sleep(0.6)
        print("alive", flush=True)
        server.close()
        time.sleep(60)
    return 7
sys.exit(run_command(run))
"""


@pytest.mark.parametrize(
    ("number", "seconds", "code", "words"),
    [(0, ("0.3", "60"), 1, ""), (signal.SIGTERM, ("60", "0.3"), 143, "Interrupted (SIGTERM). ")],
)
def test_a_control_service_that_dies_ends_the_run_with_one_line(tmp_path, number, seconds, code, words):
    """Sooner where the run has been told to end, as the service may have been, too."""
    done = subprocess.run(
        [sys.executable, "-c", DEAD_SERVICE, str(tmp_path / "log"), str(int(number)), *seconds],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout == "alive\n"
    assert re.fullmatch(
        re.escape(words) + r"Ray's control service \(GCS\) at 127\.0\.0\.1:\d+ cannot be reached any more\. The same "
        r"command goes on from the last checkpoints\.\n",
        done.stderr,
    )

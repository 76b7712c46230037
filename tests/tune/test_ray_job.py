"""A run that is a job of a Ray cluster: which Ray it joins, and what it refuses."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from hvae_spec.errors import UserError
from tests.faults.grids import SERIAL
from tests.faults.grids import SPEC as GRID
from tests.tune.test_run import SPEC, checkpoints, command, contents, tune_run, wait_for
from tune import run
from tune.execute import ray_job, trials

JOB = {ray_job.MARK: '{"runtime_env": {}, "metadata": {}}', "RAY_ADDRESS": "10.0.0.1:6379"}


class NothingRunsError(UserError):
    """Raised in the place of training."""


@pytest.fixture
def addresses(monkeypatch):
    """The addresses that runs join; None for a Ray of their own."""
    found = []

    def run_on_ray(jobs, listener, interruption, *, address, **options):
        found.append(address)
        raise NothingRunsError("joined")

    for name in JOB:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trials, "run_on_ray", run_on_ray)
    return found


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({}, (), None),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, (), None),  # a shell's, or a pod's: maybe somebody else's
        (JOB, (), "10.0.0.1:6379"),
        (JOB, ("--address", "10.0.0.2:6379"), "10.0.0.2:6379"),
        ({ray_job.MARK: "{}"}, (), None),
    ],
)
def test_a_job_runs_on_its_cluster_and_nothing_else_joins_one_unasked(
    tmp_path, monkeypatch, capsys, addresses, variables, options, expected
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    assert run.main([str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "out"), "--cpus", "1", *options]) == 2
    assert addresses == [expected]
    where = f"joining the Ray cluster at {expected}" if expected else "starting Ray"
    assert f"{where} ...\n" in capsys.readouterr().out


def test_a_serial_run_in_a_job_stays_in_its_process(tmp_path, monkeypatch, capsys, addresses):
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)

    def run_serially(jobs, listener):
        raise NothingRunsError("not used")

    monkeypatch.setattr("tune.execute.serial.run_serially", run_serially)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    options = ("--results", str(tmp_path / "out"), "--cpus", "1", "--serial")
    assert run.main([str(tmp_path / "tiny.yaml"), *options]) == 2
    assert capsys.readouterr().err == "not used\n"
    assert addresses == []


def test_results_in_the_copy_of_a_jobs_working_folder_are_refused(tmp_path, monkeypatch, capsys, addresses):
    copy = tmp_path / "session_1/runtime_resources/working_dir_files/_ray_pkg_9"
    copy.mkdir(parents=True)
    (copy / "tiny.yaml").write_text(SPEC)
    monkeypatch.chdir(copy)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    assert run.main(["tiny.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"{copy}/results/tiny: in the copy that Ray has made of the working folder for this job, and will remove; name "
        "a folder on storage that all nodes share, as a whole path, with --results\n"
    )
    assert sorted(path.name for path in copy.iterdir()) == ["tiny.yaml"]
    assert run.main(["tiny.yaml", "--results", str(tmp_path / "out")]) == 2
    assert addresses == ["10.0.0.1:6379"]
    monkeypatch.delenv(ray_job.MARK)  # a user's own folder may have any name
    assert run.main(["tiny.yaml"]) == 2
    assert addresses == ["10.0.0.1:6379", None]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


RAY = str(Path(sys.executable).with_name("ray"))
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port",
         "ray-client-server-port", "node-manager-port", "object-manager-port", "metrics-export-port")  # fmt: skip


@pytest.fixture
def submitted(tmp_path):
    """Starts `ray job ...` at a head of its own, which asks for a token and listens on the loopback interface; gives
    the process, and the file that has its output.
    """
    pytest.importorskip("aiohttp_cors", reason="needs the extra `cluster`")
    folder = tempfile.mkdtemp(prefix="rj", dir="/tmp")  # a short path, as those of sockets are limited
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "NO_COLOR": "1", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    env["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{ports['dashboard-port']}"
    options = ["--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
    options += [f"--temp-dir={folder}", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
    options += [f"--{name}={port}" for name, port in ports.items()]

    started, logs = [], tmp_path / "logs"
    logs.mkdir()

    def start(*arguments):
        log = logs / f"{len(started)}.log"
        with log.open("w") as stream:
            started.append(
                subprocess.Popen([RAY, *arguments], env=env, stdout=stream, stderr=stream, start_new_session=True)
            )
        return started[-1], log

    def job(*arguments):
        return start("job", *map(str, arguments))

    start("start", *options)
    try:
        wait_for(lambda: job("list")[0].wait() == 0)
        yield job
    finally:
        processes = [psutil.Process(one.pid) for one in started if one.poll() is None]
        processes += [child for one in processes for child in one.children(recursive=True)]
        for one in processes:
            one.kill()
        psutil.wait_procs(processes)
        for one in started:
            one.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_job_is_stopped_and_goes_on_and_bad_input_is_shown(tmp_path, submitted):
    spec, root = tmp_path / "grid.yaml", tmp_path / "out"
    spec.write_text(GRID.replace("epochs: 60", "epochs: 100").replace("seeds: [0, 1]", "seeds: [0]"))
    assert tune_run(spec, *SERIAL, "--results", tmp_path / "serial").returncode == 0
    run_it = command(spec, "--results", root, "--cpus", "2", "--device", "cpu", "--pack-size", "1")

    first, said = submitted("submit", "--submission-id", "first", "--", *run_it)
    wait_for(lambda: checkpoints(root), seconds=300)
    assert submitted("stop", "first")[0].wait() == 0
    assert first.wait() == 0  # also of a job that is stopped
    assert re.search(r"joining the Ray cluster at 127\.0\.0\.1:\d+ \.\.\.", said.read_text())
    assert "Interrupted (SIGTERM). The same command goes on from the last checkpoints." in said.read_text()
    left = {path.name for path in root.iterdir()}
    assert left & {".holder.json", "report.html"} == set()
    assert not [name for name in left if name.startswith(".ray-")]

    second, said = submitted("submit", "--", *run_it)
    assert second.wait() == 0
    assert "3 of 3 members finished." in said.read_text()
    assert contents(root) == contents(tmp_path / "serial")

    spec.write_text("name: [")
    third, said = submitted("submit", "--", *run_it)
    assert third.wait() == 1  # Ray's own, for every failure
    assert "failed with exit code 2" in said.read_text()
    assert "not readable as YAML" in said.read_text()

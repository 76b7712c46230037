"""The script of a SLURM job: its text, what it does with signals, and when a job goes back into the queue."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from hvae_spec.errors import UserError
from hvae_spec.reading import reads
from hvae_spec.records.layout import Record
from tune import hvae, run
from tune.execute import cluster
from tune.execute.signals import Interrupted
from tune.slurm import allocation, job, job_folder, proposal, requeue, script
from tune.slurm.requeue import Ending
from tune.slurm.submission import grid_digest

TINY = """
name: tiny
data: {dataset: digits, train_images: 64, test_images: 10}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 64}
evaluation: {iw_samples: 2}
grid: {seeds: [0, 1]}
"""
NASTY = "a 'b' \"c\" $(touch pwned) `touch pwned` ${HOME} \\ ; touch pwned & # x"


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HVAE_DATA_DIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def printed(capsys, *arguments, code=0):
    """What `hvae slurm` prints."""
    assert hvae.main(["slurm", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_the_script_says_what_was_asked_for_and_what_it_rests_on(spec, capsys):
    asked = ["--nodes", "1-3", "--cpus-per-task", 4, "--gpus-per-node", 2, "--time", "1-12", "--partition", "gpu"]
    text = printed(capsys, spec, *asked, "--account", "me", "--sbatch=--mem=64G", "--setup", "module load cuda")
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        *("--job-name=hvae-tiny", "--output=hvae-tiny-%j.log", "--nodes=1-3"),
        *("--cpus-per-task=4", "--gpus-per-node=2", "--time=1-12:00:00", "--partition=gpu", "--account=me"),
        *("--mem=64G", "--signal=B:TERM@120", "--requeue", "--open-mode=append", "--no-kill"),
    ]
    assert text.startswith("#!/bin/bash\n")
    assert f"# The grid of tiny, written by: hvae slurm {spec} --nodes 1-3" in text
    assert "# forecast: 0.0 GPU-hours, nominal (hvae plan SPEC --measure measures it).\n" in text
    assert "\nmodule load cuda\n" in text
    assert text.index('unset "${!RAY_@}"') < text.index("\nmodule load cuda") < text.index("\nsrun ")
    assert '"${job[@]}" end "$results" "$code" --max-requeues=50' in text


def test_without_options_the_forecast_decides_and_no_gpu_is_used(spec, capsys):
    text = printed(capsys, spec)
    assert "#SBATCH --nodes=1\n" in text
    assert "#SBATCH --cpus-per-task=8\n" in text
    assert "#SBATCH --time=0:15:00\n" in text
    assert "gpus" not in text
    assert "options=(\n    --device=cpu\n)\n" in text


def test_a_type_of_gpu_is_named_beside_their_number(spec, capsys):
    text = printed(
        capsys, spec, "--gpus-per-node", 2, "--sbatch=--gpus-per-node=a100:2", "--sbatch=--gres=scratch:gpus"
    )
    assert "#SBATCH --gpus-per-node=2\n" in text
    assert text.index("#SBATCH --gpus-per-node=2\n") < text.index("#SBATCH --gpus-per-node=a100:2\n")
    assert "    --device=cuda\n" in text
    assert "#SBATCH --gres=scratch:gpus\n" in printed(capsys, spec, "--sbatch=--gres=scratch:gpus")


def test_data_that_are_missing_are_named_before_the_job_waits_for_its_turn(spec, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hvae.main(["slurm", str(spec), "--set", "data={dataset: mnist}"]) == 0
    out, err = capsys.readouterr()
    assert f"\nexport HVAE_DATA_DIR={tmp_path}\n" in out
    assert err.startswith("Missing: 2 members need files of mnist: train-images")
    assert len(err.splitlines()) == 1


def bash(text, *arguments, **options):
    return subprocess.run(
        ["bash", "-c", text, "bash", *arguments], capture_output=True, text=True, check=True, timeout=60, **options
    )


def test_nothing_that_a_user_names_runs_as_code(tmp_path, monkeypatch, capsys):
    folder = tmp_path / NASTY.replace("/", "")
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HVAE_DATA_DIR", NASTY)
    path = folder / f"{NASTY}.yaml"
    path.write_text(TINY)
    variant = f"grid.variants={{{json.dumps(NASTY)}: {{}}}}"
    listener = f"{NASTY}.py:Mine"
    given = ["--set", variant, "--results", NASTY, "--listener", listener, "--pack-size", "1"]
    text = printed(capsys, path.name, *given)
    bash('bash -n <<<"$1"', text)
    begin, end = text.index('unset "${!RAY_@}"'), text.index("job=(")
    show = 'printf "%s\\0" "$HVAE_DATA_DIR" "$PWD" "$spec" "$results" "${options[@]}"'
    found = bash(text[begin:end] + show, cwd=tmp_path).stdout.split("\0")[:-1]
    assert found == [
        *(NASTY, str(folder), str(path), str(folder / NASTY)),
        *("--device=cpu", f"--set={variant}", f"--listener={listener}", "--pack-size=1"),
    ]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "training.epochs=3\n"], "has a line break"),
        (["--setup", "module load\ncuda"], "has a line break"),
        (["--results", "a\nb"], "has a line break"),
        (["--partition", "a b"], "--partition 'a b': expected letters"),
        (["--partition", "$(id)"], "expected letters"),
        (["--account", 'a"'], "expected letters"),
        (["--sbatch=--comment=a#b"], "expected letters"),
        (["--sbatch", "mem=4G"], "expected an option of sbatch, such as --sbatch=--mem=64G"),
        (["--sbatch=--gres=gpu:a100:2"], "the run would not use these GPUs; say with --gpus-per-node how many"),
        (["--sbatch=--gpus-per-node=a100:2"], "the run would not use these GPUs"),
        (["--sbatch=-G2"], "the run would not use these GPUs"),
        (["--records", "nowhere"], "not a results folder"),
        (["--set", "training.epoch=3"], "training.epoch"),
    ],
)
def test_what_a_script_cannot_hold_is_refused(spec, capsys, arguments, words):
    assert words in printed(capsys, spec, *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nodes", "0"], "expected a number of nodes"),
        (["--nodes", "4-2"], "expected a number of nodes"),
        (["--nodes", "1\u0662"], "expected a number of nodes"),
        (["--time", "9\u0662"], "expected a time as SLURM writes it"),
        (["--time", "soon"], "expected a time as SLURM writes it"),
        (["--time", "0:04:59"], "expected 0:05:00 or more"),
        (["--max-requeues", "-1"], "expected a whole number, 0 or greater"),
        (["--address", "auto"], "unrecognized arguments"),
        (["--cpus", "4"], "unrecognized arguments: --cpus 4"),  # of tune.run, and not short for --cpus-per-task
        (["--max", "4"], "unrecognized arguments: --max 4"),
    ],
)
def test_bad_options_are_named(spec, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        hvae.main(["slurm", str(spec), *arguments])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds", "again"),
    [
        ("90", 5400, "1:30:00"),
        ("90:30", 5430, "1:30:30"),
        ("2:00:00", 7200, "2:00:00"),
        ("1-12", 129600, "1-12:00:00"),
        ("1-12:30", 131400, "1-12:30:00"),
        ("1-2:03:04", 93784, "1-02:03:04"),
    ],
)
def test_times_are_those_of_slurm(text, seconds, again):
    assert script.seconds_of(text) == seconds
    assert script.clock(seconds) == again


def plan_of(hours, *, measured, cores, members=1):
    """A plan of one-thread packs that take so many hours each."""
    pack = SimpleNamespace(
        threads=1,
        members=[SimpleNamespace(spec=SimpleNamespace(training=SimpleNamespace(early_stopping=None)))] * members,
    )
    forecast = SimpleNamespace(seconds=3600 * hours[0], measured=measured)
    return SimpleNamespace(
        jobs=[pack] * len(hours),
        workers=min(cores, len(hours)),
        machine=SimpleNamespace(cores=cores, gpus=0, packs_per_gpu=1),
        forecaster=SimpleNamespace(of=lambda job: forecast),
        awaits_records=False,
    )


@pytest.mark.parametrize(
    ("packs", "hours", "measured", "expected"),
    [
        (8, 1.25, True, ("1", 7200, "10.0 core-hours, measured.")),
        (8, 1.25, False, ("1", 4 * 3600, "10.0 core-hours, nominal (hvae plan SPEC --measure measures it).")),
        (64, 10, True, ("8", 18 * 3600, "640.0 core-hours, measured.")),  # no more nodes than have something to do
        (128, 2, True, ("4", 18 * 3600, "256.0 core-hours, measured.")),
        (2, 100, True, ("1", 24 * 3600, "200.0 core-hours, measured.")),  # and then it is requeued
    ],
)
def test_nodes_and_time_come_from_the_forecast(packs, hours, measured, expected):
    found = proposal.propose(lambda count: plan_of([hours] * packs, measured=measured, cores=8 * count), None, None)
    assert (found.nodes, found.seconds, found.forecast) == expected
    own = proposal.propose(lambda count: plan_of([hours] * packs, measured=measured, cores=8 * count), "2-4", 999)
    assert (own.nodes, own.seconds) == ("2-4", 999)


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder that is first where commands are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_job_that_is_never_to_be_requeued_is_not_by_slurm_either(spec, capsys):
    text = printed(capsys, spec, "--max-requeues", 0)
    assert "#SBATCH --no-requeue\n" in text
    assert "#SBATCH --requeue" not in text
    assert "--max-requeues=0\n" in text


def test_a_spec_that_can_be_read_once_only_is_refused(spec, capsys):
    reading, writing = os.pipe()
    os.write(writing, TINY.encode())
    os.close(writing)
    said = printed(capsys, f"/dev/fd/{reading}", code=2)
    assert said.startswith(f"/dev/fd/{reading}: not a file, and a job reads its spec whenever it starts")
    os.close(reading)


def test_submit_prints_the_number_of_the_job(spec, commands, capsys):
    executable(
        commands / "sbatch", f"#!/bin/sh\necho \"$@\" >{spec.parent}/args; cat >{spec.parent}/got; echo '17;cluster'\n"
    )
    script_text = printed(capsys, spec)
    assert printed(capsys, spec, "--submit") == "Submitted job 17.\n"
    assert (spec.parent / "args").read_text() == "--parsable\n"
    got = (spec.parent / "got").read_text()
    assert got.splitlines()[2:] == script_text.splitlines()[2:]


def test_a_job_that_slurm_refuses_is_bad_input_and_a_missing_sbatch_is_the_machines(
    spec, commands, capsys, monkeypatch
):
    executable(commands / "sbatch", "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2; exit 1\n")
    assert "sbatch refuses the job: sbatch: error: invalid partition" in printed(capsys, spec, "--submit", code=2)
    monkeypatch.setenv("PATH", str(spec.parent))
    assert "sbatch: no such command here" in printed(capsys, spec, "--submit", code=1)


def test_a_node_has_what_the_allocation_has_of_it(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocation.devices, "cores", lambda: 64)
    monkeypatch.setattr(allocation.devices, "gpus", lambda device: 8)
    monkeypatch.setattr(allocation.psutil, "virtual_memory", lambda: SimpleNamespace(total=512 * 2**30))
    monkeypatch.setattr(allocation.cgroup, "memory_limit", lambda: 256.0 * 2**30)
    assert (allocation.cores(), allocation.gpus(), allocation.memory()) == (64, 0, 256 * 2**30)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "2048")
    assert (allocation.cores(), allocation.gpus(), allocation.memory()) == (4, 2, 8 * 2**30)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert allocation.memory() == 2**30
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    assert allocation.memory() == 8 * 2**30
    assert [allocation.store(gib * 2**30) // 2**20 for gib in (0.5, 8, 100)] == [100, 819, 2048]


def test_jobs_on_one_host_have_ports_of_their_own_and_none_that_is_taken(monkeypatch, commands):
    executable(commands / "scontrol", "#!/bin/sh\necho NodeName=n1 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=n1\n")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    found = []
    for number in ("7", "8"):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        found.append(allocation.address())
    assert found == ["127.0.0.1:20070", "127.0.0.1:20080"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 20080))
        assert allocation.address() == "127.0.0.1:20081"


INTERRUPTED = {
    "code": 143,
    "is_running": True,
    "is_requeued": False,
    "unfinished": True,
    "gained": True,
    "idle": 0,
    "requeues": 0,
    "most": 50,
}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"gained": False}, ""),
        ({"gained": True, "idle": 1}, ""),
        ({"gained": False, "idle": 1}, "2 jobs in a row have ended without a new checkpoint or result"),
        ({"requeues": 49}, ""),
        ({"requeues": 50}, "it was requeued 50 times already (--max-requeues)"),
        ({"most": 0}, "it is never to be (--max-requeues)"),
        ({"code": 2}, "its run was refused, as said above"),
        ({"code": 1}, ""),  # a disk or Ray; members are left
        ({"code": 1, "unfinished": False}, "members failed"),
        ({"code": 137}, ""),  # it did not end in time, and was killed
        ({"is_running": False}, "the job was cancelled or preempted"),
    ],
)
def test_when_a_job_goes_back_into_the_queue(changes, why):
    ending = Ending(**{**INTERRUPTED, **changes})
    assert not ending.is_over
    assert ending.hindrance.startswith(why)
    assert bool(ending.hindrance) == bool(why)


def test_a_grid_is_over_when_all_have_finished_or_diverged():
    assert [code for code in range(256) if Ending(**{**INTERRUPTED, "code": code}).is_over] == [0, 3]


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A results folder of two members, of which one is finished, another has begun."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "tiny.yaml").write_text(TINY)
    with mock.patch.object(run, "report", return_value=0), mock.patch.object(run, "check_report"):
        options = ["--serial", "--pack-size", "1", "--results", str(folder / "out")]
        assert run.main([str(folder / "tiny.yaml"), *options]) == 0
    _, second = sorted(path for path in (folder / "out" / "members").iterdir() if path.is_dir())
    (second / "training.json").unlink()
    for path in second.glob("evaluations/*/result.json"):
        path.unlink()
    return folder / "out"


def test_how_far_a_grid_is_in_words(half_done, tmp_path):
    assert str(requeue.progress_of(half_done)) == "1 of 2 members done, 1 in training (epoch 2)"
    assert requeue.progress_of(tmp_path) is None


def test_a_trained_member_that_nothing_can_evaluate_is_damaged(half_done, tmp_path):
    root = tmp_path / "out"
    shutil.copytree(half_done, root)
    (path,) = root.glob("members/*/evaluations/*/result.json")
    path.unlink()
    assert requeue.progress_of(root).ended == 0
    (path.parents[2] / "weights.safetensors").unlink()
    assert (requeue.progress_of(root).ended, requeue.progress_of(root).unhappy) == (1, 1)


def test_members_are_looked_at_several_at_a_time(half_done, monkeypatch):
    """Over a network file system, 10,000 of them one after another would take minutes, which a job does not have."""
    both, status = threading.Barrier(2), Record.status

    def met(record, evaluation):
        both.wait(30)
        return status(record, evaluation)

    monkeypatch.setattr(Record, "status", met)
    assert requeue.progress_of(half_done).members == 2
    read_file = requeue.read_file

    def met_again(*arguments):
        both.wait(30)
        return read_file(*arguments)

    (failed := half_done / "members" / "z-0" / "training.json").parent.mkdir()
    failed.write_text("{}")
    monkeypatch.setattr(requeue, "read_file", met_again)
    for pack in half_done.glob("packs/*/*.safetensors"):
        pack.unlink()
    (half_done / "mark").touch()
    os.utime(half_done / "mark", (0, 0))
    assert requeue.gained_since(half_done, half_done / "mark")
    shutil.rmtree(failed.parent)


def test_no_file_is_opened_for_members_that_have_not_begun(half_done, tmp_path, monkeypatch):
    shutil.copy(half_done / "grid.json", tmp_path)
    monkeypatch.setattr(Record, "status", lambda *_: pytest.fail("looked at"))
    assert str(requeue.progress_of(tmp_path)) == "0 of 2 members done"


def ended(monkeypatch, commands, results, code, state="RUNNING", restarts=0, scontrol="exit 0", counted=None):
    """The last line of a job, and what scontrol was told. SLURM has counted as many restarts as the job has had, or
    others.
    """
    log = commands / "log"
    log.unlink(missing_ok=True)
    executable(commands / "squeue", f"#!/bin/sh\necho {state} {restarts if counted is None else counted}\n")
    executable(commands / "scontrol", f'#!/bin/sh\necho "$@" >>{shlex.quote(str(log))}\n{scontrol}\n')
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    lines = []
    requeue.end(results, code, 3, lines.append)
    return lines[-1], log.read_text().splitlines()


def test_a_job_is_requeued_until_two_in_a_row_gained_nothing(monkeypatch, commands, half_done):
    shared = half_done / ".slurm-5"
    shared.mkdir()
    token = shared / job_folder.TOKEN
    far = "1 of 2 members done, 1 in training (epoch 2)."
    token.touch()
    os.utime(token, (0, 0))  # all has been written since
    line, told = ended(monkeypatch, commands, half_done, 143)
    assert line == f"{far} Job 5 is requeued (1 of at most 3)."
    assert told == [f"update JobId=5 Comment={line}", "requeue 5"]
    os.utime(token, (time.time() + 60,) * 2)  # nothing has
    line, told = ended(monkeypatch, commands, half_done, 143, restarts=1)
    assert line == f"{far} Job 5 is requeued (2 of at most 3)."
    line, told = ended(monkeypatch, commands, half_done, 143, restarts=2)
    assert line.startswith(
        f"{far} Job 5 is not requeued: 2 jobs in a row have ended without a new checkpoint or result"
    )
    assert told == [f"update JobId=5 Comment={line}"]
    assert not shared.exists()


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [
        (0, "RUNNING", "It has ended."),
        (2, "RUNNING", "Job 5 is not requeued: its run was refused"),
        (143, "COMPLETING", "Job 5 is not requeued: the job was cancelled or preempted"),
    ],
)
def test_a_job_that_is_not_requeued_leaves_no_token(monkeypatch, commands, half_done, code, state, words):
    (half_done / ".slurm-5").mkdir()
    line, told = ended(monkeypatch, commands, half_done, code, state)
    assert words in line
    assert len(told) == 1
    assert not (half_done / ".slurm-5").exists()


@pytest.mark.parametrize(("gained", "idle"), [(True, "0"), (False, "1")])
@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "RUNNING"])
def test_a_job_that_slurm_itself_has_requeued_says_so_and_goes_on(
    monkeypatch, commands, half_done, state, gained, idle
):
    """It is preempted, or its first node is lost: then this script may go on beside the job's next start."""
    shared = half_done / ".slurm-5"
    shared.mkdir()
    (shared / job_folder.IDLE).write_text("1")
    (shared / job_folder.TOKEN).touch()
    os.utime(shared / job_folder.TOKEN, (0 if gained else time.time() + 60,) * 2)
    line, told = ended(monkeypatch, commands, half_done, 143, state, restarts=1, counted=2)
    far = "1 of 2 members done, 1 in training (epoch 2)."
    assert line == f"{far} SLURM itself has put job 5 back into the queue."
    assert told == [f"update JobId=5 Comment={line}"]
    assert (shared / job_folder.IDLE).read_text() == idle
    assert (shared / job_folder.TOKEN).exists()
    shutil.rmtree(shared)


def test_folders_of_jobs_that_were_killed_are_removed_by_the_next_job(monkeypatch, commands, tmp_path):
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "c1")
    clusters = {"5": "c1", "6": "c1", "7": "c1", "8": "c2", "9": None, "10": "c1", "x": "c1"}

    def left():
        return {path.name.removeprefix(".slurm-") for path in tmp_path.glob(".slurm-*")}

    for number, name in clusters.items():
        (tmp_path / f".slurm-{number}").mkdir()
        if name is not None:
            (tmp_path / f".slurm-{number}" / job_folder.CLUSTER).write_text(name)
    executable(commands / "squeue", "#!/bin/sh\necho 6 RUNNING; exit 1\n")
    monkeypatch.setenv("SLURM_JOB_ID", "6")
    job_folder.remove_abandoned(tmp_path)
    assert left() == clusters.keys()  # SLURM does not answer
    executable(commands / "squeue", "#!/bin/sh\necho 7 RUNNING\n")
    job_folder.remove_abandoned(tmp_path)
    assert left() == clusters.keys()  # it answers for another cluster
    monkeypatch.setenv("SQUEUE_NAMES", "other")  # which would leave jobs out
    asked = f"--noheader --all --states=all --user={os.getuid()} --Format=jobid:20,state:20"
    states = "6 RUNNING; echo 7 CANCELLED; echo 10 SUSPENDED"
    executable(commands / "squeue", f'#!/bin/sh\n[ "$*$SQUEUE_NAMES" = "{asked}" ] && {{ echo {states}; }}\n')
    monkeypatch.setattr(job_folder.os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    job_folder.remove_abandoned(tmp_path)
    assert left() == clusters.keys()  # another user's
    monkeypatch.setattr(job_folder.os, "getuid", lambda: os.stat(tmp_path).st_uid)
    job_folder.remove_abandoned(tmp_path)
    assert left() == {"6", "8", "9", "10", "x"}


def test_a_job_whose_folder_somebody_has_removed_says_so_and_is_not_requeued(monkeypatch, commands, tmp_path):
    line, told = ended(monkeypatch, commands, tmp_path / "gone", 130)
    why = f"{tmp_path}/gone/.slurm-5/idle: No such file or directory"
    assert line == f"nothing has been planned. Job 5 is not requeued ({why}): submit it again."
    assert told == [f"update JobId=5 Comment={line}"]


def test_a_cluster_that_requeues_nothing_is_named(monkeypatch, commands, half_done):
    (half_done / ".slurm-5").mkdir()
    line, _ = ended(
        monkeypatch, commands, half_done, 143, scontrol="[ $1 = update ] || { echo 'not allowed' >&2; exit 1; }"
    )
    assert line.endswith("Job 5 could not be requeued (not allowed): submit it again.")


PYTHON = """#!/bin/bash
# Stands for Python in a job: the run ends with 143 when it is told to, and everything else at once.
echo "$@" >>{log}
case "$*" in
*secrets*) exec {python} "$@" ;;
*" begin "*) echo 127.0.0.1:20050 ;;
*tune.run*) trap 'exit 143' TERM; echo running >&2; touch {begun}; while :; do sleep 0.05; done ;;
esac
"""


def test_a_job_that_is_told_to_end_ends_its_run_and_asks_for_the_next_one(spec, commands, capsys):
    folder = spec.parent
    (folder / "secrets.py").write_text("raise SystemExit(1)")  # a module of the user's own
    (folder / "results/tiny/.slurm-5").mkdir(parents=True, mode=0o755)  # as where the disk has its own idea of modes
    log, begun = folder / "log", folder / "begun"
    executable(folder / "python", PYTHON.format(log=log, python=sys.executable, begun=begun))
    gone = folder / "gone"
    wait_until_told = f"while [ ! -e {gone} ]; do sleep 0.05; done"
    executable(commands / "srun", f'#!/bin/sh\necho srun "$@" >>{log}\n{wait_until_told}\n')
    # It goes on long after that, as where SLURM has requeued the job.
    executable(commands / "scancel", f'#!/bin/sh\necho scancel "$@" >>{log}; touch {gone}; exec sleep 60\n')
    text = printed(capsys, spec, "--set", "training.epochs=3").replace(
        f"python={sys.executable}", f"python={folder}/python"
    )
    (folder / "job.sh").write_text(text)
    numbers = {"SLURM_JOB_ID": "5", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4", "SLURM_CLUSTER_NAME": "c1"}
    environment = {**os.environ, **numbers, "RAY_ADDRESS": "somebody:6379", "RAY_AUTH_TOKEN": "theirs"}
    running = subprocess.Popen(["bash", folder / "job.sh"], env=environment, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.02)
    token = folder / "results/tiny/.slurm-5/token"
    assert len(token.read_text()) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert (token.parent / job_folder.CLUSTER).read_text() == "c1"
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 143
    assert running.stderr.read() == "running\n"
    running.stderr.close()
    lines = [line for line in log.read_text().splitlines() if "secrets" not in line]
    results = folder / "results/tiny"
    where = "--address=127.0.0.1:20050 --grace=60 --cpus=8 --nodes=2"
    options = f"--results={results} {where} --device=cpu --set=training.epochs=3"
    begin, *started = lines[:4]
    assert re.fullmatch(
        f"-P -m tune.slurm.job begin {results} [0-9a-f]{{12}} --device=cpu --set=training.epochs=3 -- {spec}", begin
    )
    assert sorted(re.sub("20050 2 [0-9]+$", "20050 2 PID", line) for line in started) == [
        f"-P -m tune.run {options} -- {spec}",
        "-P -m tune.slurm.job wait 127.0.0.1:20050 2 PID",
        "srun --export=ALL --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=4 --no-kill --kill-on-bad-exit=0 "
        f"--wait=0 {folder}/python -P -m tune.slurm.job node 127.0.0.1:20050 {results}",
    ]
    assert lines[4:] == [
        "scancel --quiet --signal=TERM 5",
        f"-P -m tune.slurm.job end {results} 143 --max-requeues=50",
    ]


def test_a_job_whose_nodes_never_start_does_not_hold_them_until_its_time_is_up(spec, commands, capsys):
    folder = spec.parent
    executable(folder / "python", '#!/bin/sh\ncase "$*" in *" wait "*) exit 1 ;; *) echo "$@" >>log ;; esac\n')
    executable(commands / "srun", "#!/bin/bash\ntrap 'exit 1' TERM\nfor i in {1..300}; do sleep 0.05; done\n")
    executable(commands / "scancel", "#!/bin/sh\n")
    text = printed(capsys, spec).replace(f"python={sys.executable}", f"python={folder}/python")
    assert text.count("sleep 60;") == 1
    numbers = {"SLURM_JOB_ID": "5", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4"}
    job_ = ["timeout", "--kill-after=1", "10", "bash", "-c", text.replace("sleep 60;", "sleep 0.1;")]
    assert subprocess.run(job_, env={**os.environ, **numbers}, check=False).returncode == 1
    last = (folder / "log").read_text().splitlines()[-1]
    assert last == f"-P -m tune.slurm.job end {folder}/results/tiny 1 --max-requeues=50"


def test_a_job_that_is_refused_as_it_begins_starts_no_node_and_says_so(spec, commands, capsys):
    folder = spec.parent
    executable(folder / "python", '#!/bin/sh\ncase "$*" in *" begin "*) exit 2 ;; *) echo "$@" >>log ;; esac\n')
    executable(commands / "srun", "#!/bin/sh\necho srun >>log\n")
    text = printed(capsys, spec).replace(f"python={sys.executable}", f"python={folder}/python")
    numbers = {"SLURM_JOB_ID": "5", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4"}
    assert subprocess.run(["bash", "-c", text], env={**os.environ, **numbers}, check=False).returncode == 2
    lines = [line for line in (folder / "log").read_text().splitlines() if "secrets" not in line]
    assert lines == [f"-P -m tune.slurm.job end {folder}/results/tiny 2 --max-requeues=50"]


def test_a_node_that_does_not_see_the_results_folder_starts_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nowhere" / "token"))
    with pytest.raises(
        UserError, match="/out: node n7 does not see this folder, so nothing is trained there; choose one"
    ):
        job.run_node("127.0.0.1:1", Path("/out"))


@pytest.fixture
def address():
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("joined", "line"),
    [
        (["n1", "n2"], "2 of 2 nodes have joined, with 16 cores: n1, n2.\n"),
        (
            ["n1"],
            "1 of 2 nodes have joined, with 8 cores: n1. The run goes on without the others; why they are not there is "
            "said above.\n",
        ),
    ],
)
def test_nodes_that_do_not_join_are_counted(monkeypatch, capsys, address, joined, line):
    found = [cluster.JoinedNode(name, 8) for name in joined]
    monkeypatch.setattr(cluster, "joined_nodes", lambda *_: found)
    assert job.main(["wait", address, "2", str(os.getpid())]) == 0
    assert capsys.readouterr().out == line


def test_a_job_that_is_told_to_end_while_nodes_are_waited_for_ends_as_an_interrupted_run(monkeypatch, address):
    def interrupted(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(cluster, "joined_nodes", interrupted)
    assert job.main(["wait", address, "2", str(os.getpid())]) == 143


@pytest.fixture
def closed():
    """Where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_ray_that_does_not_start_is_said(monkeypatch, capsys, closed):
    monkeypatch.setattr(job, "JOIN_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "WATCH_SECONDS", 0.01)
    assert job.main(["wait", closed, "2", str(os.getpid())]) == 1
    assert f"Ray has not started within 0 seconds (--address {closed}: no Ray" in capsys.readouterr().err


def test_nodes_whose_steps_have_all_ended_are_not_waited_for(monkeypatch, capsys, closed):
    monkeypatch.setattr(job, "LOOK_SECONDS", 0.01)
    with subprocess.Popen(["sleep", "0.2"]) as srun:  # as a zombie, too, it has ended
        assert job.main(["wait", closed, "2", str(srun.pid)]) == 1
    assert capsys.readouterr().err == "Ray has not started on any node; why is said above\n"
    assert job.main(["wait", closed, "2", str(srun.pid)]) == 1


def test_a_job_runs_the_grid_that_it_was_submitted_for(spec, capsys, monkeypatch):
    monkeypatch.setattr(allocation, "address", lambda: "127.0.0.1:20050")
    text = printed(capsys, spec, "--set", "grid.depth=[1]")
    grid = re.search(r"^grid=([0-9a-f]{12})$", text, re.MULTILINE)[1]

    def started(*arguments, grid=grid):
        code = job.main(["begin", str(spec.parent), grid, "--device=cpu", *arguments, "--", str(spec)])
        return code, capsys.readouterr()

    same = "--set=grid.depth=[1]"
    spec.write_text(f"# what is read alike\n{TINY}report: {{question: Why}}\n")
    assert started(same) == (0, ("127.0.0.1:20050\n", ""))
    for changed in ("seeds: [0, 1, 2]", "seeds: [0]", "seeds: {from: 2, half_width: 1.0, at_most: 4}"):
        spec.write_text(TINY.replace("seeds: [0, 1]", changed))
        code, (out, err) = started(same)
        assert (code, out) == (2, "")
        assert err.startswith(f"{spec}: its grid is not the one that this job's script was written for")
        assert started(same, grid="") == (0, ("127.0.0.1:20050\n", ""))
    spec.write_text(TINY)
    assert started(same)[0] == 0
    assert started(same, "--set=training.epochs=3")[0] == 2


def test_how_a_search_chooses_members_is_part_of_the_grid_that_a_job_runs():
    search = (
        "data: {dataset: digits, train_images: 64, test_images: 10, validation: 20}\n"
        "model: {layers: [{units: 2, mlp: [4]}]}\nname: s\ntraining: {epochs: 8, batch_size: 32}\n"
        "search: {trials: 4, space: {model.variance_bias: {uniform: [0, 1]}}, confirm: 2, "
        "halving: {from: 2, factor: 2}}\n"
    )
    texts = [search, search.replace("confirm: 2", "confirm: 3"), search.replace("factor: 2", "factor: 4")]
    digests = [grid_digest(reads(text, "s.yaml")) for text in texts]
    assert len(set(digests)) == 3
    assert grid_digest(reads(search + "# the same\n", "s.yaml")) == digests[0]

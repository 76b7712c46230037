"""The command, as a user runs it: in a process of its own, where that is the subject, and else in this one."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import filelock
import psutil
import pytest

from analysis.figures import FIGURES, drawing
from hvae_spec.records.layout import Results
from hvae_spec.training.trainer import Trainer
from tune.run import main

SPEC = """
name: tiny
data: {dataset: digits, train_images: 256, test_images: 20}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [8]}], inference: ladder, batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 6, batch_size: 64}
evaluation: {iw_samples: 10, every: 3}
grid:
  depth: [1, 2]
  variants:
    VAE: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    Ladder: {}
  exclude: [{variant: Ladder, depth: 1}]
  seeds: [0, 1]
"""
LONG = SPEC.replace("epochs: 6", "epochs: 250").replace("warm_up: 2", "warm_up: 50").replace("every: 3", "every: 100")
TIMES = re.compile(r"seconds|ms_per_step|finished_at|segment")
"""What differs from run to run: times, and with what the epochs were trained."""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


WITHOUT_REPORT = """
import sys, rich.table, analysis.report as report, tune.run
report.check = lambda: None
report.write = lambda root: report.Report(rich.table.Table(), (), "", ())
sys.exit(tune.run.main(sys.argv[1:]))
"""
ONE_FIGURE = """
import sys, analysis.report as report, tune.run
report.check()
import analysis.figures.drawing as drawing
drawing.FIGURES = {"log_likelihood": drawing.FIGURES["log_likelihood"]}
sys.exit(tune.run.main(sys.argv[1:]))
"""


def command(*arguments, program=None):
    """The command, or a program that stands for it."""
    start = ["-m", "tune.run"] if program is None else ["-c", program]
    return [sys.executable, *start, *map(str, arguments)]


def tune_run(*arguments, program=None, **options):
    done = subprocess.run(
        command(*arguments, program=program), capture_output=True, text=True, check=False, timeout=300, **options
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    return done


def run_alone(*arguments, **options):
    """Run a grid without its report, which would be most of the time where the records are the subject."""
    return tune_run(*arguments, program=WITHOUT_REPORT, **options)


def ended(arguments, capsys):
    """How the command ended in this process: its exit code, and what it said."""
    capsys.readouterr()
    try:
        code = main([*map(str, arguments)])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)


def contents(root):
    """All that the records hold, less times and places."""
    found = {}
    for record in Results(root).records:
        name = record.folder.name
        found[name, "training"] = timeless(record.training)
        found[name, "epochs"] = [{k: v for k, v in row.items() if not TIMES.search(k)} for row in record.epochs]
        found[name, "units"] = record.units
        for evaluation in record.evaluations:
            found[name, evaluation.folder.name] = timeless(evaluation.result)
        for path in record.folder.rglob("*.safetensors"):
            found[name, str(path.relative_to(record.folder))] = path.read_bytes()
    return found


def timeless(result):
    """A result less its times. Which pack it was trained in depends on what else there was to run."""
    return {key: value for key, value in result.model_dump(exclude={"pack"}).items() if not TIMES.search(key)}


def statuses(root):
    """The statuses of a grid's members."""
    results = Results(root)
    return [results.record(one.training, one.folder).status(one.digest) for one in results.grid.members]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def checkpoints(root):
    return list(Path(root).glob("packs/*/checkpoint.safetensors"))


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The small grid as one run without Ray leaves it, and how that ended."""
    folder = tmp_path_factory.mktemp("serial")
    (folder / "tiny.yaml").write_text(SPEC)
    root = folder / "out"
    done = tune_run(folder / "tiny.yaml", "--serial", "--results", root, "--cpus", 1, "--pack-size", 2)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(root=root, done=done)


@pytest.mark.usefixtures("no_report")
def test_serial_run_ends_with_table_paths_and_complete_records(spec, serial, capsys):
    root, done = serial.root, serial.done
    assert "6 of 6 members finished." in done.stdout
    assert "Ladder" in done.stdout
    text = " ".join(done.stdout.split())
    assert f"{root}/tables: test_log_likelihood, active_units" in text
    assert f"{root}/figures: log_likelihood" in text
    for path in ("report.html", "tables/test_log_likelihood.tex", "figures/log_likelihood.pdf"):
        assert (root / path).stat().st_size > 0
    assert statuses(root) == ["finished"] * 6
    # Once more: nothing is left to do, and nothing is touched.
    before = contents(root)
    assert {name for _, name in before} >= {"training", "epochs", "units", "weights.safetensors"}
    again = ended([spec, "--serial", "--results", root], capsys)
    assert again.returncode == 0
    assert "Nothing is left to run." in again.stdout
    assert contents(root) == before


@pytest.mark.usefixtures("no_report")
def test_default_results_folder_is_named_after_the_spec(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--set", "training.epochs=2", "--set", "grid.depth=[1]", "--set", "grid.seeds=[0]")
    done = ended([spec, "--serial", *options], capsys)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "tiny" / "grid.json").exists()


@pytest.mark.usefixtures("no_report")
def test_ray_run_equals_a_serial_one_bit_for_bit_and_extends(spec, tmp_path, serial, capsys):
    ray_root = tmp_path / "ray"
    done = run_alone(spec, "--results", ray_root, "--cpus", 2, "--pack-size", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 members finished." in done.stdout
    assert done.stderr == ""
    assert re.search(r"\[0:0\d:\d\d\] digits L2 Ladder x 2: finished", done.stdout)
    assert contents(ray_root) == contents(serial.root)
    assert not list(ray_root.glob(".ray-*"))
    # A seed more: only the new members run, also where the others ran on Ray.
    before = contents(ray_root)
    more = ended([spec, "--serial", "--results", ray_root, "--cpus", 1, "--set", "grid.seeds=[0,1,2]"], capsys)
    assert more.returncode == 0, more.stdout + more.stderr
    assert "Running 3 members" in more.stdout
    after = contents(ray_root)
    assert {key: after[key] for key in before} == before
    assert "9 of 9 members finished." in more.stdout


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("driver", marks=pytest.mark.slow),
        "worker",
        pytest.param("interrupt", marks=pytest.mark.slow),
        pytest.param("terminate", marks=pytest.mark.slow),  # see test_ending.py, too
    ],
)
def test_a_local_ray_listens_on_loopback_only_and_killed_runs_go_on_and_end_with_the_same_bits(
    tmp_path, how, uninterrupted
):
    spec = tmp_path / "long.yaml"
    spec.write_text(LONG)
    root = tmp_path / "out"
    run = subprocess.Popen(
        command(spec, "--results", root, "--cpus", 2, program=WITHOUT_REPORT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(checkpoints(root)) >= 2 or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    listening = listening_addresses(psutil.Process(run.pid))
    assert listening
    assert listening <= {"127.0.0.1", "::1"}
    if how == "worker":
        workers = [
            child
            for child in psutil.Process(run.pid).children(recursive=True)
            if child.cmdline() and child.cmdline()[0].startswith("ray::ImplicitFunc")
        ]
        assert workers
        workers[0].kill()
        out, err = run.communicate(timeout=240)
        assert run.returncode == 0, out + err
        assert "will be tried again" in out
    else:
        number = {"driver": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}[how]
        if how == "interrupt":
            os.killpg(run.pid, number)  # as a terminal does on Ctrl-C
        else:
            run.send_signal(number)
        out, err = run.communicate(timeout=60)
        if how != "driver":
            assert run.returncode == 128 + number
            assert "Interrupted" in err
            assert "Traceback" not in out + err
        again = run_alone(spec, "--results", root, "--cpus", 2)
        assert again.returncode == 0, again.stdout + again.stderr
    assert contents(root) == uninterrupted


@pytest.mark.slow
def test_a_training_that_goes_on_whose_driver_is_killed_and_that_is_evaluated_again_ends_with_the_same_bits(
    tmp_path, uninterrupted
):
    """Sixty epochs are done; the driver of the rest is killed; it goes on with another K, then with the first."""
    spec, root, other = tmp_path / "long.yaml", tmp_path / "out", ("--set", "evaluation.iw_samples=12")
    spec.write_text(LONG)
    shorter = tune_run(spec, "--results", root, "--cpus", 2, "--set", "training.epochs=60")
    assert shorter.returncode == 0, shorter.stdout + shorter.stderr
    finished = contents(root)
    run = subprocess.Popen(
        command(spec, "--results", root, "--cpus", 2),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: len(checkpoints(root)) >= 2 or run.poll() is not None)
    assert run.poll() is None
    run.kill()
    run.wait(60)
    begun = [record for record in Results(root).records if record.training is None]
    assert begun
    assert all(record.epochs[0]["epoch"] == 1 for record in begun if record.epochs)
    again = tune_run(spec, "--results", root, "--cpus", 2, *other)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "6 of 6 members finished." in again.stdout
    first = tune_run(spec, "--results", root, "--cpus", 2)
    assert first.returncode == 0, first.stdout + first.stderr
    found = contents(root)
    assert {key: found[key] for key in finished} == finished
    for key, expected in uninterrupted.items():
        if key[1] == "training":
            assert found[key].pop("extended_from") in {record.training.digest for record in Results(root).records}
            expected = {name: value for name, value in expected.items() if name != "extended_from"}  # noqa: PLW2901
        assert found[key] == expected, key
    # The other evaluation is that of a run that asked for nothing else.
    alone = tune_run(spec, "--results", tmp_path / "alone", "--cpus", 2, *other)
    assert alone.returncode == 0
    expected = {key: value for key, value in contents(tmp_path / "alone").items() if key not in uninterrupted}
    assert len(expected) >= 6
    assert {key: found[key] for key in expected} == expected


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run that nothing interrupts leaves, without Ray: a run on Ray equals it bit for bit."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "long.yaml").write_text(LONG)
    done = run_alone(folder / "long.yaml", "--serial", "--results", folder / "out", "--cpus", 1)
    assert done.returncode == 0
    return contents(folder / "out")


def listening_addresses(process):
    """The addresses at which a process and its children listen; one that has just ended does not."""
    found = []
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += [at for at in one.net_connections(kind="inet") if at.status == psutil.CONN_LISTEN]
    return {at.laddr.ip.removeprefix("::ffff:") for at in found}


def test_a_second_run_in_the_same_folder_is_refused(spec, tmp_path, capsys):
    root = tmp_path / "out"
    root.mkdir()
    (root / ".holder.json").write_text(json.dumps({"pid": 4711, "host": "elsewhere", "since": "yesterday"}))
    with filelock.FileLock(root / ".lock"):
        done = ended([spec, "--serial", "--results", root], capsys)
    assert done.returncode == 2
    assert "another run is at work in this folder (process 4711 on elsewhere, since yesterday)" in done.stderr
    assert not (root / "members").exists()


AFTER_IMPORT = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def execute_and_spoil(module):
            execute(module)
            exec({code!r}, {{"module": module}})
        spec.loader.exec_module = execute_and_spoil
        return spec
sys.meta_path.insert(0, Finder())
"""


def spoiled(tmp_path, module, code):
    """An environment in which every process runs some code when it has imported a module, called `module` there."""
    return with_code_first(tmp_path, AFTER_IMPORT.format(module=module, code=code))


def with_code_first(tmp_path, code):
    """An environment in which every process runs some code first."""
    (tmp_path / "sitecustomize.py").write_text(code)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


TRAINER = "hvae_spec.training.trainer"
RAISE = """
train_epoch = module.Trainer.train_epoch
def spoil(self):
    if self.specs[0].model.depth == 2 and self.specs[0].model.inference == "ladder":
        raise RuntimeError("the disk is on fire")
    return train_epoch(self)
module.Trainer.train_epoch = spoil
"""


def raise_in_ladders(self):
    """What stands for `Trainer.train_epoch`, and fails for some."""
    if self.specs[0].model.depth == 2 and self.specs[0].model.inference == "ladder":
        raise RuntimeError("the disk is on fire")
    return TRAIN_EPOCH(self)


TRAIN_EPOCH = Trainer.train_epoch


def test_a_pack_that_raises_is_retried_recorded_and_the_grid_goes_on(spec, tmp_path, monkeypatch, capsys):
    root = tmp_path / "out"
    arguments = [spec, "--serial", "--results", root, "--cpus", 1]
    monkeypatch.setattr(drawing, "FIGURES", {"log_likelihood": FIGURES["log_likelihood"]})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", raise_in_ladders)
        done = ended(arguments, capsys)
    assert_recorded(root, done)
    # With the fault gone, the same command finishes the rest.
    assert_finished(root, ended(arguments, capsys))


@pytest.mark.slow
def test_a_pack_that_raises_on_ray_is_retried_recorded_and_the_grid_goes_on(spec, tmp_path):
    root = tmp_path / "out"
    arguments = (spec, "--results", root, "--cpus", "2")
    done = subprocess.run(
        command(*arguments, program=ONE_FIGURE),
        capture_output=True, text=True, check=False, timeout=300, env=spoiled(tmp_path, TRAINER, RAISE),
    )  # fmt: skip
    assert_recorded(root, done)
    assert_finished(root, run_alone(*arguments))


def assert_recorded(root, done):
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("failed and will be tried again: RuntimeError: the disk is on fire") == 2
    assert "4 of 6 members finished, 2 failed." in done.stdout
    assert "failed 2" in done.stdout
    assert sorted(statuses(root)) == ["failed", "failed", *["finished"] * 4]
    for record in Results(root).records:
        if record.training.status == "failed":
            assert "RuntimeError: the disk is on fire" in (record.folder / "failure.txt").read_text()
            assert "Traceback" in (record.folder / "failure.txt").read_text()
            assert str(record.folder) in done.stdout


def assert_finished(root, again):
    assert again.returncode == 0, again.stdout
    assert "Running 2 members" in again.stdout
    assert "6 of 6 members finished." in again.stdout
    assert not list(root.glob("members/*/failure.txt"))


@pytest.mark.usefixtures("no_report")
def test_a_diverged_member_is_told_and_changes_the_exit_code(spec, tmp_path, capsys):
    options = ["--set", "training.optimizer.adam.lr=1e30", "--set", "grid.depth=[2]"]
    done = ended([spec, "--serial", "--results", tmp_path / "out", *options], capsys)
    assert done.returncode == 3
    assert "diverged in epoch" in done.stdout
    assert "0 of 4 members finished, 4 diverged." in done.stdout
    assert statuses(tmp_path / "out") == ["diverged"] * 4
    for record in Results(tmp_path / "out").records:
        assert record.training.divergence.quantity


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.yaml"], "no such file"),
        (["{spec}", "--set", "training.epocs=3"], "did you mean"),
        (["{spec}", "--set", "training.epochs=zwei"], "expected a whole number"),
        (["{spec}", "--device", "tpu"], "--device tpu"),
        (["{spec}", "--device", "cuda"], "no CUDA device"),
        (["{spec}", "--results", "{spec}"], "cannot be used as a results folder"),
        (["{spec}", "--cpus", "0"], "greater than 0"),
        (["{spec}", "--pack-size", "many"], "greater than 0"),
        (["{spec}", "--packs-per-gpu", "0"], "greater than 0"),
        (["{spec}", "--compile", "sometimes"], "invalid choice: 'sometimes'"),
        (["{spec}", "--frobnicate"], "unrecognized arguments"),
        ([], "the following arguments are required: SPEC"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(spec, tmp_path, arguments, words, capsys):
    given = [argument.format(spec=spec) for argument in arguments]
    if "--results" not in given:
        given += ["--results", str(tmp_path / "out")] if given else []
    done = ended([*given, "--serial"] if given else [], capsys)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out" / "members").exists()


@pytest.mark.parametrize(
    ("arguments", "words"), [(["nowhere.yaml"], "no such file"), ([], "the following arguments are required: SPEC")]
)
def test_a_process_ends_as_its_command_does(arguments, words, tmp_path):
    done = tune_run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_an_unreachable_cluster_is_one_message(spec, tmp_path):
    done = tune_run(spec, "--results", tmp_path / "out", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert "no Ray cluster" in done.stderr


def test_missing_data_is_one_message_before_anything_runs(spec, tmp_path, monkeypatch, capsys):
    for name, value in (("HVAE_DATA_DIR", tmp_path / "data"), ("XDG_CACHE_HOME", tmp_path / "cache")):
        monkeypatch.setenv(name, str(value))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    changed = ["--set", "data={dataset: mnist}", "--results", tmp_path / "out"]
    done = ended([spec, "--serial", *changed], capsys)
    assert done.returncode == 2
    assert str(tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz") in done.stderr
    assert "https://" in done.stderr
    assert not (tmp_path / "out" / "members").exists()


def test_measuring_comes_before_planning_and_is_done_once(spec, tmp_path, capsys):
    small = ("--set", "grid.depth=[2]")
    options = (spec, "--plan", "--measure", "--results", tmp_path / "out", "--cpus", 1, *small)
    first = ended(options, capsys)
    assert first.returncode == 0, first.stderr
    assert re.findall(r"Measuring .*", first.stdout) == [
        "Measuring digits L2 ladder+BN (1 threads), 1 of 2",
        "Measuring digits L2 VAE (1 threads), 2 of 2",
    ]
    assert re.search(r"Together 0:0\d:\d\d with 1 packs at a time \(100% of the workers' time used\)", first.stdout)
    again = ended(options, capsys)
    assert "Measuring" not in again.stdout
    assert "Together" in again.stdout
    assert not (tmp_path / "out").exists()


def test_compiling_always_without_a_compiler_is_refused(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    done = ended([spec, "--plan", "--compile", "always", "--device", "cpu"], capsys)
    assert done.returncode == 2
    assert "torch.compile needs a C++ compiler" in done.stderr


def test_help_names_every_flag(capsys):
    done = ended(["--help"], capsys)
    assert done.returncode == 0
    flags = ("--set", "--plan", "--measure", "--serial", "--device", "--results", "--address", "--cpus", "--pack-size")
    again = ("--records", "--print-spec", "--retrain", "--keep-optimizer {yes,no}")
    for flag in (*flags, *again, "--packs-per-gpu", "--compile {auto,always,never}", "exit codes"):
        assert flag in done.stdout


def test_a_report_that_fails_after_all_members_is_one_line_and_the_rest_is_said(spec, tmp_path, monkeypatch, capsys):
    def broken(frames):
        raise ZeroDivisionError("in a figure")

    monkeypatch.setattr(drawing, "render", broken)
    root = tmp_path / "out"
    options = ("--serial", "--results", root, "--set", "grid.depth=[1]", "--set", "grid.seeds=[0]")
    done = ended([spec, *options], capsys)
    assert done.returncode == 1
    assert done.stderr == (
        f"{root}: the report could not be written (ZeroDivisionError: in a figure); the members are safe, and "
        f"`python -m analysis.report {root}` writes it again (traceback: {root}/report_failure.txt)\n"
    )
    assert "1 of 1 members finished." in done.stdout
    assert statuses(root) == ["finished"]


FULL_DISK = """
import errno, os, pathlib, sys
import hvae_spec.records.files as files
replace = os.replace
def full(source, target):
    if str(target).endswith({name!r}):
        raise OSError(errno.{error}, os.strerror(errno.{error}), str(source))
    return replace(source, target)
os.replace = full
"""


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("checkpoint.safetensors", errno.ENOSPC, "make room on its disk"),
        ("training.json", errno.EDQUOT, "make room in your quota"),
        ("grid.json", errno.EROFS, "have its disk mounted for writing"),
    ],
)
@pytest.mark.usefixtures("no_report")
def test_a_disk_that_refuses_ends_the_run_with_the_file_and_a_remedy(
    spec, tmp_path, monkeypatch, capsys, name, error, remedy
):
    def full(source, target, replace=os.replace):
        if str(target).endswith(name):
            raise OSError(error, os.strerror(error), str(source))
        return replace(source, target)

    root = tmp_path / "out"
    arguments = [spec, "--serial", "--results", root, "--set", "grid.depth=[1]"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        done = ended(arguments, capsys)
    assert_refused(root, done, rf"{name}: {os.strerror(error)}; {remedy}")
    again = ended(arguments, capsys)
    assert again.returncode == 0, again.stderr
    assert statuses(root) == ["finished"] * 2


@pytest.mark.slow
def test_a_disk_that_refuses_a_worker_ends_the_run_with_the_file_and_a_remedy(spec, tmp_path):
    root, name = tmp_path / "out", "weights.safetensors"
    arguments = (spec, "--cpus", "2", "--results", root, "--set", "grid.depth=[1]")
    env = with_code_first(tmp_path, FULL_DISK.format(name=name, error="ENOSPC"))
    done = run_alone(*arguments, env=env)
    assert_refused(root, done, rf"{name}: {os.strerror(errno.ENOSPC)}; make room on its disk")
    again = run_alone(*arguments)
    assert again.returncode == 0, again.stderr
    assert statuses(root) == ["finished"] * 2


def assert_refused(root, done, words):
    assert done.returncode == 1
    assert re.fullmatch(rf"{root}/\S*{words}, and run the same command again\n", done.stderr)
    assert not list(root.rglob("failure.txt"))
    assert not list(root.rglob("*.tmp"))


@pytest.mark.parametrize("home", ["/proc", pytest.param("~", marks=pytest.mark.slow)])
def test_a_run_needs_no_home_and_no_cache(spec, tmp_path, home):
    env = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "USER", "LOGNAME")}
    options = ("--serial", "--set", "grid.depth=[1]", "--set", "grid.seeds=[0]", "--results")
    done = tune_run(spec, *options, tmp_path / "out", env={**env, "HOME": home}, program=ONE_FIGURE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not (tmp_path / "~").exists()
    assert not Path("~").exists()

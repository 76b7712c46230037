"""Output that nobody reads, that cannot be written, or that an encoding cannot hold: never what a run depends on."""

import io
import os
import pty
import subprocess
import sys

import pytest

from hvae_spec import command, output
from hvae_spec.errors import MachineError
from tests.tune.test_run import ONE_FIGURE, SPEC, WITHOUT_REPORT, statuses
from tests.tune.test_run import command as tune_command

SMALL = ("--serial", "--set", "grid.depth=[1]", "--set", "grid.seeds=[0]", "--set", "training.epochs=2")


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC.replace("warm_up: 2}", "warm_up: 0}"))
    return path


def gone_pipe():
    """The end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closed_terminal():
    """A terminal that has been closed."""
    master, slave = pty.openpty()
    os.close(master)
    return slave


@pytest.mark.parametrize(("make", "program"), [(gone_pipe, ONE_FIGURE), (closed_terminal, WITHOUT_REPORT)])
def test_a_run_whose_output_nobody_reads_ends_as_any_other(spec, tmp_path, make, program):
    number = make()
    root = tmp_path / "out"
    arguments = tune_command(spec, *SMALL, "--results", root, program=program)
    done = subprocess.run(arguments, stdout=number, stderr=number, check=False)
    os.close(number)
    assert done.returncode == 0
    assert statuses(root) == ["finished"]
    assert (root / "report.html").exists() == (program is ONE_FIGURE)


def with_stdout(arguments, target):
    """Run a command with its standard output in a file or a descriptor."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], stdout=target, stderr=subprocess.PIPE, text=True, check=False
    )


def test_where_output_is_all_there_is_its_loss_is_the_exit_code():
    number = gone_pipe()
    done = with_stdout(["hvae_spec.json_schema"], number)
    os.close(number)
    assert (done.returncode, done.stderr) == (141, "")
    with open("/dev/full", "w") as full:
        done = with_stdout(["hvae_spec.json_schema"], full)
    assert done.returncode == 1
    assert done.stderr == (
        "standard output: No space left on device; make room on its disk, and run the same command again\n"
    )


def test_a_plan_that_nobody_reads_is_141_and_its_help_is_not(spec):
    for arguments, code in ((["tune.run", spec, "--plan"], 141), (["tune.run", "--help"], 0)):
        number = gone_pipe()
        done = with_stdout(arguments, number)
        os.close(number)
        assert (done.returncode, done.stderr) == (code, "")


def descriptor_of(path):
    with path.open("w") as stream:
        return output.Descriptor(stream.fileno())


def test_what_a_descriptor_cannot_write_is_dropped_and_remembered(tmp_path):
    whole = descriptor_of(tmp_path / "whole")
    assert whole.write(b"text") == 4
    assert whole.error is None
    assert (tmp_path / "whole").read_bytes() == b"text"
    with open("/dev/full", "w") as full:
        broken = output.Descriptor(full.fileno())
    for _ in range(2):
        assert broken.write(b"text") == 4
    assert broken.error is not None
    assert broken.error.strerror == "No space left on device"


def test_characters_that_an_encoding_lacks_become_plain_ones():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", "hvae_spec.plain")
    stream.write("-80.00 ± 0.25, β = 1, −3 × 日")
    stream.flush()
    assert stream.buffer.getvalue() == b"-80.00 +- 0.25, beta = 1, -3 x ?"
    latin = io.TextIOWrapper(io.BytesIO(), "latin-1", "hvae_spec.plain")
    latin.write("± β")
    latin.flush()
    assert latin.buffer.getvalue() == "± beta".encode("latin-1")


def test_streams_that_are_not_the_process_s_own_stay_as_they_are(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with output.unbreakable():
        assert sys.stdout is stream
    assert output.code_of_output() == 0


@pytest.mark.parametrize(("number", "code"), [(32, 141), (5, 141)])
def test_the_code_of_output_that_nobody_reads(monkeypatch, number, code):
    monkeypatch.setattr(output, "fault", lambda: OSError(number, "gone"))
    assert output.code_of_output() == code


def test_the_code_of_output_that_a_disk_refuses(monkeypatch):
    monkeypatch.setattr(output, "fault", lambda: OSError(122, "Disk quota exceeded"))
    with pytest.raises(MachineError, match=r"standard output: Disk quota exceeded; make room in your quota"):
        output.code_of_output()


def test_modules_in_the_working_folder_are_not_taken_for_those_of_a_command(tmp_path, monkeypatch):
    for name in ("seaborn", "html", "colorsys"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")
    code = (
        "import sys; from hvae_spec.command import run_command\n"
        "def run():\n    import colorsys, html, seaborn\n    print(colorsys.__file__)\n    return 0\n"
        "sys.exit(run_command(run))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout


def test_the_path_of_a_command_is_its_caller_s_again_afterwards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before, seen = list(sys.path), []
    assert command.run_command(lambda: seen.extend(sys.path) or 0) == 0
    assert seen == before[1:]
    assert sys.path == before


def test_a_home_in_a_path_is_put_in_and_one_that_is_not_there_is_refused(tmp_path, monkeypatch, spec):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.path_argument("~/grid") == tmp_path / "grid"
    assert str(command.path_argument("a/~b")) == "a/~b"
    done = subprocess.run(
        tune_command(spec, "--plan", "--results=~nosuchuser/x"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no home folder for ~nosuchuser" in done.stderr


def test_names_are_printed_as_they_are(spec, tmp_path):
    spec.write_text(spec.read_text().replace("VAE:", '"[/b] :x: [red]":'))
    done = subprocess.run(
        tune_command(spec, "--plan", *SMALL, "--results", tmp_path / "out"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[/b] :x: [red]" in done.stdout
    assert done.stderr == ""


def test_what_is_said_on_standard_error_is_said_at_once():
    code = (
        "import os, sys; from hvae_spec.output import unbreakable\n"
        "with unbreakable():\n    sys.stderr.write('a line\\n')\n    os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "a line\n"

"""`hvae COMMAND`, and what every command does with errors."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from hvae_spec import command
from hvae_spec.errors import DataError, MachineError
from tune import hvae, options, simulation
from tune.bench import __main__ as bench

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command(capsys):
    assert hvae.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in ("run", "plan", "report", "bench", "data", "schema", "simulate"))
    assert hvae.main([]) == 2


def test_an_unknown_command_is_one_message(capsys):
    assert hvae.main(["benhc", "specs/quickstart.yaml"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "no command 'benhc'" in err
    assert "did you mean bench?" in err


@pytest.mark.parametrize("name", hvae.COMMANDS)
def test_every_command_describes_itself_by_the_name_it_was_called_by(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        hvae.main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: hvae {name} ")


def test_the_commands_are_those_of_the_modules(capsys, tmp_path):
    assert hvae.main(["plan", "specs/quickstart.yaml", "--results", str(tmp_path / "out")]) == 0
    assert "to run." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert hvae.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((ROOT / "specs" / "spec.schema.json").read_text())
    assert hvae.main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no such results folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plan", "bench", "simulate"])
def test_overrides_and_profiles_mean_the_same_to_every_command(name, capsys):
    for change, words in (("--set=model.depht=3", "depht"), ("--profile=fast", "the spec has no profile 'fast'")):
        assert hvae.main([name, "specs/mnist_grid.yaml", change]) == 2
        assert words in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from tune.hvae import main; main(['--help']);"
        "print([name for name in ('torch', 'ray', 'numpy', 'pandas', 'pydantic', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def refuse(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.npy: damaged"), 2, "a.npy: damaged\n"),
        (MachineError("out: cannot be written"), 1, "out: cannot be written\n"),
        (
            OSError(28, "No space left on device", "out/a"),
            1,
            "out/a: No space left on device; make room on its disk, and run the same command again\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_becomes_one_message_and_the_exit_code_of_its_kind(capsys, error, code, message):
    assert command.run_command(refuse(error)) == code
    assert capsys.readouterr().err == message
    assert command.run_command(lambda: 3) == 3


def test_an_error_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command.run_command(refuse(ZeroDivisionError()))


@pytest.mark.parametrize("name", ["analysis.py", "analysis/__init__.py"])
def test_a_module_that_hides_ours_is_named_before_anything_runs(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('not ours')")
    arguments = [sys.executable, "-m", "tune.run", str(ROOT / "specs" / "quickstart.yaml"), "--serial"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "hides the package 'analysis' of hvae-spec; rename it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_cpus_is_the_name_everywhere_and_older_names_mean_the_same():
    for command_, older in ((bench, "--threads"), (simulation, "--workers")):
        assert command_.parse(["a.yaml", "--cpus", "3"], "x") == command_.parse(["a.yaml", older, "3"], "x")
    assert options.parse(["a.yaml", "--cpus", "3"], "x").cpus == 3


def test_options_are_not_rewritten_once_they_are_parsed():
    for given in (options.parse(["a"], "x"), bench.parse(["a"], "x"), simulation.parse(["a"], "x")):
        with pytest.raises(FrozenInstanceError):
            given.device = "cuda"

"""A grid that is run from Python: what the command does, with errors that are raised and frames that are returned."""

import os
import re
import signal
import threading
from pathlib import Path
from unittest import mock

import filelock
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

import hvae_spec
from hvae_spec import pack
from hvae_spec.errors import DataError, MachineError, SpecError, UserError
from hvae_spec.records.layout import Results
from hvae_spec.training.trainer import Trainer
from tests.tune.test_run import checkpoints, contents
from tune import run as tune_run
from tune.options import OF_A_CALL, RunOptions, parse, parse_call

SPEC = """
name: tiny
data: {dataset: digits, train_images: 128, test_images: 10}
model: {layers: [{units: 3, mlp: [6]}], inference: vae}
training: {epochs: 4, batch_size: 64}
evaluation: {iw_samples: 5}
grid: {variants: {VAE: {}, VAE+BN: {model.batch_norm: true}}}
profiles: {quick: {training.epochs: 2}}
"""
ONE = {"serial": True, "device": "cpu", "cpus": 1}


@pytest.fixture(autouse=True)
def _no_report():
    """A report takes seconds, and is tested elsewhere."""
    written = mock.Mock(answer=(), table="", footnotes=[], files=[], verdicts=None)
    with mock.patch("analysis.report.write", return_value=written):
        yield


def test_a_call_does_what_the_command_does_and_returns_the_frames(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    frames = tune_run.grid(SPEC, set={"training.epochs": 3}, **ONE)
    assert torch.get_num_threads() == 2  # the pack had one: the caller's own computations go on with theirs
    torch.set_num_threads(threads)
    assert frames.name == "tiny"
    assert frames.members.status.tolist() == ["finished", "finished"]
    assert frames.members.epochs.tolist() == [3, 3]
    assert "2 of 2 members finished." in capsys.readouterr().out
    command = ["tiny.yaml", "--serial", "--device", "cpu", "--cpus", "1", "--results", "command"]
    assert tune_run.main([*command, "--set", "training.epochs=3"]) == 0
    assert contents(Path("command")) == contents(Path("results/tiny"))
    (segment,) = Results(Path("results/tiny")).records[0].training.segments
    given = ["tune.run.grid", "--set=training.epochs=3", "--serial", "--device=cpu", "--cpus=1", "<text>"]
    assert segment.command == given
    # Nothing is done twice, whichever way the same grid is given.
    done = contents(Path("results/tiny"))
    capsys.readouterr()
    for spec in ("tiny.yaml", tmp_path / "tiny.yaml", hvae_spec.load("tiny.yaml"), SPEC):
        again = tune_run.grid(spec, "results/tiny", set={"training.epochs": np.int64(3)}, **ONE)
        assert "Nothing is left to run." in capsys.readouterr().out
        assert again.members.equals(frames.members)
    assert contents(Path("results/tiny")) == done


def test_a_profile_comes_before_what_is_set(tmp_path):
    options = {**ONE, "profile": "quick"}
    for spec in (SPEC, hvae_spec.loads(SPEC)):
        frames = tune_run.grid(spec, tmp_path, set={"grid.variants": {"VAE": {}}}, **options)
        assert frames.name == "tiny-quick"
        assert frames.members.epochs.tolist() == [2]


def test_members_that_diverge_are_in_the_frames(tmp_path):
    set_ = {"training.optimizer.adam.lr": 1e30, "grid.variants": {"VAE": {}}}
    assert tune_run.grid(SPEC, tmp_path, set=set_, **ONE).members.status.tolist() == ["diverged"]


@pytest.mark.parametrize(
    ("spec", "options", "kind", "words"),
    [
        ("nowhere.yaml", {}, SpecError, "nowhere.yaml:1:1: no such file"),
        (SPEC, {"set": {"training.epocs": 3}}, SpecError, "did you mean"),
        (SPEC, {"set": {"training.epochs": "zwei"}}, SpecError, "expected a whole number"),
        (SPEC, {"set": {"training.epochs": 3 + 2j}}, UserError, "training.epochs: a value of type complex"),
        (SPEC, {"profile": "fast"}, SpecError, "the spec has no profile 'fast'"),
        ("{name: tiny, base: a.yaml}", {}, SpecError, "`base` works in a file only"),
        ("{name: tiny", {}, SpecError, "<text>:1:1: not readable as YAML"),
        (SPEC, {"seriell": True}, UserError, "seriell: no option of a run; expected one of serial, device,"),
        (SPEC, {"seriell": True}, UserError, "did you mean serial?"),
        (SPEC, {"plan": True}, UserError, "plan: no option of a run"),
        (SPEC, {"serial": "yes"}, UserError, "serial 'yes': expected True or False"),
        (SPEC, {"cpus": 0}, UserError, "--cpus: expected a whole number greater than 0, not '0'"),
        (SPEC, {"cpus": True}, UserError, "--cpus: expected a whole number greater than 0, not 'yes'"),
        (SPEC, {"compile": "sometimes"}, UserError, "invalid choice: 'sometimes'"),
        (SPEC, {"device": "tpu"}, UserError, "--device tpu"),
        (SPEC, {"results": __file__}, UserError, "cannot be used as a results folder"),
        (SPEC.replace("digits", "own, own: {name: a, file: a.npz}"), {}, SpecError, "a.npz"),
    ],
)
def test_what_ends_the_command_with_2_is_raised(tmp_path, monkeypatch, spec, options, kind, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        tune_run.grid(spec, **{"serial": True, **options})
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_images_that_are_not_those_of_the_folder_are_an_error_of_data(tmp_path):
    np.savez(tmp_path / "a.npz", train=np.zeros((80, 9), np.uint8), test=np.zeros((20, 9), np.uint8))
    spec = f"""
name: mine
data: {{dataset: own, own: {{name: mine, file: {tmp_path}/a.npz, range: [0, 1], shape: [3, 3]}}}}
model: {{layers: [{{units: 2, mlp: [4]}}]}}
training: {{epochs: 1, batch_size: 40}}
evaluation: {{iw_samples: 2}}
"""
    tune_run.grid(spec, tmp_path / "out", **ONE)
    np.savez(tmp_path / "a.npz", train=np.ones((80, 9), np.uint8), test=np.zeros((20, 9), np.uint8))
    with pytest.raises(DataError, match="the training images are not those that"):
        tune_run.grid(spec, tmp_path / "out", set={"grid.seeds": [0, 1]}, **ONE)


def test_a_members_folder_is_no_grid(tmp_path):
    folder = hvae_spec.compile(hvae_spec.loads(SPEC.replace("grid:", "#"))).save(tmp_path / "m")
    with pytest.raises(UserError, match=r"a member's folder, not a grid; hvae_spec\.load_record loads it"):
        tune_run.grid(folder)


def test_a_folder_in_which_another_run_is_at_work_is_refused(tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another run is at work in this folder"):
        tune_run.grid(SPEC, tmp_path, **ONE)


def test_a_disk_that_refuses_is_a_machine_error(tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith("grid.json"):
            raise OSError(28, "No space left on device", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MachineError, match=r"grid\.json: No space left on device; make room on its disk"):
        tune_run.grid(SPEC, tmp_path, **ONE)


def test_an_interrupted_call_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pack, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(pack, "CHECKPOINT_SHARE", 1e9)
    tune_run.grid(SPEC, tmp_path / "whole", **ONE)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    train_epoch = Trainer.train_epoch

    def press(self):
        if self.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", press)
        with pytest.raises(KeyboardInterrupt):
            tune_run.grid(SPEC, tmp_path / "parts", **ONE)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert len(checkpoints(tmp_path / "parts")) == 1
    capsys.readouterr()
    frames = tune_run.grid(SPEC, tmp_path / "parts", **ONE)
    assert frames.members.status.tolist() == ["finished", "finished"]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_call_in_another_thread_runs(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(tune_run.grid(SPEC, tmp_path, profile="quick", **ONE)))
    thread.start()
    thread.join()
    assert found[0].members.status.tolist() == ["finished", "finished"]


def test_every_option_of_the_command_is_one_of_a_call_or_has_another_place_in_it():
    elsewhere = {"spec", "overrides", "profile", "results", "plan", "print_spec", "command"}
    assert {*OF_A_CALL, *elsewhere} == set(RunOptions.__annotations__)
    assert not elsewhere & set(OF_A_CALL)
    given = {
        **{"serial": True, "device": "cpu", "records": ["a", "b"], "address": "auto", "cpus": 3, "pack_size": 2},
        **{"packs_per_gpu": 1, "compile": "never", "measure": True, "retrain": True, "skip_missing_data": True},
    }
    words = "--serial --device cpu --records a --records b --address auto --cpus 3 --pack-size 2 --packs-per-gpu 1"
    more = "--compile never --measure --retrain --skip-missing-data --keep-optimizer no --results r --profile p"
    expected = vars(parse(["--set", "x.y=[1, null]", "--set", "z=a", *words.split(), *more.split(), "s"], ""))
    found = vars(parse_call("s", "r", {"x.y": [1, None], "z": "a"}, "p", {**given, "keep_optimizer": False}))
    assert found | {"command": ()} == expected | {"command": ()}
    assert vars(parse_call("s", given=dict.fromkeys(OF_A_CALL))) | {"command": ()} == vars(parse(["s"], "")) | {
        "command": ()
    }


CELL = """
import tune.run
frames = tune.run.grid("tiny.yaml", "ray", cpus=2, pack_size=1)
frames.members.status.tolist()
"""


@pytest.mark.slow
# The kernel's client leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")
def test_a_notebook_runs_a_grid_on_ray_as_without_it_and_shows_how_it_goes(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SPEC)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output["data"]["text/plain"] for output in notebook.cells[0].outputs]  # nothing on standard error
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(shown))
    assert text.endswith("\n['finished', 'finished']")
    for words in ("Running 2 members in 2 packs", "digits L1 VAE+BN x 1: finished", "2 of 2 members finished."):
        assert words in text
    tune_run.grid(SPEC, tmp_path / "serial", pack_size=1, **ONE)
    assert contents(tmp_path / "ray") == contents(tmp_path / "serial")

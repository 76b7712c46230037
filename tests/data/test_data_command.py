"""`python -m hvae_spec.data`."""

import hashlib
import subprocess
import sys

import pytest

from hvae_spec.data import registry
from hvae_spec.data.__main__ import main
from hvae_spec.data.cache import Source
from hvae_spec.errors import MachineError
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.data import published_counts
from tests.data.formats import characters, write_mat, write_mnist


def rows(text):
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_the_list_tells_what_is_here_where_and_whether_it_is_genuine(data_dir, capsys):
    write_mnist(data_dir, ".gz")
    (data_dir / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    write_mat(data_dir / "omniglot" / "chardata.mat", **characters()[0])
    assert main([]) == 0
    found = rows(capsys.readouterr().out)
    assert found["mnist"][1:5] == ["3", "of", "4", "files"]
    size = (data_dir / "omniglot" / "chardata.mat").stat().st_size / 1e6
    assert found["omniglot"][1:8] == ["yes", f"{size:.1f}", "MB", "no", "784", "12", "5"]
    assert found["digits"][1:3] == ["yes", "yes"]
    assert found["norb"][1] == "no"
    assert found["frey"][1] == "no"


def test_the_list_knows_the_genuine_file_and_the_damaged_one(data_dir, capsys, monkeypatch):
    path = data_dir / "omniglot" / "chardata.mat"
    write_mat(path, **characters()[0])
    digest = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    monkeypatch.setitem(registry.SOURCES, "omniglot", (Source("omniglot", "chardata.mat", (), digest),))
    write_mnist(data_dir, ".gz")
    broken = data_dir / "mnist" / "train-labels-idx1-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:-5])
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert rows(out)["omniglot"][4] == "yes"
    assert rows(out)["mnist"][4] == "damaged:"


def test_the_list_tells_what_is_known_of_a_data_set_without_files(data_dir, capsys, joined):
    assert main([]) == 0
    found = rows(capsys.readouterr().out)[joined]
    assert found == [joined, "unknown", "9", "100", "20", "its", "files", "are", "not", "registered"]
    assert main(["fetch", joined]) == 2
    assert "joined: cannot be downloaded, as its files are not registered" in capsys.readouterr().err


@pytest.mark.parametrize("name", published_counts())
def test_a_published_data_set_has_files_or_comes_with_a_package(name):
    assert bool(registry.SOURCES.get(name)) != (DATASETS[name].comes_with is not None)


def test_the_list_does_not_call_a_file_damaged_that_may_not_be_read(data_dir, capsys, monkeypatch):
    def refuse(path, source):
        raise MachineError(f"{path}: cannot be read (Permission denied)")

    write_mat(data_dir / "omniglot" / "chardata.mat", **characters()[0])
    monkeypatch.setattr("hvae_spec.data.__main__.is_canonical", refuse)
    assert main([]) == 0
    assert rows(capsys.readouterr().out)["omniglot"][4] == "unknown:"


def test_fetch_names_what_is_here_and_fails_with_one_message(data_dir, capsys):
    write_mat(data_dir / "omniglot" / "chardata.mat", **characters()[0])
    assert main(["fetch", "omniglot"]) == 0
    told = capsys.readouterr().out.strip()
    assert told == f"{data_dir / 'omniglot' / 'chardata.mat'} (not the file that its distributor published)"
    assert main(["fetch", "digits"]) == 0
    capsys.readouterr()
    assert main(["fetch", "norb"]) == 2
    assert "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz is missing" in capsys.readouterr().err
    assert main(["fetch", "minst"]) == 2
    assert "expected one of mnist, mnist_static, omniglot, norb, frey" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["fetch", "nothing"], 2), (["fetch"], 2)])
def test_the_command_exits_as_it_should(data_dir, arguments, code):
    done = subprocess.run(
        [sys.executable, "-m", "hvae_spec.data", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr

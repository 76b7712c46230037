"""A caller knows by its type what an error is about, and a command by the same type what to exit with."""

import builtins
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import hvae_spec
from analysis.reader import read
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.counts import image_counts, stated_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.formats import compressed, folder, matlab, numpy_file
from hvae_spec.data.own import find_own
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import (
    CheckpointError,
    DataError,
    MachineError,
    RecordError,
    SpecError,
    UserError,
    as_machine_error,
)
from hvae_spec.records.arrays import load_arrays, save_arrays
from hvae_spec.records.gallery_file import load_gallery
from hvae_spec.records.json_file import read_file
from hvae_spec.records.layout import GALLERY, Record
from hvae_spec.records.plan import GridFile
from hvae_spec.spec.data import DataSpec
from hvae_spec.spec.yaml import read_text


def own(path):
    return DataSpec.model_validate({"dataset": "own", "own": {"name": "mine", "file": str(path), "range": [0, 1]}})


def test_bad_input_exits_with_2_and_a_machine_that_fails_with_1():
    codes = {error: error.exit_code for error in (UserError, SpecError, DataError, RecordError, CheckpointError)}
    assert set(codes.values()) == {2}
    assert MachineError.exit_code == 1
    assert all(issubclass(error, UserError) for error in (*codes, MachineError))
    assert not issubclass(MachineError, SpecError | DataError | RecordError)


def test_every_kind_is_public():
    for kind in (UserError, SpecError, DataError, RecordError, CheckpointError, MachineError):
        assert getattr(hvae_spec, kind.__name__) is kind


def test_a_bad_spec_is_a_spec_error(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        hvae_spec.load(tmp_path / "a.yaml")


@pytest.mark.parametrize("use", [image_counts, load_dataset])
def test_missing_and_damaged_images_are_data_errors(tmp_path, use):
    with pytest.raises(DataError, match="no such file"):
        use(own(tmp_path / "a.npy"))
    (tmp_path / "a.npy").write_bytes(b"no numbers")
    with pytest.raises(DataError, match=r"not a \.npy file"):
        use(own(tmp_path / "a.npy"))


def test_a_folder_that_is_no_record_is_a_record_error(tmp_path):
    with pytest.raises(RecordError, match="no record there") as caught:
        hvae_spec.load_record(tmp_path)
    assert not isinstance(caught.value, CheckpointError)


def test_weights_that_are_none_are_a_checkpoint_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match=r"no such file; delete .* to have the member trained again"):
        load_arrays(path)
    path.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="not arrays that can be read"):
        load_arrays(path)
    sha256 = save_arrays(path, {"w": np.ones(2)})
    np.testing.assert_array_equal(load_arrays(path, sha256)["w"], np.ones(2))
    with pytest.raises(CheckpointError, match="its SHA-256 is not the one in the record"):
        load_arrays(path, "0" * 64)


def test_what_the_system_refuses_is_a_machine_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "images").mkdir()
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        image_counts(own(tmp_path / "images"))


def uncompressed(path):
    with compressed.opened(path) as stream:
        stream.read(1)


READERS = {
    "train-images-idx3-ubyte.gz": uncompressed,
    "train-images-idx3-ubyte": uncompressed,
    "t10k-labels-idx1-ubyte.gz": lambda path: is_canonical(path, SOURCES["mnist"][3]),
    "chardata.mat": lambda path: matlab.arrays(path, "data"),
    "a.npy": numpy_file.read,
    "b.npy": numpy_file.shapes,
    "a.npz": numpy_file.read,
    "c.npy": lambda path: image_counts(own(path)),
    "d.npy": lambda path: load_dataset(own(path)),
    "a.png": lambda path: folder.read(path.parent),
    "b.png": lambda path: folder.header(path.parent),
    "a.yaml": read_text,
    "weights.safetensors": load_arrays,
    GALLERY: lambda path: load_gallery(path.parent),
    "grid.json": lambda path: read_file(path, GridFile, "delete it"),
    "spec.yaml": lambda path: Record(path.parent).spec,
}


def deny(monkeypatch, denied, *places):
    """Have the system refuse one path to these functions."""

    def refusing(real):
        def use(path, *arguments, **options):
            if isinstance(path, str | Path) and Path(path) == denied:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return use

    for module, name in places:
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_may_not_be_read_is_a_machine_error(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"as it should be")
    deny(monkeypatch, path, (builtins, "open"), (io, "open"))
    with pytest.raises(MachineError) as caught:
        READERS[name](path)
    remedy = "give yourself permission to read it, and to enter its folder"
    assert str(caught.value) == f"{path}: cannot be read (Permission denied); {remedy}"


@pytest.mark.parametrize("use", [find_own, lambda path: stated_counts(own(path)), lambda path: read(Path(path))])
def test_what_may_not_be_seen_is_not_said_to_be_missing(tmp_path, monkeypatch, use):
    path = tmp_path / "images"
    path.mkdir()
    deny(monkeypatch, path, (os, "stat"))
    with pytest.raises(MachineError, match="cannot be read") as caught:
        use(str(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_an_error_of_the_system_is_the_machines_unless_the_input_is_to_blame(tmp_path):
    for error, said in (
        (PermissionError("no"), "Permission denied); give yourself permission"),
        (OSError(5, "Input/output error"), "Input/output error); see to the disk"),
        (OSError(28, "No space left on device"), "No space left on device); make room"),
        (OSError(24, "Too many open files"), "Too many open files); raise the limit"),
    ):
        assert f"a.gz: cannot be read ({said}" in str(as_machine_error("a.gz", error))
    for number in (2, 20, 21, 22, 36, 40):
        assert as_machine_error("a.gz", OSError(number, os.strerror(number))) is None
    for error in (gzip.BadGzipFile("no"), UnidentifiedImageError("no"), EOFError(), ValueError(), OSError("cut off")):
        assert as_machine_error("a.gz", error) is None


def test_damaged_files_are_still_the_inputs_fault(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"not compressed")
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(DataError, match="damaged or incomplete"):
        uncompressed(tmp_path / "a.gz")
    with pytest.raises(DataError, match="not an image, or damaged"):
        folder.read(tmp_path)
    with pytest.raises(SpecError, match="a folder, not a file"):
        read_text(tmp_path)

"""A caller knows by its type what an error is about, and a command by the same type what to exit with."""

import numpy as np
import pytest

import hvae_spec
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import CheckpointError, DataError, MachineError, RecordError, SpecError, UserError
from hvae_spec.records.arrays import load_arrays, save_arrays
from hvae_spec.spec.data import DataSpec


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
    with pytest.raises(CheckpointError, match="no such file; the member has not finished, or it diverged"):
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

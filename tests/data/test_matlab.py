"""The reader of MATLAB files against SciPy's, and what it refuses."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from hvae_spec.data.formats import matlab
from hvae_spec.data.formats.matlab import arrays, shapes
from hvae_spec.errors import DataError

RNG = np.random.default_rng(0)
MATRICES = {
    **{
        kind: (100 * RNG.random((3, 5))).astype(kind)
        for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    },
    "one": np.array([[7.0]]),
    "row": np.arange(4, dtype=np.int16).reshape(1, 4),
    "empty": np.zeros((0, 3)),
}
OTHERS = {
    "text": "some text",
    "cell": np.array([[{"a": 1}]], dtype=object),
    "sparse": scipy.sparse.csc_array(np.eye(3)),
}


def file(folder, matrices, **options):
    scipy.io.savemat(folder / "a.mat", matrices, **options)
    return folder / "a.mat"


@pytest.mark.parametrize("is_compressed", [False, True])
def test_matrices_of_every_type_are_those_that_scipy_reads(tmp_path, is_compressed):
    path = file(tmp_path, OTHERS | MATRICES, do_compression=is_compressed)
    found, expected = arrays(path, *MATRICES), scipy.io.loadmat(path)
    assert shapes(path, *MATRICES) == {name: matrix.shape for name, matrix in MATRICES.items()}
    for name in MATRICES:
        assert found[name].dtype == expected[name].dtype
        assert np.array_equal(found[name], expected[name])


def test_the_other_order_of_bytes_is_read(tmp_path):
    """A matrix of 2 x 1 doubles, 1 and 2, one of them stored as a short element."""
    name = struct.pack(">HH4s", 1, 1, b"x\0\0\0")
    flags = struct.pack(">IIII", 6, 8, 6, 0)
    body = flags + struct.pack(">IIii", 5, 8, 2, 1) + name + struct.pack(">IIdd", 9, 16, 1, 2)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(header + struct.pack(">II", 14, len(body)) + body)
    assert arrays(tmp_path / "a.mat", "x")["x"].tolist() == [[1], [2]]
    assert np.array_equal(scipy.io.loadmat(tmp_path / "a.mat")["x"], [[1], [2]])


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path, name):
    path = file(tmp_path, OTHERS)
    with pytest.raises(DataError, match=f"a.mat: {name!r} is no dense matrix of real numbers"):
        arrays(path, name)


@pytest.mark.parametrize(("tag", "other"), [((6, 8), 9), ((5, 8), 1), ((5, 8), 6)])
def test_what_a_matrix_states_in_elements_of_another_type_is_damage(tmp_path, tag, other):
    path = file(tmp_path, {"ff": np.zeros((560, 4), np.uint8)})
    content, kind = path.read_bytes(), struct.pack("<II", *tag)
    assert content.count(kind) == 1
    path.write_bytes(content.replace(kind, struct.pack("<II", other, 8)))
    with pytest.raises(DataError, match=f"an element has the type {other} and promises 8 bytes"):
        shapes(path, "ff")


def test_complex_numbers_and_more_dimensions_are_refused(tmp_path):
    path = file(tmp_path, {"z": np.ones((2, 2)) * 1j, "cube": np.zeros((2, 2, 2))})
    with pytest.raises(DataError, match="'z' is no dense matrix of real numbers"):
        arrays(path, "z")
    with pytest.raises(DataError, match="'cube' is no matrix"):
        arrays(path, "cube")


VERSIONS = [
    (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(384) + b"\x89HDF\r\n\x1a\n",
        "7.3 (HDF5)",
    ),
    (b"\x89HDF\r\n\x1a\n" + bytes(500), "7.3 (HDF5)"),
    (struct.pack("<5i", 0, 2, 1, 0, 3) + b"ff\0" + bytes(16), "4"),
    (struct.pack(">5i", 1000, 2, 1, 0, 3) + b"ff\0" + bytes(16), "4"),
]


@pytest.mark.parametrize(("content", "version"), VERSIONS)
def test_other_versions_are_named_with_how_to_save_them(tmp_path, content, version):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError) as caught:
        arrays(tmp_path / "a.mat", "ff")
    assert f"a MATLAB file of version {version}, not 5 to 7; save it in MATLAB with `save -v7`" in str(caught.value)
    assert "delete" not in str(caught.value)


def test_scipy_itself_writes_such_a_file_of_version_4(tmp_path):
    path = file(tmp_path, {"ff": np.ones((560, 3))}, format="4")
    with pytest.raises(DataError, match="a MATLAB file of version 4"):
        arrays(path, "ff")


def test_no_more_is_unfolded_than_a_matrix_may_have(tmp_path):
    """Neither the promise of 30 GiB nor 3 GB of compressed zeros are taken for anything but damage."""
    path = file(tmp_path, {"ff": np.zeros((560, 4), np.uint8)})
    content = path.read_bytes()
    many = content.replace(struct.pack("<ii", 560, 4), struct.pack("<ii", 560, 5_000_000))
    path.write_bytes(many)
    with pytest.raises(DataError, match="a matrix of 560 x 5000000 numbers promises 2,240 bytes of them"):
        shapes(path, "ff")
    many = many.replace(struct.pack("<II", 2, 2240), struct.pack("<II", 2, 560 * 5_000_000 % 2**32))
    element = zlib.compress(many[128:])
    path.write_bytes(content[:128] + struct.pack("<II", 15, len(element)) + element)
    with pytest.raises(DataError, match="a matrix promises 2,800,000,000 bytes, more than any published file has"):
        shapes(path, "ff")


def test_two_matrices_of_one_name_are_refused(tmp_path):
    path = file(tmp_path, {"x": np.eye(2)}, do_compression=True)
    path.write_bytes(path.read_bytes() + path.read_bytes()[128:])
    for use in (shapes, arrays):
        with pytest.raises(DataError, match="it has more than one matrix 'x'"):
            use(path, "x")


def test_all_matrices_together_have_no_more_bytes_than_one_may(tmp_path, monkeypatch):
    path = file(tmp_path, {"x": np.eye(2), "y": np.eye(2)})
    monkeypatch.setattr(matlab, "LARGEST_PUBLISHED", 63)
    assert arrays(path, "x")["x"].tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match="its matrices promise 64 bytes, more than any published file has"):
        arrays(path, "x", "y")


def test_a_damaged_byte_of_compressed_numbers_is_noticed_by_their_checksum(tmp_path):
    path = file(tmp_path, {"ff": RNG.integers(0, 256, (560, 20)).astype(np.uint8)}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a MATLAB file, or incomplete"):
        arrays(path, "ff")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "names"),
    [("omniglot/chardata.mat", ("data", "testdata", "target", "testtarget")), ("freyfaces/frey_rawface.mat", ("ff",))],
)
def test_real_files_are_read_as_scipy_reads_them(path, names):
    file = Path(os.environ["HVAE_DATA_DIR"], path)
    if not file.is_file():
        pytest.skip(f"needs {path} in HVAE_DATA_DIR")
    found, expected = arrays(file, *names), scipy.io.loadmat(file, variable_names=names)
    assert all(np.array_equal(found[name], expected[name]) for name in names)

"""What a plan knows of images that nobody has read."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.caveats import limits
from hvae_spec.data.counts import image_counts
from hvae_spec.errors import SpecError
from hvae_spec.reading import loads
from hvae_spec.spec.choices.dataset import DATASETS
from hvae_spec.spec.data import DataSpec, published_counts
from tests.data.formats import characters, write_mat, write_mnist, write_norb


def counts(name):
    return image_counts(DataSpec(dataset=name))


@pytest.mark.parametrize("name", published_counts())
def test_without_files_the_published_sizes_hold(data_dir, name):
    assert counts(name) == published_counts()[name]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_counts_follow_the_files_as_they_come_and_change(data_dir, suffix):
    assert counts("norb")[1:] == (24_300, 24_300)
    write_norb(data_dir, suffix, train=3, test=2)
    assert counts("norb") == (1024, 3, 2)
    write_norb(data_dir, suffix, train=4, test=2)
    assert counts("norb") == (1024, 4, 2)
    write_mnist(data_dir, suffix, train=7, test=3)
    assert counts("mnist") == (784, 7, 3)
    write_mat(data_dir / "omniglot" / "chardata.mat", **characters(9, 4)[0])
    assert counts("omniglot") == (784, 9, 4)
    write_mat(data_dir / "omniglot" / "chardata.mat", **characters(10, 4)[0])
    assert counts("omniglot") == (784, 10, 4)
    write_mat(data_dir / "freyfaces" / "frey_rawface.mat", ff=np.zeros((560, 11), np.uint8))
    assert counts("frey") == (560, 8, 3)
    assert image_counts(DataSpec(dataset="frey", train_images=5, test_images=50)) == (560, 5, 3)


def test_a_file_alone_is_not_enough(data_dir):
    write_mnist(data_dir)
    (data_dir / "mnist" / "t10k-images-idx3-ubyte").unlink()
    assert counts("mnist") == published_counts()["mnist"]


def test_damaged_headers_leave_the_published_sizes(data_dir):
    write_norb(data_dir)
    for path in (data_dir / "norb").iterdir():
        path.write_bytes(b"")
    assert counts("norb") == published_counts()["norb"]


def test_counting_the_images_of_idx_and_norb_files_imports_nothing_heavy(data_dir):
    write_mnist(data_dir)
    write_norb(data_dir, ".gz")
    code = (
        "import sys; from hvae_spec.data.counts import image_counts; from hvae_spec.spec.data import DataSpec;"
        "print([tuple(image_counts(DataSpec(dataset=name))) for name in ('mnist', 'norb', 'digits')],"
        "[name for name in ('numpy', 'scipy', 'torch', 'PIL', 'pooch', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(784, 60, 20), (1024, 10, 5), (64, 1437, 360)] []"


def test_a_published_set_without_images_is_refused_at_reading(data_dir):
    write_mnist(data_dir, test=0)
    text = "name: a\ndata: {dataset: mnist}\nmodel: {layers: [{units: 2, mlp: [4]}]}\ntraining: {epochs: 1}\n"
    with pytest.raises(SpecError, match=r"mnist has no test images \(60 training and 0 test images\)") as caught:
        loads(text)
    (problem,) = caught.value.problems
    assert (problem.place.line, problem.place.column) == (2, 17)


def test_a_data_set_that_joins_has_published_sizes(joined):
    assert published_counts()[joined] == counts(joined) == (9, 100, 20)
    members = pd.DataFrame({"dataset": [joined], "train_images": [50], "test_images": [20]})
    assert list(limits(members)) == ["50 of 100 training images"]


def test_the_users_own_images_have_no_published_sizes():
    assert set(DATASETS) - set(published_counts()) == {"own"}

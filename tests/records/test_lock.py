"""What a run leaves in a results folder that it was refused in."""

import pytest

from hvae_spec.errors import UserError
from hvae_spec.records.lock import locked


def refused(root, *files):
    """A run that writes these files, and is refused."""

    def run():
        with locked(root):
            assert (root / ".lock").exists()
            for file in files:
                (root / file).parent.mkdir(exist_ok=True)
                (root / file).touch()
            raise UserError("a data set is missing")

    with pytest.raises(UserError, match="a data set is missing"):
        run()


def test_a_run_that_is_refused_leaves_no_folder_that_it_made(tmp_path):
    refused(tmp_path / "results" / "grid", "source/one.diff")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_and_so_does_what_others_put_into_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    refused(tmp_path, "source/one.diff", "meanwhile.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "meanwhile.txt"}
    refused(tmp_path / "new", "meanwhile.txt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["meanwhile.txt"]


@pytest.mark.parametrize("begun", ["grid.json", "members"])
def test_where_a_run_has_begun_all_stays(tmp_path, begun):
    (tmp_path / begun).mkdir()
    refused(tmp_path, "source/one.diff")
    assert {path.name for path in tmp_path.iterdir()} == {begun, ".lock", "source"}

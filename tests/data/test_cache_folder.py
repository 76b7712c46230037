"""The per-user cache, which there need not be."""

import os

import pytest

from hvae_spec.data.cache import Source, download, locate, search_folders, user_cache
from hvae_spec.errors import DataError, MachineError
from tune.measure import cache as measurements

SOURCE = Source("mnist", "images.gz", ("https://example.org/images.gz",), "sha256:00")


def without_home(name):
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("found", [without_home, lambda name: "~/.cache/hvae_spec"])
def test_without_a_home_there_is_no_cache_and_only_a_named_folder_is_searched(tmp_path, monkeypatch, found):
    monkeypatch.setattr("platformdirs.user_cache_dir", found)
    monkeypatch.delenv("HVAE_DATA_DIR", raising=False)
    assert user_cache() is None
    assert search_folders() == []
    assert measurements.cache_path() is None
    with pytest.raises(DataError, match=r"mnist: images.gz is missing.* set HVAE_DATA_DIR to the folder"):
        locate(SOURCE)
    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path))
    assert search_folders() == [tmp_path]


def test_a_home_that_does_not_exist_in_the_name_of_the_data_folder_is_no_error(monkeypatch):
    monkeypatch.setenv("HVAE_DATA_DIR", "~nosuchuser/data")
    assert str(search_folders()[0]) == "~nosuchuser/data"
    monkeypatch.setenv("HVAE_DATA_DIR", "~/data")
    assert str(search_folders()[0]) == os.path.expanduser("~/data")


@pytest.mark.parametrize(("number", "remedy"), [(28, "make room on its disk"), (30, "have its disk mounted")])
def test_a_folder_that_a_download_cannot_be_written_into_is_named(tmp_path, monkeypatch, number, remedy):
    import pooch

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number), str(tmp_path / "images.gz"))

    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(MachineError, match=rf"images.gz cannot be downloaded \({tmp_path}/images.gz: .*{remedy}"):
        download(SOURCE, tmp_path)

import pytest

from hvae_spec import registry
from hvae_spec.spec.choices.dataset import DATASETS, Dataset, ImageCounts


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """An empty HVAE_DATA_DIR, an empty cache, and no network."""
    import requests

    def get(url, **_):
        raise requests.ConnectionError("no route")

    monkeypatch.setenv("HVAE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "get", get)
    return tmp_path


@pytest.fixture
def joined():
    """The name of a data set that has just joined, which neither comes with a package nor has registered files."""
    DATASETS.add("joined", Dataset(ImageCounts(9, 100, 20)))
    yield "joined"
    del DATASETS._items["joined"]
    for forget in registry._FORGET:
        forget()

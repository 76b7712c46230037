import pytest


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

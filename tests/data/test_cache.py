import hashlib

import numpy as np
import pytest
import requests

from hvae_spec.data import cache
from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.spec.data import DataSpec
from tests.data.formats import idx


class Response:
    """What requests gives pooch."""

    def __init__(self, content):
        self.content, self.headers = content, {"content-length": str(len(content))}

    def raise_for_status(self):
        pass

    def iter_content(self, chunk_size):
        yield self.content

    def close(self):
        pass


def test_downloads_are_checked_and_fall_back_to_the_next_mirror(data_dir, monkeypatch):
    good = idx(np.arange(10, dtype=np.uint8))
    source = cache.Source(
        "mnist", "file", ("https://a/file", "https://b/file"), f"sha256:{hashlib.sha256(good).hexdigest()}"
    )
    asked = []

    def get(url, **_):
        asked.append(url)
        return Response(b"tampered" if "//a/" in url else good)

    monkeypatch.setattr(requests, "get", get)
    path = cache.locate(source)
    assert asked == ["https://a/file", "https://b/file"]
    assert path.read_bytes() == good
    assert path == data_dir / "cache" / "data" / "mnist" / "file"
    assert cache.locate(source) == path
    assert len(asked) == 2
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_no_network_and_no_files_is_one_clear_message(data_dir, monkeypatch):
    def get(url, **_):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(UserError) as caught:
        load_dataset(DataSpec(dataset="mnist"))
    message = str(caught.value)
    assert str(data_dir / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz: no connection" in message
    assert "HVAE_DATA_DIR" in message

import pytest
import requests

from hvae_spec.data.dataset import load_dataset
from hvae_spec.errors import UserError
from hvae_spec.spec.data import DataSpec


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

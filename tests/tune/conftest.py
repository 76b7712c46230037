"""Shared by the tests of the runner: what has been measured on this machine decides nothing in them."""

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_measured(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

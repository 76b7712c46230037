"""Shared by all tests: one thread, so that small tests do not fight over cores, and real data where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

LONGEST = (
    "tests/tune/test_run.py",
    "tests/analysis/test_report.py",
    "tests/test_pack.py",
    "tests/tune/test_output.py",
    "tests/tune/test_again.py",
    "tests/analysis/test_notebooks.py",
)
"""Files that take longest, which run first: with `-n`, no process is left with one of them when the others are done."""

# How long an example takes says nothing of a test on a machine that others use too.
settings.register_profile("shared_machine", deadline=None)
settings.load_profile("shared_machine")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _without_report():
    """Tables and figures are the subject of other tests, and would be most of the time of those that run a grid."""
    from rich.table import Table

    from analysis import report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "check", lambda: None)
        patch.setattr(report, "write", lambda root: report.Report(Table(), (), "", ()))
        yield


no_report = pytest.fixture(_without_report)
no_report_in_this_file = pytest.fixture(_without_report, scope="module")


@pytest.fixture(autouse=True)
def _same_random_state():
    """What a test draws without a seed of its own does not depend on the tests that ran before it in its process."""
    import torch

    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))
    folder = os.environ.get("HVAE_DATA_DIR")
    present = folder is not None and (Path(folder) / "mnist").is_dir()
    for item in items:
        if item.get_closest_marker("real_data") and not present:
            item.add_marker(pytest.mark.skip(reason="needs MNIST in HVAE_DATA_DIR"))
        if item.get_closest_marker("cuda"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

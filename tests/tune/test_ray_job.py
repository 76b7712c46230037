"""A run that is a job of a Ray cluster: which Ray it joins, and what it refuses."""

import pytest

from hvae_spec.errors import UserError
from tests.tune.test_run import SPEC
from tune import run
from tune.execute import cluster, ray_job

JOB = {ray_job.MARK: '{"runtime_env": {}, "metadata": {}}', "RAY_ADDRESS": "10.0.0.1:6379"}


class NothingRunsError(UserError):
    """Raised in the place of training."""


@pytest.fixture
def addresses(monkeypatch):
    """The addresses that runs join; None for a Ray of their own."""
    found = []

    def run_on_ray(jobs, listener, interruption, *, address, **options):
        found.append(address)
        raise NothingRunsError("joined")

    for name in JOB:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cluster, "run_on_ray", run_on_ray)
    return found


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({}, (), None),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, (), None),  # a shell's, or a pod's: maybe somebody else's
        (JOB, (), "10.0.0.1:6379"),
        (JOB, ("--address", "10.0.0.2:6379"), "10.0.0.2:6379"),
        ({ray_job.MARK: "{}"}, (), None),
    ],
)
def test_a_job_runs_on_its_cluster_and_nothing_else_joins_one_unasked(
    tmp_path, monkeypatch, capsys, addresses, variables, options, expected
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    assert run.main([str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "out"), "--cpus", "1", *options]) == 2
    assert addresses == [expected]
    where = f"joining the Ray cluster at {expected}" if expected else "starting Ray"
    assert f"{where} ...\n" in capsys.readouterr().out


def test_a_serial_run_in_a_job_stays_in_its_process(tmp_path, monkeypatch, capsys, addresses):
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)

    def run_serially(jobs, listener):
        raise NothingRunsError("not used")

    monkeypatch.setattr("tune.execute.serial.run_serially", run_serially)
    (tmp_path / "tiny.yaml").write_text(SPEC)
    options = ("--results", str(tmp_path / "out"), "--cpus", "1", "--serial")
    assert run.main([str(tmp_path / "tiny.yaml"), *options]) == 2
    assert capsys.readouterr().err == "not used\n"
    assert addresses == []


def test_results_in_the_copy_of_a_jobs_working_folder_are_refused(tmp_path, monkeypatch, capsys, addresses):
    copy = tmp_path / "session_1/runtime_resources/working_dir_files/_ray_pkg_9"
    copy.mkdir(parents=True)
    (copy / "tiny.yaml").write_text(SPEC)
    monkeypatch.chdir(copy)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    assert run.main(["tiny.yaml"]) == 2
    assert capsys.readouterr().err == (
        f"{copy}/results/tiny: in the copy that Ray has made of the working folder for this job, and will remove; name "
        "a folder on storage that all nodes share, as a whole path, with --results\n"
    )
    assert sorted(path.name for path in copy.iterdir()) == ["tiny.yaml"]
    assert run.main(["tiny.yaml", "--results", str(tmp_path / "out")]) == 2
    assert addresses == ["10.0.0.1:6379"]
    monkeypatch.delenv(ray_job.MARK)  # a user's own folder may have any name
    assert run.main(["tiny.yaml"]) == 2
    assert addresses == ["10.0.0.1:6379", None]

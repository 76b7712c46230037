"""Members that are finished in another results folder: taken from there, whole or not at all."""

import shutil
from pathlib import Path

import pytest

from hvae_spec.reading import read
from hvae_spec.records import files
from hvae_spec.records.layout import Results
from hvae_spec.records.result import Divergence
from tests.tune.planned import labeled, train
from tests.tune.test_phases import SPEC, by_label, run, spec  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("no_report_in_this_file")


class Killed(BaseException):
    """Stands for a process that dies."""


@pytest.fixture(scope="module")
def base(tmp_path_factory, no_report_in_this_file):
    """The results of a grid of first phases."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "base.yaml").write_text(SPEC.replace("    tuned: {}\n", "").replace("name: phases", "name: base"))
    assert run(folder / "base.yaml", folder / "results", "--cpus", "1") == 0
    return folder / "results"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_members_are_copied_and_only_the_others_run(spec, base, tmp_path, capsys):  # noqa: F811
    root = tmp_path / "out"
    assert run(spec, root, "--records", str(base), "--plan") == 0
    planned = capsys.readouterr().out
    assert f"3 finished in {base}: taken from there." in planned
    assert "3 finished, 0 diverged, 3 to run." in planned
    assert not root.exists()
    before = contents(base)
    assert run(spec, root, "--records", str(base), "--cpus", "1") == 0
    out = capsys.readouterr().out
    assert f"3 finished in {base}: taken from there." in out
    assert "Running 3 members in 1 packs, 1 at a time (3 are done already)." in out
    assert contents(base) == before
    records, there = by_label(root), {record.training.digest: record for record in Results(base).records}
    assert len(records) == 6
    for (variant, _), record in records.items():
        digest = record.training.digest
        assert (digest in there) == (variant == "base")
        if variant == "base":
            assert contents(record.folder) == contents(there[digest].folder)
    # What is here is never replaced.
    here = contents(root / "members")
    assert run(spec, root, "--records", str(base), "--cpus", "1") == 0
    assert "taken from there" not in capsys.readouterr().out
    assert contents(root / "members") == here


def test_only_what_is_finished_there_is_taken_and_only_where_it_is_not_done_here(spec, base, tmp_path, capsys):  # noqa: F811
    source, root = tmp_path / "source", tmp_path / "out"
    shutil.copytree(base, source)
    members = [member for member in read(spec).members if member.labels["variant"] == "base"]
    records = [Results(source).find(member.digests.training) for member in members]
    diverged = records[0].training.model_copy(update={"status": "diverged"})
    records[0].finish(diverged)
    (records[1].folder / "training.json").unlink()
    mine = Results(root).record(members[2].digests.training, records[2].folder.name)
    mine.begin(members[2].spec)
    assert run(spec, root, "--records", str(source), "--plan") == 0
    assert f"1 finished in {source}: taken from there." in capsys.readouterr().out
    # Failed here is to be done; trained or diverged here is done, whatever is there.
    for status, taken in (("failed", True), ("trained", False), ("diverged", False)):
        train(root, members[2], status)
        assert run(spec, root, "--records", str(source), "--plan") == 0
        assert ("taken from there" in capsys.readouterr().out) == taken


def test_what_is_trained_there_is_taken_and_only_evaluated_where_another_evaluation_is_asked_for(
    spec,  # noqa: F811
    base,
    tmp_path,
    capsys,
):
    root, options = tmp_path / "out", ("--set", "evaluation.iw_samples=7", "--records", str(base), "--cpus", "1")
    only_base = ("--set", "grid.exclude=[{variant: tuned}]")
    assert run(spec, root, *options, *only_base, "--plan") == 0
    out = capsys.readouterr().out
    assert f"3 trained in {base}: taken from there." in out
    assert "0 finished, 0 diverged, 3 trained, 3 to evaluate, 0 to run." in out
    assert run(spec, root, *options, *only_base) == 0
    for (variant, seed), (record, status) in labeled(root).items():
        there = by_label(base)[variant, seed]
        assert status == "finished"
        assert contents(there.folder).items() <= contents(record.folder).items()
        (one,) = [
            path
            for path in (record.folder / "evaluations").iterdir()
            if not (there.folder / "evaluations" / path.name).exists()
        ]
        assert Results(root).record(record.training.digest, "").evaluation(one.name).result.iw_samples == 7


@pytest.fixture
def pruned(base, tmp_path):
    """The results of a grid of first phases, without arrays."""
    ignore = shutil.ignore_patterns("*.safetensors", "packs")
    return Path(shutil.copytree(base, tmp_path / "pruned", ignore=ignore))


def test_results_without_weights_count_where_they_are(spec, pruned, capsys):  # noqa: F811
    before = contents(pruned / "members")
    assert run(spec, pruned, "--set", "grid.exclude=[{variant: tuned}]", "--cpus", "1") == 0
    out = capsys.readouterr().out
    assert "Nothing is left to run." in out
    assert "Damaged" not in out
    assert "3 of 3 members finished." in out
    assert "Without weights: 3 of the finished; their results count" in out
    assert contents(pruned / "members") == before


def test_an_evaluation_that_diverged_counts_without_weights_too(spec, pruned, capsys):  # noqa: F811
    for record in Results(pruned).records:
        (evaluation,) = record.evaluations
        divergence = Divergence(epoch=2, step=1, quantity="test log-likelihood")
        evaluation.finish(evaluation.result.model_copy(update={"status": "diverged", "divergence": divergence}))
    assert run(spec, pruned, "--set", "grid.exclude=[{variant: tuned}]", "--cpus", "1") == 3
    out = capsys.readouterr().out
    assert "Damaged" not in out
    assert "0 of 3 members finished, 3 diverged." in out


def test_records_without_weights_are_not_taken(spec, pruned, base, tmp_path, capsys):  # noqa: F811
    """Others of the grid may need their weights, to be evaluated or to start from."""
    assert run(spec, tmp_path / "out", "--records", str(pruned), "--plan") == 0
    out = capsys.readouterr().out
    assert out.count("weights.safetensors: no such file") == 3
    assert out.count("(it is not taken)") == 3
    assert "0 finished, 0 diverged, 6 to run." in out
    assert run(spec, tmp_path / "out", "--records", str(pruned), "--records", str(base), "--plan") == 0
    assert f"3 finished in {base}: taken from there." in capsys.readouterr().out


def test_what_weights_are_needed_for_is_refused_without_them_and_the_rest_runs(spec, pruned, capsys):  # noqa: F811
    only_base = ("--set", "grid.exclude=[{variant: tuned}]", "--set", "grid.seeds=[0, 1, 2, 3]", "--cpus", "1")
    assert run(spec, pruned, *only_base, "--set", "evaluation.iw_samples=7") == 1
    out = capsys.readouterr().out
    assert out.count("weights.safetensors: no such file, and another evaluation needs it; delete ") == 3
    assert "Running 1 members in 1 packs" in out
    assert "1 of 4 members finished, 3 damaged." in out


def test_an_interrupted_copy_is_no_record_and_is_made_good(base, tmp_path, monkeypatch):
    """Killed at every single write, deletion and renaming, in the place of an unfinished run's record."""
    (record, *_) = Results(base).records
    (evaluation,) = record.evaluations
    training, digest, whole = record.training.digest, evaluation.result.digest, contents(record.folder)
    survived = 0
    for fatal in range(1, 30):
        root = tmp_path / str(fatal)
        unfinished = Results(root).record(training, "old-" + training[:12])
        unfinished.begin(record.spec)
        unfinished.fail(record.training.model_copy(update={"status": "failed"}), "it raised")
        calls = iter(range(1, 100))

        def dying(function, calls=calls, fatal=fatal):
            def call(*arguments, **options):
                if next(calls) == fatal:
                    raise Killed
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(files, "write_atomically", dying(files.write_atomically))
            patch.setattr(files.shutil, "rmtree", dying(shutil.rmtree))
            patch.setattr(files.os, "replace", dying(files.os.replace))
            try:
                Results(root).adopt(record, training, record.folder.name)
                survived = fatal
            except Killed:
                pass
        found = Results(root)
        here = found.find(training)
        status = None if here is None else here.status(digest)
        assert status in ({"finished"} if survived else {"failed", None})
        assert len(found.records) <= 1
        found.adopt(record, training, record.folder.name)
        (adopted,) = Results(root).records
        assert contents(adopted.folder) == whole
        assert [path.name for path in root.iterdir()] == ["members"]
        if survived:
            break
    assert survived > len(whole)


def test_a_record_whose_spec_is_damaged_is_not_taken_and_named(spec, base, tmp_path, capsys):  # noqa: F811
    source = tmp_path / "source"
    shutil.copytree(base, source)
    damaged = Results(source).records[0].folder / "spec.yaml"
    damaged.write_text("{")
    assert run(spec, tmp_path / "out", "--records", str(source), "--plan") == 0
    out = capsys.readouterr().out
    assert f"2 finished in {source}: taken from there." in out
    assert "2 finished, 0 diverged, 4 to run." in out
    assert str(damaged) in out
    assert "(it is not taken)" in " ".join(out.split())

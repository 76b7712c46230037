"""Several results folders side by side: each member once, different grids apart."""

import pandas as pd
import pytest

import analysis
from analysis import report
from analysis.figures import FIGURES, drawing
from analysis.paper import across_grids
from hvae_spec.errors import RecordError, UserError
from hvae_spec.records.layout import Results
from hvae_spec.records.plan import GridFile, NamedGrid
from tests.analysis.conftest import Writer
from tests.analysis.test_replication import as_published
from tune import hvae
from tune.plan.grid_file import planned_member

SPEC = """
name: mini
data: {dataset: digits}
model: {layers: [{units: 2, mlp: [4]}], batch_norm: true}
training: {epochs: 2, batch_size: 32}
evaluation: {iw_samples: 10}
grid:
  variants:
    VAE: {model.batch_norm: false}
    VAE+BN: {}
  seeds: [0, 1]
"""
OTHER = SPEC.replace("VAE+BN: {}", "normal: {}").replace("VAE: {model.batch_norm: false}", "slow: {training.epochs: 1}")
"""It shares the members with batch normalization, by another name."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)

    def write(name, spec=SPEC, outcome=Writer.result):
        writer = Writer(tmp_path / name)
        writer.grid(outcome, spec=spec, with_curves=False)
        return writer.root

    return write


def test_the_same_member_is_there_once_and_grids_are_apart(folder):
    first, second = folder("one"), folder("two", OTHER.replace("name: mini", "name: other"))
    frames = analysis.load(first, second)
    assert frames.name == "mini, other"
    assert [(grid.name, grid.folder, len(grid.members)) for grid in frames.grids] == [
        ("mini", first, 4),
        ("other", second, 4),
    ]
    assert frames.members["digest"].is_unique
    assert frames.factors == ("grid",)
    found = frames.members.groupby(["grid", "variant"], observed=True).size().to_dict()
    assert found == {("mini", "VAE"): 2, ("mini", "VAE+BN"): 2, ("other", "slow"): 2}
    assert list(frames.members["variant"].cat.categories) == ["VAE", "VAE+BN", "slow", "normal"]
    assert list(frames.bounds["digest"].unique()) == list(frames.members["digest"])
    one, other = frames.grids
    shared = set(one.members["digest"]) & set(other.members["digest"])
    assert set(other.members.loc[other.members["digest"].isin(shared), "variant"]) == {"normal"}


def test_one_folder_is_as_alone_also_if_it_is_given_twice(folder):
    root = folder("one")
    alone, twice = analysis.load(root), analysis.load(root, str(root / ".." / "one"))
    assert not twice.grids
    assert twice.folder == root
    pd.testing.assert_frame_equal(twice.members, alone.members)
    with pytest.raises(TypeError, match="no folder is given"):
        analysis.load()


def test_a_member_is_shown_where_it_has_come_furthest(folder):
    def begun(member):
        return Writer.result(member, -81.0) if member.seed == 0 else None

    def diverged(member):
        return Writer.diverged(member) if member.seed == 0 else Writer.result(member, -80.0)

    frames = analysis.load(folder("a", outcome=begun), folder("b", outcome=diverged))
    # Both are done with seed 0: the first folder's. Only the second has seed 1.
    assert frames.members.groupby("seed")["status"].unique().map(list).to_dict() == {0: ["finished"], 1: ["finished"]}
    assert frames.members.groupby("seed")["test_log_likelihood"].first().to_dict() == {0: -81.0, 1: -80.0}
    # Called by the first grid that has it, and that grid itself says what its own folder holds.
    assert set(frames.members["grid"]) == {"mini-a"}
    first, second = (grid.members.groupby("seed")["status"].first().to_dict() for grid in frames.grids)
    assert (first, second) == ({0: "finished", 1: "pending"}, {0: "diverged", 1: "finished"})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["old/mini", "new/mini"], ["mini-old", "mini-new"]),
        (["mini", "wider"], ["mini-mini", "mini-wider"]),
        (["old runs/x", "new/x"], ["mini-old-runs", "mini-new"]),
        (["a/x/mini", "a/y/mini", "b/x/mini"], ["mini-1", "mini-2", "mini-3"]),
    ],
)
def test_grids_of_one_name_are_told_apart_by_their_folders(folder, names, expected):
    frames = analysis.load(*(folder(name) for name in names))
    assert [grid.name for grid in frames.grids] == expected
    assert frames.name == ", ".join(expected)
    assert set(frames.members["grid"]) == {expected[0]}


def test_names_stay_apart_where_case_does_not_count_and_where_one_is_taken(folder):
    roots = [folder("a"), folder("b", SPEC.replace("name: mini", "name: Mini")), folder("c")]
    taken = folder("d", SPEC.replace("name: mini", "name: mini-a"))
    names = [grid.name for grid in analysis.load(taken, *roots).grids]
    assert names == ["mini-a", "mini-a-2", "Mini-b", "mini-c"]


def test_a_folder_of_several_grids_contributes_each(folder, tmp_path):
    writers = Writer(tmp_path / "both"), Writer(tmp_path / "plan")
    grids = {name: writers[1].plan(spec) for name, spec in (("mini", SPEC), ("other", OTHER))}
    every = {member.digests.evaluation: member for members in grids.values() for member in members}
    for member in every.values():
        writers[0].record(member, Writer.result(member), with_curves=False)
    labels = {name: {one.digests.evaluation: one.labels for one in members} for name, members in grids.items()}
    named = [
        NamedGrid(
            name=name,
            variants=list(dict.fromkeys(own["variant"] for own in labels[name].values())),
            labels=labels[name],
        )
        for name in grids
    ]
    planned = [planned_member(member) for member in every.values()]
    Results(writers[0].root).write_grid(GridFile(name="all", variants=[], members=planned, grids=named))
    frames = analysis.load(writers[0].root, folder("again"))
    assert frames.name == "all, mini-again"
    assert [grid.name for grid in frames.grids] == ["mini-both", "other", "mini-again"]
    assert frames.members.groupby("grid").size().to_dict() == {"mini-both": 4, "other": 2}
    assert [len(grid.members) for grid in frames.grids] == [4, 4, 4]


def test_one_member_on_different_images_is_refused(folder):
    def other_images(member):
        return Writer.result(member, data=Writer.data(train_sha256="cd" * 32))

    first, second = folder("a"), folder("b", outcome=other_images)
    with pytest.raises(RecordError, match=r"the same member as .*on other images \(their SHA-256 differ\)") as caught:
        analysis.load(first, second)
    assert str(second) in str(caught.value)
    assert str(first) in str(caught.value)
    assert "analysis.compare" in str(caught.value)


def test_a_damaged_record_is_named_also_where_another_folder_has_it_whole(folder):
    first, second = folder("a"), folder("b")
    damaged = next((first / "members").glob("*/training.json"))
    damaged.write_text("{")
    frames = analysis.load(first, second)
    assert set(frames.members["status"]) == {"finished"}
    assert any(str(damaged) in fault for fault in frames.faults)


@pytest.fixture
def one_figure(monkeypatch):
    monkeypatch.setattr(drawing, "FIGURES", {"log_likelihood": FIGURES["log_likelihood"]})


@pytest.mark.usefixtures("one_figure")
def test_the_report_of_several_folders(folder, tmp_path, capsys):
    first, second, out = folder("old/mini"), folder("new/mini", OTHER), tmp_path / "out"
    assert hvae.main(["report", str(first), str(second), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "6 members: 6 finished" in told
    for name, variants in (("mini-old", ["VAE", "VAE+BN"]), ("mini-new", ["slow", "normal"])):
        table = pd.read_csv(out / "grids" / name / "tables" / "test_log_likelihood.csv")
        assert list(table["variant"]) == variants
        assert str(out / "grids" / name / "figures" / "log_likelihood.png") in told
    assert len(pd.read_csv(out / "tables" / "members.csv")) == 6
    page = (out / "report.html").read_text()
    for root, name in ((first, "mini-old"), (second, "mini-new")):
        assert str(root) in page
        assert f'<section id="{name}-result" class="result">' in page
    # Nothing is written where the results are.
    assert {path.name for root in (first, second) for path in root.iterdir()} == {"grid.json", "members"}


def test_several_folders_need_a_folder_for_the_report(folder, tmp_path, capsys):
    first, second = folder("a"), folder("b", OTHER)
    assert hvae.main(["report", str(first), str(second)]) == 2
    error = capsys.readouterr().err
    assert "the report of 2 results folders belongs into none of them; expected --out DIR" in error
    assert f"`python -m analysis.report {first} {second} --out results/side_by_side`" in error
    with pytest.raises(UserError, match="--out DIR"):
        report.write([first, second])
    assert hvae.main(["report", str(first), str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'nowhere'}: no such results folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_only_one_folder_has_finished_is_in_the_papers_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    spec = SPEC.replace("dataset: digits", "dataset: mnist").replace("layers: [{units: 2, mlp: [4]}]", LAYERS)
    roots = []
    for name, seeds in (("whole", "[0, 1]"), ("part", "[0]")):
        writer = Writer(tmp_path / name)
        for member in writer.plan(spec.replace("seeds: [0, 1]", f"seeds: {seeds}")):
            if name == "part":
                writer.record(member, as_published(writer, member), with_curves=False)
        roots.append(writer.root)
    tables = {table_set.name: table_set for table_set in across_grids.tables(analysis.load(*roots).grids)}
    assert tables["table_2"].tidy.query("grid == 'mini-part'")["mean"].notna().any()


LAYERS = (
    "layers: [{units: 64, mlp: [512, 512]}, {units: 32, mlp: [256, 256]}, {units: 16, mlp: [128, 128]}, "
    "{units: 8, mlp: [64, 64]}, {units: 4, mlp: [32, 32]}]"
)

import json
import math
import statistics as exact
from pathlib import Path

import pytest

import analysis
from analysis.paper import published, replication
from analysis.tables import MeanCell, latex
from hvae_spec.reading import read
from hvae_spec.spec.data import published_counts

SPECS = Path(__file__).parents[2] / "specs"


@pytest.fixture
def shipped(results):
    """Plan a shipped spec and write the results of its members, without curves; the frames and the members."""

    def write(name, outcome, *overrides):
        planned = read(SPECS / f"{name}.yaml", overrides).members
        results.write_grid(name, planned)
        for member in planned:
            content = outcome(member)
            if content is not None:
                results.record(member, content, with_curves=False)
        return analysis.load(results.root), planned

    return write


def as_published(results, member, test_log_likelihood=None, **fields):
    """A finished member on the whole canonical data, its bound some number of its own."""
    number = int(member.digests.evaluation[:6], 16) / 2**24
    dataset = member.labels["dataset"]
    _, train, test = published_counts()[dataset]
    data = results.data(dataset, member.spec.data.copies * train, test)
    value = -90 - number if test_log_likelihood is None else test_log_likelihood
    fields = {"iw_samples": 5000, "data": data, "test_log_likelihood_mc_se": 0.01 * (1 + number), **fields}
    return results.result(member, value, **fields)


def read_results(results):
    """The records, read without the package: variant, depth -> test log-likelihoods of the finished members."""
    found = {}
    for path in sorted((results.root / "members").glob("*/evaluations/*/result.json")):
        content = json.loads(path.read_text())
        if content["status"] == "finished":
            key = content["labels"]["variant"], content["labels"]["depth"]
            found.setdefault(key, []).append(content["test_log_likelihood"])
    return found


def test_table_1_sets_fine_tuned_models_beside_the_published_ones(shipped, results):
    frames, _ = shipped("mnist_finetune", lambda member: as_published(results, member))
    (table,) = replication.table_1(frames).tables
    assert table.title == "Table 1: fine-tuned test log-likelihood (nats per image): mnist, L = 5"
    assert table.rows == ("VAE", "Prob. ladder")
    columns = ["none", "M=1 K=1", "M=10 K=1", "M=1 K=10", "M=10 K=10"]
    assert list(table.columns) == [text for name in columns for text in (name, f"{name}, published")]
    printed = [[table.cells[row, f"{name}, published"].text() for name in columns] for row in table.rows]
    assert printed == [
        ["-82.14", "-81.97", "-81.84", "-81.41", "-81.30"],
        ["-81.87", "-81.54", "-81.46", "-81.35", "-81.20"],
    ]
    records = read_results(results)
    for row, variant in (("VAE", "VAE+BN+WU"), ("Prob. ladder", "Prob. ladder+BN+WU")):
        for column, tail in zip(columns, ("", " 1,1", " 10,1", " 1,10", " 10,10"), strict=True):
            values = records[variant + tail, 5]
            cell = table.cells[row, column]
            assert cell.mean == pytest.approx(exact.fmean(values))
            assert cell.se == pytest.approx(exact.stdev(values) / math.sqrt(3))
            # The mark of what the authors' code has where the paper is silent: with more samples than one, a ramp, too.
            assert (cell.n, cell.planned, cell.mark) == (3, 3, "b" if "10" in tail else "a")


def test_a_fine_tuning_grid_with_axes_fills_one_table(results):
    spec = """
name: axes
data: {dataset: mnist}
model:
  layers: [{units: 5, mlp: []}, {units: 4, mlp: []}, {units: 3, mlp: []}, {units: 2, mlp: []}, {units: 1, mlp: []}]
  batch_norm: true
training: {epochs: 4, first_phase: {epochs: 4, warm_up: 2}}
grid:
  axes: {objective.mc_samples: [1, 10], objective.iw_samples: [1, 10]}
"""
    results.grid(lambda member: as_published(results, member), spec=spec, with_curves=False)
    (table,) = replication.table_1(analysis.load(results.root)).tables
    assert table.rows == ("VAE",)
    assert len(table.columns) == 8
    assert {cell.mark for cell in table.cells.values() if hasattr(cell, "mark")} == {"a", "b"}


def test_two_cells_of_ours_for_one_of_the_papers_have_rows_of_their_own(shipped, results):
    overrides = ("grid.variants.again={model.inference: vae, training.optimizer.adam.lr: 2.0e-4}", "grid.seeds=[0]")
    frames, _ = shipped("mnist_finetune", lambda member: as_published(results, member), *overrides)
    (table,) = replication.table_1(frames).tables
    assert set(table.rows) == {"VAE", "VAE: VAE+BN+WU 1,1", "VAE: again", "Prob. ladder"}
    marks = [table.cells[row, "M=1 K=1"].mark for row in ("VAE: VAE+BN+WU 1,1", "VAE: again")]
    assert marks[0] != marks[1]
    (note,) = (note for note in table.footnotes if note.startswith(f"[{marks[1]}]"))
    assert "learning rate 0.0002 (0.00075)" in note or "learning rate 0.0002 (0.001)" in note


def test_table_2_counts_active_units_beside_the_published_counts(shipped, results):
    def outcome(member):
        units = [layer.units - 2 * member.seed * (layer.units > 8) for layer in member.spec.model.layers]
        return as_published(results, member, active_units_per_layer=units, active_units=sum(units))

    frames, _ = shipped("mnist_grid", outcome, "grid.depth=[4,5]")
    (table,) = replication.table_2(frames).tables
    assert table.rows == ("z_1", "z_2", "z_3", "z_4", "z_5", "total")
    printed = {
        name: [table.cells[row, f"{name}, published"].text() for row in table.rows] for name in published.VARIANTS
    }
    assert printed == {
        "VAE": ["20", "1", "0", "0", "0", "21"],
        "VAE+BN": ["20", "9", "3", "3", "2", "37"],
        "VAE+BN+WU": ["34", "18", "6", "2", "1", "61"],
        "Prob. ladder+BN+WU": ["46", "22", "8", "3", "2", "81"],
    }
    assert [table.cells[row, "VAE"].text() for row in table.rows] == [
        f"{text} (3) [a]"
        for text in ("62.0 ± 1.2", "30.0 ± 1.2", "14.0 ± 1.2", "8.0 ± 0.0", "4.0 ± 0.0", "118.0 ± 3.5")
    ]


def test_table_2_leaves_out_layers_whose_units_have_no_kl_of_their_own(shipped, results):
    def outcome(member):
        model = member.spec.model
        units = [layer.units if known else None for layer, known in zip(model.layers, model.factorizes, strict=True)]
        total = sum(units) if all(model.factorizes) else None
        return as_published(results, member, active_units_per_layer=units, active_units=total)

    said = "have no KL of their own, but the layer has. Which of these are active is known by variance alone (–)."
    ladders = ("grid.depth=[5]", "grid.variants={Prob. ladder+BN+WU: {}, mixture: {model.prior: {mixture: 50}}}")
    frames, _ = shipped("mnist_grid", outcome, *ladders, "grid.exclude=[]")
    (table,) = replication.table_2(frames).tables
    assert table.rows == ("z_1", "z_2", "z_3", "z_4", "z_5", "total")
    for heading in ("mixture", "mixture, published"):
        assert [row for row in table.rows if (row, heading) in table.cells] == ["z_1", "z_2", "z_3", "z_4"]
    assert table.cells["z_4", "mixture"].text().startswith("8.0 ± 0.0 (3)")
    assert table.cells["z_5", "Prob. ladder+BN+WU"].text().startswith("4.0 ± 0.0 (3)")
    assert said in " ".join(table.footnotes)
    # With a flow in every layer there is none to compare.
    flows = ("grid.depth=[5]", "grid.variants={ladder: {model.flow: {planar: 2}}}", "grid.exclude=[]")
    frames, _ = shipped("mnist_grid", outcome, *flows)
    assert replication.table_2(frames).tables == ()


@pytest.mark.parametrize(("dataset", "name"), [("omniglot", "omniglot_grid"), ("norb", "norb_authors_code")])
def test_table_3_has_the_numbers_of_the_records_beside_the_published_ones(shipped, results, dataset, name):
    def outcome(member):
        if member.labels["depth"] == 2 and member.seed == 1:
            return results.diverged(member)
        return None if member.labels["depth"] == 3 and member.seed == 0 else as_published(results, member)

    frames, planned = shipped(name, outcome)
    found = replication.table_3(frames)
    (table,) = found.tables
    assert table.rows == ("64", "64-32", "64-32-16", "64-32-16-8", "64-32-16-8-4")
    records = read_results(results)
    printed = published.log_likelihoods(dataset).set_index(["depth", "variant"])["value"]
    for depth, row in enumerate(table.rows, start=1):
        for variant in published.VARIANTS:
            if (variant, depth) == ("Prob. ladder+BN+WU", 1):
                assert (row, variant) not in table.cells
                continue
            values, cell = records[variant, depth], table.cells[row, variant]
            assert cell.mean == pytest.approx(exact.fmean(values))
            assert (cell.n, cell.planned, cell.diverged) == (len(values), 3, int(depth == 2))
            assert float(table.cells[row, f"{variant}, published"].text()) == printed[depth, variant]
            assert ("2/3" in cell.text()) == (depth in (2, 3))
            assert ("diverged 1" in cell.text()) == (depth == 2)
            # Of what the authors' code has where the paper is silent, batch-norm eps is none of the VAE's.
            assert cell.mark == ("a" if variant == "VAE" else "b")
    tidy = found.tidy.set_index(["depth", "variant"])
    one = tidy.loc[(4, "VAE")]
    assert one["difference"] == pytest.approx(one["mean"] - printed[4, "VAE"])
    errors = [
        as_published(results, member)["test_log_likelihood_mc_se"]
        for member in planned
        if (member.labels["depth"], member.labels["variant"]) == (4, "VAE")
    ]
    assert one["mc_se"] == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / 3)


def test_a_letter_marks_other_data_and_budgets_and_a_footnote_says_which(shipped, results):
    data = results.data("omniglot", 12_000, 3_993, canonical=False)
    overrides = ("grid.depth=[2]", "training.epochs=10", "objective.warm_up=4", "grid.seeds=[0]")
    frames, _ = shipped("omniglot_grid", lambda member: as_published(results, member, -100.0, data=data), *overrides)
    (table,) = replication.table_3(frames).tables
    marked = [cell.text() for cell in table.cells.values() if isinstance(cell, MeanCell)]
    assert marked == ["-100.00 (1) [a]", "-100.00 (1) [b]", "-100.00 (1) [c]", "-100.00 (1) [c]"]
    common = "not the distributor's data files; training images 12,000 (24,345); test images 3,993 (8,070)"
    theirs = "; where the paper is silent, the authors' code has: "
    assert [note.partition(theirs)[0] for note in table.footnotes[-3:]] == [
        *(f"[{letter}] {common}; epochs 10 (1,500)" for letter in "ab"),
        f"[c] {common}; warm-up 4 (200); epochs 10 (1,500)",
    ]
    rest = "mean clip 1e-05, initialization lasagne, variance bias 1, variance floor 1e-05, adam eps 0.0001, "
    rest += "clip norm 4, clip value 0.9."
    assert [note.partition(theirs)[2] for note in table.footnotes[-3:]] == [
        rest,
        *[f"batch norm eps 1e-10, {rest}"] * 2,
    ]
    text = latex([table], "table_3")
    assert r"$-100.00$ (1)$^{a}$ & $-112.60$ &" in text


def test_images_of_norb_as_the_paper_may_mean_them_are_marked(shipped, results):
    frames, _ = shipped("norb_grid", lambda member: as_published(results, member, 3000.0), "grid.depth=[1]")
    (table,) = replication.table_3(frames).tables
    assert {cell.mark for cell in table.cells.values() if isinstance(cell, MeanCell)} == {"a", "b"}
    why = "; the paper is silent, and the authors' code implies it)"
    assert table.footnotes[-1].startswith(
        f"[b] training images drawn every_epoch (once{why}; training images 24,300 (48,600{why}; where the paper is "
    )


def test_renamed_variants_keep_the_values_published_for_their_settings(results, spec):
    spec = spec.replace("digits", "omniglot").replace("    VAE+BN: ", "    norm: ")
    results.grid(lambda member: as_published(results, member), spec=spec, with_curves=False)
    (table,) = replication.table_3(analysis.load(results.root)).tables
    assert table.cells["6-4", "norm, published"].text() == "-106.86"


def test_figure_3_has_the_two_printed_values(shipped, results):
    frames, _ = shipped("mnist_grid", lambda member: as_published(results, member), "grid.seeds=[0]")
    (table,) = replication.figure_3(frames).tables
    printed = {key: cell.text() for key, cell in table.cells.items() if "published" in key[1]}
    assert printed == {
        ("64-32-16-8-4", "VAE+BN+WU, published"): "-82.14",
        ("64-32-16-8-4", "Prob. ladder+BN+WU, published"): "-81.87",
    }


def test_the_importance_weighted_autoencoder_beside_burdas(shipped, results):
    frames, _ = shipped("mnist_iwae", lambda member: as_published(results, member, -83.0))
    (table_set,) = replication.tables(frames)
    (table,) = table_set.tables
    assert table.columns == ("IWAE K = 50", "IWAE K = 50, published")
    assert [cell.text() for cell in table.cells.values()] == ["-83.00 ± 0.00 (3) [a]", "-82.90"]
    assert table.footnotes[-1].startswith("[a] training images 60,000 (59,600); ")


def test_what_is_not_the_papers_has_none_of_its_tables(results):
    results.grid(with_curves=False)
    assert replication.tables(analysis.load(results.root)) == ()


def test_a_grid_that_has_not_begun_shows_what_is_to_come(shipped):
    frames, _ = shipped("omniglot_grid", lambda member: None)
    (table,) = replication.table_3(frames).tables
    assert table.rows == ("L = 1", "L = 2", "L = 3", "L = 4", "L = 5")
    assert table.cells["L = 2", "VAE"].text() == "0/3"
    assert table.cells["L = 2", "VAE, published"].text() == "-112.60"


def test_letters_never_run_out():
    assert [replication._letter(number) for number in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]

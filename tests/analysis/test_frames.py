import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import tables
from hvae_spec.errors import UserError
from hvae_spec.records import layout
from hvae_spec.records.index import indexed, write_index
from hvae_spec.records.layout import Results
from hvae_spec.records.result import EvaluationResult
from tests.analysis.conftest import SPEC


def of(planned, depth=None, variant=None, seed=None):
    """The planned members with these labels."""
    return [
        member
        for member in planned
        if depth in (None, member.labels["depth"])
        and variant in (None, member.labels["variant"])
        and seed in (None, member.seed)
    ]


def test_every_member_of_the_grid_has_one_row_with_its_labels_metrics_and_settings(results):
    planned = results.grid()
    frames = analysis.load(results.root)
    assert frames.name == "small"
    assert list(frames.members["digest"]) == [member.digests.evaluation for member in planned]
    (member,) = of(planned, depth=3, variant="VAE+BN+WU", seed=1)
    row = frames.members.set_index("digest").loc[member.digests.evaluation]
    assert (row["dataset"], row["depth"], row["variant"], row["seed"]) == ("digits", 3, "VAE+BN+WU", 1)
    assert (row["status"], row["planned"]) == ("finished", True)
    assert (row["test_log_likelihood"], row["test_elbo"], row["iw_samples"]) == (-80.0, -82.0, 500)
    assert list(row[["active_units_1", "active_units_2", "active_units_3", "active_units"]]) == [3, 2, 1, 6]
    assert list(row[["kl_1", "kl_2"]]) == [10.0, 5.0]
    assert (row["inference"], row["batch_norm"], row["warm_up"]) == ("vae", True, 2)
    assert (row["learning_rate"], row["batch_size"], row["planned_epochs"]) == (1e-3, 32, 10)
    # Training, the points of its test curve, and the evaluation: 3 + 0.5 + 1 seconds.
    assert (row["wall_seconds"], row["ms_per_step"], row["parameters"]) == (4.5, 6.8, 1234)
    assert (row["data_canonical"], row["train_images"]) == (True, 1437)
    assert (row["data_sha256"], row["test_sha256"]) == ("ab" * 32, "ef" * 32)
    assert Path(row["folder"]).name == member.folder
    assert Path(row["evaluation_folder"]).parts[-3:] == (
        *(member.folder, "evaluations", member.digests.evaluation[:12]),
    )
    assert row["training_digest"] == member.digests.training


def test_the_kl_to_a_standard_normal_and_the_trainings_gone_on_from_are_columns(results, small_spec):
    def outcome(member):
        fields = {
            "kl_standard_normal_per_layer": [30.0, 4.5],
            "continues": "ab" * 32,
            "extended_from": "cd" * 32,
        }
        return results.result(member, **(fields if member.seed else dict.fromkeys(fields)))

    results.grid(outcome, spec=small_spec, with_curves=False)
    members = analysis.load(results.root).members
    new = members[members["seed"] > 0]
    columns = ["kl_standard_normal_1", "kl_standard_normal_2", "continues", "extended_from"]
    assert set(new[columns].itertuples(index=False, name=None)) == {(30.0, 4.5, "ab" * 32, "cd" * 32)}
    old = members[members["seed"] == 0]
    assert old[columns].isna().all(axis=None)


def test_bounds_hold_one_row_a_member_and_number_of_samples(results, small_spec):
    def outcome(member):
        points = {50: (-81.0 - member.seed, 0.02), 1: (-84.0, None), 500: (-80.0, 0.01)}
        return results.diverged(member) if member.seed == 2 else results.result(member, bound_by_samples=points)

    planned = results.grid(outcome, spec=small_spec, with_curves=False)
    bounds = analysis.load(results.root).bounds
    assert len(bounds) == 3 * len([member for member in planned if member.seed != 2])
    (member,) = of(planned, variant="VAE+BN+WU", seed=1)
    own = bounds[bounds["digest"] == member.digests.evaluation]
    assert own["iw_samples"].tolist() == [1, 50, 500]
    assert own["bound"].tolist() == [-84.0, -82.0, -80.0]
    assert own["mc_se"].isna().tolist() == [True, False, False]
    assert set(own["seed"]) == {1}
    frames = analysis.load(results.root)
    assert set(frames.select(frames.members["seed"] == 0).bounds["seed"]) == {0}


def test_a_member_that_has_not_begun_has_the_settings_of_its_cell(results, small_spec):
    planned = results.plan(small_spec)
    (first,) = of(planned, variant="VAE+BN+WU", seed=0)
    results.record(first, None, with_curves=False)
    members = analysis.load(results.root).members
    known = members[members["variant"] == "VAE+BN+WU"]
    assert known["units"].tolist() == ["6-4"] * 3
    assert known["widths"].tolist() == ["16-8"] * 3
    assert known["warm_up"].tolist() == [2] * 3
    assert known["background"].nunique() == 1
    other = members[members["variant"] != "VAE+BN+WU"]
    assert other[["units", "warm_up", "background"]].isna().all(axis=None)


def test_the_background_is_alike_where_only_the_papers_factors_differ(results, small_spec):
    more = (
        "    other: {training.clip_norm: 4.0}\n"
        "    memory: {evaluation.memory_gib: 2.0, evaluation.every: 5, objective.warm_up: 4}\n  exclude"
    )
    spec = small_spec.replace("  exclude", more)
    results.grid(spec=spec, with_curves=False)
    members = analysis.load(results.root).members
    background = members.groupby("variant", observed=True)["background"].agg(["nunique", "first"])
    assert background["nunique"].tolist() == [1, 1, 1, 1]
    assert background["first"]["memory"] == background["first"]["VAE+BN+WU"]
    assert background["first"]["VAE+BN+WU"] == background["first"]["Prob. ladder+BN+WU"] != background["first"]["other"]


def test_groups_by_an_axis_and_their_rows_of_a_table(results, small_spec):
    results.grid(spec=small_spec + "  axes: {training.batch_size: [32, 64], training.clip_norm: [null, 4.0]}\n")
    frames = analysis.load(results.root)
    groups = list(frames.groups(["clip_norm_level"]))
    assert [group.place["clip_norm_level"] for group in groups] == ["none", 4.0]
    assert [len(group.frames.members) for group in groups] == [12, 12]
    assert [group.title for group in groups] == ["digits, clip norm none", "digits, clip norm 4"]
    one, *_ = groups
    assert one.rows(frames.members)["digest"].tolist() == one.frames.members["digest"].tolist()


def test_layers_above_the_top_of_a_shallow_member_are_missing_not_zero(results):
    results.grid()
    members = analysis.load(results.root).members
    assert members.loc[members["depth"] == 1, ["active_units_2", "kl_3"]].isna().all(axis=None)


def test_variants_are_ordered_as_in_the_spec(results):
    results.grid()
    variant = analysis.load(results.root).members["variant"]
    assert variant.cat.ordered
    assert list(variant.cat.categories) == ["VAE", "VAE+BN", "VAE+BN+WU", "Prob. ladder+BN+WU"]


def test_statuses_follow_from_what_a_record_holds(results):
    def outcome(member):
        return {0: results.result(member), 1: results.diverged(member), 2: None}[member.seed]

    planned = results.grid(outcome)
    running, pending = of(planned, depth=2, seed=2)[:2]
    results.record(running, None)
    failed = of(planned, depth=2, seed=2)[2]
    results.record(failed, results.failed(failed, "E: no"))
    trained = of(planned, depth=3, seed=2)[0]
    results.record(trained, {**results.result(trained), "status": "trained"})
    members = analysis.load(results.root).members.set_index("digest")
    status = members["status"].astype(str)
    here = [status[member.digests.evaluation] for member in (running, pending, failed, trained)]
    assert here == ["running", "pending", "failed", "trained"]
    assert members.loc[failed.digests.evaluation, "failure"] == "E: no"
    # What the training was is known; what its evaluation will find is not.
    row = members.loc[trained.digests.evaluation]
    assert (row["parameters"], row["wall_seconds"], row["epochs"]) == (1234, 3.5, 10)
    assert row[["test_log_likelihood", "active_units", "evaluation_seconds"]].isna().all()
    lost = members[status == "diverged"]
    assert len(lost) == len(of(planned, seed=1))
    assert (lost["divergence_epoch"] == 3).all()
    assert (lost["divergence_quantity"] == "log p(x|z_1)").all()
    assert lost["test_log_likelihood"].isna().all()


def test_epochs_hold_the_curves_of_every_member(results):
    planned = results.grid()
    epochs = analysis.load(results.root).epochs
    assert len(epochs) == 10 * len(planned)
    (member,) = of(planned, depth=2, variant="VAE+BN", seed=2)
    expected, _ = results.curves(member, -80.0)
    own = epochs[epochs["digest"] == member.digests.evaluation]
    assert list(own["epoch"]) == list(range(1, 11))
    assert list(own["train_bound"]) == [row["train_bound"] for row in expected]
    assert list(own["test_iw_samples"].notna()) == [False, True] * 5
    assert set(own["kl_2"]) == {6.0}
    assert own["kl_3"].isna().all()


@pytest.mark.parametrize("samples", [1, 5])
def test_rows_of_before_the_bound_at_beta_1_was_kept_have_it_where_it_follows(results, samples):
    """Where beta is 1 it is the objective; elsewhere, with one sample, the reconstruction less the KL."""
    spec = f"""
name: grid
data: {{dataset: digits}}
model: {{layers: [{{units: 6, mlp: [8]}}, {{units: 4, mlp: [8]}}]}}
objective: {{warm_up: 2, iw_samples: {samples}}}
training: {{epochs: 3, batch_size: 256}}
"""
    (member,) = results.plan(spec)
    folder = results.record(member, results.result(member, epochs=3))
    rows, _ = results.curves(member, -80.0)
    for row in rows:
        del row["train_bound_beta_1"]
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    epochs = analysis.load(results.root).epochs
    expected = [row["train_reconstruction"] - 12.0 - 6.0 if samples == 1 else math.nan for row in rows[:2]]
    assert epochs["beta"].tolist() == [0, 0.5, 1]
    assert epochs["train_bound_beta_1"].tolist() == pytest.approx([*expected, rows[2]["train_bound"]], nan_ok=True)


def test_units_hold_one_row_an_evaluation_layer_and_unit(results):
    planned = results.grid()
    units = analysis.load(results.root).units
    (member,) = of(planned, depth=3, variant="VAE", seed=0)
    own = units[units["digest"] == member.digests.evaluation]
    assert len(own) == 5 * (6 + 4 + 2)
    row = own[(own["epoch"] == 4) & (own["layer"] == 2) & (own["unit"] == 3)].iloc[0]
    assert row["kl"] == pytest.approx((1 / 3) ** 1.8)
    assert row["kl_se"] == 0.001
    assert row["active"]
    # At the last epoch stands the final evaluation, in the place of the curve's point there.
    last = own[(own["epoch"] == 10) & (own["layer"] == 1)]
    assert list(last["kl_se"]) == [0.0005] * 6
    assert list(last["active"]) == [True, True, True, True, False, False]  # 4^-3 > 0.01 > 5^-3


def test_a_variant_renamed_in_the_spec_is_renamed_in_every_frame(results, spec):
    results.grid()
    results.plan(spec.replace("    VAE+BN: ", "    Batch norm: "))
    frames = analysis.load(results.root)
    assert "VAE+BN" not in set(frames.members["variant"])
    assert (frames.members.loc[frames.members["variant"] == "Batch norm", "status"] == "finished").all()
    assert list(frames.members["variant"].cat.categories)[1] == "Batch norm"
    assert (frames.epochs["variant"] == "Batch norm").sum() == 9 * 10


def test_records_that_the_grid_no_longer_plans_are_kept_and_marked(results, spec):
    results.grid()
    results.plan(spec.replace("seeds: [0, 1, 2]", "seeds: [0]"))
    frames = analysis.load(results.root)
    assert list(frames.members.groupby("seed")["planned"].first()) == [True, False, False]
    assert len(frames.members) == 33
    assert set(frames.planned.epochs["seed"]) == {0}


def test_without_a_grid_the_records_tell_their_own_labels(results):
    planned = results.plan()
    (ladder,) = of(planned, depth=3, variant="Prob. ladder+BN+WU", seed=2)
    (plain,) = of(planned, depth=2, variant="VAE", seed=1)
    results.record(ladder, None)
    results.record(plain, results.result(plain, labels={**plain.labels, "variant": "plain"}))
    (results.root / "grid.json").unlink()
    members = analysis.load(results.root).members.set_index("digest")
    labels = members[["dataset", "depth", "variant", "seed", "status", "planned"]].astype(object)
    assert list(labels.loc[ladder.digests.evaluation]) == ["digits", 3, "Prob. ladder+BN+WU", 2, "running", True]
    assert list(labels.loc[plain.digests.evaluation]) == ["digits", 2, "plain", 1, "finished", True]


def test_without_a_grid_models_that_differ_in_flows_or_the_prior_alone_are_told_apart(results):
    nameless = SPEC.split("grid:")[0] + "grid: {depth: [2], seeds: [0, 1]}\n"
    bounds = {"prior: {vamp: 5}": -81.0, "": -80.0, "flow: {planar: 4}": -82.0}
    for part, bound in bounds.items():
        results.grid(
            lambda member, bound=bound: results.result(member, bound),
            spec=nameless.replace("model:\n", f"model:\n  {part}\n"),
            with_curves=False,
        )
        (results.root / "grid.json").unlink()
        if part.startswith("prior"):  # it is alone, and named as ever
            assert list(analysis.load(results.root).members["variant"].unique()) == ["Prob. ladder+BN+WU"]
    frames = analysis.load(results.root)
    means = frames.members.groupby("variant", observed=True)["test_log_likelihood"].agg(["mean", "count"])
    assert means.T.to_dict("list") == {
        "Prob. ladder+BN+WU": [-80.0, 2.0],
        "Prob. ladder+BN+WU+planar 4": [-82.0, 2.0],
        "Prob. ladder+BN+WU+vamp 5": [-81.0, 2.0],
    }
    (table,) = tables.log_likelihood(frames).tables
    assert not any("cannot be distinguished" in note for note in table.footnotes)


def test_without_a_grid_names_of_a_users_own_stay_and_are_told_apart_only_where_they_must_be(results):
    named = (
        SPEC.split("grid:")[0] + "grid: {depth: [2], seeds: [0], variants: {P: {}, Prob: {model.batch_norm: false}}}\n"
    )
    vamp = named.replace("model:\n", "model:\n  prior: {vamp: 5}\n").replace(", Prob: {model.batch_norm: false}", "")
    for text in (named, vamp):
        results.grid(spec=text, with_curves=False)
        (results.root / "grid.json").unlink()
    assert sorted(analysis.load(results.root).members["variant"].unique()) == ["P", "P+vamp 5", "Prob"]


def test_further_axes_are_columns_and_make_groups(results, spec):
    results.grid(spec=spec + "  axes: {training.batch_size: [32, 64], training.clip_norm: [null, 4.0]}\n")
    frames = analysis.load(results.root)
    assert frames.factors == ("batch_size", "clip_norm_level")
    (whole,) = frames.groups()
    assert (whole.title, whole.slug, whole.place) == ("digits", "", {"dataset": "digits"})
    groups = list(frames.groups(frames.factors))
    assert [group.title for group in groups] == [
        "digits, batch 32, clip norm none",
        "digits, batch 32, clip norm 4",
        "digits, batch 64, clip norm none",
        "digits, batch 64, clip norm 4",
    ]
    assert [len(group.frames.members) for group in groups] == [33] * 4
    assert groups[1].slug == "digits-batch-32-clip-norm-4"
    assert len({group.slug for group in groups}) == 4
    assert (groups[2].frames.members["batch_size"] == 64).all()


def test_a_record_older_than_an_axis_takes_its_place_from_its_spec(results, spec):
    results.grid()
    results.plan(spec + "  axes: {training.batch_size: [64, 128]}\n")
    members = analysis.load(results.root).members
    older = members[members["status"] == "finished"]
    assert len(older) == 33
    assert (older["batch_size"] == 32).all()
    assert not older["planned"].any()


def test_list_valued_axes_can_be_grouped(results, spec):
    results.grid(spec=spec + "  axes: {model.layers.0.mlp: [[16], [16, 16]]}\n")
    frames = analysis.load(results.root)
    groups = list(frames.groups(frames.factors))
    assert [group.place["layers_0_mlp"] for group in groups] == ["16", "16,16"]
    assert [group.title for group in groups] == ["digits, z_1 mlp 16", "digits, z_1 mlp 16,16"]


WIDTHS = "width: {narrow: {model.layers.0.mlp: [4]}, wide: {}}"
UNITS = "units: {few: {}, many: {model.layers.0.units: 9}}"


def test_levels_taken_from_a_frame_have_labels(results, small_spec):
    axes = "  axes: {training.optimizer.adam.lr: [1.0e-3, 3.0e-4], model.batch_norm: [false, true]}\n"
    results.grid(spec=small_spec + axes, with_curves=False)
    frames = analysis.load(results.root)
    last = frames.members[["learning_rate", "batch_norm"]].iloc[-1]
    assert [frames.label(axis, last[axis]) for axis in ("learning_rate", "batch_norm")] == ["lr 3e-4", "batch norm on"]
    assert frames.label("learning_rate", frames.members["learning_rate"].to_numpy()[-1]) == "lr 3e-4"
    assert frames.label("batch_norm", np.True_) == "batch norm on"


def test_named_levels_are_columns_and_titles(results, small_spec):
    results.grid(spec=f"{small_spec}  axes: {{{WIDTHS}, {UNITS}}}\n")
    frames = analysis.load(results.root)
    # There is a column `units` already, of the settings.
    assert frames.factors == ("width", "units_level")
    assert list(frames.members.width.unique()) == ["narrow", "wide"]
    by_level = frames.members.groupby("units_level")["units"].unique().map(list).to_dict()
    assert [units.partition("-")[0] for level in ("few", "many") for units in by_level[level]] == ["6", "9"]
    assert next(frames.groups(frames.factors)).title == "digits, width narrow, units few"
    assert set(frames.units["units_level"]) == set(frames.epochs["units_level"]) == {"few", "many"}


def test_an_axis_may_be_called_as_a_column_of_the_statistics(results, small_spec):
    axes = "  axes: {mean: {finished: {model.layers.0.mlp: [4]}, n: {}}}\n"
    results.grid(spec=small_spec + axes)
    frames = analysis.load(results.root)
    assert frames.factors == ("mean_level",)
    assert tables.log_likelihood(frames).tidy["mean_level"].unique().tolist() == ["finished", "n"]


def test_labels_that_an_earlier_version_wrote_as_lists_are_texts(results, small_spec):
    axes = "  axes: {model.layers.0.mlp: [[16], [16, 16]]}\n"
    results.grid(spec=small_spec + axes)
    path = results.root / "grid.json"
    path.write_text(path.read_text().replace('"16"', "[16]").replace('"16,16"', "[16, 16]"))
    assert "[16, 16]" in path.read_text()
    assert list(analysis.load(results.root).members["layers_0_mlp"].unique()) == ["16", "16,16"]


def again(results, member, **fields):
    """Write another evaluation of a member that is trained."""
    _, evaluation = results.files(member, results.result(member, **fields))
    results.evaluation_of(member).finish(evaluation)


def test_of_several_evaluations_of_a_training_the_grid_has_the_one_that_it_asks_for(results, small_spec):
    before = results.grid(spec=small_spec)
    folders = set((results.root / "members").iterdir())
    planned = results.plan(small_spec.replace("iw_samples: 500", "iw_samples: 1000"))
    members = analysis.load(results.root).members
    # All are trained, and measured in another way than the grid now asks for.
    assert set(members["status"]) == {"trained"}
    assert members["test_log_likelihood"].isna().all()
    for member in planned:
        again(results, member, test_log_likelihood=-79.0, iw_samples=1000)
    frames = analysis.load(results.root)
    assert len(frames.members) == len(planned) == len(folders)
    assert set(frames.members[["status", "test_log_likelihood", "iw_samples"]].itertuples(index=False, name=None)) == {
        ("finished", -79.0, 1000.0)
    }
    assert set(frames.bounds.groupby("iw_samples")["bound"].first()) == {-79 - 2 / k for k in (1, 5, 10, 50, 100, 500)}
    # The earlier ones are kept beside them, and the grid can go back to them.
    assert set((results.root / "members").iterdir()) == folders
    results.write_grid("small", before)
    assert (analysis.load(results.root).members["test_log_likelihood"] == -80.0).all()


def test_evaluations_along_an_axis_share_their_training(results, small_spec):
    axis = "  axes: {evaluation.batch_norm_statistics: [whole_set, batch_average]}\n"
    planned = results.plan(small_spec + axis)
    ways = [member.labels["evaluation.batch_norm_statistics"] for member in planned]
    for member, way in zip(planned, ways, strict=True):
        if way == "whole_set":
            results.record(member, results.result(member, batch_norm_statistics=way))
    for member, way in zip(planned, ways, strict=True):
        if way == "batch_average":
            again(results, member, test_log_likelihood=-81.0, batch_norm_statistics=way)
    frames = analysis.load(results.root)
    assert len(frames.members) == 2 * len(list((results.root / "members").iterdir())) == 12
    assert frames.members["digest"].is_unique
    assert frames.members["training_digest"].nunique() == 6
    found = frames.members.groupby("batch_norm_statistics")
    assert found["test_log_likelihood"].unique().map(list).to_dict() == {"whole_set": [-80.0], "batch_average": [-81.0]}
    # The setting is that of the evaluation, and not that of the spec which the record was first trained for, so that it
    # is the column of the axis.
    assert frames.factors == ("batch_norm_statistics",)
    assert found["background"].nunique().to_dict() == {"whole_set": 1, "batch_average": 1}
    # Both have the curve of their training.
    assert frames.epochs.groupby("digest", observed=True).size().tolist() == [10] * 12
    (one, other) = (group.frames.epochs["train_bound"].tolist() for group in frames.groups(frames.factors))
    assert one == other


def test_settings_of_an_evaluation_are_those_that_the_grid_asks_for(results, small_spec):
    """Not those of the records, which were trained for another evaluation; without batch normalization too, where the
    former evaluation still stands: variants have one background, so that their effects can be paired."""
    spec = small_spec.replace(
        "[{variant: VAE}, {variant: VAE+BN}]", "[{variant: VAE+BN}, {variant: Prob. ladder+BN+WU}]"
    )
    before = results.grid(spec=spec)
    planned = results.plan(spec.replace("every: 2", "every: 5, batch_norm_statistics: batch_average"))
    same = {member.digests.evaluation for member in before} & {member.digests.evaluation for member in planned}
    assert len(same) == 3  # without batch normalization
    members = analysis.load(results.root).members
    assert members["status"].value_counts()[["finished", "trained"]].tolist() == [3, 3]
    assert set(members["batch_norm_statistics"]) == {"batch_average"}
    assert members["background"].nunique() == 1
    # Finished members keep the curve that they have.
    assert set(members["evaluation_every"]) == {2}
    for folder in (results.root / "members").iterdir():
        assert "whole_set" in (folder / "spec.yaml").read_text()


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_an_evaluation_that_went_wrong_is_the_members_and_leaves_its_training_as_it_is(results, small_spec, status):
    planned = results.grid(spec=small_spec)
    lost = {
        "diverged": {"divergence": {"epoch": 10, "step": 440, "quantity": "test log-likelihood"}},
        "failed": {"failure": "E: no"},
    }[status]
    member = planned[0]
    names = {"digest": member.digests.evaluation, "training": member.digests.training, "labels": member.labels}
    results.evaluation_of(member).finish(EvaluationResult(status=status, **names, **lost))
    frames = analysis.load(results.root)
    row = frames.members.set_index("digest").loc[member.digests.evaluation]
    assert (row["status"], row["epochs"], row["parameters"]) == (status, 10, 1234)
    assert math.isnan(row["test_log_likelihood"])
    if status == "diverged":
        assert (row["divergence_epoch"], row["divergence_quantity"]) == (10, "test log-likelihood")
    else:
        assert row["failure"] == "E: no"
    # Without units of the final evaluation, the curve's last point stays.
    units = frames.units[frames.units["digest"] == member.digests.evaluation]
    assert set(units[["epoch", "kl_se"]].itertuples(index=False, name=None)) == {(e, 0.001) for e in (2, 4, 6, 8, 10)}


def test_a_member_evaluated_at_its_end_alone_has_the_units_of_that_evaluation(results, small_spec):
    planned = results.grid(spec=small_spec.replace(", every: 2", ""))
    frames = analysis.load(results.root)
    assert "test_log_likelihood" not in frames.epochs
    assert set(frames.units["epoch"]) == {10}
    assert len(frames.units) == len(planned) * (6 + 4)


def test_the_index_of_specs_gives_what_the_records_own_specs_give(results, small_spec, monkeypatch):
    planned = results.grid(spec=small_spec)
    before = analysis.load(results.root)
    entries = {member.folder: indexed(member.spec, member.digests) for member in planned}
    write_index(Results(results.root), entries)
    # Not parsed: thousands of YAML files take minutes.
    monkeypatch.setattr(layout.yaml, "load", pytest.fail)
    pd.testing.assert_frame_equal(analysis.load(results.root).members, before.members)


def test_a_torn_last_line_is_left_out(results):
    planned = results.plan()
    folder = results.record(planned[0], None)
    whole = len(analysis.load(results.root).epochs)
    with (folder / "epochs.jsonl").open("a") as stream:
        stream.write('{"epoch": 91, "be')
    assert len(analysis.load(results.root).epochs) == whole == 10


def test_a_missing_or_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such results folder"):
        analysis.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no results"):
        analysis.load(tmp_path)


def test_null_in_a_curve_is_missing(results):
    member = results.plan()[0]
    folder = results.record(member, None)
    (first, *_), _ = results.curves(member, -80.0)
    first |= {"train_bound": -9.5, "gradient_norm": None, "kl_per_layer": [None, 2.0]}
    (folder / "epochs.jsonl").write_text(json.dumps(first) + "\n")
    row = analysis.load(results.root).epochs.iloc[0]
    assert (row["train_bound"], row["kl_2"]) == (-9.5, 2.0)
    assert math.isnan(row["gradient_norm"])
    assert math.isnan(row["kl_1"])


def test_loading_leaves_torch_and_ray_alone_and_importing_leaves_pandas_alone(results, small_spec):
    results.grid(spec=small_spec)
    code = (
        "import sys, analysis, analysis.report\n"
        "heavy = {'torch', 'ray', 'pandas', 'matplotlib', 'seaborn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "analysis.report.write(sys.argv[1])\n"
        "heavy = {'torch', 'ray', 'hvae_spec.compiler'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'pandas' in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(results.root)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_missing_values_do_not_turn_members_into_objects(results):
    results.plan()
    members = analysis.load(results.root).members
    assert pd.api.types.is_float_dtype(members["test_log_likelihood"])
    assert (members["status"] == "pending").all()
    assert (members["epochs"] == 0).all()

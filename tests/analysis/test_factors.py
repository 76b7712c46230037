"""What is a factor of a grid: every field in which two cells differ alone, by what their specs read."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import analysis
from analysis import tables
from analysis.statistics import all_effects, designs
from hvae_spec.reading import read
from hvae_spec.records.layout import Results
from hvae_spec.records.plan import ReportSettings
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import cells
from hvae_spec.spec.load import GridReading, Reading
from tune.plan.devices import Machine
from tune.plan.grid_file import grid_file
from tune.plan.needs import Ledger
from tune.plan.packs import RunInfo
from tune.plan.planner import make_plan

SPECS = Path(__file__).parents[2] / "specs"
BASE = """
name: small
data: {dataset: digits}
model: {layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]}
training: {epochs: 4, batch_size: 32}
"""


def planned(reading):
    """Frames of a grid of which no member is trained yet, but all specs are known."""
    specs = {member.folder: member.spec.model_dump(mode="json") for member in reading.members}
    return analysis.frames.load("nowhere", grid_file(reading, reading.members, {}), specs)


def of(grid, report="{}"):
    """The same of a small grid."""
    tree = yaml.safe_load(BASE) | {"grid": yaml.safe_load(grid), "report": yaml.safe_load(report)}
    experiment = Experiment.model_validate(tree)
    return planned(Reading("small", (GridReading(experiment, cells(experiment)),)))


def steps(frames, kind="simple"):
    """(effect, reference, level, without, with) of every effect of a kind."""
    table = all_effects(frames)
    columns = ["effect", "reference", "level", "without", "with"]
    return [tuple(row) for row in table.loc[table["kind"] == kind, columns].itertuples(index=False)]


def test_a_field_that_nothing_reads_is_no_difference():
    # Without batch normalization nothing reads its constant, and a VAE has no top-down path to share.
    frames = of(
        "{variants: {VAE: {model.batch_norm_eps: 0.01}, BN: {model.batch_norm: true}, "
        "shared: {model.batch_norm: true, model.inference: ladder, model.share_top_down: true}}}"
    )
    assert steps(frames) == [
        ("batch normalization", False, True, "VAE", "BN"),
        ("ladder", "vae", "ladder", "BN", "shared"),
    ]


def test_a_ladder_of_one_layer_is_no_factor():
    frames = of("{depth: [1, 2], variants: {VAE: {}, ladder+BN: {model.inference: ladder, model.batch_norm: true}}}")
    assert steps(frames) == [("batch normalization", False, True, "VAE", "ladder+BN")]
    assert set(all_effects(frames)["depth"]) == {1}


def test_a_choice_with_its_settings_is_one_field():
    frames = of(
        "{variants: {steep: {model.nonlinearity: {leaky_relu: 0.3}}, tanh: {model.nonlinearity: tanh}, "
        "flat: {model.nonlinearity: {leaky_relu: 0.1}}}}"
    )
    assert steps(frames) == [
        ("nonlinearity", "leaky_relu", "tanh", "steep", "tanh"),
        ("nonlinearity", "leaky_relu", "tanh", "flat", "tanh"),
        ("nonlinearity leaky relu", 0.3, 0.1, "steep", "flat"),
    ]
    # The slope is nested in the nonlinearity: their places do not match.
    assert steps(frames, "main") == steps(frames, "interaction") == []


def test_a_section_that_may_be_null_is_one_field():
    frames = of("{variants: {plain: {}, decayed: {training.lr_decay: {factor: 0.5, every: 2}}}}")
    assert [step[0] for step in steps(frames)] == ["lr decay"]


def test_a_field_of_layers_is_one_over_all_layers():
    frames = of("{depth: [1, 2], variants: {narrow: {}, wide: {model.layers.0.units: 8, model.layers.1.units: 4}}}")
    # At each depth; a depth has the lowest of the layers.
    assert steps(frames) == [("units", "4-2", "8-4", "narrow", "wide")] * 2
    assert all_effects(frames)["all_places"].tolist() == [2, 1, 1]


def test_an_axis_that_sets_several_fields_is_one_factor():
    axis = "model.layers: [[{units: 4, mlp: [8]}], [{units: 8, mlp: [16]}], [{units: 9, mlp: [32]}]]"
    frames = of(f"{{variants: {{VAE: {{}}, VAE+BN: {{model.batch_norm: true}}}}, axes: {{{axis}}}}}")
    (design,) = designs(frames)
    assert [(factor.name, len(factor.levels)) for factor in design.factors] == [
        ("model.batch_norm", 2),
        ("model.layers", 3),
    ]
    # Two levels beside the reference, each at two places; and with batch normalization an interaction of each.
    assert [step[0] for step in steps(frames)].count("layers") == 4
    assert [step[0] for step in steps(frames, "interaction")] == ["batch normalization × layers"] * 2


def test_an_axis_that_sets_the_depth_is_one_factor():
    axis = "model.layers: [[{units: 4, mlp: [8]}], [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]]"
    frames = of(f"{{variants: {{VAE: {{}}, VAE+BN: {{model.batch_norm: true}}}}, axes: {{{axis}}}}}")
    assert [(effect, one, two) for effect, *_, one, two in steps(frames)] == [
        *[("batch normalization", "VAE", "VAE+BN")] * 2,
        *[("layers", name, name) for name in ("VAE", "VAE+BN")],
    ]
    assert len(steps(frames, "interaction")) == 1


def test_what_a_variant_keeps_at_all_values_of_an_axis_is_a_difference_of_its_own():
    layers = "[[{units: 4, mlp: [8]}, {units: 2, mlp: [4]}], [{units: 8, mlp: [16]}, {units: 4, mlp: [8]}]]"
    frames = of(f"{{variants: {{plain: {{}}, other: {{training.batch_size: 64}}}}, axes: {{model.layers: {layers}}}}}")
    specs = copy.deepcopy(dict(frames.specs))
    for digest in frames.members.loc[frames.members["variant"] == "other", "digest"]:
        specs[digest]["training"]["batch_size"] = 32
        for layer in specs[digest]["model"]["layers"]:
            layer["units"] = 9
    (design,) = designs(replace(frames, specs=specs))
    # The axis sets units and widths of `plain`, and the widths of `other`.
    assert [factor.name for factor in design.factors] == ["model.layers.units", "model.layers"]
    assert [len(design.pairs[factor.name]) for factor in design.factors] == [4, 4]


def test_a_factor_of_several_levels_is_compared_with_its_reference():
    axis = "axes: {training.optimizer.adam.lr: [0.01, 0.001, 0.0003]}"
    assert [step[1:3] for step in steps(of(f"{{{axis}}}"))] == [(0.01, 0.001), (0.01, 0.0003)]
    frames = of(f"{{{axis}}}", "{reference: {training.optimizer.adam.lr: 0.001}}")
    assert [step[1:3] for step in steps(frames)] == [(0.001, 0.01), (0.001, 0.0003)]


def test_the_papers_factors_are_added_whatever_their_order():
    frames = of(
        "{variants: {all: {model.batch_norm: true, objective.warm_up: 2}, none: {}, warm: {objective.warm_up: 2}}}"
    )
    assert steps(frames) == [
        ("batch normalization", False, True, "warm", "all"),
        ("warm-up", 0, 2, "none", "warm"),
    ]


def test_the_shipped_spec_on_sharing_tests_its_claim():
    frames = planned(read(SPECS / "mnist_shared_top_down.yaml"))
    assert steps(frames) == [("share top down", False, True, "separate", "shared")] * 4
    table = all_effects(frames)
    (named,) = table[table["kind"] == "named"].to_dict("records")
    assert (named["effect"], named["reference"], named["level"], named["all_places"]) == (
        *("sharing", "separate", "shared"),
        4,
    )


def test_the_shipped_spec_on_fine_tuning_tests_its_claims():
    table = all_effects(planned(read(SPECS / "mnist_finetune.yaml")))
    main = table[table["kind"] == "main"]
    pooled = {(row["effect"], row["all_places"]) for row in main.to_dict("records")}
    assert pooled == {
        ("ladder", 5),
        ("Monte Carlo samples in training", 4),
        ("importance samples in training", 4),
    }
    samples = "Monte Carlo samples in training × importance samples in training"
    assert samples in set(table.loc[table["kind"] == "interaction", "effect"])
    named = table[table["kind"] == "named"]
    assert named["effect"].tolist() == ["fine-tuning of the VAE", "fine-tuning of the ladder"]


CONTRAST = BASE + (
    "grid: {depth: [1, 2], seeds: [0, 1, 2], variants: {a: {}, b: {training.batch_size: 64, training.epochs: 5}}}\n"
    "report: {contrasts: {both: [a, b]}}\n"
)


def plan(path, root):
    make_plan(read(path), Ledger(Results(root)), RunInfo(root, "cpu"), Machine(2, 0)).prepare()


def test_contrasts_that_were_named_before_the_first_result_are_a_family_of_their_own(tmp_path, results):
    path = tmp_path / "small.yaml"
    path.write_text(CONTRAST)
    plan(path, results.root)
    for member in read(path).members:
        own = 2.0 * (member.labels["variant"] == "b") * (1 + member.seed) + member.labels["depth"]
        results.record(member, results.result(member, -90 + own), with_curves=False)
    path.write_text(CONTRAST.replace("[a, b]}}", "[a, b], back: [b, a]}}"))
    plan(path, results.root)
    frames = analysis.load(results.root)
    assert dict(frames.foretold) == {"both": ["a", "b"]}
    table = all_effects(frames)
    assert table[["kind", "effect", "family", "family_size", "mean"]].values.tolist() == [
        ["named", "both", "contrasts named beforehand", 1, 4.0],
        ["named", "back", "simple effects", 1, -4.0],
    ]
    footnotes = tables.paired_effects(frames).tables[0].footnotes
    assert "Named before the first result, and corrected for each other alone: both." in footnotes
    assert "Named after the first result, and corrected together with the simple effects: back." in footnotes
    # What is another comparison was not named before.
    path.write_text(CONTRAST.replace("[a, b]", "[b, a]"))
    plan(path, results.root)
    assert dict(analysis.load(results.root).foretold) == {}


def test_a_grid_file_of_before_contrasts_is_read(results):
    results.grid(spec=CONTRAST, with_curves=False)
    path = results.root / "grid.json"
    content = json.loads(path.read_text())
    del content["report"], content["foretold"]
    path.write_text(json.dumps(content))
    assert Results(results.root).grid.report == ReportSettings()
    assert all_effects(analysis.load(results.root)).empty


NORMS = (
    "{variants: {VAE: {}, BN: {model.batch_norm: true}, hidden: {model.norm: {batch: {heads: false}}}, "
    "LN: {model.norm: layer}}}"
)


def test_a_norm_is_one_factor_in_whichever_form_it_is_given():
    levels = [("batch", "BN"), ("batch heads off", "hidden"), ("layer", "LN")]
    frames = of(NORMS)
    assert steps(frames) == [("normalization", "none", level, "VAE", name) for level, name in levels]
    (design,) = designs(frames)
    assert [(factor.name, len(factor.levels)) for factor in design.factors] == [("model.norm", 4)]
    named = of(NORMS, "{contrasts: {model.norm: [{batch: {heads: false}}, layer]}}")
    assert steps(named, "named") == [("model.norm", "batch heads off", "layer", "hidden", "LN")]
    reference = of(NORMS, "{reference: {model.norm: batch}}")
    assert [step[1:3] for step in steps(reference)] == [
        ("batch", "none"),
        ("batch", "batch heads off"),
        ("batch", "layer"),
    ]


@pytest.mark.parametrize(
    ("axis", "few", "many"),
    [
        ("model.auxiliary", "{units: 3}", "{units: 5, mlp: [7]}"),
        ("model.flow", "{planar: 2}", "{iaf: {steps: 2, mlp: [320]}}"),
        ("model.flow", "{planar: 2}", "{planar: 4}"),
    ],
)
def test_a_contrast_with_a_level_that_has_settings_is_between_cells_that_have_them(axis, few, many):
    grid = f"{{variants: {{VAE: {{}}, few: {{{axis}: {few}}}, many: {{{axis}: {many}}}}}}}"
    nothing = "null" if axis == "model.auxiliary" else "none"
    frames = of(grid, f"{{contrasts: {{{axis}: [{nothing}, {many}]}}}}")
    assert [step[-2:] for step in steps(frames, "named")] == [("VAE", "many")]
    frames = of(grid, f"{{contrasts: {{{axis}: [{nothing}, {few}]}}}}")
    assert [step[-2:] for step in steps(frames, "named")] == [("VAE", "few")]


def test_batch_normalization_alone_is_called_as_ever_unless_the_report_asks_for_the_norm():
    grid = "{variants: {VAE: {model.norm: none}, BN: {model.norm: batch}}}"
    assert steps(of(grid)) == [("batch normalization", False, True, "VAE", "BN")]
    asked = of(grid, "{reference: {model.norm: batch}}")
    assert steps(asked) == [("normalization", "batch", "none", "BN", "VAE")]


def test_an_axis_of_norms_is_a_factor_with_its_levels():
    frames = of("{axes: {model.norm: [none, batch, layer], objective.warm_up: [0, 2]}}")
    found = steps(frames)
    assert [step[:3] for step in found if step[0] == "normalization"] == [
        ("normalization", "none", level) for level in ("batch", "layer") for _ in range(2)
    ]
    assert len([step for step in found if step[0] == "warm-up"]) == 3


def test_a_decay_and_a_schedule_are_one_factor():
    frames = of(
        "{variants: {constant: {}, decayed: {training.lr_decay: {factor: 0.5, every: 2}}, "
        "staged: {training.schedule: {stages: [{epochs: 2, lr: 0.01}, {epochs: 2, lr: 0.001}]}}}}"
    )
    assert steps(frames) == [
        ("learning rate schedule", "none", "lr_decay", "constant", "decayed"),
        ("learning rate schedule", "none", "stages", "constant", "staged"),
    ]

from pathlib import Path

import pytest

import analysis
from analysis.paper import published
from analysis.paper.published import Difference
from hvae_spec.reading import read
from hvae_spec.spec.choices.inference import INFERENCES, Ladder

SPECS = Path(__file__).parents[2] / "specs"

TABLE_3 = """
omniglot 1 -114.45 -108.79 -104.63 -
omniglot 2 -112.60 -106.86 -102.03 -102.12
omniglot 3 -112.13 -107.09 -101.60 -101.26
omniglot 4 -112.49 -107.66 -101.68 -101.27
omniglot 5 -112.10 -107.94 -101.86 -101.59
norb 1 2630.8 3263.7 3481.5 -
norb 2 2830.8 3140.1 3532.9 3522.7
norb 3 2757.5 3247.3 3346.7 3458.7
norb 4 2832.0 3302.3 3393.6 3499.4
norb 5 3064.1 3258.7 3393.6 3430.3
"""


def test_table_3_is_as_printed():
    table = published.values()
    own = table[table["source"] == "Table 3"].set_index(["dataset", "depth", "variant"])["value"]
    printed = {
        (line.split()[0], int(line.split()[1]), variant): float(value)
        for line in TABLE_3.split("\n")[1:-1]
        for variant, value in zip(published.VARIANTS, line.split()[2:], strict=True)
        if value != "-"
    }
    assert own.to_dict() == printed


def test_table_2_adds_up_to_its_printed_totals():
    table = published.values()
    units = table[table["quantity"] == "active_units"]
    for variant, total in zip(published.VARIANTS, (21, 37, 61, 81), strict=True):
        own = units[units["variant"] == variant].set_index("layer")["value"]
        assert own["total"] == total == own.drop("total").sum()


def test_table_1_improves_from_left_to_right_to_the_values_in_the_text():
    table = published.values()
    own = table[table["source"] == "Table 1"]
    for variant, first, last in (("VAE+BN+WU", -82.14, -81.30), ("Prob. ladder+BN+WU", -81.87, -81.20)):
        values = own[own["variant"] == variant]["value"].tolist()
        assert (values[0], values[-1], len(values)) == (first, last, 5)
        assert values == sorted(values)


def test_printed_values_of_figure_3():
    found = published.log_likelihoods("mnist")
    assert found[["depth", "variant", "value"]].values.tolist() == [
        [5, "VAE+BN+WU", -82.14],
        [5, "Prob. ladder+BN+WU", -81.87],
    ]
    assert len(published.log_likelihoods("omniglot")) == 19


def variants_of(results):
    members = analysis.load(results.root).members
    return dict(zip(members["variant"].astype(str), published.variants(members), strict=True))


ODD = """
name: odd
data: {dataset: digits}
model:
  layers: [{units: 4, mlp: [8]}, {units: 2, mlp: [4]}]
  batch_norm: true
training: {epochs: 4, batch_size: 32}
grid:
  variants:
    plain: {model.batch_norm: false}
    with: {objective.warm_up: 2}
    Normal: {}
    merged: {model.inference: ladder, objective.warm_up: 2}
    shared: {model.inference: ladder, objective.warm_up: 2, model.share_top_down: true}
    many: {objective.iw_samples: 10}
    unnormal: {model.batch_norm: false, objective.warm_up: 2}
    tuned: {training.first_phase: {epochs: 4, warm_up: 2}, objective.mc_samples: 10}
    iwae: {model.layers: [{units: 100, mlp: []}, {units: 50, mlp: []}], model.batch_norm: false,
           objective.iw_samples: 50}
    small iwae: {model.layers: [{units: 100, mlp: []}, {units: 50, mlp: []}], model.batch_norm: false}
    layer: {model.norm: layer, objective.warm_up: 2}
    hidden: {model.norm: {batch: {heads: false}}, objective.warm_up: 2}
    iwae layer: {model.layers: [{units: 100, mlp: []}, {units: 50, mlp: [3]}], model.norm: layer,
                 objective.iw_samples: 50}
    top-down: {model.inference: top_down, objective.warm_up: 2}
    skip: {model.inference: ladder, objective.warm_up: 2, model.skip: both}
    iwae skip: {model.layers: [{units: 100, mlp: []}, {units: 50, mlp: [4]}], model.batch_norm: false,
                objective.iw_samples: 50, model.skip: generative}
"""


def test_members_are_known_by_their_settings(results):
    results.grid(spec=ODD, with_curves=False)
    assert variants_of(results) == {
        "plain": "VAE",
        "with": "VAE+BN+WU",
        "Normal": "VAE+BN",
        "merged": "Prob. ladder+BN+WU",
        "shared": None,
        "many": None,
        "unnormal": None,
        "tuned": "VAE+BN+WU",
        "iwae": "IWAE",
        "small iwae": None,
        "layer": None,
        "hidden": None,
        "iwae layer": None,
        "top-down": None,
        "skip": None,
        "iwae skip": None,
    }
    members = analysis.load(results.root).members.set_index("variant")
    assert published.fine_tuning(members)["tuned"] == "M=10 K=1"
    assert published.fine_tuning(members).drop("tuned").unique().tolist() == ["none"]


class Merged(Ladder):
    label, short = "Merged", "merged"


def test_an_inference_model_that_the_paper_does_not_have_has_no_published_number(results, monkeypatch):
    monkeypatch.setitem(INFERENCES._items, "merged", Merged())
    spec = ODD.replace("model.inference: ladder", "model.inference: merged")
    spec = spec.replace("small iwae: {", "small iwae: {model.inference: merged, objective.iw_samples: 50, ")
    results.grid(spec=spec + "  depth: [1, 2]\n", with_curves=False)
    members = analysis.load(results.root).members
    members = members.assign(paper=published.variants(members)).set_index(["variant", "depth"])["paper"]
    assert [members[name, 2] for name in ("merged", "shared", "small iwae")] == [None] * 3
    assert [members[name, 2] for name in ("plain", "with", "iwae")] == ["VAE", "VAE+BN+WU", "IWAE"]
    # With one layer it is the VAE, as it says.
    assert members["merged", 1] == "VAE+BN+WU"


def test_a_member_that_has_not_begun_is_known_by_its_cell_or_else_by_its_name(results, spec):
    planned = results.plan(spec.replace("    VAE+BN: ", "    normal: "))
    first = next(member for member in planned if member.labels["variant"] == "normal")
    results.record(first, results.result(first), with_curves=False)
    members = analysis.load(results.root).members
    found = members.assign(paper=published.variants(members))
    known = found[(found["variant"] == "normal") & (found["depth"] == first.labels["depth"])]
    assert known["status"].tolist() == ["finished", "pending", "pending"]
    assert known["paper"].tolist() == ["VAE+BN"] * 3
    unknown = found[(found["variant"] == "normal") & (found["depth"] != first.labels["depth"])]
    assert unknown["paper"].isna().all()
    assert set(found.loc[found["variant"] == "Prob. ladder+BN+WU", "paper"]) == {"Prob. ladder+BN+WU"}


PAPER = """
name: paper
data: {dataset: DATASET, grey_divisor: levels}IMAGES
model:
  layers:
    - {units: 64, mlp: [512, 512]}
    - {units: 32, mlp: [256, 256]}
  inference: ladder
  batch_norm: true
  nonlinearity: NONLINEARITY
  observation: OBSERVATION
objective: {warm_up: WARM_UP}
training: {epochs: EPOCHS, optimizer: {adam: {lr: RATE}}}
"""
AS_PUBLISHED = {
    "mnist": ("leaky_relu", "bernoulli", "200", "2000", "0.001", 60_000, 10_000),
    "omniglot": ("leaky_relu", "bernoulli", "200", "1500", "0.001", 24_345, 8_070),
    "norb": ("tanh", "gaussian", "1000", "4000", "0.002", 48_600, 24_300),
}
THEIRS = "where the paper is silent, the authors' code has: "
THEIR_START = "initialization lasagne, variance bias 1, variance floor 1e-05"
THEIR_STEPS = "adam eps 0.0001, clip norm 4, clip value 0.9"
OF_THE_CODE = ", copies: 2, redraw: once, rescaled_by: training_maximum}"
SILENT = "; the paper is silent, and the authors' code implies it)"


def unlike(results, dataset, *changes, **data):
    """What is told, but for the mark of what the authors' code has where the paper is silent."""
    found = differences(results, dataset, *changes, **data)
    assert all(one.hinders is None for one in found if one.text.startswith(THEIRS))
    return tuple(one.text for one in found if not one.text.startswith(THEIRS))


def differences(results, dataset, *changes, canonical=True, iw_samples=5000, less=0, training_maximum=255):
    *settings, train, test = AS_PUBLISHED[dataset]
    spec = PAPER.replace("DATASET", dataset).replace("}IMAGES", OF_THE_CODE if dataset == "norb" else "}")
    for word, value in zip(("NONLINEARITY", "OBSERVATION", "WARM_UP", "EPOCHS", "RATE"), settings, strict=True):
        spec = spec.replace(word, value)
    for old, new in changes:
        assert old in spec
        spec = spec.replace(old, new)
    data = results.data(dataset, train - less, test, canonical=canonical, training_maximum=training_maximum)
    results.grid(lambda member: results.result(member, iw_samples=iw_samples, data=data), spec=spec, with_curves=False)
    return published.differences(analysis.load(results.root).planned.members, "Prob. ladder+BN+WU")


@pytest.mark.parametrize("dataset", AS_PUBLISHED)
def test_the_papers_own_settings_differ_in_nothing(results, dataset):
    assert unlike(results, dataset) == ()


def test_other_data_and_budgets_are_told(results):
    changes = (("epochs: 1500", "epochs: 100"), ("warm_up: 200", "warm_up: 10"), ("lr: 0.001", "lr: 0.0002"))
    assert unlike(results, "omniglot", *changes, canonical=False, iw_samples=100, less=12_345) == (
        "not the distributor's data files",
        "training images 12,000 (24,345)",
        "warm-up 10 (200)",
        "epochs 100 (1,500)",
        "learning rate 0.0002 (0.001)",
        "importance samples 100 (5,000)",
    )


def test_skip_connections_of_a_single_layer_are_none(results):
    one_layer = ("    - {units: 32, mlp: [256, 256]}\n", "")
    assert unlike(results, "mnist", one_layer, ("batch_norm: true", "batch_norm: true\n  skip: both")) == ()


@pytest.mark.parametrize(("kept", "told"), [(True, ("inference steps 2 (1)",)), (False, ())])
def test_inference_steps_are_told_where_there_are_layers(results, kept, told):
    ladder = ("batch_norm: true", "batch_norm: true\n  inference: ladder\n  inference_steps: 2")
    one_layer = () if kept else (("    - {units: 32, mlp: [256, 256]}\n", ""),)
    assert unlike(results, "mnist", ladder, *one_layer) == told


def test_another_model_is_told(results):
    changes = (("units: 32, mlp: [256, 256]", "units: 16, mlp: [256]"), ("tanh", "{leaky_relu: 0.1}"))
    assert unlike(results, "norb", *changes) == (
        "units 64-16 (64-32)",
        "hidden widths 512,512-256 (512,512-256,256)",
        "nonlinearity leaky_relu 0.1 (tanh)",
    )


@pytest.mark.parametrize(
    ("dataset", "change", "told"),
    [
        ("norb", (", rescaled_by: training_maximum", ""), ""),
        (
            "mnist",
            (", grey_divisor: levels", ""),
            "P(x = 1) is gray over largest (levels; the paper is silent, and the authors' code implies it)",
        ),
        ("norb", (", grey_divisor: levels", ""), ""),
        ("omniglot", (", grey_divisor: levels", ""), ""),
        (
            "mnist",
            ("training: {", "training: {lr_decay: {factor: 0.75, every: 200}, "),
            "learning rate decay factor 0.75 (none); learning rate decay every 200 (none)",
        ),
        ("omniglot", ("levels}", "levels, redraw: once}"), "training images drawn once (every_epoch)"),
        ("norb", (", redraw: once", ""), f"training images drawn every_epoch (once{SILENT}"),
        ("mnist", ("levels}", "levels, rescaled_by: training_maximum}"), ""),
        ("norb", ("observation:", "mean_clip: 0.1\n  observation:"), ""),
        (
            "mnist",
            ("observation:", "mean_clip: 0.1\n  observation:"),
            "settings that the paper leaves open: mean clip 0.1",
        ),
        (
            "mnist",
            ("training: {", "training: {schedule: {stages: [{epochs: 1, lr: 0.1}]}, "),
            "learning rate schedule stages [epochs 1, lr 0.1] (none)",
        ),
        (
            "mnist",
            ("{adam: {lr: 0.001}}", "{sgd: {lr: 0.001, weight_decay: 0.1}}"),
            "optimizer sgd (adam); "
            "settings that the paper leaves open: weight decay 0.1, sgd momentum 0.9, sgd nesterov no",
        ),
        (
            "norb",
            ("{adam: {lr: 0.002}}", "{adamw: {lr: 0.002}}"),
            "optimizer adamw (adam); settings that the paper leaves open: weight decay 0.01",
        ),
        (
            "mnist",
            ("training: {", "training: {ema: 0.999, "),
            "EMA of the weights 0.999 (none)",
        ),
        (
            "norb",
            ("0.002}}}", "0.1}}, schedule: {linear: {over: 4000}}}"),
            "learning rate 0.1 (0.002); learning rate schedule linear over 4000, to 0.0, ramp 0 (none)",
        ),
        (
            "norb",
            ("0.002}}}", "0.3}}, schedule: {stages: [{epochs: 1, lr: 0.1}]}}"),
            "learning rate schedule stages [epochs 1, lr 0.1] (none)",
        ),
        (
            "mnist",
            ("[512, 512]}", "[512, 512], mlp_down: [400]}"),
            "hidden widths of the generative mappings 400-256,256 (512,512-256,256)",
        ),
        (
            "mnist",
            ("[256, 256]}", "[256, 256], mlp_top_down: []}"),
            "hidden widths of the top-down mappings linear (256,256)",
        ),
        (
            "mnist",
            ("training: {", "training: {clip_norm: 4, clip_value: 0.9, last_batch: keep, "),
            "settings that the paper leaves open: clip norm 4, clip value 0.9, last batch keep",
        ),
        (
            "norb",
            ("{warm_up: 1000}", "{warm_up: 1000, iw_samples: 2, sample_ramp: true}"),
            "importance samples in training 2 (1); settings that the paper leaves open: sample ramp yes",
        ),
        (
            "mnist",
            ("batch_norm: true", "batch_norm: true\n  prior: {mixture: 50}"),
            "prior of z_L mixture 50 (standard_normal)",
        ),
        ("norb", ("{warm_up: 1000}", "{warm_up: 1000, sample_ramp: true}"), ""),
        (
            "mnist",
            ("batch_norm: true", "batch_norm: true\n  initialization: glorot_normal\n  variance_floor: 1.0e-5"),
            "settings that the paper leaves open: initialization glorot_normal, variance floor 1e-05",
        ),
        ("mnist", ("batch_norm: true", "batch_norm: true\n  skip: both"), "skip connections both (none)"),
        (
            "omniglot",
            (
                "training: {",
                "evaluation: {batch_norm_statistics: batch_average}\ntraining: {matmul_precision: medium, ",
            ),
            "settings that the paper leaves open: matmul precision medium, batch norm statistics batch_average",
        ),
    ],
)
def test_each_setting_that_differs_is_told_once(results, dataset, change, told):
    assert "; ".join(unlike(results, dataset, change)) == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{warm_up: 200}", "{warm_up: 200, free_bits: {nats: 5, per: unit}}"), "free bits nats 5.0, per unit (none)"),
        (("{warm_up: 200}", "{warm_up: 200, estimator: stl}"), "estimator stl (reparameterized)"),
        (("training: {", "training: {ema: 0.999, "), "EMA of the weights 0.999 (none)"),
    ],
)
def test_another_objective_or_other_weights_than_the_paper_states_hinder_a_verdict(results, change, told):
    assert Difference(told, "settings") in differences(results, "mnist", change)


def test_a_share_of_the_elbo_is_another_bound_than_burdas(results):
    change = ("{warm_up: 200}", "{iw_samples: 50, elbo_share: 0.1}")
    differences(results, "mnist", change)
    members = analysis.load(results.root).planned.members
    for variant in ("Prob. ladder+BN+WU", published.IWAE):
        assert Difference("share of the ELBO 0.1 (0)", "settings") in published.differences(members, variant)


def test_fine_tuning_is_compared_with_table_1s(results):
    changes = (
        ("training: {", "training: {first_phase: {epochs: 2000, warm_up: 50}, "),
        ("warm_up: 200}", "warm_up: 0}"),
    )
    assert unlike(results, "mnist", *changes) == (
        "learning rate decay factor none (0.75)",
        "learning rate decay every none (200)",
        "first phase warm-up 50 (200)",
    )
    annealed = (("training: {", "training: {lr_decay: {factor: 0.75, every: 200}, "),)
    changes = (("training: {", "training: {first_phase: {epochs: 2000, warm_up: 200}, "), ("{warm_up: 200}\n", "{}\n"))
    assert unlike(results, "mnist", *changes, *annealed) == ()


def test_a_first_phase_is_compared_with_the_papers_plain_training_and_fine_tuning_has_no_warm_up(results):
    first = "first_phase: {epochs: 1000, warm_up: 200, mc_samples: 2, sample_ramp: true}"
    change = ("training: {", f"training: {{{first}, lr_decay: {{factor: 0.75, every: 200}}, ")
    assert unlike(results, "mnist", change) == (
        "warm-up 200 (0)",
        "first phase Monte Carlo samples in training 2 (1)",
        "first phase epochs 1,000 (2,000)",
        "settings that the paper leaves open: first phase sample ramp yes",
    )


def test_the_number_of_importance_samples_has_no_bearing_on_active_units(results):
    assert unlike(results, "mnist", iw_samples=10) == ("importance samples 10 (5,000)",)
    members = analysis.load(results.root).planned.members
    told = tuple(one.text for one in published.differences(members, "Prob. ladder+BN+WU", "active_units"))
    assert [text for text in told if not text.startswith(THEIRS)] == []


def test_images_of_norb_that_stand_once_in_the_training_set_are_told(results):
    told = Difference(f"training images 24,300 (48,600{SILENT}", None)
    assert differences(results, "norb", ("copies: 2, ", ""), less=24_300)[0] == told


def test_any_other_number_of_norbs_images_than_the_paper_may_mean_is_other_data(results):
    told = Difference(f"training images 1,000 (48,600{SILENT}", "data")
    assert differences(results, "norb", ("copies: 2, ", ""), less=47_600)[0] == told


@pytest.mark.parametrize("maximum", [254, None])
def test_what_norb_is_divided_by_hinders_where_it_may_be_another_than_the_training_maximum(results, maximum):
    told = Difference(f"dequantized gray is divided by levels (training_maximum{SILENT}", "data")
    change = (", rescaled_by: training_maximum", "")
    assert differences(results, "norb", change, training_maximum=maximum)[0] == told


@pytest.mark.parametrize("dataset", AS_PUBLISHED)
def test_what_the_authors_code_has_where_the_paper_is_silent_is_one_mark_that_hinders_nothing(results, dataset):
    clip = "" if dataset == "norb" else "mean clip 1e-05, "
    start = THEIR_START.replace("initialization", f"{clip}initialization")
    mark = Difference(f"{THEIRS}batch norm eps 1e-10, {start}, {THEIR_STEPS}", None)
    assert differences(results, dataset) == (mark,)
    # Without batch normalization its eps makes no difference, and what is as in their code is not named.
    plain = (("batch_norm: true", "batch_norm: false"), ("training: {", "training: {clip_norm: 4, clip_value: 0.9, "))
    assert differences(results, dataset, *plain)[-1].text == f"{THEIRS}{start}, adam eps 0.0001"


IN_BURDAS_CODE = (
    "not as in Burda et al.'s code, where Adam's second moments start at 1, its eps is added to the uncorrected root, "
    "standard deviations are an exp, the output bias starts at the logit of the training means, batches are never "
    "shuffled, test images are drawn anew in every pass"
)


def shipped(results, name, profile, variant, images):
    """What is told of a variant of a shipped spec beside its published number."""
    planned = read(SPECS / f"{name}.yaml", (), profile).members
    results.write_grid(name, planned)
    for member in planned:
        if member.labels["variant"] == variant:
            data = results.data(member.labels["dataset"], *images)
            results.record(member, results.result(member, iw_samples=5000, data=data), with_curves=False)
    members = analysis.load(results.root).planned.members
    members = members[(members["variant"] == variant) & (members["status"] == "finished")]
    (paper,) = set(published.variants(members))
    return tuple(one.text for one in published.differences(members, paper))


def test_trained_as_burda_did_only_what_no_field_can_say_differs(results):
    assert shipped(results, "mnist_iwae", "burda", "IWAE K = 50", (59_600, 10_000)) == (IN_BURDAS_CODE,)


def test_trained_as_the_paper_trains_all_of_burdas_settings_are_told(results):
    assert shipped(results, "mnist_iwae", None, "IWAE K = 50", (60_000, 10_000)) == (
        "training images 60,000 (59,600)",
        "initialization torch (glorot_uniform)",
        "epochs 2,000 (3,280)",
        "batch size 256 (20)",
        "adam beta1 0.9 (0.99)",
        "adam eps 1e-08 (0.0001)",
        "learning rate schedule none (stages [epochs 1, lr 0.001, epochs 3, lr 0.00072, epochs 9, lr 0.00052, "
        "epochs 27, lr 0.00037, epochs 81, lr 0.00027, epochs 243, lr 0.00019, epochs 729, lr 0.00014, "
        "epochs 2187, lr 0.0001])",
        IN_BURDAS_CODE,
    )


def test_on_omniglot_burda_held_out_other_images_and_other_settings_than_theirs_are_told(results):
    change = ("batch_norm: true", "batch_norm: false\n  share_top_down: true\n  variance_floor: 0.1")
    unlike(results, "omniglot", change, ("epochs: 1500", "epochs: 7"), iw_samples=10)
    members = analysis.load(results.root).planned.members
    found = tuple(one.text for one in published.differences(members, published.IWAE))
    assert found[:4] == (
        "training images 24,345 (23,000)",
        "units 64-32 (100-50)",
        "hidden widths 512,512-256,256 (200,200-100,100)",
        "nonlinearity leaky_relu 0.1 (tanh)",
    )
    assert found[-3:] == (
        "importance samples 10 (5,000)",
        "settings that Burda et al. do not have: variance floor 0.1",
        IN_BURDAS_CODE,
    )
    assert "warm-up 200 (0)" in found


def test_of_the_authors_code_what_no_field_can_say_is_told(results):
    found = shipped(results, "mnist_authors_code", None, "Authors' code", (60_000, 10_000))
    assert found[-1] == (
        "not as in the authors' code, where Adam's eps is added to the uncorrected root, the floor of variances is in "
        "densities only, beta of epoch e is (e - 1) / N_t, batch-norm statistics are of one fixed draw of the training "
        "set"
    )
    assert {"nonlinearity leaky_relu 0.01 (leaky_relu 0.1)", "learning rate 0.0002 (0.001)"} <= set(found)


def test_beside_the_papers_own_settings_what_its_code_has_is_told(results):
    (told,) = shipped(results, "mnist_authors_code", None, "Prob. ladder+BN+WU", (60_000, 10_000))
    assert told.startswith(THEIRS)

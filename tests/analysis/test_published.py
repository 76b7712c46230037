import pytest

import analysis
from analysis.paper import published
from hvae_spec.spec.choices.inference import INFERENCES, Ladder

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
data: {dataset: DATASET, grey_divisor: levels}
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
    "norb": ("tanh", "gaussian", "1000", "4000", "0.002", 24_300, 24_300),
}


def unlike(results, dataset, *changes, canonical=True, iw_samples=5000, less=0):
    *settings, train, test = AS_PUBLISHED[dataset]
    spec = PAPER.replace("DATASET", dataset)
    for word, value in zip(("NONLINEARITY", "OBSERVATION", "WARM_UP", "EPOCHS", "RATE"), settings, strict=True):
        spec = spec.replace(word, value)
    for old, new in changes:
        assert old in spec
        spec = spec.replace(old, new)
    data = results.data(dataset, train - less, test, canonical=canonical)
    results.grid(lambda member: results.result(member, iw_samples=iw_samples, data=data), spec=spec, with_curves=False)
    return published.unlike(analysis.load(results.root).planned.members, "Prob. ladder+BN+WU")


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
        (
            "norb",
            ("levels}", "levels, redraw: once}"),
            "settings that the paper leaves open: training images drawn once",
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
            ("{warm_up: 1000}", "{warm_up: 1000, sample_ramp: true}"),
            "settings that the paper leaves open: sample ramp yes",
        ),
        (
            "mnist",
            ("batch_norm: true", "batch_norm: true\n  initialization: glorot_normal\n  variance_floor: 1.0e-5"),
            "settings that the paper leaves open: initialization glorot_normal, variance floor 1e-05",
        ),
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
    assert published.unlike(members, "Prob. ladder+BN+WU", "active_units") == ()


def test_of_the_autoencoder_of_burda_only_what_the_paper_says_is_compared(results):
    change = ("batch_norm: true", "batch_norm: false\n  share_top_down: true\n  variance_floor: 0.1")
    unlike(results, "omniglot", change, ("epochs: 1500", "epochs: 7"), iw_samples=10)
    members = analysis.load(results.root).planned.members
    assert published.unlike(members, published.IWAE) == (
        "importance samples 10 (5,000)",
        "settings that the paper leaves open: variance floor 0.1",
    )

"""Three digests say what a member is: nothing that changes no number of theirs changes them, all that does will."""

import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec.errors import SpecError
from hvae_spec.reading import loads, read
from hvae_spec.spec.experiment import Digests, MemberSpec
from hvae_spec.spec.grid import cells, members
from tests.members import member
from tests.spec.small_spec import SMALL, edited


def digest(text: str) -> str:
    return digests(text).evaluation


def digests(text: str) -> Digests:
    return members(loads(text))[0].digests


SAME = [
    ("comments and blank lines", "# hello\n\n" + SMALL.replace("\n", "  # why\n")),
    ("the name", edited(("name: small", "name: other"))),
    ("an empty section", SMALL + "objective:\nevaluation:\ngrid:\n"),
    ("a default", SMALL + "objective: {warm_up: 0, mc_samples: 1}\nevaluation: {iw_samples: 5000}\n"),
    ("the default optimizer", edited(("epochs: 20", "epochs: 20, optimizer: {adam: {lr: 1e-3}}"))),
    ("the default nonlinearity", edited(("model:", "model:\n  nonlinearity: {leaky_relu: 0.1}"))),
    ("its plain name", edited(("model:", "model:\n  nonlinearity: leaky_relu"))),
    ("equal widths down", edited(("[32, 32]", "[32, 32], mlp_down: [32, 32]"))),
    ("idle top-down widths", edited(("[16, 16]", "[16, 16], mlp_top_down: [7]"))),
    ("one step of inference", edited(("model:", "model:\n  inference_steps: 1"))),
    ("no skip connections", edited(("model:", "model:\n  skip: none"))),
    ("a null", edited(("[32, 32]", "[32, 32], mlp_down: null"))),
    ("all images", edited(("digits}", "digits, train_images: 1437, test_images: 360}"))),
    ("no validation set", edited(("digits}", "digits, validation: 0}"))),
    ("idle batch-norm settings", edited(("model:", "model:\n  batch_norm_eps: 1e-3"))),
    ("no normalization, in the long form", edited(("model:", "model:\n  norm: none\n  batch_norm_eps: 1e-3"))),
    ("idle batch-norm statistics", SMALL + "evaluation: {batch_norm_statistics: batch_average}\n"),
    ("no schedule", edited(("epochs: 20", "epochs: 20, schedule: null"))),
    ("how idle dequantized gray is rescaled", edited(("digits}", "digits, rescaled_by: training_maximum}"))),
    ("no clipping of means", edited(("model:", "model:\n  mean_clip: 0"))),
    ("a weight of 1 for every layer", SMALL + "objective: {beta: [1, 1]}\n"),
    ("an idle share of the ELBO", SMALL + "objective: {elbo_share: 0.1}\n"),
    ("no free bits", SMALL + "objective: {free_bits: null, estimator: reparameterized}\n"),
    ("an idle ramp", SMALL + "objective: {sample_ramp: true}\n"),
    ("no flow", edited(("model:", "model:\n  flow: none"))),
    ("no flow, in a null", edited(("model:", "model:\n  flow: null"))),
    ("no flow of a layer", edited(("[32, 32]", "[32, 32], flow: none"), ("[16, 16]", "[16, 16], flow: null"))),
    (
        "a flow that no layer has",
        edited(
            ("model:", "model:\n  flow: iaf"),
            ("[32, 32]", "[32, 32], flow: none"),
            ("[16, 16]", "[16, 16], flow: none"),
        ),
    ),
    ("memory", SMALL + "evaluation: {memory_gib: 2.0}\n"),
    ("no annealing", SMALL + "evaluation: {ais: null}\n"),
    ("no refinement", SMALL + "evaluation: {refine: null}\n"),
    ("no probe", SMALL + "evaluation: {probe: null}\n"),
    ("points of the learning curve", SMALL + "evaluation: {every: 5, curve_iw_samples: 7, curve_images: 9}\n"),
    ("a negative zero", edited(("model:", "model:\n  variance_bias: -0.0"))),
    ("a variant's name", SMALL + "grid: {variants: {Any name: {}}}\n"),
    (
        "other seeds, depths and axes",
        SMALL + "grid: {depth: [2, 1], seeds: [0, 4], axes: {training.epochs: [20, 3]}}\n",
    ),
    ("how it is reached", edited(("epochs: 20", "epochs: 9"), more="grid: {variants: {A: {training.epochs: 20}}}\n")),
    ("an exclusion", SMALL + "grid: {depth: [2, 1], exclude: [{depth: 1}]}\n"),
]


@pytest.mark.parametrize(("what", "text"), SAME, ids=[row[0] for row in SAME])
def test_the_digest_does_not_see(what, text):
    assert digest(text) == digest(SMALL)


SPELLINGS = [
    ("optimizer: {adam: {lr: 1}}", "optimizer: {adam: {lr: 1.0}}"),
    ("optimizer: {adam: {lr: 2e-3}}", "optimizer: {adam: {lr: 0.0020, beta1: .9}}"),
    ("clip_norm: 4", "clip_norm: 4."),
]


@pytest.mark.parametrize(("first", "second"), SPELLINGS)
def test_spellings_of_a_number_are_one(first, second):
    one, two = (digest(edited(("epochs: 20", f"epochs: 20, {setting}"))) for setting in (first, second))
    assert one == two
    assert one != digest(SMALL)


@pytest.mark.parametrize(("first", "second"), [("elu", "{elu: 1}"), ("elu", "{elu: 1.0}")])
def test_spellings_of_a_nonlinearity_are_one(first, second):
    one, two = (digest(edited(("model:", f"model:\n  nonlinearity: {form}"))) for form in (first, second))
    assert one == two
    assert one != digest(SMALL)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([("model:", "model:\n  flow: planar")], [("model:", "model:\n  flow: {planar: 10}")]),
        ([("model:", "model:\n  flow: iaf")], [("model:", "model:\n  flow: {iaf: {steps: 2, mlp: [320]}}")]),
        (
            [("model:", "model:\n  flow: planar")],
            [("[32, 32]", "[32, 32], flow: planar"), ("[16, 16]", "[16, 16], flow: {planar: 10}")],
        ),
        (
            [("model:", "model:\n  flow: iaf"), ("[32, 32]", "[32, 32], flow: planar")],
            [("[32, 32]", "[32, 32], flow: planar"), ("[16, 16]", "[16, 16], flow: iaf")],
        ),
        (
            [("model:", "model:\n  flow: iaf"), ("[32, 32]", "[32, 32], flow: none")],
            [("[16, 16]", "[16, 16], flow: iaf")],
        ),
    ],
)
def test_spellings_of_flows_are_one(first, second):
    one, two = (members(loads(edited(*edits)))[0].spec for edits in (first, second))
    assert one == two
    assert one.digests == two.digests
    assert one.digests.evaluation != digest(SMALL)
    assert MemberSpec.model_validate(yaml.safe_load(yaml.safe_dump(one.model_dump(mode="json")))) == one


DIFFERENT = [
    "data.dataset=mnist", "data.grey_divisor=levels", "data.redraw=once", "data.train_images=100",
    "data.test_images=100", "data.validation=100",
    "model.inference=ladder", "model.inference=top_down", "model.skip=generative",
    "model.batch_norm=true", "model.norm=layer", "model.norm={batch: {heads: false}}",
    "model.flow=planar", "model.flow={planar: 3}", "model.flow={iaf: {mlp: []}}", "model.layers.0.flow=planar",
    "model.prior=mixture", "model.prior={realnvp: {blocks: 3}}",
    "model.nonlinearity=tanh", "model.nonlinearity.leaky_relu=0.2",
    "model.observation=gaussian", "model.observation={gaussian: {variance: learned}}",
    "model.observation.gaussian.variance=0.1", "model.observation=continuous_bernoulli",
    "model.observation=discretized_logistic", "model.initialization=glorot_normal", "model.variance_bias=1",
    "model.variance_floor=0", "model.layers.0.units=9", "model.layers.0.mlp=[32]", "model.layers.1.mlp_down=[3]",
    "objective.warm_up=3", "objective.mc_samples=2", "objective.iw_samples=2", "training.epochs=21",
    "training.batch_size=33", "training.optimizer.adam.lr=2e-3", "training.optimizer.adam.beta1=0.8",
    "training.optimizer.adam.beta2=0.99", "training.optimizer.adam.eps=1e-4", "training.clip_norm=4",
    "training.schedule={stages: [{epochs: 1, lr: 1e-3}]}", "model.mean_clip=1e-5", "training.ema=0.999",
    "training.optimizer={adamw: {}}", "training.optimizer={sgd: {}}", "training.schedule={cosine: {over: 20}}",
    "training.schedule={linear: {over: 20}}", "training.schedule={step: {factor: 0.5, every: 3}}",
    "training.clip_value=0.9", "training.last_batch=keep", "training.matmul_precision=high", "evaluation.iw_samples=10",
    "evaluation.ais={}", "evaluation.ais={steps: 7}",
    "evaluation.refine={}", "evaluation.refine={steps: 7}", "evaluation.refine={lr: 0.1}",
    "evaluation.refine={images: 9}", "evaluation.probe={}", "evaluation.probe={labels: [100]}",
    "grid.seeds=[1]",
]  # fmt: skip


def settings_digest(tmp_path, *overrides):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return settings_digests(path, overrides).evaluation


def settings_digests(path, overrides):
    return read(path, overrides).members[0].digests


@pytest.mark.parametrize("override", DIFFERENT)
def test_the_digest_sees(tmp_path, override):
    assert settings_digest(tmp_path, override) != digest(SMALL)


def test_defaults_of_annealing_are_left_out_and_it_changes_no_training(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    plain, given, default = (
        settings_digests(path, overrides)
        for overrides in ((), ("evaluation.ais={images: 100, chains: 16, steps: 1000}",), ("evaluation.ais={}",))
    )
    assert given == default
    assert given.training == plain.training


def test_defaults_of_a_refinement_are_left_out_and_it_changes_no_training(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    plain, given, default = (
        settings_digests(path, overrides)
        for overrides in ((), ("evaluation.refine={images: 100, steps: 20, lr: 0.05}",), ("evaluation.refine={}",))
    )
    assert given == default
    assert given.training == plain.training


def test_all_images_beside_a_validation_set_are_said_by_saying_nothing(tmp_path):
    beside = settings_digest(tmp_path, "data.validation=100")
    assert settings_digest(tmp_path, "data.validation=100", "data.train_images=1337") == beside
    assert settings_digest(tmp_path, "data.validation=100", "data.train_images=1336") != beside


WHERE_READ = [
    ("model.batch_norm=true", "model.batch_norm_eps=1e-3"),
    ("model.batch_norm=true", "evaluation.batch_norm_statistics=batch_average"),
    ("model.norm=layer", "model.batch_norm_eps=1e-3"),
    ("model.norm={batch: {heads: false}}", "evaluation.batch_norm_statistics=batch_average"),
    ("objective.iw_samples=2", "objective.sample_ramp=true"),
    ("model.inference=ladder", "model.layers.1.mlp_top_down=[7]"),
    ("model.inference=top_down", "model.layers.1.mlp_top_down=[7]"),
    ("model.inference=ladder", "model.share_top_down=true"),
    ("model.inference=ladder", "model.inference_steps=2"),
    ("model.observation=gaussian", "data.rescaled_by=training_maximum"),
]


@pytest.mark.parametrize(("condition", "override"), WHERE_READ)
def test_what_is_idle_elsewhere_counts_where_it_is_read(tmp_path, condition, override):
    assert settings_digest(tmp_path, condition, override) != settings_digest(tmp_path, condition)


@pytest.mark.parametrize("inference", ["vae", "ladder", "top_down"])
def test_skip_connections_count_where_there_are_layers_to_skip(inference):
    none, generative, both = (
        [member(depth, model__inference=inference, model__skip=skip).digests for depth in (1, 2, 3)]
        for skip in ("none", "generative", "both")
    )
    assert none[0] == generative[0] == both[0]
    assert none[1] != generative[1] == both[1]
    assert len({none[2], generative[2], both[2]}) == 3


def test_inference_steps_count_where_there_is_something_to_pass_down():
    one, two, three = (
        [member(depth, model__inference_steps=steps).digests for depth in (1, 2, 3)] for steps in (1, 2, 3)
    )
    assert one[0] == two[0] == three[0]
    for depth in (1, 2):
        assert len({digests[depth].trajectory for digests in (one, two, three)}) == 3


@pytest.mark.parametrize(("inference", "shared"), [("vae", False), ("ladder", False), ("ladder", True)])
def test_names_of_skip_connections_are_those_that_there_are(inference, shared):
    settings = {"model__inference": inference, "model__share_top_down": shared}
    for skip, labels in {"generative": ["", "+skip p"], "both": ["", "+skip p", "+skip pq"]}.items():
        for depth, label in enumerate(labels, start=1):
            name = "VAE" if inference == "vae" else "Prob. ladder"
            assert member(depth, model__skip=skip, **settings).label == f"{name}{label}+BN+WU"


def test_a_variant_without_a_name_has_one_for_all_depths():
    experiment = loads(edited(("model:", "model:\n  skip: both"), more="grid: {depth: [1, 2]}\n"))
    assert [cell.variant for cell in cells(experiment)] == ["VAE+skip p"] * 2


@pytest.mark.parametrize("condition", ["model.observation=gaussian", "data.dataset=omniglot"])
def test_the_divisor_of_gray_levels_is_idle_where_none_are_binarized(tmp_path, condition):
    assert settings_digest(tmp_path, condition, "data.grey_divisor=levels") == settings_digest(tmp_path, condition)


def test_a_prior_by_its_name_alone_is_it_with_its_default_settings(tmp_path):
    assert settings_digest(tmp_path, "model.prior=standard_normal") == digest(SMALL)
    for name, settings in (("mixture", "{mixture: 50}"), ("realnvp", "{realnvp: {blocks: 4, mlp: [64]}}")):
        named = settings_digest(tmp_path, f"model.prior={name}")
        assert named == settings_digest(tmp_path, f"model.prior={settings}")
    assert settings_digest(tmp_path, "model.prior={mixture: 51}") != settings_digest(tmp_path, "model.prior=mixture")


def test_a_gaussian_that_says_that_its_variance_is_predicted_is_a_plain_one(tmp_path):
    gaussian = settings_digest(tmp_path, "model.observation=gaussian")
    for other in ("{gaussian: {}}", "{gaussian: {variance: predicted}}"):
        assert settings_digest(tmp_path, f"model.observation={other}") == gaussian
    learned = settings_digest(tmp_path, "model.observation={gaussian: {variance: learned}}")
    assert learned not in (gaussian, settings_digest(tmp_path, "model.observation={gaussian: {variance: 1.0}}"))


@pytest.mark.parametrize(
    ("observation", "idle"),
    [
        ("discretized_logistic", ["data.redraw=once", "data.rescaled_by=training_maximum", "data.grey_divisor=levels"]),
        ("continuous_bernoulli", ["model.mean_clip=0.1", "data.rescaled_by=training_maximum"]),
    ],
)
def test_what_makes_another_x_is_idle_beside_a_model_of_this_one(tmp_path, observation, idle):
    chosen = f"model.observation={observation}"
    for setting in idle:
        assert settings_digest(tmp_path, chosen, setting) == settings_digest(tmp_path, chosen)
    if observation == "continuous_bernoulli":
        assert settings_digest(tmp_path, chosen, "data.redraw=once") != settings_digest(tmp_path, chosen)


def test_the_clip_of_means_is_idle_where_x_is_not_binary(tmp_path):
    gaussian = "model.observation=gaussian"
    assert settings_digest(tmp_path, gaussian, "model.mean_clip=0.1") == settings_digest(tmp_path, gaussian)


@pytest.mark.parametrize("setting", ["model.observation=gaussian", "data.dataset=omniglot"])
def test_how_gray_is_rescaled_is_idle_where_none_is_dequantized(tmp_path, setting):
    conditions = {setting, "data.dataset=omniglot"}
    changed = settings_digest(tmp_path, *conditions, "data.rescaled_by=training_maximum")
    assert changed == settings_digest(tmp_path, *conditions)


STAGES = "training.schedule={stages: [{epochs: 5, lr: 1e-3}, {epochs: 5, lr: 1e-4}]}"
RATE = "training.optimizer.adam.lr=0.1"


def test_beside_a_schedule_the_optimizers_learning_rate_is_idle_unless_a_first_phase_reads_it(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    assert settings_digests(path, [STAGES, RATE]) == settings_digests(path, [STAGES])
    phase = "training.first_phase={epochs: 3}"
    one, other = settings_digests(path, [STAGES, phase]), settings_digests(path, [STAGES, phase, RATE])
    # The second phase's schedules agree, but its weights begin elsewhere.
    assert one.trajectory != other.trajectory
    assert one.training != other.training


def test_beside_a_schedule_that_multiplies_it_the_optimizers_learning_rate_counts(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    falling = "training.schedule={cosine: {over: 20}}"
    one, other = settings_digests(path, [falling]), settings_digests(path, [falling, RATE])
    assert one.trajectory == other.trajectory
    assert one.training != other.training


def test_a_schedule_of_steps_without_a_ramp_is_the_member_that_lr_decay_is_short_for(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    step = "training.schedule={{step: {{factor: 0.5, every: 3{}}}}}".format
    short = settings_digests(path, ["training.lr_decay={factor: 0.5, every: 3}"])
    assert [settings_digests(path, [step(ramp)]) for ramp in ("", ", ramp: 0", ", ramp: 1")] == [short] * 3
    assert settings_digests(path, [step(", ramp: 2")]).training != short.training


def test_ladder_and_vae_of_one_layer_are_one_model_and_of_two_are_not():
    variants = "variants: {V: {}, L: {model.inference: ladder}}"
    with pytest.raises(SpecError, match="'V' and 'L' resolve to the same model at depth 1"):
        loads(SMALL + f"grid: {{depth: [1, 2], {variants}}}\n")
    first, second = members(loads(SMALL + f"grid: {{depth: [2], {variants}}}\n"))
    assert first.digests != second.digests


PINNED = Digests(
    trajectory="0555cb65cc146ba289c349722af48b1b42d697b96fdc4d5bbaf06b8f57024a52",
    training="7142077c6070cf4aec0cbd01772721015554df6d65e82ff2cf921518b74c7362",
    evaluation="d1765bdccbe5ed02a1fac0332a9943bf8d4897e0b8a37fb0df7047f8a984b8bb",
)


def test_the_digests_are_pinned():
    """Digests name records on disk: if this fails, results of older runs are no longer found."""
    assert digests(SMALL) == PINNED


PARTS = [
    ("training.epochs=21", "length"),
    ("objective.warm_up=3", "schedule"),
    ("objective.iw_samples=2", "schedule"),
    ("training.optimizer.adam.lr=2e-3", "schedule"),
    ("training.lr_decay={factor: 0.5, every: 3}", "schedule"),
    ("training.schedule={stages: [{epochs: 5, lr: 1e-3}]}", "schedule"),
    ("training.schedule={cosine: {over: 20}}", "schedule"),
    ("training.schedule={linear: {over: 20}}", "schedule"),
    ("training.optimizer={sgd: {}}", "trajectory"),
    ("training.optimizer={adamw: {}}", "trajectory"),
    ("training.ema=0.99", "trajectory"),
    ("training.optimizer.adam.beta1=0.8", "trajectory"),
    ("training.batch_size=33", "trajectory"),
    ("model.batch_norm=true", "trajectory"),
    ("data.train_images=100", "trajectory"),
    ("data.validation=100", "trajectory"),
    ("grid.seeds=[1]", "trajectory"),
    ("data.test_images=100", "evaluation"),
    ("evaluation.iw_samples=10", "evaluation"),
    ("evaluation.memory_gib=2", "nothing"),
    ("evaluation.every=5", "nothing"),
]


@pytest.mark.parametrize(("override", "part"), PARTS)
def test_each_digest_sees_its_part(tmp_path, override, part):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    one, two = digests(SMALL), settings_digests(path, [override])
    assert (one.trajectory != two.trajectory) == (part == "trajectory")
    assert (one.training != two.training) == (part in ("trajectory", "schedule", "length"))
    assert (one.evaluation != two.evaluation) == (part != "nothing")


STOPPING = (
    "data.validation=100",
    "training.early_stopping={patience: 2}",
    "evaluation.every=5",
    "model.batch_norm=true",
)


def test_patience_is_of_the_training_and_not_of_its_trajectory(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    without = settings_digests(path, [*STOPPING[:1], *STOPPING[2:]])
    two, three = (settings_digests(path, [*STOPPING, f"training.early_stopping.patience={n}"]) for n in (2, 3))
    assert two.trajectory == three.trajectory == without.trajectory
    assert len({two.training, three.training, without.training}) == 3


@pytest.mark.parametrize(
    ("override", "stops"),
    [
        ("evaluation.every=4", True),
        ("evaluation.curve_iw_samples=9", True),
        ("evaluation.curve_images=9", True),
        ("evaluation.batch_norm_statistics=batch_average", True),
        ("evaluation.iw_samples=9", False),
        ("evaluation.memory_gib=2", False),
        ("data.test_images=9", False),
    ],
)
def test_with_early_stopping_what_is_watched_decides_the_weights(tmp_path, override, stops):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    one, two = settings_digests(path, STOPPING), settings_digests(path, [*STOPPING, override])
    assert one.trajectory == two.trajectory
    assert (one.training != two.training) == stops
    assert (one.evaluation != two.evaluation) == (override != "evaluation.memory_gib=2")


def test_how_statistics_are_recorded_is_of_the_evaluation_alone(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    norm = "model.batch_norm=true"
    one = settings_digests(path, [norm])
    two = settings_digests(path, [norm, "evaluation.batch_norm_statistics=batch_average"])
    assert one.training == two.training
    assert one.evaluation != two.evaluation


def shuffled(node, rng):
    if isinstance(node, dict):
        keys = list(node)
        rng.shuffle(keys)
        return {key: shuffled(node[key], rng) for key in keys}
    return [shuffled(item, rng) for item in node] if isinstance(node, list) else node


@given(st.integers(0, 2**32), st.booleans())
def test_the_order_of_keys_and_the_style_are_nothing(seed, flow):
    tree = yaml.safe_load(SMALL)
    text = yaml.safe_dump(shuffled(tree, random.Random(seed)), sort_keys=False, default_flow_style=flow)
    assert digest(text) == digest(SMALL)


def test_a_resolved_spec_reads_back_as_itself():
    (member,) = members(loads(edited(("model:", "model:\n  nonlinearity: elu"))))
    again = MemberSpec.model_validate(yaml.safe_load(yaml.safe_dump(member.spec.model_dump(mode="json"))))
    assert again == member.spec
    assert again.digests == member.digests


def test_one_weight_for_all_layers_is_one_number_also_in_a_first_phase():
    for section in ("objective: {{beta: {}}}\n", "training: {{epochs: 20, first_phase: {{epochs: 2, beta: {}}}}}\n"):
        one, two = (
            digest(
                edited(
                    ("training: {epochs: 20, batch_size: 32}\n", ""),
                    more="training: {epochs: 20}\n" * ("objective" in section) + section.format(form),
                )
            )
            for form in ("4", "[4, 4.0]")
        )
        assert one == two


def test_a_probe_of_a_layer_with_a_flow_is_another_evaluation_than_the_first_version_made():
    flow, probe = {"model__flow": "planar"}, {"evaluation__probe": {"labels": [100]}}
    both = member(2, **flow, **probe).digests
    assert both.training == member(2, **flow).digests.training
    assert both.evaluation[:16] != "50fafea248928991"
    # Neither alone is another one.
    assert member(2, **flow).digests.evaluation[:16] == "2d8d45efd398c5f2"
    assert member(2, **probe).digests.evaluation[:16] == "eca4b644955c3538"

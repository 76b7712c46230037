"""What a spec may say of classes and labeled images, and what it may not: one located line, and its good neighbor."""

import pytest

from hvae_spec.reading import loads
from hvae_spec.spec.choices.dataset import ImageCounts
from hvae_spec.spec.cost import (
    classifier_macs,
    forward_macs,
    images_of_epoch,
    images_of_step,
    mappings,
    samples_in_training,
    steps_per_epoch,
    training_macs,
)
from hvae_spec.spec.equations import equations, generative, inference, objective
from hvae_spec.training.schedules import disagreement
from tests.members import member
from tests.spec.small_spec import place_of, problems

CLASSES = """\
name: small
data: {dataset: digits, labeled: 100}
model:
  layers:
    - {units: 8, mlp: [32, 32]}
    - {units: 4, mlp: [16, 16]}
  classes: {mlp: [6]}
training: {epochs: 20, batch_size: 32}
"""


def spec(*edits, more=""):
    text = CLASSES
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text + more


OWN = "own, own: {name: o, file: /dev/null/x.npy, range: [0, 1]}"
# edits, text after it, where the problem starts, words of the message; and the good neighbor: edits, text after it
PAIRS = [
    ([("  classes: {mlp: [6]}\n", "")], "", "100", "a model without classes that would read", [], ""),
    ([(", labeled: 100", "")], "", "{mlp: [6]", "of which no image has a label", [("100", "all")], ""),
    ([("100", "101")], "", "101", "101 labeled images are not as many of each of 10 classes", [("100", "110")], ""),
    ([("100", "2000")], "", "2000", "2000 labeled images of 1437 training images", [("100", "1000")], ""),
    ([("100", "some")], "", "some", "a whole number greater than 0, or all", [("100", "all")], ""),
    (
        [("digits", "frey")],
        "",
        "{mlp: [6]",
        "a model of classes, of which the images of frey have none",
        [],
        "",
    ),
    ([("mlp: [6]", "mlp: [6], count: 9")], "", "9}", "9 classes, but digits has 10", [("[6]", "[6], count: 10")], ""),
    (
        [("  classes: {mlp: [6]}\n", ""), (", labeled: 100", "")],
        "objective: {classification: only}\n",
        "only",
        "only q(y|x) is to be trained, and the model has no classes",
        [],
        "objective: {classification: only}\n",
    ),
    ([], "objective: {classification: ever}\n", "ever", "only", [], "objective: {classification: 0.5}\n"),
    ([], "objective: {estimator: stl}\n", "stl", "the estimator stl", [], "objective: {beta: 2}\n"),
    (
        [],
        "objective: {free_bits: {nats: 1, per: layer}}\n",
        "{nats",
        "free bits",
        [],
        "objective: {iw_samples: 2, elbo_share: 0.5}\n",
    ),
    (
        [("  classes", "  inference: ladder\n  prior: {vamp: 9}\n  classes")],
        "",
        "{vamp",
        "the prior vamp, whose pseudo-inputs have no y for q(z_2|x, y), beside model.classes",
        [("  classes", "  inference: ladder\n  prior: {mixture: 9}\n  classes")],
        "",
    ),
    (
        [("  classes", "  inference: ladder\n  inference_steps: 7\n  classes")],
        "",
        "7",
        "several sweeps of inference",
        [("  classes", "  inference: ladder\n  classes")],
        "",
    ),
    (
        [("  classes", "  auxiliary: {units: 3}\n  classes")],
        "",
        "{units: 3",
        "an auxiliary variable, of which r(a|x, z) would have to take y, beside model.classes",
        [("  classes", "  auxiliary: null\n  classes")],
        "",
    ),
    ([("digits", "digits, copies: 2")], "", "2,", "copies of training images", [("digits", "digits, copies: 1")], ""),
    ([], "evaluation: {ais: {images: 9}}\n", "{images", "annealed importance sampling", [], "evaluation: {every: 2}\n"),
    ([], "evaluation: {refine: {images: 9}}\n", "{images", "a refinement", [], ""),
    (
        [],
        "evaluation: {probe: {labels: [all]}}\n",
        "{labels",
        "a probe of classes that the model has been told",
        [],
        "",
    ),
    (
        [("digits", "digits, validation: 50"), ("20,", "20, early_stopping: {patience: 2},")],
        "evaluation: {every: 2}\nobjective: {classification: only}\n",
        "{patience",
        "early stopping by a bound, and only q(y|x) is trained",
        [("digits", "digits, validation: 50"), ("20,", "20, early_stopping: {patience: 2},")],
        "evaluation: {every: 2}\n",
    ),
    (
        [("100", "100, labeled_batch: 1"), ("  classes", "  batch_norm: true\n  classes")],
        "objective: {classification: only}\n",
        "1}",
        "batch normalization needs more than one image",
        [("100", "100, labeled_batch: 1"), ("  classes", "  batch_norm: true\n  classes")],
        "",
    ),
    (
        [("100", "100, labeled_batch: 1"), ("  classes", "  batch_norm: true\n  classes")],
        "objective: {classification: only}\n",
        "1}",
        "batch normalization needs more than one image",
        [("100", "all, labeled_batch: 1"), ("  classes", "  batch_norm: true\n  classes")],
        "objective: {classification: only}\n",
    ),
    (
        [("100", "1420")],
        "",
        "32}",
        "a batch of 32 images is larger than the 17 images without a label",
        [("100", "1400")],
        "",
    ),
    (
        [("digits", "digits, train_images: 100")],
        "",
        "100}",
        "100 labeled images of 100 training images",
        [("digits, labeled: 100", "digits, train_images: 100, labeled: all")],
        "",
    ),
]


@pytest.mark.parametrize("place", range(len(PAIRS)))
def test_a_contradiction_is_one_located_line_and_its_neighbor_is_none(place):
    edits, more, where, words, good, after = PAIRS[place]
    text = spec(*edits, more=more)
    (problem,) = problems(text)
    assert words in str(problem)
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if where in line]
    assert problem.place.line in lines
    if (good, after) != ([], "") or place in (0,):
        assert problems(spec(*good, more=after)) == []


def test_images_of_ones_own_need_the_number_of_their_classes(tmp_path):
    import numpy as np

    file = tmp_path / "o.npz"
    images, labels = np.zeros((40, 4), dtype=np.uint8), np.arange(40) % 3
    np.savez(file, train=images, test=images, train_labels=labels, test_labels=labels)
    own = f"own, own: {{name: o, file: {file}, range: [0, 1]}}, train_images: 40"
    text = spec(("digits", own), ("100", "6"), ("batch_size: 32", "batch_size: 8"))
    (problem,) = problems(text)
    assert "only its images tell how many these are" in str(problem)
    assert (problem.place.line, problem.place.column) == place_of(text, "{mlp: [6]")
    assert problems(text.replace("mlp: [6]", "mlp: [6], count: 3")) == []
    (problem,) = problems(text.replace("mlp: [6]", "mlp: [6], count: 1"))
    assert "a single class, which says nothing of an image" in str(problem)


def test_a_search_has_no_bound_of_q_of_y_alone_to_rank_by():
    search = "search: {space: {training.optimizer.adam.lr: {loguniform: [1e-4, 1e-2]}}, trials: 2}\n"
    validated = ("digits", "digits, validation: 50")
    (problem,) = problems(spec(validated, more=f"{search}objective: {{classification: only}}\n"))
    assert "a search ranks by the bound of validation images" in str(problem)
    assert problems(spec(validated, more=f"{search}objective: {{classification: 2}}\n")) == []


SEARCH = "search: {space: {training.optimizer.adam.lr: {loguniform: [1e-4, 1e-2]}}, trials: 2}\n"
VARIANTS = "grid: {variants: {m2: {}, alone: {objective.classification: only}}}\n"
SPACE = "search: {space: {objective.classification: {choice: [0.1, only]}}, trials: 2}\n"


@pytest.mark.parametrize(("more", "good"), [(SEARCH + VARIANTS, SEARCH), (SPACE, SPACE.replace("only", "1.0"))])
def test_a_search_ranks_no_cell_of_q_of_y_alone(more, good):
    validated = ("digits", "digits, validation: 50")
    text = spec(validated, more=more)
    (problem,) = problems(text)
    assert "a search ranks by the bound of validation images" in str(problem)
    assert problem.place.line == place_of(text, "only")[0]
    assert problems(spec(validated, more=good)) == []


@pytest.mark.parametrize("is_first", [False, True])
def test_q_of_y_is_alone_in_both_phases_or_in_neither(is_first):
    edits = ("100", "100, labeled_batch: 1"), ("  classes", "  batch_norm: true\n  classes")
    first, main = "first_phase: {epochs: 2, classification: only}", "objective: {classification: only}\n"

    def both(*, in_first, in_main):
        phase = first if in_first else "first_phase: {epochs: 2}"
        training = ("batch_size: 32", f"batch_size: 32,\n  {phase}")
        return spec(training, *edits[: 0 if in_first and in_main else 2], more=main if in_main else "")

    text = both(in_first=is_first, in_main=not is_first)
    batch, problem = sorted(problems(text), key=lambda one: one.place.line)
    assert "batch normalization needs more than one image" in str(batch)
    where = ("objective", "training.first_phase")[:: -1 if is_first else 1]
    assert f"only q(y|x) is trained in {where[0]}, and not in {where[1]}" in str(problem)
    assert (problem.place.line, problem.place.column) == place_of(text, "only")
    assert problems(both(in_first=True, in_main=True)) == []
    assert len(problems(both(in_first=False, in_main=False))) == 0


def test_what_classes_do_not_read_is_no_part_of_a_digest():
    plain, other = member(), member(objective__classification=0.5)
    assert plain.digests == other.digests
    labeled = {"model__classes": {"mlp": [6]}, "data__labeled": "all"}
    one = member(**labeled)
    assert one.digests != plain.digests
    assert one.digests == member(**labeled, data__labeled_batch=7).digests
    assert one.digests == member(**{**labeled, "model__classes": {"mlp": [6], "count": 10}}).digests
    assert one.digests != member(**labeled, objective__classification=0.5).digests
    some = {**labeled, "data__labeled": 20}
    assert member(**some).digests != member(**some, data__labeled_batch=7).digests


BESIDE_ALONE = [
    {"objective__beta": 2.0, "objective__warm_up": 2},
    {"objective__iw_samples": 3, "objective__mc_samples": 2, "objective__sample_ramp": True},
    {"objective__iw_samples": 3, "objective__elbo_share": 0.5},
    {"evaluation__iw_samples": 77},
    {"evaluation__redraws": {"draws": 3, "images": 5}},
    {"evaluation__every": 1, "evaluation__curve_iw_samples": 5, "evaluation__curve_images": 9},
]


@pytest.mark.parametrize("settings", BESIDE_ALONE, ids=str)
def test_what_q_of_y_alone_does_not_read_is_no_part_of_its_digests(settings):
    labeled = {"model__classes": {"mlp": [6]}, "data__labeled": 20}
    alone = {**labeled, "objective__classification": "only"}
    one, other = member(2, **alone), member(2, **alone, **settings)
    assert one.digests == other.digests
    assert disagreement(one, other, 3) is None
    if "evaluation__every" not in settings:
        assert member(2, **labeled).digests.evaluation != member(2, **labeled, **settings).digests.evaluation


def test_what_q_of_y_alone_reads_is_part_of_its_digests():
    alone = {"model__classes": {"mlp": [6]}, "data__labeled": 20, "objective__classification": "only"}
    one = member(2, **alone)
    for settings in ({"data__labeled_batch": 7}, {"training__batch_size": 16}, {"training__clip_norm": 1.0}):
        assert one.digests.training != member(2, **alone, **settings).digests.training
    norm = member(2, **alone, evaluation__batch_norm_statistics="batch_average")
    assert one.digests.training == norm.digests.training
    assert one.digests.evaluation != norm.digests.evaluation
    faster = member(2, **alone, training__optimizer={"adam": {"lr": 0.5}})
    assert disagreement(one, faster, 3) == (1, "training.optimizer")


def test_of_a_first_phase_q_of_y_alone_reads_no_bound_either():
    alone = {"model__classes": {"mlp": [6]}, "data__labeled": 20, "objective__classification": "only"}
    phases = [{"epochs": 2, "classification": "only", **more} for more in ({}, {"beta": 2.0, "iw_samples": 5})]
    one, other = (member(2, **alone, training__first_phase=phase) for phase in phases)
    assert one.digests == other.digests
    assert one.first_phase.digests == other.first_phase.digests == member(2, **alone, training__epochs=2).digests


def test_an_axis_that_a_variant_does_not_read_is_one_line():
    grid = "grid: {variants: {m2: {}, alone: {objective.classification: only}}, axes: {objective.iw_samples: [1, 5]}"
    (problem,) = problems(spec(more=grid + "}\n"))
    words = "levels 1 and 5 of objective.iw_samples resolve to the same model with variant 'alone' at depth 2"
    assert words in str(problem)
    excluded = ", exclude: [{variant: alone, objective.iw_samples: 5}]}\n"
    assert problems(spec(more=grid + excluded)) == []


def test_costs_count_classes_and_the_images_that_a_step_adds():
    labeled = {"model__classes": {"mlp": [6]}, "data__labeled": 20, "data__labeled_batch": 10}
    plain, spec = member(2), member(2, **labeled)
    assert (samples_in_training(plain), samples_in_training(spec)) == (1, 10)
    assert (images_of_step(plain), images_of_step(spec)) == (32, 42)
    # 300 images without a label, and 10 with one in each of 9 steps.
    assert steps_per_epoch(spec, 320) == 300 // 32
    assert (images_of_epoch(plain, 320), images_of_epoch(spec, 320)) == (320, 300 + 90)
    alone = member(2, **labeled, objective__classification="only")
    assert (samples_in_training(alone), images_of_step(alone), images_of_epoch(alone, 320)) == (0, 10, 90)
    assert classifier_macs(alone, 64) == (64 * 12 + 12 * 10 + 10 * 10) + 5 * 6 + 6 * 10
    assert training_macs(alone, ImageCounts(64, 320, 24)) == 3 * 90 * 3 * classifier_macs(alone, 64)
    # Once per image: d_1, d_2 for each class, and q(y|x).
    once = {mapping.name: mapping.macs for mapping in mappings(spec, 64) if not mapping.per_sample}
    assert once["d_2(y)"] == 10 * ((5 + 10) * 9 + 9 * 8 + 8 * 8)
    assert once["q(y|x)"] == 5 * 6 + 6 * 10
    assert forward_macs(spec, 64)[0] == sum(once.values())


def test_equations_say_how_y_enters():
    labeled = {"model__classes": {"mlp": [6]}, "data__labeled": 20}
    ladder = member(3, **labeled)
    assert generative(ladder.model) == "p(x|z_1) p(z_1|z_2) p(z_2|z_3, y) p(z_3) p(y)"
    assert inference(ladder.model) == "q(y|x) q(z_3|x, y) q(z_2|z_3, x) q(z_1|z_2, x)"
    assert equations(ladder.model)[-1] == "q(y|x) = softmax(Linear(MLP(μ_{d,2})))"
    shared = member(3, **labeled, model__share_top_down=True, model__skip="both")
    assert generative(shared.model) == "p(x|z_1…z_3, y) p(z_1|z_2, z_3, y) p(z_2|z_3, y) p(z_3) p(y)"
    assert inference(shared.model) == "q(y|x) q(z_3|x, y) q(z_2|z_3, y, x) q(z_1|z_2, z_3, y, x)"
    vae = member(2, **labeled, model__inference="vae")
    assert inference(vae.model) == "q(y|x) q(z_1|x) q(z_2|z_1, y)"
    assert equations(vae.model)[-1] == "q(y|x) = softmax(Linear(MLP(x)))"
    assert inference(member(1, **labeled).model) == "q(y|x) q(z_1|x, y)"
    assert any("0.1 mean log q(y|x)" in line for line in objective(vae.objective, vae.model))
    alone = member(2, **labeled, objective__classification="only")
    assert objective(alone.objective, alone.model) == ("mean log q(y|x) over the labeled images",)
    assert loads(CLASSES).name == "small"

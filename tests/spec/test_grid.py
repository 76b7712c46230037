"""Cells of a grid: what they resolve to, what they are called, and setting values by path."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec.data.counts import stated_counts
from hvae_spec.errors import SpecError
from hvae_spec.reading import loads, read, reads
from hvae_spec.spec.experiment import BESIDE_MEMBERS
from hvae_spec.spec.grid import UnknownPathError, cells, members, parse_path, set_path, slug
from hvae_spec.spec.load import validate
from hvae_spec.spec.yaml import parse
from tests.spec.small_spec import SMALL, place_of, problems

GRID = """\
grid:
  depth: [1, 2]
  variants:
    VAE:
    Ladder (β): {model.inference: ladder, model.layers.1.mlp_down: [3]}
  axes: {training.batch_size: [16, 32]}
  exclude: [{variant: Ladder (β), depth: 1}, {training.batch_size: 32, variant: VAE, depth: 2}]
  seeds: [5, 3]
"""


def test_cells_are_depth_by_variant_by_axes():
    found = cells(loads(SMALL + GRID))
    assert [(cell.depth, cell.variant, cell.axes["training.batch_size"]) for cell in found] == [
        (1, "VAE", 16),
        (1, "VAE", 32),
        (2, "VAE", 16),
        (2, "Ladder (β)", 16),
        (2, "Ladder (β)", 32),
    ]
    last = found[-1].member
    assert (last.model.inference, last.training.batch_size, last.model.layers[1].down) == ("ladder", 32, (3,))
    assert [layer.units for layer in found[0].member.model.layers] == [8]


def test_members_are_cells_by_seeds():
    found = members(loads(SMALL + GRID))
    assert [member.seed for member in found] == [5, 3] * 5
    assert len({member.digests.evaluation for member in found}) == 10
    assert found[1].labels == {"dataset": "digits", "depth": 1, "variant": "VAE", "seed": 3, "training.batch_size": 16}


def test_reading_and_the_experiment_give_the_same_members():
    reading = validate(parse(SMALL + GRID, "f")[0], count_images=stated_counts)
    assert reading.members == members(reading.experiment)


def test_a_file_without_a_grid_is_a_grid_of_one_named_after_what_it_uses():
    (cell,) = cells(loads(SMALL))
    assert (cell.variant, cell.depth, cell.seeds) == ("VAE", 2, (0,))


def test_an_axis_over_data_sets_labels_them_once():
    found = members(loads(SMALL + "grid: {axes: {data.dataset: [mnist, digits]}}\n"))
    assert [member.labels for member in found] == [
        {"dataset": name, "depth": 2, "variant": "VAE", "seed": 0} for name in ("mnist", "digits")
    ]


LEVELS = """\
grid:
  depth: [1, 2]
  variants: {A: {}, B: {model.layers.0.mlp: [7]}}
  axes:
    width:
      narrow: {model.layers.0.units: 3}
      deep: {model.layers: [{units: 5, mlp: [4]}, {units: 4, mlp: [4]}, {units: 3, mlp: [4]}], training.batch_size: 8}
    objective.warm_up: [0, 5]
  exclude: [{width: deep, depth: 1}]
"""


def test_named_levels_apply_before_the_variant_and_the_depth_cuts_what_they_make():
    found = cells(loads(SMALL + LEVELS))
    layers = [[(layer.units, layer.mlp) for layer in cell.member.model.layers] for cell in found]
    assert [(cell.depth, cell.variant, *cell.axes.values()) for cell in found] == [
        *((1, name, "narrow", epochs) for name in "AB" for epochs in (0, 5)),
        *((2, name, level, epochs) for name in "AB" for level in ("narrow", "deep") for epochs in (0, 5)),
    ]
    assert layers[:4] == [[(3, (32, 32))]] * 2 + [[(3, (7,))]] * 2
    assert layers[4:8] == [[(3, (32, 32)), (4, (16, 16))]] * 2 + [[(5, (4,)), (4, (4,))]] * 2
    assert layers[8:] == [[(3, (7,)), (4, (16, 16))]] * 2 + [[(5, (7,)), (4, (4,))]] * 2
    assert [cell.member.training.batch_size for cell in found[-4:]] == [32, 32, 8, 8]
    assert [cell.member.objective.warm_up for cell in found[-4:]] == [0, 5, 0, 5]


def test_members_of_named_levels_are_those_of_the_same_settings_by_hand():
    narrow, by_hand = (
        SMALL + f"grid: {{{axes}}}\n"
        for axes in ("axes: {w: {n: {model.layers.0.units: 3}}}", "axes: {model.layers.0.units: [3]}")
    )
    (one,), (other,) = members(loads(narrow)), members(loads(by_hand))
    assert one.digests == other.digests
    assert one.labels["w"] == "n"
    assert one.folder == f"digits-L2-vae-w-n-s0-{one.digests.training[:12]}"


def test_what_a_variant_sets_within_a_level_is_checked_in_their_cells():
    variants, axes = "variants: {A: {}, B: {model.layers.1.units: 3}}", "axes: {size: {two: {}, one: {ONE}}}"
    text = f"{SMALL}grid: {{{variants}, {axes}}}\n".replace("ONE", "model.layers: [{units: 6, mlp: []}]")
    with pytest.raises(SpecError, match=r"'model.layers.1.units' is not .* \(variant 'B', size 'one' at depth 1\)"):
        loads(text)
    apart = loads(text.replace("}}}}", "}}}, exclude: [{variant: B, size: one}]}"))
    assert [len(cell.member.model.layers) for cell in cells(apart)] == [2, 1, 2]


def test_published_grid():
    found = read("specs/mnist_grid.yaml")
    assert len(found.cells) == 4 * 5 - 1
    assert len(found.members) == 3 * 19


@pytest.mark.parametrize("name", ["../../etc", "a/b", "é☃", "A" * 200, "...", "-", "CON: x", "a.b.", "1.5"])
def test_folders_are_safe_file_names(name):
    spec = loads(SMALL + f"grid: {{variants: {{'{name}': {{model.layers.0.mlp: [1]}}}}}}\n")
    (member,) = members(spec)
    assert len(member.folder) < 220
    assert all(c.isascii() and (c.isalnum() or c in ".-") for c in member.folder)
    assert member.folder.startswith("digits-L2-")
    assert member.folder.endswith(f"-s0-{member.digests.training[:12]}")


def test_folders_of_many_axes_are_short_enough():
    axes = {f"model.layers.{i}.mlp": f"[[{'123, ' * 20} 5]]" for i in (0, 1)}
    axes |= {"training.optimizer.adam.lr": "[0.123456789123456789]", "training.optimizer.adam.eps": "[1.23456789e-12]"}
    text = ", ".join(f"{path}: {values}" for path, values in axes.items())
    (member,) = members(loads(SMALL + f"grid: {{axes: {{{text}}}, seeds: [9223372036854775807]}}\n"))
    assert len(member.folder) < 220


@given(st.text())
def test_slugs_are_plain(text):
    assert all(c.isascii() and (c.isalnum() or c in ".-") for c in slug(text))
    assert not slug(text).startswith((".", "-"))


def tree():
    return loads(SMALL).model_dump(mode="json", exclude=set(BESIDE_MEMBERS))


def leaves(node, path=()):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from leaves(child, (*path, key))


@given(st.sampled_from([path for path in leaves(tree()) if len(path) > 1]), st.integers())
def test_what_is_set_is_there_and_nothing_else_changes(path, value):
    dotted = ".".join(map(str, path))
    assert parse_path(dotted) == path
    changed, old = tree(), tree()
    set_path(changed, dotted, value)
    node = changed
    for key in path:
        node = node[key]
    assert node == value
    for key in path[:-1]:
        old = old[key]
    set_path(changed, dotted, old[path[-1]])
    assert changed == tree()


@given(st.text(st.sampled_from("abmodel.0²٣9-_ "), max_size=30))
def test_any_other_path_is_unknown(path):
    known = [".".join(map(str, leaf)) for leaf in leaves(tree()) if len(leaf) > 1]
    changed = tree()
    if path in known:
        set_path(changed, path, None)
    else:
        with pytest.raises(UnknownPathError):
            set_path(changed, path, None)
        assert changed == tree()


def test_alternatives_of_a_nonlinearity_replace_one_another():
    changed = tree()
    set_path(changed, "model.nonlinearity.elu", 2)
    assert changed["model"]["nonlinearity"] == {"elu": 2}


# A dotted path into a section that is not there, and what is missing then, or what stands there.
INTO_SECTIONS = [
    ("training.schedule.step.factor", 0.5, "training.schedule.step.every"),
    ("training.schedule.linear.to", 0.5, "training.schedule.linear.over"),
    ("training.schedule.cosine.over", 20, {"training": {"schedule": {"cosine": {"over": 20, "to": 0.0, "ramp": 0}}}}),
    ("training.lr_decay.factor", 0.5, "training.lr_decay.every"),
    ("training.first_phase.warm_up", 5, "training.first_phase.epochs"),
    ("training.early_stopping.patience", 5, {"training": {"early_stopping": {"patience": 5}}}),
    ("objective.free_bits.per", "layer", "objective.free_bits.nats"),
    ("objective.free_bits.nats", 2.0, {"objective": {"free_bits": {"nats": 2.0, "per": "unit"}}}),
    ("objective.warm_up.ramp", 0.25, "objective.warm_up.cycles"),
    ("evaluation.ais.chains", 4, {"evaluation": {"ais": {"chains": 4}}}),
    ("model.prior.mixture", 3, {"model": {"prior": {"mixture": 3}}}),
    ("model.prior.realnvp.blocks", 3, {"model": {"prior": {"realnvp": {"blocks": 3, "mlp": [64]}}}}),
    ("model.layers.0.flow.iaf.steps", 3, {"model": {"layers": {0: {"flow": {"iaf": {"steps": 3, "mlp": [320]}}}}}}),
    ("model.norm.batch.heads", False, {"model": {"norm": {"batch": {"heads": False}}}}),
    ("model.observation.gaussian.variance", 0.5, {"model": {"observation": {"gaussian": {"variance": 0.5}}}}),
    ("training.optimizer.sgd.momentum", 0.5, {"training": {"optimizer": {"sgd": {"momentum": 0.5, "lr": 1e-3}}}}),
]


def holds(there, wished):
    """Whether what is there has all that is wished."""
    if isinstance(wished, dict):
        return all(holds(there[key], value) for key, value in wished.items())
    return there == wished


@pytest.mark.parametrize(("path", "value", "wished"), INTO_SECTIONS, ids=[path for path, _, _ in INTO_SECTIONS])
def test_a_path_into_a_section_that_is_not_there_makes_it_with_its_defaults_and_no_other_values(path, value, wished):
    written = json.dumps(value)
    if not isinstance(wished, str):
        changed = tree()
        set_path(changed, path, value)
        assert holds(changed, wished)
        return
    with pytest.raises(SpecError, match=f"{wished} is missing"):
        reads(SMALL, overrides=[f"{path}={written}"])
    # Once, at the path, however many levels an axis has.
    for grid in (
        f"variants: {{A: {{{path}: {written}}}}}",
        f"axes: {{{path}: [{written}, null]}}",
        f"axes: {{a: {{A: {{{path}: {written}}}}}}}",
    ):
        text = f"{SMALL}grid: {{{grid}}}\n"
        problem, *others = problems(text)
        assert problem.message == f"{wished} is missing"
        assert (problem.place.line, problem.place.column) == place_of(text, f"{path}:")
        assert all(other.message != problem.message for other in others)


@pytest.mark.parametrize(
    ("there", "path", "message"),
    [
        ("schedule: {cosine: {over: 10, to: 0.5}}", "training.schedule.step.factor", "training.schedule.step.every"),
        ("schedule: {cosine: {over: 10, to: 0.5}}", "training.lr_decay.factor", "training.lr_decay.every"),
        ("lr_decay: {factor: 0.5, every: 1}", "training.schedule.linear.to", "training.schedule.linear.over"),
    ],
)
def test_a_path_into_another_choice_takes_the_place_of_what_is_there_as_a_whole_or_not_at_all(there, path, message):
    text = SMALL.replace("batch_size: 32", f"batch_size: 32, {there}") + f"grid: {{axes: {{{path}: [0.5, 0.9]}}}}\n"
    (problem,) = problems(text)
    assert problem.message == f"{message} is missing"
    assert (problem.place.line, problem.place.column) == place_of(text, f"{path}:")


@pytest.mark.parametrize(
    ("there", "path"),
    [
        ("schedule: {cosine: {over: 10, to: 0.5}}", "training.schedule.cosine.to"),
        ("lr_decay: {factor: 0.5, every: 1}", "training.lr_decay.factor"),
    ],
)
def test_a_path_into_a_section_that_is_there_keeps_its_other_fields(there, path):
    text = SMALL.replace("batch_size: 32", f"batch_size: 32, {there}")
    one, other = members(loads(f"{text}grid: {{axes: {{{path}: [0.5, 0.25]}}}}\n"))
    assert one.digests == members(loads(text))[0].digests != other.digests


@pytest.mark.parametrize("path", ["training.schedule.stages.0.lr", "training.schedule.stages.lr", "data.own.range.0"])
def test_no_entry_of_a_list_is_there_where_there_is_no_list(path):
    changed = tree()
    with pytest.raises(UnknownPathError) as error:
        set_path(changed, path, 1)
    assert (error.value.known, changed) == ([], tree())


def test_a_setting_of_a_path_reaches_a_field_that_another_layer_left_out():
    level = "{A: {training.schedule: {step: {factor: 0.5, every: 2}}}}"
    text = f"{SMALL}grid: {{axes: {{a: {level}}}, variants: {{V: {{training.schedule.step.ramp: 3}}}}}}\n"
    (one,) = members(loads(text))
    assert one.spec.training.schedule.step.model_dump() == {"factor": 0.5, "every": 2, "ramp": 3}


def test_a_depth_keeps_the_lowest_layers_and_their_weights():
    text = SMALL + "objective: {beta: [0.5, 2]}\ngrid: {depth: [1, 2]}\n"
    one, two = cells(loads(text))
    assert (one.member.objective.beta, two.member.objective.beta) == ((0.5,), (0.5, 2.0))
    assert one.member.objective.layer_weights == 0.5

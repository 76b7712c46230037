"""Every field of a spec is seen by everything that must know of it, or declares that it need not be.

Fields are found by walking the schema. Each is given another value, and every consumer must show a difference unless
the field's declaration exempts it. A new field needs no entry here unless no other value for it can be guessed
(`OTHER`), or nothing reads it in the base member (`WHERE_READ`).
"""

import copy
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis import columns
from analysis.frames import Frames
from analysis.html import run_info
from analysis.paper import published
from hvae_spec.spec import reference
from hvae_spec.spec.choices.mapping import MAPPINGS, DeterministicMapping
from hvae_spec.spec.choices.term import ADDED_TERMS, AddedTerm
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import (
    Affects,
    BeforeFineTuning,
    Measured,
    NoBearing,
    NoColumn,
    NoStepCost,
    NotInReport,
    Paper,
    PerMember,
    SpecField,
    fields,
    paths_stating,
    settings,
    short_forms,
    without,
)
from hvae_spec.spec.grid import parse_path
from hvae_spec.training.optimizer import OUTSIDE_GROUPS, PackOptimizer
from hvae_spec.training.schedules import disagreement, schedule
from tests.members import SMALL
from tune.measure.cache import step_shape
from tune.plan.grouping import shape

OWN = {"name": "mine", "file": "first.npz", "range": [0, 255], "shape": None}
PHASE = {"epochs": 2, "warm_up": 1, "iw_samples": 2, "mc_samples": 2}
CYCLES, FREE_BITS = {"cycles": 2, "ramp": 0.5, "over": 11}, {"nats": 0.5, "per": "layer"}
WHERE_READ = {
    "data.own": {"data.dataset": "own", "data.own": OWN},
    "data.own.shape": {"data.dataset": "own", "data.own": {**OWN, "shape": [4, 4]}},
    "model.norm": {"model.batch_norm": None, "model.norm": {"batch": {"heads": False}}},
    "model.flow": {"model.flow": {"planar": 3}},
    "model.flow.iaf": {"model.flow": {"iaf": {"steps": 2, "mlp": [6]}}},
    "model.layers.flow": {"model.layers.1.flow": {"planar": 3}},
    "model.layers.flow.iaf": {"model.layers.1.flow": {"iaf": {"steps": 2, "mlp": [6]}}},
    "model.prior.vamp": {"model.prior": {"vamp": 8}},
    "model.prior.mixture": {"model.prior": {"mixture": 8}},
    "model.prior.realnvp": {"model.prior": {"realnvp": {"blocks": 3, "mlp": [6]}}},
    "model.nonlinearity.elu": {"model.nonlinearity": {"elu": 1.0}},
    "objective.warm_up": {"objective.warm_up": CYCLES},
    "objective.free_bits": {"objective.free_bits": FREE_BITS},
    "objective.elbo_share": {"objective.iw_samples": 2},
    "training.first_phase.warm_up": {"training.first_phase.warm_up": CYCLES},
    "training.first_phase.free_bits": {"training.first_phase.free_bits": FREE_BITS},
    "model.observation.gaussian": {"model.observation": {"gaussian": {"variance": 0.5}}},
    "objective.sample_ramp": {"objective.iw_samples": 2},
    "training.lr_decay": {"training.lr_decay": {"factor": 0.5, "every": 2}},
    "training.schedule": {"training.schedule": {"stages": [{"epochs": 1, "lr": 0.1}, {"epochs": 1, "lr": 0.2}]}},
    "training.schedule.step": {"training.schedule": {"step": {"factor": 0.5, "every": 2, "ramp": 2}}},
    "training.schedule.cosine": {"training.schedule": {"cosine": {"over": 8, "to": 0.25, "ramp": 2}}},
    "training.schedule.linear": {"training.schedule": {"linear": {"over": 8, "to": 0.25, "ramp": 2}}},
    "training.ema": {"training.ema": 0.9},
    "data.rescaled_by": {"model.observation": "gaussian"},
    "data.labeled_batch": {"data.labeled": 20, "model.classes": {"mlp": [6]}},
    "model.classes": {"model.classes": {"mlp": [6]}},
    "objective.classification": {"model.classes": {"mlp": [6]}},
    "training.first_phase.classification": {"model.classes": {"mlp": [6]}},
    "training.first_phase": {"training.first_phase": PHASE},
    "training.early_stopping": {"training.early_stopping": {"patience": 2}, "evaluation.every": 1},
    "evaluation.curve_iw_samples": {"evaluation.every": 1},
    "evaluation.curve_images": {"evaluation.every": 1},
}
"""Settings beside which a field, or the fields of a section, are read, where they are not read in `SMALL`."""
OTHER = {
    "data.dataset": "mnist",
    "data.own.name": "others",
    "data.own.file": "second.npz",
    "data.own.shape": [2, 8],
    "model.layers.mlp_down": [7],
    "model.layers.mlp_top_down": [7],
    "model.mean_clip": 0.25,
    "model.mapping": "other",
    "training.first_phase.epochs": 3,
    "objective.term": "added",
    "evaluation.probe.labels": [50],
    "training.first_phase.term": "added",
}
"""Other values of fields, where none can be guessed from the present one and the type."""

MEASURED = {measured.column for item in settings(MemberSpec) if (measured := item.fact(Measured))}


def leaves() -> list[SpecField]:
    """Fields with a value of their own, those within a field that is one column included. `parts` follow from the
    others (tests/test_extensions.py).
    """
    found = {item.path: item for item in fields(MemberSpec) if item.path[0] != "parts"}
    inner = {path[:length] for path in found for length in range(len(path))}
    return [item for path, item in found.items() if path not in inner]


LEAVES = leaves()
ROWS = {row.path.replace("[]", ""): row for row in reference.rows()}
every_field = pytest.mark.parametrize("item", LEAVES, ids=[item.dotted for item in LEAVES])


@pytest.fixture(autouse=True)
def _parts_of_extensions(monkeypatch):
    """A term and a mapping of an extension: in the house there is no term, and one mapping."""
    monkeypatch.setitem(ADDED_TERMS._items, "added", AddedTerm("+ r(z)"))
    monkeypatch.setitem(MAPPINGS._items, "other", DeterministicMapping("d"))


@pytest.fixture
def own_images(tmp_path, monkeypatch):
    """Two files of images of one size; data.own names them from the working folder."""
    for name in ("first.npz", "second.npz"):
        np.savez(tmp_path / name, train=np.zeros((64, 16), np.uint8), test=np.zeros((24, 16), np.uint8))
    monkeypatch.chdir(tmp_path)


def index(path: str) -> str:
    return path.replace("model.layers.", "model.layers.1.").replace("schedule.stages.", "schedule.stages.0.")


def put(tree: dict, path: str, value: object) -> None:
    *parents, last = parse_path(path)
    for part in parents:
        tree = tree[part]
    tree[last] = copy.deepcopy(value)


def base(item: SpecField) -> dict:
    """The tree of a member in which a field is read."""
    tree = MemberSpec.model_validate(SMALL).model_dump(mode="json")
    tree["data"]["train_images"] = tree["data"]["test_images"] = 24
    for length in range(1, len(item.path) + 1):
        path = ".".join(item.path[:length])
        for name, value in WHERE_READ.get(path, {}).items():
            put(tree, name, value)
        if length < len(item.path) and columns.at(tree, index(path)) is None:
            tree = given(tree, item.path[:length])
    return MemberSpec.model_validate(tree).model_dump(mode="json")


def given(tree: dict, section: tuple[str, ...]) -> dict:
    """A tree with a section that was not in it, beside the others or in the place of its alternatives."""
    *parents, name = section
    for path, value in ((".".join(section), {}), (".".join(parents), {name: {}})):
        other = copy.deepcopy(tree)
        put(other, path, value)
        try:
            return MemberSpec.model_validate(other).model_dump(mode="json")
        except ValueError:
            continue
    raise AssertionError(f"nothing reads {'.'.join(section)} in a small member: say in WHERE_READ where it is read")


def guesses(value):
    """Other values by the type of a value."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2, (value + 1) / 2]
    if isinstance(value, list):
        return [[*value[:-1], value[-1] + 1]] if value else [[3]]
    return [2, 0.5, True, [3], "other"]


@cache
def with_other_value(item: SpecField) -> tuple[dict, dict]:
    """The tree of a member in which a field is read, and the same with another value of the field; only to be read."""
    tree, path = base(item), index(item.dotted)
    now = columns.at(tree, path)
    row = ROWS.get(item.dotted)
    options = [text for text in (row.type.split("`")[1::2] if row and isinstance(now, str) else ()) if text != now]
    for value in [OTHER[item.dotted]] if item.dotted in OTHER else [*options, *guesses(now)]:
        other = copy.deepcopy(tree)
        put(other, path, value)
        try:
            valid = MemberSpec.model_validate(other)
        except ValueError:
            continue
        if valid != MemberSpec.model_validate(tree):
            return tree, valid.model_dump(mode="json")
    raise AssertionError(f"no other value of {item.dotted} is known: add one to OTHER")


def members_of(item: SpecField) -> tuple[MemberSpec, MemberSpec]:
    one, other = map(MemberSpec.model_validate, with_other_value(item))
    return one, other


def owner(item: SpecField) -> SpecField:
    """The field whose column holds a field's value: itself, or the one that is one column with all that is in it."""
    values = [one for one in settings(MemberSpec) if not one.is_name]
    return next(one for one in values if item.path[: len(one.path)] == one.path)


def framed(*trees: dict) -> Frames:
    """The frames of finished members with these specs: variants `A`, `B`, ..."""
    names = list("AB"[: len(trees)])
    labeled = zip(trees, names, strict=True)
    entries = [SimpleNamespace(spec=tree, labels={"variant": name}, planned=True) for tree, name in labeled]
    members = pd.DataFrame(
        {
            "dataset": "mnist",
            "depth": [len(tree["model"]["layers"]) for tree in trees],
            "variant": names,
            "status": "finished",
            "planned": True,
            "data_canonical": True,
            "digest": names,
            "continues": [tree["training"]["first_phase"] and "ab" * 32 for tree in trees],
            **dict.fromkeys(MEASURED, 7),
            **columns.setting_columns(entries),
        }
    )
    nothing = pd.DataFrame({"digest": []})
    return Frames("", {}, members, nothing, nothing, nothing)


@every_field
def test_the_schema_and_the_reference_describe_it(item):
    row = ROWS.get(item.dotted)
    if item.path[0] in ("seed", "own_weights"):
        assert row is None  # A spec file has `grid.seeds`, and no weights.
        return
    assert row.description
    assert row.type != "anything"
    affects = item.fact(Affects)
    assert row.affects == (affects.part if affects else "trajectory")
    assert row.per_member == (item.fact(PerMember) is not None)
    if owner(item).path == item.path:
        exempt = item.fact(NoBearing) is not None or row.affects == "nothing"
        assert row.paper or exempt


@every_field
def test_the_digests_of_a_member_see_it(own_images, item):
    """Each digest sees just the fields that affect its part of a member's life."""
    one, other = (member.digests for member in members_of(item))
    affects = item.fact(Affects)
    part = "trajectory" if affects is None else affects.part
    assert (one.trajectory != other.trajectory) == (part == "trajectory")
    assert (one.training != other.training) == (part in ("trajectory", "schedule", "length"))
    assert (one.evaluation != other.evaluation) == (part != "nothing")


@every_field
def test_members_of_one_pack_share_it_unless_a_pack_applies_it_by_member(own_images, item):
    one, other = members_of(item)
    assert (shape(one) == shape(other)) == (item.fact(PerMember) is not None)


@every_field
def test_a_measured_speed_is_its_own_unless_it_costs_no_time(own_images, item):
    one, other = members_of(item)
    exempt = item.fact(NoStepCost)
    assert (step_shape(one) == step_shape(other)) == (exempt is not None)
    assert exempt is None or exempt.reason


@every_field
def test_the_schedule_sees_it_if_that_is_what_it_affects_and_names_it(own_images, item):
    one, other = members_of(item)
    affects, parting = item.fact(Affects), disagreement(one, other, 20)
    assert (parting is not None) == (affects == Affects("schedule"))
    if parting is not None:
        epoch, named = parting
        assert schedule(one, epoch) != schedule(other, epoch)
        assert f"{item.dotted}.".startswith(f"{named}.")


@pytest.mark.parametrize("item", [item for item in LEAVES if item.path[0] == "training"], ids=lambda item: item.dotted)
def test_members_of_one_parameter_group_share_it_unless_it_is_applied_member_by_member(item):
    settings = [member.training for member in members_of(item)]
    groups = PackOptimizer(settings, [nn.Parameter(torch.zeros(2, 3))]).groups
    assert (groups == {settings[0].optimizer.choice: [[0, 1]]}) == (item.path[1] in OUTSIDE_GROUPS)
    assert item.path[1] not in OUTSIDE_GROUPS or item.fact(PerMember) is not None


def test_images_of_another_size_are_another_speed(own_images):
    own = {**base(LEAVES[0]), "data": {"dataset": "own", "own": OWN}}
    np.savez("wider.npz", train=np.zeros((64, 25), np.uint8), test=np.zeros((24, 25), np.uint8))
    wider = {**own, "data": {"dataset": "own", "own": {**OWN, "file": "wider.npz"}}}
    assert step_shape(MemberSpec.model_validate(own)) != step_shape(MemberSpec.model_validate(wider))


@every_field
def test_a_column_of_the_members_frame_shows_it(item):
    one, other = framed(*with_other_value(item)).members.to_dict("records")
    exempt = item.fact(NoColumn)
    if exempt is not None:
        assert exempt.reason
        return
    column = owner(item).column
    assert one[column] != other[column]
    differing = [name for name in columns.setting_fields() if not pd.isna([one[name], other[name]]).all()]
    assert [name for name in differing if one[name] != other[name]] == [column]


@every_field
def test_a_report_lists_it_among_the_settings_that_differ(item):
    heading, *rows = run_info.variant_settings(framed(*with_other_value(item)))
    exempt = item.fact(NoColumn) or item.fact(NotInReport)
    if exempt is not None:
        assert exempt.reason
        return
    assert heading == ("variant", owner(item).words)
    assert rows[0][1] != rows[1][1]


def differences(tree: dict, item: SpecField, quantity: str, used: float) -> tuple[str, ...]:
    members = framed(tree).members
    if measured := item.fact(Measured):
        members[measured.column] = used
    return tuple(one.text for one in published.differences(members, "Prob. ladder+BN+WU", quantity))


@every_field
@pytest.mark.parametrize("quantity", ["test_log_likelihood", "active_units"])
def test_a_difference_in_it_is_named_beside_a_published_number(item, quantity):
    one, other = with_other_value(item)
    before, after = differences(one, item, quantity, 7), differences(other, item, quantity, 8)
    bearing, paper, affects = item.fact(NoBearing), item.fact(Paper), item.fact(Affects)
    is_exempt = bearing is not None and quantity in (bearing.quantities or (quantity,))
    is_exempt |= affects is not None and affects.part == "nothing"
    is_exempt |= paper is not None and paper.is_varied
    assert bearing is None or bearing.reason
    assert (before == after) == is_exempt
    if not is_exempt:
        assert owner(item).words in " ".join({*before, *after} - ({*before} & {*after}))


def test_only_settings_of_alternatives_and_forms_of_a_field_share_a_column():
    long = {short: form for short, (form, _) in short_forms(MemberSpec).items()}
    for items in columns.sharing().values():
        paths = {long.get(item.path, item.path) for item in items}
        assert len({(path[:-2], path[-1]) for path in paths}) == 1
        assert len({item.path for item in items}) == len(items)
    words = [item.words for item in columns.setting_fields().values()]
    assert len(words) == len(set(words))


def test_columns_by_which_users_read_frames_stay():
    named = (
        "inference share_top_down batch_norm observation initialization batch_norm_eps variance_bias variance_floor "
        "redraw warm_up training_mc_samples training_iw_samples sample_ramp planned_epochs batch_size last_batch "
        "learning_rate adam_beta1 adam_beta2 adam_eps clip_norm clip_value lr_decay_factor lr_decay_every "
        "first_phase_epochs first_phase_warm_up nonlinearity units widths widths_down widths_top_down"
    )
    assert set(named.split()) <= set(columns.setting_columns([]))


def test_a_field_that_a_record_does_not_have_yet_is_as_by_default():
    tree = MemberSpec.model_validate(SMALL).model_dump(mode="json")
    older = without(tree, frozenset({("model", "variance_floor"), ("model", "layers", "mlp_down"), ("evaluation",)}))
    assert columns.setting(older, columns.setting_fields()["variance_floor"]) == 1e-6
    assert columns.setting(older, columns.setting_fields()["widths_down"]) is None
    assert columns.setting(older, columns.setting_fields()["planned_iw_samples"]) == 5000
    assert columns.setting({}, columns.setting_fields()["variance_floor"]) is None


def test_a_fact_of_a_section_holds_for_what_is_in_it():
    by_path = {item.path: item for item in fields(MemberSpec)}
    inner = by_path["training", "first_phase", "warm_up"]
    assert inner.fact(Affects) == Affects("trajectory")
    assert by_path["objective", "warm_up"].fact(Affects) == Affects("schedule")
    assert by_path["training", "lr_decay", "every"].fact(Affects) == Affects("schedule")
    assert inner.fact(BeforeFineTuning) == BeforeFineTuning()
    assert ("training", "lr_decay", "every") in paths_stating(MemberSpec, NoStepCost)


def test_the_default_of_a_field_is_what_a_member_has_where_nothing_is_given():
    bare = {
        "data": {"dataset": "digits"},
        "model": {"layers": [{"units": 1, "mlp": []}]},
        "training": {"epochs": 1},
    }
    tree = MemberSpec.model_validate(bare).model_dump()
    given = {"data.dataset", "model.layers.units", "model.layers.mlp", "training.epochs"}
    for item in settings(MemberSpec):
        if item.dotted not in given:
            value = columns.at(tree, index(item.dotted).replace(".1.", ".0."))
            value = next(iter(value)) if item.is_name else value
            default = item.default
            assert (default.model_dump() if hasattr(default, "model_dump") else default) == value


def test_what_is_left_out_of_a_tree_is_all_that_is_named():
    tree = {"a": {"b": 1, "c": 2}, "d": [{"e": 1, "f": 2}, {"e": 3, "f": 4}], "g": None}
    paths = frozenset({("a", "b"), ("d", "e"), ("g",), ("g", "h"), ("x",)})
    assert without(tree, paths) == {"a": {"c": 2}, "d": [{"f": 2}, {"f": 4}]}


def test_the_table_of_what_the_paper_leaves_open_has_the_values_of_the_authors_code():
    table = reference.left_open_table().splitlines()
    assert "| `training.optimizer.adam.eps` | `1e-8` | not stated | `1e-4`, on the uncorrected root |" in table
    assert (
        "| `data.redraw` | `every_epoch` | `every_epoch`; norb: `once` (not stated; implied by the authors' code) "
        "(Sec. 3) | `once` for `norb` |" in table
    )
    assert "| `training.matmul_precision` | `highest` | not stated |  |" in table
    assert (
        "| `training.optimizer.adam.lr` | `0.001` | `0.001`; norb: `0.002` (Sec. 3) | `2e-4` in its README |" in table
    )
    assert not [line for line in table if "evaluation.every" in line or "data.own" in line]

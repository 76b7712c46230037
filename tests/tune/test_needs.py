"""What members need, given the records that are there: nothing, an evaluation, the rest of a training, or all of it."""

import io
import itertools

import pytest
from rich.console import Console

from hvae_spec.records.index import read_index, write_index
from hvae_spec.records.layout import Record, Results
from tests.tune.planned import finish, plan_of, reading_of, record_of, train
from tune.execute.phases import rounds
from tune.options import _parser
from tune.plan.needs import ANEW, NO_OPTIMIZER, Ledger, _curve_settings
from tune.show.summary import print_plan

ONE = """
name: one
data: {{dataset: digits, validation: {validation}, train_images: 128, test_images: {test_images}}}
model: {{layers: [{{units: 3, mlp: [6]}}], batch_norm: true, nonlinearity: {nonlinearity}}}
objective: {{warm_up: {warm_up}, iw_samples: {objective_samples}, sample_ramp: {sample_ramp}}}
training:
  {{epochs: {epochs}, batch_size: 64, optimizer: {{adam: {{lr: {lr}}}}}, lr_decay: {lr_decay}, schedule: {schedule},
    early_stopping: {early_stopping}}}
evaluation:
  {{iw_samples: {iw_samples}, every: {every}, curve_images: {curve_images}, batch_norm_statistics: {statistics},
    memory_gib: {memory_gib}}}
grid: {{seeds: {seeds}, axes: {axes}}}
"""
DEFAULTS = {
    "test_images": 10, "nonlinearity": "leaky_relu", "warm_up": 0, "objective_samples": 1, "sample_ramp": "false",
    "epochs": 20, "lr": 0.001, "lr_decay": "null", "schedule": "null", "iw_samples": 5, "every": "null",
    "statistics": "whole_set", "memory_gib": "null", "curve_images": "null", "early_stopping": "null", "validation": 0,
    "seeds": [0], "axes": "{}",
}  # fmt: skip


def spec(**changes):
    assert changes.keys() <= DEFAULTS.keys()
    return ONE.format(**(DEFAULTS | changes))


def members(**changes):
    return reading_of(spec(**changes)).members


def needs(root, *sources, retrain=False, **changes):
    ledger = Ledger(Results(root), [Results(source) for source in sources])
    return ledger.needs(members(**changes), retrain)


def need(root, *sources, **changes):
    (only,) = needs(root, *sources, **changes)
    return only


def shown(plan):
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(plan, console)
    return console.export_text()


@pytest.mark.parametrize("change", [{"iw_samples": 7}, {"test_images": 9}, {"statistics": "batch_average"}], ids=str)
def test_what_concerns_the_evaluation_alone_asks_for_an_evaluation_of_the_record_that_is_there(tmp_path, change):
    (member,) = members()
    finish(tmp_path, member)
    assert need(tmp_path).what == "nothing"
    other = need(tmp_path, **change)
    assert (other.what, other.status, other.extends, other.hindered) == ("evaluation", "trained", None, "")
    assert other.member.folder == member.folder
    assert other.member.digests.training == member.digests.training
    assert other.member.digests.evaluation != member.digests.evaluation
    plan = plan_of(spec(**change), tmp_path)
    assert [(job.kind, job.members) for job in plan.jobs] == [("evaluate", (other.member,))]
    assert "\n0 finished, 0 diverged, 1 trained, 1 to evaluate, 0 to run.\n" in shown(plan)


@pytest.mark.parametrize("change", [{"memory_gib": 2}, {"every": 5}], ids=str)
def test_what_concerns_no_number_of_a_result_asks_for_nothing(tmp_path, change):
    finish(tmp_path, *members())
    assert need(tmp_path, **change).what == "nothing"


def test_the_last_line_of_a_plan_counts_what_is_to_do(tmp_path):
    eight = {"seeds": list(range(8))}
    assert "\n0 finished, 0 diverged, 8 to run.\n" in shown(plan_of(spec(**eight), tmp_path))
    for member in members(**eight):
        finish(tmp_path, member)
    assert "\n8 finished, 0 diverged, 0 to run.\n" in shown(plan_of(spec(**eight), tmp_path))
    again = shown(plan_of(spec(**eight, iw_samples=7), tmp_path))
    assert "\n0 finished, 0 diverged, 8 trained, 8 to evaluate, 0 to run.\n" in again
    longer = shown(plan_of(spec(seeds=list(range(9)), epochs=30), tmp_path))
    assert "\n0 finished, 0 diverged, 9 to run (8 from a shorter training).\n" in longer


def test_a_longer_training_goes_on_from_the_longest_that_is_done(tmp_path):
    folders = {epochs: train(tmp_path, *members(epochs=epochs)).folder for epochs in (5, 20, 10, 40)}
    for epochs, status in ((25, "failed"), (26, None)):
        (member,) = members(epochs=epochs)
        record_of(tmp_path, member).begin(member.spec)
        if status:
            train(tmp_path, member, status)
    found = need(tmp_path, epochs=30)
    assert (found.what, found.extends, found.start_epoch, found.hindered) == ("training", folders[20], 20, "")
    (job,) = plan_of(spec(epochs=30), tmp_path).jobs
    assert (job.kind, job.extends, job.start_epoch) == ("train", (folders[20],), 20)
    assert need(tmp_path, epochs=4).extends is None
    # A longer one that is there is no start of a shorter one, and the same one needs nothing of others.
    assert need(tmp_path, epochs=15).extends == folders[10]
    assert need(tmp_path, epochs=40).what == "evaluation"


def test_the_number_of_test_images_is_no_other_curve_where_that_is_of_the_validation_set(tmp_path):
    for validation, different in ((8, ""), (0, "data.test_images 10, not 9")):
        common = {"every": 5, "validation": validation}
        finish(tmp_path, *members(**common))
        (other,) = members(test_images=9, **common)
        assert Ledger(Results(tmp_path)).other_curve(other) == different


@pytest.mark.parametrize(("shorter", "longer"), [("{patience: 2}", "null"), ("null", "{patience: 2}")])
def test_with_early_stopping_a_training_begins_anew_and_none_goes_on_from_it(tmp_path, shorter, longer):
    common = {"every": 1, "validation": 8}
    (member,) = members(epochs=5, early_stopping=shorter, **common)
    train(tmp_path, member)
    found = need(tmp_path, epochs=9, early_stopping=longer, **common)
    assert member.digests.trajectory == found.member.digests.trajectory
    assert (found.what, found.extends, found.hindered) == ("training", None, ANEW)
    plan = shown(plan_of(spec(epochs=9, early_stopping=longer, **common), tmp_path))
    assert ("An upper bound" in plan) == (longer != "null")


def test_members_that_go_on_from_different_epochs_share_no_pack(tmp_path):
    for seed, epochs in ((0, 10), (1, 10), (2, 5)):
        (member,) = members(seeds=[seed], epochs=epochs)
        train(tmp_path, member)
    plan = plan_of(spec(epochs=30, seeds=[0, 1, 2, 3]), tmp_path, cores=1)
    packs = {job.start_epoch: [member.seed for member in job.members] for job in plan.jobs}
    assert packs == {0: [3], 5: [2], 10: [0, 1]}


ANNEALED = "{{factor: 0.5, every: {}}}".format

COSINE = "{{cosine: {{over: {}, ramp: 2}}}}".format


def staged(*stages):
    return "{stages: [" + ", ".join(f"{{epochs: {epochs}, lr: {lr}}}" for epochs, lr in stages) + "]}"


@pytest.mark.parametrize(
    ("before", "after", "parting"),
    [
        ({"warm_up": 20}, {"warm_up": 20}, None),
        ({"warm_up": 20}, {"warm_up": 30}, ("objective.warm_up", 2)),
        ({}, {"warm_up": 1}, ("objective.warm_up", 1)),
        ({}, {"lr_decay": ANNEALED(20)}, None),
        ({}, {"lr_decay": ANNEALED(15)}, ("training.lr_decay", 16)),
        ({"lr_decay": ANNEALED(10)}, {"lr_decay": ANNEALED(20)}, ("training.lr_decay", 11)),
        ({}, {"lr": 0.002}, ("training.optimizer", 1)),
        # The stages may be other ones, as long as the rates of the twenty epochs are the same.
        ({}, {"schedule": staged((20, 0.001), (5, 0.1))}, None),
        ({"lr": 0.002}, {"lr": 0.003, "schedule": staged((7, 0.002), (13, 0.002), (5, 0.1))}, None),
        ({"schedule": staged((5, 0.1), (3, 0.2))}, {"schedule": staged((5, 0.1), (15, 0.2), (1, 0.3))}, None),
        ({}, {"schedule": staged((19, 0.001), (5, 0.1))}, ("training.schedule", 20)),
        ({"lr_decay": ANNEALED(10)}, {"schedule": staged((10, 0.001), (10, 0.0005), (5, 0.1))}, None),
        ({"lr_decay": ANNEALED(10)}, {"schedule": "{step: {factor: 0.5, every: 10}}"}, None),
        # How long training is says nothing of how the learning rate falls.
        ({"schedule": COSINE(30)}, {"schedule": COSINE(30)}, None),
        ({"schedule": COSINE(30)}, {"schedule": COSINE(31)}, ("training.schedule", 4)),
        ({}, {"schedule": COSINE(30)}, ("training.schedule", 1)),
        ({"sample_ramp": "true", "objective_samples": 20}, {"sample_ramp": "true", "objective_samples": 30}, None),
        ({"sample_ramp": "true", "objective_samples": 19}, {"sample_ramp": "true", "objective_samples": 30},
         ("objective.iw_samples", 20)),
        ({"objective_samples": 5}, {"sample_ramp": "true", "objective_samples": 5}, ("objective.sample_ramp", 1)),
    ],
    ids=str,
)  # fmt: skip
def test_a_training_goes_on_where_the_schedules_agree_and_says_what_hinders_it(tmp_path, before, after, parting):
    """Twenty epochs are there, thirty are asked for."""
    record = train(tmp_path, *members(**before))
    found = need(tmp_path, epochs=30, **after)
    assert found.what == "training"
    if parting is None:
        assert (found.extends, found.start_epoch, found.hindered) == (record.folder, 20, "")
        return
    field, epoch = parting
    why = f"{field} parts from it in epoch {epoch}"
    assert (found.extends, found.start_epoch, found.hindered) == (None, 0, why)
    notes = plan_of(spec(epochs=30, **after), tmp_path).notes
    assert f"1 member trains from the start, though a shorter training is there: {why}" in notes
    # One that ended before the schedules part will do.
    if epoch > 1:
        warm_up = min(before.get("warm_up", 0), epoch - 1)
        shorter = train(tmp_path, *members(**before | {"epochs": epoch - 1, "warm_up": warm_up}))
        found = need(tmp_path, epochs=30, **after)
        assert (found.extends, found.start_epoch, found.hindered) == (shorter.folder, epoch - 1, "")


@pytest.mark.parametrize("change", [{"nonlinearity": "tanh"}, {"seeds": [1]}], ids=str)
def test_another_trajectory_is_no_start_and_no_hindrance(tmp_path, change):
    train(tmp_path, *members())
    found = need(tmp_path, epochs=30, **change)
    assert (found.what, found.extends, found.hindered) == ("training", None, "")


def test_without_the_optimizer_s_state_a_training_starts_anew_and_the_plan_says_so(tmp_path):
    two = {"seeds": [0, 1]}
    for member in members(**two):
        train(tmp_path, member, has_optimizer=False)
    assert {(one.extends, one.hindered) for one in needs(tmp_path, epochs=30, **two)} == {(None, NO_OPTIMIZER)}
    notes = plan_of(spec(epochs=30, **two), tmp_path).notes
    assert f"2 members train from the start, though a shorter training is there: {NO_OPTIMIZER}" in notes
    # It is needed for a longer training alone.
    assert {one.what for one in needs(tmp_path, iw_samples=7, **two)} == {"evaluation"}


def test_a_training_of_which_a_shorter_one_diverged_is_not_tried(tmp_path):
    shorter = train(tmp_path, *members(), status="diverged")
    (member,) = members(epochs=30)
    plan = plan_of(spec(epochs=30), tmp_path)
    assert plan.jobs == []
    assert "\n0 finished, 1 diverged, 0 to run.\n" in shown(plan)
    plan.prepare()
    record = record_of(tmp_path, member)
    assert record.folder != shorter.folder
    assert record.spec == member.spec
    found = record.training
    assert (found.status, found.divergence) == ("diverged", shorter.training.divergence)
    assert (found.digest, found.extended_from) == (member.digests.training, shorter.training.digest)
    again = plan_of(spec(epochs=30), tmp_path)
    assert (again.jobs, again.counts) == ([], {"diverged": 1})
    # Had it taken other steps, it might not have diverged.
    assert need(tmp_path, epochs=30, lr=0.002).what == "training"
    assert need(tmp_path, epochs=10).what == "training"


def test_another_curve_is_made_on_demand_alone_and_the_record_moves_out_of_its_way(tmp_path):
    (member,) = members()
    record = finish(tmp_path, member)
    curve = {"every": 5}
    kept = plan_of(spec(**curve), tmp_path)
    assert kept.jobs == []
    assert kept.notes == [
        "1 member keeps its learning curve (evaluation.every null, not 5); --retrain trains with the new settings"
    ]
    plan = plan_of(spec(**curve), tmp_path, retrain=True)
    ((need,), (job,)) = plan.needs, plan.jobs
    assert (need.what, need.status, need.retired, job.kind) == ("training", "pending", record, "train")
    assert record.has_spec
    plan.prepare()
    assert not record.has_spec
    moved = Record(tmp_path / "retired" / f"{member.folder}-1")
    assert moved.training.digest == member.digests.training
    assert moved.evaluation(member.digests.evaluation).result is not None
    # Once more, and the first one stays where it is.
    finish(tmp_path, *members(**curve))
    assert plan_of(spec(**curve), tmp_path, retrain=True).jobs == []
    plan_of(spec(every=4), tmp_path, retrain=True).prepare()
    assert {path.name for path in (tmp_path / "retired").iterdir()} == {f"{member.folder}-{n}" for n in (1, 2)}


def test_a_curve_on_fewer_test_images_is_another_one(tmp_path):
    finish(tmp_path, *members(every=5))
    (note,) = plan_of(spec(every=5, curve_images=9), tmp_path).notes
    assert note.startswith("1 member keeps its learning curve (evaluation.curve_images null, not 9); --retrain")
    (job,) = plan_of(spec(every=5, curve_images=9), tmp_path, retrain=True).jobs
    assert job.kind == "train"
    # As many as there are, or more, are all of them.
    for images in (10, 500):
        assert plan_of(spec(every=5, curve_images=images), tmp_path).notes == []


TWO_EVALUATIONS = {"axes": "{evaluation.iw_samples: [5, 7]}"}


def test_members_that_differ_in_evaluation_alone_train_once_and_are_all_evaluated(tmp_path):
    one, two = needs(tmp_path, **TWO_EVALUATIONS)
    assert (one.what, two.what) == ("training", "evaluation")
    assert one.member.folder == two.member.folder
    assert one.member.digests.training == two.member.digests.training
    plan = plan_of(spec(**TWO_EVALUATIONS), tmp_path)
    assert sorted((job.kind, job.members) for job in plan.jobs) == [
        ("evaluate", (two.member,)),
        ("train", (one.member,)),
    ]
    assert "\n0 finished, 0 diverged, 0 trained, 1 to evaluate, 1 to run.\n" in shown(plan)
    # The training comes first; the further evaluation follows it.
    order = rounds(plan.jobs, None)
    assert [job.kind for job in next(order)] == ["train"]
    train(tmp_path, one.member)
    assert [job.kind for job in next(order)] == ["evaluate"]
    assert list(order) == []
    plan.prepare()
    assert read_index(Results(tmp_path))[one.member.folder].spec["evaluation"]["iw_samples"] == 5
    # Trained, both are evaluated, and one of them is not trained again for the other's sake.
    assert [need.what for need in needs(tmp_path, **TWO_EVALUATIONS)] == ["evaluation", "evaluation"]


def test_one_record_of_two_members_is_copied_once_and_moved_away_once(tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    five = members(**TWO_EVALUATIONS)[0]
    there = finish(source, five)
    plan = plan_of(spec(**TWO_EVALUATIONS), root, sources=[source])
    assert [need.what for need in plan.needs] == ["nothing", "evaluation"]
    assert [need.adopted for need in plan.needs] == [there, None]
    plan.prepare()
    (record,) = Results(root).records
    assert {record.folder.name} == {need.member.folder for need in plan.needs}
    again = plan_of(spec(**TWO_EVALUATIONS, every=5), root, retrain=True)
    assert [need.what for need in again.needs] == ["training", "evaluation"]
    again.prepare()
    assert Results(root).records == []
    assert len(list((root / "retired").iterdir())) == 1


def test_what_shares_a_record_that_is_trained_again_is_evaluated_again(tmp_path):
    for member in members(**TWO_EVALUATIONS):
        finish(tmp_path, member)
    one, two = members(**TWO_EVALUATIONS, every=5)
    (other,) = members(iw_samples=7)
    found = Ledger(Results(tmp_path)).needs([one, other], retrain=True)
    assert [need.what for need in found] == ["training", "evaluation"]
    assert [need.status for need in found] == ["pending", "pending"]
    assert two.digests.training == other.digests.training


def test_no_training_goes_on_from_a_record_that_is_trained_again(tmp_path):
    (short,) = members()
    finish(tmp_path, short)
    lengths = {"axes": "{training.epochs: [20, 30]}", "every": 5}
    kept = needs(tmp_path, **lengths)
    assert [need.start_epoch for need in kept] == [0, 20]
    anew = needs(tmp_path, retrain=True, **lengths)
    assert [(need.what, need.extends, need.start_epoch) for need in anew] == [("training", None, 0)] * 2


def test_the_index_describes_copied_records_as_they_are(tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    finish(source, *members())
    plan_of(spec(every=5), root, sources=[source]).prepare()
    again = plan_of(spec(every=5), root)
    assert again.notes == [
        "1 member keeps its learning curve (evaluation.every null, not 5); --retrain trains with the new settings"
    ]


def test_a_training_goes_on_from_a_record_of_another_folder(tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    there = train(source, *members())
    found = need(root, source, epochs=30)
    assert (found.extends, found.start_epoch, found.adopted) == (there.folder, 20, None)


def plans(root):
    """All that a plan says, of a training that goes on, one that is done, one that is not and one that has another
    curve.
    """
    text = spec(epochs=30, seeds=[0, 1, 2, 3], every=5)
    plan = plan_of(text, root)
    return plan.needs, plan.jobs, plan.notes, plan.index


def test_a_plan_without_the_index_or_with_a_damaged_one_is_the_same(tmp_path):
    for seed, epochs, every in ((0, 20, "null"), (1, 30, 5), (2, 30, "null")):
        (member,) = members(seeds=[seed], epochs=epochs, every=every)
        finish(tmp_path, member)
    plan_of(spec(epochs=30, seeds=[0, 1, 2, 3], every=5), tmp_path).prepare()
    path = tmp_path / "members" / "index.json"
    content, expected = path.read_text(), plans(tmp_path)
    assert len(expected[3]) == 3
    assert expected[2] == [
        "training.epochs 20 -> 30: 1 member continues",
        "1 member keeps its learning curve (evaluation.every null, not 5); --retrain trains with the new settings",
    ]
    for damage in ("", "{", "[]", content[:-30], content.replace('"format": 1', '"format": 2'), '{"records": {}}'):
        path.write_text(damage)
        assert plans(tmp_path) == expected
    path.unlink()
    assert plans(tmp_path) == expected
    plan_of(spec(epochs=30, seeds=[0, 1, 2, 3], every=5), tmp_path).prepare()
    assert path.read_text() == content


def test_a_damaged_grid_is_rewritten(tmp_path):
    (member,) = members()
    finish(tmp_path, member)
    plan_of(spec(), tmp_path).prepare()
    whole = (tmp_path / "grid.json").read_text()
    (tmp_path / "grid.json").write_text("{")
    plan = plan_of(spec(), tmp_path)
    assert plan.notes == [f"{tmp_path / 'grid.json'}: damaged (not a JSON object); it is rewritten"]
    plan.prepare()
    assert (tmp_path / "grid.json").read_text() == whole


def test_a_record_of_a_choice_that_is_not_known_here_hinders_nothing(tmp_path):
    (member,) = members()
    finish(tmp_path, member)
    plan_of(spec(), tmp_path).prepare()
    index = read_index(Results(tmp_path))
    index[member.folder].spec["model"]["nonlinearity"] = "mine"
    write_index(Results(tmp_path), index)
    (longer,) = plan_of(spec(epochs=30), tmp_path).needs
    assert (longer.what, longer.extends) == ("training", None)
    assert plan_of(spec(epochs=30), tmp_path).notes == ["a spec of another version: 1 member leaves the tables"]


def test_a_record_whose_spec_is_damaged_is_no_start_for_others(tmp_path):
    record = train(tmp_path, *members())
    (record.folder / "spec.yaml").write_text("not: a spec")
    assert need(tmp_path, epochs=30).extends is None


@pytest.mark.parametrize("file", ["training.json", "evaluation"])
def test_a_damaged_record_is_named_with_what_mends_it(tmp_path, file):
    (member,) = members()
    record = finish(tmp_path, member)
    path = record.folder / file
    if file == "evaluation":
        path = record.evaluation(member.digests.evaluation).folder / "result.json"
    path.write_text("{")
    plan = plan_of(spec(seeds=[0, 1]), tmp_path)
    assert [(need.status, need.what) for need in plan.needs] == [("damaged", "nothing"), ("pending", "training")]
    (fault,) = plan.faults
    assert fault.startswith(f"{path}: damaged (not a JSON object); delete ")
    assert len(plan.jobs) == 1  # the other member trains
    assert plan_of(spec(epochs=30), tmp_path).needs[0].extends == (record.folder if file == "evaluation" else None)


def test_every_combination_of_what_is_there_asks_for_the_least(tmp_path):
    """Beside a slow reference: what is missing, by the definition of each of the three digests."""
    outcomes = (None, "running", "failed", "diverged", "trained", "finished")
    for number, (of_own, of_shorter) in enumerate(itertools.product(outcomes, outcomes)):
        root = tmp_path / str(number)
        for (member,), outcome in ((members(epochs=30), of_own), (members(), of_shorter)):
            if outcome == "running":
                record_of(root, member).begin(member.spec)
            elif outcome == "finished":
                finish(root, member)
            elif outcome is not None:
                train(root, member, outcome)
        found = need(root, epochs=30)
        if of_own in ("finished", "diverged"):
            assert found.what == "nothing"
        elif of_own == "trained":
            assert found.what == "evaluation"
        elif of_shorter == "diverged":
            assert found.what == "divergence"
        else:
            assert found.what == "training"
            assert (found.start_epoch == 20) == (of_shorter in ("trained", "finished"))


def test_the_help_of_retrain_names_all_that_a_learning_curve_goes_by():
    (member,) = members(every=5)
    (retrain,) = (action for action in _parser("tune.run")._actions if "--retrain" in action.option_strings)
    settings = _curve_settings(member.spec)
    assert len(settings) == 4
    assert [path for path in settings if path not in (retrain.help or "")] == []

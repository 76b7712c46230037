"""What is done once is not done again: evaluations of stored weights, trainings that go on, and records that are run
again, each beside the run that does all of it at once.
"""

import shutil

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from hvae_spec import pack
from hvae_spec.reading import read
from hvae_spec.records.layout import Record, Results
from tests.data.formats import write_mnist
from tests.tune.planned import labeled
from tests.tune.test_run import contents
from tune.run import main

pytestmark = pytest.mark.usefixtures("no_report_in_this_file")
SPEC = """
name: again
data: {dataset: digits, train_images: 128, test_images: 10}
model: {layers: [{units: 3, mlp: [6]}, {units: 2, mlp: [4]}], inference: ladder, batch_norm: true}
objective: {warm_up: 2}
training: {epochs: 3, batch_size: 64}
evaluation: {iw_samples: 5, every: 2}
grid:
  variants: {Ladder: {}, Gentle: {training.optimizer.adam.lr: 1.0e-4}}
  seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of the grid, and its spec."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "again.yaml").write_text(SPEC)
    assert run(folder / "again.yaml", folder / "out") == 0
    return folder / "again.yaml", folder / "out"


@pytest.fixture
def copy(finished, tmp_path):
    """Of these results, to go on with."""
    shutil.copytree(finished[1], tmp_path / "copy")
    return finished[0], tmp_path / "copy"


def run(spec, root, *options):
    return main([str(spec), "--serial", "--device", "cpu", "--cpus", "1", "--results", str(root), *options])


def setting(**changes):
    return [text for path, value in changes.items() for text in ("--set", f"{path.replace('__', '.')}={value}")]


def told(capsys):
    return " ".join(capsys.readouterr().out.split())


def without(found, *names):
    """Contents less some values of the trainings."""
    return {
        key: {name: item for name, item in value.items() if name not in names} if key[1] == "training" else value
        for key, value in found.items()
    }


def test_an_evaluation_again_equals_the_first_of_its_kind_bit_for_bit_and_leaves_the_other(copy, tmp_path, capsys):
    spec, root = copy
    before, more = contents(root), setting(evaluation__iw_samples=7)
    assert run(spec, root, *more, "--plan") == 0
    assert "0 finished, 0 diverged, 4 trained, 4 to evaluate, 0 to run." in told(capsys)
    assert run(spec, root, *more) == 0
    assert "4 of 4 members finished." in told(capsys)
    after = contents(root)
    assert {key: after[key] for key in before} == before
    assert run(spec, tmp_path / "anew", *more) == 0
    anew = contents(tmp_path / "anew")
    assert {key: after[key] for key in anew} == anew
    assert len(after) == len(before) + 4 * 4  # a result and three files of arrays each
    # Asked for again, the first one is still there.
    assert run(spec, root, "--plan") == 0
    assert "4 finished, 0 diverged, 0 to run." in told(capsys)


def test_a_training_that_goes_on_equals_one_that_never_stopped_bit_for_bit(copy, tmp_path, capsys):
    spec, root = copy
    before, longer = contents(root), setting(training__epochs=7)
    assert run(spec, root, *longer, "--plan") == 0
    out = told(capsys)
    assert "training.epochs 3 -> 7: 4 members continue" in out
    assert "0 finished, 0 diverged, 4 to run (4 from a shorter training)." in out
    assert run(spec, root, *longer) == 0
    assert run(spec, tmp_path / "anew", *longer) == 0
    after, anew = contents(root), contents(tmp_path / "anew")
    assert {key: after[key] for key in before} == before
    assert len(anew) == len(before)
    assert {key: without(after, "extended_from")[key] for key in anew} == without(anew, "extended_from")
    for record, _ in labeled(root).values():
        training = record.training
        shorter = Results(root).find(training.extended_from).training
        assert shorter.epochs == 3
        assert [(one.first_epoch, one.last_epoch) for one in training.segments] == [(1, 3), (4, 7)]
        assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4, 5, 6, 7]
        assert [row["epoch"] for row in record.units] == [2, 4, 6]


def test_members_that_differ_in_evaluation_alone_are_trained_once_and_are_all_evaluated(finished, tmp_path, capsys):
    spec, there = finished
    root, axes = tmp_path / "out", setting(grid__axes="{evaluation.iw_samples: [5, 7]}")
    assert run(spec, root, *axes, "--plan") == 0
    assert "0 finished, 0 diverged, 0 trained, 4 to evaluate, 4 to run." in told(capsys)
    assert run(spec, root, *axes) == 0
    assert "8 of 8 members finished." in told(capsys)
    records = Results(root).records
    assert len(records) == 4
    for record in records:
        assert sorted(one.result.iw_samples for one in record.evaluations) == [5, 7]
        same = Results(there).find(record.training.digest)
        assert record.weights.read_bytes() == same.weights.read_bytes()
        (evaluation,) = same.evaluations
        again = record.evaluation(evaluation.result.digest)
        for name in ("statistics.safetensors", "test.safetensors", "gallery.safetensors"):
            assert (again.folder / name).read_bytes() == (evaluation.folder / name).read_bytes()


def test_without_the_optimizer_s_state_a_longer_training_starts_anew_and_ends_the_same(finished, tmp_path, capsys):
    spec, there = finished
    root = tmp_path / "out"
    assert run(spec, root, "--keep-optimizer", "no") == 0
    assert not list(root.rglob("optimizer.safetensors"))
    for record in Results(root).records:
        assert record.training.optimizer_sha256 is None
        assert record.weights.read_bytes() == Results(there).find(record.training.digest).weights.read_bytes()
    told(capsys)
    longer = setting(training__epochs=5)
    assert run(spec, root, *longer, "--plan") == 0
    out = told(capsys)
    assert "though a shorter training is there: the optimizer's state was not kept (--keep-optimizer no)" in out
    assert "0 finished, 0 diverged, 4 to run." in out
    assert run(spec, root, *longer) == 0
    shutil.copytree(there, tmp_path / "kept")
    assert run(spec, tmp_path / "kept", *longer) == 0
    for record, _ in labeled(root).values():
        kept = Results(tmp_path / "kept").find(record.training.digest)
        assert (record.training.extended_from, kept.training.extended_from is None) == (None, False)
        assert record.weights.read_bytes() == kept.weights.read_bytes()


def test_a_finished_folder_without_its_index_has_nothing_left_to_do(copy, capsys):
    spec, root = copy
    before = contents(root)
    for damage in (None, "{"):
        index = root / "members" / "index.json"
        index.unlink()
        if damage:
            index.write_text(damage)
        assert run(spec, root) == 0
        assert "Nothing is left to run." in told(capsys)
        assert contents(root) == before
        assert len(yaml.safe_load(index.read_text())["records"]) == 4


def test_a_printed_spec_is_the_same_grid(finished, tmp_path, capsys):
    spec, _ = finished
    changed = setting(training__epochs=9, evaluation__every="null")
    assert main([str(spec), "--print-spec", *changed]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    ours, printed = read(spec, changed[1::2]), read(tmp_path / "printed.yaml")
    assert printed.members == ours.members
    assert printed.experiment == ours.experiment
    assert main([str(tmp_path / "printed.yaml"), "--print-spec"]) == 0
    assert capsys.readouterr().out == (tmp_path / "printed.yaml").read_text()


@pytest.mark.parametrize("name", ["quickstart", "mnist_finetune", "norb_grid", "frey_gaussian"])
def test_a_printed_shipped_spec_names_neither_base_nor_profiles_and_is_the_same_grid(name, tmp_path, capsys):
    path = f"specs/{name}.yaml"
    assert main([path, "--print-spec"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text).keys().isdisjoint({"base", "profiles"})
    (tmp_path / "printed.yaml").write_text(text)
    assert read(tmp_path / "printed.yaml").members == read(path).members


def test_the_printed_spec_of_a_record_is_that_member(finished, tmp_path, capsys):
    spec, root = finished
    for planned in read(spec).members:
        folder = Results(root).find(planned.digests.training).folder
        assert main([str(folder), "--print-spec"]) == 0
        (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
        reading = read(tmp_path / "printed.yaml")
        (member,) = reading.members
        assert reading.experiment.name == folder.name
        assert (member.spec, member.digests) == (planned.spec, planned.digests)
        assert run(tmp_path / "printed.yaml", tmp_path / "out", "--records", str(root), "--plan") == 0
        assert "1 finished, 0 diverged, 0 to run." in told(capsys)


def test_the_printed_spec_of_a_record_with_a_long_name_can_be_read(copy, tmp_path, capsys):
    _, root = copy
    folder = Results(root).folders[0]
    long = folder.rename(folder.with_name(f"{'x' * 150}-{folder.name[-12:]}"))
    assert main([str(long), "--print-spec"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    reading = read(tmp_path / "printed.yaml")
    assert reading.experiment.name == f"{'x' * 87}-{folder.name[-12:]}"
    assert reading.members[0].spec == Record(long).spec


def test_a_name_that_looks_like_a_number_is_printed_as_text(tmp_path, capsys):
    (tmp_path / "number.yaml").write_text(SPEC.replace("name: again", "name: '1e3'").replace("Gentle", "'0o7'"))
    assert main([str(tmp_path / "number.yaml"), "--print-spec"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(text)
    assert read(tmp_path / "printed.yaml").experiment == read(tmp_path / "number.yaml").experiment
    assert text.startswith("name: '1e3'\n")


@pytest.mark.parametrize("more", [[], ["--print-spec"]])
def test_options_that_do_not_apply_to_a_record_are_refused(finished, more, capsys):
    folder = Results(finished[1]).folders[0]
    options = ["--plan", "--results", "x", *setting(training__epochs=7), "--profile", "p", "--keep-optimizer", "no"]
    assert main([str(folder), "--device", "cpu", *options, *more]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(
        f"{folder}: --set, --profile, --plan, --results, --keep-optimizer cannot be given with a member"
    )


def test_a_record_that_was_extended_from_one_of_another_folder_is_run_again_with_that(finished, tmp_path, capsys):
    spec, there = finished
    root = tmp_path / "out"
    assert run(spec, root, *setting(training__epochs=5), "--records", str(there)) == 0
    for folder in Results(root).folders:
        if Record(folder).training.epochs == 3:
            shutil.rmtree(folder)
    record = Results(root).records[0]
    assert record.training.extended_from is not None
    told(capsys)
    assert main([str(record.folder), "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert f"the training that it was extended from is not in {root}; name the results folder" in err
    assert len(err.splitlines()) == 1
    assert main([str(record.folder), "--device", "cpu", "--records", str(there)]) == 0
    assert "Equal bit for bit." in told(capsys)


def test_a_record_that_is_run_again_is_equal_bit_for_bit_and_untouched(copy, capsys):
    spec, root = copy
    assert run(spec, root, *setting(training__epochs=5)) == 0
    before = contents(root)
    told(capsys)
    for record in Results(root).records:
        assert main([str(record.folder), "--device", "cpu"]) == 0
        out = told(capsys)
        assert f"Running the pack of {record.folder.name} again" in out
        assert ("from epoch 3 of the training it was extended from" in out) == (record.training.epochs == 5)
        assert "Equal bit for bit." in out
        assert "test_log_likelihood (final) │ 1 │ none" in out
    assert contents(root) == before


def test_a_record_that_was_changed_is_found_to_differ(copy, capsys):
    _, root = copy
    one, two, three, _ = Results(root).records
    weights = load_file(one.weights)
    name = next(name for name in weights if name.endswith("weight"))
    weights[name][..., 0] += 0.25
    save_file(weights, one.weights)
    told(capsys)
    assert main([str(one.folder), "--device", "cpu"]) == 1
    out = told(capsys)
    assert "Equal bit for bit." not in out
    assert "│ 0.25 │" in out
    # Its curves and its evaluation are those that the pack gives.
    assert "test_log_likelihood (final) │ 1 │ none" in out
    two.weights.write_bytes(two.weights.read_bytes()[:-40])
    assert main([str(two.folder), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith(f"{two.weights}: not arrays that can be read")
    lines = (three.folder / "epochs.jsonl").read_text().splitlines()
    (three.folder / "epochs.jsonl").write_text("\n".join([lines[0], "what", *lines[2:]]))
    assert main([str(three.folder), "--device", "cpu"]) == 2
    assert f"{three.folder / 'epochs.jsonl'}:2: not a JSON object" in capsys.readouterr().err


def test_what_cannot_be_run_again_as_it_was_is_one_message(copy, capsys):
    _, root = copy
    first, second, *_ = Results(root).records
    mates = [one for one in Results(root).records if one.training.digest in first.training.pack.trainings]
    assert len(mates) == 4
    (second.folder / "training.json").unlink()
    assert main([str(second.folder), "--device", "cpu"]) == 2
    assert "not trained, so there is nothing to compare with" in capsys.readouterr().err
    shutil.rmtree(second.folder)
    assert main([str(first.folder), "--device", "cpu"]) == 2
    assert "1 of the 4 members of its pack are no longer in" in capsys.readouterr().err
    assert main([str(root / "members" / "nobody"), "--device", "cpu"]) == 2
    assert f"{root / 'members' / 'nobody'}:1:1: no such file" in capsys.readouterr().err


OWN = """
name: own
data: {dataset: own, own: {name: mine, file: mine.npz, range: [0, 255]}}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 8}
evaluation: {iw_samples: 3}
"""


def write_images(folder, seed, part=None):
    """Images of one's own; those of another seed in one part, or in both."""
    parts = {}
    for name, count in (("train", 24), ("test", 8)):
        draw = np.random.default_rng(seed if part in (name, None) else 0)
        parts[name] = draw.integers(0, 256, (count, 3, 4), dtype=np.uint8)
    np.savez(folder / "mine.npz", **parts)


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_that_have_changed_are_refused_before_anything_is_trained(tmp_path, part, capsys):
    (tmp_path / "own.yaml").write_text(OWN)
    write_images(tmp_path, 0)
    spec, root = tmp_path / "own.yaml", tmp_path / "out"
    assert run(spec, root) == 0
    (record,) = Results(root).records
    state, before = record.training.data, contents(root)
    write_images(tmp_path, 1, part)
    asked = {
        "more seeds": setting(grid__seeds="[0, 1]"),
        "other seeds": setting(grid__seeds="[1]"),
        "an evaluation": setting(evaluation__iw_samples=5),
        "a longer training": setting(training__epochs=3),
    }
    for what, options in asked.items():
        capsys.readouterr()
        assert run(spec, root, *options) == 2, what
        out, err = capsys.readouterr()
        theirs = {"train": state.train_sha256, "test": state.test_sha256}[part]
        words = {"train": "training", "test": "test"}[part]
        assert err.startswith(f"mine: the {words} images are not those that {record.folder} was made with (SHA-256 ")
        assert f", not {theirs[:12]}...)" in err
        assert "put the former files back, or choose another folder with --results" in err
        assert "Running" not in out
        assert contents(root) == before
        assert len(Results(root).folders) == 1
    # Elsewhere they are welcome, and with the former files back all of it runs.
    assert run(spec, tmp_path / "other") == 0
    write_images(tmp_path, 0)
    for what, options in asked.items():
        assert run(spec, root, *options) == 0, what


def test_images_that_have_changed_since_a_record_of_another_folder_are_refused(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(OWN)
    write_images(tmp_path, 0)
    spec, root = tmp_path / "own.yaml", tmp_path / "out"
    assert run(spec, root) == 0
    write_images(tmp_path, 1)
    for options in (setting(evaluation__iw_samples=5), setting(training__epochs=3), setting(grid__seeds="[0, 1]")):
        assert run(spec, tmp_path / "other", *options, "--records", str(root)) == 2
        assert "images are not those that" in capsys.readouterr().err
        assert not (tmp_path / "other" / "members").exists()


def test_records_of_two_folders_with_different_images_do_not_come_into_one(tmp_path, capsys):
    """Though nothing is left to run, so that no images are loaded."""
    (tmp_path / "own.yaml").write_text(OWN)
    write_images(tmp_path, 0)
    spec, root = tmp_path / "own.yaml", tmp_path / "out"
    assert run(spec, root) == 0
    write_images(tmp_path, 1)
    assert run(spec, tmp_path / "more", *setting(grid__seeds="[1]")) == 0
    capsys.readouterr()
    assert run(spec, root, *setting(grid__seeds="[0, 1]"), "--records", str(tmp_path / "more")) == 2
    assert "was made with are not those of" in capsys.readouterr().err
    assert len(Results(root).folders) == 1


@pytest.mark.parametrize("options", [[], ["--plan"]])
def test_a_results_folder_of_the_former_layout_is_refused_in_one_line(finished, tmp_path, options, capsys):
    spec, root = finished[0], tmp_path / "old"
    record = root / "members" / "digits-L2-ladder-s0-0123456789ab"
    record.mkdir(parents=True)
    (record / "spec.yaml").write_text("seed: 0\n")
    (record / "result.json").write_text('{"status": "finished"}')
    before = sorted(path for path in root.rglob("*") if not path.name.startswith("."))
    words = (
        f"{root}: holds records of an earlier version (0.2 or before), which this version cannot use; choose another "
    )
    assert run(spec, root, *options) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(words), len(err.splitlines())) == ("", True, 1)
    assert "--results" in err
    assert sorted(path for path in root.rglob("*") if not path.name.startswith(".")) == before
    # Nor are records taken from there.
    assert run(spec, tmp_path / "new", "--records", str(root), *options) == 2
    _, err = capsys.readouterr()
    assert (err.startswith(words), len(err.splitlines())) == (True, 1)


class Killed(BaseException):
    """Stands for a process that dies."""


def kill(spec, root, epoch, *options):
    """Run until the checkpoint of an epoch is written, and die."""
    save = pack.PackRun.save

    def save_and_die(self, trainer):
        save(self, trainer)
        if trainer.epoch == epoch:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(pack, "CHECKPOINT_SHARE", 1e9)
        patch.setattr(pack.PackRun, "save", save_and_die)
        with pytest.raises(Killed):
            run(spec, root, *options)


@pytest.mark.parametrize(("data", "first_epochs"), [("mnist", None), ("own", 2)], ids=["interrupted", "extended too"])
def test_a_folder_that_is_moved_half_trained_ends_as_if_it_had_stayed(tmp_path, monkeypatch, data, first_epochs):
    """To another path, with the images at another path, and nothing left where they were."""
    own = "{dataset: own, own: {name: mine, file: mine.npz, range: [0, 255]}}"
    text = SPEC.replace("{dataset: digits, train_images: 128, test_images: 10}", "{dataset: mnist}")
    text = text.replace("{dataset: mnist}", own) if data == "own" else text
    text = text.replace("epochs: 3, batch_size: 64", "epochs: 5, batch_size: 20")
    old, new = tmp_path / "here", tmp_path / "elsewhere" / "deep"
    for place in (old, new):
        write_mnist(place / "images")
        pixels = np.random.default_rng(0).integers(0, 256, (80, 4, 4), dtype=np.uint8)
        np.savez(place / "mine.npz", train=pixels[:60], test=pixels[60:])
        (place / "again.yaml").write_text(text)
    monkeypatch.setenv("HVAE_DATA_DIR", str(old / "images"))
    if first_epochs is not None:
        assert run(old / "again.yaml", old / "out", *setting(training__epochs=first_epochs)) == 0
    kill(old / "again.yaml", old / "out", 3)
    shutil.move(old / "out", new / "results")
    shutil.rmtree(old)
    monkeypatch.setenv("HVAE_DATA_DIR", str(new / "images"))
    assert run(new / "again.yaml", new / "results") == 0
    assert run(new / "again.yaml", tmp_path / "anew") == 0
    moved = without(contents(new / "results"), "extended_from")
    anew = without(contents(tmp_path / "anew"), "extended_from")
    assert {key: moved[key] for key in anew} == anew
    for record in Results(new / "results").records:
        if record.spec.training.epochs == 5:
            starts = [segment.first_epoch for segment in record.training.segments]
            assert starts == ([1, 4] if first_epochs is None else [1, 3, 4])
            assert [row["epoch"] for row in record.epochs] == [1, 2, 3, 4, 5]


def test_members_that_share_a_training_go_on_together_after_a_kill(finished, tmp_path, capsys):
    spec, root = finished[0], tmp_path / "out"
    axes = setting(grid__axes="{evaluation.iw_samples: [5, 7]}")
    kill(spec, root, 2, *axes)
    assert run(spec, root, *axes) == 0
    assert "8 of 8 members finished." in told(capsys)
    assert run(spec, tmp_path / "anew", *axes) == 0
    assert contents(root) == contents(tmp_path / "anew")


def test_retrain_starts_a_pack_over_that_had_begun_with_another_curve(finished, tmp_path):
    spec, root, every = finished[0], tmp_path / "out", setting(evaluation__every=1)
    kill(spec, root, 2)
    assert run(spec, root, *every, "--retrain") == 0
    assert run(spec, tmp_path / "anew", *every) == 0
    assert contents(root) == contents(tmp_path / "anew")
    for record in Results(root).records:
        assert [row["epoch"] for row in record.epochs] == [row["epoch"] for row in record.units] == [1, 2, 3]
    assert len(list((root / "retired").iterdir())) == 4


def test_a_record_that_is_deleted_while_its_pack_has_a_checkpoint_is_trained_from_the_start(finished, tmp_path):
    spec, root = finished[0], tmp_path / "out"
    kill(spec, root, 2)
    shutil.rmtree(Results(root).records[0].folder)
    assert run(spec, root) == 0
    assert contents(root) == contents(finished[1])


def test_a_curve_that_has_begun_keeps_its_settings_and_test_images(finished, tmp_path, capsys):
    spec, root = finished[0], tmp_path / "out"
    more = setting(data__test_images=20, evaluation__every=1)
    kill(spec, root, 2)
    capsys.readouterr()
    assert run(spec, root, *more, "--plan") == 0
    assert "4 members keep their learning curves (evaluation.every 2, not 1)" in told(capsys)
    assert run(spec, root, *more) == 0
    there = Results(finished[1])
    for record in Results(root).records:
        same = there.find(record.training.digest)
        assert record.epochs == [{**row, "seconds": mine["seconds"], "ms_per_step": mine["ms_per_step"]}
                                 for row, mine in zip(same.epochs, record.epochs, strict=True)]  # fmt: skip
        assert record.units == same.units
        (evaluation,) = record.evaluations
        assert evaluation.result.data.test_images == 20


def test_extensions_keep_what_each_member_was_trained_with(copy):
    spec, root = copy
    for number, (record, _) in enumerate(labeled(root).values()):
        training = record.training
        segment = training.segments[0].model_copy(update={"command": [f"command {number}"]})
        record.finish(training.model_copy(update={"segments": [segment], "training_seconds": 1000.0 + number}))
    kill(spec, root, 5, *setting(training__epochs=7))
    for name in [record.folder for record in Results(root).records if record.training is not None]:
        shutil.rmtree(name)  # they are not needed any more
    assert run(spec, root, *setting(training__epochs=7)) == 0
    assert len(Results(root).records) == 4
    for number, (record, _) in enumerate(labeled(root).values()):
        training = record.training
        assert training.segments[0].command == [f"command {number}"]
        assert [(one.first_epoch, one.last_epoch) for one in training.segments] == [(1, 3), (4, 5), (6, 7)]
        assert 1000.0 + number < training.training_seconds < 1100.0 + number
        assert training.extended_from


def test_an_extension_without_a_checkpoint_whose_source_is_gone_starts_anew(copy, tmp_path):
    spec, root = copy
    longer = setting(training__epochs=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack.PackRun, "train", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(spec, root, *longer)
    shutil.rmtree(root / "members")
    assert run(spec, root, *longer) == 0
    assert all(record.training.extended_from is None for record in Results(root).records)


def test_one_damaged_record_does_not_hinder_the_evaluation_of_others(copy, capsys):
    spec, root = copy
    broken = Results(root).records[1]
    broken.weights.write_bytes(broken.weights.read_bytes()[:100])
    assert run(spec, root, *setting(evaluation__iw_samples=7)) == 1
    assert "3 of 4 members finished" in told(capsys)
    failures = [one.result for record in Results(root).records for one in record.evaluations if one.result.failure]
    assert [failure.training for failure in failures] == [broken.training.digest]
    assert str(broken.weights) in failures[0].failure


def test_a_damaged_start_costs_its_own_member_the_start_and_no_other(copy, capsys):
    """Of four members that train further, one has a damaged optimizer's state: it trains from the beginning."""
    spec, root = copy
    broken = Results(root).records[1]
    content = broken.optimizer.read_bytes()
    broken.optimizer.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    longer = setting(training__epochs=4)
    assert run(spec, root, *longer, "--plan") == 0
    out = told(capsys)
    assert f"Damaged: {broken.optimizer}: damaged (its SHA-256 is not the one in the record); delete it, and the" in out
    assert "0 finished, 0 diverged, 4 to run (3 from a shorter training)." in out
    assert run(spec, root, *longer) == 0
    longest = [record.training for record in Results(root).records if record.training.epochs == 4]
    assert sorted(training.extended_from is None for training in longest) == [False, False, False, True]


def test_damage_is_named_at_the_end_and_the_exit_code_says_so(copy, capsys):
    spec, root = copy
    first, second, third, _ = Results(root).records
    first.weights.write_bytes(b"")
    (second.folder / "spec.yaml").unlink()
    (result,) = third.folder.glob("evaluations/*/result.json")
    result.write_text(result.read_text().replace('"status": "finished"', '"status": "diverged"'))
    before = {path: path.read_bytes() for path in root.joinpath("members").rglob("*") if path.is_file()}
    assert run(spec, root) == 1
    out = told(capsys)
    assert "1 of 4 members finished, 3 damaged." in out
    assert f"{first.weights}: damaged (its SHA-256 is not the one in the record); delete {first.folder} to" in out
    assert (
        f"{second.folder / 'spec.yaml'}: no such file; delete {second.folder} to have the member trained again" in out
    )
    assert f"{result}: damaged (its content is not that of its checksum); delete it to have it made again" in out
    assert {path: path.read_bytes() for path in before} == before
    # The remedies fix it.
    shutil.rmtree(first.folder)
    shutil.rmtree(second.folder)
    result.unlink()
    assert run(spec, root) == 0
    assert "4 of 4 members finished." in told(capsys)


def test_what_killed_writers_have_left_is_removed_by_the_next_run(copy):
    spec, root = copy
    left = [root / ".grid.json.0a1b2c3d.tmp", Results(root).records[0].folder / ".weights.safetensors.0a1b2c3d.tmp"]
    for path in left:
        path.write_bytes(b"half of a")
    (root / "packs" / "0123456789ab").mkdir()
    (root / "packs" / "0123456789ab" / "lock").touch()
    (root / "mine.tmp").touch()
    assert run(spec, root, "--plan") == 0
    assert all(path.exists() for path in left)  # a plan writes nothing
    assert run(spec, root) == 0
    assert not any(path.exists() for path in left)
    assert [path.name for path in (root / "packs").iterdir()] == ["planned.json"]
    assert (root / "mine.tmp").exists()

"""Averaged weights (`training.ema`): what is evaluated and kept is the average, and what trains on is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvae_spec import compiler
from hvae_spec import pack as packs
from hvae_spec.backend.cuda_graph import CudaGraph, _copies
from hvae_spec.data.batches import draw_once
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import evaluate, record_statistics
from hvae_spec.pack import run_pack
from hvae_spec.records.arrays import load_arrays
from hvae_spec.records.layout import Results
from hvae_spec.training.checkpoint import cut_checkpoint, load_checkpoint, save_checkpoint
from hvae_spec.training.optimizer import optimizer_of
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import Killed, contents, job, result_of

AVERAGED = {
    "training__ema": 0.9,
    "training__optimizer": {"adamw": {"lr": 2e-3, "weight_decay": 0.1}},
    "training__schedule": {"cosine": {"over": 8, "to": 0.1, "ramp": 2}},
}


def averaged(seed=0, **overrides):
    return member(seed=seed, **(AVERAGED | overrides))


def trainer(*specs):
    return Trainer(specs, load_dataset(specs[0].data))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_members_that_differ_in_numbers_of_optimizer_schedule_and_average_train_as_they_do_alone(name):
    decay = {} if name == "adam" else {"weight_decay": 0.5}
    falls = ({"linear": {"over": 4, "ramp": 2}}, {"cosine": {"over": 5}})
    specs = [
        averaged(0, training__optimizer={name: {"lr": 1e-3}}, training__schedule=falls[0]),
        averaged(1, training__optimizer={name: {"lr": 3e-3, **decay}}, training__schedule=falls[1], training__ema=0.5),
    ]
    together = trainer(*specs)
    rows = together.train_epoch()
    for m, spec in enumerate(specs):
        alone = trainer(spec)
        (row,) = alone.train_epoch()
        assert rows[m]["train_bound"] == pytest.approx(row["train_bound"], rel=2e-3)
        ours, single = together.optimizer.averages[m], alone.optimizer.averages[0]
        assert (ours - single).norm() < 1e-3 * single.norm()


class Counted(CudaGraph):
    """The graph of a CPU: what would be captured is called again with the tensors of the capture."""

    captures = 0

    def _on_side_stream(self, arguments):
        return self.function(*arguments)

    def _capture(self, arguments):
        self.captures += 1
        kept = _copies(arguments)
        self.inputs = [value for value in kept if isinstance(value, torch.Tensor)]
        # The learning rate of the present epoch must be read where it lies, as all else is that a graph reads.
        rates = [group["lr"] for group in self.function.__self__.optimizer._parameter_groups()]

        def replay():
            now = self.function.__self__.optimizer._parameter_groups()
            assert all(group["lr"] is rate for group, rate in zip(now, rates, strict=True))
            self.output = self.function(*kept)

        return SimpleNamespace(replay=replay)


def test_a_step_is_captured_once_however_the_learning_rate_changes():
    graph, eager = trainer(averaged(0), averaged(1)), trainer(averaged(0), averaged(1))
    graph.graph = Counted(graph.update)
    rates = set()
    for _ in range(4):
        graph.train_epoch()
        eager.train_epoch()
        rates.update(graph.optimizer.learning_rates)
    assert len(rates) > 2
    assert graph.graph.captures == 1
    assert torch.equal(graph.optimizer.rows, eager.optimizer.rows)
    assert torch.equal(graph.optimizer.averages, eager.optimizer.averages)


@pytest.mark.parametrize("shared", [False, True])
def test_a_member_by_itself_has_the_averages_and_their_statistics(shared):
    pack = trainer(*(averaged(seed, model__share_top_down=shared) for seed in (0, 1)))
    pack.train_epoch()
    single, spec = pack.single(1), pack.specs[1]
    named = dict(single.named_parameters())
    kept = pack.weights(1)
    assert kept.keys() <= named.keys()
    assert all(np.array_equal(named[name].detach().numpy(), value) for name, value in kept.items())
    assert torch.equal(
        torch.cat([torch.from_numpy(value).flatten() for value in kept.values()]), pack.optimizer.averages[1]
    )
    reloaded = compiler.with_weights(spec, 64, kept)
    for model in (single, reloaded):
        record_statistics(model, pack.batches, spec.seed, 1, "whole_set")
    ours, theirs = compiler.statistics_of(single), compiler.statistics_of(reloaded)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    # What goes on training is not the average.
    assert not torch.equal(pack.optimizer.rows, pack.optimizer.averages)
    assert torch.equal(torch.cat([part[1].flatten() for part in pack.parameters]), pack.optimizer.rows[1])


def test_the_record_has_the_averages_which_are_what_is_evaluated_and_beside_the_optimizers_state_the_weights(tmp_path):
    spec = averaged(evaluation__every=3, evaluation__curve_iw_samples=20)
    run_pack(job(tmp_path, [spec]))
    by_hand = trainer(spec)
    for _ in range(3):
        by_hand.train_epoch()
    (record,) = Results(tmp_path).records
    weights, expected = load_arrays(record.weights), by_hand.weights(0)
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    raw = by_hand.optimizer.rows[0]
    assert np.array_equal(load_arrays(record.optimizer)["raw"], raw.numpy())
    dataset, bounds = load_dataset(spec.data), []
    x = draw_once(dataset, "test", spec.model.observation)
    for row in (by_hand.optimizer.averages[0], raw):
        parts = zip(expected, by_hand.optimizer.as_parameters(row[None]), strict=True)
        model = compiler.with_weights(spec, 64, {name: part.numpy() for name, part in parts})
        record_statistics(model, by_hand.batches, spec.seed, 3, spec.evaluation.batch_norm_statistics)
        found = evaluate(model.eval(), x, spec.evaluation.curve_iw_samples, seed=spec.seed, epoch=3)
        bounds.append(float(found.log_likelihood.mean()))
    point = record.epochs[-1]["test_log_likelihood"]
    assert point == pytest.approx(bounds[0], abs=1e-4)
    assert abs(point - bounds[1]) > 0.1
    assert result_of(record).test_log_likelihood == pytest.approx(bounds[0], abs=1e-4)


def test_an_interrupted_longer_training_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    """It goes on from the weights that are not averaged, and so does a pack from its checkpoint."""
    monkeypatch.setattr(packs, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(packs, "CHECKPOINT_SHARE", 1e9)
    monkeypatch.setattr(packs, "REPORT_SECONDS", 0.0)
    sgd = {"training__optimizer": {"sgd": {"lr": 1e-4, "nesterov": True, "weight_decay": 0.1}}}

    def both(epochs):
        shape = {"depth": 1, "training__epochs": epochs, "evaluation__every": 2}
        return [averaged(0, **shape), averaged(1, **shape, **sgd)]

    run_pack(job(tmp_path / "parts", both(2)))
    sources = tuple(record.folder for record in Results(tmp_path / "parts").records)
    longer = job(tmp_path / "parts", both(5), extends=sources, start_epoch=2)

    def die(progress):
        if progress.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        run_pack(longer, die)
    run_pack(longer)
    run_pack(job(tmp_path / "whole", both(5)))
    parts, expected = contents(tmp_path / "parts"), contents(tmp_path / "whole")
    assert all(parts[key] == value for key, value in expected.items() if key[1] != "training")


def test_without_the_weights_that_are_not_averaged_nothing_goes_on(tmp_path):
    """As of a record of which someone has put another one's state in place."""
    spec = averaged(training__epochs=2)
    pack = trainer(spec)
    pack.train_epoch()
    state = {name: value.numpy() for name, value in optimizer_of(pack.optimizer.state(), 0).items() if name != "raw"}
    with pytest.raises(KeyError, match="averages"):
        trainer(spec).extend(1, [pack.weights(0)], [state])


def test_fine_tuning_starts_from_the_averages_and_so_does_its_average(tmp_path):
    second = averaged(training__first_phase={"epochs": 2}, objective__warm_up=0, training__epochs=1)
    first = second.first_phase
    assert first.training.ema == 0.9
    run_pack(job(tmp_path, [first]))
    (record,) = Results(tmp_path).records
    started = trainer(second)
    started.start_from([load_arrays(record.weights)])
    assert torch.equal(started.optimizer.rows, started.optimizer.averages)
    kept = load_arrays(record.weights)
    assert all(np.array_equal(value, kept[name]) for name, value in started.weights(0).items())


def test_early_stopping_keeps_the_best_averages_in_checkpoints_too(tmp_path):
    shape = {"data__validation": 20, "evaluation__every": 1, "objective__warm_up": 0, "training__epochs": 9}
    specs = [averaged(seed, training__early_stopping={"patience": 1}, **shape) for seed in (0, 1)]
    pack = trainer(*specs)
    for bound in (-1.0, -2.0):
        pack.train_epoch()
        for m in (0, 1):
            pack.watch(m, bound)
        if bound == -1.0:
            best = pack.optimizer.averages.clone()
    assert pack.frozen == [True, True]
    trainings = [spec.digests.training for spec in specs]
    save_checkpoint(tmp_path / "whole", pack, trainings, {}, [])
    cut_checkpoint(tmp_path / "whole", tmp_path / "part", trainings[1:])
    part = trainer(specs[1])
    load_checkpoint(tmp_path / "part", part, trainings[1:])
    for one, m in ((pack, 1), (part, 0)):
        kept = torch.cat([torch.from_numpy(value).flatten() for value in one.weights(m).values()])
        assert torch.equal(kept, best[1])

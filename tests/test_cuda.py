"""The same code on a CUDA device. Run with `-m cuda`."""

import pytest
import torch
from torch._dynamo.utils import counters

from hvae_spec import compiler
from hvae_spec.backend.cuda_graph import CudaGraph
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import evaluate, record_statistics
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from hvae_spec.pack import run_pack
from hvae_spec.pack_job import PackJob
from hvae_spec.records.layout import Results
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.test_pack import grid_member
from tune.execute.trial import choose_steps

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("inference", INFERENCES)
def test_log_weights_are_those_of_the_cpu(inference):
    spec = member(model__inference=inference)
    model = compiler.initialized([spec, spec], 64)
    x, noise = torch.rand(2, 16, 64).round(), Streams([0, 1]).begin("test").noise(3, 16, model.units)
    expected = log_weight(model(x, noise))
    on_device = log_weight(model.cuda()(x.cuda(), [eps.cuda() for eps in noise]))
    torch.testing.assert_close(on_device.cpu(), expected, rtol=1e-4, atol=1e-2)


def test_a_pack_trains_evaluates_and_is_recorded(tmp_path):
    specs = [member(seed=seed, evaluation__every=1) for seed in (0, 1)]
    run_pack(PackJob("pack", tuple(map(grid_member, specs)), tmp_path, device="cuda"))
    for record in Results(tmp_path).records:
        (evaluation,) = record.evaluations
        assert evaluation.result.status == "finished"
        assert record.training.segments[0].device == evaluation.result.segment.device == "cuda"


def test_the_bound_is_that_of_the_cpu_within_monte_carlo_error():
    spec = member(model__batch_norm=False)
    model, dataset = compiler.initialized([spec], 64), load_dataset(spec.data)
    x = torch.tensor(dataset.test[:24]).float().div(16).round()
    record_statistics(model, compiler.batches(spec, dataset), 0, 0, "whole_set")
    on_cpu = evaluate(model, x, 2000)
    on_device = evaluate(model.cuda(), x, 2000)
    error = (on_cpu.log_likelihood_mc_se**2 + on_device.log_likelihood_mc_se**2) ** 0.5
    assert abs(on_cpu.log_likelihood.mean() - on_device.log_likelihood.mean()) < 5 * error


def rows_of_graph_and_of_steps(specs):
    """The rows of the members in two epochs, of a replayed graph and of the steps that it stands for."""
    dataset = load_dataset(specs[0].data)
    graph, eager = Trainer(specs, dataset, "cuda"), Trainer(specs, dataset, "cuda")
    eager.graph = None
    epochs = [(graph.train_epoch(), eager.train_epoch()) for _ in range(2)]
    assert graph.graph.graph is not None
    return [pair for rows in epochs for pair in zip(*rows, strict=True)]


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("inference", INFERENCES)
def test_a_replayed_graph_trains_as_the_steps_it_stands_for(inference, clip):
    specs = [member(seed=seed, model__inference=inference, training__clip_norm=clip) for seed in (0, 1)]
    for row, expected in rows_of_graph_and_of_steps(specs):
        assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
        assert row["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-2)


@pytest.mark.parametrize("prior", [{"vamp": 6}, {"mixture": 4}, {"realnvp": {"blocks": 2}}], ids=str)
def test_learned_priors_are_part_of_the_graph_and_start_as_on_the_cpu(prior):
    specs = [member(seed=seed, model__prior=prior) for seed in (0, 1)]
    dataset = load_dataset(specs[0].data)
    graph, eager, on_cpu = Trainer(specs, dataset, "cuda"), Trainer(specs, dataset, "cuda"), Trainer(specs, dataset)
    assert torch.equal(graph.optimizer.rows.cpu(), on_cpu.optimizer.rows)
    eager.graph = None
    for _ in range(2):
        for row, expected in zip(graph.train_epoch(), eager.train_epoch(), strict=True):
            assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
    assert graph.graph.graph is not None


@pytest.mark.parametrize("inference", ["vae", "ladder"])
def test_an_auxiliary_variable_is_part_of_the_graph(inference):
    more = {"model__auxiliary": {"units": 6, "mlp": [7]}, "objective__iw_samples": 2}
    specs = [member(seed=seed, model__inference=inference, **more) for seed in (0, 1)]
    for row, expected in rows_of_graph_and_of_steps(specs):
        assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
        assert row["auxiliary_nats"] == pytest.approx(expected["auxiliary_nats"], rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("inference", ["vae", "ladder"])
@pytest.mark.parametrize("classification", [0.5, "only"])
def test_labels_are_part_of_the_graph(inference, classification):
    labels = {"model__classes": {"mlp": [6]}, "data__labeled": 20, "data__labeled_batch": 10}
    more = {"objective__classification": classification, "objective__iw_samples": 2}
    specs = [member(seed=seed, model__inference=inference, **labels, **more) for seed in (0, 1)]
    for row, expected in rows_of_graph_and_of_steps(specs):
        if classification != "only":
            assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
        assert row["train_log_classes"] == pytest.approx(expected["train_log_classes"], rel=1e-2)
        assert row["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-2)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_several_sweeps_are_part_of_the_graph_with_statistics_of_each(norm):
    steps = {"model__inference_steps": 2, "model__norm": norm, "model__batch_norm": None}
    specs = [member(seed=seed, **steps) for seed in (0, 1)]
    for row, expected in rows_of_graph_and_of_steps(specs):
        assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
        assert row["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-2)


@pytest.mark.parametrize(
    "chosen", [{"adam": {}}, {"adamw": {"weight_decay": 0.5}}, {"sgd": {"weight_decay": 0.5}}], ids=str
)
def test_a_step_is_captured_once_however_the_learning_rate_changes(chosen, monkeypatch):
    captures, capture = [], CudaGraph._capture
    monkeypatch.setattr(CudaGraph, "_capture", lambda *given: captures.append(None) or capture(*given))
    falls = {"training__schedule": {"cosine": {"over": 4, "ramp": 2}}, "training__ema": 0.9}
    specs = [member(seed=seed, training__optimizer=chosen, **falls) for seed in (0, 1)]
    dataset = load_dataset(specs[0].data)
    graph, eager = Trainer(specs, dataset, "cuda"), Trainer(specs, dataset, "cuda")
    eager.graph = None
    for _ in range(4):
        for row, expected in zip(graph.train_epoch(), eager.train_epoch(), strict=True):
            assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=1e-3)
    assert len(captures) == 1
    torch.testing.assert_close(graph.optimizer.averages, eager.optimizer.averages, rtol=1e-2, atol=1e-3)


def test_a_diverged_member_is_frozen_in_a_captured_step():
    specs = [member(seed=seed) for seed in (0, 1)]
    pack = Trainer(specs, load_dataset(specs[0].data), "cuda")
    with torch.no_grad():
        pack.model.generative.likelihood.logits.weight[1, 0, 0] = torch.nan
    pack.train_epoch()
    assert pack.divergences[0] is None
    assert pack.divergences[1] is not None
    before = pack.optimizer.rows.clone()
    pack.train_epoch()
    assert torch.equal(before[1].nan_to_num(), pack.optimizer.rows[1].nan_to_num())
    assert not torch.equal(before[0], pack.optimizer.rows[0])


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
def test_a_compiled_step_is_that_of_the_plain_objective():
    specs = [member(seed=seed) for seed in (0, 1)]
    dataset = load_dataset(specs[0].data)
    fused, plain = Trainer(specs, dataset, "cuda", compiled=True), Trainer(specs, dataset, "cuda")
    compiled = counters["stats"]["unique_graphs"]
    for row, expected in zip(fused.train_epoch(), plain.train_epoch(), strict=True):
        assert row["train_bound"] == pytest.approx(expected["train_bound"], rel=2e-3)
    assert counters["stats"]["unique_graphs"] == compiled


@pytest.mark.parametrize("is_faster", [True, False])
def test_training_after_a_trial_of_both_ways_is_that_without_one(tmp_path, monkeypatch, is_faster):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    specs = [member(seed=seed) for seed in (0, 1)]
    job = PackJob("pack", tuple(map(grid_member, specs)), tmp_path, device="cuda", tries_compiling=True)
    dataset = load_dataset(specs[0].data)
    tried, plain = Trainer(specs, dataset, "cuda"), Trainer(specs, dataset, "cuda")

    def take_turns(calls, seconds, device):
        for _ in range(5):  # the fourth call of a way is its capture
            for call in calls.values():
                call()
        return {way: [0.5 if way == is_faster else 1.0] * 2 for way in calls}

    choose_steps(job, tried, 10**6, take_turns)
    assert tried.is_to_compile == is_faster
    for rows, expected in [(tried.train_epoch(), plain.train_epoch()) for _ in range(2)]:
        for row, other in zip(rows, expected, strict=True):
            assert row["train_bound"] == other["train_bound"]
            assert row["gradient_norm"] == other["gradient_norm"]
    assert tried.graph.graph is not None

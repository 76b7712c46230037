import pytest
import torch
from torch import nn

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.evaluate.evaluation import record_statistics
from hvae_spec.nn.batch_norm import BatchNorm, recording
from hvae_spec.nn.objective import log_weight
from hvae_spec.nn.random import Streams
from tests.members import member
from tests.observations import FORMS


def norm_of(members, units=6):
    norm = BatchNorm(members, units, 1e-3)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


def test_training_equals_pytorchs_batch_norm_member_by_member():
    norm, x = norm_of(3), torch.randn(3, 6, 2, 10) * 4 + 1
    y = norm(x)
    for member_index in range(3):
        plain = nn.BatchNorm1d(6, eps=1e-3)
        with torch.no_grad():
            plain.weight.copy_(norm.weight[member_index, :, 0])
            plain.bias.copy_(norm.bias[member_index, :, 0])
        expected = plain(x[member_index].flatten(1).T)
        torch.testing.assert_close(y[member_index].flatten(1).T, expected)


def test_evaluation_uses_recorded_statistics_and_needs_them():
    norm, x = norm_of(2), torch.randn(2, 6, 1, 50) * 3 + 2
    norm.eval()
    assert norm(x).isnan().all()
    with recording(norm):
        norm(x)
    assert not norm.training
    torch.testing.assert_close(norm.mean, x[:, :, 0].mean(2))
    torch.testing.assert_close(norm.variance, x[:, :, 0].var(2, correction=0))
    # An image's output does not depend on what else is in its batch.
    torch.testing.assert_close(norm(x)[..., :1], norm(x[..., :1]))


def test_recording_averages_batches_and_training_leaves_no_trace():
    norm = norm_of(1)
    batches = [torch.randn(1, 6, 1, 20) + shift for shift in (0.0, 5.0)]
    with recording(norm):
        for batch in batches:
            norm(batch)
    torch.testing.assert_close(norm.mean[0], torch.stack([batch[0, :, 0].mean(1) for batch in batches]).mean(0))
    before = norm.mean.clone()
    norm.train()
    norm(torch.randn(1, 6, 1, 20) * 100)
    assert torch.equal(norm.mean, before)


@pytest.mark.parametrize("method", ["whole_set", "batch_average"])
def test_statistics_are_those_of_the_training_set_layer_by_layer(method):
    spec = member(2, training__batch_size=320)
    model = compiler.initialized([spec], 64)
    dataset = load_dataset(spec.data)
    batches = compiler.batches(spec, dataset)
    record_statistics(model, batches, spec.seed, 5, method)
    # One batch holds the whole set, so evaluation with recorded statistics must equal training on that batch.
    streams = Streams([spec.seed]).begin("statistics", 5)
    x = batches.whole(streams) if method == "whole_set" else next(iter(batches.epoch(streams)))
    noise = streams.noise(1, 320, model.units)
    model.eval()
    with torch.no_grad():
        evaluated = log_weight(model(x, noise))
        trained = log_weight(model.train()(x, noise))
    torch.testing.assert_close(evaluated, trained, rtol=1e-4, atol=1e-3)


def test_output_heads_are_not_normalized_and_latent_heads_are():
    for observation in FORMS:
        model = compiler.initialized([member(2, model__observation=observation)], 64)
        norms = {name for name, module in model.named_modules() if isinstance(module, BatchNorm)}
        hidden = {name for name in norms if ".norms." in name}
        heads = {name for name in norms if name.endswith(".head.norm")}
        assert norms == hidden | heads
        assert heads == {
            "inference.up.0.head.norm",
            "inference.up.1.head.norm",
            "inference.down.0.head.norm",
            "generative.conditionals.0.head.norm",
        }
        assert {name for name in hidden if name.startswith("generative.likelihood.mlp")}
    plain = compiler.initialized([member(2, model__batch_norm=False)], 64)
    assert not any(isinstance(module, BatchNorm) for module in plain.modules())

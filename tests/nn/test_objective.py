from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec import compiler
from hvae_spec.nn.bounds import bound
from hvae_spec.nn.hierarchy import Trace
from hvae_spec.nn.objective import log_weight, missing_kl
from hvae_spec.nn.random import Streams
from hvae_spec.spec.objective import Cycles, ObjectiveSpec
from hvae_spec.training.schedules import beta, warm_up
from tests.members import member


@given(st.integers(2, 500))
def test_warm_up_is_zero_in_the_first_epoch_and_one_from_epoch_n_on(epochs_to_one):
    betas = [warm_up(epoch, epochs_to_one) for epoch in range(1, epochs_to_one + 3)]
    assert betas[0] == 0
    assert betas[epochs_to_one - 1 :] == [1.0, 1.0, 1.0]
    steps = [b - a for a, b in pairwise(betas)][: epochs_to_one - 1]
    assert steps == pytest.approx([1 / (epochs_to_one - 1)] * (epochs_to_one - 1))


def test_without_warm_up_beta_is_one():
    assert [warm_up(epoch, 1) for epoch in (1, 2, 3)] == [0, 1, 1]
    assert [warm_up(epoch, 0) for epoch in (1, 2, 100)] == [1, 1, 1]


def test_beta_weighs_the_kl_of_every_layer_and_not_the_likelihood():
    ratios = [torch.randn(2, 5, 3, 4), torch.randn(2, 2, 3, 4)]
    trace = Trace(torch.randn(2, 3, 4), ratios, [])
    value = log_weight(trace, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(value[0], trace.log_likelihood[0])
    expected = trace.log_likelihood[1] + 0.5 * (ratios[0][1].sum(0) + ratios[1][1].sum(0))
    torch.testing.assert_close(value[1], expected)
    full = trace.log_likelihood + ratios[0].sum(1) + ratios[1].sum(1)
    torch.testing.assert_close(log_weight(trace), full)


def trace_of(members=2, samples=3, images=4, units=(5, 2)):
    generator = torch.Generator().manual_seed(0)
    ratios = [torch.randn(members, count, samples, images, generator=generator) for count in units]
    return Trace(torch.randn(members, samples, images, generator=generator), ratios, [])


def test_every_layer_has_its_own_weight_where_there_are_some():
    trace = trace_of()
    value = log_weight(trace, torch.tensor([[1.0, 1.0], [0.25, 4.0]]))
    torch.testing.assert_close(value[0], log_weight(trace, torch.ones(2))[0])
    expected = trace.log_likelihood[1] + 0.25 * trace.log_ratios[0][1].sum(0) + 4 * trace.log_ratios[1][1].sum(0)
    torch.testing.assert_close(value[1], expected)


@pytest.mark.parametrize("weight", [torch.tensor([1.0, 0.3]), torch.tensor([[1.0, 0.5], [0.3, 2.0]])])
@pytest.mark.parametrize("per", ["unit", "layer"])
def test_free_bits_put_a_floor_under_every_kl(per, weight):
    trace, nats = trace_of(), torch.tensor([0.2, 0.7])
    found = log_weight(trace, weight).mean((1, 2)) - missing_kl(trace, weight, nats, per)
    for m in range(2):
        expected = trace.log_likelihood[m].mean()
        for layer, ratio in enumerate(trace.log_ratios):
            kls = -ratio[m].mean((1, 2))
            kls = kls if per == "unit" else kls.sum(0, keepdim=True)
            own = weight[m] if weight.dim() == 1 else weight[m, layer]
            for kl in kls:
                expected = expected - own * max(nats[m], kl)
        torch.testing.assert_close(found[m], expected)


def test_kl_below_the_floor_has_no_gradient():
    ratio = torch.tensor([-0.1, -0.9]).view(1, 2, 1, 1).requires_grad_()
    trace = Trace(torch.zeros(1, 1, 1), [ratio], [])
    one = torch.ones(1)
    value = log_weight(trace, one).mean() - missing_kl(trace, one, torch.tensor([0.5]), "unit").sum()
    (gradient,) = torch.autograd.grad(value, ratio)
    assert gradient.flatten().tolist() == [0, 1]


def objectives(**fields):
    """The objective of a small member on a batch, its log weights, and the batch's bound."""
    spec = member(model__batch_norm=False, **{f"objective__{name}": value for name, value in fields.items()})
    model = compiler.initialized([spec], 64)
    x, weight = torch.rand(1, 8, 64).round(), torch.tensor([0.7])
    noise = Streams([0]).begin("test").noise(6, 8, model.units)
    samples = spec.objective.iw_samples
    _, value = compiler.objective([spec.objective])(model, x, noise, weight, samples)
    return value, log_weight(model(x, noise), weight)


def test_the_combined_bound_lies_between_the_elbo_and_the_importance_weighted_one():
    value, log_w = objectives(iw_samples=3, elbo_share=0.25)
    elbo, tight = log_w.mean(), bound(log_w, 3).mean()
    assert elbo < tight
    torch.testing.assert_close(value[0], 0.25 * elbo + 0.75 * tight)
    value, log_w = objectives(iw_samples=1, elbo_share=0.25)
    torch.testing.assert_close(value[0], log_w.mean())


def test_the_multiply_importance_weighted_bound_is_the_mean_of_those_of_its_groups():
    value, log_w = objectives(mc_samples=2, iw_samples=3)
    groups = [bound(log_w[:, start : start + 3], 3).mean() for start in (0, 3)]
    torch.testing.assert_close(value[0], torch.stack(groups).mean())


@given(st.integers(1, 5), st.integers(2, 40), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_every_cycle_is_a_warm_up_and_beta_stays_after_the_last(cycles, length, ramp):
    spec = ObjectiveSpec(warm_up=Cycles(cycles=cycles, ramp=ramp, over=cycles * length))
    betas = [beta(spec, epoch) for epoch in range(1, cycles * length + 3)]
    one = [warm_up(epoch, ramp * length) for epoch in range(1, length + 1)]
    assert betas == [*one * cycles, 1, 1]
    if ramp == 1:
        plain = ObjectiveSpec(warm_up=length)
        assert one == [beta(plain, epoch) for epoch in range(1, length + 1)]
    assert all(value == 1 for value in betas[spec.warm_epoch - 1 :])
    assert spec.warm_epoch == 1 or betas[spec.warm_epoch - 2] < 1


def test_a_final_weight_is_what_the_warm_up_rises_to():
    assert [beta(ObjectiveSpec(beta=4.0, warm_up=3), epoch) for epoch in (1, 2, 3, 9)] == [0, 2, 4, 4]
    layers = ObjectiveSpec(beta=(1.0, 0.5), warm_up=3)
    assert [beta(layers, epoch) for epoch in (1, 2, 3)] == [(0, 0), (0.5, 0.25), (1, 0.5)]
    assert beta(ObjectiveSpec(beta=(2.0, 2.0), warm_up=3), 2) == 1

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvae_spec.nn.hierarchy import Trace
from hvae_spec.nn.objective import log_weight
from hvae_spec.training.schedules import warm_up


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
    beta = torch.tensor([0.0, 0.5])
    value = log_weight(trace, beta)
    torch.testing.assert_close(value[0], trace.log_likelihood[0])
    expected = trace.log_likelihood[1] + 0.5 * (ratios[0][1].sum(0) + ratios[1][1].sum(0))
    torch.testing.assert_close(value[1], expected)
    full = trace.log_likelihood + ratios[0].sum(1) + ratios[1].sum(1)
    torch.testing.assert_close(log_weight(trace), full)

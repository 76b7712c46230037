"""Adam for a pack: each member's parameters are one row, and its gradients are gathered into another."""

import pytest
import torch

from hvae_spec.train.optimizer import PackOptimizer
from tests.members import member

SHAPES = [(3, 4), (4, 1), (2, 5)]


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(2, *shape, generator=generator)) for shape in SHAPES]


def gradients():
    """One of them in order, one spread out from a single number, one transposed in memory."""
    ordered, transposed = torch.randn(2, 3, 4), torch.randn(2, 5, 2).mT
    return [ordered, torch.tensor([0.3, -2.0]).view(2, 1, 1).expand(2, 4, 1), transposed]


@pytest.mark.parametrize("by_member", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_step_is_that_of_pytorchs_adam_member_by_member(by_member, clip):
    spec = member(training__clip_norm=clip)
    rate = spec.training.optimizer.adam.lr
    ours, given = parameters(), gradients()
    pack = PackOptimizer([spec.training] * 2, ours)
    if by_member:  # as on a GPU
        pack.by_member, pack.slots = True, [part for block in pack.slots for part in block]
    norms = pack.step(given, [False, False])
    for index in range(2):
        alone = [torch.nn.Parameter(parameter.detach()[index].clone()) for parameter in parameters()]
        for parameter, gradient in zip(alone, given, strict=True):
            parameter.grad = gradient[index].clone()
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in alone])
        torch.testing.assert_close(norms[index], norm)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(alone, clip)
        torch.optim.Adam(alone, lr=rate).step()
        for parameter, expected in zip(ours, alone, strict=True):
            torch.testing.assert_close(parameter[index], expected, rtol=1e-5, atol=1e-6)


def test_a_frozen_member_keeps_its_parameters():
    ours = parameters()
    pack = PackOptimizer([member().training] * 2, ours)
    pack.step(gradients(), [True, False])
    for parameter, before in zip(ours, parameters(), strict=True):
        assert torch.equal(parameter[0], before[0])
        assert not torch.equal(parameter[1], before[1])

"""The optimizer of a pack: each member's parameters are one row, and its gradients are gathered into another."""

import pytest
import torch

from hvae_spec.spec.choices import optimizer as descriptions
from hvae_spec.spec.choices.optimizer import Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.training.optimizer import OPTIMIZERS, PackOptimizer
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


class SGD(OptimizerSettings):
    """A second optimizer, for the time of a test."""

    momentum: float = 0.5


class SGDSection(OptimizerSection):
    sgd: SGD


def sgd(groups, settings):
    options = [
        {"params": rows, "lr": one.lr, "momentum": one.momentum} for rows, one in zip(groups, settings, strict=True)
    ]
    return torch.optim.SGD(options)


@pytest.fixture
def another(monkeypatch):
    described = Optimizer(SGDSection(sgd=SGD()), numbers_per_parameter=1)
    monkeypatch.setitem(descriptions.OPTIMIZERS._items, "sgd", described)
    monkeypatch.setitem(OPTIMIZERS._items, "sgd", sgd)


def trained(specs, steps, pack=None, first=0):
    """A pack after some steps of the same gradients, and its parameters."""
    generator = torch.Generator().manual_seed(1)
    ours = [torch.cat([parameter[:1]] * len(specs)).detach().requires_grad_() for parameter in parameters()]
    given = [[torch.randn(1, *shape, generator=generator) for shape in SHAPES] for _ in range(first + steps)]
    pack = PackOptimizer([spec.training for spec in specs], ours) if pack is None else pack
    for gradient in given[first:]:
        pack.step([torch.cat([part] * len(specs)) for part in gradient], [False] * len(specs))
    return pack


@pytest.mark.usefixtures("another")
def test_members_of_different_optimizers_train_together_as_they_do_alone():
    chosen = [{"adam": {"lr": 0.1}}, {"sgd": {"lr": 0.1}}, {"adam": {"lr": 0.1}}, {"sgd": {"lr": 0.2, "momentum": 0.9}}]
    specs = [member(training__optimizer=one) for one in chosen]
    together = trained(specs, 3)
    assert together.learning_rates == [0.1, 0.1, 0.2]
    for m, spec in enumerate(specs):
        assert torch.equal(together.rows[m], trained([spec], 3).rows[0])


@pytest.mark.usefixtures("another")
def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened():
    specs = [member(training__optimizer=one) for one in ({"sgd": {}}, {"adam": {}}, {"sgd": {"momentum": 0.9}})]
    whole, half = trained(specs, 4), trained(specs, 2)
    state = {name: value.clone() for name, value in half.state().items()}
    assert {name for name in state if name.startswith("optimizer/0/")} == {"optimizer/0/momentum_buffer"}
    assert {"optimizer/1/step", "optimizer/1/exp_avg", "optimizer/1/exp_avg_sq"} <= set(state)
    again = trained(specs, 0)
    again.restore(state)
    trained(specs, 2, again, first=2)
    assert torch.equal(again.rows, whole.rows)


@pytest.mark.parametrize("name", descriptions.OPTIMIZERS)
def test_an_optimizer_keeps_as_many_numbers_as_its_description_says(name):
    pack = trained([member(training__optimizer={name: {}})], 1)
    numbers = [value.numel() for key, value in pack.state().items() if key != "rows"]
    # A counter of steps beside them is none of a parameter's.
    assert (
        sum(size for size in numbers if size > 1)
        == descriptions.OPTIMIZERS[name].numbers_per_parameter * pack.rows.numel()
    )

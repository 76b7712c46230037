"""The optimizer of a pack: each member's parameters are one row, and its gradients are gathered into another."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hvae_spec import compiler
from hvae_spec.nn.batch_norm import BatchNorm
from hvae_spec.nn.linear import Linear, are_matrices
from hvae_spec.spec.choices import optimizer as descriptions
from hvae_spec.training.adam import FusedAdam
from hvae_spec.training.optimizer import PackOptimizer, optimizer_of, state_of, state_with
from tests.members import member

SHAPES = [(3, 4), (4, 1), (2, 5)]
MATRICES = [True, False, True]


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


PLAIN = {
    "adam": ({"beta1": 0.8, "eps": 1e-4}, lambda groups: torch.optim.Adam(groups, betas=(0.8, 0.999), eps=1e-4)),
    "adamw": (
        {"beta2": 0.9, "weight_decay": 0.3},
        lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.9), weight_decay=0.3),
    ),
    "sgd": ({"weight_decay": 0.3}, lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.3)),
    "nesterov": (
        {"momentum": 0.7, "nesterov": True},
        lambda groups: torch.optim.SGD(groups, momentum=0.7, nesterov=True),
    ),
    "no momentum": ({"momentum": 0.0, "weight_decay": 0.3}, lambda groups: torch.optim.SGD(groups, weight_decay=0.3)),
}
"""Settings by a name, and PyTorch's optimizer of groups of parameters, of which all but matrices do not decay."""


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", PLAIN)
def test_steps_are_those_of_pytorchs_optimizer_with_a_group_that_does_not_decay(name, clip):
    settings, plain = PLAIN[name]
    chosen = {name if name in descriptions.OPTIMIZERS else "sgd": {"lr": 0.1, **settings}}
    over = {"linear": {"over": 4, "to": 0.25}}
    spec = member(training__optimizer=chosen, training__schedule=over, training__clip_norm=clip)
    ours, given = parameters(), [gradients() for _ in range(4)]
    pack = PackOptimizer([spec.training] * 2, ours, MATRICES)
    for epoch, gradient in enumerate(given, start=1):
        pack.begin_epoch(epoch)
        pack.step(gradient, [False, False])
    for m in range(2):
        alone = [torch.nn.Parameter(parameter.detach()[m].clone()) for parameter in parameters()]
        first, bias, last = alone
        optimizer = plain([{"params": [first, last]}, {"params": [bias], "weight_decay": 0.0}])
        for epoch, gradient in enumerate(given):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (1 - 0.75 * epoch / 4)
            for parameter, own in zip(alone, gradient, strict=True):
                parameter.grad = own[m].clone()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(alone, clip)
            optimizer.step()
        for parameter, expected in zip(ours, alone, strict=True):
            torch.testing.assert_close(parameter[m], expected, rtol=1e-5, atol=1e-6)


def test_only_matrices_of_linear_maps_decay():
    spec = member(training__optimizer={"adamw": {"lr": 0.5, "weight_decay": 0.5}})
    model = compiler.initialized([spec], 64)
    modules = dict(model.named_modules())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)  # biases start at 0
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    pack = PackOptimizer([spec.training], list(model.parameters()), are_matrices(model))
    pack.step([torch.zeros_like(parameter) for parameter in model.parameters()], [False])
    kinds = set()
    for name, value in model.named_parameters():
        module, _, own = name.rpartition(".")
        kind = (type(modules[module]), own)
        factor = 0.75 if kind == (Linear, "weight") else 1.0
        assert torch.equal(value, factor * before[name]), name
        kinds.add(kind)
    assert kinds == {(kind, own) for kind in (Linear, BatchNorm) for own in ("weight", "bias")}


def test_without_decay_adamw_is_adam_bit_for_bit():
    chosen = {"adamw": {"weight_decay": 0.0}}
    assert torch.equal(trained([member(training__optimizer=chosen)], 3).rows, trained([member()], 3).rows)


def test_a_frozen_member_keeps_its_parameters_and_their_average():
    ours = parameters()
    pack = PackOptimizer([member(training__ema=0.5, training__optimizer={"adamw": {}}).training] * 2, ours)
    pack.step(gradients(), [False, False])
    rows, averages = pack.rows.clone(), pack.averages.clone()
    pack.rows[0, 0] = rows[0, 0] = torch.nan  # as of one that has diverged
    pack.step(gradients(), [True, False])
    for now, before in ((pack.rows, rows), (pack.averages, averages)):
        assert torch.equal(now[0].nan_to_num(), before[0].nan_to_num())
        assert not torch.equal(now[1], before[1])
        assert now[1].isfinite().all()


def test_an_average_is_that_of_the_closed_form_and_pytorchs_and_each_members_own():
    specs = [member(training__ema=ema, training__optimizer={"sgd": {"lr": 0.5}}) for ema in (0.9, 0.5)]
    ours, start = parameters(), parameters()
    pack = PackOptimizer([spec.training for spec in specs], ours)
    assert torch.equal(pack.averages, pack.rows)
    plain = torch.nn.ParameterList([parameter.detach()[0] for parameter in start])
    average = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(plain)  # the first one copies
    seen = [pack.rows.double().clone()]
    for _ in range(5):
        pack.step(gradients(), [False, False])
        seen.append(pack.rows.double().clone())
        for parameter, own in zip(plain, ours, strict=True):
            parameter.data.copy_(own[0])
        average.update_parameters(plain)
    for m, ema in enumerate((0.9, 0.5)):
        expected = ema**5 * seen[0][m] + (1 - ema) * sum(ema ** (5 - step) * seen[step][m] for step in range(1, 6))
        torch.testing.assert_close(pack.averages[m].double(), expected, rtol=1e-6, atol=1e-6)
        assert pack.weights(m).data_ptr() == pack.averages[m].data_ptr()
    theirs = torch.cat([parameter.flatten() for parameter in average.module])
    torch.testing.assert_close(pack.averages[0], theirs, rtol=0, atol=1e-6)
    # Training knows nothing of it.
    without = [member(training__optimizer={"sgd": {"lr": 0.5}})]
    assert torch.equal(trained(without, 3).rows, trained(specs[:1], 3).rows)
    assert PackOptimizer([without[0].training], parameters()).averages is None


def test_a_frozen_member_keeps_its_parameters():
    ours = parameters()
    pack = PackOptimizer([member().training] * 2, ours)
    pack.step(gradients(), [True, False])
    for parameter, before in zip(ours, parameters(), strict=True):
        assert torch.equal(parameter[0], before[0])
        assert not torch.equal(parameter[1], before[1])


def trained(specs, steps, pack=None, first=0):
    """A pack after some steps of the same gradients, and its parameters."""
    generator = torch.Generator().manual_seed(1)
    ours = [torch.cat([parameter[:1]] * len(specs)).detach().requires_grad_() for parameter in parameters()]
    given = [[torch.randn(1, *shape, generator=generator) for shape in SHAPES] for _ in range(first + steps)]
    pack = PackOptimizer([spec.training for spec in specs], ours) if pack is None else pack
    for gradient in given[first:]:
        pack.step([torch.cat([part] * len(specs)) for part in gradient], [False] * len(specs))
    return pack


def test_members_of_different_optimizers_train_together_as_they_do_alone():
    chosen = [{"adam": {"lr": 0.1}}, {"sgd": {"lr": 0.1}}, {"adam": {"lr": 0.1}}, {"sgd": {"lr": 0.2, "momentum": 0.9}}]
    specs = [member(training__optimizer=one) for one in chosen]
    together = trained(specs, 3)
    assert together.learning_rates == [0.1, 0.1, 0.2]
    for m, spec in enumerate(specs):
        assert torch.equal(together.rows[m], trained([spec], 3).rows[0])


def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened():
    chosen = [{"sgd": {}}, {"adam": {}}, {"sgd": {"momentum": 0.5}}, {"adamw": {"weight_decay": 0.5}}]
    specs = [member(training__optimizer=one, training__ema=0.5) for one in chosen]
    whole, half = trained(specs, 4), trained(specs, 2)
    state = {name: value.clone() for name, value in half.state().items()}
    assert {name for name in state if name.startswith("optimizer/0/")} == {"optimizer/0/momentum_buffer"}
    assert {"optimizer/1/step", "optimizer/1/exp_avg", "optimizer/1/exp_avg_sq"} <= set(state)
    again = trained(specs, 0)
    again.restore(state)
    trained(specs, 2, again, first=2)
    assert torch.equal(again.rows, whole.rows)
    assert torch.equal(again.averages, whole.averages)


def test_the_state_of_a_pack_comes_back_from_those_of_its_members():
    specs = [member(training__optimizer=one, training__ema=0.5) for one in ({"sgd": {}}, {"adam": {}})]
    pack = trained(specs, 2)
    weights = torch.stack([pack.weights(m) for m in range(2)])
    parts = [optimizer_of(pack.state(), m) for m in range(2)]
    assert torch.equal(parts[0]["raw"], pack.rows[0])
    again = state_with(weights, parts)
    assert again.keys() == pack.state().keys()
    assert all(torch.equal(value, again[name]) for name, value in pack.state().items())
    one = state_of(pack.state(), [1])
    assert torch.equal(one["averages"], pack.averages[1:])
    assert {name for name in one if "/" in name} == {f"optimizer/0/{key}" for key in ("step", "exp_avg", "exp_avg_sq")}


@pytest.mark.parametrize("name", descriptions.OPTIMIZERS)
def test_an_optimizer_keeps_as_many_numbers_as_its_description_says(name):
    pack = trained([member(training__optimizer={name: {}})], 1)
    numbers = [value.numel() for key, value in pack.state().items() if key != "rows"]
    # A counter of steps beside them is none of a parameter's.
    assert (
        sum(size for size in numbers if size > 1)
        == descriptions.OPTIMIZERS[name].numbers_per_parameter * pack.rows.numel()
    )


def test_fused_adam_is_that_of_pytorch_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(1000, generator=generator) for _ in range(3)]
    others = [row.clone() for row in rows]
    rates = torch.tensor(3e-3, dtype=torch.float64), torch.tensor(1e-3, dtype=torch.float64)

    def groups(tensors):
        first = {"params": tensors[:2], "lr": rates[0], "betas": (0.8, 0.99), "eps": 1e-6}
        return [first, {"params": tensors[2:], "lr": rates[1], "betas": (0.9, 0.999), "eps": 1e-8}]

    ours, theirs = FusedAdam(groups(rows)), torch.optim.Adam(groups(others), fused=True)
    for step in range(6):
        if step == 3:
            again = FusedAdam(groups(rows))
            again.load_state_dict(ours.state_dict())
            ours = again
        for place, (row, other) in enumerate(zip(rows, others, strict=True)):
            # The second is frozen from the third step on, and the third one until then.
            is_frozen = (place == 1 and step > 1) or (place == 2 and step < 2)
            row.grad = other.grad = None if is_frozen else torch.randn(1000, generator=generator)
        ours.step()
        theirs.step()
        assert all(map(torch.equal, rows, others))
    for row, other in zip(rows, others, strict=True):
        assert ours.state[row].keys() == theirs.state[other].keys()
        assert all(torch.equal(ours.state[row][name], value) for name, value in theirs.state[other].items())

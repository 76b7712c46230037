"""Schedules of the learning rate: pure functions of the epoch."""

import pytest
import torch
from torch.optim import lr_scheduler

from hvae_spec.training.schedules import learning_rate
from tests.members import member

RATE, OVER, TO = 0.02, 12, 0.25
FALLS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, OVER, eta_min=TO * RATE),
    "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, TO, OVER),
}
"""PyTorch's schedulers, which go from step to step."""


def training(schedule, **overrides):
    return member(training__optimizer={"sgd": {"lr": RATE}}, training__schedule=schedule, **overrides).training


def rates(schedule, epochs):
    return [learning_rate(training(schedule), epoch) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("name", FALLS)
def test_a_fall_is_pytorchs_and_then_stays(name):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    scheduler, expected = FALLS[name](optimizer), []
    for _ in range(OVER + 1):
        expected += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    found = rates({name: {"over": OVER, "to": TO}}, OVER + 20)
    assert found[: OVER + 1] == pytest.approx(expected, rel=1e-12)
    assert found[0] == RATE
    assert found[OVER:] == [pytest.approx(TO * RATE)] * 20
    assert found[OVER - 1] > found[OVER]


@pytest.mark.parametrize("name", FALLS)
def test_a_ramp_goes_from_its_first_part_to_the_whole_rate_and_the_fall_takes_what_is_left(name):
    ramped = rates({name: {"over": OVER + 4, "to": TO, "ramp": 4}}, OVER + 6)
    assert ramped[:4] == pytest.approx([RATE / 4, RATE / 2, 3 * RATE / 4, RATE])
    assert ramped[4:] == pytest.approx(rates({name: {"over": OVER, "to": TO}}, OVER + 2))


def test_steps_are_lr_decay_with_a_ramp():
    decay = {"factor": 0.5, "every": 3}
    short = training(None, training__lr_decay=decay)
    plain = [learning_rate(short, epoch) for epoch in range(1, 11)]
    assert rates({"step": decay}, 10) == plain
    ramp = [0.2, 0.4, 0.6, 0.8] + [1.0] * 6
    assert rates({"step": {**decay, "ramp": 5}}, 10) == pytest.approx(
        [part * rate for part, rate in zip(ramp, plain, strict=True)]
    )

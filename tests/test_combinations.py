"""Every two choices of the language go together in training, in packs and when resumed, or are refused in one line."""

import random
from itertools import combinations

import pytest
import torch

from hvae_spec.data.dataset import load_dataset
from hvae_spec.training.checkpoint import load_checkpoint, save_checkpoint
from hvae_spec.training.trainer import Trainer
from tests.combinations import OPTIONS, member, pairs, refusal


def test_two_options_that_do_not_go_together_are_refused_in_one_line():
    refused = {(one[:2], other[:2]): message for one, other in pairs() if (message := refusal(one, other))}
    assert (("beta", "per layer"), ("estimator", "dreg")) in refused
    assert (("free_bits", "per layer"), ("estimator", "dreg")) not in refused
    assert (("estimator", "stl"), ("samples", "K = 3")) in refused
    assert (("prior", "mixture"), ("free_bits", "per unit")) in refused
    assert (("prior", "mixture"), ("free_bits", "per layer")) not in refused
    with_a = {other for one, other in [*refused, *((other, one) for one, other in refused)] if one[0] == "auxiliary"}
    assert with_a == {
        ("prior", "vamp, ladder"),
        ("inference", "ladder, 2 steps"),
        ("beta", "per layer"),
        ("estimator", "stl"),
        ("estimator", "dreg"),
        ("classes", "20 labels"),
        ("classes", "q(y|x) alone"),
    }
    for message in refused.values():
        assert "\n" not in message


def covering():
    """Sets of options, at most one per choice, in which every two that go together stand beside each other once."""
    generator = random.Random(0)
    allowed = {(OPTIONS.index(one), OPTIONS.index(other)) for one, other in pairs() if refusal(one, other) is None}
    left = set(allowed)
    while left:
        chosen = list(min(left))
        candidates = list(range(len(OPTIONS)))
        generator.shuffle(candidates)
        candidates.sort(key=lambda place: -sum(tuple(sorted((place, other))) in left for other in chosen))
        for place in candidates:
            if all(tuple(sorted((place, other))) in allowed for other in chosen):
                chosen.append(place)
        left -= {tuple(sorted(pair)) for pair in combinations(chosen, 2)}
        yield tuple(OPTIONS[place] for place in sorted(chosen))


def trained(specs, epochs):
    trainer = Trainer(specs, load_dataset(specs[0].data))
    rows = [trainer.train_epoch() for _ in range(epochs)]
    return trainer, rows


def state(trainer):
    return {name: value.clone() for name, value in trainer.optimizer.state().items()}


def test_options_that_go_together_train_in_a_pack_and_resume_bit_for_bit(tmp_path):
    for options in covering():
        named = ", ".join(f"{option.choice} {option.name}" for option in options)
        one = member(*options)
        specs = [one, one.model_copy(update={"seed": 1})]
        whole, rows = trained(specs, 2)
        assert all(row is not None for epoch in rows for row in epoch), named
        assert whole.divergences == [None, None], named
        begun, _ = trained(specs, 1)
        save_checkpoint(tmp_path / "checkpoint", begun, ["a", "b"], {}, [])
        resumed = Trainer(specs, load_dataset(one.data))
        load_checkpoint(tmp_path / "checkpoint", resumed, ["a", "b"])
        resumed.train_epoch()
        expected, found = state(whole), state(resumed)
        assert expected.keys() == found.keys(), named
        assert all(torch.equal(value, found[name]) for name, value in expected.items()), named
        _, single = trained([specs[1]], 2)
        for name in ("train_bound", "train_bound_beta_1", "gradient_norm"):
            found, expected = single[-1][0][name], rows[-1][1][name]
            if expected is None:  # of q(y|x) alone there is no bound
                assert found is None, named
            else:
                assert found == pytest.approx(expected, rel=2e-2, abs=2e-2), named

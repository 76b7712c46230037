import math

import numpy as np
import pytest
from pydantic import ValidationError

from hvae_spec.spec.search import Halving, SearchSpec

SPACE = {
    "training.optimizer.adam.lr": {"loguniform": [1e-4, 1e-2]},
    "objective.warm_up": {"integers": [0, 50]},
    "model.inference": {"choice": ["vae", "ladder"]},
    "training.clip_norm": {"uniform": [1.0, 5.0]},
}


def search(trials=40, seed=0, space=SPACE, **fields):
    return SearchSpec.model_validate({"space": space, "trials": trials, "seed": seed, **fields})


def test_points_are_a_function_of_seed_and_space_and_more_trials_begin_with_the_same():
    points = search(40).points()
    assert points == search(40).points()
    assert points == search(100).points()[:40]
    assert points != search(40, seed=1).points()
    assert len({str(point) for point in points}) == 40


def test_points_lie_in_the_space_and_have_four_digits():
    for point in search(64).points():
        lr, warm_up, inference, norm = point.values()
        assert 1e-4 <= lr <= 1e-2
        assert 1.0 <= norm <= 5.0
        assert lr == float(f"{lr:.4g}")
        assert warm_up in range(51)
        assert isinstance(warm_up, int)
        assert inference in ("vae", "ladder")


def test_a_sobol_sequence_fills_the_space_evenly():
    """Of 2^m points, every interval of length 2^-m holds one in every coordinate: so do the logarithms of the rates."""
    rates = [point["training.optimizer.adam.lr"] for point in search(64).points()]
    u = np.array([math.log(rate / 1e-4) / math.log(100) for rate in rates])
    # Rounding to four digits moves a point by less than a hundredth of an interval.
    counts, _ = np.histogram(u, bins=16, range=(0, 1))
    assert counts.tolist() == [4] * 16


def test_a_space_with_few_points_gives_each_once():
    space = {"model.inference": {"choice": ["vae", "ladder"]}, "objective.warm_up": {"integers": [1, 3]}}
    points = search(40, space=space).points()
    assert len(points) == 6


def test_rungs_end_with_all_epochs():
    halving = Halving.model_validate({"factor": 3, "from": 50})
    assert halving.rungs(450) == [50, 150, 450]
    assert halving.rungs(40) == [40]


@pytest.mark.parametrize(
    "distribution",
    [
        {},
        {"uniform": [0, 1], "choice": [1]},
        {"uniform": [1, 0]},
        {"loguniform": [0, 1]},
        {"choice": []},
        {"normal": 1},
    ],
)
def test_a_distribution_is_one_of_them(distribution):
    with pytest.raises(ValidationError):
        search(space={"training.clip_norm": distribution})

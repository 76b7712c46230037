"""The annealing path of `hvae_spec.evaluate.ais` from the prior to the posterior, and what a run along it takes. No
torch here, so that plans know the cost.
"""

import math

LEAPFROG_STEPS = 10
"""Leapfrog steps of a transition."""
PRELIMINARY_STEPS, PRELIMINARY_CHAINS = 400, 4
"""Steps along the path, and chains per image, of the preliminary run that finds the step sizes."""
STEEPNESS = 4.0
"""delta of the sigmoidal schedule (Wu et al., 2017)."""


def temperatures(steps: int) -> list[float]:
    """The inverse temperatures t_0 = 0 < t_1 < ... < t_T = 1 along a sigmoid, so that they are close together where
    the path leaves the prior and where it comes to the posterior.

        t_k = (s(2k/T - 1) - s(-1)) / (s(1) - s(-1)),  s(u) = 1 / (1 + exp(-delta u))

    Args:
        steps: T.

    """
    low, high = _sigmoid(-1.0), _sigmoid(1.0)
    return [(_sigmoid(2 * k / steps - 1) - low) / (high - low) for k in range(steps + 1)]


def preliminary_step(k: int, steps: int) -> int:
    """The step of the preliminary run that is as far along the path as step k of T = `steps`."""
    return min(max(1, round(k * PRELIMINARY_STEPS / steps)), PRELIMINARY_STEPS - 1)


def gradients(chains: int, steps: int) -> int:
    """Gradients of log p(x|z_1) per test image: the preliminary runs for it and for a simulated image, then the run up
    for it, and those up and down for the simulated one. Every chain takes one more where it starts.
    """
    preliminary = PRELIMINARY_CHAINS * (1 + LEAPFROG_STEPS * (PRELIMINARY_STEPS - 1))
    run = chains * (1 + LEAPFROG_STEPS * (steps - 1))
    return 2 * preliminary + 3 * run


def _sigmoid(u: float) -> float:
    return 1 / (1 + math.exp(-STEEPNESS * u))

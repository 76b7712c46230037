"""The observation models with all of their settings, and values that their x can have."""

import torch

from hvae_spec.spec.choices.observation import OBSERVATIONS, X, name_of

FORMS = [*OBSERVATIONS, {"gaussian": {"variance": "learned"}}, {"gaussian": {"variance": 0.3}}]
LEVELS = 17
"""Gray levels of scikit-learn's digits."""


def x_like(observation, uniform):
    """Observations that a model can have, made of uniform noise on [0, 1)."""
    x = OBSERVATIONS[name_of(observation)].x
    if x is X.BINARY:
        return (uniform < 0.3).float()
    return (uniform * LEVELS).floor() / (LEVELS - 1) if x is X.GRAY else uniform


def values_and_volume(observation, step):
    """All values that a pixel can have, the continuous ones at the middles of intervals, and what a density is to be
    multiplied by.
    """
    x = OBSERVATIONS[name_of(observation)].x
    if x is X.BINARY:
        return torch.tensor([0.0, 1.0]).double(), 1.0
    if x is X.GRAY:
        return torch.arange(LEVELS).double() / (LEVELS - 1), 1.0
    ends = (0.0, 1.0) if x is X.UNIT else (-40.0, 40.0)
    return torch.arange(ends[0] + step / 2, ends[1], step, dtype=torch.float64), step

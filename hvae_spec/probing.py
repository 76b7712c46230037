"""The numbers of a linear probe, which the computation of it (`evaluate.probe`) and plans, which know no torch, have in
common.
"""

SAMPLES = 10
"""Samples over which the posterior mean of a layer is averaged."""
GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the regularization, scikit-learn's C, of which one is chosen."""
FOLDS = 5
"""Of the cross-validation that chooses it."""
CHOSEN_ON = 10_000
"""Labels that it is chosen on, at most."""
ITERATIONS = 200
"""Iterations of a fit, at most. Most need some 20."""
TYPICAL_ITERATIONS = 20


def fitted_images(labels: int) -> int:
    """Images that all fits of one layer's probe go through once, for so many labels."""
    chosen_on = min(labels, CHOSEN_ON)
    return len(GRID) * (FOLDS - 1) * chosen_on + labels

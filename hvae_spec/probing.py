"""The numbers of a linear probe, which the computation of it (`evaluate.probe`) and plans, which know no torch, have in
common.
"""

SAMPLES = 10
"""Samples over which the posterior mean of a layer is averaged."""
DRAWS = 100
"""Draws of z_i, for each of these samples, that estimate its posterior mean where a flow leaves it without a closed
form: 1,000 in all, whose error is a thirtieth of a standard deviation of z_i."""
PER_UNIT = 500
"""What a unit of such a draw takes beside the products of its flow, in multiply-adds of a network: measured on planar
and inverse autoregressive flows of 64 units, where it was 6 to 27 nanoseconds."""
GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the regularization, scikit-learn's C, of which one is chosen."""
FOLDS = 5
"""Of the cross-validation that chooses it."""
CHOSEN_ON = 10_000
"""Labels that it is chosen on, at most."""
ITERATIONS = 200
"""Iterations of a fit, at most."""
TYPICAL_ITERATIONS = 80
"""On average over `GRID`, measured on latents of MNIST."""
PER_CLASS = 600
"""What an iteration takes for an image and a class beside its products, in multiply-adds of a network: measured on the
same latents, where 64 units and 10 classes took 0.35 microseconds an image, and 16 units 0.2."""


def fit_macs(labels: int, units: int, classes: int) -> float:
    """What the probe of a layer of so many units takes, fits of the cross-validation among them, in multiply-adds of a
    network that takes as long.
    """
    images = len(GRID) * (FOLDS - 1) * min(labels, CHOSEN_ON) + labels
    # Products forward and back, in float64.
    return float(images) * TYPICAL_ITERATIONS * classes * (4 * units + PER_CLASS)

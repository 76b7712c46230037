"""How much the bound depends on the one draw of the test set's zeros and ones that it is taken on."""

from torch import Tensor

from hvae_spec.evaluate.evaluation import standard_error


def redraw_variance(bounds: Tensor) -> tuple[float, float]:
    """The variance of an image's bound over draws of its zeros and ones, on average over images.

        v = (1/I) sum_i 1/(D - 1) sum_d (L_id - mean_d L_id)^2

    It is unbiased. Given the model, images are drawn independently, so that the mean bound over N test images has the
    standard error sqrt(v / N) for the draw of the test set. Every draw of an image meets the same noise of the
    evaluation, so that the Monte Carlo error of the bound, which cancels in part, makes v larger and never smaller.

    Args:
        bounds: the bound of every image under every draw, in nats, [D, I] with D of 2 or more.

    Returns:
        v, in nats^2, and its standard error over images; not a number for a single image.

    """
    variances = bounds.double().var(0)
    return float(variances.mean()), standard_error(variances)

"""The estimators of the gradient of the training bound: which parts of it reach the parameters of q(z|x)."""

from dataclasses import dataclass

from hvae_spec.registry import Registry


@dataclass(frozen=True)
class Estimator:
    """One estimator. The bound that it estimates the gradient of is the same for all."""

    equation: str
    """The gradient by the parameters φ of q, of one Monte Carlo sample: `Σ_k ... dlog w_k/dz_k dz_k/dφ`."""
    is_path: bool = True
    """Whether q's parameters get the gradient that comes along the samples alone, for which log q is computed a second
    time, with constant weights."""
    for_importance_weights: bool = True
    """Whether it is unbiased for a bound of several importance samples."""
    for_layer_weights: bool = True
    """Whether it allows for a weight β_i per layer."""
    for_batch_norm: bool = True
    """Whether its bias with batch normalization is small beside the gradient."""


ESTIMATORS: Registry[Estimator] = Registry("estimator of the gradient")
ESTIMATORS.add("reparameterized", Estimator("Σ_k w̃_k [dlog w_k/dφ + dlog w_k/dz_k dz_k/dφ]", is_path=False))
ESTIMATORS.add("stl", Estimator("dlog w/dz dz/dφ", for_importance_weights=False))
ESTIMATORS.add(
    "dreg", Estimator("Σ_k [(1 - β) w̃_k + β w̃_k²] dlog w_k/dz_k dz_k/dφ", for_layer_weights=False, for_batch_norm=False)
)

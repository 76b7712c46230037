"""The factorization of p and q and the equations of an architecture, as text: for summaries that load no torch.

Subscripts are written `z_1` or `z_{i+1}`.
"""

from hvae_spec.spec.choices.observation import X, described
from hvae_spec.spec.choices.term import TERMS
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import ObjectiveSpec


def generative(model: ModelSpec) -> str:
    """`p(x|z_1) p(z_1|z_2) p(z_2)`."""
    above = (f"p(z_{layer}|z_{layer + 1})" for layer in range(1, model.depth))
    return " ".join(["p(x|z_1)", *above, f"p(z_{model.depth})"])


def inference(model: ModelSpec) -> str:
    """`q(z_1|x) q(z_2|z_1)`, in the order of sampling; the ladder's `q(z_2|x) q(z_1|z_2, x)`."""
    return model.inference_model.factors(model.depth)


def equations(model: ModelSpec) -> tuple[str, ...]:
    """How every factor follows from what it depends on, one equation per entry (paper, Sec. 2)."""
    floor = f" + {model.variance_floor:g}" if model.variance_floor else ""
    observation = described(model.observation)
    clipped = f", its means clipped to [{model.mean_clip:g}, 1 - {model.mean_clip:g}]"
    clipped = clipped if model.mean_clip and observation.x is X.BINARY else ""
    conditionals = ("p(z_i|z_{i+1}) = N(μ_i(z_{i+1}), σ²_i(z_{i+1}))",) if model.depth > 1 else ()
    return (
        f"d(y) = MLP(y),  μ(y) = Linear(d(y)),  σ²(y) = softplus(Linear(d(y))){floor}",
        f"p(z_{model.depth}) = N(0, I)",
        *conditionals,
        observation.equation + clipped,
        *model.inference_model.equations(model.depth, shared=model.shares_top_down, softplus=floor),
    )


def objective(spec: ObjectiveSpec) -> tuple[str, ...]:
    """The log weight of a sample and the bound that is maximized (Eqs. 10-12 and 22)."""
    return (
        "log w = " + " + ".join(TERMS[name].equation for name in spec.terms),
        "(1/M) Σ_m log (1/K) Σ_k w_{m,k}",
    )

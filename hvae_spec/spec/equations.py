"""The factorization of p and q and the equations of an architecture, as text: for summaries that load no torch.

Subscripts are written `z_1` or `z_{i+1}`.
"""

from hvae_spec.spec.choice import ChoiceSection
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.observation import X, described
from hvae_spec.spec.choices.term import ADDED_TERMS, TERMS
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import ObjectiveSpec


def generative(model: ModelSpec) -> str:
    """`p(x|z_1) p(z_1|z_2) p(z_2)`."""
    above = (f"p(z_{layer}|z_{layer + 1})" for layer in range(1, model.depth))
    return " ".join(["p(x|z_1)", *above, f"p(z_{model.depth})"])


def inference(model: ModelSpec) -> str:
    """`q(z_1|x) q(z_2|z_1)`, in the order of sampling; the ladder's `q(z_2|x) q(z_1|z_2, x)`."""
    return model.inference_model.factors(model.depth)


def prior(model: ModelSpec) -> str:
    """`p(z_2) = N(0, I)`; empty of a prior whose code has not run."""
    equation = model.prior_model.equation(model.prior_settings).replace("z_L", f"z_{model.depth}")
    return f"p(z_{model.depth}) = {equation}" if equation else ""


def equations(model: ModelSpec) -> tuple[str, ...]:
    """How every factor follows from what it depends on, one equation per entry (paper, Sec. 2)."""
    floor = f" + {model.variance_floor:g}" if model.variance_floor else ""
    observation = described(model.observation)
    clipped = f", its means clipped to [{model.mean_clip:g}, 1 - {model.mean_clip:g}]"
    clipped = clipped if model.mean_clip and observation.x is X.BINARY else ""
    conditionals = ("p(z_i|z_{i+1}) = N(μ_i(z_{i+1}), σ²_i(z_{i+1}))",) if model.depth > 1 else ()
    return (
        f"d(y) = MLP(y),  μ(y) = Linear(d(y)),  σ²(y) = softplus(Linear(d(y))){floor}",
        *_normalization(model, floor),
        *filter(None, [prior(model)]),
        *conditionals,
        observation.equation + clipped,
        *model.inference_model.equations(model.depth, shared=model.shares_top_down, softplus=floor),
    )


def _normalization(model: ModelSpec, floor: str) -> tuple[str, ...]:
    """What is normalized and how; nothing where nothing is."""
    normalization = model.normalization
    if not normalization.hidden:
        return ()
    heads = (
        f";  heads of the latents: μ = N(Linear(d)),  σ² = softplus(N(Linear(d))){floor}" if normalization.heads else ""
    )
    return (
        f"{normalization.norm.equation},  ε = {model.batch_norm_eps:g}",
        f"MLP: each hidden layer is f(N(W h)){heads}",
    )


def objective(spec: ObjectiveSpec) -> tuple[str, ...]:
    """The log weight of a sample and what is maximized (Eqs. 10-12 and 22); the estimator of its gradient by q's
    parameters, where that is not the whole of it.
    """
    terms = " + ".join(TERMS[name].equation for name in spec.terms)
    if isinstance(spec.layer_weights, tuple):
        terms = terms.replace("β Σ_i [", "Σ_i β_i [")
    if spec.term is not None:
        added = ADDED_TERMS[spec.term.choice if isinstance(spec.term, ChoiceSection) else spec.term].equation
        terms += f" {added}" if added.startswith(("+", "-", "−")) else f" + {added}"
    bound, lines = "(1/M) Σ_m log (1/K) Σ_k w_{m,k}", []
    if spec.iw_samples > 1 and spec.elbo_share:
        bound = f"{spec.elbo_share:g} (1/(M K)) Σ_{{m,k}} log w_{{m,k}} + {1 - spec.elbo_share:g} {bound}"
    if spec.free_bits is not None:
        each = "unit j of every layer" if spec.free_bits.per == "unit" else "layer j"
        bound += f" - β Σ_j max(0, {spec.free_bits.nats:g} - KL_j), KL_j of {each}, its mean over the batch"
    if ESTIMATORS[spec.estimator].is_path:
        lines = [f"gradient by φ of q: {ESTIMATORS[spec.estimator].equation}"]
    return (f"log w = {terms}", bound, *lines)

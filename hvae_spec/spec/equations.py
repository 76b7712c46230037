"""The factorization of p and q and the equations of an architecture, as text: for summaries that load no torch.

Subscripts are written `z_1` or `z_{i+1}`.
"""

import re

from hvae_spec.spec import auxiliary
from hvae_spec.spec.choice import ChoiceSection, name_and_settings, words
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.flow import FLOWS
from hvae_spec.spec.choices.mapping import MAPPINGS
from hvae_spec.spec.choices.observation import X, described
from hvae_spec.spec.choices.term import ADDED_TERMS, TERMS
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import ObjectiveSpec
from hvae_spec.spec.skip import ORDER, joined


def generative(model: ModelSpec) -> str:
    """`p(x|z_1) p(z_1|z_2) p(z_2)`; with classes `p(x|z_1) p(z_1|z_2, y) p(z_2) p(y)`."""
    depth, of_classes = model.depth, ["p(y)"] * (model.classes is not None)

    def given(lowest: int) -> str:
        return joined(lowest, depth, lowest, skip=model.generative_skips) + _and_y(model, lowest)

    above = (f"p(z_{layer}|{given(layer + 1)})" for layer in range(1, depth))
    return " ".join([f"p(x|{given(1)})", *above, f"p(z_{depth})", *of_classes])


def _and_y(model: ModelSpec, lowest: int) -> str:
    """`, y` after the latents that a factor of p takes, the lowest of which is this, where z_L is among them."""
    takes_top = model.generative_skips or lowest == model.depth
    return ", y" if model.classes is not None and takes_top else ""


def image(model: ModelSpec) -> str:
    """The mean that pictures of x show: `E[x|z_1]`, with skip connections `E[x|z_1…z_5]`."""
    return f"E[x|{joined(1, model.depth, 1, skip=model.generative_skips)}]"


def joint(model: ModelSpec) -> tuple[str, str]:
    """What `generative` and `inference` are the factors of: `p(x, z)` and `q(z|x)`, with classes of y too."""
    return ("p(x, z)", "q(z|x)") if model.classes is None else ("p(x, y, z)", "q(y, z|x)")


def inference(model: ModelSpec) -> str:
    """`q(z_1|x) q(z_2|z_1)`, in the order of sampling; the ladder's `q(z_2|x) q(z_1|z_2, x)`. With an auxiliary
    variable `∫ q(a|x) q(z_1|x, a) q(z_2|z_1) da`. With classes q(y|x) comes first, and q(z_2|...) takes y.
    """
    factors, top = model.inference_model.factors(model.depth), f"z_{model.depth}"
    if model.auxiliary is not None:
        return auxiliary.factors(factors)
    if model.classes is None:
        return factors
    if model.shares_top_down:  # its mappings are those of p, which take y with z_L
        factors = re.sub(rf"\|([^)]*{top}),", r"|\1, y,", factors)
    return "q(y|x) " + re.sub(rf"q\({top}\|([^)]*)\)", rf"q({top}|\1, y)", factors)


def classes(model: ModelSpec) -> tuple[str, ...]:
    """What y is and how p and q take it, and q(y|x); nothing without classes."""
    if model.classes is None:
        return ()
    top = f"z_{model.depth}"
    is_below = model.inference_model.gives_top and model.depth > 1
    h = f"μ_{{d,{model.depth - 1}}}" if is_below else "x"
    return (
        f"y: the class, one-hot, p(y) = 1/C;  p reads [{top}; y] for {top};  the mapping into {top} takes y",
        f"q(y|x) = softmax(Linear(MLP({h})))",
    )


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
    above = "z_{i+1}…z_L" if model.generative_skips else "z_{i+1}"
    v = "y" if model.classes is None else "v"  # y is the class
    of_q = model.inference_model.equations(model.depth, shared=model.shares_top_down, softplus=floor)
    if model.auxiliary is not None:
        of_q = (*map(auxiliary.with_a, of_q), *auxiliary_variable(model))
    conditionals = (f"p(z_i|{above}) = N(μ_i({above}), σ²_i({above}))",) if model.depth > 1 else ()
    return (
        f"d({v}) = MLP({v}),  μ({v}) = Linear(d({v})),  σ²({v}) = softplus(Linear(d({v}))){floor}",
        *_normalization(model),
        *_hidden_layers(model, floor),
        *((ORDER,) if model.generative_skips else ()),
        *filter(None, [prior(model)]),
        *conditionals,
        _of_all_layers(observation.equation, model) + clipped,
        *of_q,
        *flows(model),
        *classes(model),
    )


def _of_all_layers(equation: str, model: ModelSpec) -> str:
    """An equation for p(x|z_1), in which all layers take the place of z_1 where there are skip connections."""
    return equation.replace("z_1", joined(1, model.depth, 1, skip=model.generative_skips))


def mapping(model: ModelSpec) -> tuple[str, ...]:
    """The hidden layers of a mapping that is not the MLP of Eq. 7, as one equation; nothing if it is."""
    if model.mapping == ModelSpec.model_fields["mapping"].default:
        return ()
    bias = "" if model.normalization.hidden else ";  N(a_j) = a_j + b_j"
    return (f"MLP ({words(model.mapping)}): {_mapping(model)}{bias}",)


def _mapping(model: ModelSpec) -> str:
    return MAPPINGS[name_and_settings(model.mapping)[0]].equation


def auxiliary_variable(model: ModelSpec) -> tuple[str, ...]:
    """q(a|x) and the auxiliary model r, as one equation; nothing without an auxiliary variable."""
    return () if model.auxiliary is None else (auxiliary.equation(model.depth),)


def flows(model: ModelSpec) -> tuple[str, ...]:
    """What becomes of samples of q's Gaussians where flows follow them, one equation for the layers of each."""
    every, lines = model.flows, []
    for place, flow in enumerate(every):
        if flow is None or flow in every[:place]:
            continue
        name, settings = name_and_settings(flow)
        of = [f"z_{layer}" for layer, other in enumerate(every, start=1) if other == flow]
        which = "every z_i" if len(of) == model.depth > 1 else ", ".join(of)
        lines.append(
            f"{FLOWS[name].equation(settings)};  {which}: z_0 ~ q above, d the hidden layer that it comes from"
        )
    return tuple(lines)


def iteration(model: ModelSpec) -> tuple[str, ...]:
    """What the sweeps of inference before the last one pass on, one equation per entry; nothing of a single sweep."""
    return model.inference_model.iteration()


def _normalization(model: ModelSpec) -> tuple[str, ...]:
    """How is normalized; nothing where nothing is."""
    normalization = model.normalization
    if not normalization.hidden:
        return ()
    constants = {"ε": f"{model.batch_norm_eps:g}", **normalization.settings}
    return (",  ".join([normalization.norm.equation, *(f"{key} = {value}" for key, value in constants.items())]),)


def _hidden_layers(model: ModelSpec, floor: str) -> tuple[str, ...]:
    """What the hidden layers are, and the heads where these are normalized; nothing of an MLP that is not."""
    normalization = model.normalization
    if not normalization.hidden:
        return mapping(model)
    heads = (
        f";  heads of the latents: μ = N(Linear(d)),  σ² = softplus(N(Linear(d))){floor}" if normalization.heads else ""
    )
    (line,) = mapping(model) or (f"MLP: {_mapping(model)}",)
    return (line + heads,)


def objective(spec: ObjectiveSpec, model: ModelSpec) -> tuple[str, ...]:
    """The log weight of a sample and what is maximized (Eqs. 10-12 and 22) for a model; the estimator of its gradient
    by q's parameters, where that is not the whole of it.
    """
    terms = " + ".join(TERMS[name].equation for name in TERMS)
    if model.generative_skips:
        terms = terms.replace("p(x|z_1)", "p(x|z_1…z_L)")
    if model.auxiliary is not None:
        terms += " + β [log r(a|x, z) − log q(a|x)]"
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
    if model.classes is not None:
        return _marginal(spec, terms, bound)
    if ESTIMATORS[spec.estimator].is_path:
        lines = [f"gradient by φ of q: {ESTIMATORS[spec.estimator].equation}"]
    return (f"log w = {terms}", bound, *lines)


def _marginal(spec: ObjectiveSpec, terms: str, bound: str) -> tuple[str, ...]:
    """What is maximized of images of which some have a label: each class has its bound."""
    if spec.classifies_alone:
        return ("mean log q(y|x) over the labeled images",)
    top = "β_L" if isinstance(spec.layer_weights, tuple) else "β"
    return (
        f"log w(y) = {terms}, all given y",
        f"B(x, y) = {bound}",
        f"U(x) = Σ_y q(y|x) {{B(x, y) + {top} [log p(y) − log q(y|x)]}},  L(x, y) = B(x, y) + {top} log p(y)",
        f"(N_u/N) mean U + (N_l/N) mean L + {spec.classification:g} mean log q(y|x), "
        "U of unlabeled images, the other two of labeled ones",
    )

"""The factorisation of p and q and the equations of an architecture, as text: for summaries that load no torch.

Subscripts are written `z_1` or `z_{i+1}`.
"""

from hvae_spec.spec.model import ModelSpec


def generative(model: ModelSpec) -> str:
    """`p(x|z_1) p(z_1|z_2) p(z_2)`."""
    above = (f"p(z_{layer}|z_{layer + 1})" for layer in range(1, model.depth))
    return " ".join(["p(x|z_1)", *above, f"p(z_{model.depth})"])


def inference(model: ModelSpec) -> str:
    """`q(z_1|x) q(z_2|z_1)`, in the order of sampling; the ladder's `q(z_2|x) q(z_1|z_2, x)`."""
    depth = model.depth
    if model.inference == "ladder":
        return " ".join([f"q(z_{depth}|x)", *(f"q(z_{layer}|z_{layer + 1}, x)" for layer in range(depth - 1, 0, -1))])
    return " ".join(["q(z_1|x)", *(f"q(z_{layer}|z_{layer - 1})" for layer in range(2, depth + 1))])


def equations(model: ModelSpec) -> tuple[str, ...]:
    """How every factor follows from what it depends on, one equation an entry (paper, Sec. 2)."""
    deep = model.depth > 1
    lines = ["d(y) = MLP(y),  μ(y) = Linear(d(y)),  σ²(y) = softplus(Linear(d(y)))" + _floor(model)]
    lines.append(f"p(z_{model.depth}) = N(0, I)")
    if deep:
        lines.append("p(z_i|z_{i+1}) = N(μ_i(z_{i+1}), σ²_i(z_{i+1}))")
    if model.observation == "bernoulli":
        lines.append("p(x|z_1) = Bernoulli(sigmoid(Linear(d(z_1))))")
    else:
        lines.append("p(x|z_1) = N(μ(z_1), σ²(z_1))")
    return (*lines, *(_ladder(model) if model.inference == "ladder" and deep else _bottom_up(deep)))


def _bottom_up(deep: bool) -> list[str]:
    return ["q(z_1|x) = N(μ_1(x), σ²_1(x))", *["q(z_i|z_{i-1}) = N(μ_i(z_{i-1}), σ²_i(z_{i-1}))"] * deep]


def _ladder(model: ModelSpec) -> list[str]:
    top = model.depth
    downward = (
        "μ_{t,i}, σ²_{t,i} = μ_i(z_{i+1}), σ²_i(z_{i+1})  (those of p(z_i|z_{i+1}): shared)"
        if model.share_top_down
        else "t_i = MLP(z_{i+1}),  μ_{t,i} = Linear(t_i),  σ²_{t,i} = softplus(Linear(t_i))" + _floor(model)
    )
    return [
        "d_1 = MLP(x),  d_i = MLP(μ_{d,i-1}),  μ_{d,i} = Linear(d_i),  σ²_{d,i} = softplus(Linear(d_i))"
        + _floor(model),
        f"q(z_{top}|x) = N(μ_{{d,{top}}}, σ²_{{d,{top}}})",
        downward,
        "q(z_i|z_{i+1}, x) = N((μ_{t,i} s_{t,i} + μ_{d,i} s_{d,i}) / (s_{t,i} + s_{d,i}), 1 / (s_{t,i} + s_{d,i})),  "
        "s = 1/σ²",
    ]


def _floor(model: ModelSpec) -> str:
    return f" + {model.variance_floor:g}" if model.variance_floor else ""

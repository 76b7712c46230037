"""The text of an architecture: its factors, and the equations that give them."""

import re

import pytest

from hvae_spec.spec import equations
from hvae_spec.spec.choices.inference import INFERENCES
from hvae_spec.spec.choices.observation import OBSERVATIONS
from hvae_spec.spec.model import ModelSpec
from hvae_spec.spec.objective import ObjectiveSpec


def model(depth=3, **fields):
    return ModelSpec.model_validate({"layers": [{"units": 4, "mlp": [8]}] * depth, **fields})


@pytest.mark.parametrize(
    ("depth", "inference", "p", "q"),
    [
        (1, "vae", "p(x|z_1) p(z_1)", "q(z_1|x)"),
        (1, "ladder", "p(x|z_1) p(z_1)", "q(z_1|x)"),
        (3, "vae", "p(x|z_1) p(z_1|z_2) p(z_2|z_3) p(z_3)", "q(z_1|x) q(z_2|z_1) q(z_3|z_2)"),
        (3, "ladder", "p(x|z_1) p(z_1|z_2) p(z_2|z_3) p(z_3)", "q(z_3|x) q(z_2|z_3, x) q(z_1|z_2, x)"),
        (3, "top_down", "p(x|z_1) p(z_1|z_2) p(z_2|z_3) p(z_3)", "q(z_3|x) q(z_2|z_3, x) q(z_1|z_2, x)"),
    ],
)
def test_factors_stand_in_the_order_of_the_paper(depth, inference, p, q):
    assert equations.generative(model(depth, inference=inference)) == p
    assert equations.inference(model(depth, inference=inference)) == q


@pytest.mark.parametrize(
    ("depth", "inference", "skip", "p", "q"),
    [
        (1, "ladder", "both", "p(x|z_1) p(z_1)", "q(z_1|x)"),
        (2, "vae", "both", "p(x|z_1, z_2) p(z_1|z_2) p(z_2)", "q(z_1|x) q(z_2|z_1)"),
        (
            3,
            "vae",
            "generative",
            "p(x|z_1…z_3) p(z_1|z_2, z_3) p(z_2|z_3) p(z_3)",
            "q(z_1|x) q(z_2|z_1) q(z_3|z_2)",
        ),
        (4, "vae", "both", "p(x|z_1…z_4) p(z_1|z_2…z_4)", "q(z_1|x) q(z_2|z_1) q(z_3|z_1, z_2) q(z_4|z_1…z_3)"),
        (4, "ladder", "both", "p(x|z_1…z_4)", "q(z_4|x) q(z_3|z_4, x) q(z_2|z_3, z_4, x) q(z_1|z_2…z_4, x)"),
    ],
)
def test_factors_of_models_with_skip_connections(depth, inference, skip, p, q):
    spec = model(depth, inference=inference, skip=skip)
    assert equations.generative(spec).startswith(p)
    assert equations.inference(spec) == q


@pytest.mark.parametrize(
    ("steps", "skip", "expected"),
    [
        (
            2,
            "none",
            [
                "sweep 1 draws nothing:  m_L = μ_{d,L},  m_i = mean of q(z_i|z_{i+1}, x) at m_{i+1}",
                "sweep 2, which draws, the same weights:  d_1 = MLP(x),  d_i = MLP(m_{i-1} of the sweep before)",
            ],
        ),
        (
            4,
            "both",
            [
                "sweeps 1 … 3 draw nothing:  m_L = μ_{d,L},  m_i = mean of q(z_i|z_{i+1}…z_L, x) at m_{i+1}…m_L",
                "sweeps 2 … 4, of which the last draws, the same weights:  d_1 = MLP(x),  "
                "d_i = MLP(m_{i-1} of the sweep before)",
            ],
        ),
    ],
)
def test_the_equations_of_several_sweeps(steps, skip, expected):
    spec = model(3, inference="ladder", inference_steps=steps, skip=skip)
    one = model(3, inference="ladder", skip=skip)
    assert equations.equations(spec) == (*equations.equations(one), *expected)
    assert list(equations.iteration(spec)) == expected
    assert equations.iteration(one) == equations.iteration(model(1, inference="ladder", inference_steps=steps)) == ()


@pytest.mark.parametrize(
    ("depth", "inference", "q"),
    [
        (1, "ladder", "∫ q(a|x) q(z_1|x, a) da"),
        (2, "vae", "∫ q(a|x) q(z_1|x, a) q(z_2|z_1) da"),
        (3, "ladder", "∫ q(a|x) q(z_3|x, a) q(z_2|z_3, x, a) q(z_1|z_2, x, a) da"),
    ],
)
def test_an_auxiliary_variable_stands_beside_x_and_is_integrated_out(depth, inference, q):
    spec = model(depth, inference=inference, auxiliary={"units": 3})
    assert equations.inference(spec) == q
    lines = equations.equations(spec)
    z = {1: "z_1", 2: "z_1, z_2", 3: "z_1…z_3"}[depth]
    assert lines[-1] == f"q(a|x) = N(μ_a(x), σ²_a(x)),  r(a|x, {z}) = N(μ_r(x, {z}), σ²_r(x, {z}))"
    first = "q(z_1|x, a) = N(μ_1(x, a), σ²_1(x, a))" if depth < 3 else "d_1 = MLP(x, a),  d_i = MLP(μ_{d,i-1}),"
    assert any(line.startswith(first) for line in lines)
    (log_w, *_) = equations.objective(ObjectiveSpec(), spec)
    assert log_w.endswith("log q(z_i|…)] + β [log r(a|x, z) − log q(a|x)]")
    assert "log r" not in equations.objective(ObjectiveSpec(), model(depth))[0]


def test_the_equations_of_skip_connections():
    lines = equations.equations(model(4, inference="ladder", skip="both"))
    assert "p(z_i|z_{i+1}…z_L) = N(μ_i(z_{i+1}…z_L), σ²_i(z_{i+1}…z_L))" in lines
    assert "p(x|z_1…z_4) = Bernoulli(sigmoid(Linear(d(z_1…z_4))))" in lines
    assert any(line.startswith("t_i = MLP(z_{i+1}…z_L),") for line in lines)
    assert any("the layer nearest to what is mapped to comes first" in line for line in lines)
    vae = equations.equations(model(4, skip="both"))
    assert "q(z_i|z_1…z_{i-1}) = N(μ_i(z_1…z_{i-1}), σ²_i(z_1…z_{i-1}))" in vae
    assert "q(z_i|z_{i-1}) = N(μ_i(z_{i-1}), σ²_i(z_{i-1}))" in equations.equations(model(4, skip="generative"))
    top_down = equations.equations(model(4, inference="top_down", skip="both"))
    assert "t_i = MLP([μ_{d,i}; σ²_{d,i}; z_{i+1}…z_L])" in top_down
    assert "q(z_i|z_{i+1}…z_L, x) = N(Linear(t_i), softplus(Linear(t_i)) + 1e-06)" in top_down
    for skip, log_p in (("none", "log p(x|z_1) +"), ("generative", "log p(x|z_1…z_L) +")):
        assert log_p in equations.objective(ObjectiveSpec(), model(3, skip=skip))[0]


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("inference", INFERENCES)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_factor_has_its_equation_once(depth, inference, observation):
    spec = model(depth, inference=inference, observation=observation)
    given = [line.split(" = ")[0] for line in equations.equations(spec)]
    factors = equations.generative(spec) + " " + equations.inference(spec)
    for layer in range(1, depth):
        # The general forms of the layers in the middle.
        factors = factors.replace(f"p(z_{layer}|z_{layer + 1})", "p(z_i|z_{i+1})")
        factors = factors.replace(f"q(z_{layer + 1}|z_{layer})", "q(z_i|z_{i-1})")
        factors = factors.replace(f"q(z_{layer}|z_{layer + 1}, x)", "q(z_i|z_{i+1}, x)")
    for factor in set(re.findall(r"[pq]\([^)]*\)", factors)):
        assert given.count(factor) == 1, factor


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("standard_normal", "p(z_3) = N(0, I)"),
        ({"vamp": 7}, "p(z_3) = (1/K) Σ_k q(z_3|x = u_k),  K = 7,  u_k in [0, 1] learned"),
        ("mixture", "p(z_3) = (1/K) Σ_k N(μ_k, σ²_k),  K = 50,  μ_k, σ²_k learned"),
        (
            {"realnvp": {"blocks": 2}},
            "p(z_3) = N(e; 0, I) |det de/dz|,  z = c_2(... c_1(e)),  "
            "c: (a, b) → (a, b exp(tanh(s(a))) + t(a)) of the halves of z_3, in turns,  "
            "s, t = Linear(h(a)),  each hidden layer of h is f(W h + b), never normalized",
        ),
    ],
    ids=str,
)
def test_a_prior_has_its_equation_with_its_settings(prior, expected):
    spec = model(inference="ladder", prior=prior)
    assert equations.prior(spec) == expected
    assert expected in equations.equations(spec)


def test_what_is_normalized_has_its_equation():
    def lines(**fields):
        return [line for line in equations.equations(model(**fields)) if "N(a" in line or "N(W" in line]

    assert lines() == lines(norm="none") == []
    batch, where = lines(batch_norm=True, variance_floor=0)
    assert batch.endswith("over the samples and images of the batch,  ε = 1e-05")
    assert where == (
        "MLP: each hidden layer is f(N(W h));  heads of the latents: μ = N(Linear(d)),  σ² = softplus(N(Linear(d)))"
    )
    assert lines(norm={"batch": {"heads": False}}) == [batch, "MLP: each hidden layer is f(N(W h))"]
    layer, where = lines(norm="layer", batch_norm_eps=1e-3)
    assert layer == "N(a_j) = γ_j (a_j − mean(a)) / √(var(a) + ε) + β_j, over the units of the layer,  ε = 0.001"
    assert where == "MLP: each hidden layer is f(N(W h))"


def test_what_differs_between_models_is_told():
    ladder = " ".join(equations.equations(model(inference="ladder")))
    shared = " ".join(equations.equations(model(inference="ladder", share_top_down=True)))
    assert "t_i = MLP(z_{i+1})" in ladder
    assert "t_i" not in shared
    assert "shared" in shared
    assert "Bernoulli" in ladder
    assert "p(x|z_1) = N(μ(z_1), σ²(z_1))" in equations.equations(model(observation="gaussian"))
    assert "softplus(Linear(d(y))) + 1e-06" in ladder
    clipped = equations.equations(model(mean_clip=1e-5))
    assert "p(x|z_1) = Bernoulli(sigmoid(Linear(d(z_1)))), its means clipped to [1e-05, 1 - 1e-05]" in clipped
    assert "clipped" not in " ".join(equations.equations(model(mean_clip=1e-5, observation="gaussian")))
    assert "+ 1e" not in " ".join(equations.equations(model(inference="ladder", variance_floor=0)))


def test_flows_have_their_equation_once_with_the_layers_that_have_it():
    plain = equations.equations(model())
    assert not [line for line in plain if "z_0" in line]
    planar, *rest = [line for line in equations.equations(model(flow={"planar": 4})) if "z_0" in line]
    assert not rest
    assert planar.startswith("z_i = f_4(… f_1(z_0)),  f_k(z) = z + v_k tanh(w_k·z + b_k)")
    assert planar.endswith(";  every z_i: z_0 ~ q above, d the hidden layer that it comes from")
    layers = [{"units": 4, "mlp": [8], "flow": flow} for flow in ("iaf", None, "iaf")]
    iaf, own = [
        line
        for line in equations.equations(ModelSpec.model_validate({"layers": layers, "flow": "planar"}))
        if "z_0" in line
    ]
    assert "MADE_k(z, Linear(d))" in iaf
    assert ";  z_1, z_3: " in iaf
    assert ";  z_2: " in own


def test_what_the_factors_are_of():
    spec = model(2)
    assert equations.joint(spec) == ("p(x, z)", "q(z|x)")
    assert equations.equations(spec)[0].startswith("d(y) = MLP(y)")
    of_classes = model(2, classes={"mlp": [3]})
    assert equations.joint(of_classes) == ("p(x, y, z)", "q(y, z|x)")
    assert equations.equations(of_classes)[0].startswith("d(v) = MLP(v)")  # y is the class

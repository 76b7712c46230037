"""`python -m hvae_spec.check`: it finds every promise that a part breaks, and the examples break none."""

from pathlib import Path

import pytest

from hvae_spec.check import CHECKS, _part, main
from hvae_spec.reading import read
from tests.test_extensions import _unextended  # noqa: F401

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
HEAD = """\
import torch
from hvae_spec import extend
from hvae_spec.nn.flow import Planar
from hvae_spec.nn.gaussian import MLP
from hvae_spec.nn.likelihood import GaussianLikelihood
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.inference import BottomUp
from hvae_spec.nn.prior import Prior
from hvae_spec.spec.choices import flow
from hvae_spec.spec.choices.inference import INFERENCES


"""
BROKEN = {
    "counted": """\
@extend.mapping("part", "each hidden layer is f(N(W h)) + c")
class Part(MLP):
    def __init__(self, style, inputs, widths):
        super().__init__(style, inputs, widths)
        self.c = torch.nn.Parameter(torch.zeros(style.members, 1, 1, 1))

    def forward(self, y):
        return super().forward(y) + self.c
""",
    "apart": """\
@extend.mapping("part", "each hidden layer is f(N(W h)), over its mean over the batch")
class Part(MLP):
    def forward(self, y):
        y = super().forward(y)
        return y / y.mean(3, keepdim=True)
""",
    "folds": """\
@extend.mapping("part", "each hidden layer is f(N(h + W h)) where the width stays")
class Part(MLP):
    def forward(self, y):
        for linear, norm in zip(self.linears, self.norms):
            before = y + linear(y) if linear(y).shape == y.shape else linear(y)
            y = self.nonlinearity(norm(before))
        return y
""",
    "integral 1": """\
@extend.observation("part", "p", heads=2)
class Part(GaussianLikelihood):
    def forward(self, z, x):
        return 1.01 * super().forward(z, x)
""",
    "samples": """\
@extend.observation("part", "p", heads=2)
class Part(GaussianLikelihood):
    def sample(self, z, noise):
        return self.mean(z) + 3 * (super().sample(z, noise) - self.mean(z))
""",
    "pack = alone": """\
@extend.objective_term("part", "+ c")
def part(trace):
    return 10 * trace.latents[0].mean().square()
""",
    "NaN stays": """\
@extend.nonlinearity("part", "a")
def part(a):
    return a + 1e-9 * a.sum()
""",
    "resumes": """\
class Counting(torch.optim.SGD):
    steps = 0

    def step(self):
        self.steps += 1
        for row in (row for group in self.param_groups for row in group["params"] if row.grad is not None):
            row.detach().sub_(row.grad, alpha=1e-3 / self.steps)


class Settings(extend.OptimizerSettings):
    "None of its own."


@extend.optimizer("part", Settings, numbers_per_parameter=0)
def part(groups, settings):
    return Counting([{"params": list(rows), "lr": one.lr} for rows, one in zip(groups, settings)])
""",
    "capturable": """\
@extend.nonlinearity("part", "a")
def part(a):
    return a if a.detach().abs().max().item() >= 0 else -a
""",
    "q at given z": """\
@extend.inference("part", INFERENCES["vae"])
class Part(BottomUp):
    def forward(self, encoding, latents):
        return super().forward(encoding, [z + 1 for z in latents])
""",
    "invertible": """\
class Model(flow.Planar):
    default = None

    def mappings(self, hidden, units, settings):
        return super().mappings(hidden, units, {"steps": 2})


@extend.flow("part", Model())
class Part(Planar):
    def __init__(self, style, inputs, units):
        super().__init__(style, inputs, units, steps=2)

    def forward(self, z, parameters):
        z, log_det = super().forward(z, parameters)
        return z, 1.01 * log_det
""",
    "integral of p(z_L)": """\
class Wide(extend.PriorModel):
    factorizes = True

    def equation(self, settings):
        return "N(0, 4 I)"


class Off(DiagonalGaussian):
    def log_prob(self, z):
        return 1.01 * super().log_prob(z)


@extend.prior("part", Wide())
class Part(Prior):
    factorizes = True

    def __init__(self, style, units, pixels):
        super().__init__()

    def forward(self, encoded):
        return Off(torch.tensor(0.0), torch.tensor(4.0))
""",
    "trains": """\
@extend.nonlinearity("part", "a / a**0.5")
def part(a):
    return a / a.sqrt()
""",
}
"""A part that breaks a promise, by the promise."""


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_found(promise, tmp_path, capsys):
    assert set(BROKEN) == set(CHECKS)
    (tmp_path / "part.py").write_text(HEAD + BROKEN[promise])
    assert main([str(tmp_path / "part.py")]) == 1
    out = capsys.readouterr().out
    assert f"part, {promise}: " in out
    assert "requires_grad" not in out


WIDE = BROKEN["integral of p(z_L)"].replace(
    "return 1.01 * super().log_prob(z)",
    "return super().log_prob(z)\n\n    def sample(self, noise):\n        return super().sample(3 * noise)\n\n"
    "    def sample_and_log_prob(self, noise):\n        z = self.sample(noise)\n        return z, self.log_prob(z)",
)


def test_samples_of_a_prior_are_those_of_its_density(tmp_path, capsys):
    """Its log density is right wherever a sample lies; the samples lie three times too far out."""
    (tmp_path / "part.py").write_text(HEAD + WIDE)
    assert main([str(tmp_path / "part.py")]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("prior part, ")]
    assert [line.partition(":")[0] for line in said] == ["prior part, samples"]


NORM = """\
@extend.norm("part", "Part", "N(a_j) = γ_j a_j / c", numbers_per_unit=1)
class Part(torch.nn.Module):
    def __init__(self, members, units, eps):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(members, units, {parameters}))
        self.eps = eps

    def forward(self, x):
        return self.weight.mean(2, keepdim=True).unsqueeze(3) * x / (x.square().mean({over}, keepdim=True) + 1).sqrt()
"""
"""A normalization, which breaks a promise if its statistics are over the batch, or if it has more parameters."""


@pytest.mark.parametrize(
    ("parameters", "over", "promise"), [(1, "1", ""), (1, "3", "apart"), (1, "2", "apart"), (2, "1", "counted")]
)
def test_a_normalization_keeps_to_one_image_and_to_what_it_counts(parameters, over, promise, tmp_path, capsys):
    (tmp_path / "part.py").write_text(HEAD + NORM.format(parameters=parameters, over=over))
    assert main([str(tmp_path / "part.py")]) == int(bool(promise))
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines() if ": " in line and ", " in line] == (
        [f"normalization part, {promise}"] if promise else []
    )


def test_an_exception_is_shown_with_its_line(tmp_path, capsys):
    text = HEAD + '@extend.nonlinearity("part", "a")\ndef part(a):\n    return a.no_such_thing()\n'
    (tmp_path / "part.py").write_text(text)
    assert main([str(tmp_path / "part.py")]) == 1
    line = text.splitlines().index("    return a.no_such_thing()") + 1
    assert (
        f"AttributeError: 'Tensor' object has no attribute 'no_such_thing' (part.py:{line})" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no such file"), ("x = 1\n", "registers no part"), ("1 / 0\n", "ZeroDivisionError")]
)
def test_a_file_that_cannot_be_checked_is_one_message(text, words, tmp_path, capsys):
    path = tmp_path / "part.py"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err.lower() + err
    assert "Traceback" not in err


LAPLACE = """\
@extend.observation("part", "p", heads=2)
class Part(GaussianLikelihood):
    def forward(self, z, x):
        {forward}
"""


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        pytest.param(
            "return self.distribution(z).log_prob(x).sum(0)",
            "observation part: `forward` gives the shape [64, 2, 16], expected [M, S, B] = [3, 2, 16] (part.py:{line})",
            id="shape",
        ),
        pytest.param("raise RuntimeError('boom')", ": RuntimeError: boom (part.py:{next})", id="exception"),
    ],
)
def test_one_cause_is_said_once_with_its_line(forward, words, tmp_path, capsys):
    text = HEAD + LAPLACE.format(forward=forward)
    (tmp_path / "part.py").write_text(text)
    assert main([str(tmp_path / "part.py")]) == 1
    line = text.splitlines().index("    def forward(self, z, x):") + 1
    said = [one for one in capsys.readouterr().out.splitlines() if one.startswith("observation part") and ": " in one]
    assert len(said) == 1
    assert said[0].endswith(words.format(line=line, next=line + 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "class S(extend.Settings):\n    scale: extend.Positive\n\n"
            "@extend.mapping('part', 'h', S)\nclass Part(MLP):\n    pass\n",
            "S.scale has no default",
            id="setting without default",
        ),
        pytest.param(
            "@extend.nonlinearity('part', 'a', parameter='b', default=-1.0, values=extend.Positive)\n"
            "def part(a, b):\n    return a\n",
            "part: the default is no value of it",
            id="default that is none",
        ),
        pytest.param(
            "@extend.observation('gaussian', 'p', heads=2)\nclass Part(GaussianLikelihood):\n    pass\n",
            "there is an observation named 'gaussian' already\n",
            id="taken",
        ),
        pytest.param(
            "@extend.nonlinearity('part', 'a')\ndef part(a):\n    return a\n\n" * 2,
            "there is a nonlinearity named 'part' already, of this file\n",
            id="twice",
        ),
    ],
)
def test_what_cannot_be_registered_is_said_in_words(text, words, tmp_path, capsys):
    path = tmp_path / "part.py"
    path.write_text(HEAD + text)
    assert main([str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "pydantic" not in err
    assert "keeps its" not in err


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_keeps_every_promise(path, capsys):
    assert len(path.read_text().splitlines()) <= 50
    assert main([str(path)]) == 0
    assert "NO" not in capsys.readouterr().out


def test_the_spec_of_the_examples_uses_every_one_of_them():
    reading = read(EXAMPLES / "extended.yaml")
    used = {part.file for member in reading.members for part in member.spec.parts.values()}
    assert used == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", ["planar", "iaf"])
@pytest.mark.parametrize("promise", [name for name, one in CHECKS.items() if not one.kinds or "flow" in one.kinds])
def test_the_flows_of_the_house_keep_what_is_promised(promise, name):
    CHECKS[promise].check(_part("flow", name))


@pytest.mark.parametrize("name", ["mixture", "realnvp"])
@pytest.mark.parametrize("promise", ["integral of p(z_L)", "samples"])
def test_the_priors_of_the_house_have_the_samples_of_their_densities(promise, name):
    CHECKS[promise].check(_part("prior", name))


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "continuous_bernoulli", "discretized_logistic"])
@pytest.mark.parametrize("promise", ["integral 1", "samples"])
def test_the_observation_models_of_the_house_have_the_samples_of_their_densities(promise, name):
    CHECKS[promise].check(_part("observation", name))

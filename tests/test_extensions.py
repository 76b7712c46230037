"""Extensions: files of a user's own whose parts are in the language of the specs that name them, and of no others."""

import copy
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from rich.table import Table
from safetensors.numpy import load_file

import analysis
from analysis import report
from analysis.bits import bits_per_dim
from analysis.html.architectures import models
from analysis.paper.published import differences, variants
from hvae_spec import compiler, extensions
from hvae_spec.errors import RecordError, SpecError, UserError
from hvae_spec.json_schema import json_schema
from hvae_spec.model import compile, load_record
from hvae_spec.nn import nonlinearity
from hvae_spec.nn.gaussian import MLP
from hvae_spec.nn.norm import NORMS
from hvae_spec.reading import load, read, reads
from hvae_spec.records.layout import Record, Results
from hvae_spec.registry import Registry, remove
from hvae_spec.sample import main as sample
from hvae_spec.spec import equations
from hvae_spec.spec.choices.initialization import INITIALIZATIONS
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, equation
from hvae_spec.spec.choices.norm import in_column
from hvae_spec.spec.choices.observation import described, is_binary
from hvae_spec.spec.cost import parameters
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.training.schedules import disagreement
from tests.members import member
from tune.bench.comparison import plain_model
from tune.hvae import main as hvae
from tune.plan.grouping import shape
from tune.run import main

ROOT = Path(__file__).parent.parent
PARTS = '''\
"""Parts of a user's own."""

import torch

from hvae_spec import extend
from hvae_spec.nn.flow import Flow
from hvae_spec.nn.gaussian import MLP, DiagonalGaussian
from hvae_spec.nn.likelihood import BernoulliLikelihood, GaussianLikelihood
from hvae_spec.nn.linear import Linear
from hvae_spec.nn.prior import Prior


@extend.nonlinearity("snake", "a + sin(b * a)**2 / b", parameter="b", default=1.0, values=extend.Positive)
def snake(a, b):
    return a + torch.sin(b * a) ** 2 / b


class Share(extend.Settings):
    """What is left."""

    share: extend.Positive = 1.0
    """The factor."""


@extend.mapping("damped", "each hidden layer is f(N(W h)), and the last one share times that", Share)
class Damped(MLP):
    def __init__(self, style, inputs, widths, share):
        super().__init__(style, inputs, widths)
        self.share = share

    def forward(self, y):
        return self.share * super().forward(y)


class Power(extend.Settings):
    """The norm."""

    power: extend.Positive = 2.0
    """Of the absolute values."""


@extend.norm("rms", "Root mean power", "N(a_j) = γ_j a_j / (mean |a|^power + ε)^(1 / power)", numbers_per_unit=1,
             of_units=True, heads=True, settings=Power)
class RootMeanPower(torch.nn.Module):
    def __init__(self, members, units, eps, power):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(members, units, 1))
        self.eps, self.power = eps, power

    def forward(self, x):
        mean = (x.abs() ** self.power).mean(1, keepdim=True)
        return self.weight.unsqueeze(3) * x / (mean + self.eps) ** (1 / self.power)


@extend.norm("halve", "Halving", "N(a_j) = a_j / 2", numbers_per_unit=0)
class Halve(torch.nn.Module):
    def __init__(self, members, units, eps):
        super().__init__()

    def forward(self, x):
        return x / 2


@extend.observation("laplace", "p(x|z_1) = Laplace(μ(z_1), b(z_1))", heads=2)
class Laplace(GaussianLikelihood):
    def forward(self, z, x):
        p = self.distribution(z)
        return -((2 * p.variance).log() + (x - p.mean).abs() / p.variance).sum(1)


@extend.observation("coin", "p(x|z_1) = Bernoulli(μ(z_1))", heads=1, x=extend.X.BINARY)
class Coin(BernoulliLikelihood):
    pass


class Wide(extend.Settings):
    """How wide."""

    variance: extend.Positive = 4.0
    """Of every unit."""


class WideModel(extend.PriorModel):
    factorizes = True

    def equation(self, settings):
        return f"N(0, {settings.variance:g} I)"


@extend.prior("wide", WideModel(), Wide)
class WideNormal(Prior):
    factorizes = True

    def __init__(self, style, units, pixels, variance):
        super().__init__()
        self.variance = variance

    def forward(self, encoded):
        return DiagonalGaussian(torch.tensor(0.0), torch.tensor(self.variance))


class Weight(extend.Settings):
    """How much."""

    weight: extend.Positive = 0.1
    """The factor."""


@extend.objective_term("shrink", "- λ |z_1|²", Weight)
def shrink(trace, settings):
    return -settings.weight * trace.latents[0].square().sum(1)


class Adamax(extend.OptimizerSettings):
    """Adam with the infinity norm."""

    eps: extend.Positive = 1e-8
    """Added to the norm."""


@extend.optimizer("adamax", Adamax, numbers_per_parameter=2)
def adamax(groups, settings):
    pairs = zip(groups, settings)
    return torch.optim.Adamax([{"params": list(rows), "lr": one.lr, "eps": one.eps} for rows, one in pairs])


class Halving(extend.Settings):
    """Half the learning rate in every further epoch."""

    start: extend.Positive = 1e-2
    """That of the first epoch."""


@extend.schedule("halving", Halving)
def halving(settings, epoch):
    return settings.start * 0.5 ** (epoch - 1)


class By(extend.Settings):
    """How far."""

    by: extend.Positive = 1.0
    """The factor."""


class ShiftModel(extend.FlowModel):
    def equation(self, settings):
        return f"z_i = z_0 + {settings['by']} Linear(d)"

    def mappings(self, hidden, units, settings):
        yield extend.Mapping("", (hidden, units), normalized_head=False, per_sample=False)


@extend.flow("shift", ShiftModel(), By)
class Shift(Flow):
    def __init__(self, style, inputs, units, by):
        super().__init__()
        self.head, self.by = Linear(style.members, inputs, units), by
        self.heads = [self.head]

    def amortize(self, d):
        return self.by * self.head(d)

    def forward(self, z, parameters):
        return z + parameters, z.new_zeros(z.shape[0], 1, *z.shape[2:])

    def inverse(self, z, parameters):
        return z - parameters


@extend.initialization("lecun", "W ~ N(0, 1 / n_in), b = 0")
def lecun(inputs, outputs):
    return 1 / inputs
'''
SPEC = {
    "name": "extended",
    "extensions": ["my_parts.py"],
    "data": {"dataset": "digits", "train_images": 64, "test_images": 16},
    "model": {"layers": [{"units": 3, "mlp": [6]}, {"units": 2, "mlp": [4]}]},
    "training": {"epochs": 2, "batch_size": 32},
    "evaluation": {"iw_samples": 4, "every": 1},
}
CHOSEN = {
    "nonlinearity snake": {"model.nonlinearity": {"snake": 2.0}},
    "mapping damped": {"model.mapping": {"damped": {"share": 0.5}}},
    "normalization rms": {"model.norm": {"rms": {"power": 3.0}}},
    "normalization halve": {"model.norm": "halve"},
    "observation laplace": {"model.observation": "laplace"},
    # What is idle of other x counts here, also where the code has not run.
    "observation coin": {
        "model.observation": "coin",
        "model.mean_clip": 0.01,
        "data.grey_divisor": "levels",
        "evaluation.redraws": {"draws": 2, "images": 4},
    },
    "prior wide": {"model.prior.wide.variance": 2.0},
    "added term shrink": {"objective.term.shrink.weight": 0.5},
    "optimizer adamax": {"training.optimizer.adamax.lr": 0.002},
    "schedule halving": {"training.schedule.halving.start": 0.02},
    "flow shift": {"model.layers.1.flow": {"shift": {"by": 2.0}}},
    "initialization lecun": {"model.initialization": "lecun"},
}
"""What the parts are, and settings that choose each."""
OPTIONS = ["--serial", "--cpus", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _unextended():
    """No extension of a test is there in another one."""
    yield
    forget()


def forget():
    """As if no extension had run in this process."""
    for extension in list(extensions._RUN.values()):
        remove(extension)
    extensions._RUN.clear()
    for registry in Registry._all:
        registry._stand_ins.clear()


def write(folder, spec=None, parts=PARTS, **changes):
    (folder / "my_parts.py").write_text(parts)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**(spec or SPEC), **changes}))
    return folder / "spec.yaml"


def every_part(folder):
    return write(folder, grid={"variants": {"plain": {}, **CHOSEN}})


def read_line(path, text):
    """The number of the line that holds a text."""
    return next(number for number, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def faults(path):
    with pytest.raises(SpecError) as caught:
        load(path)
    return caught.value.problems


def test_members_know_the_parts_that_they_use_and_their_digests_the_file(tmp_path):
    cells = {cell.variant: cell for cell in read(every_part(tmp_path)).cells}
    assert cells["plain"].member.parts == {}
    assert cells["plain"].member.digests == read(write(tmp_path, extensions=[])).cells[0].member.digests
    for name in CHOSEN:
        assert list(cells[name].member.parts) == [name]
        assert cells[name].content["extensions"] == {name: cells[name].member.parts[name].sha256}
    before = {variant: cell.member.digests for variant, cell in cells.items()}
    (tmp_path / "my_parts.py").write_text(PARTS + "# another file\n")
    every_part_again = {cell.variant: cell.member.digests for cell in read(_same(tmp_path)).cells}
    assert every_part_again["plain"] == before["plain"]
    assert not {before[name].training for name in CHOSEN} & {every_part_again[name].training for name in CHOSEN}


def _same(tmp_path):
    """The spec of `every_part`, beside a file of parts that stays as it is."""
    text = (tmp_path / "my_parts.py").read_text()
    return write(tmp_path, parts=text, grid={"variants": {"plain": {}, **CHOSEN}})


def test_nothing_of_an_extension_is_left_in_other_digests(tmp_path):
    before = member().digests
    load(every_part(tmp_path))
    assert member().digests == before


def test_an_inference_model_that_is_a_simpler_one_with_one_layer_does_not_count_there(tmp_path):
    parts = (
        "from hvae_spec import extend\n"
        "from hvae_spec.nn.inference import Ladder\n"
        "from hvae_spec.spec.choices.inference import INFERENCES\n\n"
        'extend.inference("mine", INFERENCES["ladder"])(Ladder)\n'
    )
    path = write(tmp_path, parts=parts, grid={"depth": [1, 2]})
    mine, plain = (read(path, overrides).cells for overrides in (["model.inference=mine"], []))
    assert mine[0].member.digests == plain[0].member.digests
    assert "extensions" in mine[1].content


def test_an_inference_model_says_whether_it_takes_flows(tmp_path):
    parts = (
        "from hvae_spec import extend\n"
        "from hvae_spec.nn.inference import BottomUp\n"
        "from hvae_spec.spec.choices.inference import BottomUp as Described\n\n\n"
        "class Careless(Described):\n    takes_flows = False\n\n\n"
        'extend.inference("careless", Careless())(BottomUp)\n'
        'extend.inference("careful", Described())(BottomUp)\n'
    )
    model = {**SPEC["model"], "flow": "planar"}
    (fault,) = faults(write(tmp_path, parts=parts, model={**model, "inference": "careless"}))
    assert fault.message == "careless inference takes no flows, and z_1 has one"
    assert fault.expected == "inference: vae or ladder or top_down or careful, or model.flow: none"
    load(write(tmp_path, parts=parts, model={**model, "inference": "careful"}))


def test_where_the_file_lies_changes_no_digest(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    one, two = (read(every_part(folder)).cells for folder in (tmp_path, tmp_path / "elsewhere"))
    assert [cell.member.digests for cell in one] == [cell.member.digests for cell in two]


def test_it_is_said_first_what_runs_and_a_file_runs_once(tmp_path, capsys):
    path = write(tmp_path, parts=f"with open({str(tmp_path / 'ran')!r}, 'a') as file:\n    file.write('once ')\n")
    assert main([str(path), "--plan", "--results", str(tmp_path / "r")]) == 0
    sha256 = extensions.read(tmp_path / "my_parts.py").sha256
    said = capsys.readouterr().err
    assert said == f"Runs extensions: {tmp_path / 'my_parts.py'} (sha256 {sha256})\n"
    load(path)
    assert (tmp_path / "ran").read_text() == "once "


def test_a_file_that_was_changed_takes_the_place_of_what_it_was(tmp_path):
    load(write(tmp_path))
    load(write(tmp_path, parts=PARTS.replace('"snake"', '"serpent"')))
    assert "serpent" in NONLINEARITIES
    assert "snake" not in NONLINEARITIES
    assert "snake" not in nonlinearity.NONLINEARITIES
    faults(write(tmp_path, parts=PARTS + "1 / 0\n"))
    assert "serpent" in nonlinearity.NONLINEARITIES
    assert "snake" not in NONLINEARITIES


FAULTS = {
    "a name that is taken": (
        'from hvae_spec import extend\n\n\n@extend.nonlinearity("tanh", "tanh(a)")\ndef mine(a):\n    return a\n',
        4,
        "there is a nonlinearity named 'tanh' already",
    ),
    "an exception": ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
    "no Python": ("x = 1\nif x\n", 2, "SyntaxError: expected ':'"),
    "an end": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    "a module that is not there": ("\nimport my_helpers\n", 2, "ModuleNotFoundError: No module named 'my_helpers'"),
    "no mapping": (
        'from hvae_spec import extend\n\n\n@extend.mapping("mine", "")\ndef mine(y):\n    return y\n',
        4,
        "ValueError: mine: expected a subclass of hvae_spec.nn.gaussian.MLP",
    ),
    "statistics over a batch": (
        "from hvae_spec import extend\nfrom hvae_spec.nn.batch_norm import BatchNorm\n\n\n"
        '@extend.norm("mine", "Mine", "N(a_j)")\nclass Mine(BatchNorm):\n    pass\n',
        5,
        "ValueError: mine: expected a class whose statistics are not over a batch; only `batch` has those",
    ),
    "a normalization of nothing": (
        'from hvae_spec import extend\n\nextend.norm("mine", "Mine", "")\n',
        3,
        "ValueError: mine: without an equation nothing would be normalized",
    ),
    "a setting that hides an argument": (
        "from hvae_spec import extend\n\n\nclass Mine(extend.Settings):\n    inputs: extend.Count = 2\n\n\n"
        'extend.mapping("mine", "", Mine)\n',
        8,
        "ValueError: mine.inputs: of a mapping, style, inputs, widths mean something else; expected another name",
    ),
    "no word": (
        'from hvae_spec import extend\n\nextend.observation("my beta", "", 2)\n',
        3,
        "ValueError: 'my beta': expected a name of lower-case letters, digits and _, beginning with a letter",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_in_a_file_is_one_message_with_its_line(name, tmp_path, capsys):
    text, line, message = FAULTS[name]
    path = write(tmp_path, parts=text)
    (problem,) = faults(path)
    assert (problem.place.source, problem.place.line) == (str(tmp_path / "my_parts.py"), line)
    assert message in problem.message
    assert main([str(path), "--plan"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_fails_registers_nothing(tmp_path):
    faults(write(tmp_path, parts=PARTS + "1 / 0\n"))
    assert "snake" not in NONLINEARITIES
    load(write(tmp_path))


def test_what_a_file_is_the_first_to_import_is_no_part_of_it(tmp_path):
    """The built-in optimizers, say, which nothing has needed before."""
    path = write(tmp_path, parts=PARTS + "1 / 0\n")
    code = (
        "from hvae_spec import load\n"
        "from hvae_spec.errors import SpecError\n"
        "try:\n"
        f"    load({str(path)!r})\n"
        "except SpecError:\n"
        "    from hvae_spec.training.optimizer import OPTIMIZERS\n"
        "    print('adam' in OPTIMIZERS)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True\n"


NAMES = {
    "nowhere": (["nowhere.py"], "no such file: "),
    "a folder": (["."], "a folder, not a file: "),
    "no list": ("my_parts.py", "extensions: a list is needed"),
    "no name": ([3], "an extension must be a file name"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_not_there_is_located_in_the_spec(name, tmp_path):
    value, message = NAMES[name]
    path = write(tmp_path, extensions=value)
    (problem,) = faults(path)
    assert problem.message.startswith(message)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("extensions"))
    assert (problem.place.source, problem.place.line - line) == (str(path), int(isinstance(value, list)))


def test_a_file_that_would_have_to_be_waited_for_is_refused(tmp_path):
    path = write(tmp_path)
    (tmp_path / "my_parts.py").unlink()
    os.mkfifo(tmp_path / "my_parts.py")
    (problem,) = faults(path)
    assert "cannot be read (not a file)" in problem.message
    assert problem.place.source == str(path)


def test_mistakes_in_what_an_extension_adds_are_located_and_answered(tmp_path):
    path = write(tmp_path, grid={"variants": {"one": {"training.optimizer": {"adamax": {"epss": 1e-8}}}}})
    (problem,) = faults(path)
    assert "unknown key 'epss'" in problem.message
    assert problem.suggestion == "eps"
    (problem,) = faults(write(tmp_path, grid={"variants": {"one": {"model.observation": "laplase"}}}))
    assert problem.suggestion == "laplace"
    (problem,) = faults(write(tmp_path, grid={"variants": {"one": {"objective.term": {"shrink": {"weight": -1.0}}}}}))
    assert problem.expected == "a number greater than 0"


def test_without_an_extension_its_parts_are_no_choice(tmp_path):
    load(write(tmp_path))
    forget()
    path = write(tmp_path, extensions=[], objective={"term": "shrink"})
    (problem,) = faults(path)
    assert problem.expected == "a name that a file under `extensions` registers"


def test_the_schema_for_editors_has_what_is_added(tmp_path):
    before = json_schema()
    load(write(tmp_path))
    settings = json_schema()["$defs"]["Weight"]["properties"]["weight"]
    assert settings["description"] == "The factor."
    assert json_schema()["$defs"]["Weight"]["description"] == "How much."
    forget()
    assert json_schema() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    weight: extend.Positive = 0.1\n", "shrink.weight: a term has its settings once in a pack"),
        ("    power: extend.Positive = 2.0\n", "rms.power: a normalization has its settings once in a pack"),
        ("    share: extend.Positive = 1.0\n", "damped.share: a mapping has its settings once in a pack"),
    ],
)
def test_what_a_pack_has_once_has_no_settings_per_member(line, words, tmp_path, capsys):
    path = write(tmp_path)
    assert PARTS.count(line) == 1
    per_member = PARTS.replace(line, line.replace("extend.Positive", "Annotated[extend.Positive, extend.PerMember()]"))
    imported = "from typing import Annotated\n\nimport torch\n"
    (tmp_path / "my_parts.py").write_text(per_member.replace("import torch\n", imported, 1))
    assert main([str(path), "--plan"]) == 2
    assert words in capsys.readouterr().err


def test_members_of_a_pack_share_a_mapping_and_its_settings(tmp_path):
    axes = {"model.mapping": ["mlp", "damped", {"damped": {"share": 0.5}}]}
    plain, default, half = (one.spec for one in read(write(tmp_path, grid={"axes": axes})).members)
    assert default.model.mapping.settings.share == 1
    assert len({shape(plain), shape(default), shape(half)}) == 3
    assert shape(half) == shape(half.model_copy(update={"seed": 1}))


def test_a_mapping_that_is_none_of_the_papers_is_marked_beside_published_numbers(results):
    members = analysis.load(results).members
    chosen = members[members["variant"] == "mapping damped"]
    marks = [one.text for one in differences(chosen, "VAE") if one.text.startswith("mapping ")]
    assert marks == ["mapping damped share 0.5 (mlp)"]
    plain = differences(members[members["variant"] == "plain"], "VAE")
    assert not [one for one in plain if one.text.startswith("mapping ")]


def test_a_normalization_is_none_of_the_papers(results):
    """Without its code, of a record and of an entry of a frame alike."""
    members = analysis.load(results).members
    names = dict(zip(members["variant"], variants(members), strict=True))
    assert (names["plain"], names["normalization rms"], names["normalization halve"]) == ("VAE", None, None)
    (entry,) = members.loc[members["variant"] == "normalization rms", "norm"]
    found = in_column(entry)
    assert (found.label, found.heads, found.of_batch, found.settings) == ("+rms", True, False, {"power": 3.0})
    spec = record_of(results, "normalization rms").spec
    assert (spec.label, spec.model.normalization) == ("VAE+rms", found)
    assert parameters(spec, 64) == sum(
        value.size for value in load_file(record_of(results, "normalization rms").weights).values()
    )


def test_a_hidden_layer_of_one_unit_is_refused_where_a_normalization_says_so(tmp_path):
    layers = [{"units": 3, "mlp": [1]}, {"units": 2, "mlp": [4]}]
    (problem,) = faults(write(tmp_path, model={"layers": layers, "norm": "rms"}))
    assert problem.message.startswith("root mean power of a hidden layer of one unit")
    load(write(tmp_path, model={"layers": layers, "norm": "halve"}))


def test_the_plain_program_of_the_benchmark_has_no_other_mapping(tmp_path):
    (one,) = read(write(tmp_path, model={**SPEC["model"], "mapping": "damped"})).members
    with pytest.raises(UserError, match=r"the plain program has no mapping damped: add it to tune/bench/baseline"):
        plain_model(one.spec)


def test_a_term_is_refused_beside_weights_that_are_derived_without_it(tmp_path):
    objective = {"term": "shrink", "estimator": "dreg", "iw_samples": 3}
    (problem,) = faults(write(tmp_path, objective=objective))
    assert problem.message.startswith("the estimator dreg with 3 importance samples and a term of an extension")
    load(write(tmp_path, objective={**objective, "iw_samples": 1}))


def test_a_term_is_refused_beside_classes_of_which_it_would_be_a_mean(tmp_path):
    data, model = {**SPEC["data"], "labeled": "all"}, {**SPEC["model"], "classes": {"mlp": [4]}}
    phases = {"objective": {"term": "shrink"}, "training": {**SPEC["training"], "first_phase": {"epochs": 1}}}
    (problem,) = faults(write(tmp_path, data=data, model=model, **phases))
    assert problem.message.startswith("a term of an extension, which would be added for every class")
    assert problem.place.line == read_line(tmp_path / "spec.yaml", "term: shrink")
    first = {"training": {**SPEC["training"], "first_phase": {"epochs": 1, "term": "shrink"}}}
    (problem,) = faults(write(tmp_path, data=data, model=model, **first))
    assert problem.place.line == read_line(tmp_path / "spec.yaml", "term: shrink")
    load(write(tmp_path, data=data, model=model))
    parts = PARTS + EVERY_GRADIENT
    load(write(tmp_path, parts=parts, objective={"estimator": "every"}))
    (problem,) = faults(write(tmp_path, parts=parts, data=data, model=model, objective={"estimator": "every"}))
    assert problem.message.startswith("the estimator every, which is derived for a bound without a sum over y")


EVERY_GRADIENT = """

@extend.estimator("every", "all of it", is_path=False)
def every(model, x, noise, weigh, beta, iw_samples):
    raise NotImplementedError
"""


def test_a_base_names_its_own_extensions(tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below")
    (tmp_path / "more.py").write_text(
        'from hvae_spec import extend\n\n\n@extend.nonlinearity("same", "a")\ndef same(a):\n    return a\n'
    )
    child = {"base": "below/spec.yaml", "extensions": ["more.py"], "model": {"nonlinearity": "same"}}
    (tmp_path / "child.yaml").write_text(yaml.safe_dump({**child, "objective": {"term": "shrink"}}))
    experiment = load(tmp_path / "child.yaml")
    assert experiment.extensions == (str(tmp_path / "below" / "my_parts.py"), str(tmp_path / "more.py"))


@pytest.mark.parametrize("how", [["--set", "extensions=[evil.py]"], ["--profile", "evil"], ["--profile", "worse"]])
def test_no_override_and_no_profile_names_a_file_to_run(how, tmp_path, capsys):
    profiles = {"evil": {"extensions": ["evil.py"]}, "worse": {"extensions.0": "evil.py"}}
    path = write(tmp_path, extensions=[], profiles=profiles)
    assert main([str(path), "--plan", *how]) == 2
    assert "extensions" in capsys.readouterr().err


def test_a_spec_as_text_names_files_from_the_working_folder(tmp_path, monkeypatch):
    path = write(tmp_path, model={**SPEC["model"], "observation": "laplace"})
    monkeypatch.chdir(tmp_path)
    assert list(reads(path.read_text()).members[0].spec.parts) == ["observation laplace"]


def test_parts_compute_what_they_say(tmp_path):
    cells = {cell.variant: cell.member for cell in read(every_part(tmp_path)).cells}
    a = torch.linspace(-2, 2, 5)
    f = compiler.nonlinearity(cells["nonlinearity snake"].model)
    assert torch.equal(f(a), a + torch.sin(2 * a) ** 2 / 2)
    model = compile(cells["added term shrink"])
    for name, words in (("mapping damped", ["MLP (damped, share 0.5): each"]), ("plain", [])):
        said = [line.strip() for line in compile(cells[name]).summary().splitlines() if "MLP" in line]
        assert [line[: len(text)] for line, text in zip(said, words, strict=True)] == words
    norm = NORMS["rms"](2, 4, eps=0.5, power=3.0)
    x = torch.randn(2, 4, 1, 3)
    assert torch.allclose(norm(x)[1, :, 0, 2], x[1, :, 0, 2] / (x[1, :, 0, 2].abs().pow(3).mean() + 0.5).pow(1 / 3))
    normalized = compile(cells["normalization rms"]).module
    assert {one.power for one in normalized.modules() if isinstance(one, type(norm))} == {3.0}
    assert sum(isinstance(one, type(norm)) for one in normalized.modules()) == 4 + 3
    for name in ("normalization rms", "normalization halve", "mapping damped"):
        trained = sum(value.numel() for value in compile(cells[name]).module.parameters())
        assert parameters(cells[name], 64) == trained
    mapped, unmapped = (compile(cells[name]).module for name in ("mapping damped", "plain"))
    for one, other in zip(mapped.modules(), unmapped.modules(), strict=True):
        if isinstance(other, MLP):
            y = torch.randn(1, other.linears[0].weight.shape[2], 2, 3)
            assert torch.equal(one(y), 0.5 * other(y))
    x = torch.rand(4, 64, generator=torch.Generator().manual_seed(0)).round()
    noise = [torch.zeros(1, units, 1, 4) for units in (3, 2)]
    trace = model.module(x[None], noise)
    objective = compiler.objective([cells["added term shrink"].objective])
    plain = compiler.objective([cells["plain"].objective])
    beta = torch.ones(1)
    gap = plain(model.module, x[None], noise, beta, 1)[1] - objective(model.module, x[None], noise, beta, 1)[1]
    assert gap.item() == pytest.approx(0.5 * trace.latents[0].square().sum(1).mean().item(), rel=1e-3)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder of a grid with every part, whose files have run in no process but that of the run."""
    folder = tmp_path_factory.mktemp("extended")
    with mock.patch.object(report, "write", return_value=report.Report(Table(), (), "", ())):
        assert main([str(every_part(folder)), *OPTIONS, "--results", str(folder / "r")]) == 0
    forget()
    (folder / "my_parts.py").unlink()
    return folder / "r"


def record_of(results, variant):
    slug = variant.replace(" ", "-").replace("_", "-")
    return next(record for record in Results(results).records if f"-{slug}-" in record.folder.name)


def test_the_results_keep_a_copy_of_the_file(results):
    (copy,) = (results / "extensions").iterdir()
    assert copy.read_text() == PARTS
    assert copy.stem == extensions.read(copy).sha256


def test_records_are_read_without_the_code(results):
    members = analysis.load(results).members.set_index("variant")
    assert set(members["status"]) == {"finished"}
    assert members.loc["observation laplace", "observation"] == "laplace"
    assert members.loc["nonlinearity snake", "nonlinearity"] == '{"snake": 2.0}'
    assert members.loc["mapping damped", "mapping"] == '{"damped": {"share": 0.5}}'
    assert members.loc["plain", "mapping"] == "mlp"
    assert members.loc["normalization rms", "norm"] == '{"rms": {"power": 3.0}}'
    assert members.loc["normalization halve", ["norm", "batch_norm"]].tolist() == ["halve", False]
    assert members.loc["optimizer adamax", ["learning_rate", "optimizer_adamax_eps"]].tolist() == [0.002, 1e-8]
    assert members.loc["plain", "learning_rate"] == 0.001
    assert members.loc["added term shrink", "added_term"] == '{"shrink": {"weight": 0.5}}'
    for record in Results(results).records:
        spec = record.spec
        assert spec.digests.training[:12] == record.folder.name[-12:]
        assert (spec.digests.trajectory, spec.digests.training) == (record.training.trajectory, record.training.digest)
        assert spec.digests.evaluation == record.evaluations[-1].result.digest
        assert MemberSpec.model_validate(spec.stated).digests == spec.digests
    assert extensions._RUN == {}


def test_a_first_phase_is_known_without_the_code(tmp_path):
    first = {"epochs": 1, "term": {"shrink": {"weight": 0.5}}, "estimator": "stl"}
    (member,) = read(write(tmp_path, training={"epochs": 2, "batch_size": 32, "first_phase": first})).members
    stated, digests = member.spec.stated, member.spec.first_phase.digests
    forget()
    again = MemberSpec.model_validate(stated)
    assert again.digests == member.spec.digests
    assert again.first_phase.digests == digests
    assert again.first_phase.objective.estimator == "stl"


OTHER_VERSION = {
    "a + sin(b * a)**2 / b": "a + b",
    "share times that": "that times share",
    "numbers_per_unit=1": "numbers_per_unit=3",
    'Laplace(μ(z_1), b(z_1))", heads=2': 'L(z_1)", heads=3, x=extend.X.BINARY',
    "- λ |z_1|²": "- λ |z_1|^2",
    "numbers_per_parameter=2": "numbers_per_parameter=7",
    "W ~ N(0, 1 / n_in)": "W ~ N(0, 1)",
}
"""What another version of the parts says in place of what they say: other facts of every description."""


def versions(folder):
    """Members of the same spec with two versions of a file, as records state them."""
    named = {"mapping": "damped", "norm": "rms", "observation": "laplace", "initialization": "lecun"}
    changes = {
        "model": {**SPEC["model"], **named, "nonlinearity": {"snake": 2.0}},
        "objective": {"term": "shrink"},
        "training": {**SPEC["training"], "optimizer": {"adamax": {}}},
    }
    other = PARTS
    for one, another in OTHER_VERSION.items():
        assert other.count(one) == 1
        other = other.replace(one, another)
    stated = [read(write(folder, parts=parts, **changes)).members[0].spec.stated for parts in (PARTS, other)]
    assert all(len(tree["parts"]) == len(OTHER_VERSION) for tree in stated)
    return stated


def facts(spec):
    """What descriptions say of the parts of a member, on the ways on which it is asked."""
    return {
        "nonlinearity": equation(spec.model.nonlinearity),
        "mapping": equations.mapping(spec.model),
        "observation": described(spec.model.observation),
        "initialization": INITIALIZATIONS[spec.model.initialization],
        "term": equations.objective(spec.objective, spec.model),
        "parameters": parameters(spec, 64),
        "numbers": spec.training.numbers_per_parameter,
        "is binary": is_binary(spec.data.dataset, spec.model.observation_name),
        "bits": bits_per_dim(spec.model_dump(mode="json"), {"shape": [8, 8], "levels": 17}, -64 * math.log(2)),
        "digests": spec.digests,
    }


@pytest.mark.parametrize("has_run", [False, True], ids=["neither has run", "one has run"])
def test_two_versions_of_a_file_are_told_apart_in_one_process(has_run, tmp_path):
    stated = versions(tmp_path)
    alone = []
    for tree in stated:
        forget()
        alone.append(facts(MemberSpec.model_validate(tree)))
    assert not [key for key in alone[0] if alone[0][key] == alone[1][key]]
    forget()
    if has_run:
        load(write(tmp_path))
    specs = [MemberSpec.model_validate(tree) for tree in stated]
    assert [facts(spec) for spec in specs] == alone
    assert [facts(MemberSpec.model_validate(spec.stated)) for spec in specs] == alone
    assert [facts(pickle.loads(pickle.dumps(spec))) for spec in specs] == alone
    assert [facts(copy.deepcopy(spec)) for spec in specs] == alone
    assert yaml.safe_load(yaml.safe_dump(specs[1].stated)) == specs[1].stated == stated[1]


def test_a_schedule_of_another_version_is_another_one(tmp_path):
    """A longer training goes on from a shorter one where their schedules agree: another version's code cannot tell."""
    changes = {"training": {**SPEC["training"], "schedule": {"halving": {"start": 0.02}}}}
    (first,) = read(write(tmp_path, **changes)).members
    stated = first.spec.stated
    (second,) = read(write(tmp_path, parts=PARTS.replace("0.5 ** (epoch", "0.25 ** (epoch"), **changes)).members
    recorded = MemberSpec.model_validate(stated)
    assert recorded.digests.trajectory == second.spec.digests.trajectory
    assert disagreement(recorded, second.spec, 2) == (1, "training.schedule")
    assert disagreement(MemberSpec.model_validate(second.spec.stated), second.spec, 2) is None


def test_what_was_read_of_records_is_no_choice_in_a_spec(results, tmp_path):
    assert analysis.load(results).members["observation"].eq("laplace").any()
    (problem,) = faults(write(tmp_path, extensions=[], model={**SPEC["model"], "observation": "laplace"}))
    assert "is not a choice" in problem.message


def test_models_and_objectives_are_described_without_the_code(results):
    found = models(analysis.load(results))
    lines = [line for one in found.architectures for line in equations.equations(one.member.model)]
    assert "p(x|z_1) = Laplace(μ(z_1), b(z_1))" in lines
    mapped = "each hidden layer is f(N(W h)), and the last one share times that"
    said = [line for line in lines if "N(W h)" in line]
    heads = "heads of the latents: μ = N(Linear(d)),  σ² = softplus(N(Linear(d))) + 1e-06"
    assert sorted(said) == [
        f"MLP (damped, share 0.5): {mapped};  N(a_j) = a_j + b_j",
        "MLP: each hidden layer is f(N(W h))",
        f"MLP: each hidden layer is f(N(W h));  {heads}",
    ]
    assert "N(a_j) = γ_j a_j / (mean |a|^power + ε)^(1 / power),  ε = 1e-05,  power = 3.0" in lines
    (words,) = {one.normalization for one in found.architectures if "normalization rms" in one.variants}
    assert words.startswith("Root mean power of every hidden layer and of the heads of the latents, ")
    assert any("λ |z_1|²" in line for lines, _ in found.objectives for line in lines)
    assert extensions._RUN == {}


@pytest.mark.slow
def test_the_report_needs_no_code_and_shows_the_equations(results, capsys):
    assert hvae(["report", str(results)]) == 0
    assert "Laplace(μ(z_1), b(z_1))" in (results / "report.html").read_text()
    assert "λ |z_1|²" in (results / "report.html").read_text()
    assert "Runs extensions" not in capsys.readouterr().err


def test_a_model_is_loaded_with_its_code_only_on_demand(results, tmp_path, capsys):
    record = record_of(results, "observation laplace")
    with pytest.raises(RecordError, match=r"uses parts of extensions, observation laplace \(my_parts\.py\)"):
        load_record(record.folder)
    out = tmp_path / "samples.png"
    assert sample([str(record.folder), "--out", str(out)]) == 2
    assert "--extensions" in capsys.readouterr().err
    assert sample([str(record.folder), "--out", str(out), "--extensions"]) == 0
    assert "Runs extensions" in capsys.readouterr().err
    model = load_record(record.folder, extensions=True)
    result = record.evaluations[-1].result
    assert model.evaluate(model.test_images()).log_likelihood.mean().item() == pytest.approx(result.test_log_likelihood)
    kept = model.save(tmp_path / "kept")
    forget()
    assert load_record(kept, extensions=True).sample(2).shape == (2, 64)


@pytest.mark.parametrize("part", ["optimizer adamax", "schedule halving"])
def test_a_model_needs_no_code_of_its_training(results, part, capsys):
    record = record_of(results, part)
    forget()
    model = load_record(record.folder)
    result = record.evaluations[-1].result
    assert model.evaluate(model.test_images()).log_likelihood.mean().item() == pytest.approx(result.test_log_likelihood)
    assert model.sample(2).shape == (2, 64)
    assert extensions._RUN == {}
    assert "Runs extensions" not in capsys.readouterr().err


def test_a_copy_that_was_changed_does_not_run(results, tmp_path):
    shutil.copytree(results, tmp_path / "r")
    (copy,) = (tmp_path / "r" / "extensions").iterdir()
    copy.write_text(copy.read_text() + "raise SystemExit('evil')\n")
    record = record_of(tmp_path / "r", "optimizer adamax")
    with pytest.raises(RecordError, match="changed since it was written"):
        load_record(record.folder, extensions=True)
    copy.unlink()
    with pytest.raises(RecordError, match="no such file, and a record's parts are of it"):
        load_record(record.folder, extensions=True)


def test_the_spec_of_a_record_is_printed_without_its_code(results, capsys):
    record = record_of(results, "optimizer adamax")
    assert main([str(record.folder), "--print-spec"]) == 0
    out, err = capsys.readouterr()
    assert not err
    tree = yaml.safe_load(out)
    assert tree["training"]["optimizer"] == {"adamax": {"lr": 0.002, "eps": 1e-8}}
    (found,) = reads(out).members
    assert found.digests.training == record.training.digest
    assert main([str(record.folder)]) == 2
    assert "no code of a record is run" in capsys.readouterr().err


def test_a_worker_runs_the_copy_that_it_finds(results):
    """What is pickled for another process is plain, and gets its code there."""
    path = results.parent
    (path / "my_parts.py").write_text(PARTS)
    spec = read(path / "spec.yaml").members
    (path / "my_parts.py").unlink()
    jobs = {one.labels["variant"]: one for one in spec}
    text = pickle.dumps(jobs["optimizer adamax"])
    code = (
        "import pickle, sys\n"
        "from dataclasses import replace\n"
        "from hvae_spec.pack_job import PackJob\n"
        "from hvae_spec.pack import PackRun\n"
        f"member = pickle.loads({text!r})\n"
        "assert type(member.spec.training.optimizer.settings).__name__ == 'PlainSettings'\n"
        f"run = PackRun(PackJob('x', (member,), __import__('pathlib').Path({str(results)!r})))\n"
        "print(type(run.specs[0].training.optimizer.settings).__name__, run.specs[0].digests == member.digests)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "Adamax True\n", done.stderr


def test_what_was_done_is_not_done_again(results, capsys):
    folder = results.parent
    (folder / "my_parts.py").write_text(PARTS)
    with mock.patch.object(report, "write", return_value=report.Report(Table(), (), "", ())):
        assert main([str(folder / "spec.yaml"), *OPTIONS, "--results", str(results)]) == 0
    assert "Nothing is left to run" in capsys.readouterr().out
    (folder / "my_parts.py").unlink()


def test_parts_that_are_none_are_a_damaged_record(results, tmp_path):
    tree = record_of(results, "optimizer adamax").spec_tree
    for parts in ({"optimizer adamax": 3}, {"optimiser adamax": tree["parts"]["optimizer adamax"]}, [1]):
        record = Record(tmp_path / "r")
        record.folder.mkdir(exist_ok=True)
        (record.folder / "spec.yaml").write_text(json.dumps({**tree, "parts": parts}))
        with pytest.raises(UserError, match="not the spec of a record"):
            _ = record.spec

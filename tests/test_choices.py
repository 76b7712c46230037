"""A choice is one description and one implementation under one name, and joins by registering the two."""

import ast
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

import analysis
from hvae_spec import compiler, sample
from hvae_spec.data.batches import draw_once
from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import LOADERS, load_dataset
from hvae_spec.data.images import RawImages
from hvae_spec.errors import SpecError, UserError
from hvae_spec.json_schema import json_schema
from hvae_spec.model import Model, load_record
from hvae_spec.nn import (
    estimators,
    flow,
    gaussian,
    inference,
    initialization,
    likelihood,
    nonlinearity,
    norm,
    objective,
    prior,
)
from hvae_spec.nn.gaussian import DiagonalGaussian
from hvae_spec.nn.linear import Linear
from hvae_spec.reading import reads
from hvae_spec.records.layout import Results
from hvae_spec.registry import _FORGET, Registry
from hvae_spec.spec.base import Fraction, Positive, SpecModel
from hvae_spec.spec.choices.dataset import DATASETS, Dataset, ImageCounts
from hvae_spec.spec.choices.estimator import ESTIMATORS, Estimator
from hvae_spec.spec.choices.flow import FLOWS, FlowModel
from hvae_spec.spec.choices.inference import INFERENCES, InferenceModel
from hvae_spec.spec.choices.initialization import INITIALIZATIONS, Initialization
from hvae_spec.spec.choices.mapping import MAPPINGS, DeterministicMapping
from hvae_spec.spec.choices.nonlinearity import NONLINEARITIES, Nonlinearity, equation
from hvae_spec.spec.choices.norm import NORMS, Norm
from hvae_spec.spec.choices.observation import OBSERVATIONS, Observation
from hvae_spec.spec.choices.optimizer import NUMBER, OPTIMIZERS, Optimizer, OptimizerSection, OptimizerSettings
from hvae_spec.spec.choices.prior import PRIORS, PriorModel
from hvae_spec.spec.choices.schedule import SCHEDULES, LearningRateSchedule, ScheduleSection
from hvae_spec.spec.choices.term import TERMS, Term
from hvae_spec.spec.cost import mappings, parameters
from hvae_spec.spec.equations import equations
from hvae_spec.spec.experiment import MemberSpec
from hvae_spec.spec.fields import Column, PerMember, paths_stating
from hvae_spec.spec.mapping import Mapping
from hvae_spec.training import optimizer, schedules
from hvae_spec.training.trainer import Trainer
from tests.members import member
from tests.spec.small_spec import SMALL
from tune.bench import baseline, baseline_flows, baseline_observations, baseline_priors, comparison
from tune.measure.cache import shape_name
from tune.run import main

ROOT = Path(__file__).parent.parent
PUBLISHED = [name for name in DATASETS if DATASETS[name].counts is not None]
PAIRS = {
    "inference": (INFERENCES, inference.INFERENCES, baseline.MODELS),
    "observation": (OBSERVATIONS, likelihood.LIKELIHOODS, baseline_observations.DECODERS, baseline_observations.DRAWS),
    "nonlinearity": (NONLINEARITIES, nonlinearity.NONLINEARITIES, baseline.NONLINEARITIES),
    "mapping": (MAPPINGS, gaussian.MAPPINGS, baseline.MAPPINGS),
    "initialization": (INITIALIZATIONS, initialization.INITIALIZATIONS),
    "norm": (NORMS, norm.NORMS, baseline.NORMS),
    "flow": (FLOWS, flow.FLOWS, baseline_flows.FLOWS),
    "prior": (PRIORS, prior.PRIORS, baseline_priors.PRIORS),
    "optimizer": (OPTIMIZERS, optimizer.OPTIMIZERS, baseline.OPTIMIZERS),
    "schedule": (SCHEDULES, schedules.SCHEDULES),
    "objective term": (TERMS, objective.TERMS, baseline.TERMS),
    "estimator": (ESTIMATORS, estimators.ESTIMATORS),
    "data set": (PUBLISHED, LOADERS),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_choice_has_a_description_an_implementation_and_a_plain_counterpart(kind):
    described, *others = PAIRS[kind]
    for other in others:
        assert set(other) == set(described)


def test_a_name_is_registered_once():
    colors: Registry[str] = Registry("color")
    colors.add("red", "#f00")
    with pytest.raises(ValueError, match="there is a color named 'red' already"):
        colors.add("red", "#e00")
    assert (list(colors), colors["red"], len(colors)) == (["red"], "#f00", 1)
    with pytest.raises(UserError, match="no color is named 'rde': expected one of red"):
        colors["rde"]


def names_of_choices():
    """All names but those that mean something else as well."""
    names = {name for described, *_ in PAIRS.values() for name in described} | {"own"}
    return names - {"torch", "prior", "likelihood", "none", "batch", "layer", "mlp"}


@pytest.mark.parametrize(
    "path",
    sorted(path for package in ("hvae_spec", "tune", "analysis") for path in (ROOT / package).rglob("*.py")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_code_asks_for_a_choice_by_its_name(path):
    names = names_of_choices()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare | ast.MatchValue):
            compared = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            assert not {value for value in compared if isinstance(value, str)} & names, f"line {node.lineno}"


NUMBERS = {"exp": math.exp, "log": math.log, "tanh": math.tanh, "Φ": lambda a: 0.5 * (1 + math.erf(a / math.sqrt(2)))}


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_a_nonlinearity_is_what_its_equation_says(name):
    described = NONLINEARITIES[name]
    parameters = {} if described.parameter is None else {described.parameter: 0.7}
    spec = member(model__nonlinearity=name if described.parameter is None else {name: 0.7})
    f = compiler.nonlinearity(spec.model)
    for a in (-3.0, -0.5, 0.2, 2.5):
        expected = eval(described.equation, {"max": max, **NUMBERS, **parameters, "a": a})
        assert f(torch.tensor(a)).item() == pytest.approx(expected, rel=1e-5)
    if described.parameter is not None:
        assert described.parameter in inspect.signature(nonlinearity.NONLINEARITIES[name]).parameters
        assert equation(spec.model.nonlinearity).endswith(f", {described.parameter} = 0.7")


@pytest.mark.parametrize("name", INFERENCES)
def test_only_a_model_with_a_path_down_has_mappings_that_can_be_shared(name):
    described = INFERENCES[name]
    spec = member(3, model__inference=name)
    own = list(described.mappings(spec.model.layers, 64, shared=False))
    shared = list(described.mappings(spec.model.layers, 64, shared=True))
    assert (len(own) > len(shared)) is described.top_down
    if described.top_down and not described.can_share:
        with pytest.raises(SpecError, match="none of the generative model's"):
            reads(SMALL, overrides=[f"model.inference={name}", "model.share_top_down=true"])


class WithoutSkip(type(INFERENCES["vae"])):
    """An inference model that says nothing of skip connections."""

    with_skip = InferenceModel.with_skip


def test_an_inference_model_without_skip_connections_is_refused_where_q_is_to_have_them(monkeypatch):
    monkeypatch.setitem(INFERENCES._items, "bare", WithoutSkip())
    overrides = ["model.inference=bare", "model.skip=both"]
    with pytest.raises(SpecError, match="bare inference has no skip connections"):
        reads(SMALL, overrides=overrides)
    reads(SMALL, overrides=["model.inference=bare", "model.skip=generative"])


@pytest.mark.parametrize("name", [name for name in INFERENCES if INFERENCES[name].in_sweeps(2) is None])
def test_an_inference_model_of_a_single_sweep_is_refused_where_there_are_to_be_several(name):
    text = SMALL.replace("model:", f"model:\n  inference: {name}\n  inference_steps: 3")
    with pytest.raises(SpecError) as error:
        reads(text)
    (problem,) = error.value.problems
    assert problem.message == f"{name} inference has a single sweep, not 3"
    assert problem.expected == "inference: ladder, or inference_steps: 1"
    assert problem.place.text == "  inference_steps: 3"


@pytest.mark.parametrize("name", [name for name in INFERENCES if INFERENCES[name].with_one_layer])
def test_with_one_layer_a_model_is_the_simpler_one_that_it_says(name):
    one = member(1, model__inference=name)
    other = member(1, model__inference=INFERENCES[name].with_one_layer)
    assert equations(one.model) == equations(other.model)
    assert list(mappings(one, 64)) == list(mappings(other, 64))
    assert one.digests == other.digests
    assert {key: value.shape for key, value in compiler.initialized([one], 64).state_dict().items()} == {
        key: value.shape for key, value in compiler.initialized([other], 64).state_dict().items()
    }


@pytest.fixture
def mish(monkeypatch):
    """A nonlinearity of a user's own, for the time of a test."""
    monkeypatch.setitem(NONLINEARITIES._items, "mish", Nonlinearity("a * tanh(log(1 + exp(a)))"))
    monkeypatch.setitem(nonlinearity.NONLINEARITIES._items, "mish", torch.nn.functional.mish)


@pytest.mark.usefixtures("mish")
def test_a_choice_may_join_later():
    spec = member(model__nonlinearity="mish")
    assert "mish" in json_schema()["$defs"]["ModelSpec"]["properties"]["nonlinearity"]["oneOf"][0]["enum"]
    assert equation(spec.model.nonlinearity) == "f(a) = a * tanh(log(1 + exp(a)))"
    compiled = compiler.initialized([spec], 64)
    assert compiled.inference.up[0].mlp.nonlinearity is torch.nn.functional.mish
    with pytest.raises(UserError, match=r"the plain program has no nonlinearity mish: add it to tune/bench/baseline"):
        comparison.plain_model(spec)


class LaplaceLikelihood(likelihood.GaussianLikelihood):
    """log p(x|z_1) = sum_d [-log(2 b_d) - |x_d - mu_d| / b_d]."""

    def forward(self, z, x):
        parameters = self.distribution(z)
        scale = parameters.variance
        return -((2 * scale).log() + (x - parameters.mean).abs() / scale).sum(1)


def noise():
    images = np.random.default_rng(0).integers(0, 2, (120, 9), dtype=np.uint8)
    labels = np.zeros(120, dtype=np.int64)
    return RawImages(images[:100], images[100:], labels[:100], labels[100:], 2, (3, 3), True)


def test_an_observation_model_and_a_data_set_join_and_are_trained_and_evaluated(monkeypatch):
    laplace = Observation("p(x|z_1) = Laplace(μ(z_1), b(z_1))", heads=2)
    monkeypatch.setitem(OBSERVATIONS._items, "laplace", laplace)
    monkeypatch.setitem(likelihood.LIKELIHOODS._items, "laplace", LaplaceLikelihood)
    monkeypatch.setitem(DATASETS._items, "noise", Dataset(ImageCounts(9, 100, 20), levels=2, comes_with="numpy"))
    monkeypatch.setitem(LOADERS._items, "noise", noise)
    data = {"data__dataset": "noise", "data__train_images": None, "data__test_images": None}
    spec = member(2, model__observation="laplace", model__batch_norm=False, training__batch_size=20, **data)
    assert image_counts(spec.data) == (9, 100, 20)
    assert laplace.equation in equations(spec.model)
    dataset = load_dataset(spec.data)
    trainer = Trainer([spec], dataset)
    assert parameters(spec, 9) == sum(p.numel() for p in trainer.parameters)
    assert trainer.train_epoch()[0]["train_bound"] < 0
    assert trainer.divergences == [None]
    x = draw_once(dataset, "test", "laplace")
    assert float(x.min()) >= 0
    assert not torch.equal(x, x.round())  # gray values are dequantized


def tempered(trace, beta):
    return 0.1 * trace.log_likelihood


class HeavyBall(OptimizerSettings):
    """Gradient descent with momentum."""

    momentum: Annotated[Fraction, PerMember(), NUMBER, Column("heavy_ball_momentum")] = 0.5


class HeavyBallSection(OptimizerSection):
    """The same by name."""

    heavy_ball: HeavyBall


def heavy_ball(groups, settings):
    options = [
        {"params": list(rows), "lr": one.lr, "momentum": one.momentum}
        for rows, one in zip(groups, settings, strict=True)
    ]
    return torch.optim.SGD(options)


class Halved(gaussian.MLP):
    """Half of what an MLP gives."""

    def forward(self, y):
        return 0.5 * super().forward(y)


class RootMeanSquare(torch.nn.Module):
    """a_j / sqrt(mean(a^2) + eps) over the units of a layer."""

    def __init__(self, members, units, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return x * (x.square().mean(1, keepdim=True) + self.eps).rsqrt()


class Shift(FlowModel):
    """z_i = z_0 + Linear(d)."""

    def equation(self, settings):
        return "z_i = z_0 + Linear(d)"

    def mappings(self, hidden, units, settings):
        yield Mapping("", (hidden, units), normalized_head=False, per_sample=False)


class ShiftFlow(flow.Flow):
    """The same in torch."""

    def __init__(self, style, inputs, units):
        super().__init__()
        self.head = Linear(style.members, inputs, units)
        self.heads = [self.head]

    def amortize(self, d):
        return self.head(d)

    def forward(self, z, parameters):
        return z + parameters, z.new_zeros(z.shape[0], 1, *z.shape[2:])

    def inverse(self, z, parameters):
        return z - parameters


class Halving(SpecModel):
    """Half the learning rate in every further epoch."""

    start: Positive = 1e-2


class HalvingSection(ScheduleSection):
    """The same by name."""

    halving: Halving


class Wide(PriorModel):
    """N(0, 4 I)."""

    factorizes = True

    def equation(self, settings):
        return "N(0, 4 I)"


class WideNormal(prior.Prior):
    """The same in torch."""

    factorizes = True

    def __init__(self, style, units, pixels):
        super().__init__()

    def forward(self, encoded):
        return DiagonalGaussian(torch.tensor(0.0), torch.tensor(4.0))


class Mirrored(type(INFERENCES["vae"])):
    """The bottom-up model under another name."""

    label = short = "Mirrored"


JOINING = {
    "nonlinearity": (
        [
            (NONLINEARITIES, "mish", Nonlinearity("a * tanh(log(1 + exp(a)))")),
            (nonlinearity.NONLINEARITIES, "mish", torch.nn.functional.mish),
        ],
        {"model.nonlinearity": "mish"},
    ),
    "observation": (
        [
            (OBSERVATIONS, "laplace", Observation("p(x|z_1) = Laplace(μ(z_1), b(z_1))", heads=2)),
            (likelihood.LIKELIHOODS, "laplace", LaplaceLikelihood),
        ],
        {"model.observation": "laplace"},
    ),
    "norm": (
        [
            (NORMS, "rms", Norm("Root mean square", "+RMS", "N(a_j) = a_j / √(mean(a²) + ε)", numbers_per_unit=0)),
            (norm.NORMS, "rms", RootMeanSquare),
        ],
        {"model.norm": "rms"},
    ),
    "mapping": (
        [(MAPPINGS, "halved", DeterministicMapping("f(N(W h)) / 2")), (gaussian.MAPPINGS, "halved", Halved)],
        {"model.mapping": "halved"},
    ),
    "flow": ([(FLOWS, "shift", Shift()), (flow.FLOWS, "shift", ShiftFlow)], {"model.flow": "shift"}),
    "prior": ([(PRIORS, "wide", Wide()), (prior.PRIORS, "wide", WideNormal)], {"model.prior": "wide"}),
    "objective term": (
        [(TERMS, "tempered", Term("0.1 log p(x|z_1)")), (objective.TERMS, "tempered", tempered)],
        {},
    ),
    "estimator": (
        [
            (ESTIMATORS, "whole", Estimator("dlog w/dφ", is_path=False)),
            (estimators.ESTIMATORS, "whole", estimators.reparameterized),
        ],
        {"objective.estimator": "whole"},
    ),
    "optimizer": (
        [
            (OPTIMIZERS, "heavy_ball", Optimizer(HeavyBallSection(heavy_ball=HeavyBall()), numbers_per_parameter=1)),
            (optimizer.OPTIMIZERS, "heavy_ball", heavy_ball),
        ],
        {"training.optimizer": {"heavy_ball": {"lr": 0.01, "momentum": 0.7}}},
    ),
    "schedule": (
        [
            (SCHEDULES, "halving", LearningRateSchedule(HalvingSection(halving=Halving()))),
            (schedules.SCHEDULES, "halving", lambda section, epoch: section.halving.start * 0.5 ** (epoch - 1)),
        ],
        {"training.schedule": {"halving": {"start": 0.02}}},
    ),
    "initialization": (
        [
            (INITIALIZATIONS, "lecun_normal", Initialization("W ~ N(0, 1 / n_in), b = 0")),
            (
                initialization.INITIALIZATIONS,
                "lecun_normal",
                initialization.Initialization(lambda n_in, n_out: 1 / n_in, normal=True),
            ),
        ],
        {"model.initialization": "lecun_normal"},
    ),
    "inference": (
        [(INFERENCES, "mirrored", Mirrored()), (inference.INFERENCES, "mirrored", inference.BottomUp)],
        {"model.inference": "mirrored"},
    ),
    "data set": (
        [
            (DATASETS, "noise", Dataset(ImageCounts(9, 100, 20), levels=2, comes_with="numpy")),
            (LOADERS, "noise", noise),
        ],
        {"data.dataset": "noise"},
    ),
}
"""For each kind of choice, one that joins: its entries in the registries, and the settings that choose it."""


@pytest.fixture
def join():
    """A function that enters an item in a registry for the time of a test."""
    entered = []

    def enter(registry, name, item):
        assert registry.add(name, item) is item
        entered.append((registry, name))

    yield enter
    for registry, name in entered:
        del registry._items[name]
    forget_what_is_kept()


def forget_what_is_kept():
    for forget in _FORGET:
        forget()


def test_a_prior_without_settings_is_no_standard_normal_in_names_and_titles(join, tmp_path, capsys):
    for entry in JOINING["prior"][0]:
        join(*entry)
    spec = member(2, model__prior="wide")
    assert shape_name(spec) == "digits L2 ladder+BN+wide"
    assert not shape_name(member(2)).endswith("wide")
    normals = {"wide": "the prior", "standard_normal": "N(0, I) at layer 1"}
    for name, words in normals.items():
        record = Model(member(1, model__prior=name, model__norm="none")).save(tmp_path / name)
        out = tmp_path / f"{name}.png"
        assert sample.main([str(record), "--out", str(out), "--layer", "1", "--count", "1"]) == 0
        assert capsys.readouterr().out.endswith(f" from {words}\n")


@pytest.mark.parametrize("kind", JOINING)
@pytest.mark.usefixtures("no_report")
def test_a_choice_that_joins_is_trained_evaluated_and_read(kind, join, tmp_path):
    assert set(JOINING) == set(PAIRS)
    before, schema = member().digests, json_schema()  # and what is kept for them
    entries, settings = JOINING[kind]
    for entry in entries:
        join(*entry)
    name = entries[0][1]
    assert (json_schema() != schema) == (name in json.dumps(json_schema()))
    assert member().digests == before
    spec = {
        "name": "joined",
        "data": {"dataset": "digits", "train_images": 64, "test_images": 16},
        "model": {"layers": [{"units": 3, "mlp": [6]}, {"units": 2, "mlp": [4]}]},
        "training": {"epochs": 2, "batch_size": 32},
        "evaluation": {"iw_samples": 4, "every": 1},
    }
    for path, value in settings.items():
        section, key = path.split(".")
        spec.setdefault(section, {})[key] = value
    (tmp_path / "joined.yaml").write_text(yaml.safe_dump(spec))
    options = ["--serial", "--cpus", "1", "--device", "cpu", "--results", str(tmp_path / "results")]
    assert main([str(tmp_path / "joined.yaml"), *options]) == 0
    frames = analysis.load(tmp_path / "results")
    assert list(frames.members["status"]) == ["finished"]
    (row,) = frames.members.to_dict("records")
    assert math.isfinite(row["test_log_likelihood"])
    assert len(frames.epochs) == 2
    # The settings of an optimizer are columns of their own: of those that had joined when analysis was imported.
    columns = {path.split(".")[1] for path in settings} & set(row)
    chosen = {name, *map(json.dumps, settings.values())}
    assert {row[column] for column in columns} <= chosen
    assert columns or kind in ("optimizer", "objective term")
    assert main([str(tmp_path / "joined.yaml"), *options, "--plan"]) == 0
    (record,) = Results(tmp_path / "results").records
    trained = sum(value.size for value in load_file(record.weights).values())
    assert parameters(record.spec, 9 if kind == "data set" else 64) == trained
    assert not settings or name in json.dumps(record.spec.model_dump(mode="json"))
    assert load_record(record.folder).sample(2).shape == (2, 9 if kind == "data set" else 64)


def test_what_is_kept_is_found_anew_when_a_choice_joins(join):
    before = paths_stating(MemberSpec, PerMember)
    for entry in JOINING["optimizer"][0]:
        join(*entry)
    found = paths_stating(MemberSpec, PerMember) - before
    assert found == {("training", "optimizer", "heavy_ball", name) for name in ("lr", "momentum")}
    one, two = (member(training__optimizer={"heavy_ball": {"lr": lr}}) for lr in (0.1, 0.2))
    # A learning rate is part of the schedule, of which the trajectory's digest has nothing.
    assert one.digests.trajectory == two.digests.trajectory
    assert one.digests.training != two.digests.training


def test_a_description_without_an_implementation_is_one_message(monkeypatch):
    monkeypatch.setitem(NONLINEARITIES._items, "mish", Nonlinearity("a * tanh(log(1 + exp(a)))"))
    with pytest.raises(UserError, match="no nonlinearity in torch is named 'mish': expected one of relu, "):
        compiler.initialized([member(model__nonlinearity="mish")], 64)


def test_planning_imports_no_torch(tmp_path):
    code = (
        "import sys\nfrom tune.run import main\n"
        f"code = main(['specs/quickstart.yaml', '--plan', '--results', {str(tmp_path / 'r')!r}])\n"
        "print(code, [name for name in ('torch', 'ray', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0 []"

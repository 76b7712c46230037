"""The choices of the language, and which of them go together: from here come a test and a table of the docs."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from hvae_spec.errors import SpecError
from hvae_spec.reading import reads
from hvae_spec.spec.choices.estimator import ESTIMATORS
from hvae_spec.spec.choices.observation import OBSERVATIONS
from hvae_spec.spec.experiment import MemberSpec

SPEC = """\
name: combined
data: {dataset: digits, train_images: 64, test_images: 16}
model: {layers: [{units: 4, mlp: [8]}, {units: 3, mlp: [6]}, {units: 2, mlp: [4]}]}
training: {epochs: 2, batch_size: 32}
evaluation: {iw_samples: 4}
"""


class Option(NamedTuple):
    """One way to set something that there are several ways to set."""

    choice: str
    """What is set."""
    name: str
    """What the table calls it."""
    settings: dict[str, str]
    """Overrides of `SPEC`, by dotted path, as YAML."""


def _named(choice: str, path: str, names: Any, default: str) -> list[Option]:
    """The options of a registry but its default."""
    return [Option(choice, name, {path: name}) for name in names if name != default]


OPTIONS = [
    # A VampPrior needs the ladder. The inference options come after it, so that theirs counts.
    Option("prior", "vamp, ladder", {"model.prior": "{vamp: 6}", "model.inference": "ladder"}),
    Option("prior", "mixture", {"model.prior": "{mixture: 4}"}),
    Option("prior", "realnvp", {"model.prior": "{realnvp: {blocks: 2, mlp: [5]}}"}),
    Option("inference", "ladder", {"model.inference": "ladder"}),
    Option("inference", "ladder, shared", {"model.inference": "ladder", "model.share_top_down": "true"}),
    Option("inference", "ladder, 2 steps", {"model.inference": "ladder", "model.inference_steps": "2"}),
    Option("inference", "top_down", {"model.inference": "top_down"}),
    Option("skip", "generative", {"model.skip": "generative"}),
    Option("skip", "both", {"model.skip": "both"}),
    Option("normalization", "batch", {"model.batch_norm": "true"}),
    Option("normalization", "batch, not the heads", {"model.norm": "{batch: {heads: false}}"}),
    Option("normalization", "layer", {"model.norm": "layer"}),
    Option("nonlinearity", "tanh", {"model.nonlinearity": "tanh"}),
    *_named("observation", "model.observation", OBSERVATIONS, "bernoulli"),
    Option("observation", "gaussian, one variance", {"model.observation": "{gaussian: {variance: learned}}"}),
    Option("observation", "gaussian, fixed variance", {"model.observation": "{gaussian: {variance: 0.3}}"}),
    Option("observation", "bernoulli, clipped", {"model.mean_clip": "1e-3"}),
    Option("flow", "planar", {"model.flow": "{planar: 3}"}),
    Option("flow", "iaf", {"model.flow": "{iaf: {steps: 2, mlp: [8]}}"}),
    Option("flow", "iaf, z_2 alone", {"model.layers.1.flow": "{iaf: {steps: 1, mlp: []}}"}),
    Option("auxiliary", "5 units", {"model.auxiliary": "{units: 5, mlp: [6]}"}),
    Option("classes", "20 labels", {"model.classes": "{mlp: [6]}", "data.labeled": "20", "data.labeled_batch": "8"}),
    Option(
        "classes",
        "q(y|x) alone",
        {"model.classes": "{mlp: [6]}", "data.labeled": "20", "objective.classification": "only"},
    ),
    Option("initialization", "lasagne", {"model.initialization": "lasagne"}),
    Option("beta", "4", {"objective.beta": "4"}),
    Option("beta", "per layer", {"objective.beta": "[1, 0.5, 2]"}),
    Option("warm_up", "2", {"objective.warm_up": "2"}),
    Option("warm_up", "cycles", {"objective.warm_up": "{cycles: 1, over: 2}"}),
    Option("free_bits", "per unit", {"objective.free_bits": "{nats: 0.1, per: unit}"}),
    Option("free_bits", "per layer", {"objective.free_bits": "{nats: 0.1, per: layer}"}),
    *_named("estimator", "objective.estimator", ESTIMATORS, "reparameterized"),
    Option("samples", "M = 2", {"objective.mc_samples": "2"}),
    Option("samples", "K = 3", {"objective.iw_samples": "3"}),
    Option("samples", "K = 3, CIWAE", {"objective.iw_samples": "3", "objective.elbo_share": "0.1"}),
    Option("sample_ramp", "on", {"objective.sample_ramp": "true", "objective.mc_samples": "2"}),
    Option("learning rate", "lr_decay", {"training.lr_decay": "{factor: 0.5, every: 1}"}),
    Option(
        "learning rate", "stages", {"training.schedule": "{stages: [{epochs: 1, lr: 1e-2}, {epochs: 1, lr: 1e-3}]}"}
    ),
    *(
        Option("learning rate", name, {"training.schedule": f"{{{name}: {settings}}}"})
        for name, settings in (
            ("step", "{factor: 0.5, every: 1, ramp: 2}"),
            ("cosine", "{over: 2, ramp: 1}"),
            ("linear", "{over: 2}"),
        )
    ),
    *(
        Option("optimizer", name, {"training.optimizer": f"{{{name}: {settings}}}"})
        for name, settings in (("adamw", "{lr: 1e-3, weight_decay: 0.1}"), ("sgd", "{lr: 1e-3, momentum: 0.9}"))
    ),
    Option("ema", "0.9", {"training.ema": "0.9"}),
    Option("clipping", "norm and value", {"training.clip_norm": "1", "training.clip_value": "0.5"}),
    Option("last_batch", "keep", {"training.last_batch": "keep", "data.train_images": "60"}),
    Option("redraw", "once", {"data.redraw": "once"}),
    Option(
        "early_stopping",
        "on",
        {"training.early_stopping": "{patience: 1}", "evaluation.every": "1", "data.validation": "16"},
    ),
]
"""Every option but the default of its choice. One nonlinearity and one initialization stand for all of theirs."""


def pairs() -> Iterator[tuple[Option, Option]]:
    """Every two options that are of different choices."""
    return ((one, other) for one, other in combinations(OPTIONS, 2) if one.choice != other.choice)


def member(*options: Option) -> MemberSpec:
    """The member that has these options.

    Raises:
        SpecError: they do not go together.

    """
    settings = {path: value for option in options for path, value in option.settings.items()}
    return reads(SPEC, overrides=[f"{path}={value}" for path, value in settings.items()]).members[0].spec


def refusal(*options: Option) -> str | None:
    """Why these options do not go together; None if they do."""
    try:
        member(*options)
    except SpecError as error:
        return "; ".join(problem.message for problem in error.problems)
    return None

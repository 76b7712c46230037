"""Results folders written as a grid run writes them, with chosen outcomes instead of training."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from hvae_spec.data.counts import image_pixels
from hvae_spec.records.json_file import FORMAT
from hvae_spec.records.layout import GALLERY, EvaluationRecord, Record, Results
from hvae_spec.records.plan import GridFile, ReportSettings
from hvae_spec.records.result import EvaluationResult, Segment, TrainingResult
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import Member, members
from hvae_spec.spec.report import ReportSpec
from hvae_spec.spec.seeds import StagedSeeds
from tune.plan.grid_file import planned_member

SPEC = """
name: small
data: {dataset: digits}
model:
  layers:
    - {units: 6, mlp: [16]}
    - {units: 4, mlp: [8]}
    - {units: 2, mlp: [4]}
  inference: ladder
  batch_norm: true
objective: {warm_up: 2}
training: {epochs: 10, batch_size: 32}
evaluation: {iw_samples: 500, every: 2}
grid:
  depth: [1, 2, 3]
  variants:
    VAE: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    VAE+BN: {model.inference: vae, objective.warm_up: 0}
    VAE+BN+WU: {model.inference: vae}
    Prob. ladder+BN+WU: {}
  exclude: [{variant: Prob. ladder+BN+WU, depth: 1}]
  seeds: [0, 1, 2]
"""

Outcome = dict[str, Any] | None
"""What became of a member: its status, and fields of its training's result, of its evaluation's and of the segment that
they were made in, by name; None while there is neither result."""


def data(dataset: str = "digits", train_images: int = 1437, test_images: int = 360, **fields: Any) -> dict[str, Any]:
    """The images that a member has seen; `fields` replace or add to them."""
    hashes = {"train_sha256": "ab" * 32, "test_sha256": "ef" * 32}
    images = {"shape": (8, 8), "train_images": train_images, "test_images": test_images}
    return {"dataset": dataset, **hashes, "canonical": True, "training_maximum": 255, **images, **fields}


def result(member: Member, test_log_likelihood: float = -80.0, **fields: Any) -> dict[str, Any]:
    """The outcome of a finished member; `fields` replace or add to it."""
    layers = member.spec.model.layers
    active = [layer.units // 2 for layer in layers]
    content = {
        "status": "finished",
        "labels": member.labels,
        "test_log_likelihood": test_log_likelihood,
        "test_log_likelihood_se": 0.5,
        "test_log_likelihood_mc_se": 0.01,
        "test_elbo": test_log_likelihood - 2,
        "test_elbo_se": 0.6,
        "iw_samples": member.spec.evaluation.iw_samples,
        "effective_sample_size": 40.0,
        "active_units": sum(active),
        "active_units_per_layer": active,
        "kl_per_layer": [10.0 / (index + 1) for index in range(len(layers))],
        "kl_standard_normal_per_layer": [12.0 / (index + 1) + member.seed for index in range(len(layers))],
        "bound_by_samples": {count: (test_log_likelihood - 2 / count, 0.01) for count in (1, 5, 10, 50, 100, 500)},
        "unit_kl": unit_kl(member, 1.0),
        "unit_kl_se": [[0.0005] * layer.units for layer in layers],
        "parameters": 1234,
        "epochs": member.spec.training.epochs,
        "steps": 440,
        "training_seconds": 3.0,
        "curve_seconds": 0.5,
        "evaluation_seconds": 1.0,
        "ms_per_step": 6.8,
        "data": data(),
    }
    return {**content, **fields}


def diverged(member: Member, epoch: int = 3) -> dict[str, Any]:
    """The outcome of a member that diverged in training: it has no evaluation."""
    divergence = {"epoch": epoch, "step": 17, "quantity": "log p(x|z_1)"}
    known = {name: value for name, value in result(member).items() if name in TrainingResult.model_fields}
    return {**known, "status": "diverged", "divergence": divergence, "epochs": epoch}


def failed(member: Member, failure: str = "E") -> dict[str, Any]:
    """The outcome of a member whose training failed."""
    return {"status": "failed", "failure": failure}


SEGMENT = {
    "first_epoch": 1,
    "last_epoch": 10,
    "command": ["tune.run", "small.yaml"],
    "versions": {"python": "3.12"},
    "source": None,
    "host": "here",
    "device": "cpu",
    "device_name": "",
    "threads": 1,
    "compiled": False,
    "started_at": "2026-01-01T00:00:00+00:00",
    "finished_at": "2026-01-01T00:00:00+00:00",
}
"""What a training and an evaluation were made with."""


def files(member: Member, outcome: dict[str, Any]) -> tuple[TrainingResult, EvaluationResult | None]:
    """The two files that an outcome is kept in. A member that is `diverged` or `failed` is so in training; one that is
    `trained` has no evaluation.
    """
    known = {*TrainingResult.model_fields, *EvaluationResult.model_fields, *Segment.model_fields}
    assert outcome.keys() <= known, outcome.keys() - known
    status, own = outcome["status"], {key: value for key, value in outcome.items() if key != "status"}
    segment = {name: own.get(name, value) for name, value in SEGMENT.items()}
    digests, time = member.digests, segment["finished_at"]
    is_trained = status in ("trained", "finished")
    training = TrainingResult.model_validate(
        {
            **own,
            "format": FORMAT,
            "digest": digests.training,
            "trajectory": digests.trajectory,
            "status": "trained" if is_trained else status,
            "segments": [segment],
            "finished_at": time,
        }
    )
    if status != "finished":
        return training, None
    names = {"format": FORMAT, "digest": digests.evaluation, "training": digests.training}
    evaluation = {**own, **names, "status": status, "segment": segment, "finished_at": time}
    return training, EvaluationResult.model_validate(evaluation)


def unit_kl(member: Member, progress: float) -> list[list[float]]:
    """KL of every unit, layer by layer, which falls the faster from unit to unit the more of the training is done."""
    return [[1 / (1 + unit) ** (1 + 2 * progress) for unit in range(layer.units)] for layer in member.spec.model.layers]


def curves(member: Member, final: float, last: int | None = None) -> tuple[list[dict], list[dict]]:
    """Learning curves and unit KLs that end near `final`, up to epoch `last`. The final evaluation is in neither."""
    generator = np.random.default_rng(member.seed)
    spec, epochs, units = member.spec, [], []
    for epoch in range(1, (last or spec.training.epochs) + 1):
        progress = epoch / spec.training.epochs
        bound = final - 2 - 400 * math.exp(-25 * progress) + 0.1 * generator.standard_normal()
        beta = min(1.0, (epoch - 1) / spec.objective.warm_up) if spec.objective.warm_up else 1.0
        row = {
            "format": FORMAT,
            "epoch": epoch,
            "beta": beta,
            "train_bound": bound,
            "train_bound_beta_1": bound - 4 * (1 - beta),
            "train_reconstruction": bound + 20,
            "kl_per_layer": [12.0 / (index + 1) for index in range(spec.model.depth)],
            "gradient_norm": 5.0,
            "seconds": 0.3,
            "ms_per_step": 6.8,
        }
        if spec.evaluation.every and epoch % spec.evaluation.every == 0:
            part, images = ("validation", spec.data.validation) if spec.data.validation else ("test", 360)
            row |= {f"{part}_elbo": bound - 1, f"{part}_log_likelihood": bound + 1, f"{part}_iw_samples": 100}
            row |= {f"{part}_images": spec.evaluation.curve_images or images, "active_units": 6}
            kl = unit_kl(member, progress)
            kl_se = [[0.001] * len(layer) for layer in kl]
            units.append({"format": FORMAT, "epoch": epoch, "kl": kl, "kl_se": kl_se})
        epochs.append(row)
    return epochs, units


def gallery(member: Member, images: int = 30) -> dict[str, np.ndarray]:
    """A gallery of uniform pictures, each with a gray level of its own: test image r is r/100, and so on."""
    generator = np.random.default_rng(member.seed)
    layers, pixels, shown = member.spec.model.layers, image_pixels(member.spec.data), 16

    def flat(*values: np.ndarray) -> np.ndarray:
        return np.stack([np.broadcast_to(item, (pixels,)) for item in np.concatenate(values)]).astype(np.float32)

    arrays = {
        "labels": np.arange(images) % 10,
        "images": flat(np.arange(shown) / 100),
        "reconstructions": flat(0.5 + np.arange(shown) / 100),
        "prior_samples": flat(np.arange(64) / 64),
    }
    for place, layer in enumerate(layers, start=1):
        arrays[f"latents/{place}"] = generator.standard_normal((images, layer.units)).astype(np.float32)
        arrays[f"injected/{place}"] = flat(place / 10 + np.arange(shown * 8) / 1000).reshape(shown, 8, pixels)
    return arrays


class Writer:
    """Writes a results folder for a spec: `outcome(member)` is its result, or None while it is pending."""

    def __init__(self, root: Path) -> None:
        self.root = root

    data = staticmethod(data)
    result = staticmethod(result)
    diverged = staticmethod(diverged)
    failed = staticmethod(failed)
    files = staticmethod(files)
    curves = staticmethod(curves)
    gallery = staticmethod(gallery)

    def record_of(self, member: Member) -> Record:
        """A member's record."""
        return Results(self.root).record(member.digests.training, member.folder)

    def evaluation_of(self, member: Member) -> EvaluationRecord:
        """A member's evaluation."""
        return self.record_of(member).evaluation(member.digests.evaluation)

    def add_gallery(self, member: Member, **arrays: np.ndarray) -> Path:
        """Write the gallery of an evaluation that is there, with some arrays replaced; its path."""
        path = self.evaluation_of(member).folder / GALLERY
        save_file({**gallery(member), **arrays}, path)
        return path

    def plan(self, spec: str = SPEC) -> list[Member]:
        """Write grid.json."""
        experiment = Experiment.model_validate(yaml.safe_load(spec))
        planned = members(experiment)
        self.write_grid(experiment.name, planned, experiment.grid.stages, experiment.report)
        return planned

    def write_grid(
        self,
        name: str,
        planned: Sequence[Member],
        stages: StagedSeeds | None = None,
        report: ReportSpec | None = None,
    ) -> None:
        """Write grid.json for these members."""
        entries = [planned_member(member) for member in planned]
        variants = list(dict.fromkeys(member.labels["variant"] for member in planned))
        settings = ReportSettings(**(report or ReportSpec()).model_dump())
        Results(self.root).write_grid(
            GridFile(name=name, variants=variants, members=entries, stages=stages, report=settings)
        )

    def record(self, member: Member, outcome: Outcome, with_curves: bool = True) -> Path:
        """Write one record; its folder. Without an outcome, the member is running."""
        record = self.record_of(member)
        record.begin(member.spec)
        if with_curves:
            final = (outcome or {}).get("test_log_likelihood") or -90.0
            record.write_curves(*curves(member, final, None if outcome is None else outcome.get("epochs")))
        if outcome is not None:
            training, evaluation = files(member, outcome)
            record.finish(training)
            if evaluation is not None:
                record.evaluation(member.digests.evaluation).finish(evaluation)
        return record.folder

    def grid(self, outcome: Callable[[Member], Outcome] = result, spec: str = SPEC, **options: Any) -> list[Member]:
        """Plan a grid and write the records of all members that have an outcome."""
        planned = self.plan(spec)
        for member in planned:
            content = outcome(member)
            if content is not None:
                self.record(member, content, **options)
        return planned


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    # Hundreds of small files need not survive a power cut.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return Writer(tmp_path / "results")


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, for tests of what else is in them: drawing takes seconds."""
    monkeypatch.setattr("analysis.figures.drawing.render", lambda frames: iter(()))


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that are drawn once and whose files are empty, for tests of which files there are: writing each in three
    formats takes seconds.
    """

    def savefig(figure: Figure, stream: BytesIO, *, format: str, **options: object) -> None:
        if format == "png":
            figure.draw_without_rendering()

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture
def spec() -> str:
    return SPEC


@pytest.fixture
def small_spec() -> str:
    """Two variants at one depth, for what takes long to draw."""
    return SPEC.replace("depth: [1, 2, 3]", "depth: [2]").replace(
        "[{variant: Prob. ladder+BN+WU, depth: 1}]", "[{variant: VAE}, {variant: VAE+BN}]"
    )

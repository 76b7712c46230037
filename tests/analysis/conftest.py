"""Results folders written as a grid run writes them, with chosen outcomes instead of training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from hvae_spec.data.counts import image_pixels
from hvae_spec.records.files import write_json
from hvae_spec.records.layout import Results
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import GridMember, members

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


def result(member: GridMember, test_log_likelihood: float = -80.0, **fields: Any) -> dict[str, Any]:
    """The result of a finished member, as result.json holds it; `fields` replace or add to it."""
    layers = member.spec.model.layers
    active = [layer.units // 2 for layer in layers]
    content = {
        "digest": member.digest,
        "labels": member.labels,
        "status": "finished",
        "test_log_likelihood": test_log_likelihood,
        "test_log_likelihood_se": 0.5,
        "test_log_likelihood_mc_se": 0.01,
        "test_elbo": test_log_likelihood - 2,
        "test_elbo_se": 0.6,
        "iw_samples": 500,
        "effective_sample_size": 40.0,
        "active_units": sum(active),
        "active_units_per_layer": active,
        "kl_per_layer": [10.0 / (index + 1) for index in range(len(layers))],
        "kl_standard_normal_per_layer": [12.0 / (index + 1) + member.seed for index in range(len(layers))],
        "bound_by_samples": {str(count): [test_log_likelihood - 2 / count, 0.01] for count in (1, 5, 10, 50, 100, 500)},
        "continues": None,
        "divergence": None,
        "failure": None,
        "parameters": 1234,
        "epochs": member.spec.training.epochs,
        "steps": 440,
        "training_seconds": 3.0,
        "evaluation_seconds": 1.0,
        "wall_seconds": 4.5,
        "ms_per_step": 6.8,
        "pack": {"id": "p", "members": 1, "threads": 1},
        "device": "cpu",
        "data": {"dataset": "digits", "sha256": "ab" * 32, "canonical": True, "train_images": 1437, "test_images": 360},
        "versions": {"python": "3.12"},
        "git": None,
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    return {**content, **fields}


def diverged(member: GridMember, epoch: int = 3) -> dict[str, Any]:
    """The result of a member that diverged: its metrics are null."""
    names = ("test_log_likelihood", "test_log_likelihood_se", "test_log_likelihood_mc_se", "test_elbo", "test_elbo_se")
    divergence = {"epoch": epoch, "step": 17, "quantity": "log p(x|z_1)"}
    nothing = dict.fromkeys(
        (
            *names,
            "effective_sample_size",
            "active_units",
            "active_units_per_layer",
            "kl_per_layer",
            "kl_standard_normal_per_layer",
            "bound_by_samples",
        )
    )
    return {**result(member), **nothing, "status": "diverged", "divergence": divergence, "epochs": epoch}


def curves(member: GridMember, final: float, last: int | None = None) -> tuple[list[dict], list[dict]]:
    """Learning curves and unit KLs that end near `final`, up to epoch `last`."""
    generator = np.random.default_rng(member.seed)
    spec, epochs, units = member.spec, [], []
    for epoch in range(1, (last or spec.training.epochs) + 1):
        progress = epoch / spec.training.epochs
        bound = final - 2 - 400 * math.exp(-25 * progress) + 0.1 * generator.standard_normal()
        row = {
            "epoch": epoch,
            "beta": min(1.0, (epoch - 1) / spec.objective.warm_up) if spec.objective.warm_up else 1.0,
            "train_bound": bound,
            "train_log_likelihood": bound + 20,
            "kl_per_layer": [12.0 / (index + 1) for index in range(spec.model.depth)],
            "gradient_norm": 5.0,
            "seconds": 0.3,
            "ms_per_step": 6.8,
        }
        if epoch % (spec.evaluation.every or spec.training.epochs) == 0:
            row |= {"test_elbo": bound - 1, "test_log_likelihood": bound + 1, "test_iw_samples": 100, "active_units": 6}
            kl = [[1 / (1 + unit) ** (1 + 2 * progress) for unit in range(layer.units)] for layer in spec.model.layers]
            units.append({"epoch": epoch, "kl": kl, "kl_se": [[0.001] * len(layer) for layer in kl]})
        epochs.append(row)
    return epochs, units


def gallery(member: GridMember, images: int = 30) -> dict[str, np.ndarray]:
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

    result = staticmethod(result)
    diverged = staticmethod(diverged)
    curves = staticmethod(curves)

    gallery = staticmethod(gallery)

    def add_gallery(self, member: GridMember, **arrays: np.ndarray) -> Path:
        """Write the gallery of a record that is there, with some arrays replaced; its path."""
        path = self.root / "members" / member.folder / "gallery.safetensors"
        save_file({**gallery(member), **arrays}, path)
        return path

    def plan(self, spec: str = SPEC) -> list[GridMember]:
        """Write grid.json."""
        experiment = Experiment.model_validate(yaml.safe_load(spec))
        planned = members(experiment)
        names = list(dict.fromkeys(member.cell.variant for member in planned))
        entries = [{"digest": item.digest, "folder": item.folder, "labels": item.labels} for item in planned]
        write_json(self.root / "grid.json", {"name": experiment.name, "variants": names, "members": entries})
        return planned

    def record(self, member: GridMember, outcome: Outcome, with_curves: bool = True) -> Path:
        """Write one record; its folder. Without an outcome, the member is running."""
        record = Results(self.root).record(member.digest, member.folder)
        record.begin(member.spec)
        if with_curves:
            final = (outcome or {}).get("test_log_likelihood") or -90.0
            record.write_curves(*curves(member, final, None if outcome is None else outcome.get("epochs")))
        if outcome is not None:
            record.finish(outcome)
        return record.folder

    def grid(
        self, outcome: Callable[[GridMember], Outcome] = result, spec: str = SPEC, **options: Any
    ) -> list[GridMember]:
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
def spec() -> str:
    return SPEC


@pytest.fixture
def small_spec() -> str:
    """Two variants at one depth, for what takes long to draw."""
    return SPEC.replace("depth: [1, 2, 3]", "depth: [2]").replace(
        "[{variant: Prob. ladder+BN+WU, depth: 1}]", "[{variant: VAE}, {variant: VAE+BN}]"
    )

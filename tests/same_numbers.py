"""Do two checkouts give the same numbers, bit for bit? `python tests/same_numbers.py OLD NEW`.

Both train and evaluate the same small members on one core of this machine; then all tensors and curves of their records
are compared. Between them the members use every choice of the language, except that their images are the digits and
images of one's own, and that they leave out the nonlinearities sigmoid, softplus and silu, and the observation models
that came later than bernoulli and gaussian. Exit code 0 if all are equal, 1 if any is not. Records of version 0.2 and
of this one can be read. Not a test of the suite: it needs two checkouts, each with an environment in .venv (or
--python).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

TIMES = {"seconds", "ms_per_step", "format"}
EARLIER_NAMES = {"train_log_likelihood": "train_reconstruction"}
"""What quantities of an epoch's row were called, and what they are called now."""
ADDED = {"train_bound_beta_1", "test_images"}
"""Quantities of an epoch's row that earlier versions did not keep."""
ARRAYS = ("test.safetensors", "gallery.safetensors")
METRICS = (
    *("test_log_likelihood", "test_log_likelihood_se", "test_log_likelihood_mc_se", "test_elbo", "iw_samples"),
    *("effective_sample_size", "active_units_per_layer", "kl_per_layer", "kl_standard_normal_per_layer"),
    "bound_by_samples",
)
COMMON = """
model:
  layers: [{units: 5, mlp: [12, 10]}, {units: 4, mlp: [9], mlp_down: [8]}, {units: 3, mlp: [7]}]
  batch_norm: true
training: {epochs: 4, batch_size: 64}
evaluation: {iw_samples: 30, every: 2}
"""
SPECS = {
    "styles": """
name: styles
data: {dataset: digits, train_images: 330, test_images: 50}
objective: {warm_up: 3}
grid:
  depth: [1, 3]
  variants:
    vae: {model.inference: vae}
    plain: {model.inference: vae, model.batch_norm: false, model.nonlinearity: tanh}
    ladder: {model.inference: ladder}
    shared: {model.inference: ladder, model.share_top_down: true}
    gaussian: {model.inference: ladder, model.observation: gaussian}
    elu: {model.nonlinearity: elu, model.initialization: he_uniform, model.variance_bias: 0.5, model.inference: vae}
  exclude: [{variant: ladder, depth: 1}, {variant: shared, depth: 1}]
  seeds: [0, 1]
""",
    "training": """
name: training
data: {dataset: digits, train_images: 330, test_images: 50}
grid:
  variants:
    samples: {objective.mc_samples: 2, objective.iw_samples: 3, objective.sample_ramp: true}
    clipped: {training.clip_norm: 0.5, training.clip_value: 0.1, training.optimizer.adam.eps: 1e-4}
    decayed: {training.lr_decay: {factor: 0.5, every: 2}, model.initialization: glorot_normal}
    average: {evaluation.batch_norm_statistics: batch_average}
    keep: {training.last_batch: keep}
    once: {data.redraw: once, data.copies: 2}
    nonlinear: {model.nonlinearity: gelu, model.initialization: glorot_uniform, model.batch_norm: false}
  seeds: [0, 7]
""",
    "phases": """
name: phases
data: {dataset: digits, train_images: 330, test_images: 50}
grid:
  variants:
    first: {training.epochs: 3, objective.warm_up: 2}
    tuned: {training.first_phase: {epochs: 3, warm_up: 2}, objective.iw_samples: 2}
  seeds: [0, 1]
""",
    "own": """
name: own
data: {dataset: own, own: {name: mine, file: images.npz, range: [0, 255]}}
grid:
  variants:
    binary: {}
    gaussian: {model.observation: gaussian}
    relu: {model.nonlinearity: relu, model.initialization: he_normal}
  seeds: [0]
""",
}


def write_specs(folder: Path) -> list[Path]:
    """Write the specs, and the images of one's own that one of them names."""
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (count, 6, 5), dtype=np.uint8) for name, count in (("train", 200), ("test", 40))
    }
    np.savez(folder / "images.npz", **images)
    paths = []
    for name, text in SPECS.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text + COMMON)
    return paths


def run(checkout: Path, python: str | None, spec: Path, results: Path) -> None:
    """Run a spec with the code of a checkout. Raises CalledProcessError if it fails."""
    command = [python or str(checkout / ".venv/bin/python"), "-m", "tune.run", str(spec), "--results", str(results)]
    options = ["--serial", "--cpus", "1", "--device", "cpu", "--compile", "never"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    done = subprocess.run(command + options, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
        raise subprocess.CalledProcessError(done.returncode, command)


def records(results: Path) -> dict[str, Path]:
    """Folders of records by their names, less the digest at the end."""
    return {path.name.rsplit("-", 1)[0]: path for path in (results / "members").iterdir() if path.is_dir()}


def contents(record: Path) -> dict[str, Any]:
    """What a record of either version holds: tensors, curves and metrics by name."""
    (evaluation,) = sorted(record.glob("evaluations/*")) or [record]
    found: dict[str, Any] = {}
    weights = load_file(record / "weights.safetensors")
    if (evaluation / "statistics.safetensors").exists():
        weights |= load_file(evaluation / "statistics.safetensors")
    found |= {f"weights/{name}": array for name, array in weights.items()}
    for file in ARRAYS:
        found |= {f"{file}/{name}": array for name, array in load_file(evaluation / file).items()}
    result = json.loads((evaluation / "result.json").read_text())
    found |= {name: result[name] for name in METRICS}
    last = max(row["epoch"] for row in rows(record / "epochs.jsonl"))
    for row in rows(record / "epochs.jsonl"):
        # In version 0.2 the final evaluation was a point of the curve; now the curve may have one of its own there.
        names = [name for name in row if name not in TIMES and not (row["epoch"] == last and is_of_curve(name))]
        kept = {EARLIER_NAMES.get(name, name): row[name] for name in names if name not in ADDED}
        found |= {f"epoch {row['epoch']}/{name}": value for name, value in kept.items()}
    units = {row["epoch"]: row["kl"] for row in rows(record / "units.jsonl") if row["epoch"] != last}
    return found | {f"units of epoch {epoch}": kl for epoch, kl in units.items()}


def is_of_curve(name: str) -> bool:
    """Whether a value of an epoch's row is of a point of the test curve."""
    return name.startswith("test_") or name == "active_units"


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What is not equal in two records, and by how much."""
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            if not (name.startswith("weights/") and name not in new and _is_twin(name, old, new)):
                yield f"{name}: only in the {'new' if name in new else 'old'}"
            continue
        one, two = old[name], new[name]
        if not isinstance(one, np.ndarray):
            if one != two:
                yield f"{name}: {one} and {two}"
        elif not np.array_equal(one, two):
            gap = np.abs(one - two).max() if one.shape == two.shape else f"shapes {one.shape} and {two.shape}"
            yield f"{name}: differs by {gap}"


def _is_twin(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a tensor of the old record is in the new one under another name: shared mappings had two names."""
    return any(np.array_equal(old[name], value) for key, value in new.items() if key.startswith("weights/"))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another one")
    parser.add_argument("--python", help="the interpreter for both (default: .venv/bin/python of each checkout)")
    options = parser.parse_args()
    compared = unequal = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for spec in write_specs(folder):
            both = []
            for name, checkout in (("old", options.old), ("new", options.new)):
                run(checkout.resolve(), options.python, spec, folder / name / spec.stem)
                both.append(records(folder / name / spec.stem))
            old, new = both
            if old.keys() != new.keys():
                say(f"{spec.stem}: other members: {sorted(old.keys() ^ new.keys())}")
                unequal += 1
            for member in sorted(old.keys() & new.keys()):
                one, two = contents(old[member]), contents(new[member])
                found = list(differences(one, two))
                compared += len(one)
                unequal += bool(found)
                say(f"{spec.stem}/{member}: {len(one)} values, " + ("equal" if not found else "; ".join(found[:5])))
    say(f"{compared:,} tensors, curves and metrics compared; {unequal} members differ")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())

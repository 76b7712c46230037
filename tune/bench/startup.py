"""What a command costs before and after it computes: imports, the plan, and Ray. Measured in processes of their own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

TRIVIAL = """\
name: trivial
data: {dataset: digits, train_images: 64, test_images: 8}
model: {layers: [{units: 2, mlp: [4]}]}
training: {epochs: 1, batch_size: 32}
evaluation: {iw_samples: 1}
"""


def startup(
    spec: str, overrides: Sequence[str], profile: str | None = None, *, with_ray: bool = True
) -> tuple[dict[str, float | None], list[str]]:
    """Wall times of imports, of a plan, and of a trivial run with Ray and without; and what failed."""
    failures: list[str] = []

    def seconds(*arguments: str) -> float | None:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            failures.append(f"python {' '.join(arguments)} failed: {last}")
            return None
        return time.perf_counter() - start

    run = ["-m", "tune.run"]
    found = {
        "import_seconds": seconds("-c", "import tune.run"),
        "worker_import_seconds": seconds("-c", "import hvae_spec.pack"),
    }
    with tempfile.TemporaryDirectory() as folder:
        changes = [*(f"--set={text}" for text in overrides), *([f"--profile={profile}"] if profile else [])]
        plan = [spec, "--plan", *changes, "--results", f"{folder}/plan"]
        found["plan_seconds"] = seconds(*run, *plan)
        if with_ray:
            path = Path(folder) / "trivial.yaml"
            path.write_text(TRIVIAL)
            command = [*run, str(path), "--device", "cpu", "--results"]
            serial = seconds(*command, f"{folder}/serial", "--serial")
            on_ray = seconds(*command, f"{folder}/ray")
            found["trivial_run_seconds"], found["trivial_run_on_ray_seconds"] = serial, on_ray
            found["ray_seconds"] = None if on_ray is None or serial is None else on_ray - serial
    return found, failures

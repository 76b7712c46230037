"""Small grids that campaigns disturb: started as a user starts them, and compared with an undisturbed run."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tune.test_run import contents

SPEC = """\
name: disturbed
data: {dataset: digits, train_images: 640, test_images: 100}
model: {layers: [{units: 4, mlp: [16]}, {units: 2, mlp: [8]}], inference: ladder}
objective: {warm_up: 2}
training: {epochs: 60, batch_size: 64}
evaluation: {iw_samples: 200, every: 20}
grid:
  depth: [1, 2]
  variants:
    VAE: {model.inference: vae, model.batch_norm: false, objective.warm_up: 0}
    Ladder: {}
  exclude: [{variant: Ladder, depth: 1}]
  seeds: [0, 1]
"""
RAY = ("--cpus", "2", "--device", "cpu", "--pack-size", "1")
SERIAL = ("--serial", "--cpus", "1", "--device", "cpu", "--pack-size", "1")
"""Options of the runs. The packs of both have a thread and a member each, so that their bits are the same."""
SECONDS = 300
"""A run that takes longer hangs."""


class Run:
    """One run of the grid, in a session of its own.

    Args:
        results: the results folder.
        options: of `tune.run`, beside the results folder.
        folder: where the spec and what the run prints are kept; None: beside the results folder.

    """

    def __init__(self, results: Path, options: Sequence[str], folder: Path | None = None) -> None:
        self.results, folder = results, folder or results.parent
        spec, self.output, self.errors = (folder / f"{results.name}.{ending}" for ending in ("yaml", "out", "err"))
        spec.write_text(SPEC)
        command = [sys.executable, "-m", "tune.run", str(spec), *options, "--results", str(results)]
        with self.output.open("w") as output, self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)

    def wait_for_packs(self, count: int = 1) -> bool:
        """Wait until so many packs have begun. False if the run ended before."""
        end = time.monotonic() + SECONDS
        while len(list(self.results.glob("packs/*/pack.json"))) < count:
            if self.process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def code(self) -> int | None:
        """The exit code, when it has ended; None if it hangs, and it is ended then."""
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    @property
    def said(self) -> list[str]:
        """The lines of its standard error."""
        return [line for line in self.errors.read_text().splitlines() if line.strip()]


def undisturbed(folder: Path) -> dict[object, object]:
    """What the records of an undisturbed run hold, less times."""
    run = Run(folder / "undisturbed", SERIAL)
    if run.code() != 0:
        raise RuntimeError(f"the undisturbed run failed: {run.said}")
    return contents(run.results)


def fault_of_rerun(
    results: Path, options: Sequence[str], expected: dict[object, object], folder: Path | None = None
) -> str:
    """Run the same command again, to its end. Returns what is wrong then; nothing if it ended as undisturbed."""
    run = Run(results, options, folder)
    code = run.code()
    if code != 0:
        return f"the rerun exits with {code}: {run.said[-3:]}"
    found = contents(results)
    wrong = [key for key in {*found, *expected} if found.get(key) != expected.get(key)]
    return f"other records: {wrong[:3]}" if wrong else ""

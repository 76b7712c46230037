"""Takes nodes of a Ray cluster away while a grid runs on it, and adds others; kills the cluster's control service
(GCS), and the driver. The nodes are processes of this machine (`ray.cluster_utils.Cluster`). What a run has not
finished, the same command finishes, on the same cluster or on another one.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.grids import Run, fault_of_rerun, undisturbed
from tests.faults.outcome import Outcome, write

OPTIONS = ("--cpus", "2", "--device", "cpu", "--pack-size", "1", "--address")


def _remove(cluster: Any, node: Any, run: Run) -> None:
    cluster.remove_node(node, allow_graceful=False)


def _replace(cluster: Any, node: Any, run: Run) -> None:
    cluster.remove_node(node, allow_graceful=False)
    time.sleep(1)
    cluster.add_node(num_cpus=1)


def _kill_gcs(cluster: Any, node: Any, run: Run) -> None:
    cluster.head_node.kill_gcs_server()


FAULTS: dict[str, tuple[str, Callable[[Any, Any, Run], object], int]] = {
    "removed": ("A node of a cluster killed", _remove, 0),
    "replaced": ("A node of a cluster killed, and another one added", _replace, 0),
    "added": ("A node added to a cluster", lambda cluster, node, run: cluster.add_node(num_cpus=1), 0),
    "gcs": ("A cluster's control service (GCS) killed", _kill_gcs, 1),
    "driver": ("SIGKILL of the driver of a run on a cluster", lambda cluster, node, run: run.process.kill(), -9),
}
"""By name: what is done in words, how, and the exit code."""


def _cluster() -> Any:
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})


def trial(name: str, folder: Path, expected: dict[object, object]) -> str:
    """Disturb a run on a new cluster once. Returns what is wrong; nothing if nothing is."""
    _, disturb, expected_code = FAULTS[name]
    results = folder / "disturbed"
    shutil.rmtree(results, ignore_errors=True)
    cluster = _cluster()
    try:
        node = cluster.add_node(num_cpus=1)
        run = Run(results, (*OPTIONS, cluster.address))
        run.wait_for_packs(2)
        disturb(cluster, node, run)
        code = run.code()
        if code != expected_code:
            return f"exit code {code}: {run.said[-3:]}"
        if len(run.said) != int(name == "gcs"):
            return f"not one message: {run.said}"
        if name != "gcs":
            return fault_of_rerun(results, (*OPTIONS, cluster.address), expected)
    finally:
        cluster.shutdown()
    other = _cluster()
    try:
        return fault_of_rerun(results, (*OPTIONS, other.address), expected)
    finally:
        other.shutdown()


def main() -> int:
    """The command. Returns 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2, help="faults of each kind (default: 2)")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=list(FAULTS), help="(default: all)")
    parser.add_argument("--write", action="store_true", help="replace the rows in docs/faults/cluster.json")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        expected = undisturbed(folder)
        for kind in options.kinds:
            found = []
            for _ in range(options.count):
                found.append(trial(kind, folder, expected))
                sys.stdout.write(f"{kind}: {found[-1] or 'as undisturbed'}\n")
                sys.stdout.flush()
            rows.append(
                Outcome(
                    FAULTS[kind][0],
                    len(found),
                    found.count(""),
                    len(found) - found.count(""),
                    "the run ends, or is run again, with records bit for bit as undisturbed",
                    f"python -m tests.faults.cluster --count {options.count}",
                )
            )
    if options.write:
        write("cluster", rows)
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())

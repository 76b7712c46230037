"""Fills the disk of a results folder at random moments of a run, until the run has ended. Then there is room again,
and the same command is run to its end. Mounts small disks in memory, for which it must be root (or start it with
`unshare --map-root-user --mount`).
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.grids import RAY, SERIAL, Run, fault_of_rerun, undisturbed
from tests.faults.outcome import Outcome, write

HOW = {"serial": ("a serial run", SERIAL), "ray": ("a run under Ray", RAY)}
PIECES = (1 << 20, 1 << 12)
"""Bytes by which the disk is filled, the larger ones first."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 24 MiB in memory, mounted below a folder."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


@contextmanager
def kept_full(disk: Path) -> Iterator[None]:
    """Within this context a disk is full, also after something on it has been removed."""
    is_over = threading.Event()
    ballast = disk / "ballast"

    def fill() -> None:
        with ballast.open("ab", buffering=0) as stream:
            while not is_over.is_set():
                for piece in PIECES:
                    try:
                        while True:
                            stream.write(bytes(piece))
                    except OSError:
                        continue
                time.sleep(0.001)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        ballast.unlink()


def trial(how: str, folder: Path, seconds: float, expected: dict[object, object]) -> str | None:
    """Fill the disk of a run once, this long after its start. Returns what is wrong; nothing if nothing is; None if the
    run had ended.
    """
    options = HOW[how][1]
    with small_disk(folder) as disk:
        results = disk / "disturbed"
        run = Run(results, options, folder)
        time.sleep(seconds)
        if run.process.poll() is not None:
            return None
        with kept_full(disk):
            code = run.code()
        said = run.said
        if code == 0:
            return None  # everything was written
        if code != 1:
            return f"exit code {code}: {said}"
        if len(said) != 1 or "No space left on device" not in said[0] or str(disk) not in said[0]:
            return f"not one message that names the file: {said}"
        return fault_of_rerun(results, options, expected, folder)


def main() -> int:
    """The command. Returns 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="moments, of each kind (default: 20)")
    parser.add_argument("--kinds", nargs="+", choices=HOW, default=list(HOW), help="(default: both)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the rows in docs/faults/disk_full.json")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        start = time.monotonic()
        expected = undisturbed(folder)
        longest = time.monotonic() - start
        for kind in options.kinds:
            found: list[str] = []
            while len(found) < options.count:
                seconds = draw.uniform(0, longest)
                wrong = trial(kind, folder, seconds, expected)
                said = "had ended" if wrong is None else wrong or "as undisturbed"
                sys.stdout.write(f"{kind} after {seconds:.1f} s: {said}\n")
                sys.stdout.flush()
                found += [] if wrong is None else [wrong]
            rows.append(
                Outcome(
                    f"Disk full at a random moment of {HOW[kind][0]}",
                    len(found),
                    found.count(""),
                    len(found) - found.count(""),
                    "exit code 1 and one message; with room again, the same command ends bit for bit as undisturbed",
                    f"python -m tests.faults.disk_full --count {options.count} --seed {options.seed}",
                )
            )
    if options.write:
        write("disk_full", rows)
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())

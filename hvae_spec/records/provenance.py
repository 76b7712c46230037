"""What a result was made with: versions, source revision, machine."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hvae_spec.records.files import sha256_of, write_atomically
from hvae_spec.records.layout import Results
from hvae_spec.records.result import Source

PACKAGES = ("torch", "numpy", "ray", "pandas", "hvae-spec")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of the packages that results depend on, and of NVIDIA's driver where there is one."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"  # a checkout that is run in place

    packages = {name.replace("-", "_"): installed(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, **_driver()}


def _driver() -> dict[str, str]:
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split("Kernel Module")[1].split()
    except (OSError, IndexError):
        return {}
    return {"nvidia_driver": next((word for word in words if word[0].isdigit()), "unknown")}


def source_state(results: Results | None = None) -> Source | None:
    """Commit of the source tree, and whether it has uncommitted changes. None outside a checkout.

    Args:
        results: the results folder that the uncommitted changes are written into; None: they are not kept.

    Raises:
        OSError: the results folder is not writable.

    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout

    try:
        commit, diff = git("rev-parse", "HEAD").decode().strip(), git("diff", "HEAD", "--binary")
    except (OSError, subprocess.SubprocessError):
        return None
    if not diff:
        return Source(commit=commit, dirty=False)
    if results is None:
        return Source(commit=commit, dirty=True)
    path = Path("source") / f"{commit[:12]}-{sha256_of(diff)[:12]}.diff"
    there = results.root / path
    if not there.exists() or there.read_bytes() != diff:
        write_atomically(there, diff)
    return Source(commit=commit, dirty=True, diff=path.as_posix())


def now() -> str:
    """The time, ISO 8601 in UTC, fine enough to distinguish one evaluation from the next."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def host() -> str:
    """The machine's name."""
    return platform.node()


def processor() -> str:
    """The CPU's model name, as far as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""What a result was made with: versions, source revision, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"  # a checkout that is run in place

    packages = {name: installed(name) for name in ("torch", "numpy", "hvae-spec")}
    return {"python": platform.python_version(), **{name.replace("-", "_"): value for name, value in packages.items()}}


def git_state() -> dict[str, Any] | None:
    """Commit of the source tree and whether it has uncommitted changes; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def host() -> str:
    """The machine's name."""
    return platform.node()


def processor() -> str:
    """The CPU's model name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""What a container or a batch system lets this process have: the limits of its control groups, of version 1 and 2."""

import math
from collections.abc import Iterator
from pathlib import Path

MOUNT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def core_limit(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float:
    """CPU cores' worth of time that may be used in all; infinite where nothing limits it.

    Args:
        mount: where the file system of control groups is.
        membership: the file that says which groups this process is in.

    """
    limits = [math.inf]
    for folder in _folders("cpu", mount, membership):
        older = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        for words in (_words(folder / "cpu.max"), older):
            if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
                limits.append(int(words[0]) / int(words[1]))
    return min(limits)


def memory_limit(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float:
    """Bytes of memory that may be used in all; infinite where nothing limits it. See `core_limit`."""
    limits = [math.inf]
    for folder in _folders("memory", mount, membership):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(folder / name)[:1] if word.isdecimal() and int(word) > 0]
    return min(limits)


def _folders(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """The folders of every group that this process is in, and of those that these are in: each of them limits it.

    In a container the path of a group is often that of the host, and what is mounted is the group's own folder.
    """
    for words in (line.split(":", 2) for line in _lines(membership)):
        if len(words) != 3:
            continue
        _, names, group = words
        if not names:  # version 2, alone or beside version 1
            roots = [mount, mount / "unified"]
        elif controller in names.split(","):
            roots = [mount / controller, mount / names]
        else:
            continue
        for root in roots:
            folder = root / group.lstrip("/")
            if ".." in folder.parts or not folder.is_dir():
                folder = root
            yield folder
            yield from (above for above in folder.parents if above.is_relative_to(root))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()

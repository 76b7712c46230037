"""How much memory evaluations take, and how this process keeps freed memory."""

import ctypes
import sys

EVALUATION_GIB = 1.0
"""Memory of an evaluation's activations on a CPU, in GiB, unless a spec says otherwise."""
EVALUATION_SHARE = 1 / 64
"""That of an evaluation on a GPU, as a share of the GPU's."""
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Have the C library keep what a training step frees for the next one, instead of giving it back to the system and
    faulting it in again page by page: up to a seventh of a step of a large pack. Does nothing where the C library is
    not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(MMAP_THRESHOLD, 32 * 2**20)
    # Ray runs a trial in a thread of its own, whose arena would be limited to small blocks.
    mallopt(ARENA_MAX, 1)

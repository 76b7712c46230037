"""What is asked of a data file before it is read: that it is a file, and that it is no larger than memory can hold."""

import os
import stat
from pathlib import Path

from hvae_spec.errors import DataError, as_machine_error

LARGEST_PUBLISHED = 2**29
"""Bytes of a published file, compressed or not. The largest (small NORB's training images) has 448 million."""
LARGEST_OWN = 2**33
"""Bytes of a user's own images, which are held in memory as a whole."""
LARGEST_IMAGE = 16_000_000
"""Pixels of an image."""
NOWHERE = "no such file or folder; expected a .npz or .npy file, or a folder of images"
"""What is wrong where a user's own images are not."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""What a path may lead to in place of a file. Reading a pipe or a device can wait, or go on, forever."""


def file_size(path: Path) -> int:
    """The bytes of a file, of which nothing is read yet.

    Raises:
        DataError: there is no such file, or it is no file.
        MachineError: the system does not let it be seen.

    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise as_machine_error(path, error) or DataError(f"{path}: no such file") from None
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise DataError(f"{path}: expected a file, but it is {kind}")
    return status.st_size


def published_size(path: Path) -> int:
    """The bytes of a file of a published data set. Raises DataError, also if it has too many; or MachineError."""
    size = file_size(path)
    if size > LARGEST_PUBLISHED:
        raise DataError(f"{path}: {size:,} bytes, more than any published file has; delete it to download it again")
    return size

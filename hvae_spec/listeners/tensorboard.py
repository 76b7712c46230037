"""The listener that writes for TensorBoard: one folder per member, with curves, histograms and images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_spec.errors import UserError
from hvae_spec.listeners.listener import Listener, MemberInfo
from hvae_spec.records.gallery_file import load_gallery
from hvae_spec.records.layout import Record
from hvae_spec.records.result import DONE

GROUPS = {
    "kl_": "kl/z_",
    "final_kl_": "final/kl_z_",
    "final_": "final/",
    "test_": "test/",
    "validation_": "validation/",
}
"""Beginnings of names, and what is written for them, so that curves of one kind stand together."""
OTHERS = {"beta": "schedule/beta", "learning_rate": "schedule/learning_rate", "active_units": "units/active"}
IMAGES = ("reconstructions", "prior_samples")
"""Arrays of the gallery that are shown; reconstructions below the images that they are of."""
PER_ROW = 10
"""Images in a row."""
MOST_IMAGES = 50
"""Images that are shown of each kind."""
COMPLETE = "complete"
"""A file in a member's folder that says that all of it is written."""


class TensorBoard(Listener):
    """Writes what TensorBoard shows, into one folder per member, as it comes: learning curves, test curve, β and the
    learning rate; a histogram of the units' KL, per layer, for every evaluation; and images at the end.

    Args:
        folder: where to; each member has a folder in it, called as its record's. What an earlier run of the same member
            has written there is replaced as soon as its curves are told again.

    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.writers: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether all of the member of this name is written."""
        return (self.folder / name / COMPLETE).exists()

    def start(self, member: MemberInfo) -> None:
        """Nothing is written before there is something to show."""

    def epoch(self, member: MemberInfo, epoch: int, values: Mapping[str, float]) -> None:
        """Write a point of every learning curve."""
        if epoch == 1:
            self._remove(member)
        self._write(member, epoch, values)

    def evaluation(
        self, member: MemberInfo, epoch: int, values: Mapping[str, float], unit_kl: Sequence[Sequence[float]]
    ) -> None:
        """Write a point of the test curve, or the final values, and a histogram of every layer's units."""
        self._write(member, epoch, values)
        is_final = any(name.startswith("final_") for name in values)
        for layer, kls in enumerate(unit_kl, start=1):
            finite = np.array([kl for kl in kls if math.isfinite(kl)])
            if len(finite):
                tag = f"{'final_' * is_final}unit_kl/z_{layer}"
                self._writer(member).add_histogram(tag, finite, epoch)

    def finish(self, member: MemberInfo, status: str, reason: str) -> None:
        """Write the images of a member that has finished, or why it has not, and close its file."""
        if status == "finished":
            self._write_images(member)
        else:
            self._writer(member).add_text("status", f"{status}: {reason}" if reason else status)
        self.writers.pop(member.name).close()
        if status in DONE:
            (self.folder / member.name / COMPLETE).touch()

    def _write(self, member: MemberInfo, epoch: int, values: Mapping[str, float]) -> None:
        writer = self._writer(member)
        for name, value in values.items():
            writer.add_scalar(_tag(name), value, epoch)
        writer.flush()

    def _write_images(self, member: MemberInfo) -> None:
        try:
            training, gallery = Record(member.folder).training, load_gallery(member.folder)
        except UserError as error:
            self._writer(member).add_text("images", str(error))
            return
        if training is None or training.data is None:
            return
        shape = training.data.shape
        for name in IMAGES:
            rows = [gallery["images"], gallery[name]] if name == "reconstructions" else [gallery[name]]
            picture = tiled([row[:MOST_IMAGES] for row in rows], shape)
            self._writer(member).add_image(name, picture, member.epochs, dataformats="HW")

    def _writer(self, member: MemberInfo) -> Any:
        """What writes a member's file."""
        if member.name not in self.writers:
            from tensorboardX import SummaryWriter  # imports torch, where it is installed

            self.writers[member.name] = SummaryWriter(str(self.folder / member.name))
        return self.writers[member.name]

    def _remove(self, member: MemberInfo) -> None:
        """Remove what an earlier run has written of a member: its curves are told from the first epoch."""
        folder = self.folder / member.name
        for path in (folder / COMPLETE, *folder.glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)


def tiled(kinds: Sequence[NDArray[Any]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Images [n, D] of each kind as one picture of gray values, in rows of `PER_ROW`: a row of the first kind, below it
    those of the others, and so on.

    Args:
        kinds: images with values in [0, 1], as many of each kind.
        shape: height and width of an image.

    """
    height, width = shape
    rows = []
    for start in range(0, len(kinds[0]), PER_ROW):
        for images in kinds:
            row = np.zeros((PER_ROW, height, width), dtype=np.float64)
            some = images[start : start + PER_ROW].reshape(-1, height, width)
            row[: len(some)] = some
            rows.append(np.concatenate(list(row), axis=1))
    return np.round(255 * np.clip(np.concatenate(rows), 0, 1)).astype(np.uint8)


def _tag(name: str) -> str:
    """`kl/z_1` for `kl_1`, `train/train_bound` for `train_bound`."""
    if name in OTHERS:
        return OTHERS[name]
    for beginning, group in GROUPS.items():
        if name.startswith(beginning):
            return group + name.removeprefix(beginning)
    return f"train/{name.removeprefix('train_')}"

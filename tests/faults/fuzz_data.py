"""Damaged data files through the loaders, each in a fork.

    python -m tests.faults.fuzz_data

A file survives if it is refused with its name, or read to the right images: the undamaged ones where its format has
checksums, else those that an independent reader finds in it. It may not crash, warn, print, or take 10 seconds of CPU
time or 1 GiB of memory.
"""

import argparse
import gzip
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hvae_spec.data.counts import image_counts
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import MachineError, UserError
from hvae_spec.spec.data import DataSpec
from tests.faults.outcome import Outcome, write

SECONDS, MEMORY = 10, 1 << 30
"""CPU time and memory that a file may take until it is read or refused."""
GUARD = 8 << 30
"""Address space of a child, so that a fault does not fill the machine."""
RNG = np.random.default_rng(0)
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A sound file, and what must be read once it is damaged."""

    name: str
    path: Path
    spec: DataSpec
    reads: Callable[[Path], NDArray[Any]] | None = None
    """An independent reader of the file, [N, ...]; None where a checksum finds every damage, so that what is read must
    be the undamaged images."""
    place: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] = lambda train, test: np.concatenate([train, test])
    """Which of the images of a data set come from the file, of its training and test images."""


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def cases(folder: Path) -> list[Case]:
    """A sound file of every format, with what else its data set needs."""
    return [*_idx(folder), *_norb(folder), *_matlab(folder), *_numpy(folder), *_images(folder)]


def _training(train: NDArray[Any], _: NDArray[Any]) -> NDArray[Any]:
    return train


def _joined(train: NDArray[Any], test: NDArray[Any]) -> NDArray[Any]:
    """All images in the order of the file, of which every fifth is a test image."""
    is_test = np.arange(len(train) + len(test)) % 5 == 0
    images = np.empty((len(is_test), *train.shape[1:]), train.dtype)
    images[is_test], images[~is_test] = test, train
    return images


def idx(array: Bytes) -> bytes:
    """An IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def norb(array: NDArray[Any], magic: int) -> bytes:
    """A small-NORB binary matrix."""
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack("<Ii", magic, array.ndim) + struct.pack(f"<{len(sizes)}i", *sizes) + array.tobytes()


def _home(folder: Path, name: str) -> Path:
    """A folder for HVAE_DATA_DIR."""
    home = folder / name
    home.mkdir(parents=True)
    return home


def _idx(folder: Path) -> Iterator[Case]:
    def read(path: Path) -> NDArray[Any]:
        content = path.read_bytes()
        count, height, width = struct.unpack(">3I", content[4:16])
        return np.frombuffer(content[16:], np.uint8).reshape(count, height * width)

    for suffix in ("", ".gz"):
        home = _home(folder, f"idx{suffix}") / "mnist"
        home.mkdir()
        images, tests = RNG.integers(0, 256, (30, 28, 28)), RNG.integers(0, 256, (9, 28, 28))
        for source, array in zip(SOURCES["mnist"], (images, np.arange(30) % 10, tests, np.arange(9)), strict=True):
            content = idx(array.astype(np.uint8))
            path = home / (source.name if suffix else source.name.removesuffix(".gz"))
            path.write_bytes(gzip.compress(content, 1) if suffix else content)
        path = home / f"train-images-idx3-ubyte{suffix}"
        yield Case(f"idx{suffix}", path, DataSpec(dataset="mnist"), None if suffix else read, _training)


def _norb(folder: Path) -> Iterator[Case]:
    def read(path: Path) -> NDArray[Any]:
        content = path.read_bytes()
        pairs = np.frombuffer(content[24:], np.uint8).reshape(struct.unpack("<4i", content[8:24]))
        small = [Image.fromarray(pair[0]).resize((32, 32), Image.Resampling.BICUBIC) for pair in pairs]
        return np.stack([np.asarray(image).reshape(-1) for image in small])

    for suffix in ("", ".gz"):
        home = _home(folder, f"norb{suffix}") / "norb"
        home.mkdir()
        for source in SOURCES["norb"]:
            count = 6 if "training" in source.name else 3
            if "-dat" in source.name:
                content = norb(RNG.integers(0, 256, (count, 2, 96, 96)).astype(np.uint8), 0x1E3D4C55)
            else:
                content = norb(np.arange(count, dtype="<i4") % 5, 0x1E3D4C54)
            name = source.name if suffix else source.name.removesuffix(".gz")
            (home / name).write_bytes(gzip.compress(content, 1) if suffix else content)
        path = home / (SOURCES["norb"][0].name if suffix else SOURCES["norb"][0].name.removesuffix(".gz"))
        yield Case(f"norb{suffix}", path, DataSpec(dataset="norb"), None if suffix else read, _training)


def _matlab(folder: Path) -> Iterator[Case]:
    def frey(path: Path) -> NDArray[Any]:
        return np.asarray(scipy.io.loadmat(path)["ff"].T)

    def characters(path: Path) -> NDArray[Any]:
        found = scipy.io.loadmat(path)["data"]
        images = found.reshape(28, 28, -1, order="F").transpose(2, 0, 1)
        return np.asarray(images.reshape(len(images), 784).astype(np.float32))

    for is_compressed in (False, True):
        name = "mat, compressed" if is_compressed else "mat"
        home = _home(folder, f"frey, {name}") / "freyfaces"
        home.mkdir()
        faces = RNG.integers(0, 256, (560, 12)).astype(np.uint8)
        scipy.io.savemat(home / "frey_rawface.mat", {"ff": faces}, do_compression=is_compressed)
        reads = None if is_compressed else frey
        yield Case(name, home / "frey_rawface.mat", DataSpec(dataset="frey"), reads, _joined)
    home = _home(folder, "omniglot") / "omniglot"
    home.mkdir()
    matrices = {
        **{"data": RNG.random((784, 12)), "target": np.eye(50)[:, :12]},
        **{"testdata": RNG.random((784, 5)), "testtarget": np.eye(50)[:, :5]},
    }
    scipy.io.savemat(home / "chardata.mat", matrices)
    yield Case("mat of floats", home / "chardata.mat", DataSpec(dataset="omniglot"), characters, _training)


def _own(path: Path) -> DataSpec:
    return DataSpec.model_validate({"dataset": "own", "own": {"name": "mine", "file": str(path), "range": [0, 255]}})


def _numpy(folder: Path) -> Iterator[Case]:
    images = RNG.integers(0, 256, (25, 5, 4)).astype(np.uint8)
    for suffix, save in ((".npz", np.savez), (", compressed.npz", np.savez_compressed)):
        path = _home(folder, f"numpy{suffix}") / "images.npz"
        save(path, train=images[:20], test=images[20:], train_labels=np.arange(20) % 3, test_labels=np.arange(5) % 3)
        yield Case(suffix.replace(".", "").removeprefix(", ") or "npz", path, _own(path))
    path = _home(folder, "numpy.npy") / "images.npy"
    np.save(path, images)

    def read(path: Path) -> NDArray[Any]:
        found = np.load(path)
        values = found.reshape(len(found), -1)
        return np.asarray(values.astype(np.uint8 if (values == np.floor(values)).all() else np.float32))

    yield Case("npy", path, _own(path), read, _joined)


def _images(folder: Path) -> Iterator[Case]:
    def read(path: Path) -> NDArray[Any]:
        with path.open("rb") as stream, Image.open(stream) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("L")).reshape(1, -1)

    options: dict[str, dict[str, Any]] = {
        **{"png": {}, "jpg": {"quality": 90}, "gif": {}, "bmp": {}, "tif": {}, "pgm": {}},
        **{"webp": {"lossless": True}, "tif, compressed": {"compression": "tiff_lzw"}},
    }
    for name, more in options.items():
        home = _home(folder, f"images, {name}")
        suffix = name.partition(",")[0]
        for number in range(6):
            image = Image.fromarray(RNG.integers(0, 256, (16, 12)).astype(np.uint8))
            (image.convert("RGB") if suffix == "webp" else image).save(home / f"{number}.{suffix}", **more)
        # The second file is the first training image.
        reads = None if suffix == "png" else read
        yield Case(name, home / f"1.{suffix}", _own(home), reads, lambda train, _: train[:1])


def damaged(sound: bytes, rng: random.Random) -> bytes:
    """A file cut, with other bits or bytes, mostly in its header, or with bytes too few or too many."""
    content = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 6))):
        size = len(content)
        at = rng.randrange(min(size, rng.choice((64, 600, size))))
        match rng.randrange(8):
            case 0:
                del content[rng.randrange(size) :]
            case 1 | 2:
                content[at] ^= 1 << rng.randrange(8)
            case 3 | 4:
                content[at] = rng.choice((0, 1, 14, 15, 127, 128, 255, rng.randrange(256)))
            case 5:
                content[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))
            case 6:
                del content[at : at + rng.randrange(1, 9)]
            case _:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
        if len(content) < 2:
            return bytes(content)
    return bytes(content)


def trial(case: Case, right: NDArray[Any], log: Path) -> str:
    """What becomes of a damaged file, in a fork: `read`, `refused`, or what is wrong."""
    child = os.fork()
    if child == 0:
        os._exit(_in_child(case, right, log))
    _, status = os.waitpid(child, 0)
    code, text = os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
    if code in (0, 1) and not text:
        return "refused" if code else "read"
    return f"exit {code}: {text[-300:]}"


def _in_child(case: Case, right: NDArray[Any], log: Path) -> int:
    """0, the right images were read; 1, the file was refused by its name; 2, neither."""
    resource.setrlimit(resource.RLIMIT_AS, (GUARD, GUARD))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    warnings.simplefilter("error")
    before = _peak()
    try:
        code = _judged(case, right)
    except BaseException as error:  # whatever it is, it is the outcome
        os.write(descriptor, f"{type(error).__name__}: {error}".encode())
        return 2
    if _peak() - before > MEMORY:
        os.write(descriptor, b"too much memory")
    return code


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _judged(case: Case, right: NDArray[Any]) -> int:
    try:
        image_counts(case.spec)
        dataset = load_dataset(case.spec)
    except UserError as error:
        if isinstance(error, MachineError) or str(case.path) not in str(error):
            raise
        return 1
    found = case.place(dataset.train, dataset.test)
    if case.reads is not None:
        # What that reader warns of or prints is not at stake.
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        right = case.reads(case.path)
    if not np.array_equal(found, right):
        raise ValueError(f"other images, {found.shape}, not {right.shape}")
    return 0


def fuzz(folder: Path, trials: int, seed: int) -> Outcome:
    """Damage files of every format in turn."""
    rng, counts, lost = random.Random(seed), Counter[str](), 0
    every = cases(folder)
    sound = {case.name: case.path.read_bytes() for case in every}
    right = {}
    for case in every:
        os.environ["HVAE_DATA_DIR"] = str(case.path.parents[1])
        dataset = load_dataset(case.spec)
        right[case.name] = case.place(dataset.train, dataset.test)
    for number in range(trials):
        case = every[number % len(every)]
        os.environ["HVAE_DATA_DIR"] = str(case.path.parents[1])
        case.path.write_bytes(damaged(sound[case.name], rng))
        outcome = trial(case, right[case.name], folder / "log")
        counts[f"{case.name}: {outcome.partition(':')[0]}"] += 1
        if outcome not in ("read", "refused"):
            lost += 1
            kept = folder / f"lost-{number}-{case.path.name}"
            shutil.copy(case.path, kept)
            say(f"lost: {case.name}, {kept}: {outcome}")
        case.path.write_bytes(sound[case.name])
    for name, count in sorted(counts.items()):
        say(f"{count:6,}  {name}")
    return Outcome(
        "a data file (IDX, NumPy, MATLAB, small NORB, PNG, JPEG, GIF, TIFF, BMP, WebP, PGM) cut, with other bits or "
        "bytes, or with bytes too few or too many",
        trials,
        trials - lost,
        lost,
        "refused with its name, or read to the right images, within 10 s of CPU time and 1 GiB; no crash, no warning",
        f"python -m tests.faults.fuzz_data --trials {trials} --seed {seed}",
    )


def main() -> int:
    """The command. Returns its exit code: 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5_000, help="damaged files (default: 5000)")
    parser.add_argument("--seed", type=int, default=0, help="which damage (default: 0)")
    parser.add_argument("--write", action="store_true", help="write docs/faults/data.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-"))
    outcome = fuzz(folder, options.trials, options.seed)
    say(f"{outcome.trials:,} trials: {outcome.survived:,} survived, {outcome.lost:,} lost")
    if options.write:
        say(str(write("data", [outcome])))
    if not outcome.lost:
        shutil.rmtree(folder)
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main())

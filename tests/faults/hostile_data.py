"""Hostile data files through the commands: they promise or unfold into far more than they hold, or are no files.

    python -m tests.faults.hostile_data

Each must be refused with exit code 2 and one message, in 10 seconds of CPU time and 1 GiB of memory.
"""

import argparse
import gzip
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from hvae_spec.data.registry import SOURCES
from tests.faults.fuzz_data import MEMORY, SECONDS, idx, norb, say
from tests.faults.outcome import Outcome, write


@dataclass(frozen=True)
class Hostile:
    """A file that must be refused, with the data section of a spec that leads to it."""

    name: str
    data: str
    fetched: str = ""
    """The published data set that it is of, which can be fetched too."""


def hostile(folder: Path) -> Iterator[Hostile]:
    """Files that promise or unfold into far more than they hold, and what is no file. Each is there until the next."""
    yield from _hostile_arrays(folder)
    yield from _hostile_images(folder)
    yield from _hostile_published(folder)


def _own_data(path: Path) -> str:
    return f"{{dataset: own, own: {{name: mine, file: '{path}', range: [0, 255]}}}}"


def npy(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The header of an array."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def _hostile_arrays(folder: Path) -> Iterator[Hostile]:
    path = folder / "images.npy"
    path.write_bytes(npy((40_000_000, 784)) + b"few")
    yield Hostile("a .npy that promises 30 GiB", _own_data(path))
    header = npy((40_000_000, 784))
    path.write_bytes(header)
    os.truncate(path, len(header) + 40_000_000 * 784)
    yield Hostile("a .npy of 30 GiB that are all zero (sparse)", _own_data(path))
    path.write_bytes(npy((10, 20_000_000)))
    os.truncate(path, len(npy((10, 20_000_000))) + 200_000_000)
    yield Hostile("a .npy of images of 20 million pixels", _own_data(path))
    path.unlink()
    os.mkfifo(path)
    yield Hostile("a pipe named .npy", _own_data(path))
    archive = folder / "images.npz"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("train.npy", "w") as member:
        member.write(npy((1_500_000, 1000)))
        for _ in range(150):
            member.write(bytes(10_000_000))
    yield Hostile("a .npz of 1.5 MB that unfolds into 1.5 GB", _own_data(archive))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as promise:
        promise.writestr("train.npy", npy((40_000_000, 784)) + b"few")
    yield Hostile("a .npz that promises 30 GiB", _own_data(archive))
    for device in ("/dev/zero", "/dev/full", "/dev/tty"):
        archive.unlink()
        archive.symlink_to(device)
        yield Hostile(f"a .npz linked to {device}", _own_data(archive))


def png(width: int, height: int) -> bytes:
    """A black PNG."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(width + 1)) for _ in range(height)) + compressor.flush()
    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _hostile_images(folder: Path) -> Iterator[Hostile]:
    home = folder / "pictures"
    home.mkdir()
    Image.new("L", (4, 4)).save(home / "b.png")
    image = home / "a.png"
    for side in (12_000, 30_000):
        image.write_bytes(png(side, side))
        yield Hostile(f"a PNG of {side:,} x {side:,} pixels", _own_data(home))
    image.unlink()
    for name, make in (("a pipe", os.mkfifo), ("a link to /dev/zero", lambda path: os.symlink("/dev/zero", path))):
        make(image)
        yield Hostile(f"{name} among images", _own_data(home))
        image.unlink()
    for suffix in ("bmp", "gif", "tif", "webp", "jpg"):
        large = home / f"a.{suffix}"
        Image.new("L", (5_000, 5_000)).save(large)
        yield Hostile(f"a .{suffix} of 25 million pixels", _own_data(home))
        large.unlink()
    for number in range(600):
        os.symlink(home / "large", home / f"{number}.png")
    (home / "large").write_bytes(png(4_000, 4_000))
    (home / "b.png").unlink()
    yield Hostile("600 images of 16 million pixels", _own_data(home))


def _hostile_published(folder: Path) -> Iterator[Hostile]:
    def of(dataset: str, name: str, content: bytes, size: int = 0) -> Path:
        path = folder / dataset / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        if size:
            os.truncate(path, size)
        return path

    for source in SOURCES["mnist"]:
        count = 60 if "train" in source.name else 10
        array = np.zeros((count, 28, 28) if "idx3" in source.name else (count,), np.uint8)
        of("mnist", source.name.removesuffix(".gz"), idx(array))
    mnist = "{dataset: mnist}"
    start = bytes([0, 0, 8, 3])
    path = of("mnist", "train-images-idx3-ubyte", start + struct.pack(">3I", 40_000_000, 28, 28))
    yield Hostile("an IDX file that promises 30 GiB", mnist, "mnist")
    of("mnist", "train-images-idx3-ubyte", start + struct.pack(">3I", 40_000_000, 28, 28), 30 << 30)
    yield Hostile("an IDX file of 30 GiB", mnist, "mnist")
    path.unlink()
    zipped = gzip.compress(bytes(10_000_000), 1)
    head = gzip.compress(start + struct.pack(">3I", 4_000_000, 28, 28))
    path = of("mnist", "train-images-idx3-ubyte.gz", head + zipped * 300)
    yield Hostile("an IDX file of 13 MB that unfolds into 3 GB", mnist, "mnist")
    path.unlink()
    os.mkfifo(path)
    yield Hostile("a pipe in place of an IDX file", mnist, "mnist")
    for source in SOURCES["norb"]:
        categories = norb(np.zeros(4, "<i4"), 0x1E3D4C54)
        images = norb(np.zeros((4, 2, 96, 96), np.uint8), 0x1E3D4C55)
        of("norb", source.name.removesuffix(".gz"), images if "-dat" in source.name else categories)
    huge = struct.pack("<Ii4i", 0x1E3D4C55, 4, 1_700_000, 2, 96, 96)
    of("norb", SOURCES["norb"][0].name.removesuffix(".gz"), huge)
    yield Hostile("a small-NORB matrix that promises 30 GiB", "{dataset: norb}", "norb")
    file = folder / "freyfaces" / "frey_rawface.mat"
    file.parent.mkdir()
    scipy.io.savemat(file, {"ff": np.zeros((560, 4), np.uint8)})
    content = promised = file.read_bytes()
    for count in (57_000_000, 3_000_000):
        promised = content.replace(struct.pack("<ii", 560, 4), struct.pack("<ii", 560, count))
        promised = promised.replace(struct.pack("<II", 2, 560 * 4), struct.pack("<II", 2, 560 * count % 2**32))
        file.write_bytes(promised)
        yield Hostile(f"a .mat that promises {560 * count:,} bytes", "{dataset: frey}", "frey")
    # The last of these, compressed, with all the bytes that it promises.
    compressor = zlib.compressobj(1)
    element = compressor.compress(promised[128 : -560 * 4])
    element += b"".join(compressor.compress(bytes(560_000)) for _ in range(3_000)) + compressor.flush()
    file.write_bytes(content[:128] + struct.pack("<II", 15, len(element)) + element)
    yield Hostile(f"a .mat of {len(element):,} bytes that unfolds into 1.7 GB", "{dataset: frey}", "frey")
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(1000))
    yield Hostile("a .mat of version 7.3", "{dataset: frey}", "frey")


SPEC = """\
name: hostile
data: {data}
model: {{layers: [{{units: 2, mlp: [4]}}]}}
training: {{epochs: 1, batch_size: 2}}
evaluation: {{iw_samples: 5}}
"""


def refuse(folder: Path) -> Outcome:
    """Hand every hostile file to the commands that may read it, which must refuse it in time and within memory."""
    trials = lost = 0
    environment = {**os.environ, "HVAE_DATA_DIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    spec = folder / "spec.yaml"
    for file in hostile(folder):
        spec.write_text(SPEC.format(data=file.data))
        run = ["-m", "tune.run", str(spec), "--serial", "--results", str(folder / "results")]
        commands = [run, [*run, "--plan"]]
        if file.fetched:
            commands.append(["-m", "hvae_spec.data", "fetch", file.fetched])
        for command in commands:
            fault = _refused([sys.executable, *command], environment, folder / "log")
            trials += 1
            lost += bool(fault)
            say(f"{f'lost {fault}' if fault else 'refused'}: {file.name}, {command[1]} ... {command[-1]}")
    return Outcome(
        "data files that promise or unfold into up to 30 GiB, images of up to 900 million pixels, pipes and devices, "
        "given to `tune.run`, with `--plan` and without, and to `hvae_spec.data fetch`",
        trials,
        trials - lost,
        lost,
        "exit code 2 and one message within 10 s of CPU time and 1 GiB of memory",
        "python -m tests.faults.hostile_data",
    )


def _refused(command: list[str], environment: dict[str, str], log: Path) -> str:
    """What is wrong with how a command refuses; empty if nothing is."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    text = log.read_text(errors="replace")
    sound = code == 2 and "Traceback" not in text and seconds < SECONDS and memory < MEMORY
    return "" if sound else f"(exit {code}, {seconds:.1f} s, {memory / 2**20:,.0f} MiB: {text[-300:]})"


def main() -> int:
    """The command. Returns its exit code: 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/faults/hostile_data.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hostile-data-"))
    outcome = refuse(folder)
    say(f"{outcome.trials:,} trials: {outcome.survived:,} survived, {outcome.lost:,} lost")
    if options.write:
        say(str(write("hostile_data", [outcome])))
    if not outcome.lost:
        shutil.rmtree(folder)
    return 1 if outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main())

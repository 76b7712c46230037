"""MNIST from its four IDX files (LeCun, Cortes & Burges), compressed or not."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_spec.data.raw import RawImages
from hvae_spec.data.sources import Source, locate
from hvae_spec.errors import UserError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SOURCES = {
    name: Source("mnist", f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in MIRRORS), sha256)
    for name, sha256 in {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }.items()
}
"""The files and the SHA-256 of their original downloads."""
CONTENT_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of the uncompressed files: what tells whether an image differs from the published one, however compressed."""


def read_idx(path: Path, dimensions: int) -> tuple[NDArray[np.uint8], str]:
    """The bytes of an IDX file of unsigned bytes (compressed if its name ends in .gz), and the SHA-256 of its content.

    Raises:
        UserError: the file is truncated, or is no such file.

    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or incomplete ({error}); delete it to download it again") from None
    size = 4 + 4 * dimensions
    if len(content) < size or content[:4] != bytes([0, 0, 8, dimensions]):
        expected = f"an IDX file of bytes with {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise UserError(f"{path}: not {expected} (it begins with {content[:4].hex() or 'nothing'})")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) - size != int(np.prod(shape)):
        told = " x ".join(map(str, shape))
        raise UserError(
            f"{path}: its header promises {told} bytes, but {len(content) - size:,} follow; it is incomplete"
        )
    return np.frombuffer(content, np.uint8, offset=size).reshape(shape), hashlib.sha256(content).hexdigest()


def mnist() -> RawImages:
    """60,000 + 10,000 images of 28x28 pixels with grey values 0 ... 255.

    Raises:
        UserError: a file is missing and cannot be downloaded, or is damaged.

    """
    arrays, canonical = {}, True
    for name, source in SOURCES.items():
        path = locate(source)
        arrays[name], digest = read_idx(path, 3 if "images" in name else 1)
        canonical &= digest == CONTENT_SHA256[name]
    train, test = arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]
    labels = [arrays["train-labels-idx1-ubyte"], arrays["t10k-labels-idx1-ubyte"]]
    for images, classes, name in ((train, labels[0], "train"), (test, labels[1], "t10k")):
        if len(images) != len(classes) or images.shape[1:] != (28, 28):
            raise UserError(f"MNIST: {name} has {len(classes)} labels for {len(images)} images of {images.shape[1:]}")
    flat = [images.reshape(len(images), 784) for images in (train, test)]
    return RawImages(flat[0], flat[1], labels[0].astype(np.int64), labels[1].astype(np.int64), 256, (28, 28), canonical)

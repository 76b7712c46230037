"""Small files in the formats of the original distributions."""

import gzip
import struct

import numpy as np
import scipy.io

NORB = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}


def write(path, content):
    """Some bytes, compressed if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def idx(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, suffix="", train=60, test=20):
    generator = np.random.default_rng(0)
    for name, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write(folder / "mnist" / f"{name}-images-idx3-ubyte{suffix}", idx(images))
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        write(folder / "mnist" / f"{name}-labels-idx1-ubyte{suffix}", idx(labels))


def norb(array, magic):
    """A small-NORB binary matrix: at least three sizes are written, whatever the number of dimensions."""
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack("<Ii", magic, array.ndim) + struct.pack(f"<{len(sizes)}i", *sizes) + array.tobytes()


def norb_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 96, 96), dtype=np.uint8)


def write_norb(folder, suffix="", train=10, test=5):
    """The six files. Returns the images."""
    images = {"train": norb_images(train, 1), "test": norb_images(test, 2)}
    for part, pairs in images.items():
        stem = folder / "norb" / NORB[part]
        write(stem.with_name(f"{stem.name}-dat.mat{suffix}"), norb(pairs, 0x1E3D4C55))
        write(stem.with_name(f"{stem.name}-cat.mat{suffix}"), norb(np.arange(len(pairs), dtype="<i4") % 5, 0x1E3D4C54))
        info = np.zeros((len(pairs), 4), "<i4")
        write(stem.with_name(f"{stem.name}-info.mat{suffix}"), norb(info, 0x1E3D4C54))
    return images


def write_mat(path, **matrices):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, matrices, do_compression=True)


def characters(train=12, test=5, seed=0):
    """The matrices of `chardata.mat` and the images [N, 28, 28] in it."""
    generator = np.random.default_rng(seed)
    matrices, images = {}, {}
    for prefix, count in (("", train), ("test", test)):
        pictures = generator.random((count, 28, 28))
        matrices[f"{prefix}data"] = np.stack([picture.flatten(order="F") for picture in pictures], axis=1)
        matrices[f"{prefix}target"] = np.eye(50)[:, np.arange(count) % 50]
        matrices[f"{prefix}targetchar"] = np.ones((1, count))
        images[prefix or "train"] = pictures
    return matrices, images


def amat(images):
    """Rows of zeros and ones as text."""
    return b"".join(b" ".join(b"%d" % pixel for pixel in image) + b"\n" for image in images)


def write_mnist_static(folder, train=7, valid=3, test=2):
    """The three files. Returns the images by part."""
    generator = np.random.default_rng(0)
    images = {}
    for part, count in (("train", train), ("valid", valid), ("test", test)):
        images[part] = generator.integers(0, 2, (count, 784), dtype=np.uint8)
        write(folder / "mnist_static" / f"binarized_mnist_{part}.amat", amat(images[part]))
    return images

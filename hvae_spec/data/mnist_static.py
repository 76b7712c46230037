"""MNIST in one fixed binarization (Larochelle & Murray, 2011): three `.amat` files of zeros and ones as text.

MNIST's 60,000 training images are 50,000 for training and 10,000 for validation there. Published numbers are of models
that were trained on the 50,000, or on all 60,000; here the validation images are no training images.
"""

import numpy as np

from hvae_spec.data.cache import locate
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.formats.amat import read_rows
from hvae_spec.data.images import RawImages
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError

SHAPE = (28, 28)
PIXELS = 784


def mnist_static() -> RawImages:
    """50,000 + 10,000 images of 28x28 zeros and ones, and 10,000 validation images. There are no classes: all labels
    are 0.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is damaged.

    """
    sources = SOURCES["mnist_static"]
    paths = [locate(source) for source in sources]
    train, validation, test = (read_rows(path, PIXELS) for path in paths)
    for path, images in zip(paths, (train, validation, test), strict=True):
        if not len(images):
            raise DataError(f"{path}: holds no images; delete it to download it again")
    canonical = all(is_canonical(path, source) for path, source in zip(paths, sources, strict=True))
    labels, test_labels = (np.zeros(len(images), dtype=np.int64) for images in (train, test))
    return RawImages(train, test, labels, test_labels, 2, SHAPE, canonical, validation=validation)

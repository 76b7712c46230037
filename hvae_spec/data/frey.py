"""Frey faces (Roweis & Frey): `frey_rawface.mat`, in which `ff` is 560 x 1965 bytes, a column for each image (28x20).

The frames of a video come without a split. Every fifth is a test image, the first one first. Neighboring frames look
alike, so a test image resembles training images, as it does under the random splits of the literature.
"""

import numpy as np

from hvae_spec.data.cache import locate
from hvae_spec.data.canonical import is_canonical
from hvae_spec.data.formats.matlab import arrays
from hvae_spec.data.images import RawImages, every_fifth
from hvae_spec.data.registry import SOURCES
from hvae_spec.errors import DataError


def frey() -> RawImages:
    """1,572 + 393 images of 28x20 pixels with gray values 0 ... 255. There are no classes: all labels are 0.

    Raises:
        DataError: the file is missing and cannot be downloaded, or is damaged.

    """
    (source,) = SOURCES["frey"]
    path = locate(source)
    canonical = is_canonical(path, source)
    faces = arrays(path, "ff")["ff"]
    if faces.shape[0] != 560 or faces.shape[1] < 2:
        raise DataError(f"{path}: 'ff' is {faces.shape[0]} x {faces.shape[1]}; expected 560 x N, one column per image")
    if faces.min() < 0 or faces.max() > 255 or (faces != np.floor(faces)).any():
        raise DataError(f"{path}: 'ff' holds other values than the whole numbers from 0 to 255")
    images = np.ascontiguousarray(faces.T, dtype=np.uint8)
    labels = np.zeros(len(images), dtype=np.int64)
    is_test = every_fifth(len(images))
    return RawImages(images[~is_test], images[is_test], labels[~is_test], labels[is_test], 256, (28, 20), canonical)

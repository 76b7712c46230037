"""scikit-learn's bundled 8x8 digits (UCI optical recognition of handwritten digits): real data without a download."""

import numpy as np

from hvae_spec.data.images import RawImages, every_fifth


def digits() -> RawImages:
    """1,797 images of 8x8 pixels with gray values 0 ... 16. Every fifth image is a test image."""
    from sklearn.datasets import load_digits  # takes a second to import, and only this data set needs it

    bunch = load_digits()
    images, labels = bunch.data.astype(np.uint8), bunch.target.astype(np.int64)
    is_test = every_fifth(len(images))
    return RawImages(images[~is_test], images[is_test], labels[~is_test], labels[is_test], 17, (8, 8), True)

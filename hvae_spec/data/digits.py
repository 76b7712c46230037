"""scikit-learn's bundled 8x8 digits (UCI optical recognition of handwritten digits): real data without a download."""

from importlib.metadata import distribution

import numpy as np

from hvae_spec.data.images import RawImages, every_fifth

FILE = "sklearn/datasets/data/digits.csv.gz"
"""What `sklearn.datasets.load_digits` reads, a row per image with its class at the end. It is read without
scikit-learn, which takes every process a second to import.
"""


def digits() -> RawImages:
    """1,797 images of 8x8 pixels with gray values 0 ... 16. Every fifth image is a test image."""
    table = np.loadtxt(str(distribution("scikit-learn").locate_file(FILE)), delimiter=",", dtype=np.int64)
    images, labels = table[:, :-1].astype(np.uint8), table[:, -1]
    is_test = every_fifth(len(images))
    return RawImages(images[~is_test], images[is_test], labels[~is_test], labels[is_test], 17, (8, 8), True)

"""Many images as one picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mosaic(images: NDArray[Any], shape: tuple[int, int], columns: int, gap: float = 0.5) -> NDArray[Any]:
    """Images [n, D] side by side, row by row, as one picture [height, width], values clipped to [0, 1].

    Args:
        images: at least one image [n, D].
        shape: height and width of each, D in all.
        columns: images per row; a last row that is not full ends in the gray of the gaps.
        gap: gray level of the lines of one pixel between images.

    Examples:
        >>> mosaic(np.zeros((5, 4)), (2, 2), columns=3).shape
        (5, 8)

    """
    height, width = shape
    rows = -(-len(images) // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), gap, dtype=np.float32)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + 1), (place % columns) * (width + 1)
        picture[top : top + height, left : left + width] = np.clip(image.reshape(height, width), 0, 1)
    return picture

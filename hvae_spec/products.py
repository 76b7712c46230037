"""How a GPU multiplies small matrices."""

import os


def in_one_kernel() -> None:
    """Have cuBLAS compute every product in one kernel. To be called before this process's first product on a GPU.

    With memory to work in, it splits the long sums of small products over the whole GPU and adds the parts in a second
    kernel. A pack alone gains nothing by that, and packs that share a GPU lose: they are limited by how many kernels it
    starts, and by how many of its multiprocessors each occupies.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":0:0")

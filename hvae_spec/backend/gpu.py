"""How a GPU multiplies small matrices."""

import os


def in_one_kernel() -> None:
    """Have cuBLAS compute every product in one kernel. To be called before this process's first product on a GPU.

    Given memory to work in, it splits the sums of most of a step's products over the GPU and adds the parts in a second
    kernel. That costs a sixth of a small pack's speed, and a quarter where fourteen share a GPU (5-layer ladders of one
    member, TF32): what limits both is how many kernels there are.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":0:0")

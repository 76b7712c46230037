"""The precision of matrix products where it is not the spec's choice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Products in float32 within this context, or within a function that this decorates: what a model is measured by
    does not depend on the precision that it was trained with.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""`torch.compile` as this project uses it: with a share of the cores, and without its advice on precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._inductor import config as inductor_config


@contextmanager
def fusing() -> Iterator[None]:
    """A context for calls that may compile."""
    # Other packs may be compiling beside this one, each with its threads.
    with inductor_config.patch(compile_threads=torch.get_num_threads()), warnings.catch_warnings():
        # The precision of products is the spec's choice.
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        # PyTorch's own way to trace a function with a gradient of its own.
        warnings.filterwarnings("ignore", ".*Function.* should not be instantiated", DeprecationWarning)
        yield

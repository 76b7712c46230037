"""`torch.compile` as this project uses it: with a share of the cores, and without its advice on precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class NotCompiledError(Exception):
    """`torch.compile` failed."""


@contextmanager
def fusing() -> Iterator[None]:
    """A context for calls that may compile. Raises NotCompiledError if that fails."""
    # What compiles takes as long to import as all the rest of PyTorch, and most processes compile nothing.
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import config

    # Other packs may be compiling beside this one, each with its threads.
    with config.patch(compile_threads=torch.get_num_threads()), warnings.catch_warnings():
        # The precision of products is the spec's choice.
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        # PyTorch's own way to trace a function with a gradient of its own.
        warnings.filterwarnings("ignore", ".*Function.* should not be instantiated", DeprecationWarning)
        try:
            yield
        except TorchDynamoException as error:
            raise NotCompiledError(str(error)) from error

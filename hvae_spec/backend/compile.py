"""`torch.compile` as this project uses it: with a share of the cores, and without its advice on precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class NotCompiledError(Exception):
    """`torch.compile` failed, or there was no memory for it."""


@contextmanager
def fusing() -> Iterator[None]:
    """A context for calls that may compile. Raises NotCompiledError if that fails, or torch.OutOfMemoryError."""
    try:
        # What compiles takes as long to import as all the rest of PyTorch, and most processes compile nothing.
        from torch._inductor import config

        # Other packs may be compiling beside this one, each with its threads.
        with config.patch(compile_threads=torch.get_num_threads()), warnings.catch_warnings():
            # The precision of products is the spec's choice.
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
            # PyTorch's own way to trace a function with a gradient of its own.
            warnings.filterwarnings("ignore", ".*Function.* should not be instantiated", DeprecationWarning)
            yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Any: its import fails where it can make no folder for its files, and half imported it fails in other ways. An
        # error of the call itself comes again when the call is made without.
        raise NotCompiledError(str(error)) from error

"""The value of `--listener`: a listener that a user names by file and class."""

import importlib.util
import os
import sys
from pathlib import Path

from hvae_spec.errors import UserError, harmless
from hvae_spec.listeners.listener import Listener
from hvae_spec.listeners.notifier import in_words


def listener_of(text: str) -> Listener:
    """An instance of a class in a Python file, `my_listeners.py:Mine`. The file is run, and the class is called without
    arguments.

    Raises:
        UserError: there is no such file or class, the file or the class raises, or it makes no listener.

    """
    said = f"--listener {harmless(text)}"
    file, _, name = text.rpartition(":")
    if not file or not name:
        raise UserError(f"{said}: expected a Python file and a class in it, my_listeners.py:Mine")
    path = Path(os.path.expanduser(file))
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"{said}: there is no Python file {harmless(file)}; expected my_listeners.py:Mine")
    spec = importlib.util.spec_from_file_location(f"hvae_listener_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{said}: {harmless(file)} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{said}: {harmless(file)} raised {in_words(error)}") from None
    if not callable(kind := getattr(module, name, None)):
        raise UserError(f"{said}: {harmless(file)} has no class {harmless(name)}")
    try:
        listener = kind()
    except (Exception, SystemExit) as error:
        raise UserError(f"{said}: {harmless(name)}() raised {in_words(error)}") from None
    if not isinstance(listener, Listener):
        remedy = f"write class {harmless(name)}(hvae_spec.Listener)"
        raise UserError(f"{said}: {harmless(name)} makes no hvae_spec.Listener; {remedy}")
    return listener

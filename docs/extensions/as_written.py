"""The API reference as the source has it: signatures (`ArrayLike`, and not what that stands for) and docstrings.

Classes whose constructor nobody wrote (dataclasses, pydantic models) have none: their fields are listed below them.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring


def as_written(function: Callable[..., Any]) -> tuple[str, str | None]:
    """Parameters in parentheses, without `self`, and what is returned."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"{function} is no function")
    parameters = [one for one in definition.args.args if one.arg == "self"]
    definition.args.args = definition.args.args[len(parameters) :]
    returned = None if definition.returns is None else ast.unparse(definition.returns).replace("'", "")
    return f"({ast.unparse(definition.args)})", returned


def _signature(_app: Sphinx, _what: str, _name: str, thing: Any, *_: Any) -> tuple[str, str | None] | None:
    if inspect.isfunction(thing):
        return as_written(thing)
    if not inspect.isclass(thing) or issubclass(thing, Exception):
        return None
    if issubclass(thing, BaseModel) or dataclasses.is_dataclass(thing) or thing.__init__ is object.__init__:
        return "", None
    return as_written(thing.__init__)[0], None


def _sections(app: Sphinx, what: str, name: str, *details: Any) -> None:
    """Google's sections (Args, Raises) as reStructuredText, in place. An attribute has none: napoleon would take what
    stands before a colon in its first line for its type.
    """
    thing, options, lines = details
    if what not in ("attribute", "property", "data"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, thing, options).lines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc."""
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _sections)
    return {"parallel_read_safe": True}

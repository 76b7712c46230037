"""What pydantic finds wrong with a spec, in words for its author: the place, what was expected, and a suggestion."""

import re
from typing import Any

from pydantic import ValidationError

from hvae_spec.errors import Problem, shorten
from hvae_spec.spec.base import Loc
from hvae_spec.spec.choice import OneOf
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.fields import choices_with_settings
from hvae_spec.spec.grid import Combination
from hvae_spec.spec.suggest import closest, describe, elsewhere, known_keys
from hvae_spec.spec.yaml import Node

_EXPECTED = {
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number of at most {le}",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
}
_FLAGS = {
    **dict.fromkeys(("no", "off", "n", "0", "false"), "false"),
    **dict.fromkeys(("yes", "on", "y", "1", "true"), "true"),
}


def problems_of(error: ValidationError, tree: Node, item: Combination | None = None) -> list[Problem]:
    """A validation error as problems with their places: in a file, or in the file's settings that make one cell."""
    every = error.errors()
    # A mistyped key is reported once, not a second time as the key that is missing.
    unknown = [details["loc"] for details in every if details["type"] == "extra_forbidden"]
    meant = {(*path[:-1], closest(str(path[-1]), known_keys(path[:-1]))) for path in unknown}
    told = [
        details
        for details in every
        if not _is_echo(details) and not (details["type"] == "missing" and details["loc"] in meant)
    ]
    return [_problem(details, tree, item) for details in told]


def origin(path: Loc, item: Combination | None) -> Loc:
    """Where in the file the value at a path of a resolved cell was written."""
    for target, source in reversed(item.overrides if item else ()):
        size = min(len(target), len(path))
        if target[:size] == path[:size]:
            return (*source, *path[len(target) :])
    return path


def show(value: Any) -> str:
    """A value as a message quotes it."""
    if value is None:
        return "an empty value"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"the text {shorten(repr(value), 80)}" if isinstance(value, str) else shorten(repr(value), 80)


def _is_echo(details: Any) -> bool:
    """Whether pydantic calls a list too short only because its entries are faulty, which is reported already."""
    return bool(details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"])


def _problem(details: Any, tree: Node, item: Combination | None) -> Problem:
    kind, value = details["type"], details.get("input")
    path: Loc = details["loc"]
    if len(path) > 1 and path[-1] == "[key]":
        place = tree.locate_key(origin(path[:-1], item))
        name, value = ".".join(map(str, path[:-2])), path[-2]
    else:
        place, name = tree.locate(origin(path, item)), ".".join(map(str, path)) or "the spec"
    name = shorten(name, 120)
    if kind == "extra_forbidden":
        return _unknown_key(path, tree, item)
    if kind == "missing":
        what = describe(path)
        return Problem("invalid", place, f"{name} is missing", f"{path[-1]}: {what}" if what else str(path[-1]))
    if kind == "no_choice":
        return Problem("invalid", place, f"{name} is empty", f"one of {', '.join(details['ctx']['options'])}")
    if kind in ("literal_error", "unknown_choice"):
        expected = details["ctx"]["expected"].replace(" or ", ", ")
        options = details["ctx"].get("options") or [option.strip("'\" ") for option in expected.split(", ")]
        near = closest(str(value), options)
        return Problem("invalid", place, f"{name}: {show(value)} is not a choice", f"one of {', '.join(options)}", near)
    limits = {key: _limit(limit) for key, limit in details.get("ctx", {}).items()}
    template = _EXPECTED.get(kind)
    expected = template.format(**limits) if template else details["msg"].removeprefix("Input should be ")
    return Problem("invalid", place, f"{name}: {show(value)} is not valid", expected, _hint(kind, name, value))


def _limit(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _unknown_key(path: Loc, tree: Node, item: Combination | None) -> Problem:
    known, key, parent = known_keys(path[:-1]), str(path[-1]), ".".join(map(str, path[:-1]))
    place = tree.locate_key(origin(path, item))
    chosen = _choice_at(path[:-1])
    if chosen is not None and key in known:
        return Problem("invalid", place, f"{parent}: {key} beside another one", f"one of {', '.join(known)}")
    if chosen is not None and key in chosen.registry:
        return Problem("invalid", place, f"{parent}: {key} takes no number", f"{path[-2]}: {key}", key)
    message = f"unknown key {shorten(repr(key), 80)}" + (f" in {shorten(parent, 120)}" if parent else "")
    near = closest(key, known)
    is_dotted = near and parent and place.source.startswith("--set")
    suggestion = (f"{parent}.{near}" if is_dotted else near) or elsewhere(key)
    if not parent and "." in key:
        # A dotted path, as variants and --set have them, where the file nests.
        message += ": dotted paths are for variants, axes and --set"
        suggestion = key.replace(".", ": {") + ": ..." + "}" * key.count(".")
    return Problem("invalid", place, message, f"one of {', '.join(known)}", suggestion)


def _choice_at(path: Loc) -> OneOf | None:
    """The choice with settings that stands at a path, if one does."""
    return next((chosen for place, chosen in choices_with_settings(Experiment).items() if place == path), None)


def _hint(kind: str, name: str, value: Any) -> str:
    """What a value of the wrong type was probably meant to be."""
    hint = ""
    if kind == "bool_type":
        hint = _FLAGS.get(str(value).lower(), "")
    elif kind in ("int_type", "float_type"):
        hint = _number_hint(kind, value)
    elif kind == "tuple_type" and name == "grid.seeds" and type(value) is int and 0 < value <= 10:
        hint = str(list(range(value)))
    elif kind in ("tuple_type", "list_type") and isinstance(value, int | float | str):
        hint = f"[{shorten(str(value), 80)}]"
    elif kind == "string_type" and isinstance(value, int | float):
        hint = repr(shorten(str(value).lower(), 80))
    elif kind in ("dict_type", "model_type") and isinstance(value, str) and ":" in value:
        hint = shorten(value.replace(":", ": ", 1), 80)
    return hint


def _number_hint(kind: str, value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, str):
        digits = value.replace("_", "").replace(",", "").strip()
        fraction = "" if kind == "int_type" else r"(\.[0-9]{0,19})?([eE][-+]?[0-9]{1,3})?"
        return digits if re.fullmatch("[-+]?[0-9]{1,19}" + fraction, digits) else ""
    return ""

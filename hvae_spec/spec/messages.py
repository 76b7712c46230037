"""What pydantic finds wrong with a spec, in words for its author: the place, what was expected, and a suggestion."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from hvae_spec.errors import Place, Problem, shorten
from hvae_spec.spec.base import BELOW_ONE, FILE_NAME, Loc
from hvae_spec.spec.characters import at_look_alike
from hvae_spec.spec.choice import one_of
from hvae_spec.spec.experiment import NO_BLANK_ENDS, Experiment, MemberSpec
from hvae_spec.spec.fields import OPEN, choice_at, names_of, sections
from hvae_spec.spec.grid import Combination
from hvae_spec.spec.replacement import Faulty, is_valid, replacement
from hvae_spec.spec.suggest import closest, describe, elsewhere, known_keys
from hvae_spec.spec.yaml import Node, inline

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
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
}
_PATTERNS = {
    FILE_NAME: "letters, digits, '.', '_' and '-', starting with a letter or digit",
    NO_BLANK_ENDS: "a name without blanks at its ends",
}
"""The patterns of text, in words."""
MOST_SHOWN = 6
"""Fields of a section that a message shows all of."""
MAX_TRIED = 30
"""Faulty values of one spec that replacements are tried for, each of which validates the spec again."""


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
    source = _Source(tree, item)
    return [_problem(details, source, tried=number < MAX_TRIED) for number, details in enumerate(told)]


@dataclass(frozen=True)
class _Source:
    """What was validated: a whole spec, or one cell of its grid."""

    tree: Node
    item: Combination | None

    def node(self, path: Loc) -> Node:
        """The value at a path, as it was written, or the nearest one above it."""
        return self.tree.nearest(origin(path, self.item))

    def lacking(self, section: Loc) -> Place:
        """Where a section is made that lacks a field: its own place, or that of the last dotted path into it."""
        for target, setting in reversed(self.item.overrides if self.item else ()):
            if section[: len(target)] == target:
                break
            if target[: len(section)] == section:
                # Of an axis over values the path is the axis itself, whatever the level.
                return self.tree.locate_key(setting[:3] if isinstance(setting[-1], int) else setting)
        return self.node(section).place

    def is_valid(self, text: str, path: Loc) -> bool:
        """Whether YAML would be valid in place of the value at a path."""
        return is_valid(text, path, *self._validated)

    def around(self, path: Loc, text: str) -> str:
        """A section around a value that stands in its place, if it has one field that the value is probably meant for;
        empty if it has not.
        """
        every = sections(Experiment).get(names_of(path), {})
        required = [key for key, default in every.items() if default is OPEN] or list(every)
        candidate = f"{{{required[0]}: {text}}}" if len(required) == 1 else ""
        return candidate if self.is_valid(candidate, path) else ""

    def replacement(self, faulty: Faulty) -> str:
        """What a faulty value was probably meant to be; empty if nothing is probable."""
        return replacement(faulty, *self._validated)

    @cached_property
    def dotted(self) -> frozenset[Place]:
        """The places of the dotted paths of profiles."""
        profiles = self.tree.child("profiles")
        settings = profiles.value.values() if profiles and isinstance(profiles.value, dict) else ()
        return frozenset(place for profile in settings for place in profile.keys.values())

    @cached_property
    def _validated(self) -> tuple[type[BaseModel], Any]:
        return (Experiment, self.tree.plain()) if self.item is None else (MemberSpec, self.item.tree)


def origin(path: Loc, item: Combination | None) -> Loc:
    """Where in the file the value at a path of a resolved cell was written."""
    for target, source in reversed(item.overrides if item else ()):
        size = min(len(target), len(path))
        if target[:size] == path[:size]:
            return (*source, *path[len(target) :])
    return path


def show(value: Any, written: str = "") -> str:
    """A value as a message quotes it: a number by its author's characters, where these are known."""
    if value is None:
        return "an empty value"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"the text {shorten(repr(value), 80)}"
    return shorten(written or (str(value).lower() if isinstance(value, bool) else repr(value)), 80)


def _is_echo(details: Any) -> bool:
    """Whether pydantic calls a list too short only because its entries are faulty, which is reported already."""
    return bool(details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"])


def _problem(details: Any, source: _Source, *, tried: bool) -> Problem:
    """One fault in words. Only where it is `tried` is a replacement of the value looked for."""
    kind, value, path = details["type"], details.get("input"), details["loc"]
    is_key = len(path) > 1 and path[-1] == "[key]"
    name = shorten(".".join(map(str, path[:-2] if is_key else path)) or "the spec", 120)
    if kind == "extra_forbidden":
        return _unknown_key(path, source)
    node = source.node(path)
    place, written = node.place, node.written
    if is_key:
        place, value, written = source.tree.locate_key(origin(path[:-1], source.item)), path[-2], ""
    if kind == "missing":
        what = describe(path)
        expected = f"{path[-1]}: {what}" if what else str(path[-1])
        return Problem("invalid", source.lacking(path[:-1]), f"{name} is missing", expected)
    if kind == "no_choice":
        return Problem("invalid", place, f"{name} is empty", details["ctx"]["expected"])
    text = value if isinstance(value, str) else written
    if kind in ("literal_error", "unknown_choice"):
        listed = details["ctx"]["expected"].replace(" or ", ", ").split(", ")
        options = details["ctx"].get("options", [option.strip("'\" ") for option in listed])
        # A list in brackets can be replaced where it stands; one of lines that begin with dashes cannot.
        is_block = isinstance(value, list | dict) and not place.text.startswith(("[", "{"), place.column - 1)
        near = "" if is_block else closest(text or str(value), options)
        suggestion = near if near and tried and source.is_valid(near, path) else ""
        chosen = choice_at(Experiment, path)
        if chosen is not None and not chosen.by_name and isinstance(value, str) and tried:
            meant = closest(text, chosen.sections) or text
            suggestion = source.replacement(Faulty("dict_type", path, meant, meant, alone=place.text.strip() == text))
        message = f"{name}: {show(value, written)} is not a choice"
        return at_look_alike(Problem("invalid", place, message, one_of(options), suggestion), text)
    limits = {key: _limit(limit) for key, limit in details.get("ctx", {}).items()}
    if kind == "less_than_equal" and details["ctx"]["le"] == BELOW_ONE and value >= 1:
        # The bound is of float32; what is meant is what the field says.
        kind, limits = "less_than", {"lt": "1"}
    template = _PATTERNS.get(limits.get("pattern", ""), _EXPECTED.get(kind))
    expected = template.format(**limits) if template else details["msg"].removeprefix("Input should be ")
    if kind in ("dict_type", "model_type"):
        expected = _mapping(path)
    faulty = Faulty(kind, path, value, text, alone=place.text.strip() == text)
    suggestion = "" if is_key or not tried else source.replacement(faulty)
    if kind in ("dict_type", "model_type") and not suggestion and isinstance(value, int | float) and tried:
        suggestion = source.around(path, text)
    if is_key and limits.get("pattern") == NO_BLANK_ENDS and value.strip() not in ("", *source.node(path[:-2]).keys):
        suggestion = inline(value.strip())
    message = f"{name}: {show(value, written)} is not valid"
    return at_look_alike(Problem("invalid", place, message, expected, suggestion), text)


def _mapping(path: Loc) -> str:
    """What is expected of a section: its fields where they are few, those that it cannot be without where they are
    many: `a mapping: {nats: ..., per: ...}`.
    """
    every = sections(Experiment).get(names_of(path), {})
    required = [key for key, default in every.items() if default is OPEN]
    shown = list(every) if len(every) <= MOST_SHOWN else required
    if not every or shown:
        return "a mapping" + (": {" + ", ".join(f"{key}: ..." for key in shown) + "}" if shown else "")
    return f"a mapping of some of {', '.join(every)}"


def _limit(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _unknown_key(path: Loc, source: _Source) -> Problem:
    known, key, parent = known_keys(path[:-1]), str(path[-1]), ".".join(map(str, path[:-1]))
    place = source.tree.locate_key(origin(path, source.item))
    chosen = choice_at(Experiment, path[:-1])
    if chosen is not None and key in known:
        return Problem("invalid", place, f"{parent}: {key} beside another one", f"one of {', '.join(known)}")
    if chosen is not None and key in chosen.registry:
        what = "settings" if isinstance(source.node(path).value, dict) else "number"
        return Problem("invalid", place, f"{parent}: {key} takes no {what}", f"{path[-2]}: {key}", key)
    message = f"unknown key {shorten(repr(key), 80)}" + (f" in {shorten(parent, 120)}" if parent else "")
    is_dotted = place in source.dotted or (place.source.startswith("--set ") and place.column == 1)
    beside = {} if is_dotted else source.node(path[:-1]).keys
    near = closest(key, [other for other in known if other not in beside or beside[other].source != place.source])
    suggestion = (f"{parent}.{near}" if near and parent and is_dotted else near) or elsewhere(key)
    expected = f"one of {', '.join(known)}" if chosen is None or not chosen.by_name else one_of(chosen.forms)
    if not parent and "." in key:
        # A dotted path, as variants and --set have them, where the file nests.
        message += ": dotted paths are for variants, axes and --set"
        expected, suggestion = _nested(key, source)
    return at_look_alike(Problem("invalid", place, message, expected, suggestion), key)


def _nested(key: str, source: _Source) -> tuple[str, str]:
    """What is expected in place of a dotted path at the root of a file, and what was probably meant."""
    section, *inner = key.split(".")
    value = source.tree.value[key]
    if inner[-1] not in known_keys((section, *inner[:-1])):
        return f"one of {', '.join(known_keys(()))}", ""
    within = ": {".join(inner) + f": {value.written or inline(value.plain())}" + "}" * (len(inner) - 1)
    if section in source.tree.keys:
        return f"`{within}` within {section}", ""
    return f"a section {section}", f"{section}: {{{within}}}"

"""What a faulty value was probably meant to be: YAML that is valid in its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from hvae_spec.errors import TEXT_WIDTH, SpecError, harmless
from hvae_spec.spec.base import Loc
from hvae_spec.spec.characters import plain
from hvae_spec.spec.yaml import inline, parse

MOST_IN_RANGE = 100
"""Numbers that a range, `0-4`, stands for at most."""
_FLAGS = {
    **dict.fromkeys(("no", "off", "n", "0", "false"), "false"),
    **dict.fromkeys(("yes", "on", "y", "1", "true"), "true"),
}


@dataclass(frozen=True)
class Faulty:
    """A value that is not valid where it stands."""

    kind: str
    """What pydantic calls the fault."""
    path: Loc
    value: Any
    written: str
    """The author's characters; of text, the text."""
    alone: bool
    """Whether it has a line for itself."""

    @property
    def candidates(self) -> Iterator[str]:
        """What it may have been meant to be, as YAML, the most probable first. They need not be valid."""
        text = plain(self.written).strip()
        if self.kind == "bool_type":
            yield _FLAGS.get(text.lower(), "")
        elif self.kind in ("int_type", "float_type"):
            yield from filter(_has_no_leading_zero, _numbers(self.kind, self.value, text))
        elif self.kind in ("tuple_type", "list_type") and isinstance(self.value, int | float | str):
            yield from filter(_has_no_leading_zero, _lists(self.path, self.value, text))
        elif self.kind == "string_type" and isinstance(self.value, int | float):
            yield inline(self.written)
        elif self.kind == "string_pattern_mismatch":
            yield re.sub(r"\s+", "-", text)
        elif self.kind in ("dict_type", "model_type") and isinstance(self.value, str):
            if ":" in text:
                pair = re.sub(r":\s*", ": ", text, count=1)
                yield pair if self.alone else f"{{{pair}}}"
            elif self.path[0] not in ("grid", "profiles"):
                # A choice that has settings.
                yield f"{{{text}: {{}}}}"


def _numbers(kind: str, value: Any, text: str) -> Iterator[str]:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        yield str(int(value))
    if not isinstance(value, str):
        return
    is_grouped = re.fullmatch(r"[-+]?[0-9]{1,3}(?:([,\s])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]*)?", text)
    is_decimal = kind == "float_type" and re.fullmatch(r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?", text)
    if is_grouped and is_decimal and not text.lstrip("-+").startswith("0"):
        return  # `1,500` may be either
    if is_decimal:
        yield text.replace(",", ".")
    elif is_grouped:
        yield re.sub(r"[,\s]", "", text)
    else:
        yield text.replace("_", "")


def _has_no_leading_zero(candidate: str) -> bool:
    """Whether no number in YAML begins with a zero that it does not need: it is read otherwise than it looks."""
    return re.search(r"(?<![\w.'\"])(?<![eE][-+])0[0-9]", candidate) is None


def _lists(path: Loc, value: Any, text: str) -> Iterator[str]:
    if path == ("grid", "seeds") and type(value) is int and 0 < value <= 10:
        yield str(list(range(value)))
    ends = re.fullmatch(r"([0-9]{1,9})\s*(?:-|:|\.\.+|to)\s*([0-9]{1,9})", text)
    if ends and 0 <= int(ends[2]) - int(ends[1]) < MOST_IN_RANGE:
        yield str(list(range(int(ends[1]), int(ends[2]) + 1)))
    if isinstance(value, str):
        yield "[" + ", ".join(re.split(r"[,;\s]+", text)) + "]"
        yield f"[{inline(value)}]"
    yield f"[{text}]"


def replacement(faulty: Faulty, root: type[BaseModel], tree: Any) -> str:
    """The first candidate that is valid in place of a faulty value; empty if none is.

    Args:
        faulty: the value.
        root: the type of the whole spec that the value is in.
        tree: that spec, as plain dictionaries and lists.

    """
    return next((text for text in faulty.candidates if is_valid(text, faulty.path, root, tree)), "")


def is_valid(text: str, path: Loc, root: type[BaseModel], tree: Any) -> bool:
    """Whether YAML would be valid in place of the value at a path of a spec, whatever else is wrong with the spec."""
    if not text or len(text) > TEXT_WIDTH or harmless(text) != text:
        return False
    try:
        # Behind a blank, as in its place: at the start of a line, `---` would begin a document.
        found, problems = parse(f" {text}", "")
        if problems:
            return False
        root.model_validate(_with(tree, path, found.plain()))
    except ValidationError as error:
        return not any(details["loc"][: len(path)] == path for details in error.errors())
    except (SpecError, LookupError, TypeError):
        return False
    return True


def _with(tree: Any, path: Loc, value: Any) -> Any:
    """A tree with another value at a path. Raises LookupError or TypeError if there is no such place."""
    if not path:
        return value
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _with(tree[path[0]], path[1:], value)
    return copy

"""The fields of a spec as its JSON Schema gives them: keys, descriptions, and the closest to a mistyped one."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from hvae_spec.registry import kept_until_a_choice_joins
from hvae_spec.spec.base import Loc
from hvae_spec.spec.experiment import Experiment
from hvae_spec.spec.grid import SECTIONS, UnknownPathError


@kept_until_a_choice_joins
def _schema() -> dict[str, Any]:
    return Experiment.model_json_schema()


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    """Properties of a JSON Schema node, seen through references and alternatives."""
    if "$ref" in node:
        return _properties(_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    found = dict(node.get("properties", {}))
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        found.update(_properties(option))
    return found


def _items(node: dict[str, Any]) -> dict[str, Any]:
    options = [node, *node.get("anyOf", ())]
    return next((option["items"] for option in options if isinstance(option.get("items"), dict)), {})


def _node_at(path: Loc) -> dict[str, Any]:
    node = _schema()
    for key in path:
        node = _items(node) if isinstance(key, int) else _properties(node).get(key, _values(node))
    return node


def _values(node: dict[str, Any]) -> dict[str, Any]:
    """What a JSON Schema node says of the values of keys that a user chooses."""
    options = [_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node, *node.get("anyOf", ())]
    found = (option.get("additionalProperties") for option in options)
    return next((values for values in found if isinstance(values, dict)), {})


def known_keys(path: Loc) -> list[str]:
    """The keys that the section at a path may have."""
    return list(_properties(_node_at(path)))


def describe(path: Loc) -> str:
    """What the field at a path is, in the first sentence of its description."""
    text = " ".join(str(_node_at(path).get("description", "")).split())
    return re.split(r"[.:] |\.$", text)[0]


@kept_until_a_choice_joins
def _all_paths() -> dict[str, list[str]]:
    """Every field's dotted path outside lists, by its last word."""
    found: dict[str, list[str]] = {}

    def visit(node: dict[str, Any], path: str) -> None:
        for key, child in _properties(node).items():
            dotted = f"{path}.{key}" if path else key
            found.setdefault(key, []).append(dotted)
            # Its fields are those of other sections again, which is where they are looked for.
            if dotted != "training.first_phase":
                visit(child, dotted)

    visit(_schema(), "")
    return found


def elsewhere(key: str) -> str:
    """Where a key that is unknown in its section belongs: its full path, or paths."""
    return " or ".join(path for path in _all_paths().get(key, ()) if "." in path)


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, if any is near."""
    lowered = {option.lower(): option for option in known}
    close = difflib.get_close_matches(word[:80].lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else ""


def closest_paths(error: UnknownPathError) -> list[str]:
    """The dotted paths that a mistaken one was probably meant to be, if any is near. Further words of it may be
    mistaken too.
    """
    parts = error.path.split(".")
    if error.position == len(parts) or error.known[:1] == ["0"]:
        return []
    last, near = parts[-1], closest(parts[error.position], error.known)
    if near and len(parts) > 1:
        return [".".join([*parts[: error.position], near, *parts[error.position + 1 :]])]
    every = [path for paths in _all_paths().values() for path in paths if "." in path]
    every = [path for path in every if path.partition(".")[0] in SECTIONS]
    places = [path for path in every if path.rsplit(".", 1)[-1] == last]
    near = closest(error.path, every)
    is_near = error.path.startswith(f"{near}.") or bool(closest(last, [near.rpartition(".")[2]]))
    return places or ([near] if is_near else [])
